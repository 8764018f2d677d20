"""Threads of this process that run applications, and the bounded queue before them."""

from __future__ import annotations

import collections
import logging
import threading

from ..config.settings import Config
from .environ import Manner
from .loan import Loan
from .tally import ApplicationStatus, Tally
from .wsgi import answer

MANNER = Manner(multithread=True, multiprocess=False)


class Threads:
    """Runs loans in the order in which they came. Any thread may call.

    Threads start as they are needed, up to their number. One that an application does not leave cannot be ended:
    it is missing until the application returns.
    """

    def __init__(self, logger: logging.Logger, manner: Manner = MANNER) -> None:
        self._log = logger
        self._manner = manner
        self._changed = threading.Condition(threading.Lock())
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
        with self._changed:
            self._most, self._most_waiting = threads, waiting
            self._start_threads()
            self._changed.notify_all()

    def submit(self, loan: Loan) -> bool:
        """Have ``loan`` answered; False if too many others wait."""
        with self._changed:
            if self._is_closed:
                return False
            room = self._most_waiting + max(0, self._most - self._busy)
            if len(self._waiting) >= room:
                self._waiting = collections.deque(each for each in self._waiting if not each.is_abandoned)
                if len(self._waiting) >= room:
                    return False
            self._waiting.append(loan)
            self._start_threads()
            self._changed.notify()
            return self._count > 0

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

    def _run(self) -> None:
        while (loan := self._next()) is not None:
            answer(loan, self._manner, self._log)
            with self._changed:
                self._busy -= 1
                self._tally.end(loan)

    def _next(self) -> Loan | None:
        """Return the next loan that somebody waits for; None: this thread is to end."""
        with self._changed:
            while not self._is_closed and self._count <= self._most:
                if not self._waiting:
                    self._changed.wait()
                elif (loan := self._waiting.popleft()).begin():
                    self._busy += 1
                    self._tally.begin(loan)
                    return loan
            self._count -= 1
            return None

    def status(self) -> ApplicationStatus:
        """Return the counts."""
        with self._changed:
            return self._tally.status(self._busy, len(self._waiting))

    def close(self) -> None:
        """Drop what waits; the threads end after the requests in progress, for which nobody waits."""
        with self._changed:
            self._is_closed = True
            self._waiting.clear()
            self._changed.notify_all()
