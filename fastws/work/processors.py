"""How many processors this process may use."""

from __future__ import annotations

import os
from collections.abc import Iterator

CGROUPS = "/sys/fs/cgroup"
MOST = 256
"""As many as WorkerThreads may say."""

OWN_CGROUPS = "/proc/self/cgroup"


def processors() -> int:
    """Return the number of processors: PYTHON_CPU_COUNT, or those that affinity and the cgroup's quota allow."""
    said = os.environ.get("PYTHON_CPU_COUNT", "")  # Python 3.13 reads it itself; older ones do not
    if said.isascii() and said.isdigit() and int(said) > 0:
        return min(int(said), MOST)
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min([count, MOST, *_quotas()]))


def _quotas() -> Iterator[int]:
    """Yield the processors that each control group around this process allows, rounded up: cgroups(7)."""
    try:
        with open(OWN_CGROUPS, encoding="utf-8", errors="surrogateescape") as file:
            lines = file.read().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2) if line.count(":") > 1 else ("", "-", "")
        if not controllers:  # version 2: one tree, each group at most what those above it have
            for folder in _upwards(CGROUPS, path):
                yield from _quota(*_words(f"{folder}/cpu.max"))
        elif "cpu" in controllers.split(","):
            for tree in (f"{CGROUPS}/{controllers}", f"{CGROUPS}/cpu"):
                for folder in _upwards(tree, path):
                    quota, period = f"{folder}/cpu.cfs_quota_us", f"{folder}/cpu.cfs_period_us"
                    yield from _quota(*_words(quota), *_words(period))


def _upwards(tree: str, path: str) -> Iterator[str]:
    """Yield the folder of a group and of those above it. In a container the own path may lead nowhere."""
    names = [name for name in path.split("/") if name not in ("", "..")]
    for length in range(len(names), -1, -1):
        yield "/".join([tree, *names[:length]])


def _words(path: str) -> list[str]:
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            return file.read().split()
    except OSError:
        return []


def _quota(*words: str) -> Iterator[int]:
    if len(words) == 2 and all(
        word.isdigit() and int(word) > 0 for word in words
    ):  # else "max" or -1: no limit
        quota, period = map(int, words)
        yield -(-quota // period)
