"""The pieces of one message on their way into a transport: bytes gathered into one call, files a slice a call."""

from __future__ import annotations

import errno
from collections.abc import Sequence

from ..http.messages import FileSlice
from ..seam import FileFailedError, Transport

TURN_BYTES = 2 << 20
"""What one connection may send of a file before others get their turn; nginx: sendfile_max_chunk 2m."""

JOIN_BYTES = 16384
"""A body up to this size is copied behind its head, which is cheaper than a vector of two."""

GATHERED_PIECES = 64
"""Pieces in one call: sendmsg(2) refuses more than IOV_MAX, 1024 on Linux; nginx: NGX_IOVS_PREALLOCATE 64."""


class FileShrankError(Exception):
    """A file ended before the bytes that its response announced; the connection must end too."""


_CLIENTS = frozenset((errno.EHOSTUNREACH, errno.ENETUNREACH, errno.ENETDOWN, errno.ENOTCONN, errno.EPROTO))
"""Beside ConnectionError and TimeoutError: the client, or the way to it, is gone."""


def why_cut(error: Exception) -> str:
    """Return why a message was not sent to its end, as the error log has it; '' if the client is to blame."""
    if isinstance(error, FileShrankError):
        return "a file shrank while it was sent"
    if isinstance(error, FileFailedError):
        return f"sending a file failed: {error}"
    if isinstance(error, ConnectionError | TimeoutError):
        return ""
    number = error.errno if isinstance(error, OSError) else None
    return "" if number in _CLIENTS else f"sending failed: {error}"


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
        """How many bytes after the head the transport took."""
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

    def send(self, transport: Transport) -> bool:
        """Send what ``transport`` takes now; return whether that was all.

        Raises ``OSError`` if the connection is broken, ``FileShrankError`` or ``FileFailedError`` if a file is.
        """
        pieces, limit = self._pieces, self._sent + TURN_BYTES
        try:
            if len(pieces) == 1 and isinstance(pieces[0], bytes):  # all of most messages
                sent = transport.send(pieces, False)  # type: ignore[arg-type]
                self._sent += sent
                if sent < len(pieces[0]):
                    pieces[0] = memoryview(pieces[0])[sent:]
                else:
                    pieces.clear()
            while pieces and self._sent < limit:
                piece = pieces[-1]
                if isinstance(piece, FileSlice):
                    self._sent += self._send_slice(transport, piece, limit - self._sent)
                elif len(pieces) == 1 or isinstance(pieces[-2], FileSlice):
                    self._sent += self._send_piece(transport, piece)
                else:
                    self._sent += self._send_pieces(transport)
            if not pieces:
                transport.send((), False)  # what it has taken, and the socket has not
        except BlockingIOError:
            return False
        return not pieces

    def _send_piece(self, transport: Transport, piece: bytes | memoryview) -> int:
        """Send bytes that no other bytes follow; before a file slice they leave in one segment with it."""
        pieces = self._pieces
        sent = transport.send((piece,), len(pieces) > 1)
        if sent == len(piece):
            pieces.pop()
        else:
            pieces[-1] = memoryview(piece)[sent:]
        return sent

    def _send_pieces(self, transport: Transport) -> int:
        """Send bytes before the next file slice in one call; what follows them may leave in the same segment."""
        pieces = self._pieces
        start = len(pieces)
        least = max(0, start - GATHERED_PIECES)
        while start > least and not isinstance(pieces[start - 1], FileSlice):
            start -= 1
        gathered = [piece for piece in reversed(pieces[start:]) if not isinstance(piece, FileSlice)]
        sent = left = transport.send(gathered, start > 0)
        for piece in gathered:
            pieces.pop()
            if left < len(piece):
                pieces.append(memoryview(piece)[left:])
                break
            left -= len(piece)
        return sent

    def _send_slice(self, transport: Transport, piece: FileSlice, budget: int) -> int:
        count = min(piece.length, budget)
        sent = transport.send_file(piece.file.fd, piece.offset, count) if count else 0
        if sent == piece.length:
            self._pieces.pop()
        elif sent:
            self._pieces[-1] = FileSlice(piece.file, piece.offset + sent, piece.length - sent)
        else:
            raise FileShrankError
        return sent
