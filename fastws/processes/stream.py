"""A stream of an application process: one request, and its answer on the way to the server."""

from __future__ import annotations

import threading
from typing import Protocol

from ..application.body import Spool
from ..application.environ import Ends
from ..application.loan import AHEAD_BYTES, Loan, Piece
from ..application.mounts import Call
from ..http.messages import FileSlice
from . import wire


class Process(Protocol):
    """The process, as its streams use it."""

    def send(self, data: bytes, fds: tuple[int, ...] = ()) -> None:
        """Send all of ``data``; any thread may. Raises ``OSError``."""

    def forget(self, number: int) -> None:
        """Have no such stream any more."""


class Stream:
    """One request, and what of its answer the server has room for."""

    def __init__(self, process: Process, number: int, call: Call, ends: Ends, body: Spool) -> None:
        self._process = process
        self._number = number
        self._flushing = threading.Lock()
        self._credit = AHEAD_BYTES
        self._pending: list[Piece | memoryview] = []  # taken from the end
        self._is_over = self._is_free = False
        self.loan = Loan(call, ends, body, self._flush)

    def add_credit(self, count: int) -> None:
        """So many bytes more may be sent."""
        with self._flushing:
            self._credit += count
        self._flush()

    def _flush(self) -> None:
        """Send what may be sent; called by the application's thread, and by the main one."""
        try:
            with self._flushing:
                is_over = self._send_on()
        except OSError:  # the server is gone, which the main thread sees too
            self.loan.abandon()
            is_over = True
        if is_over:
            self._process.forget(self._number)

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
                    self._process.send(frames + wire.pack_json(self._number, wire.ERROR, error))
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
            self._process.send(frames)
        return is_whole

    def _send_pending(self, frames: bytes) -> bytes:
        """Send ``frames`` and the pieces behind it, as far as there is room; return what is not yet sent of it."""
        while self._pending and self._credit > 0:
            piece = self._pending.pop()
            if isinstance(piece, FileSlice):
                frames += wire.pack_json(self._number, wire.FILE, [piece.offset, piece.length])
                try:
                    self._process.send(frames, (piece.file.fd,))
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
                self._process.send(frames)
                frames = b""
        return frames
