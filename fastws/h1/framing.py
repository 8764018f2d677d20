"""Where a request's body ends and whether another request may follow: RFC 9112 sections 3.2, 6, 7 and 9.

Any doubt about where a message ends is answered 400 and the connection closes. The decoders are fed bytes
and touch no socket.
"""

from __future__ import annotations

import re

from ..http.errors import HTTPError
from ..http.messages import Limits, Request
from ..http.vocabulary import NO_TRAILERS, QUOTED_STRING, TOKEN

CHUNKED = -1
"""In place of a body's length: the chunked transfer coding delimits it."""

CHUNK_LINE_BYTES = 256
"""The longest chunk-size line with its extensions; nobody sends extensions, attackers send long ones."""

_BWS = r"[ \t]*"  # "bad" white space, which a recipient must take: senders once padded the size with it
_EXTENSION = rf"{_BWS};{_BWS}{TOKEN}(?:{_BWS}={_BWS}(?:{TOKEN}|{QUOTED_STRING}))?"
# Patterns are text: re compiles each when it is first needed, and keeps it; a start does not pay for it.
_CHUNK_SIZE = rb"[0-9A-Fa-f]{1,16}(?=[ \t;]|\Z)"
_EXTENSIONS = f"(?:{_EXTENSION})*".encode("latin-1")
_TRAILER = rb"(%b):[\t\x20-\x7e\x80-\xff]*" % TOKEN.encode()
_CODINGS = rf"{TOKEN}(?:[ \t]*,[ \t]*{TOKEN})*"


def body_length(request: Request) -> int:
    """Return the body's length in bytes, or ``CHUNKED`` (RFC 9112 section 6.3).

    Raises 400 where the framing is in any doubt, 501 for a transfer coding other than chunked.
    """
    coding = request.fields.get("transfer-encoding")
    length = request.fields.get("content-length")
    if coding is None:
        if length is None:
            return 0
        # No sign, no list, no white space inside; 18 digits are below 2^63.
        if length.isascii() and length.isdigit() and len(length) <= 18:
            return int(length)
        raise HTTPError(400, "The Content-Length field is not one decimal number below 10^18.", close=True)
    if length is not None:
        raise HTTPError(400, "Content-Length and Transfer-Encoding exclude each other.", close=True)
    if request.version == "HTTP/1.0":
        raise HTTPError(400, "HTTP/1.0 has no Transfer-Encoding.", close=True)
    coding = coding.lower()
    if coding == "chunked":
        return CHUNKED
    if re.fullmatch(_CODINGS, coding):
        names = [name.strip() for name in coding.split(",")]
        if names[-1] == "chunked" and "chunked" not in names[:-1]:
            raise HTTPError(501, "The only transfer coding understood is chunked.", close=True)
    raise HTTPError(400, "The Transfer-Encoding field does not end in chunked, once.", close=True)


def body_decoder(length: int, max_bytes: int, limits: Limits) -> LengthDecoder | ChunkedDecoder:
    """Return what takes a body of that length, or ``CHUNKED``, out of a stream; raises 413 if it is too large."""
    if length == CHUNKED:
        return ChunkedDecoder(max_bytes, limits)
    if length > max_bytes:
        raise HTTPError(413, f"The body is larger than {max_bytes} bytes.", close=True)
    return LengthDecoder(length)


def is_persistent(request: Request) -> bool:
    """Tell whether the client wants the connection kept open (RFC 9112 section 9.3)."""
    connection = request.fields.get("connection")
    if connection is None:
        return request.version != "HTTP/1.0"
    options = [option.strip(" \t") for option in connection.lower().split(",")]
    if "close" in options:
        return False
    return request.version != "HTTP/1.0" or "keep-alive" in options


def expects_continue(request: Request) -> bool:
    """Tell whether the client waits for ``100 Continue``; 417 for any other expectation (RFC 9110 §10.1.1)."""
    expect = request.fields.get("expect")
    if expect is None or request.version == "HTTP/1.0":
        return False
    if expect.lower() != "100-continue":
        raise HTTPError(417, "The only expectation understood is 100-continue.", close=True)
    return True


class LengthDecoder:
    """Takes a body of known length out of a stream."""

    def __init__(self, length: int) -> None:
        self.remaining = length
        self.received = 0
        self.body = bytearray()  # not a list of pieces: one of two bytes would take forty

    def feed(self, data: bytes) -> int:
        """Take what belongs to the body and return how many bytes of ``data`` that was."""
        taken = min(len(data), self.remaining)
        self.body += data[:taken]
        self.remaining -= taken
        self.received += taken
        return taken

    @property
    def is_complete(self) -> bool:
        """Whether the body has ended."""
        return self.remaining == 0


