"""TLS on a socket, pure: what a session enciphers is sent, and what the socket does not take is kept for a while.

Twin of what ``native/tls_session.h`` does with the descriptor.
"""

from __future__ import annotations

import collections
from collections.abc import Sequence
from contextlib import suppress

from .. import portable
from ..seam import TLS_FAILURES, ClearError, FileFailedError, RuleBrokenError, TLSContext, TLSCounters
from .plain import PlainTransport

RECEIVE_BYTES = 16384 + 1024
"""What is received at once, or more: a full record."""

CHUNK_BYTES = 65536
"""Plain bytes that are enciphered before the socket is tried; so much is kept at most, enciphered."""

JOIN_BYTES = 16384
"""Pieces are joined up to a full record, so that a head and what it announces share one."""


class TLSTally:
    """Counts the handshakes and failures of one worker's transports."""

    def __init__(self) -> None:
        self._opened = collections.Counter[str]()
        self._failed = collections.Counter[str]()
        self._resumed = 0

    def open(self, version: str, *, is_resumed: bool) -> None:
        """Count a handshake by its version."""
        self._opened[version] += 1
        self._resumed += is_resumed

    def fail(self, reason: str) -> None:
        """Count a failure by its reason, one of ``TLS_FAILURES``."""
        self._failed[reason] += 1

    def counters(self) -> TLSCounters:
        """Return the counts."""
        failures = tuple([self._failed[reason] for reason in TLS_FAILURES])
        return TLSCounters(self._opened["TLSv1.2"], self._opened["TLSv1.3"], self._resumed, failures)


class TLSTransport:
    """See ``seam.Transport``. It owns the descriptor, which is non-blocking."""

    __slots__ = ("_is_counted", "_is_open", "_is_over", "_kept", "_plain", "_session", "_tally")

    def __init__(self, context: TLSContext, tally: TLSTally, fd: int, peer: str) -> None:
        """``peer`` is the client's address as the reactor names it."""
        self._session = context.session()
        self._tally = tally
        self._is_counted = False  # among the failures
        self._is_open = False  # and counted among the handshakes
        self._plain = PlainTransport(fd, peer)
        self._kept = memoryview(b"")  # what the socket has not taken
        self._is_over = False  # what comes is thrown away

    @property
    def holds_back(self) -> bool:
        """See ``seam.Transport.holds_back``."""
        return self._session.has_ended and not self._is_over

    def receive(self, most: int) -> bytes:
        """See ``seam.Transport.receive``."""
        session = self._session
        if self._is_over or session.is_clear:
            return self._plain.receive(RECEIVE_BYTES)
        if self._kept:
            self._flush()
        return b"" if session.has_ended else self._receive(max(most, RECEIVE_BYTES))

    def _receive(self, most: int) -> bytes:
        session = self._session
        while True:
            try:
                data = self._plain.receive(most)
            except BlockingIOError:
                raise
            except OSError:
                self._note_loss()
                raise
            if not data:
                self._note_loss()
                return b""
            if (plain := self._decipher(data)) or session.has_ended:
                return plain

    def _decipher(self, data: bytes) -> bytes:
        try:
            plain = self._session.decipher(data)
            if self._session.is_broken:
                self._session.decipher(b"")  # raises: what came before is not answered either
        except ClearError:
            self._fail("plain_http")
            raise
        except RuleBrokenError as error:
            self._fail(error.reason)
            self._is_over = True
            with suppress(OSError):  # what there is to be said about it
                self._push(False)
            raise
        if not self._is_open and self._session.is_open:
            self._is_open = True
            self._tally.open(self._session.secured()[0], is_resumed=self._session.is_resumed)
        self._push(False)
        return plain

    def _note_loss(self) -> None:
        if not self._session.is_open:
            self._fail("closed")

    def _fail(self, reason: str) -> None:
        if not self._is_counted:
            self._is_counted = True
            self._tally.fail(reason)

    def _flush(self) -> None:
        """Send what is kept. Raises ``BlockingIOError`` if some of it is kept on."""
        while self._kept:
            self._kept = self._kept[self._plain.send((self._kept,), False) :]

    def _push(self, more: bool) -> bool:
        """Send what the session has enciphered, and keep what the socket does not take; return whether that is
        nothing. Nothing may be kept already.
        """
        data = self._session.take_outgoing()
        if not data:
            return True
        try:
            sent = self._plain.send((data,), more)
        except BlockingIOError:
            sent = 0
        except OSError:
            self._is_over = True  # what is lost leaves a gap behind which nothing can be read
            raise
        if sent == len(data):
            return True
        self._kept = memoryview(data)[sent:]
        return False

    def _may_send(self) -> None:
        """Raise ``BlockingIOError`` as long as something is kept, ``BrokenPipeError`` where there are no keys."""
        if self._kept:
            self._flush()
        if not self._session.is_open or self._is_over:
            raise BrokenPipeError

    def send(self, pieces: Sequence[bytes | memoryview], more: bool) -> int:
        """See ``seam.Transport.send``."""
        if not pieces:
            if self._kept:
                self._flush()
            return 0
        if self._session.is_clear:
            return self._plain.send((b"".join(pieces),), more)
        self._may_send()
        data = memoryview(pieces[0] if len(pieces) == 1 else b"".join(pieces))
        if len(data) <= CHUNK_BYTES:
            self._send_chunk(data, more, False)
            return len(data)
        sent = 0
        while sent < len(data):
            chunk = data[sent : sent + CHUNK_BYTES]
            state = self._send_chunk(chunk, more, sent > 0)
            if state is None:
                break
            sent += len(chunk)
            if not state:
                break
        return sent

    def _send_chunk(self, chunk: bytes | memoryview, more: bool, is_later: bool) -> bool | None:
        """Encipher and send; return whether nothing is kept, None if the connection is broken and ``is_later``.

        Then what was sent before is to be reported; the next call raises. Otherwise ``OSError`` is raised.
        """
        self._session.encipher(chunk)
        try:
            return self._push(more)
        except OSError:
            if is_later:
                return None
            raise

    def send_file(self, file: int, offset: int, count: int) -> int:
        """See ``seam.Transport.send_file``."""
        if not self._session.is_clear:
            self._may_send()
        sent = 0
        while sent < count:
            try:
                data = portable.read_at(file, min(CHUNK_BYTES, count - sent), offset + sent)
            except OSError as error:
                raise FileFailedError(error.strerror) from error
            if self._session.is_clear:
                return self._plain.send((data,), False) if data else 0
            if not data:
                break
            state = self._send_chunk(data, False, sent > 0)
            if state is None:
                break
            sent += len(data)
            if not state:
                break
        return sent

    def unacknowledged(self) -> int:
        """See ``seam.Transport.unacknowledged``."""
        return self._plain.unacknowledged() + len(self._kept)

    def shut(self) -> None:
        """See ``seam.Transport.shut``."""
        self._say_goodbye()
        self._plain.shut()

    def _say_goodbye(self) -> None:
        if not self._is_over and not self._kept and not self._session.is_clear:
            self._session.end()
            with suppress(OSError):
                self._push(False)
        self._is_over = True

    def close(self) -> None:
        """See ``seam.Transport.close``."""
        if not self._session.is_open:
            self._fail("timeout")
        self._say_goodbye()
        self._plain.close()

    def secured(self) -> tuple[str, str]:
        """See ``seam.Transport.secured``."""
        return self._session.secured()
