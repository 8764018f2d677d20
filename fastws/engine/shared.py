"""What the connections of one worker share: its reactor and parser, the site, the durations, the books."""

from __future__ import annotations

import collections
import functools
import logging
import time
from collections.abc import Callable
from typing import Generic, TypeVar

from ..backend import Backend
from ..config.settings import Config
from ..http.forwarded import (
    Proxies,
    Sender,
    new_request_id,
    request_id_of,
    sender_at,
    sender_of,
    without_forged,
)
from ..http.messages import Fields, Limits, Request
from ..http.negotiation import codings_number, preferred_codings
from ..http.target import parse_target
from ..http.urlpath import glob_pattern
from ..language.named_tuple import NamedTuple
from ..processes.takers import Takers
from ..record.clock import Clock
from ..record.ledger import Ledger
from ..record.logfile import ErrorLog, LogFile
from ..seam import ReplaySettings
from ..site.site import Site
from ..transport.plain import PlainTransport
from ..work.fair_queue import FairQueues
from .answer import endings
from .states import TURN_S
from .timers import Timed, Timers


class Equipment(NamedTuple):
    """What all workers of one server have in common for as long as it runs."""

    backend: Backend
    access_log: LogFile
    error_log: ErrorLog
    queues: FairQueues
    applications: Takers
    worker_count: int

    @property
    def logger(self) -> logging.Logger:
        """What writes to the error log at once."""
        return self.error_log.logger


C = TypeVar("C", bound=Timed)


class Shared(Generic[C]):
    """What the connections (``C``) of one worker share. Only the worker's thread touches it, but for ``resume``.

    Raises ``OSError`` if the reactor cannot be made.
    """

    forget: Callable[[C], None]
    """Remove a connection that is being closed from every table; set by the admission, which has these tables."""

    resume: Callable[[C], None]
    """Make a paused connection go on, soon; for any thread. Set by the worker, whose thread does it."""

    def __init__(self, equipment: Equipment, name: str) -> None:
        """``name`` is the worker's, for the error log. To be configured before use."""
        self._share = equipment.worker_count
        self.logger = equipment.logger
        self.queues = equipment.queues
        self.applications = equipment.applications
        self.parser = equipment.backend.parser
        self.reactor = equipment.backend.reactor()
        self.limits = Limits()
        self.timers: Timers[C] = Timers()
        self.ledger = Ledger(name, self.parser, self.reactor, equipment.error_log)
        self.turns: collections.deque[C] = collections.deque()
        """Those that have more to do than their turn allowed, in the order in which they go on."""
        self._turn_end = 0.0
        self.overslept_s = 0.0
        """How much later than meant the timers are looked at now; 0 unless the worker was kept from it, by a pause
        of the process or a slow disk. Nothing is to be judged by time that the clients did not have."""
        self.is_draining = False
        self.grace_s = 0.0
        """How long an idle connection has for a last request, once ``is_draining``."""

    def begin_turn(self) -> None:
        """Let ``TURN_S`` begin: the sockets have just been looked at."""
        self._turn_end = time.monotonic() + TURN_S

    def is_turn_over(self) -> bool:
        """Tell whether it is time to look at the sockets again."""
        return time.monotonic() >= self._turn_end

    def max_body_bytes(self, request: Request) -> int:
        """Return how large the body of ``request`` may be. Raises ``HTTPError`` 400."""
        if self._body_limits:
            path = parse_target(request.target).path
            for pattern, most in self._body_limits:
                if pattern.fullmatch(path):
                    return most
        return self._max_body_bytes

    def sender(self, request: Request, peer: str) -> Sender:
        """Return whom a request is from that came on a connection from ``peer``. Raises ``HTTPError`` 400."""
        if not self.changes_fields:
            return sender_at(peer)
        is_trusted = self.proxies.has(peer)
        found = Sender(peer)
        if is_trusted:
            found = sender_of(request.fields, peer, self.proxies, self._client_header)
        if not self.names_requests:
            return found
        return found._replace(request_id=request_id_of(request.fields, is_trusted=is_trusted))

    def sender_of_nothing(self, peer: str) -> Sender:
        """Return whom that is from which could not be read as a request."""
        return Sender(peer, "", new_request_id() if self.names_requests else "")

    def moment_lines(self, sender: Sender, *, is_secured: bool) -> bytes:
        """Return the field lines that an answer to ``sender`` has besides the response's."""
        lines = [f"X-Request-ID: {sender.request_id}\r\n".encode()] if self.answers_ids else []
        if is_secured:
            lines.append(self._secure_line)
        return b"".join((*lines, self.clock.date_line))

    def for_application(self, request: Request, peer: str, sender: Sender) -> Request:
        """Return a request from ``peer`` as an application gets it: without fields that are not believed, where
        anybody's are, and with its name."""
        fields = request.fields
        if self.proxies:
            fields = without_forged(fields, self._client_header if self.proxies.has(peer) else None)
        if sender.request_id:
            fields = fields | {"x-request-id": sender.request_id}
        return request._replace(fields=fields)

    def configure(self, config: Config, site: Site) -> None:
        """Use this configuration from the next request on."""
        self.site = site
        self.proxies, self._client_header = Proxies(config.trusted_proxies), config.client_header
        self.changes_fields = bool(self.proxies) or config.request_id != "off"
        """Whether ``for_application`` does anything."""
        self.names_requests, self.answers_ids = config.request_id != "off", config.request_id == "answer"
        log_format = "off" if config.access_log == "off" else config.access_log_format
        self.clock = Clock(config.access_log_format)
        self.ledger.configure(log_format, self.clock)
        seconds = config.strict_transport_security_s
        self.secure_fields: Fields = (
            () if seconds is None else (("Strict-Transport-Security", f"max-age={seconds}"),)
        )
        """Fields of every answer over TLS, and of no other: RFC 6797 section 7.2."""
        self._secure_line = b"".join([f"{name}: {value}\r\n".encode() for name, value in self.secure_fields])
        keep_alive_line = b""
        if config.keepalive_header and config.keepalive_time_s >= 1:
            keep_alive_line = b"Keep-Alive: timeout=%d\r\n" % config.keepalive_time_s
        self.has_moment_lines = bool(self.secure_fields) or self.answers_ids
        self.endings = endings(keep_alive_line)
        settings = ReplaySettings(
            limits=self.limits,
            methods=config.request_methods,
            versions=config.http_types,
            cache_bytes=config.cache_size_bytes // self._share,
            log_format=log_format,
            default_codings=codings_number(preferred_codings(None)),
            by_sendfile=config.sendfile,
            secure_line=self._secure_line,
            proxies=config.trusted_proxies,
            client_header=config.client_header,
            request_id=config.request_id,
            keep_alive_line=keep_alive_line,
        )
        self.reactor.configure(settings, functools.partial(site.fill, self.parser))
        self.keepalive_time_s = config.keepalive_time_s
        self.request_timeout_s = config.request_timeout_s
        self.application_timeout_s = config.application_timeout_s
        limits = config.max_body_bytes
        self._body_limits = [(glob_pattern(glob), most) for glob, most in limits.items() if glob != "*"]
        self._max_body_bytes = limits["*"]
        self.plain = functools.partial(
            PlainTransport, by_sendfile=config.sendfile, send_small=self.reactor.send_small
        )
        """Return the transport of a connection that has none, by its descriptor and its client's address."""
        self.min_rate_bytes_s = config.min_rate_bytes_s
        self.stall_time_s = config.stall_time_s
