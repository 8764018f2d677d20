"""What this process may do and how many files it may open: the part of ``privileges`` that every platform has."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from typing import Protocol


class LogOpener(Protocol):
    """Makes what logs need. Raises ``OSError``."""

    def make_directory(self, path: str) -> None:
        """Make the directory ``path`` and those above it where they are missing."""

    def open(self, path: str, flags: int, mode: int) -> int:
        """Return a descriptor of ``path``, as ``os.open``."""

    def check(self, path: str) -> None:
        """Raise what making its directory and opening ``path`` to write would raise, and change nothing."""


class PlainLogOpener:
    """Opens logs with the rights that the process has and keeps."""

    def make_directory(self, path: str) -> None:
        """See ``LogOpener.make_directory``."""
        os.makedirs(path, exist_ok=True)

    def open(self, path: str, flags: int, mode: int) -> int:
        """See ``LogOpener.open``."""
        return os.open(path, flags, mode)

    def check(self, path: str) -> None:
        """See ``LogOpener.check``: whoever read the configuration has looked with the same rights."""


def is_root() -> bool:
    """Tell whether this process has root's rights."""
    if sys.platform == "win32":
        return False
    return os.geteuid() == 0


def log_opener(user: str | None) -> LogOpener:
    """Return what opens the logs of a server that changes to ``user``.

    Raises ``ConfigError`` if there is no such account.
    """
    if sys.platform != "win32" and user is not None and is_root():
        from .privileges import LogKeeper  # only who names a user needs it

        return LogKeeper(user)
    return PlainLogOpener()


def drop_to(user: str) -> None:
    """Become ``user``: see ``privileges.drop_to``. Where there are no accounts, no configuration has a user."""
    if sys.platform != "win32":
        from . import privileges

        privileges.drop_to(user)


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
