"""Giving up root's rights once the sockets are bound, and the logs to whom they are given up for. POSIX only."""

from __future__ import annotations

import errno
import os
import stat
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING

from ..http.errors import ConfigError, Problem

assert sys.platform != "win32"  # for mypy; nothing imports this there

if TYPE_CHECKING:
    import pwd

_LATER = (
    "ctypes",
    "difflib",
    "encodings.unicode_escape",
    "fcntl",
    "html",
    "ipaddress",
    "json",
    "resource",
    "termios",
    "urllib.parse",
)
"""What other modules import when they first need it, when the account may be unable to read them."""

_LOOK = os.O_RDONLY | os.O_NONBLOCK
"""How a log is opened to see whether it can be."""

MAX_LINKS = 40  # Linux: path_resolution(7)


def drop_to(user: str) -> None:
    """Become ``user`` with that account's own groups, permanently.

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
    What it may not, root opens and gives to it, unless the account could have changed what leads there.
    Without ``user``, and without root's rights, this is ``os.open``. Raises ``ConfigError`` if there is no such
    account.
    """

    def __init__(self, user: str | None) -> None:
        self._account: pwd.struct_passwd | None = None
        if user is not None and os.geteuid() == 0:
            account = _find(user)
            self._account = account if account.pw_uid else None
            self._groups = os.getgrouplist(user, account.pw_gid)

    def make_directory(self, path: str) -> None:
        """Make the directory ``path`` and those above it where they are missing. Raises ``OSError``."""
        account = self._account
        if account is None or os.geteuid() != 0:
            os.makedirs(path, exist_ok=True)
            return
        with suppress(PermissionError), self._acting_as(account):
            os.makedirs(path, exist_ok=True)
            return
        os.close(self._enter(account, path, make=True))

    def open(self, path: str, flags: int, mode: int) -> int:
        """Return a descriptor of ``path``, as ``os.open``. Raises ``OSError``."""
        account = self._account
        if account is None or os.geteuid() != 0:
            return os.open(path, flags, mode)
        with suppress(PermissionError), self._acting_as(account):
            return os.open(path, flags, mode)
        return self._open_as_root(account, path, flags, mode)

    def check(self, path: str) -> None:
        """Raise the ``OSError`` of ``make_directory`` and ``open``, and change nothing."""
        account = self._account
        if account is None or os.geteuid() != 0:
            return
        there = path
        while not os.path.lexists(there):
            there = os.path.dirname(there)
        with self._acting_as(account):
            rights = os.W_OK if there == path else os.W_OK | os.X_OK
            if os.access(there, rights, effective_ids=True):
                return
        missing = os.path.relpath(path, there).partition("/")[0]  # "." where nothing is
        with suppress(FileNotFoundError):
            os.close(self._open_as_root(account, os.path.normpath(f"{there}/{missing}"), _LOOK, 0))

    def _open_as_root(
        self, account: pwd.struct_passwd, path: str, flags: int, mode: int, links: int = 0
    ) -> int:
        parent, name = os.path.split(path)
        directory = self._enter(account, parent)
        try:
            # /dev/stdout leads there, and what lies there has no other name.
            if _holds_own_descriptors(directory):
                return os.open(name, flags, mode, dir_fd=directory)
            if self._may_change(account, directory):
                raise _refusal(account, path)
            try:
                fd = os.open(name, flags | os.O_NOFOLLOW, mode, dir_fd=directory)
            except OSError as error:
                if error.errno != errno.ELOOP:
                    raise
                # The administrator's link, who may have as he likes, but what it leads to stays whose it is.
                target = os.path.join(parent, _read_link(account, path, directory, links))
                return self._open_as_root(account, target, flags, mode, links + 1)
        finally:
            os.close(directory)
        info = os.fstat(fd)
        is_lone = stat.S_ISREG(info.st_mode) and info.st_nlink == 1 and not links
        if is_lone and info.st_uid == 0 and flags != _LOOK:
            os.fchown(fd, account.pw_uid, account.pw_gid)
        return fd

    def _enter(self, account: pwd.struct_passwd, path: str, *, make: bool = False, links: int = 0) -> int:
        """Return a descriptor of the directory ``path``, reached by no step that the account may have made.

        Each name is looked up in a directory that is closed to the account, or in one such as ``/tmp`` and is a
        directory of root's, which the account can neither make nor move. Only root's links are followed.
        """
        names = [name for name in os.path.join(os.getcwd(), path).split("/") if name not in ("", ".")]
        with ExitStack() as opened:
            directory = _open_directory("/", None, opened)
            for position, name in enumerate(names):
                may_change = self._may_change(account, directory)
                here = "/" + "/".join(names[: position + 1])
                if may_change and not _is_sticky(directory):
                    raise _refusal(account, here)
                if make and not may_change:
                    with suppress(FileExistsError):
                        os.mkdir(name, dir_fd=directory)
                if stat.S_ISLNK(os.stat(name, dir_fd=directory, follow_symlinks=False).st_mode):
                    if may_change:
                        raise _refusal(account, here)
                    target = _read_link(account, here, directory, links)
                    onward = os.path.join(os.path.dirname(here), target, *names[position + 1 :])
                    return self._enter(account, onward, make=make, links=links + 1)
                directory = _open_directory(name, directory, opened)
                if may_change and os.fstat(directory).st_uid:
                    raise _refusal(account, here)
            return os.dup(directory)

    def _may_change(self, account: pwd.struct_passwd, directory: int) -> bool:
        """Tell whether the account may put names there, or give itself the right to."""
        if os.fstat(directory).st_uid == account.pw_uid:
            return True
        with self._acting_as(account):
            return os.access(".", os.W_OK, dir_fd=directory, effective_ids=True)

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


def _open_directory(name: str, parent: int | None, opened: ExitStack) -> int:
    fd = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
    opened.callback(os.close, fd)
    return fd


def _is_sticky(directory: int) -> bool:
    """Tell whether ``directory`` is one of root's where nobody may move what is another's."""
    info = os.fstat(directory)
    return info.st_uid == 0 and bool(info.st_mode & stat.S_ISVTX)


def _read_link(account: pwd.struct_passwd, path: str, directory: int, links: int) -> str:
    """Return where the link ``path`` in ``directory`` leads. Raises ``OSError`` if root did not put it there."""
    name = os.path.basename(path)
    if os.stat(name, dir_fd=directory, follow_symlinks=False).st_uid:
        raise _refusal(account, path)
    if links == MAX_LINKS:
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
    return os.readlink(name, dir_fd=directory)


def _holds_own_descriptors(directory: int) -> bool:
    try:
        return os.path.samestat(os.fstat(directory), os.stat("/proc/self/fd"))
    except OSError:
        return False


def _refusal(account: pwd.struct_passwd, path: str) -> OSError:
    text = f"root opens no log by a name that {account.pw_name!r} may have made and may not open itself"
    return PermissionError(errno.EACCES, text, path)


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
