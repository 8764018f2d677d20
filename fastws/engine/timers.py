"""Deadlines of many connections on a wheel of coarse ticks, never scanned as a whole."""

from __future__ import annotations

import heapq
import math
from typing import Generic, Protocol, TypeVar

TICK_S = 0.1
"""The most by which a deadline is met late."""


class Timed(Protocol):
    """Something with a place on the wheel; ``tick`` is 0 when it has none."""

    tick: int


T = TypeVar("T", bound=Timed)


class Timers(Generic[T]):
    """Tells which of its members are due. Times are seconds of one monotonic clock."""

    def __init__(self) -> None:
        self._buckets: dict[int, set[T]] = {}
        self._ticks: list[int] = []  # a heap of the buckets' keys

    def schedule(self, member: T, deadline: float) -> None:
        """Report ``member`` at or before ``deadline``; it re-arms itself if called early.

        A member scheduled for an earlier time stays there, so postponing a deadline costs nothing.
        """
        tick = int(deadline / TICK_S) + 1
        if member.tick:
            if member.tick <= tick:
                return
            self.cancel(member)
        bucket = self._buckets.get(tick)
        if bucket is None:
            bucket = self._buckets[tick] = set()
            heapq.heappush(self._ticks, tick)
        bucket.add(member)
        member.tick = tick

    def cancel(self, member: T) -> None:
        """Do not report ``member``."""
        if member.tick:
            self._buckets[member.tick].discard(member)
            member.tick = 0

    def next_deadline(self) -> float:
        """Return when the next bucket is due, or infinity."""
        return self._ticks[0] * TICK_S if self._ticks else math.inf

    def pop_due(self, now: float) -> list[T]:
        """Return the members whose deadline has passed; they are no longer scheduled."""
        due: list[T] = []
        while self._ticks and self._ticks[0] * TICK_S <= now:
            for member in self._buckets.pop(heapq.heappop(self._ticks)):
                member.tick = 0
                due.append(member)
        return due
