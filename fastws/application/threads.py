"""Threads of this process that run applications, and the bounded queue before them."""

from __future__ import annotations

import collections
import logging
import threading
from collections.abc import Callable

from ..config.settings import Config
from .environ import Manner
from .loan import Loan
from .tally import ApplicationStatus, Tally
from .wsgi import Caller, Check

MANNER = Manner(multithread=True, multiprocess=False)

QUICK_S = 0.0005
"""After a call that took less, the next loans are left to the same thread, where somebody nudges the others."""


class Threads:
    """Runs loans in the order in which they came. Any thread may call.

    Threads start as they are needed, up to their number. One that an application does not leave cannot be ended:
    it is missing until the application returns.

    One that has nothing to do is parked at a lock of its own. It is woken by the loan that comes, or by the thread
    that takes one and leaves others behind: so a thread whose applications do not wait takes all that there is,
    without another that contends with it for the interpreter at each of them.
    """

    def __init__(
        self,
        logger: logging.Logger,
        check: Check,
        manner: Manner = MANNER,
        on_take: Callable[[int], None] | None = None,
        on_rest: Callable[[], None] | None = None,
    ) -> None:
        """``on_take`` is called with how many loans were taken so far; ``on_rest`` when a thread has none.

        With ``on_rest``, ``nudge`` is called every few ms as long as there are loans.
        """
        self._log = logger
        self._caller = Caller(manner, check, logger)
        self._lock = threading.Lock()
        self._parked: list[threading.Lock] = []
        self._is_waking = False  # a thread that has not yet looked
        self._on_take = on_take
        self._on_rest = on_rest
        self._taken = 0
        self._is_quick = False  # the last call was
        self._waiting: collections.deque[Loan] = collections.deque()
        self._most = self._most_waiting = 1
        self._count = 0  # threads
        self._busy = 0  # of them: those that run an application
        self._names = 0  # given so far
        self._is_closed = False
        self._tally = Tally()

    def configure(self, config: Config) -> None:
        """Use the limits of this configuration from now on."""
        self.limit(config.application_threads, config.application_queue)

    def limit(self, threads: int, waiting: int) -> None:
        """Have no more than so many threads, and so many requests that wait for one, from now on."""
        with self._lock:
            self._most, self._most_waiting = threads, waiting
            self._start_threads()
            self._wake_all()

    def submit(self, loan: Loan) -> bool:
        """Have ``loan`` answered; False if too many others wait."""
        with self._lock:
            if self._is_closed or (len(self._waiting) >= self._most_waiting and not self._has_room()):
                return False
            self._waiting.append(loan)
            if self._count < self._most:
                self._start_threads()
            self._wake_one()
            return self._count > 0

    def _has_room(self) -> bool:
        room = self._most_waiting + max(0, self._most - self._busy)
        if len(self._waiting) >= room:
            self._waiting = collections.deque(each for each in self._waiting if not each.is_abandoned)
        return len(self._waiting) < room

    def _start_threads(self) -> None:
        """Start as many threads as there are requests that no free one will take, up to their number."""
        while len(self._waiting) > self._count - self._busy and self._count < self._most:
            thread = threading.Thread(target=self._run, name=f"application-{self._names}", daemon=True)
            try:
                thread.start()
            except RuntimeError as error:  # the system grants none
                self._log.error("no thread could be started for applications: %s", error)
                return
            self._names += 1
            self._count += 1

    def _wake_one(self) -> None:
        """Have a parked thread look, if none is about to."""
        if self._parked and not self._is_waking:
            self._is_waking = True
            self._parked.pop().release()

    def _wake_all(self) -> None:
        while self._parked:
            self._parked.pop().release()

    def _run(self) -> None:
        gate = threading.Lock()
        gate.acquire()
        answer, done = self._caller.answer, None
        while True:
            with self._lock:
                if done is None:
                    self._is_waking = False
                else:
                    self._busy -= 1
                    self._is_quick = self._tally.end(done) < QUICK_S
                if self._is_closed or self._count > self._most:
                    self._count -= 1
                    return
                done = self._take()
                if done is None:
                    self._parked.append(gate)
            if done is None:
                if self._on_rest is not None:
                    self._on_rest()
                gate.acquire()
            else:
                answer(done)

    def _take(self) -> Loan | None:
        """Return the next loan that somebody waits for, if there is one; the lock is held."""
        waiting = self._waiting
        while waiting:
            loan = waiting.popleft()
            if self._on_take is not None:
                self._taken += 1
                self._on_take(self._taken)
            if loan.begin():
                self._busy += 1
                self._tally.begin(loan)
                if waiting and not (self._is_quick and self._on_rest is not None):
                    self._wake_one()
                return loan
        return None

    def nudge(self) -> None:
        """Have parked threads look, if loans wait: a call that was expected to be quick is not."""
        with self._lock:
            for _ in range(min(len(self._waiting), len(self._parked))):
                self._parked.pop().release()

    def withdraw(self) -> list[Loan]:
        """Return what waits, and have it no more; it counts as taken."""
        with self._lock:
            loans = list(self._waiting)
            self._waiting.clear()
            if loans and self._on_take is not None:
                self._taken += len(loans)
                self._on_take(self._taken)
            return loans

    def status(self) -> ApplicationStatus:
        """Return the counts."""
        with self._lock:
            return self._tally.status(self._busy, len(self._waiting))

    def close(self) -> None:
        """Drop what waits; the threads end after the requests in progress, for which nobody waits."""
        with self._lock:
            self._is_closed = True
            self._waiting.clear()
            self._wake_all()
