"""One thread of the pool: accept, wait, advance, expire. It owns its connections until they close."""

from __future__ import annotations

import collections
import functools
import logging
import socket
import threading
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from .. import portable
from ..backend import Backend
from ..config.settings import Config
from ..http.errors import HTTPError
from ..http.messages import Limits
from ..http.negotiation import codings_number, preferred_codings
from ..record.clock import Clock
from ..record.ledger import Ledger
from ..record.tally import WorkerStatus
from ..seam import ACCEPT, ARRIVE, DONE, PARTIAL, READ, REASON, RESET, WRITE, Accepted
from .accepting import Accepting
from .connection import Connection
from .states import CLOSED, UNHURRIED_S, WAITING
from .timers import Timers

if TYPE_CHECKING:
    from ..operation.server import Server
    from ..site.site import Site

ACCEPT_BATCH = 64
"""Connections accepted in one turn, so that a flood of them does not starve those that are open."""

FLUSH_S = 0.9
"""How often the logs are written out; at least every second is promised."""

_HANDLERS: dict[int, Callable[[Connection, Any], None]] = {
    READ: Connection.on_read,
    WRITE: Connection.on_write,
    RESET: Connection.close,
    DONE: Connection.on_done,
    PARTIAL: Connection.on_partial,
}


class Worker:
    """A thread with its own reactor. Other threads use only what is defined above the loop."""

    def __init__(self, server: Server, index: int, backend: Backend, site: Site) -> None:
        config = server.config
        self._server = server
        self.logger: logging.Logger = server.logger
        self.parser = backend.parser
        self.limits = Limits()
        self.site = site
        self.queues = server.queues
        self.timers: Timers[Connection] = Timers()
        self.reactor = backend.reactor()
        self._name = f"worker-{index}"
        self.ledger = Ledger(self._name, self.parser, self.reactor, server.error_log)
        self.is_draining = False
        self._has_peers = server.worker_count > 1
        self._connections: set[Connection] = set()
        self._configure(config)
        self._arrivals: collections.deque[Accepted] = collections.deque()
        self._tasks: collections.deque[Callable[[Worker], None]] = collections.deque()
        self._accepting = Accepting(self.reactor, self.logger)
        self._flush_at = time.monotonic() + FLUSH_S
        self._is_stopping = self.has_ended = False
        self.grace_s = 0.0
        self._may_end = False
        self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)

    def _configure(self, config: Config) -> None:
        log_format = "off" if config.access_log == "off" else config.access_log_format
        self.clock = Clock(config.access_log_format)
        self.ledger.configure(log_format, self.clock)
        self.reactor.configure(
            limits=self.limits,
            methods=config.request_methods,
            versions=config.http_types,
            cache_bytes=config.cache_size_bytes // self._server.worker_count,
            log_format=log_format,
            default_codings=codings_number(preferred_codings(None)),
            fill=functools.partial(self.site.fill, self.parser),
        )
        self.keepalive_time_s = config.keepalive_time_s
        self.request_timeout_s = config.request_timeout_s
        self.max_body_bytes = config.max_body_bytes
        # A transfer is looked at after so long: has it moved that many bytes since?
        self.patience_s = config.request_timeout_s if config.min_rate_bytes_s else UNHURRIED_S
        self.least_bytes = config.min_rate_bytes_s * config.request_timeout_s
        self._max_connections = config.max_connections
        if portable.CONNECTIONS_MOST is not None:
            most = portable.CONNECTIONS_MOST * self._server.worker_count
            self._max_connections = min(self._max_connections, most)
        # Counted only where there is a limit: it costs every connection something.
        self._max_per_address = config.max_connections_per_address
        counted = self._connections if self._max_per_address else ()
        self._count_by_peer = collections.Counter(connection.peer for connection in counted)

    # For other threads

    def start(self, listeners: Sequence[socket.socket]) -> None:
        """Begin to serve what ``listeners`` accept."""
        self._accepting.watch(listeners)
        self._thread.start()

    def abandon(self) -> None:
        """Make this worker end, or never begin."""
        if self._thread.ident is None:
            self._end()
        else:
            self.tell(Worker.stop)

    @property
    def load(self) -> int:
        """How many connections this worker has or is about to have."""
        return len(self._connections) + len(self._arrivals) + self.reactor.kept

    def connections_from(self, peer: str) -> int:
        """Return how many of this worker's connections have the address ``peer``; 0 if there is no limit."""
        return self._count_by_peer[peer]

    def status(self) -> WorkerStatus:
        """Return this worker's counts, approximately current."""
        return self.ledger.status(self.load)

    def hand_over(self, accepted: Accepted) -> None:
        """Give this worker a connection that another one accepted."""
        self._arrivals.append(accepted)
        if self.has_ended:  # since it was chosen
            self._close_arrivals()
        else:
            self.reactor.wake()

    def resume(self, connection: Connection) -> None:
        """Make ``connection`` continue if it is waiting."""
        self.tell(lambda _: self._go_on(connection))

    def tell(self, task: Callable[[Worker], None]) -> None:
        """Run ``task`` on this worker's thread, soon."""
        self._tasks.append(task)
        self.reactor.wake()

    def join(self, timeout_s: float | None = None) -> bool:
        """Wait for the thread to end; return whether it has ended or never began."""
        if self._thread.ident is not None:
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
            for event in reactor.wait(deadline, self._room()):
                self._take_event(*event)
            while self._tasks:
                self._tasks.popleft()(self)
            while self._arrivals:
                self._take(self._arrivals.popleft(), self._has_room())
            now = time.monotonic()
            if now >= deadline or reactor.log_is_full:
                self._keep_time(now)
            if self.is_draining and self._may_end and not self.load:
                return

    def _take_event(self, owner: Any, kind: int, data: Any) -> None:
        if kind == ACCEPT:
            self._accept(owner)
        elif kind == ARRIVE:
            self._arrive(owner, data)
        elif kind == REASON:
            self.ledger.note(owner, *data)
        else:
            self._handle(owner, kind, data)

    def _handle(self, connection: Connection, kind: int, data: Any) -> None:
        if connection.state == CLOSED:
            return  # by an event before this one in the same turn
        self.clock.tick()
        try:
            _HANDLERS[kind](connection, data)
        except Exception:
            self.logger.exception("unexpected exception; the connection to %s is closed", connection.peer)
            connection.close()

    def _go_on(self, connection: Connection) -> None:
        if connection.state == WAITING:
            self._handle(connection, WRITE, None)

    def _next_deadline(self) -> float:
        return min(self._flush_at, self.timers.next_deadline(), self._accepting.resume_at)

    def _keep_time(self, now: float) -> None:
        self.clock.tick()
        for connection in self.timers.pop_due(now):
            connection.on_timeout(now)
        if now >= self._accepting.resume_at:
            self._accepting.resume()
        if now >= self._flush_at or self.reactor.log_is_full:
            self._write_logs()
            self._flush_at = now + FLUSH_S

    def _write_logs(self) -> None:
        """Write this worker's access lines, and the reasons that any worker has noted."""
        self._server.access_log.write(self.reactor.take_log())
        self._server.error_log.flush()

    # Connections

    def _accept(self, listener: socket.socket) -> None:
        has_room = self._has_room()
        try:
            accepted = self.reactor.accept(listener, ACCEPT_BATCH)
        except OSError as error:
            self._accepting.rest(error, time.monotonic())
            return
        for each in accepted:
            worker = self._server.least_loaded(self)
            if worker is self:
                self._take(each, has_room)
            else:
                worker.hand_over(each)

    def _take(self, accepted: Accepted, has_room: bool) -> None:
        """Have the reactor keep a new connection, if it does that and all are let in."""
        if not has_room:
            self._admit(accepted)
        elif not self.reactor.keep(*accepted):
            self._adopt(accepted)

    def _arrive(self, accepted: Accepted, came: tuple[int, Any] | None) -> None:
        """Own a connection that the reactor has kept."""
        connection = self._adopt(accepted)
        if connection is not None and came is not None:
            self._handle(connection, *came)

    def _room(self) -> int:
        """Return how many connections the reactor may accept and keep.

        None where Python has to decide about each: which of several workers gets it, how many its address has.
        """
        if self._has_peers or self._max_per_address:
            return 0
        return self._max_connections - len(self._connections)

    def _has_room(self) -> bool:
        """Tell whether all that the workers may accept in one turn is surely let in."""
        if self._max_per_address or self.is_draining:
            return False
        count = self._server.connection_count() if self._has_peers else self.load
        return count + ACCEPT_BATCH * self._server.worker_count <= self._max_connections

    def _admit(self, accepted: Accepted) -> None:
        """Own a connection, or refuse it where there are too many."""
        connection = self._adopt(accepted)
        crowded = self._crowded(accepted[1])
        if crowded and connection is not None:
            self.clock.tick()
            connection.refuse(HTTPError(503, f"{crowded} has too many connections open.", close=True))

    def _adopt(self, accepted: Accepted) -> Connection | None:
        fd, peer = accepted
        connection = Connection(self, fd, peer)
        try:
            self.reactor.add(fd, connection, peer)
        except OSError as error:
            self.logger.error("a connection from %s cannot be watched: %s", peer, error)
            portable.close_socket(fd)
            return None
        self._connections.add(connection)
        if self._max_per_address:
            self._count_by_peer[peer] += 1
        if self.is_draining:
            connection.drain(self.grace_s)
        else:
            self.timers.schedule(connection, self.reactor.last_activity(fd) + self.keepalive_time_s)
        return connection

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

    def forget(self, connection: Connection) -> None:
        """Remove a connection that is being closed from every table."""
        self.timers.cancel(connection)
        self.reactor.remove(connection.fd)
        self._connections.discard(connection)
        if self._max_per_address:
            self._count_by_peer[connection.peer] -= 1
            if not self._count_by_peer[connection.peer]:
                del self._count_by_peer[connection.peer]

    # Reload and end: tasks for ``tell``

    def adopt(self, config: Config, site: Site, listeners: Sequence[socket.socket]) -> None:
        """Use another configuration from the next request on."""
        self.site = site
        self._adopt_kept()  # they may have to be counted by address from now on
        self._configure(config)
        if not self.is_draining:
            self._accepting.watch(listeners)

    def drain(self, grace_s: float) -> None:
        """Stop accepting, and end with the last connection; an idle one has ``grace_s`` for a last request."""
        self.is_draining = True
        self._accepting.watch(())
        self.reactor.drain()
        self.grace_s = grace_s
        for connection in list(self._connections):
            connection.drain(grace_s)
        self._adopt_kept()

    def _adopt_kept(self) -> None:
        for accepted in self.reactor.take_kept():
            self._adopt(accepted)

    def finish(self) -> None:
        """Nothing more will be handed over: end with the last connection."""
        self._may_end = True

    def stop(self) -> None:
        """End now, cutting off connections."""
        self._is_stopping = True

    def _end(self) -> None:
        self.has_ended = True
        for connection in list(self._connections):
            connection.close()
        self._close_arrivals()
        self._write_logs()
        self.reactor.close()

    def _close_arrivals(self) -> None:
        """Close what nobody will serve; the thread that handed it over may be doing the same."""
        while True:
            try:
                accepted = self._arrivals.popleft()
            except IndexError:
                return
            portable.close_socket(accepted[0])
