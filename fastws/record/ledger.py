"""What a worker notes of an answer that Python gave, when it is over: count, access line, reason of an error."""

from __future__ import annotations

import logging
from typing import Protocol

from ..backend import Parser, Reactor
from ..http.forwarded import Sender
from ..http.messages import Request, Response
from ..seam import AccessLine, TLSCounters
from .clock import Clock
from .logfile import ErrorLog
from .tally import Tally, WorkerStatus

NO_TLS = TLSCounters()

_new_tuple = tuple.__new__
_NO_FIELDS: dict[str, str] = {}
_NO_REST = ("", "", "", "", "")  # of an access line


class Client(Protocol):
    """A connection, as its access lines have it."""

    @property
    def secured(self) -> tuple[str, str] | None:
        """The version of TLS and the suite; None without TLS."""


class Ledger:
    """Notes the answers that Python gave. Written by one thread; others may ask for ``status``."""

    def __init__(self, name: str, parser: Parser, reactor: Reactor, error_log: ErrorLog) -> None:
        self._name = name
        self._parser = parser
        self._reactor = reactor
        self._error_log = error_log
        self._tally = Tally()
        self._clock: Clock
        self._log_format = "off"

    def configure(self, log_format: str, clock: Clock) -> None:
        """Write access lines as ``log_format`` of ``ReplaySettings``, dated by ``clock``."""
        self._log_format = log_format
        self._clock = clock

    def record(
        self,
        client: Client,
        sender: Sender,
        request: Request | None,
        response: Response,
        body_sent: int,
        duration_s: float,
    ) -> None:
        """Count an answer to ``client`` that is over; write its access line, and the reason of an error.

        ``sender`` is whom the request is from, which may have come through a proxy.
        ``request`` is None where none could be read.
        """
        self._tally.add(response.status, body_sent, duration_s)
        if request is None:
            line, fields = response.received, _NO_FIELDS
        else:
            line, fields = f"{request.method} {request.target} {request.version}", request.fields
        if self._log_format != "off":
            rest = _NO_REST
            if self._log_format == "json":
                secured = client.secured or ("", "")
                rest = (
                    *secured,
                    sender.request_id,
                    fields.get("traceparent", ""),
                    fields.get("tracestate", ""),
                )
            elif sender.request_id:
                rest = ("", "", sender.request_id, "", "")
            # As a tuple: to have its class called would cost as much as all the rest of it.
            access_line = (
                sender.peer,
                response.user,
                self._clock.log_time,
                line,
                response.status,
                body_sent,
                fields.get("referer", ""),
                fields.get("user-agent", ""),
                fields.get("host", ""),
                int(duration_s * 1e6) if duration_s > 0 else 0,
                *rest,
            )
            self._reactor.log(
                self._parser.format_access_line(self._log_format, _new_tuple(AccessLine, access_line))
            )
        if response.detail:
            self.note(sender.peer, response.status, response.detail, line, sender.request_id)

    def note(self, peer: str, status: int, detail: str, line: str, request_id: str) -> None:
        """Write the reason of an error to the error log.

        ``line`` is the request line, '' where none was read; ``request_id`` is '' where requests have no name.
        """
        level = logging.ERROR if status >= 500 and status != 501 else logging.INFO
        text = f'{peer}: {status} {detail} "{line}"'
        if request_id:
            text = f"{text} {request_id}"
        self._error_log.note(level, self._name, text)

    def count_miss(self) -> None:
        """Count as a miss a response that Python decided and the reactor sent and counted."""
        self._tally.replayed_misses += 1

    def status(self, connections: int, tls: TLSCounters = NO_TLS) -> WorkerStatus:
        """Return the counts with those of the replayed answers and of TLS, approximately current."""
        return self._tally.status(self._reactor.counters(), connections)._replace(tls=tls)
