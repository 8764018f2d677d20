"""A request on loan to an application, and its answer on the way back: the channel between the two.

One side is the connection's: its worker makes a loan, takes what of the answer is there, and may abandon it. The
other side is whatever runs the application, in a thread of this process or by way of another process.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from ..http.errors import FastwsError, HTTPError
from ..http.messages import FileSlice, Given
from ..language.named_tuple import NamedTuple
from .body import Spool
from .environ import Ends
from .mounts import Call

AHEAD_BYTES = 262144
"""An application whose answer is so far ahead of its reader waits, before it adds another piece."""

JOINED_BYTES = 1024
"""Pieces that wait together are one up to this size: each costs memory and a chunk of its own, however small."""


class AbandonedError(FastwsError):
    """Nobody waits for the answer any more: the client is gone, or had to be answered otherwise."""


Piece = bytes | FileSlice

_new_tuple = tuple.__new__


class Portion(NamedTuple):
    """What has come since the last one. ``error`` ends the answer: before a head it is the answer."""

    head: Given | None
    pieces: list[Piece]
    is_over: bool
    error: HTTPError | None


class Loan:
    """One request and its answer.

    ``resume`` is called, by any thread, when there is something to take. ``body`` belongs to the loan, and so do
    files in pieces until they are taken.
    """

    __slots__ = (
        "_bytes",
        "_error",
        "_head",
        "_is_over",
        "_is_told",
        "_lock",
        "_pieces",
        "_resume",
        "_room",
        "begun_at",
        "body",
        "call",
        "ends",
        "is_abandoned",
        "is_begun",
        "lent_at",
        "on_abandon",
        "on_take",
        "owed",
    )  # fmt: skip

    def __init__(self, call: Call, ends: Ends, body: Spool, resume: Callable[[], None]) -> None:
        self.call = call
        self.ends = ends
        self.body = body
        self.lent_at = time.monotonic()
        """When it was lent, in ``time.monotonic()`` seconds."""
        self.begun_at = 0.0
        """When an application got it; set by what counts that."""
        self.is_begun = False
        """Whether an application has it, or had it."""
        self.is_abandoned = False
        """Whether nobody waits for the answer any more."""
        self.on_take: Callable[[int], None] | None = None
        """Called with the bytes that were taken of an answer that is not whole; set by who began the loan."""
        self.on_abandon: Callable[[bool], None] | None = None
        """Called with whether it was too late, when nobody waits any more; set by who began the loan."""
        self.owed: int | None = None
        """What its process has announced of the body and not sent, in bytes, -1 if it has announced no length.

        None until it has sent a head.
        """
        self._resume = resume
        self._lock = threading.Lock()
        self._room: threading.Condition | None = None  # what an application waits for that is far ahead
        self._is_told = False  # since the last portion was taken
        self._head: Given | None = None
        self._pieces: list[Piece] = []
        self._bytes = 0  # in the pieces that are in memory
        self._is_over = False
        self._error: HTTPError | None = None

    # The application's side

    def begin(self) -> bool:
        """Tell that an application has it from now on, and closes the body; False if nobody waits any more."""
        with self._lock:
            self.is_begun = not self.is_abandoned
            return self.is_begun

    def put_back(self) -> None:
        """Tell that no application has it after all; its body must be in memory."""
        with self._lock:
            self.is_begun = False
            self.on_take = self.on_abandon = None

    def put(self, head: Given | None, *pieces: Piece, is_over: bool = False) -> None:
        """Add to the answer; waits while its reader is far behind. Raises ``AbandonedError``.

        A file in ``pieces`` is closed in any case.
        """
        self._add(head, pieces, is_over=is_over, waits=True)

    def deliver(self, head: Given | None, *pieces: Piece, is_over: bool = False) -> None:
        """Add to the answer without waiting. Raises ``AbandonedError``."""
        self._add(head, pieces, is_over=is_over, waits=False)

    def _add(self, head: Given | None, pieces: tuple[Piece, ...], *, is_over: bool, waits: bool) -> None:
        with self._lock:
            while waits and self._bytes > AHEAD_BYTES and not self.is_abandoned:
                self._room = self._room or threading.Condition(self._lock)
                self._room.wait()
            if self.is_abandoned:
                _close_files(pieces)
                raise AbandonedError
            if head is not None:
                self._head = head
            for piece in pieces:
                if isinstance(piece, bytes):
                    self._bytes += len(piece)
                    last = self._pieces[-1] if self._pieces else None
                    if isinstance(last, bytes) and len(last) + len(piece) <= JOINED_BYTES:
                        self._pieces[-1] = last + piece
                        continue
                self._pieces.append(piece)
            self._is_over = is_over
            is_told, self._is_told = self._is_told, True
        if not is_told:
            self._resume()  # without the lock, as what it calls may take at once

    def fail(self, error: HTTPError) -> None:
        """End the answer with an error; where a part of it is sent, the connection is cut."""
        with self._lock:
            if self.is_abandoned or self._is_over:
                return
            self._error = error
            is_told, self._is_told = self._is_told, True
        if not is_told:
            self._resume()

    # The connection's side

    def take(self) -> Portion:
        """Return what has come since the last call, perhaps nothing; its files are the caller's."""
        with self._lock:
            # To have its class called would cost three times as much.
            portion = _new_tuple(Portion, (self._head, self._pieces, self._is_over, self._error))
            taken, is_over = self._bytes, self._is_over
            self._head, self._pieces, self._bytes, self._is_told = None, [], 0, False
            if self._room is not None:
                self._room.notify_all()
        if taken and not is_over and self.on_take is not None:
            self.on_take(taken)
        return portion

    def abandon(self, *, is_late: bool = False) -> None:
        """Tell the application that nobody waits any more; a second call does nothing.

        ``is_late`` tells that the application took too long.
        """
        with self._lock:
            if self.is_abandoned:
                return
            self.is_abandoned = True
            _close_files(self._pieces)
            self._pieces = []
            if self._room is not None:
                self._room.notify_all()
            if not self.is_begun:
                self.body.close()
        if self.on_abandon is not None:
            self.on_abandon(is_late)


def _close_files(pieces: list[Piece] | tuple[Piece, ...]) -> None:
    for piece in pieces:
        if isinstance(piece, FileSlice):
            piece.file.close()
