"""A response being sent: the request it answers, and the bytes left to send."""

from __future__ import annotations

from ..files.root import Descriptor
from ..h1 import framing
from ..http.messages import FileSlice, Request, Response
from ..seam import PartialSend
from ..transport.transmission import Transmission

_CLOSE_END = b"Connection: close\r\n\r\n"

Endings = tuple[bytes, bytes]
"""What ends the head of an answer after which the connection stays open, in HTTP/1.1 and in HTTP/1.0."""


def endings(keep_alive_line: bytes) -> Endings:
    """Return them; ``keep_alive_line`` is the field line of Keep-Alive, or empty.

    Connection names that in HTTP/1.1 too: it is of this connection alone (RFC 9110 section 7.6.1).
    """
    spelled = b"Connection: keep-alive\r\n" + keep_alive_line + b"\r\n"
    return (spelled if keep_alive_line else b"\r\n"), spelled


class Answer:
    """A response being sent. ``request`` is None where none could be read; ``is_last``: the connection ends."""

    __slots__ = ("is_last", "request", "response", "transmission")

    # By position: a keyword would cost as much as all the rest of it.
    def __init__(
        self, request: Request | None, response: Response, transmission: Transmission, is_last: bool
    ) -> None:
        self.request = request
        self.response = response
        self.transmission = transmission
        self.is_last = is_last

    def close(self) -> None:
        """Close the file it is sent from."""
        if self.response.file is not None:
            self.response.file.close()


# By position: see above.
def head_end(request: Request | None, is_last: bool, endings: Endings) -> bytes:
    """Return what ends the head of an answer to ``request``: whether the connection is kept."""
    if is_last:
        return _CLOSE_END
    return endings[request is not None and request.version == "HTTP/1.0"]


def build_answer(
    request: Request | None,
    response: Response,
    head: bytes,
    moment: bytes,
    endings: Endings,
    *,
    is_last: bool,
) -> Answer:
    """Return an answer of which nothing is sent.

    ``head`` is the response's; ``moment`` are the field lines that are this answer's alone.
    ``is_last`` tells that it is to be the last whatever request and response say.
    """
    is_last = is_last or response.close or request is None or not framing.is_persistent(request)
    transmission = Transmission(b"".join((head, moment, head_end(request, is_last, endings))), response.body)
    return Answer(request, response, transmission, is_last)


def continue_answer(request: Request | None, partial: PartialSend) -> Answer:
    """Return the rest of a response to ``request`` that the reactor began to replay."""
    file = None if partial.file < 0 else Descriptor(partial.file)
    done, left = partial.offset, partial.length - partial.offset
    begin = partial.begin + done
    rest = memoryview(partial.body)[begin : begin + left] if file is None else FileSlice(file, begin, left)
    transmission = Transmission(partial.head, (rest,), done)
    return Answer(request, Response(partial.status, (), (rest,), file), transmission, partial.close)
