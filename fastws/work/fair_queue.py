"""Work that answers wait for, done in the background from bounded queues that no address can fill for others."""

from __future__ import annotations

import collections
import logging
import threading
from collections.abc import Callable

from ..http.errors import UndecidedError, Work
from ..language.named_tuple import NamedTuple
from .background import Background

QUEUE_JOBS = 64
"""Computations of one kind that wait beside the one in progress; at the 0.3 s of a costly hash that is 20 s."""


class _Job(NamedTuple):
    """A computation, and who is told; the callables are a set in the order of their coming."""

    compute: Callable[[], object]
    tells: dict[Callable[[], None], None]


class FairQueues:
    """A queue and a thread for each kind of work, so that no password waits for a listing. Any thread may call."""

    def __init__(self, logger: logging.Logger) -> None:
        self._log = logger
        self._lock = threading.Lock()
        self._is_closed = False
        self._queues: dict[Work, FairQueue] = {}

    @property
    def pending(self) -> int:
        """How many computations are waiting or in progress."""
        return sum([queue.pending for queue in self._queues.values()])

    def submit(self, undecided: UndecidedError, peer: str, tell: Callable[[], None]) -> bool:
        """Do as ``FairQueue.submit`` of this kind of work does."""
        with self._lock:
            queue = self._queues.get(undecided.work)
            if queue is None and not self._is_closed:
                queue = self._queues[undecided.work] = FairQueue(self._log, undecided.work)
        return queue is not None and queue.submit(undecided, peer, tell)

    def close(self) -> None:
        """Drop what waits; the threads end after the jobs in progress."""
        with self._lock:
            self._is_closed = True
        for queue in self._queues.values():
            queue.close()


class FairQueue(Background):
    """Computes what an ``UndecidedError`` asks for. Any thread may call.

    Addresses take turns, so a client that asks once does not wait for one that asks a thousand times.
    """

    def __init__(self, logger: logging.Logger, work: Work) -> None:
        super().__init__(work.name, is_python=work.is_python)
        self._log = logger
        self._failed = work.failed
        self._jobs: dict[bytes, _Job] = {}  # by key: those that wait and the one in progress
        self._waiting: dict[str, collections.deque[bytes]] = {}  # keys by address; the next address first

    @property
    def pending(self) -> int:
        """How many computations are waiting or in progress."""
        return len(self._jobs)

    def submit(self, undecided: UndecidedError, peer: str, tell: Callable[[], None]) -> bool:
        """Have ``tell`` called, by any thread, when it is time to ask again; False if there is no room.

        It is time when the computation is over, and when it had to make room for that of another address.
        """
        with self._changed:
            if self._is_closed:
                return False
            job = self._jobs.get(undecided.key)
            if job is None:
                if len(self._jobs) > QUEUE_JOBS and not self._make_room(peer):
                    return False
                job = self._jobs[undecided.key] = _Job(undecided.compute, {})
                self._waiting.setdefault(peer, collections.deque()).append(undecided.key)
                self._announce()
            job.tells[tell] = None
            return True

    def _make_room(self, peer: str) -> bool:
        """Drop the last computation of the address that has most of them, unless ``peer`` has about as many."""
        greedy = max(self._waiting, key=lambda each: len(self._waiting[each]))
        keys = self._waiting[greedy]
        if len(keys) <= len(self._waiting.get(peer, ())) + 1:
            return False
        for tell in self._jobs.pop(keys.pop()).tells:
            tell()
        return True

    def _has_work(self) -> bool:
        return bool(self._waiting)

    def _work(self) -> None:
        with self._changed:
            if self._is_closed:
                return
            peer = next(iter(self._waiting))
            keys = self._waiting.pop(peer)
            key = keys.popleft()
            if keys:
                self._waiting[peer] = keys  # behind all others
            job = self._jobs[key]
        try:
            job.compute()
        except BaseException:  # a panic in bcrypt's Rust is no Exception
            self._log.exception("%s", self._failed)
        with self._changed:
            self._jobs.pop(key, None)
        for tell in job.tells:  # nobody finds the job any more
            tell()

    def _drop_all(self) -> None:
        self._jobs.clear()
        self._waiting.clear()
