"""Which process gets a request, and the queue of those that wait for one."""

from __future__ import annotations

import collections
import json
import os

from ..application.loan import Loan
from . import wire
from .child import ENDED, Child
from .crew import Crew


class Handing:
    """Hands requests to the processes of a crew, by the thread that brings them."""

    def __init__(self, crew: Crew) -> None:
        self._crew = crew
        self._waiting: collections.deque[Loan] = collections.deque()
        self._streams = 0  # numbers of streams

    @property
    def waiting(self) -> int:
        """How many requests wait."""
        return len(self._waiting)

    def submit(self, loan: Loan) -> bool:
        """Have ``loan`` answered; False if too many others wait. Any thread may call."""
        crew = self._crew
        with crew.lock:
            if crew.is_closed:
                return False
            child = self._free(loan)
            if child is not None:
                self._hand(child, loan)
                return True
            if len(self._waiting) >= crew.settings.waiting:
                self._waiting = collections.deque(each for each in self._waiting if not each.is_abandoned)
                if len(self._waiting) >= crew.settings.waiting:
                    return False
            self._waiting.append(loan)
            return True

    def serve_waiting(self) -> None:
        """Hand out what waits, as far as there are free processes."""
        for _ in range(len(self._waiting)):
            loan = self._waiting.popleft()
            if loan.is_abandoned:
                continue
            child = self._free(loan)
            if child is None:
                self._waiting.append(loan)
            else:
                self._hand(child, loan)

    def finish(self, child: Child, number: int) -> None:
        """A stream is over, and its thread free."""
        crew = self._crew
        with crew.lock:
            loan = child.streams.pop(number, None)
            if loan is not None:
                crew.tally.end(loan)
            child.busy.discard(number)
            child.left -= 1
            if child.left == 0:
                child.is_due = True
                crew.wake()
            self.serve_waiting()

    def _free(self, loan: Loan) -> Child | None:
        """Return the process with the fewest requests that may have ``loan``, None if all are busy."""
        free = [child for child in self._crew.children.values() if child.takes(loan)]
        return min(free, key=lambda child: len(child.busy)) if free else None

    def _hand(self, child: Child, loan: Loan) -> None:
        """Give ``loan`` to ``child``."""
        if not loan.begin():
            return
        crew = self._crew
        self._streams = (self._streams + 1) % (1 << 32)
        number = self._streams
        child.streams[number] = loan
        child.busy.add(number)
        crew.tally.begin(loan)
        loan.on_take = lambda count: crew.tell(child, wire.pack(number, wire.CREDIT, b"%d" % count))
        loan.on_abandon = lambda is_late: self._on_abandon(child, number, is_late=is_late)
        call, body = loan.call, loan.body
        fd = body.fileno()
        told = {
            "prefix": call.mount.prefix,
            "name": call.mount.name,
            "request": call.request[:4],
            "path": (call.script_name, call.path_info, call.query),
            "user": call.user,
            "ends": loan.ends,
            "size": body.size,
            "has_file": fd >= 0,
        }
        text = json.dumps(told).encode()
        payload = len(text).to_bytes(4, "little") + text + body.read_memory()
        crew.tell(child, wire.pack(number, wire.REQUEST, payload), os.dup(fd) if fd >= 0 else -1)
        body.close()

    def _on_abandon(self, child: Child, number: int, *, is_late: bool) -> None:
        crew = self._crew
        with crew.lock:
            loan = child.streams.pop(number, None)
            if loan is None or child.state == ENDED:
                return
            crew.tally.end(loan)
            child.busy.discard(number)
            if is_late:
                crew.log.error("%s takes too long; it is replaced, and its stacks are below", child.name)
                crew.stop(child)
            else:
                # Its thread is free when the application has noticed, which is not waited for.
                crew.tell(child, wire.pack(number, wire.CANCEL))
                self.serve_waiting()
