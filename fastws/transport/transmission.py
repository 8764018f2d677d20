"""The pieces of one response on their way into a socket: ``sendmsg`` for bytes, ``sendfile`` for files."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Sequence

from ..http.messages import FileSlice

TURN_BYTES = 2 << 20
"""What one connection may send of a file before others get their turn; nginx: sendfile_max_chunk 2m."""

READ_BYTES = 262144
"""A piece of the read/send loop, where the platform has no sendfile."""

JOIN_BYTES = 16384
"""A body up to this size is copied behind its head, which is cheaper than a vector of two."""

_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"

_MSG_MORE = getattr(socket, "MSG_MORE", 0)


def socket_over(fd: int, peer: str) -> socket.socket:
    """Return a socket object that owns ``fd``, a connection accepted from ``peer`` as the reactor names it."""
    family = socket.AF_UNIX if peer == "unix:" else socket.AF_INET6 if ":" in peer else socket.AF_INET
    return socket.socket(family, socket.SOCK_STREAM, 0, fd)


def invite_body(sock: socket.socket) -> bool:
    """Send 100 (Continue) (RFC 9110 section 10.1.1); False if the connection is broken."""
    try:
        # After a part of it whatever comes next would go on in the middle.
        return sock.send(_CONTINUE) == len(_CONTINUE)
    except BlockingIOError:
        return True  # the client reads nothing; it will find its own way
    except OSError:
        return False


class FileShrankError(Exception):
    """A file ended before the bytes that its response announced; the connection must end too."""


class Transmission:
    """One response being sent, of whose body ``body_sent`` bytes have been sent before."""

    __slots__ = ("_pieces", "_sent")

    def __init__(
        self, head: bytes, body: Sequence[bytes | memoryview | FileSlice], body_sent: int = 0
    ) -> None:
        self._sent = body_sent - len(head)
        self._pieces: list[bytes | memoryview | FileSlice]  # taken from the end
        only = body[0] if len(body) == 1 else None
        if isinstance(only, bytes) and len(only) <= JOIN_BYTES:
            self._pieces = [head + only]
            return
        self._pieces = []
        for piece in reversed(body):
            # What comes before a slice is sent with MSG_MORE, and would wait for an empty one.
            if not isinstance(piece, FileSlice) or piece.length:
                self._pieces.append(piece)
        self._pieces.append(head)

    @property
    def body_sent(self) -> int:
        """How many bytes after the head the socket took."""
        return self._sent if self._sent > 0 else 0

    @property
    def rest(self) -> FileSlice | None:
        """What is left to send, if it is nothing but one slice of a file."""
        last = self._pieces[0] if len(self._pieces) == 1 else None
        return last if isinstance(last, FileSlice) else None

    def skip(self, count: int) -> None:
        """Note that the reactor has sent ``count`` bytes of ``rest``."""
        if count and (piece := self.rest):
            self._pieces[0] = FileSlice(piece.file, piece.offset + count, piece.length - count)
            self._sent += count

    def send(self, sock: socket.socket) -> bool:
        """Send what the socket takes now; return whether that was all.

        Raises ``OSError`` if the connection is broken, ``FileShrankError`` if a file is.
        """
        pieces, limit = self._pieces, self._sent + TURN_BYTES
        try:
            while pieces and self._sent < limit:
                piece = pieces[-1]
                if isinstance(piece, FileSlice):
                    self._sent += self._send_slice(sock, piece, limit - self._sent)
                elif len(pieces) == 1 or isinstance(pieces[-2], FileSlice):
                    self._sent += self._send_piece(sock, piece)
                else:
                    self._sent += self._send_pieces(sock)
        except BlockingIOError:
            return False
        return not pieces

    def _send_piece(self, sock: socket.socket, piece: bytes | memoryview) -> int:
        """Send bytes that no other bytes follow; before a file slice they leave in one segment with it."""
        pieces = self._pieces
        sent = sock.send(piece, _MSG_MORE) if len(pieces) > 1 else sock.send(piece)
        if sent == len(piece):
            pieces.pop()
        else:
            pieces[-1] = memoryview(piece)[sent:]
        return sent

    def _send_pieces(self, sock: socket.socket) -> int:
        """Send the bytes before the next file slice in one call, so that they leave in one segment."""
        pieces = self._pieces
        start = len(pieces)
        while start and not isinstance(pieces[start - 1], FileSlice):
            start -= 1
        gathered = [piece for piece in reversed(pieces[start:]) if not isinstance(piece, FileSlice)]
        sent = left = sock.sendmsg(gathered, (), _MSG_MORE if start else 0)
        for piece in gathered:
            pieces.pop()
            if left < len(piece):
                pieces.append(memoryview(piece)[left:])
                break
            left -= len(piece)
        return sent

    def _send_slice(self, sock: socket.socket, piece: FileSlice, budget: int) -> int:
        count = min(piece.length, budget)
        sent = _send_file(sock, piece.file.fd, piece.offset, count) if count else 0
        if sent == piece.length:
            self._pieces.pop()
        elif sent:
            self._pieces[-1] = FileSlice(piece.file, piece.offset + sent, piece.length - sent)
        else:
            raise FileShrankError
        return sent


def unacknowledged_bytes(sock: socket.socket) -> int:
    """Return how many bytes sent the other side has not acknowledged; 0 where the platform does not tell."""
    try:  # asked of slow connections only, and nowhere but on POSIX
        import fcntl
        import termios

        left = fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, bytes(4))  # tcp(7): SIOCOUTQ
    except (ImportError, OSError):
        return 0
    return int.from_bytes(left, sys.byteorder)


def _sendfile(sock: socket.socket, fd: int, offset: int, count: int) -> int:
    return os.sendfile(sock.fileno(), fd, offset, count)


def _read_and_send(sock: socket.socket, fd: int, offset: int, count: int) -> int:
    data = os.pread(fd, min(count, READ_BYTES), offset)
    return sock.send(data) if data else 0


_send_file = _sendfile if hasattr(os, "sendfile") else _read_and_send
