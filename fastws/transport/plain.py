"""The plain socket: bytes leave as they are, files by ``sendfile``, or read and sent where there is none."""

from __future__ import annotations

import errno
import os
import socket
import sys
from collections.abc import Callable, Sequence

from .. import portable
from ..seam import SMALL_BYTES, FileFailedError

READ_BYTES = 262144
"""A piece of the read/send loop, where there is no sendfile."""

_ENOTSUP = getattr(errno, "ENOTSUP", errno.EOPNOTSUPP)  # macOS has both
LACKS_SENDFILE = frozenset(
    (errno.EINVAL, errno.ENOSYS, errno.EPERM, errno.EOVERFLOW, errno.EOPNOTSUPP, _ENOTSUP)
)
"""What sendfile(2) fails with on file systems and in sandboxes that have none; see ``native/send_file.h``."""

_MSG_MORE = getattr(socket, "MSG_MORE", 0)


class PlainTransport:
    """See ``seam.Transport``. It owns the descriptor, which is non-blocking."""

    __slots__ = ("_by_sendfile", "_send_small", "_sock")

    holds_back = False

    def __init__(
        self,
        fd: int,
        peer: str,
        *,
        by_sendfile: bool = True,
        send_small: Callable[[int, bytes], int] | None = None,
    ) -> None:
        """``peer`` is the client's address as the reactor names it; without ``by_sendfile``, files are read.

        ``send_small`` is the reactor's.
        """
        self._by_sendfile = by_sendfile
        self._send_small = send_small
        family: int = socket.AF_INET6 if ":" in peer else socket.AF_INET
        if peer == "unix:" and portable.AF_UNIX is not None:
            family = portable.AF_UNIX
        self._sock = socket.socket(family, socket.SOCK_STREAM, 0, fd)
        if socket.getdefaulttimeout() is not None:  # an application has set it, for sockets of its own
            self._sock.setblocking(False)

    def receive(self, most: int) -> bytes:
        """See ``seam.Transport.receive``."""
        return self._sock.recv(most)

    def send(self, pieces: Sequence[bytes | memoryview], more: bool) -> int:
        """See ``seam.Transport.send``."""
        flags = _MSG_MORE if more else 0
        if not pieces:
            return 0  # nothing is ever kept
        if len(pieces) == 1:
            (piece,) = pieces
            if (
                self._send_small is not None
                and not more
                and len(piece) <= SMALL_BYTES
                and type(piece) is bytes
            ):
                return self._send_small(self._sock.fileno(), piece)
            return self._sock.send(piece, flags)
        return _send_gathered(self._sock, pieces, flags)

    def send_file(self, file: int, offset: int, count: int) -> int:
        """See ``seam.Transport.send_file``."""
        if self._by_sendfile:
            try:
                return _send_file(self._sock, file, offset, count)
            except (BlockingIOError, ConnectionError, TimeoutError):
                raise
            except OSError as error:
                if error.errno not in LACKS_SENDFILE:
                    raise FileFailedError(error.strerror) from error
        return _read_and_send(self._sock, file, offset, count)

    def unacknowledged(self) -> int:
        """See ``seam.Transport.unacknowledged``."""
        if sys.platform == "win32":
            return 0
        try:  # asked of slow connections only
            import fcntl
            import termios

            left = fcntl.ioctl(self._sock.fileno(), termios.TIOCOUTQ, bytes(4))  # tcp(7): SIOCOUTQ
        except (ImportError, OSError):
            return 0
        return int.from_bytes(left, sys.byteorder)

    def shut(self) -> None:
        """See ``seam.Transport.shut``."""
        self._sock.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """See ``seam.Transport.close``."""
        self._sock.close()

    def secured(self) -> None:
        """See ``seam.Transport.secured``."""


def _join_and_send(sock: socket.socket, pieces: Sequence[bytes | memoryview], flags: int) -> int:
    return sock.send(b"".join(pieces), flags)


def _read_and_send(sock: socket.socket, fd: int, offset: int, count: int) -> int:
    try:
        data = portable.read_at(fd, min(count, READ_BYTES), offset)
    except OSError as error:
        raise FileFailedError(error.strerror) from error
    return sock.send(data) if data else 0


_send_gathered, _send_file = _join_and_send, _read_and_send

if sys.platform != "win32":

    def _sendmsg(sock: socket.socket, pieces: Sequence[bytes | memoryview], flags: int) -> int:
        return sock.sendmsg(pieces, (), flags)

    def _sendfile(sock: socket.socket, fd: int, offset: int, count: int) -> int:
        return os.sendfile(sock.fileno(), fd, offset, count)

    _send_gathered = _sendmsg
    if hasattr(os, "sendfile"):
        _send_file = _sendfile
