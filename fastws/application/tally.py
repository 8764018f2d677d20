"""How applications do, counted for the status pages."""

from __future__ import annotations

import collections
import time
from collections.abc import Mapping

from ..language.named_tuple import NamedTuple
from .wsgi import Lent

ENDS = ("crashed", "hung", "recycled", "reloaded", "unimported")
"""Why an application process ended before the server did."""


class ApplicationStatus(NamedTuple):
    """What was counted since the start, and what is now.

    ``busy`` threads have a request, ``waiting`` requests wait for one. ``requests`` were handed to an application;
    they waited for ``waiting_s`` seconds together, and those that are over took ``running_s``. ``processes``
    serve; others have ended, by reason.
    """

    busy: int = 0
    waiting: int = 0
    requests: int = 0
    waiting_s: float = 0.0
    running_s: float = 0.0
    processes: int = 0
    ends: Mapping[str, int] = {}  # nothing changes it

    def plus(self, other: ApplicationStatus) -> ApplicationStatus:
        """Return the two together; only one of them has processes."""
        return ApplicationStatus(
            self.busy + other.busy,
            self.waiting + other.waiting,
            self.requests + other.requests,
            self.waiting_s + other.waiting_s,
            self.running_s + other.running_s,
            self.processes + other.processes,
            {**self.ends, **other.ends},
        )


class Tally:
    """Counts what one taker does; its lock is held."""

    def __init__(self) -> None:
        self.requests = 0
        self.waiting_s = self.running_s = 0.0
        self.ends: collections.Counter[str] = collections.Counter()

    def begin(self, loan: Lent, now: float | None = None) -> None:
        """Note that an application gets ``loan``, ``now`` in ``time.monotonic()`` seconds."""
        now = time.monotonic() if now is None else now
        self.requests += 1
        self.waiting_s += now - loan.lent_at
        loan.begun_at = now

    def end(self, loan: Lent, now: float | None = None) -> float:
        """Note that the application has done with ``loan``; return how many seconds it took."""
        took_s = (time.monotonic() if now is None else now) - loan.begun_at
        self.running_s += took_s
        return took_s

    def status(self, busy: int, waiting: int, processes: int = 0) -> ApplicationStatus:
        """Return the counts, and what is now."""
        return ApplicationStatus(
            busy, waiting, self.requests, self.waiting_s, self.running_s, processes, dict(self.ends)
        )
