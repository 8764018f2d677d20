"""One thread of the pool: accept, wait, advance, expire. It owns its connections for life."""

from __future__ import annotations

import collections
import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from .backend import Backend
from .clock import Clock
from .config import Config
from .connection import Connection
from .errors import HTTPError
from .events import ACCEPT, DONE, PARTIAL, READ, RESET, WRITE, Accepted
from .messages import Limits, Publication, Request, Response
from .negotiation import codings_number, preferred_codings
from .states import State
from .tally import Tally, WorkerStatus
from .timers import Timers

if TYPE_CHECKING:
    from .server import Server
    from .site import Site

ACCEPT_BATCH = 64
"""Connections accepted in one turn, so that a flood of them does not starve those that are open."""

ACCEPT_SAY_S = 10.0
"""How often it is said that accepting rests."""

ACCEPT_PAUSE_S = 0.1
"""How long accepting rests when the process is out of descriptors."""

FLUSH_S = 0.9
"""How often the access log is written out; at least every second is promised."""

_HANDLERS: dict[int, Callable[[Connection, Any], None]] = {
    READ: Connection.on_read,
    WRITE: Connection.on_write,
    RESET: Connection.on_reset,
    DONE: Connection.on_done,
    PARTIAL: Connection.on_partial,
}


class Worker:
    """A thread with its own reactor. Other threads use ``hand_over``, ``load``, ``tell`` and ``join``."""

    def __init__(self, server: Server, index: int, backend: Backend, site: Site) -> None:
        config = server.config
        self._server = server
        self.logger: logging.Logger = server.logger
        self.parser = backend.parser
        self.limits = Limits()
        self.site = site
        self.timers: Timers[Connection] = Timers()
        self.reactor = backend.reactor()
        self._tally = Tally()
        self.is_draining = False
        self._has_peers = server.worker_count > 1
        self._connections: set[Connection] = set()
        self._configure(config)
        self._arrivals: collections.deque[Accepted] = collections.deque()
        self._tasks: collections.deque[Callable[[Worker], None]] = collections.deque()
        self._listeners: tuple[socket.socket, ...] = ()
        self._resume_accept_at: float | None = None
        self._say_again_at = 0.0
        self._flush_at = time.monotonic() + FLUSH_S
        self._is_stopping = self._has_ended = False
        self.grace_s = 0.0
        self._may_end = False
        self._thread = threading.Thread(target=self._run, name=f"worker-{index}", daemon=True)

    def _configure(self, config: Config) -> None:
        self._log_format = config.access_log_format
        self.clock = Clock(config.access_log_format)
        self.reactor.configure(
            limits=self.limits,
            methods=config.request_methods,
            versions=config.http_types,
            cache_bytes=config.cache_size_bytes // self._server.worker_count,
            log_format="off" if config.access_log == "off" else config.access_log_format,
            default_codings=codings_number(preferred_codings(None)),
        )
        self.keepalive_time_s = config.keepalive_time_s
        self.request_timeout_s = config.request_timeout_s
        self.max_body_bytes = config.max_body_bytes
        self.min_rate_bytes_s = config.min_rate_bytes_s
        self._max_connections = config.max_connections
        # Counted only where there is a limit: it costs every connection something.
        self._max_per_address = config.max_connections_per_address
        counted = self._connections if self._max_per_address else ()
        self._count_by_peer = collections.Counter(connection.peer for connection in counted)

    # For other threads

    def start(self, listeners: Sequence[socket.socket]) -> None:
        """Begin to serve what ``listeners`` accept."""
        self._listeners = tuple(listeners)
        for listener in self._listeners:
            self.reactor.add_listener(listener.fileno(), listener)
        self._thread.start()

    @property
    def load(self) -> int:
        """How many connections this worker has or is about to have."""
        return len(self._connections) + len(self._arrivals)

    def connections_from(self, peer: str) -> int:
        """Return how many of this worker's connections have the address ``peer``; 0 if there is no limit."""
        return self._count_by_peer[peer]

    def status(self) -> WorkerStatus:
        """Return what this worker has counted, as of about now."""
        return self._tally.status(self.reactor.counters(), self.load)

    def hand_over(self, accepted: Accepted) -> None:
        """Give this worker a connection that another one accepted."""
        self._arrivals.append(accepted)
        if self._has_ended:  # since it was chosen
            self._close_arrivals()
        else:
            self.reactor.wake()

    def tell(self, task: Callable[[Worker], None]) -> None:
        """Have ``task`` done by this worker's thread, soon."""
        self._tasks.append(task)
        self.reactor.wake()

    def join(self, timeout_s: float | None = None) -> bool:
        """Wait for the thread to end, and tell whether it has."""
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    # The loop

    def _run(self) -> None:
        try:
            self._loop()
        except Exception:
            self.logger.exception(
                "this worker failed; its connections are closed and another takes its place"
            )
            try:
                self._end()
            finally:
                self._server.replace(self)
        else:
            self._end()

    def _loop(self) -> None:
        reactor = self.reactor
        while not self._is_stopping:
            deadline = self._next_deadline()
            for owner, kind, data in reactor.wait(deadline):
                if kind == ACCEPT:
                    self._accept(owner)
                else:
                    self._handle(owner, kind, data)
            while self._tasks:
                self._tasks.popleft()(self)
            while self._arrivals:
                self._adopt(self._arrivals.popleft(), time.monotonic(), False)
            now = time.monotonic()
            if now >= deadline or reactor.log_is_full:
                self._keep_time(now)
            if self.is_draining and self._may_end and not self.load:
                return

    def _handle(self, connection: Connection, kind: int, data: Any) -> None:
        if connection.state is State.CLOSED:
            return  # by an event before this one in the same turn
        self.clock.tick()
        try:
            _HANDLERS[kind](connection, data)
        except Exception:
            self.logger.exception("unexpected exception; the connection to %s is closed", connection.peer)
            connection.close()

    def _next_deadline(self) -> float:
        deadline = min(self._flush_at, self.timers.next_deadline())
        return deadline if self._resume_accept_at is None else min(deadline, self._resume_accept_at)

    def _keep_time(self, now: float) -> None:
        self.clock.tick()
        for connection in self.timers.pop_due(now):
            connection.on_timeout(now)
        if self._resume_accept_at is not None and now >= self._resume_accept_at:
            self._resume_accept()
        if now >= self._flush_at or self.reactor.log_is_full:
            self._server.access_log.write(self.reactor.take_log())
            self._flush_at = now + FLUSH_S

    # Connections

    def _accept(self, listener: socket.socket) -> None:
        has_room = self._has_room()
        try:
            accepted = self.reactor.accept(listener, ACCEPT_BATCH, answer=has_room)
        except OSError as error:
            self._pause_accept(error)
            return
        now = time.monotonic()
        for each in accepted:
            worker = self._server.least_loaded(self) if self._has_peers else self
            if worker is self:
                self._adopt(each, now, has_room)
            else:
                worker.hand_over(each)

    def _has_room(self) -> bool:
        """Tell whether all that the workers may accept in one turn is surely let in."""
        if self._max_per_address:
            return False
        count = self._server.connection_count() if self._has_peers else len(self._connections)
        return count + ACCEPT_BATCH * self._server.worker_count <= self._max_connections

    def _adopt(self, accepted: Accepted, now: float, has_room: bool) -> None:
        fd, peer, came = accepted
        connection = Connection(self, fd, peer, now)
        self._connections.add(connection)
        try:
            self.reactor.add(fd, connection, peer)
        except OSError as error:
            self.logger.error("a connection from %s cannot be watched: %s", peer, error)
            self._connections.discard(connection)
            _drop(accepted)
            return
        if self._max_per_address:
            self._count_by_peer[peer] += 1
        if self.is_draining:
            connection.drain(self.grace_s)
        crowded = "" if has_room or came is not None else self._crowded(peer)
        if crowded:
            self.clock.tick()
            connection.refuse(HTTPError(503, f"{crowded} has too many connections open.", close=True))
            return
        self.timers.schedule(connection, now + self.keepalive_time_s)
        if came is not None and came != (READ, b""):
            self._handle(connection, *came)

    def _crowded(self, peer: str) -> str:
        """Return who has more connections than the configuration allows, the new one included, or ''.

        Each worker counts its own before it looks at all, so that no two workers let in one too many.
        """
        count = self._server.connection_count() if self._has_peers else self.load
        if count > self._max_connections:
            return "The server"
        most = self._max_per_address
        # A Unix-domain socket is a proxy's; its clients have no address here.
        if most and peer != "unix:" and self._server.connections_from(peer) > most:
            return "Your address"
        return ""

    def _pause_accept(self, error: OSError) -> None:
        """Rest for a moment: a listener stays readable, so that waiting for it would spin."""
        now = time.monotonic()
        if now >= self._say_again_at:
            self._say_again_at = now + ACCEPT_SAY_S
            self.logger.error("accepting rests: %s", error.strerror)
        if self._resume_accept_at is None:
            for listener in self._listeners:
                self.reactor.remove_listener(listener.fileno())
        self._resume_accept_at = now + ACCEPT_PAUSE_S

    def _resume_accept(self) -> None:
        self._resume_accept_at = None
        for listener in self._listeners:
            self.reactor.add_listener(listener.fileno(), listener)

    def forget(self, connection: Connection) -> None:
        """Take a connection that is being closed out of everything."""
        self.timers.cancel(connection)
        self.reactor.remove(connection.fd)
        self._connections.discard(connection)
        if self._max_per_address:
            self._count_by_peer[connection.peer] -= 1
            if not self._count_by_peer[connection.peer]:
                del self._count_by_peer[connection.peer]

    # What connections need of their worker

    def publish(self, publication: Publication, head: bytes, body: bytes) -> None:
        """Have an answer replayed by the reactor from now on."""
        if publication.accept_encoding is not None:
            self.reactor.learn_codings(publication.accept_encoding, publication.codings)
        self.reactor.publish(
            path=publication.path,
            codings=publication.codings,
            head=head,
            not_modified_head=self.parser.build_head(304, publication.not_modified),
            body=body,
            etag=publication.etag,
            last_modified=publication.last_modified,
            depends=publication.depends,
            content=publication.content,
            body_file=publication.body_file,
        )

    def record(
        self,
        connection: Connection,
        request: Request | None,
        response: Response,
        body_sent: int,
        duration_s: float,
    ) -> None:
        """Count a response that is over; write its access line, and the reason of an error."""
        self._tally.add(response.status, body_sent, duration_s)
        if request is None:
            line, fields = "", {}
        else:
            line, fields = f"{request.method} {request.target} {request.version}", request.fields
        self.reactor.log(
            self.parser.format_access_line(
                self._log_format,
                connection.peer,
                response.user,
                self.clock.log_time,
                line,
                response.status,
                body_sent,
                fields.get("referer", ""),
                fields.get("user-agent", ""),
            )
        )
        if response.detail:
            level = logging.ERROR if response.status >= 500 and response.status != 501 else logging.INFO
            reason = f'{connection.peer}: {response.status} {response.detail} "{line}"'
            self._server.error_log.note(level, reason)

    # Reload and end: tasks for ``tell``

    def adopt(self, config: Config, site: Site, listeners: Sequence[socket.socket]) -> None:
        """Serve by another configuration from the next request on."""
        self.site = site
        self._configure(config)
        if not self.is_draining:
            self._watch(listeners)

    def _watch(self, listeners: Sequence[socket.socket]) -> None:
        if self._resume_accept_at is None:
            for listener in self._listeners:
                if listener not in listeners:
                    self.reactor.remove_listener(listener.fileno())
            for listener in listeners:
                if listener not in self._listeners:
                    self.reactor.add_listener(listener.fileno(), listener)
        self._listeners = tuple(listeners)

    def drain(self, grace_s: float) -> None:
        """Accept no more, and end with the last connection; an idle one has ``grace_s`` for a last request."""
        self.is_draining = True
        self._watch(())
        self.reactor.drain()
        self.grace_s = grace_s
        for connection in list(self._connections):
            connection.drain(grace_s)

    def finish(self) -> None:
        """Nothing more will be handed over: end with the last connection."""
        self._may_end = True

    def stop(self) -> None:
        """End now, whatever is in flight."""
        self._is_stopping = True

    def _end(self) -> None:
        self._has_ended = True
        for connection in list(self._connections):
            connection.close()
        self._close_arrivals()
        self._server.access_log.write(self.reactor.take_log())
        self.reactor.close()

    def _close_arrivals(self) -> None:
        """Close what nobody will serve; the thread that handed it over may be doing the same."""
        while True:
            try:
                accepted = self._arrivals.popleft()
            except IndexError:
                return
            _drop(accepted)


def _drop(accepted: Accepted) -> None:
    """Close a connection that was accepted and will not be served, and the file that it was being sent."""
    fd, _, came = accepted
    os.close(fd)
    if came is not None and came[0] == PARTIAL and came[1].file >= 0:
        os.close(came[1].file)
