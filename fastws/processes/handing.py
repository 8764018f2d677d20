"""Which process gets a request, and the queue of those that wait for one."""

from __future__ import annotations

import collections
import math
import sys

from ..application.loan import Loan
from . import wire
from .child import ENDED, Child
from .crew import Crew

QUICK_S = 0.005
"""A process that answers more quickly than that gets requests ahead, while others wait."""

AHEAD = 64
"""So many at most, beyond one for each of its threads."""

RECALL_S = 0.02
"""After so long without an answer they are called back, to wait for whichever process is free first."""


class Handing:
    """Hands requests to the processes of a crew, by the thread that brings them."""

    def __init__(self, crew: Crew) -> None:
        self._crew = crew
        self._waiting: collections.deque[Loan] = collections.deque()

    @property
    def waiting(self) -> int:
        """How many requests wait."""
        return len(self._waiting)

    def submit(self, loan: Loan) -> bool:
        """Have ``loan`` answered; False if too many others wait. Any thread may call, and calls ``send`` soon.

        A process that has something to do already gets what is for it in one piece.
        """
        crew = self._crew
        with crew.lock:
            if crew.is_closed:
                return False
            child = self._free(loan)
            if child is not None:
                is_idle = not child.busy
                self._hand(child, loan)
                if is_idle:
                    crew.tell_on()
                return True
            if len(self._waiting) >= crew.settings.waiting:
                self._waiting = collections.deque(each for each in self._waiting if not each.is_abandoned)
                if len(self._waiting) >= crew.settings.waiting:
                    return False
            self._waiting.append(loan)
            return True

    def send(self) -> None:
        """Send what ``submit`` has left. Any thread may call."""
        if self._crew.is_untold:
            with self._crew.lock:
                self._crew.tell_on()

    def serve_waiting(self) -> None:
        """Hand out what waits, as far as there are free processes."""
        waiting, kept = self._waiting, []
        while waiting:
            loan = waiting.popleft()
            child = self._free(loan)
            if child is not None:
                self._hand(child, loan)
                continue
            kept.append(loan)
            if not self._has_room():
                break  # else it is of an application that only other processes have
        waiting.extendleft(reversed(kept))

    def _has_room(self) -> bool:
        return any(child.has_room() for child in self._crew.children.values())

    def finish(self, child: Child, number: int) -> None:
        """A stream is over, and its thread free."""
        crew = self._crew
        loan = child.streams.pop(number, None)
        if loan is not None:
            took_s = crew.tally.end(loan)
            if took_s >= QUICK_S:
                child.ahead //= 2
            elif child.ahead < AHEAD and self._waiting:
                child.ahead += 1
            if child.recall_at:
                child.recall_at = loan.begun_at + took_s + RECALL_S
        child.busy.discard(number)
        child.left -= 1
        if child.left == 0:
            child.is_due = True
            crew.wake()

    def recall(self, child: Child, now: float) -> float:
        """Call back what waits in ``child``, if that is due; return when it is to be looked at again."""
        if not child.is_ahead:
            child.recall_at = 0.0
        elif now >= child.recall_at:
            child.ahead = 0
            child.recall_at = math.inf  # until they have come, or another has been answered
            self._crew.tell(child, wire.pack(0, wire.RECALL))
        return child.recall_at or math.inf

    def take_back(self, child: Child, numbers: list[int]) -> None:
        """What was called back from ``child`` has come, and waits again."""
        child.recall_at = 0.0
        child.busy.difference_update(numbers)
        self.put_back([child.streams.pop(number) for number in numbers if number in child.streams])

    def put_back(self, loans: list[Loan]) -> None:
        """Have requests wait again that no thread of their process has taken before it ended."""
        self._crew.tally.requests -= len(loans)
        for loan in loans:
            self._crew.tally.end(loan)
            loan.put_back()
        self._waiting.extendleft(reversed(loans))
        self.serve_waiting()
        self._crew.tell_on()

    def _free(self, loan: Loan) -> Child | None:
        """Return the process with the fewest requests that may have ``loan``, None if all are busy."""
        found, least = None, sys.maxsize
        for child in self._crew.children.values():
            count = len(child.busy)
            if count < least and child.has_room(loan.body) and child.has(loan):
                found, least = child, count
        return found

    def _hand(self, child: Child, loan: Loan) -> None:
        """Give ``loan`` to ``child``."""
        if not loan.begin():
            return
        crew = self._crew
        number = child.sent = child.sent + 1
        child.streams[number] = loan
        child.busy.add(number)
        crew.tally.begin(loan)
        if not child.recall_at and child.is_ahead:
            child.recall_at = loan.begun_at + RECALL_S
            crew.wake()
        loan.on_take = lambda count: crew.tell(child, wire.pack(number, wire.CREDIT, b"%d" % count))
        loan.on_abandon = lambda is_late: self._on_abandon(child, number, is_late=is_late)
        body = loan.body
        frame = wire.pack_request(number, loan.call, loan.ends, body)
        if not body.size:
            crew.tell_later(child, frame)
            return
        crew.tell_later(child, frame, body.take_file())

    def _on_abandon(self, child: Child, number: int, *, is_late: bool) -> None:
        crew = self._crew
        with crew.lock:
            loan = child.streams.pop(number, None)
            if loan is None:
                return
            crew.tally.end(loan)
            child.busy.discard(number)
            if child.state == ENDED:
                return
            if is_late and child.has_begun(number):
                crew.log.error("%s takes too long; it is replaced, and its stacks are below", child.name)
                crew.stop(child)
            else:
                # Its thread is free when the application has noticed, which is not waited for.
                crew.tell_later(child, wire.pack(number, wire.CANCEL))
                self.serve_waiting()
                crew.tell_on()
