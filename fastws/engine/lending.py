"""The connection's side of requests on loan: lent, called back, and their answers framed in HTTP/1.x."""

from __future__ import annotations

import functools
import socket

from ..application.body import NO_BODY, Spool
from ..application.environ import Ends
from ..application.loan import Loan, Piece, Portion
from ..application.mounts import Call
from ..h1 import framing
from ..http.errors import HTTPError
from ..http.forwarded import Sender
from ..http.messages import FileSlice, Given, Response
from ..transport.transmission import JOIN_BYTES, Transmission
from .answer import Answer, head_end
from .connection import Connection

KNOWN_RESPONSES = 1024
"""Pairs of a status and a user that need not be made again for each answer."""

_LAST_CHUNK = b"0\r\n\r\n"
_CHUNKED = b"Transfer-Encoding: chunked\r\n"


def _ends_of(connection: Connection) -> Ends:
    """Return the ends of a connection; raises ``OSError`` if it is broken."""
    scheme = "http" if connection.secured is None else "https"
    sock = socket.socket(fileno=connection.fd)
    try:
        name = sock.getsockname()
    finally:
        sock.detach()
    if not isinstance(name, tuple):  # a Unix-domain socket, whose client a preamble may have named
        return Ends(connection.peer, "localhost", 0, scheme)
    return Ends(connection.peer, name[0], name[1], scheme)


class Lending:
    """Lends the requests of one connection, one at a time. A body of unknown length is chunked."""

    __slots__ = (
        "_connection",
        "_ends",
        "_framing_bytes",
        "_is_chunked",
        "_loan",
        "_resume",
        "_shared",
        "_spool",
        "is_over",
    )  # fmt: skip

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._shared = connection.shared
        self._ends: Ends | None = None
        self._resume = functools.partial(connection.shared.resume, connection)  # called by other threads
        self._spool: Spool | None = None  # of the body that is arriving
        self._loan: Loan | None = None
        self.is_over = True
        """Whether nothing more comes: the last part of an answer is on its way or sent."""
        self._framing_bytes = 0
        self._is_chunked = False

    def begin_body(self) -> None:
        """The body of a request for an application is about to arrive."""
        self._spool = Spool()

    def add(self, data: bytearray) -> None:
        """Move ``data`` to the body, if it is for an application. Raises ``HTTPError`` 507."""
        if self._spool is not None:
            self._spool += data
            data.clear()

    def lend(self, call: Call, sender: Sender) -> HTTPError | None:
        """Let an application have the request of ``sender``, with all of its body; return the error if it cannot.

        Raises ``OSError`` if the connection is broken.
        """
        ends = self._ends
        if ends is None:
            ends = self._ends = _ends_of(self._connection)
        spool, self._spool = self._spool or NO_BODY, None
        if sender.scheme or sender.peer != ends.peer:
            ends = ends._replace(peer=sender.peer, scheme=sender.scheme or ends.scheme)
        self._loan = loan = Loan(call, ends, spool, self._resume)
        self.is_over, self._framing_bytes, self._is_chunked = False, 0, False
        if self._shared.applications.submit(loan):
            return None
        loan.abandon()
        self.finish()
        return HTTPError(503, "Too many requests wait for the application.")

    def take(self, answer: Answer | None) -> Answer | HTTPError | None:
        """Return the answer with its next message, if anything has come since the last; or why there is no more.

        ``answer`` is the one that has begun.
        """
        loan = self._loan
        if loan is None:
            return None
        portion = loan.take()
        head = portion.head
        if head is not None:
            return self._begin(portion, head, loan.call)
        if portion.error is not None and not (answer and portion.pieces):
            return portion.error
        if answer is None or not (portion.pieces or portion.is_over):
            return None
        return self._continue(portion, answer, b"", answer.transmission.body_sent)

    def call_back(self, answer: Answer | None) -> HTTPError:
        """End a loan that has lasted too long; return what it is answered by, if nothing is sent yet."""
        loan = self._loan
        assert loan is not None
        loan.abandon(is_late=True)
        if answer is not None:
            self._shared.logger.error(
                "application %s: nothing more of an answer came in time; the connection to %s is closed",
                loan.call.mount,
                self._connection.peer,
            )
        elif not loan.is_begun:
            return HTTPError(503, "No thread was free for the application in time.")
        return HTTPError(504, "The application did not answer in time.")

    def finish(self) -> int:
        """The answer is sent, or another one is; return how many bytes after its head are not of the body."""
        framing_bytes, self._framing_bytes, self._loan, self.is_over = self._framing_bytes, 0, None, True
        return framing_bytes

    def abandon(self) -> None:
        """Nobody waits for an answer any more. A body that has begun to arrive is dropped."""
        if self._loan is not None:
            self._loan.abandon()
        self.drop_body()

    def drop_body(self) -> None:
        """Let go of a body that nobody will read."""
        spool, self._spool = self._spool, None
        if spool is not None:
            spool.close()

    # Framing

    def _begin(self, portion: Portion, head: Given, call: Call) -> Answer:
        request, shared = call.request, self._shared
        is_last = shared.is_draining or not framing.is_persistent(request)
        status, lines, length, is_dated = head
        framed = b""
        if length is not None:
            framed = b"Content-Length: %d\r\n" % length
        elif request.method != "HEAD" and status not in (204, 304):
            self._is_chunked = request.version != "HTTP/1.0"
            framed = _CHUNKED if self._is_chunked else b""
            is_last = is_last or not self._is_chunked
        date = b"" if is_dated else shared.clock.date_line
        begin = b"".join((lines, framed, date, head_end(request, is_last, shared.endings)))
        answer = Answer(request, _response(status, call.user), _NOTHING, is_last)
        return self._continue(portion, answer, begin, 0)

    def _continue(self, portion: Portion, answer: Answer, head: bytes, sent: int) -> Answer:
        _, pieces, is_over, _ = portion
        self.is_over = is_over
        if self._is_chunked:
            pieces = self._chunked(pieces, is_over=is_over)
        for piece in pieces:
            if isinstance(piece, FileSlice):
                answer.response = answer.response._replace(file=piece.file)
        answer.transmission = Transmission(head, pieces if len(pieces) == 1 else _joined(pieces), sent)
        return answer

    def _chunked(self, pieces: list[Piece], *, is_over: bool) -> list[Piece]:
        framed: list[Piece] = []
        for piece in pieces:
            size = piece.length if isinstance(piece, FileSlice) else len(piece)
            line = b"%x\r\n" % size
            framed += (line, piece, b"\r\n")
            self._framing_bytes += len(line) + 2
        if is_over:
            framed.append(_LAST_CHUNK)
            self._framing_bytes += len(_LAST_CHUNK)
        return framed


_NOTHING = Transmission(b"", ())


@functools.lru_cache(KNOWN_RESPONSES)
def _response(status: int, user: str) -> Response:
    """Return what is recorded of an answer without a file."""
    return Response(status, (), user=user)


def _joined(pieces: list[Piece]) -> list[Piece]:
    """Return small pieces as one, which is cheaper to send, and others as they are."""
    if len(pieces) > 1 and not any(isinstance(piece, FileSlice) for piece in pieces):
        in_memory = [piece for piece in pieces if isinstance(piece, bytes)]
        if sum(map(len, in_memory)) <= JOIN_BYTES:
            return [b"".join(in_memory)]
    return pieces
