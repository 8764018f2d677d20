"""Streams of an application process: each is one request, and its answer on the way to the server."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable

from ..application.body import Spool
from ..application.environ import Ends
from ..application.loan import AHEAD_BYTES, AbandonedError, Loan, Piece
from ..application.mounts import Call
from ..http.errors import HTTPError
from ..http.messages import FileSlice, Given
from . import wire

HOLD_S = 0.002
"""How long an answer is held, while the thread that makes it has more to do. One that took longer is not held."""

HOLD_BYTES = 65536
"""More is sent at once."""


class Outlet:
    """What a process sends to the server. Any thread may call.

    Quick answers are held until the thread that makes them has nothing more to do, so that many are sent in one
    step and the server is woken once for all of them.
    """

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self.disown()

    def disown(self) -> None:
        """Begin anew, in a process that an application has forked: another thread may have held the lock."""
        self._lock = threading.Lock()
        self._held: list[bytes] = []
        self._held_bytes = 0
        self._held_at = 0.0  # since when the first of them is

    def hold(self, data: bytes, now: float) -> None:
        """Send ``data`` with what comes next, or at the next ``flush``. Raises ``OSError``."""
        with self._lock:
            if not self._held:
                self._held_at = now
            self._held.append(data)
            self._held_bytes += len(data)
        if self._held_bytes > HOLD_BYTES or now - self._held_at > HOLD_S:
            self.flush()

    def flush(self) -> None:
        """Send what is held. Raises ``OSError``."""
        if self._held:
            self.send(b"")

    def finish(self) -> None:
        """Send what is held, and return when what another thread is sending is sent too. Raises ``OSError``."""
        self.send(b"")

    def send(self, data: bytes, fds: tuple[int, ...] = ()) -> None:
        """Send what is held, and all of ``data``. Raises ``OSError``."""
        with self._lock:
            if self._held:
                held, self._held, self._held_bytes = b"".join(self._held), [], 0
                self._sock.sendall(held if fds else held + data)
                if not fds:
                    return
            if data:
                view = memoryview(data)
                sent = wire.send(self._sock, view, fds)
                if sent < len(data):
                    self._sock.sendall(view[sent:])


class Stream:
    """One request, as the threads of this process have it: see ``Lent``, and ``Loan`` for what its methods do.

    A short answer that is put as a whole goes at once, as most do. Any other is a ``Flow``. ``forget`` is called
    with the number when all of the answer is sent.
    """

    __slots__ = (
        "_flow", "_forget", "_outlet", "begun_at", "body", "call", "ends", "is_abandoned", "lent_at", "number",
    )  # fmt: skip

    def __init__(
        self,
        outlet: Outlet,
        forget: Callable[[int], object],
        number: int,
        call: Call,
        ends: Ends,
        body: Spool,
    ) -> None:
        self._outlet = outlet
        self._forget = forget
        self.number = number
        self.call = call
        self.ends = ends
        self.body = body
        self.lent_at = self.begun_at = 0.0
        self.is_abandoned = False
        self._flow: Flow | None = None

    def begin(self) -> bool:
        """See ``Loan``."""
        if self.is_abandoned:
            self.body.close()
        return not self.is_abandoned

    def put(self, head: Given | None, *pieces: Piece, is_over: bool = False) -> None:
        """See ``Loan``."""
        if not (is_over and head is not None and self._flow is None and self._send_whole(head, pieces)):
            self._flow_on().loan.put(head, *pieces, is_over=is_over)

    def fail(self, error: HTTPError) -> None:
        """See ``Loan``."""
        if not self.is_abandoned:
            self._flow_on().loan.fail(error)

    def abandon(self) -> None:
        """Tell the application that nobody waits any more."""
        self.is_abandoned = True
        if self._flow is not None:
            self._flow.loan.abandon()

    def add_credit(self, count: int) -> None:
        """So many bytes more may be sent."""
        if self._flow is not None:
            self._flow.add_credit(count)

    def _flow_on(self) -> Flow:
        if self._flow is None:
            self._flow = Flow(self._outlet, self._forget, self.number, self)
        if self.is_abandoned:  # perhaps before there was a flow
            self._flow.loan.abandon()
        return self._flow

    def _send_whole(self, head: Given, pieces: tuple[Piece, ...]) -> bool:
        """Send an answer that is there as a whole in one frame; False if it is too long, or comes from a file."""
        if self.is_abandoned:
            raise AbandonedError
        body = b""
        for piece in pieces:
            if isinstance(piece, FileSlice) or len(body) + len(piece) > wire.PIECE_BYTES:
                return False
            body = body + piece if body else piece
        frame, now = wire.pack_answer(self.number, head, body), time.monotonic()
        try:
            if now - self.begun_at < HOLD_S:
                self._outlet.hold(frame, now)
            else:
                self._outlet.send(frame)
        except OSError as error:  # the server is gone, which is seen where it is read too
            raise AbandonedError from error
        finally:
            self.is_abandoned = True
            self._forget(self.number)
        return True


class Flow:
    """An answer of several parts, and what of it the server has room for."""

    __slots__ = (
        "_credit", "_flushing", "_forget", "_is_free", "_is_over", "_number", "_outlet", "_pending", "loan",
    )  # fmt: skip

    def __init__(self, outlet: Outlet, forget: Callable[[int], object], number: int, stream: Stream) -> None:
        self._outlet = outlet
        self._forget = forget
        self._number = number
        self._flushing = threading.Lock()
        self._credit = AHEAD_BYTES
        self._pending: list[Piece | memoryview] = []  # taken from the end
        self._is_over = self._is_free = False
        self.loan = Loan(stream.call, stream.ends, stream.body, self._flush)
        self.loan.begin()

    def add_credit(self, count: int) -> None:
        """So many bytes more may be sent."""
        with self._flushing:
            self._credit += count
        self._flush()

    def _flush(self) -> None:
        """Send what may be sent; called by the application's thread, and by the one that reads."""
        try:
            with self._flushing:
                is_over = self._send_on()
        except OSError:  # the server is gone, which is seen where it is read too
            self.loan.abandon()
            is_over = True
        if is_over:
            self._forget(self._number)

    def _send_on(self) -> bool:
        frames = b""
        while True:
            if not self._pending and not self._is_over:
                portion = self.loan.take()
                if portion.head is not None:
                    frames += wire.pack_head(self._number, portion.head)
                self._pending = [memoryview(x) if isinstance(x, bytes) else x for x in portion.pieces[::-1]]
                self._is_over = portion.is_over
                if portion.error is not None and not portion.pieces:
                    error = [portion.error.status, portion.error.detail]
                    self._outlet.send(frames + wire.pack_json(self._number, wire.ERROR, error))
                    return True
                if not self._pending and not self._is_over:
                    break  # the next piece will resume it
            frames = self._send_pending(frames)
            if self._pending or self._is_over:
                break
        is_whole = self._is_over and not self._pending
        if self._is_over and self._pending and not self._is_free:
            self._is_free = True
            frames += wire.pack(self._number, wire.FREE)
        if is_whole:
            frames += wire.pack(self._number, wire.OVER)
        if frames:
            self._outlet.send(frames)
        return is_whole

    def _send_pending(self, frames: bytes) -> bytes:
        """Send ``frames`` and the pieces behind it, as far as there is room; return what is not yet sent of it."""
        while self._pending and self._credit > 0:
            piece = self._pending.pop()
            if isinstance(piece, FileSlice):
                frames += wire.pack_json(self._number, wire.FILE, [piece.offset, piece.length])
                try:
                    self._outlet.send(frames, (piece.file.fd,))
                finally:
                    piece.file.close()
                frames = b""
                continue
            part = piece[: wire.PIECE_BYTES]
            if len(part) < len(piece):
                self._pending.append(piece[len(part) :])
            self._credit -= len(part)
            frames += wire.pack(self._number, wire.DATA, part)
            if len(frames) >= wire.PIECE_BYTES:
                self._outlet.send(frames)
                frames = b""
        return frames
