"""Giving up root's rights once the sockets are bound."""

from __future__ import annotations

import os
from contextlib import suppress

from .errors import ConfigError, Problem

_LATER = ("ctypes", "difflib", "fcntl", "html", "ipaddress", "json", "termios", "urllib.parse")
"""What other modules import when they first need it, when the account may be unable to read them."""


def is_root() -> bool:
    """Tell whether this process has root's rights."""
    return hasattr(os, "geteuid") and os.geteuid() == 0


def drop_to(user: str) -> None:
    """Become ``user`` with that account's own groups, for ever.

    Raises ``ConfigError`` if there is no such account or this process may not become it. setuid(2) is per
    process here: the C library carries it to every thread.
    """
    import pwd  # only who names a user needs the database

    try:
        account = pwd.getpwnam(user)
    except KeyError:
        raise _problem(f"there is no account {user!r}; an account of this machine is needed") from None
    if os.geteuid() == account.pw_uid:
        return
    for name in _LATER:
        with suppress(ImportError):  # where it is missing, its user does without
            __import__(name)
    try:
        os.setgroups(os.getgrouplist(user, account.pw_gid))
        os.setgid(account.pw_gid)
        os.setuid(account.pw_uid)
    except OSError as error:
        raise _problem(
            f"cannot become {user!r}: {error.strerror}; the server must be started as root"
        ) from None


def _problem(text: str) -> ConfigError:
    return ConfigError((Problem("User", 0, text),))
