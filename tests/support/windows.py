"""Windows, as far as this machine can play it: what its Python lacks is hidden from the server, and does not work.

Played are Python's modules as they are there, sockets that are no descriptors, directories that cannot be opened,
and a ctime that is the time of creation. Not played are its file systems: names stay as they are here.
"""

from __future__ import annotations

import errno
import os
import selectors
import signal
import socket
import stat
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any, NoReturn

import pytest

from fastws import portable
from fastws.files import root as files
from fastws.files.ways import ByName
from fastws.record import process_samples
from fastws.transport import plain

LACKING = {
    "os": """
        O_CLOEXEC O_DIRECTORY O_NOCTTY O_NOFOLLOW O_NONBLOCK O_PATH O_SYNC chown chroot eventfd fchdir
        fchmod fchown fdatasync fork fstatvfs get_blocking getegid geteuid getgid getgrouplist getgroups
        getpgid getpriority getuid killpg lchown lockf memfd_create mkfifo mknod nice openpty pipe2 posix_fadvise
        posix_spawn pread preadv pwrite pwritev register_at_fork sched_yield sendfile
        set_blocking setegid seteuid setgid setgroups setsid setuid splice
        statvfs sync sysconf ttyname uname wait
    """,
    "socket": "AF_UNIX MSG_DONTWAIT MSG_MORE MSG_NOSIGNAL SOCK_CLOEXEC SOCK_NONBLOCK SO_REUSEPORT sethostname",
    "signal": "SIGALRM SIGCHLD SIGHUP SIGPIPE SIGQUIT SIGUSR1 SIGUSR2 alarm pause pthread_kill pthread_sigmask",
    "select": "epoll kqueue poll",
}
MODULES_LACKING = ("fcntl", "grp", "pwd", "resource", "termios", "tty", "pty", "syslog")


class Missing:
    """An attribute of a class that the class does not have."""

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __get__(self, instance: object, owner: type | None = None) -> NoReturn:
        raise AttributeError("not on this platform")


class Fewer(ModuleType):
    """A module without the names that are ``LACKING``."""

    def __init__(self, module: ModuleType) -> None:
        super().__init__(module.__name__)
        self.__dict__["_module"] = module
        self.__dict__["_lacking"] = frozenset(LACKING[module.__name__].split())

    def __getattr__(self, name: str) -> Any:
        if name in self._lacking:
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r} on this platform")
        return getattr(self._module, name)


class Os(Fewer):
    """``os`` without descriptors of directories, and without sockets as descriptors."""

    def __init__(self) -> None:
        super().__init__(os)
        self.supports_dir_fd: set[Any] = set()
        self.supports_fd: set[Any] = {os.stat}
        self.supports_effective_ids: set[Any] = set()
        self._created: dict[tuple[int, int], int] = {}
        for name in ("access", "mkdir", "readlink", "rename", "replace", "unlink", "rmdir"):
            setattr(self, name, _without_descriptors(getattr(os, name)))
        for name in ("read", "write", "close"):
            setattr(self, name, _not_for_sockets(getattr(os, name)))
        for name in ("scandir", "listdir"):
            setattr(self, name, _by_name_only(getattr(os, name)))

    def open(self, path: Any, flags: int, mode: int = 0o777, *, dir_fd: None = None) -> int:
        """Refuse directories."""
        _refuse_descriptor(dir_fd)
        if os.path.isdir(path):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
        return os.open(path, flags, mode)

    def stat(self, path: Any, *, dir_fd: None = None, follow_symlinks: bool = True) -> os.stat_result:
        """Tell the time of creation as ctime."""
        _refuse_descriptor(dir_fd)
        return self._aged(os.stat(path, follow_symlinks=follow_symlinks))

    def lstat(self, path: Any) -> os.stat_result:
        """Tell the time of creation as ctime."""
        return self.stat(path, follow_symlinks=False)

    def fstat(self, fd: int) -> os.stat_result:
        """Tell the time of creation as ctime."""
        return self._aged(os.fstat(fd))

    def _aged(self, info: os.stat_result) -> os.stat_result:
        created = self._created.setdefault((info.st_dev, info.st_ino), info.st_ctime_ns)
        times = {
            "st_atime_ns": info.st_atime_ns, "st_mtime_ns": info.st_mtime_ns, "st_ctime_ns": created,
            "st_atime": info.st_atime, "st_mtime": info.st_mtime, "st_ctime": created / 1e9,
        }  # fmt: skip
        return os.stat_result(info[:10], times)


def _refuse_descriptor(dir_fd: object) -> None:
    if dir_fd is not None:
        raise NotImplementedError("dir_fd unavailable on this platform")


def _without_descriptors(function: Callable[..., Any]) -> Callable[..., Any]:
    def call(*arguments: Any, **named: Any) -> Any:
        if named:
            raise NotImplementedError(f"{', '.join(named)} unavailable on this platform")
        return function(*arguments)

    return call


def _not_for_sockets(function: Callable[..., Any]) -> Callable[..., Any]:
    def call(fd: int, *arguments: Any) -> Any:
        if stat.S_ISSOCK(os.fstat(fd).st_mode):
            raise OSError(errno.EBADF, "a socket is no descriptor on this platform")
        return function(fd, *arguments)

    return call


def _by_name_only(function: Callable[..., Any]) -> Callable[..., Any]:
    def call(path: Any) -> Any:
        if isinstance(path, int):
            raise TypeError("path should be string, bytes, os.PathLike or None, not int")
        return function(path)

    return call


def become_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have every module of the server see ``os`` and its like as on Windows, and choose accordingly."""
    # poll rather than select, which knows no descriptor above 1023 here, and these tests open more.
    monkeypatch.setattr(
        selectors, "DefaultSelector", getattr(selectors, "PollSelector", selectors.SelectSelector)
    )
    for name in MODULES_LACKING:
        monkeypatch.setitem(sys.modules, name, None)  # type: ignore[arg-type]
    fewer: dict[ModuleType, ModuleType] = {
        os: Os(), socket: Fewer(socket), signal: Fewer(signal), selectors: selectors
    }  # fmt: skip
    for module in [each for name, each in sys.modules.items() if name.partition(".")[0] == "fastws"]:
        for name, value in list(vars(module).items()):
            if isinstance(value, ModuleType) and value in fewer:
                monkeypatch.setattr(module, name, fewer[value])
    monkeypatch.setattr(socket.socket, "sendmsg", Missing(), raising=False)
    monkeypatch.setattr(portable, "AF_UNIX", None)
    monkeypatch.setattr(portable, "HAS_OPENAT", False)
    monkeypatch.setattr(portable, "CTIME_IS_OF_CHANGE", False)
    monkeypatch.setattr(portable, "WATCHED_MOST", 500)
    monkeypatch.setattr(portable, "CONNECTIONS_MOST", 440)
    monkeypatch.setattr(portable, "read_at", portable._seek_and_read)
    monkeypatch.setattr(portable, "receive", portable._receive_by_object)
    monkeypatch.setattr(portable, "close_socket", socket.close)
    monkeypatch.setattr(files, "way_into", ByName)
    monkeypatch.setattr(plain, "_send_file", plain._read_and_send)
    monkeypatch.setattr(plain, "_send_gathered", plain._join_and_send)
    monkeypatch.setattr(process_samples, "PROC", "/nonexistent")
