"""The connection's side of a request on loan: how its answer is framed in HTTP/1.x, portion by portion."""

from __future__ import annotations

import socket

from ..application.environ import Ends
from ..application.loan import Head, Loan, Piece, Portion
from ..h1 import framing
from ..http.messages import FileSlice, Response
from ..http.vocabulary import reason_phrase
from ..transport.transmission import JOIN_BYTES, Transmission
from .answer import Answer, head_end

_LAST_CHUNK = b"0\r\n\r\n"


def ends_of(fd: int, peer: str, scheme: str) -> Ends:
    """Return the ends of the connection with this descriptor; raises ``OSError`` if it is broken."""
    sock = socket.socket(fileno=fd)
    try:
        name = sock.getsockname()
    finally:
        sock.detach()
    if not isinstance(name, tuple):  # a Unix-domain socket
        return Ends(peer, "localhost", 80, scheme)
    return Ends(peer, name[0], name[1], scheme)


class Relay:
    """Makes messages of what an application answers; the body is chunked where its length is not known."""

    __slots__ = ("_is_chunked", "framing_bytes", "is_over", "loan")

    def __init__(self, loan: Loan) -> None:
        self.loan = loan
        self.is_over = False
        """Whether the last part of the answer is on its way or sent."""
        self.framing_bytes = 0
        """How many bytes of what follows the head are not of the body."""
        self._is_chunked = False

    def begin(self, portion: Portion, date_line: bytes, *, is_last: bool) -> Answer:
        """Return the answer with its first message; ``portion`` has the head.

        ``is_last`` tells that the connection ends after it in any case.
        """
        head, request = portion.head, self.loan.call.request
        assert head is not None
        is_last = is_last or not framing.is_persistent(request)
        is_bodiless = request.method == "HEAD" or head.status in (204, 304)
        if head.length is None and not is_bodiless:
            self._is_chunked = request.version != "HTTP/1.0"
            is_last = is_last or not self._is_chunked
        text = _head_text(head, self.loan, is_chunked=self._is_chunked)
        names = [name.lower() for name, _ in head.fields]
        lines = [text.encode("latin-1"), b"" if "date" in names else date_line, head_end(request, is_last)]
        response = Response(head.status, (), user=self.loan.call.user)
        return self._continue(portion, Answer(request, response, _NOTHING, is_last), b"".join(lines), 0)

    def go_on(self, portion: Portion, answer: Answer) -> Answer:
        """Return ``answer`` with its next message."""
        return self._continue(portion, answer, b"", answer.transmission.body_sent)

    def _continue(self, portion: Portion, answer: Answer, head: bytes, sent: int) -> Answer:
        pieces = portion.pieces
        if self._is_chunked:
            pieces = self._chunked(pieces, is_over=portion.is_over)
        for piece in pieces:
            if isinstance(piece, FileSlice):
                answer.response = answer.response._replace(file=piece.file)
        self.is_over = portion.is_over
        answer.transmission = Transmission(head, _joined(pieces), sent)
        return answer

    def _chunked(self, pieces: list[Piece], *, is_over: bool) -> list[Piece]:
        framed: list[Piece] = []
        for piece in pieces:
            size = piece.length if isinstance(piece, FileSlice) else len(piece)
            line = b"%x\r\n" % size
            framed += (line, piece, b"\r\n")
            self.framing_bytes += len(line) + 2
        if is_over:
            framed.append(_LAST_CHUNK)
            self.framing_bytes += len(_LAST_CHUNK)
        return framed


_NOTHING = Transmission(b"", ())


def _head_text(head: Head, loan: Loan, *, is_chunked: bool) -> str:
    fields = head.fields
    own = {name.lower() for name, _ in fields}
    fields += tuple([(name, value) for name, value in loan.call.fields if name.lower() not in own])
    if head.length is not None:
        fields += (("Content-Length", str(head.length)),)
    elif is_chunked:
        fields += (("Transfer-Encoding", "chunked"),)
    lines = "".join([f"{name}: {value}\r\n" for name, value in fields])
    return f"HTTP/1.1 {head.status} {head.reason or reason_phrase(head.status)}\r\n{lines}"


def _joined(pieces: list[Piece]) -> list[Piece]:
    """Return small pieces as one, which is cheaper to send, and others as they are."""
    if len(pieces) > 1 and not any(isinstance(piece, FileSlice) for piece in pieces):
        in_memory = [piece for piece in pieces if isinstance(piece, bytes)]
        if sum(map(len, in_memory)) <= JOIN_BYTES:
            return [b"".join(in_memory)]
    return pieces
