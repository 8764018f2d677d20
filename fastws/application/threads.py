"""Threads of this process that run applications, and the bounded queue before them."""

from __future__ import annotations

import collections
import logging
import threading
import time
from collections.abc import Sequence
from typing import Protocol

from ..config.settings import Config
from .environ import Manner
from .tally import ApplicationStatus, Tally
from .wsgi import Caller, Check, Lent

MANNER = Manner(multithread=True, multiprocess=False)

QUICK_S = 0.0005
"""After a call that took less, the thread that fetches loans runs the next ones too, and nobody else is woken."""


class Source(Protocol):
    """What threads fetch loans from, where nobody brings them: one thread at a time, when it has nothing to do."""

    def fetch(self) -> Sequence[Lent] | None:
        """Wait for loans and return them, perhaps none; None if there will be none any more."""

    def count(self, taken: int) -> None:
        """Note how many loans were taken so far."""

    def rest(self) -> None:
        """Note that a thread has nothing to do, before it waits."""


class Threads:
    """Runs loans in the order in which they came. Any thread may call.

    Threads start as they are needed, up to their number. One that an application does not leave cannot be ended:
    it is missing until the application returns.

    One that has nothing to do is parked at a lock of its own. It is woken by the loan that comes, or by the thread
    that takes one and leaves others behind: so a thread whose applications do not wait takes all that there is,
    without another that contends with it for the interpreter at each of them.

    With a ``source``, one of those that have nothing to do fetches what is next, and runs it: no thread is woken
    for a loan. Another is when calls are not quick: the one that takes a loan knows it of the last call, and
    ``nudge`` is called every few ms as long as ``pause`` returns.
    """

    def __init__(
        self, logger: logging.Logger, check: Check, manner: Manner = MANNER, source: Source | None = None
    ) -> None:
        self._log = logger
        self._caller = Caller(manner, check, logger)
        self._lock = threading.Lock()
        self._parked: list[threading.Lock] = []
        self._is_waking = False  # a thread that has not yet looked
        self._source = source
        self._is_fetching = False  # a thread, or what stands in for it
        self._is_paused = self._is_unpaused = False
        self._bell = threading.Lock()  # held, but for the moment in which what is paused goes on
        self._bell.acquire()
        self.taken = 0
        """How many loans were taken so far."""
        self._is_computing = False  # most of the time: more threads would only contend for the interpreter
        self._is_quick = False  # the last call was, or another thread would not make the next ones quicker
        self._waiting: collections.deque[Lent] = collections.deque()
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
            while self._wake():
                pass

    def submit(self, loan: Lent) -> bool:
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
        wanted = len(self._waiting) + (self._source is not None and not self._is_fetching)
        while wanted > self._count - self._busy and self._count < self._most:
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
        if not self._is_waking:
            self._is_waking = self._wake()

    def _wake(self) -> bool:
        if self._parked:
            self._parked.pop().release()
            return True
        return False

    def _run(self) -> None:
        gate = threading.Lock()
        gate.acquire()
        answer, done = self._caller.answer, None
        while True:
            now = time.monotonic()
            with self._lock:
                if done is None:
                    self._is_waking = False
                else:
                    self._busy -= 1
                    self._is_quick = self._tally.end(done, now) < QUICK_S or self._is_computing
                if self._is_closed or self._count > self._most:
                    self._count -= 1
                    return
                done = self._take(now)
                is_to_fetch = done is None and self._source is not None and not self._is_fetching
                if is_to_fetch:
                    self._is_fetching = True
                elif done is None:
                    self._parked.append(gate)
            if done is not None:
                answer(done)
                continue
            if self._source is not None:
                self._source.rest()
            if is_to_fetch:
                self._fetch()
            else:
                gate.acquire()

    def _take(self, now: float) -> Lent | None:
        """Return the next loan that somebody waits for, if there is one; the lock is held."""
        waiting, source = self._waiting, self._source
        while waiting:
            loan = waiting.popleft()
            self.taken += 1
            if source is not None:
                source.count(self.taken)
            if loan.begin():
                self._busy += 1
                self._tally.begin(loan, now)
                if source is None:
                    if waiting:
                        self._wake_one()
                elif not self._is_quick:
                    self._go_on()
                return loan
        return None

    # With a source

    def _fetch(self) -> None:
        loans = self._source.fetch() if self._source is not None else None
        if loans is not None:  # or else nobody is to fetch any more
            with self._lock:
                self._waiting += loans
                self._is_fetching = False
                self._ring()

    def _go_on(self) -> None:
        """Have another thread take what waits, or fetch what comes; the lock is held."""
        if self._waiting or not self._is_fetching:
            self._start_threads()
            self._wake_one()

    def _ring(self) -> None:
        if self._is_paused:
            self._is_paused = False
            self._bell.release()

    def pause(self, seconds: float) -> None:
        """Return after ``seconds``, and not before something waits or comes, or ``unpause`` is called.

        For one thread, which does nothing else but ``nudge`` and stand in for a thread that fetches.
        """
        with self._lock:
            is_idle = self._is_fetching and not self._waiting
            self._is_paused = is_paused = is_idle and not self._is_unpaused
        if is_paused:
            self._bell.acquire()
        computed_s, now = time.process_time(), time.monotonic()
        time.sleep(seconds)
        self._is_computing = 2 * (time.process_time() - computed_s) > time.monotonic() - now

    def unpause(self) -> None:
        """Have ``pause`` not wait for anything, now and from now on."""
        with self._lock:
            self._is_unpaused = True
            self._ring()

    def nudge(self) -> bool:
        """Have other threads take what waits and fetch what comes: calls that were expected to be quick are not.

        Returns False if all are busy. The caller then is the one that fetches, until ``add`` tells otherwise.
        """
        with self._lock:
            self._start_threads()
            for _ in range(len(self._waiting) + (not self._is_fetching)):
                self._wake()
            if self._is_fetching or self._busy < self._count:
                return True
            self._is_fetching = True
            return False

    def add(self, loans: Sequence[Lent]) -> bool:
        """Have loans answered that the caller has fetched; False if a thread fetches from now on."""
        with self._lock:
            self._waiting += loans
            self._is_fetching = self._busy == self._count
            if not self._is_fetching:
                self._wake_one()
            return self._is_fetching

    def withdraw(self, fetched: Sequence[Lent]) -> list[Lent]:
        """Return what waits, and behind it what is ``fetched`` by now, and have it no more; it counts as taken."""
        with self._lock:
            loans = [*self._waiting, *fetched]
            self._waiting.clear()
            self.taken += len(loans)
            if self._source is not None:
                self._source.count(self.taken)
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
            while self._wake():
                pass