class ChunkedDecoder:
    """Takes a chunked body out of a stream (RFC 9112 section 7.1); trailers are checked and dropped.

    A trailer that would change what was decided before the body came is refused: what drops it and what
    obeys it would disagree (RFC 9110 section 6.5.1).
    Chunk sizes with their extensions are bounded as the data is: a body in chunks of one byte would cost
    many times what it brings.
    """

    def __init__(self, max_bytes: int, limits: Limits) -> None:
        self.body = bytearray()
        self.received = 0
        self.is_complete = False
        self._max_bytes = max_bytes
        self._overhead_left = max(max_bytes, limits.head_bytes)
        self._limits = limits
        self._size = 0
        self._in_trailer = False
        self._trailer_bytes = 0
        self._trailer_count = 0
        self._chunk_remaining = 0
        self._after_chunk = False
        self._line = b""

    def feed(self, data: bytes) -> int:
        """Take what belongs to the body and return how many bytes of ``data`` that was.

        Raises 400 for malformed chunks, 413 beyond ``max_bytes``, 431 for trailers beyond the head's limits.
        """
        position = 0
        while position < len(data) and not self.is_complete:
            if self._chunk_remaining:
                piece = data[position : position + self._chunk_remaining]
                self.body += piece
                self._chunk_remaining -= len(piece)
                self._after_chunk = not self._chunk_remaining
                position += len(piece)
            else:
                position = self._feed_line(data, position)
        self.received += position
        return position

    def _feed_line(self, data: bytes, position: int) -> int:
        end = data.find(b"\n", position)
        stop = len(data) if end < 0 else end + 1
        self._line += data[position:stop]
        longest = self._limits.head_bytes if self._in_trailer else CHUNK_LINE_BYTES
        if len(self._line) > longest:
            status = 431 if self._in_trailer else 400
            raise HTTPError(status, "A line of the chunked body is too long.", close=True)
        if self._after_chunk and self._line not in (b"\r", b"\r\n", b"\n"):
            raise HTTPError(400, "A chunk is longer than its size says.", close=True)
        if end >= 0:
            line, self._line = self._line, b""
            if not line.endswith(b"\r\n"):
                raise HTTPError(400, "A line of the chunked body ends without carriage return.", close=True)
            self._take_line(line[:-2])
        return stop

    def _take_line(self, line: bytes) -> None:
        if self._after_chunk:
            self._after_chunk = False
        elif self._in_trailer:
            self._take_trailer(line)
        else:
            self._chunk_remaining = _chunk_size(line)
            self._size += self._chunk_remaining
            if self._size > self._max_bytes:
                raise HTTPError(413, f"The body is larger than {self._max_bytes} bytes.", close=True)
            self._overhead_left -= len(line) + 4  # and the line ends after it and after the chunk
            if self._overhead_left < 0:
                raise HTTPError(413, "The body has too many chunks for its size.", close=True)
            self._in_trailer = self._chunk_remaining == 0

    def _take_trailer(self, line: bytes) -> None:
        if not line:
            self.is_complete = True
            return
        self._trailer_bytes += len(line) + 2
        self._trailer_count += 1
        if self._trailer_bytes > self._limits.head_bytes or self._trailer_count > self._limits.field_count:
            raise HTTPError(431, "The trailer section is too large.", close=True)
        match = re.fullmatch(_TRAILER, line)
        if not match:
            raise HTTPError(400, "A trailer field is malformed.", close=True)
        name = match.group(1).decode().lower()
        if name in NO_TRAILERS:
            raise HTTPError(400, f"The field {name} has no place in the trailer section.", close=True)


def _chunk_size(line: bytes) -> int:
    """Return the number that a chunk begins with; raises 400 for it and for its extensions (RFC 9112 §7.1.1)."""
    match = re.match(_CHUNK_SIZE, line)
    if not match:
        raise HTTPError(400, "A chunk size is not a hexadecimal number.", close=True)
    if not re.fullmatch(_EXTENSIONS, line[match.end() :]):
        raise HTTPError(400, "A chunk extension is not of the form: ;name or ;name=value.", close=True)
    return int(match.group(), 16)
