"""One thread of the pool: accept, wait, advance, expire. Its connections stay with it until they close."""

from __future__ import annotations

import collections
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from .. import portable, seam
from ..application.channel import Channel
from ..config.settings import Config
from ..record.tally import WorkerStatus
from ..seam import ACCEPT, ARRIVE, REASON, Accepted, TLSContext
from ..site.site import Site
from ..transport.listener import Listener
from .accepting import Accepting, Channels
from .admission import ACCEPT_BATCH, Admission, Census
from .connection import Connection
from .shared import Equipment, Shared

OVERSLEPT_S = 1.0
"""A worker that looks at its timers so much too late was kept from it, and not busy."""

FLUSH_S = 0.9
"""How often the logs are written out; at least every second is promised."""


class Team(Census, Protocol):
    """All workers of a server, as one of them sees them."""

    def least_loaded(self, preferred: Worker) -> Worker:
        """Return the worker with the fewest connections, ``preferred`` in a tie."""

    def replace(self, worker: Worker) -> None:
        """Start another worker in place of this one, which has failed; called by its own thread."""


class Worker:
    """A thread with its own reactor. Other threads use only what is defined above the loop.

    Raises ``OSError`` if the reactor cannot be made.
    """

    def __init__(
        self,
        index: int,
        equipment: Equipment,
        team: Team,
        config: Config,
        site: Site,
        context: TLSContext | None = None,
    ) -> None:
        name = f"worker-{index}"
        self._equipment = equipment
        self._team = team
        self.shared: Shared[Connection] = Shared(equipment, name)
        self.shared.resume = self.resume
        self.shared.configure(config, site)
        self.reactor = self.shared.reactor
        self.admission = Admission(self.shared, team)
        self.admission.configure(config)
        self.admission.secure(context)
        self._arrivals: collections.deque[Accepted] = collections.deque()
        self._tasks: collections.deque[Callable[[Worker], None]] = collections.deque()
        self._resumed: collections.deque[Connection] = collections.deque()
        self._is_woken = False  # and has not yet looked at what it was woken for
        self._accepting = Accepting(self.reactor, equipment.logger)
        self.channels = Channels(self.reactor, equipment.logger)
        self._flush_at = time.monotonic() + FLUSH_S
        self._is_stopping = self.has_ended = False
        self._may_end = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    # For other threads

    def start(self, listeners: Sequence[Listener]) -> None:
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
        return self.admission.count + len(self._arrivals) + self.reactor.kept

    def status(self) -> WorkerStatus:
        """Return this worker's counts, approximately current."""
        status = self.shared.ledger.status(self.load, self.admission.tls_counters())
        return status._replace(states=(*self.admission.states(), self.reactor.kept))

    def hand_over(self, accepted: Accepted) -> None:
        """Give this worker a connection that another one accepted."""
        self._arrivals.append(accepted)
        if self.has_ended:  # since it was chosen
            self._close_arrivals()
        else:
            self.reactor.wake()

    def hear(self, channel: Channel) -> None:
        """Take what comes by ``channel`` from now on, if this worker has not ended."""
        self.channels.offer(channel)
        self._wake()

    def resume(self, connection: Connection) -> None:
        """Make ``connection`` go on if it is paused."""
        self._resumed.append(connection)
        if not self._is_woken:
            self._wake()

    def tell(self, task: Callable[[Worker], None]) -> None:
        """Run ``task`` on this worker's thread, soon."""
        self._tasks.append(task)
        self._wake()

    def _wake(self) -> None:
        """Have the tables for other threads looked at: once, for all that comes until that is done."""
        if not self._is_woken:
            self._is_woken = True
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
            self._equipment.logger.exception(
                "this worker failed; its connections are closed and another takes its place"
            )
            try:
                self._end()
            finally:
                self._team.replace(self)
        else:
            self._end()

    def _loop(self) -> None:
        reactor, admission = self.reactor, self.admission
        while not self._is_stopping:
            deadline = self._next_deadline()
            events = reactor.wait(0.0 if self.shared.turns else deadline, admission.room())
            self.shared.begin_turn()
            self.shared.clock.tick()
            self._is_woken = True  # this turn looks at the tables below, without a wake
            for owner, kind, data in events:
                if kind in EVENTS:
                    owner.handle(EVENTS[kind], data)
                else:
                    self._guard(self._take_event, owner, kind, data)
            self._take_turns()
            self._is_woken = False  # before the look: what comes from now on wakes again
            while self._tasks:
                self._tasks.popleft()(self)  # one that fails would leave this worker unlike the others
            while self._resumed:
                self._resumed.popleft().handle(Connection.on_resume)
            self.channels.watch_offered()
            while self._arrivals:
                admission.take(self._arrivals.popleft(), admission.has_room())
            self._equipment.applications.send()
            now = time.monotonic()
            if now >= deadline or reactor.log_is_full:
                self._guard(self._keep_time, now, now - deadline)
            if self.shared.is_draining and self._may_end and not self.load:
                return

    def _guard(self, function: Callable[..., None], *arguments: Any) -> None:
        """Call ``function``; an unexpected exception ends neither this worker nor what its other clients do."""
        try:
            function(*arguments)
        except Exception:
            self._equipment.logger.exception("unexpected exception; this worker goes on")

    def _take_turns(self) -> None:
        """Let those go on that have given way, one at least; those that give way again are behind all others."""
        turns = self.shared.turns
        for _ in range(len(turns)):
            turns.popleft().handle(Connection.on_turn)
            if self.shared.is_turn_over():
                return

    def _take_event(self, owner: Any, kind: int, data: Any) -> None:
        if kind == ACCEPT and isinstance(owner, Listener):
            self._accept(owner)
        elif kind == ACCEPT:
            self.channels.hear(owner)
        elif kind == ARRIVE:
            self._arrive(owner, data)
        elif kind == REASON:
            self.shared.ledger.note(owner, *data)

    def _accept(self, listener: Listener) -> None:
        has_room = self.admission.has_room()
        try:
            accepted = self.reactor.accept(listener.sock, ACCEPT_BATCH)
        except Exception as error:
            self._accepting.rest(error, time.monotonic())
            return
        for each in [Accepted(*pair, listener.manner) for pair in accepted]:
            worker = self._team.least_loaded(self)
            if worker is self:
                self.admission.take(each, has_room)
            else:
                worker.hand_over(each)

    def _arrive(self, accepted: Accepted, came: tuple[int, Any] | None) -> None:
        """Own a connection that the reactor has kept, and to which something may have come."""
        connection = self.admission.adopt(accepted)
        if connection is not None and came is not None:
            kind, data = came
            connection.handle(EVENTS[kind], data)

    def _next_deadline(self) -> float:
        return min(self._flush_at, self.shared.timers.next_deadline(), self._accepting.resume_at)

    def _keep_time(self, now: float, late_s: float) -> None:
        self.shared.overslept_s = late_s if late_s > OVERSLEPT_S else 0.0
        for connection in self.shared.timers.pop_due(now):
            connection.handle(Connection.on_timeout, now)
        if now >= self._accepting.resume_at:
            self._accepting.resume(now)
        if now >= self._flush_at or self.reactor.log_is_full:
            self._write_logs()
            self._flush_at = now + FLUSH_S

    def _write_logs(self) -> None:
        """Write this worker's access lines, and the reasons that any worker has noted."""
        self._equipment.access_log.write(self.reactor.take_log())
        self._equipment.error_log.flush()

    # Reload and end: tasks for ``tell``

    def adopt(
        self, config: Config, site: Site, listeners: Sequence[Listener], context: TLSContext | None
    ) -> None:
        """Use another configuration from the next request on, and ``context`` from the next handshake on."""
        self.shared.configure(config, site)
        self.admission.configure(config)
        self.admission.secure(context)
        if not self.shared.is_draining:
            self._accepting.watch(listeners)

    def drain(self, grace_s: float) -> None:
        """Stop accepting, and end with the last connection; an idle one has ``grace_s`` for a last request."""
        self.shared.is_draining, self.shared.grace_s = True, grace_s
        self._accepting.watch(())
        self.reactor.drain()
        self.admission.drain()

    def finish(self) -> None:
        """Nothing more will be handed over: end with the last connection."""
        self._may_end = True

    def stop(self) -> None:
        """End now, cutting off connections."""
        self._is_stopping = True

    def _end(self) -> None:
        self.has_ended = True
        self.admission.close()
        self._close_arrivals()
        self.channels.close()
        self._write_logs()
        self.reactor.close()

    def _close_arrivals(self) -> None:
        """Close what nobody will serve; the thread that handed it over may be doing the same."""
        while True:
            try:
                accepted = self._arrivals.popleft()
            except IndexError:
                return
            portable.close_socket(accepted.fd)


EVENTS: dict[int, Callable[[Connection, Any], None]] = {
    seam.READ: Connection.on_read,
    seam.WRITE: Connection.on_write,
    seam.RESET: Connection.close,
    seam.DONE: Connection.on_done,
    seam.PARTIAL: Connection.on_partial,
    seam.CLEAR: Connection.on_clear,
}
"""What a connection does at each event of its reactor."""
