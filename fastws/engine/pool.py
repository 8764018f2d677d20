"""The workers of one server together: which gets a connection, how all of them are told, how one is replaced."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Sequence

from ..application.channel import Channel
from ..config.settings import Config
from ..language.named_tuple import NamedTuple
from ..record.tally import WorkerStatus
from ..seam import Accepted, TLSContext
from ..site.site import Site
from ..tls.settings import TICKET_KEY_BYTES, TLSSettings
from ..transport.listener import BACKLOG, Listener
from .admission import ACCEPT_BATCH
from .shared import Equipment
from .worker import Worker

ANSWER_S = 5.0
"""How long a worker may take to do a task; what takes longer is stuck, in a file system that hangs perhaps."""

LOOK_S = 0.1
"""How long one wait for a worker's end is at most."""

REPLACE_S = 0.1
"""How long to wait before a failed worker's replacement is tried again, as accepting rests without descriptors."""


class _Present(NamedTuple):
    """What a worker begins with."""

    config: Config
    site: Site
    listeners: Sequence[Listener]


class Pool:
    """The worker threads of one server. Any thread may call; ``stop`` may be called by a signal handler."""

    def __init__(self, equipment: Equipment) -> None:
        self._equipment = equipment
        self._present: _Present
        self._contexts: Sequence[TLSContext] = ()
        # One for all workers, so that each takes the tickets of the others, and those from before a reload.
        self._ticket_key = os.urandom(TICKET_KEY_BYTES)
        self._is_ending = False
        # The replacement of a worker excludes start, change and end.
        self._lock = threading.Lock()
        self.workers: list[Worker] = []

    def secure(self, settings: TLSSettings | None) -> None:
        """Speak TLS as in ``settings``, with what is in the files now, from the next ``start`` or ``adopt`` on.

        None: there is no TLS. Connections keep what they were made with. Raises ``OSError`` if a file cannot be
        read or is not what it should be, ``ImportError`` where Python has no TLS; then nothing has changed.
        """
        if settings is None:
            self._contexts = ()
            return
        tls, key = self._equipment.backend.tls(), settings.ticket_key or self._ticket_key
        first = tls.Context(settings, key)
        # One for each worker, so that none waits for another's lock; on the pure side they share Python's anyway,
        # and its contexts know no ticket but their own.
        count = 0 if tls.side == "pure" else self.worker_count - 1
        self._contexts = [first, *[tls.Context(settings, key) for _ in range(count)]]

    @property
    def speaks_tls(self) -> bool:
        """Whether TLS is spoken at any address."""
        return bool(self._contexts)

    def _context_of(self, index: int) -> TLSContext | None:
        return self._contexts[index % len(self._contexts)] if self._contexts else None

    # Start and replacement

    def start(self, config: Config, site: Site, listeners: Sequence[Listener]) -> None:
        """Start the workers. Raises ``OSError`` or ``RuntimeError``; then those begun are to be ``abandon``ed."""
        with self._lock:
            self._present = _Present(config, site, listeners)
            for index in range(self.worker_count):
                self.workers.append(self._make(index))
            for worker in self.workers:
                worker.start(listeners)
        self._equipment.applications.offer_channels(self.offer)

    def offer(self, channel: Channel) -> bool:
        """Have the worker hear an application process that hears the fewest; False if all have ended."""
        workers = [worker for worker in self.workers if not worker.has_ended]
        if workers:
            min(workers, key=lambda worker: worker.channels.count).hear(channel)
        return bool(workers)

    def _make(self, index: int) -> Worker:
        present = self._present
        return Worker(index, self._equipment, self, present.config, present.site, self._context_of(index))

    def abandon(self) -> None:
        """Undo a start that failed."""
        with self._lock:
            self._is_ending = True
            workers, self.workers = self.workers, []
        for worker in workers:
            worker.abandon()
        for worker in workers:
            worker.join(ANSWER_S)

    def replace(self, worker: Worker) -> None:
        """Start a worker in place of one that failed, as soon as possible.

        Called by the failing worker's thread, which lives until then.
        """
        is_said = False
        while not self._try_to_replace(worker, is_said):
            is_said = True
            time.sleep(REPLACE_S)

    def _try_to_replace(self, worker: Worker, is_said: bool) -> bool:
        with self._lock:
            if self._is_ending:
                return True
            index = self.workers.index(worker)
            fresh = None
            try:
                fresh = self._make(index)
                fresh.start(self._present.listeners)
            except Exception as error:  # no descriptors, no threads
                if fresh is not None:
                    fresh.abandon()
                if not is_said:
                    self._equipment.logger.error(
                        "no worker could be started in its place, which is tried until it succeeds: %s", error
                    )
                return False
            self.workers[index] = fresh
            return True

    # Counts

    @property
    def worker_count(self) -> int:
        """How many workers there are once it has started."""
        return self._equipment.worker_count

    def connection_count(self) -> int:
        """Return the number of open connections."""
        return sum([worker.load for worker in self.workers])

    def connections_from(self, peer: str) -> int:
        """Return the number of open connections of the client address ``peer``; 0 if there is no limit."""
        return sum([worker.admission.count_from(peer) for worker in self.workers])

    def is_responsive(self, timeout_s: float) -> bool:
        """Tell whether a worker does a task within ``timeout_s``."""
        is_done = threading.Event()
        for worker in self.workers:
            worker.tell(lambda _: is_done.set())
        return is_done.wait(timeout_s)

    def status(self) -> list[WorkerStatus]:
        """Return the counts of each worker."""
        return [worker.status() for worker in self.workers]

    # Who gets a connection

    def least_loaded(self, preferred: Worker) -> Worker:
        """Return the worker with the fewest connections, ``preferred`` in a tie."""
        best, least = preferred, preferred.load
        for worker in self.workers:
            if worker.load < least and not worker.has_ended:
                best, least = worker, worker.load
        return best

    def accept_rest(self, listener: Listener) -> None:
        """Hand over what waits at a listener that is about to be closed.

        It is no more than a queue holds: a socket that others keep open fills up again.
        """
        first = next((worker for worker in self.workers if not worker.has_ended), None)
        if first is None:
            return
        left = BACKLOG
        try:
            while left > 0 and (accepted := first.reactor.accept(listener.sock, ACCEPT_BATCH)):
                left -= len(accepted)
                for fd, peer in accepted:
                    self.least_loaded(first).hand_over(Accepted(fd, peer, listener.manner))
        except OSError as error:
            self._equipment.logger.error("connections that waited could not be accepted: %s", error.strerror)

    # Change and end

    def adopt(self, config: Config, site: Site, listeners: Sequence[Listener]) -> bool:
        """Use another configuration from the next request on; returns when all workers do, False if some hang."""
        with self._lock:
            self._present = _Present(config, site, listeners)
        contexts = {worker: self._context_of(index) for index, worker in enumerate(self.workers)}
        return self.have_all(
            lambda worker: worker.adopt(config, site, listeners, contexts.get(worker)), ANSWER_S
        )

    def drain(self, grace_s: float, timeout_s: float) -> bool:
        """Stop accepting, see ``Worker.drain``; returns when all workers have, False after ``timeout_s``."""
        with self._lock:
            self._is_ending = True
        return self.have_all(lambda worker: worker.drain(grace_s), min(ANSWER_S, timeout_s))

    def finish(self) -> None:
        """After ``drain``: nothing more will be accepted, and each worker ends with its last connection."""
        for worker in self.workers:
            worker.tell(Worker.finish)

    def stop(self) -> None:
        """Make all workers end now, cutting off connections."""
        for worker in self.workers:
            worker.tell(Worker.stop)

    def join(self, deadline: float) -> bool:
        """Wait for all workers to end; return whether they have by ``deadline`` (``time.monotonic()`` seconds)."""
        for worker in self.workers:
            # A signal that arrives just before a wait begins has its handler run only when that is over.
            while not worker.join(max(0.0, min(LOOK_S, deadline - time.monotonic()))):
                if time.monotonic() >= deadline:
                    return False
        return True

    def have_all(self, task: Callable[[Worker], None], timeout_s: float) -> bool:
        """Have every worker do ``task``; return whether all have, or have ended, within ``timeout_s``.

        Those that have not will do it later.
        """
        deadline = time.monotonic() + timeout_s
        workers = list(self.workers)
        done = [threading.Event() for _ in workers]

        def acknowledged(event: threading.Event) -> Callable[[Worker], None]:
            def do(worker: Worker) -> None:
                try:
                    task(worker)
                finally:
                    event.set()

            return do

        for worker, event in zip(workers, done, strict=True):
            worker.tell(acknowledged(event))
        for worker, event in zip(workers, done, strict=True):
            # A worker that has failed does nothing more.
            while not event.wait(0.05) and not worker.has_ended and time.monotonic() < deadline:
                pass
        return all(event.is_set() or worker.has_ended for worker, event in zip(workers, done, strict=True))
