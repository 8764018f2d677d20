"""Giving up root's rights once the sockets are bound, and the logs to whom they are given up for."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from .errors import ConfigError, Problem

if TYPE_CHECKING:
    import pwd

_LATER = ("ctypes", "difflib", "fcntl", "html", "ipaddress", "json", "resource", "termios", "urllib.parse")
"""What other modules import when they first need it, when the account may be unable to read them."""


def is_root() -> bool:
    """Tell whether this process has root's rights."""
    return hasattr(os, "geteuid") and os.geteuid() == 0


def drop_to(user: str) -> None:
    """Become ``user`` with that account's own groups, for ever.

    Raises ``ConfigError`` if there is no such account or this process may not become it. setuid(2) is per
    process here: the C library carries it to every thread.
    """
    account = _find(user)
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
        raise _cannot_become(user, error) from None


class LogKeeper:
    """Opens logs so that ``user`` can open them again once root's rights are gone.

    What the account itself may open or make, it does: links that it has put in the way then lead root nowhere.
    What it may not, root opens and gives to it. Without ``user``, and without root's rights, this is ``os.open``.
    Raises ``ConfigError`` if there is no such account.
    """

    def __init__(self, user: str | None) -> None:
        self._account: pwd.struct_passwd | None = None
        if user is not None and is_root():
            account = _find(user)
            self._account = account if account.pw_uid else None
            self._groups = os.getgrouplist(user, account.pw_gid)

    def open(self, path: str, flags: int, mode: int) -> int:
        """Return a descriptor of ``path``, as ``os.open``. Raises ``OSError``."""
        account = self._account
        if account is None or not is_root():
            return os.open(path, flags, mode)
        with suppress(PermissionError), self._acting_as(account):
            return os.open(path, flags, mode)
        directory = os.open(os.path.dirname(path), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            with self._acting_as(account):
                is_its_own = os.access(".", os.W_OK, dir_fd=directory, effective_ids=True)
            name = os.path.basename(path)
            try:
                fd = os.open(name, flags | os.O_NOFOLLOW, mode, dir_fd=directory)
            except OSError as error:
                if error.errno != errno.ELOOP or is_its_own:
                    raise
                return os.open(name, flags, mode, dir_fd=directory)  # the administrator's link: /dev/stdout
        finally:
            os.close(directory)
        info = os.fstat(fd)
        # In a directory of its own the account may have put a file that is none of its business.
        if stat.S_ISREG(info.st_mode) and info.st_uid == 0 and info.st_nlink == 1 and not is_its_own:
            os.fchown(fd, account.pw_uid, account.pw_gid)
        return fd

    @contextmanager
    def _acting_as(self, account: pwd.struct_passwd) -> Iterator[None]:
        """Have the account's rights and no more until the block ends."""
        groups, group = os.getgroups(), os.getegid()
        try:
            try:
                os.setgroups(self._groups)
                os.setegid(account.pw_gid)
                os.seteuid(account.pw_uid)
            except OSError as error:
                raise _cannot_become(account.pw_name, error) from None
            yield
        finally:
            os.seteuid(0)
            os.setegid(group)
            os.setgroups(groups)


def _find(user: str) -> pwd.struct_passwd:
    import pwd  # only who names a user needs the database

    try:
        return pwd.getpwnam(user)
    except KeyError:
        raise _problem(f"there is no account {user!r}; an account of this machine is needed") from None


def _cannot_become(user: str, error: OSError) -> ConfigError:
    return _problem(f"cannot become {user!r}: {error.strerror}; the server must be started as root")


def _problem(text: str) -> ConfigError:
    return ConfigError((Problem("User", 0, text),))
