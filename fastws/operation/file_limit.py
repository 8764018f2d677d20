"""How many files this process may have open."""

from __future__ import annotations

import sys
from contextlib import suppress


def raise_file_limit(wanted: int) -> int:
    """Raise the limit of open files to ``wanted``, or as far as that goes, and return the one that holds.

    A limit that is higher stays. Where there is no such limit, ``wanted`` is returned.
    """
    if sys.platform == "win32":
        return wanted
    try:
        import resource  # 0.2 ms that only a server needs, and which some Pythons lack
    except ImportError:
        return wanted
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return wanted
    most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft < most:
        with suppress(OSError, ValueError):  # macOS has a further limit, which getrlimit does not tell
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
            soft = most
    return soft
