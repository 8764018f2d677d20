"""What this process takes of the machine: open files, memory, time.

Everything here is left out where the platform does not tell.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from functools import cache

from ..language.named_tuple import NamedTuple

PROC = "/proc/self"
_START_FIELD = 19  # of proc(5) stat after the name in parentheses: starttime, the 22nd of all


class Sample(NamedTuple):
    """One number about the process, by the name that Prometheus's own clients give it."""

    name: str
    kind: str
    meaning: str
    value: float


def process_samples() -> list[Sample]:
    """Return what the platform tells about this process."""
    samples: list[Sample] = []
    for name, kind, meaning, read in _SAMPLES:
        with suppress(OSError, ValueError, ImportError):
            samples.append(Sample(name, kind, meaning, read()))
    return samples


def _resident_bytes() -> int:
    if sys.platform != "linux":
        raise OSError
    with open(f"{PROC}/statm", "rb") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _open_files() -> int:
    # From Linux 6.2 on the size of the directory is their number; with many it saves milliseconds.
    return os.stat(f"{PROC}/fd").st_size or len(os.listdir(f"{PROC}/fd")) - 1


def _file_limit() -> int:
    if sys.platform == "win32":
        raise OSError
    import resource

    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def _start_time_s() -> float:
    return _start_time_of(os.getpid())


@cache
def _start_time_of(_: int) -> float:
    """Return when the process began, in seconds of the system's clock as it was when this was first asked."""
    if sys.platform != "linux":
        raise OSError
    with open(f"{PROC}/stat", "rb") as file:
        ticks = int(file.read().rpartition(b")")[2].split()[_START_FIELD])
    age_s = time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")
    return round(time.time() - age_s, 2)


_SAMPLES: tuple[tuple[str, str, str, Callable[[], float]], ...] = (
    ("process_start_time_seconds", "gauge", "When the process began, in seconds since 1970.", _start_time_s),
    ("process_cpu_seconds_total", "counter", "CPU time of the process.", time.process_time),
    ("process_resident_memory_bytes", "gauge", "Memory of the process that is in RAM.", _resident_bytes),
    ("process_open_fds", "gauge", "Open descriptors.", _open_files),
    ("process_max_fds", "gauge", "The limit of open descriptors.", _file_limit),
)
