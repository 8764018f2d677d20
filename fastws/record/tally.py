"""What one worker has answered, counted for the status pages."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence

from ..language.named_tuple import NamedTuple
from ..seam import DURATION_BOUNDS_S, ReplayCounters, TLSCounters

CONNECTION_STATES = ("idle", "head", "body", "waiting", "sending", "lingering", "lent", "kept")
"""What a connection may be doing, as engine/states.py has it; ``kept`` are those that compiled code has, which are
idle or answered there."""

STATUS_CLASSES = ("1xx", "2xx", "3xx", "4xx", "5xx")


class WorkerStatus(NamedTuple):
    """What one worker thread has counted since the start.

    ``requests`` is by status class, in the order of ``STATUS_CLASSES``. ``durations`` counts requests by
    latency, one number for each of ``DURATION_BOUNDS_S`` (not accumulated) and one for what took longer;
    ``duration_s`` is their sum in seconds. ``body_bytes`` are those really sent. Cache hits are the answers
    that were there already, misses all others; ``cache_bytes`` is what the published ones take. ``states`` counts
    connections in the order of ``CONNECTION_STATES``.
    """

    connections: int
    requests: Sequence[int]
    durations: Sequence[int]
    duration_s: float
    body_bytes: int
    cache_hits: int
    cache_misses: int
    cache_bytes: int
    tls: TLSCounters = TLSCounters()
    states: Sequence[int] = (0,) * len(CONNECTION_STATES)


class Tally:
    """Counts the answers that Python gave. Written by one thread; others may read what is there by then."""

    def __init__(self) -> None:
        self._requests = [0] * len(STATUS_CLASSES)
        self._durations = [0] * (len(DURATION_BOUNDS_S) + 1)
        self._duration_s = 0.0
        self._body_bytes = 0
        self.replayed_misses = 0
        """Answers that were replayed when they had just been published: misses, but counted among the replayed."""

    def add(self, status: int, body_bytes: int, duration_s: float) -> None:
        """Count one answer."""
        self._requests[status // 100 - 1] += 1
        self._durations[bisect_left(DURATION_BOUNDS_S, duration_s)] += 1
        self._duration_s += duration_s
        self._body_bytes += body_bytes

    def status(self, replayed: ReplayCounters, connections: int) -> WorkerStatus:
        """Return these counts together with those of the replayed answers."""
        requests = list(self._requests)
        requests[1] += replayed.hits - replayed.not_modified - replayed.missing
        requests[2] += replayed.not_modified
        requests[3] += replayed.missing
        replayed_misses = self.replayed_misses + replayed.filled
        return WorkerStatus(
            connections=connections,
            requests=requests,
            durations=[own + other for own, other in zip(self._durations, replayed.durations, strict=True)],
            duration_s=self._duration_s + replayed.duration_s,
            body_bytes=self._body_bytes + replayed.body_bytes,
            cache_hits=replayed.hits - replayed_misses,
            cache_misses=sum(self._requests) + replayed_misses,
            cache_bytes=replayed.entry_bytes,
        )
