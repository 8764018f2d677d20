"""What this platform's Python lacks or does in its own way: flags, reading at an offset, sockets by their number.

On Windows a socket's number is a handle that os.read and os.close do not know, a file has to be opened as binary,
and there is no pread. Functions are looked up here at each call, so that a test can put another platform's here.
"""

from __future__ import annotations

import os
import selectors
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterable

READ_FLAGS: int = (
    os.O_RDONLY
    | getattr(os, "O_BINARY", 0)  # Windows would change line ends
    | getattr(os, "O_NONBLOCK", 0)  # a FIFO must not block,
    | getattr(os, "O_NOCTTY", 0)  # nor a terminal adopt
)
"""To open a file to be served. Python itself keeps descriptors from children."""

ROOT_FLAGS: int = getattr(os, "O_PATH", os.O_RDONLY) | getattr(os, "O_DIRECTORY", 0)
"""To open a directory below which others are opened."""

APPEND_FLAGS: int = (
    os.O_WRONLY
    | os.O_APPEND
    | os.O_CREAT
    | getattr(os, "O_BINARY", 0)
    | getattr(os, "O_NONBLOCK", 0)  # a FIFO must not block,
    | getattr(os, "O_NOCTTY", 0)  # nor a terminal adopt
)
"""To open a log. With append mode, rotation by copy-and-truncate works, and no writer overwrites another."""

AF_UNIX: int | None = getattr(socket, "AF_UNIX", None)
"""The family of Unix-domain sockets, None where Python has none."""

if sys.platform == "win32":
    SO_SAME_PORT = socket.SO_EXCLUSIVEADDRUSE
else:
    SO_SAME_PORT = socket.SO_REUSEADDR
"""To listen on a port again at once, and to be the only one there. On Windows, SO_REUSEADDR would let any program
take the port over."""

HAS_OPENAT: bool = os.open in os.supports_dir_fd and hasattr(os, "O_DIRECTORY")
"""Whether files can be opened below a directory that is open itself: openat(2)."""

CTIME_IS_OF_CHANGE: bool = os.name == "posix"
"""Whether ``st_ctime`` is the time of a file's last change. On Windows it is that of its creation."""

WATCHED_MOST: int | None = 500 if os.name == "nt" else None
"""How many connections one selector watches, None without a limit. On Windows, select() of CPython takes 512
sockets, listeners included."""

CONNECTIONS_MOST: int | None = None if WATCHED_MOST is None else 440
"""How many connections one worker lets in, None without a limit; the rest is for telling others why not."""


def _seek_and_read(file: int, count: int, offset: int) -> bytes:
    # Each open file is read by one thread at a time, so that nobody moves its position in between.
    os.lseek(file, offset, os.SEEK_SET)
    return os.read(file, count)


def _receive_by_object(number: int, most: int) -> bytes:
    sock = socket.socket(
        socket.AF_INET, socket.SOCK_STREAM, 0, number
    )  # the family matters to addresses only
    try:
        return sock.recv(most)
    finally:
        sock.detach()


read_at: Callable[[int, int, int], bytes] = getattr(os, "pread", _seek_and_read)
"""``read_at(file, count, offset)``: return up to ``count`` bytes of the descriptor ``file``, as pread(2) does."""


def is_readable(number: int) -> bool:
    """Tell whether bytes, or the end of the stream, wait to be read on the socket with that number."""
    with selectors.DefaultSelector() as selector:
        selector.register(number, selectors.EVENT_READ)
        return bool(selector.select(0))


receive: Callable[[int, int], bytes] = os.read if os.name == "posix" else _receive_by_object
"""``receive(number, most)``: return what came on the socket with that number, b"" at the end of the stream."""

close_socket: Callable[[int], None] = os.close if os.name == "posix" else socket.close
"""``close_socket(number)``: close the socket with that number."""


def call_in_forks(numbers: Iterable[int], be_free: Callable[[], None]) -> None:
    """Have ``be_free`` called in every child that this process forks, and signals ``numbers`` wait until then.

    One that came before would be taken by a handler that is not for the child, and be lost.
    """
    if sys.platform == "win32" or not hasattr(os, "register_at_fork"):
        return
    numbers = frozenset(numbers)
    mine = threading.local()

    def hold() -> None:
        mine.mask = signal.pthread_sigmask(signal.SIG_BLOCK, numbers)

    def release() -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, mine.mask)

    def release_child() -> None:
        be_free()
        release()

    os.register_at_fork(before=hold, after_in_parent=release, after_in_child=release_child)
