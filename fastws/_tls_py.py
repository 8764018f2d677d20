"""What TLS handshakes are made with, and TLS without a socket: the standard library's ``ssl`` over memory.

Twin of ``_tls.pyx`` and of ``native/tls_session.h``; the contract is ``backend.TLS`` and ``seam.TLSContext``.
Module ``ssl`` takes 10 ms and 4 MB, and is imported with the first context.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from .seam import ClearError, RuleBrokenError
from .tls.settings import TLSSettings, choosing_context

if TYPE_CHECKING:
    import ssl

side = "pure"

HEADER = 5
"""Bytes of a record before those that are enciphered."""

HANDSHAKE_RECORDS = 256
"""A client that needs more for a handshake is none."""

IDLE_RECORDS = 64
"""Records without a byte of data, of all that one connection sends after the handshake."""

RECORD = 16384
"""Plain bytes of a full record: RFC 8446 section 5.1."""

KINDS, LONGEST = range(20, 24), RECORD + 2048
"""Types of records, and how long one may be: RFC 5246 section 6.2."""

_REASONS = {
    "UNSUPPORTED_PROTOCOL": "version",
    "NO_SHARED_CIPHER": "cipher",
    "CERTIFICATE_VERIFY_FAILED": "client_certificate",
    "PEER_DID_NOT_RETURN_A_CERTIFICATE": "client_certificate",
}
"""What OpenSSL calls some of ``TLS_FAILURES``. Alerts of the client have ALERT in their names."""


def find() -> str:
    """See ``backend.TLS.find``."""
    try:
        import ssl  # noqa: F401
    except ImportError:
        return "this Python has no module ssl"
    return ""


def version() -> str:
    """See ``backend.TLS.version``."""
    import ssl

    return ssl.OPENSSL_VERSION


class Context:
    """See ``seam.TLSContext``."""

    side = "pure"

    def __init__(self, settings: TLSSettings, ticket_key: bytes) -> None:
        self._context = choosing_context(settings)

    def session(self) -> Session:
        """See ``seam.TLSContext.session``."""
        return Session(self._context)


class Session:
    """See ``seam.TLSSession``."""

    __slots__ = (
        "_failure", "_header", "_incoming", "_outgoing", "_record_left", "_records", "_ssl_object",
        "has_ended", "is_clear", "is_open",
    )  # fmt: skip

    def __init__(self, context: ssl.SSLContext) -> None:
        import ssl

        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._ssl_object = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._header = b""  # of the record that has begun
        self._record_left = 0  # of it, once the header is complete
        self._records = 0  # of the handshake; after it, those without data
        self._failure: RuleBrokenError | None = None
        self.is_open = self.is_clear = self.has_ended = False

    @property
    def is_broken(self) -> bool:
        """See ``seam.TLSSession.is_broken``."""
        return self._failure is not None

    def decipher(self, data: bytes) -> bytes:
        """See ``seam.TLSSession.decipher``."""
        if self._failure is not None:
            raise self._failure
        if not self.is_open and not self._records and not self._header and b"A" <= data[:1] <= b"Z":
            self.is_clear = True  # a method of HTTP, and no record
            raise ClearError
        if self.is_open and not self._header and len(data) == HEADER + int.from_bytes(data[3:HEADER]):
            self._incoming.write(data)  # one record, as of most requests
            data, pieces = b"", [self._open_record()]
        else:
            pieces = []
        while data and not self.has_ended and self._failure is None:
            size = self._record_part(data)
            self._take(data[:size], pieces)
            data = data[size:]
        if self._failure is not None and not pieces:
            raise self._failure
        return b"".join(pieces)

    def _record_part(self, data: bytes) -> int:
        """Return how many bytes of ``data`` belong to the record that has begun, or begins there."""
        part = 0
        if len(self._header) < HEADER:
            part = min(HEADER - len(self._header), len(data))
            self._header += data[:part]
            if len(self._header) < HEADER:
                return part
            self._record_left = int.from_bytes(self._header[3:])
        body = min(len(data) - part, self._record_left)
        self._record_left -= body
        return part + body

    def _take(self, part: bytes, pieces: list[bytes]) -> None:
        """Take a part of one record, and append what is in it."""
        self._incoming.write(part)
        if len(self._header) < HEADER or (self._record_left and not self._is_odd()):
            return  # the rest of it is to come
        self._header = b""
        if not self.is_open:
            self._records += 1
            self._shake_hands()
        else:
            pieces.append(self._open_record())

    def _is_odd(self) -> bool:
        """Tell whether the record's header is none that OpenSSL waits for the rest of."""
        kind, major, _, *size = self._header
        return kind not in KINDS or major != 3 or int.from_bytes(size) > LONGEST

    def _shake_hands(self) -> None:
        import ssl

        try:
            self._ssl_object.do_handshake()
        except ssl.SSLWantReadError:
            if self._records > HANDSHAKE_RECORDS:
                self._break_off("other", "a handshake without end")
        except ssl.SSLError as error:
            reason = error.reason or ""
            named = "refused_by_client" if "ALERT" in reason else "other"
            self._break_off(_REASONS.get(reason, named), reason)
        else:
            self.is_open, self._records = True, 0

    def _open_record(self) -> bytes:
        """Return what is in the record that is complete now; nothing, if it is close_notify or says nothing."""
        try:
            piece = self._ssl_object.read(RECORD)
            self.has_ended = not piece
        except OSError as error:  # all of module ssl's are
            self._note(error)
            return b""
        return piece

    def _note(self, error: OSError) -> None:
        """A record has no data: it says something else, breaks a rule, or ends what the client sends."""
        import ssl

        if not isinstance(error, ssl.SSLWantReadError):
            self._break_off("records", getattr(error, "reason", None) or "")
            return
        self._records += 1
        if self._records > IDLE_RECORDS:
            self._break_off("records", "records without data")

    def _break_off(self, reason: str, detail: str) -> None:
        self._failure = RuleBrokenError(reason, detail)

    @property
    def is_resumed(self) -> bool:
        """See ``seam.TLSSession.is_resumed``."""
        return bool(self._ssl_object.session_reused)

    def encipher(self, data: bytes | memoryview) -> None:
        """See ``seam.TLSSession.encipher``."""
        try:
            self._ssl_object.write(data)
        except OSError as error:  # after a broken rule
            raise BrokenPipeError from error

    def end(self) -> None:
        """See ``seam.TLSSession.end``."""
        import ssl

        if self.is_open and self._failure is None:
            with suppress(ssl.SSLError, OSError):  # the client has not said the same, and need not
                self._ssl_object.unwrap()

    def take_outgoing(self) -> bytes:
        """See ``seam.TLSSession.take_outgoing``."""
        return self._outgoing.read() if self._outgoing.pending else b""

    def secured(self) -> tuple[str, str]:
        """See ``seam.TLSSession.secured``."""
        cipher = self._ssl_object.cipher()
        return (self._ssl_object.version() or "", cipher[0] if cipher else "") if self.is_open else ("", "")
