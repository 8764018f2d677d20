"""Ratios that a noisy machine cannot bend: both candidates take turns, and the median round counts."""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median

ROUNDS = 21


def _cpu_ns(call: Callable[[], object], repeats: int) -> int:
    begin = time.process_time_ns()
    for _ in range(repeats):
        call()
    return time.process_time_ns() - begin


def ratio(mine: Callable[[], object], theirs: Callable[[], object], *, repeats: int) -> float:
    """Return the CPU time of ``mine`` over that of ``theirs``: the median of the rounds' ratios."""
    _cpu_ns(mine, repeats)
    _cpu_ns(theirs, repeats)
    return median(_cpu_ns(mine, repeats) / _cpu_ns(theirs, repeats) for _ in range(ROUNDS))
