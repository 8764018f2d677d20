"""A response being sent: the request it answers, and the bytes left to send."""

from __future__ import annotations

from ..files.root import Descriptor
from ..h1 import framing
from ..http.messages import FileSlice, Request, Response
from ..seam import PartialSend
from ..transport.transmission import Transmission

_END = b"\r\n"
_KEEP_ALIVE_END = b"Connection: keep-alive\r\n\r\n"
_CLOSE_END = b"Connection: close\r\n\r\n"


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
def head_end(request: Request | None, is_last: bool) -> bytes:
    """Return what ends the head of an answer to ``request``: whether the connection is kept."""
    if is_last:
        return _CLOSE_END
    return _KEEP_ALIVE_END if request is not None and request.version == "HTTP/1.0" else _END


def build_answer(
    request: Request | None, response: Response, head: bytes, date_line: bytes, *, is_last: bool
) -> Answer:
    """Return an answer of which nothing is sent; ``head`` is the response's, without what belongs to the moment.

    ``is_last`` tells that it is to be the last whatever request and response say.
    """
    is_last = is_last or response.close or request is None or not framing.is_persistent(request)
    transmission = Transmission(b"".join((head, date_line, head_end(request, is_last))), response.body)
    return Answer(request, response, transmission, is_last)


def continue_answer(request: Request | None, partial: PartialSend) -> Answer:
    """Return the rest of a response to ``request`` that the reactor began to replay."""
    file = None if partial.file < 0 else Descriptor(partial.file)
    done, left = partial.offset, partial.length - partial.offset
    begin = partial.begin + done
    rest = memoryview(partial.body)[begin : begin + left] if file is None else FileSlice(file, begin, left)
    transmission = Transmission(partial.head, (rest,), done)
    return Answer(request, Response(partial.status, (), (rest,), file), transmission, partial.close)
