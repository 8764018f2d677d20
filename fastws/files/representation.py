"""One form of a resource that could be sent: its validators, its fields, and its bytes, whole or in part."""

from __future__ import annotations

from collections.abc import Mapping

from .. import portable
from ..http import conditional, ranges
from ..http.httpdate import format_http_date
from ..http.messages import Fields, FileSlice, Identity, Readable, Response
from ..http.negotiation import IDENTITY_CODING
from ..language.named_tuple import NamedTuple
from .contents import Content, Contents
from .root import OpenFile, error_from_errno

VARY_CODINGS: Fields = (("Vary", "Accept-Encoding"),)

INLINE_BYTES = 16384
"""As much of a file is read, and sent in one piece with its head: cheaper than sending it from the file."""

_SECOND_NS = 1_000_000_000
_NOT_IN_304 = frozenset({"Content-Type", "Content-Encoding", "Content-Length", "Accept-Ranges"})


class Form(NamedTuple):
    """What is said of one form of a file: all of it but its bytes.

    ``coding`` is the content coding, or ``IDENTITY_CODING``; ``identity`` is that of the file that holds the form,
    or that it was made from. ``last_modified`` is in seconds since the epoch, None where it says nothing.
    ``is_settled`` tells that all of it is true as long as the identity is the same.
    """

    coding: str
    size: int
    etag: str
    identity: Identity
    last_modified: int | None
    is_settled: bool

    @property
    def is_coded(self) -> bool:
        """Whether a coding is applied; then no ranges are served."""
        return self.coding != IDENTITY_CODING

    def is_like(self, other: Form) -> bool:
        """Tell whether the two are described by the same fields."""
        return self.etag == other.etag and self.last_modified == other.last_modified


class Representation(NamedTuple):
    """A form with its bytes: in memory (``body``, owned by ``content``) or in ``file``."""

    form: Form
    body: bytes | None = None
    content: object = None
    file: OpenFile | None = None


def of_file(
    file: OpenFile, contents: Contents, *, in_memory: bool, now_ns: int, coding: str = IDENTITY_CODING
) -> Representation:
    """Return the representation that ``file`` holds; a small one may be read, to be sent from memory."""
    if in_memory:
        return of_content(contents.load(file), now_ns, coding)
    etag, identity, settled = contents.tag(file)
    date = last_modified(identity, now_ns)
    return Representation(
        Form(coding, identity.size, coded_tag(etag, coding), identity, date, settled), file=file
    )


def of_content(content: Content, now_ns: int, coding: str = IDENTITY_CODING) -> Representation:
    """Return the representation whose bytes are ``content``."""
    date = last_modified(content.identity, now_ns)
    tag = coded_tag(content.etag, coding)
    return Representation(
        Form(coding, len(content.body), tag, content.identity, date, content.is_settled),
        content.body,
        content,
    )


def coded_tag(etag: str, coding: str) -> str:
    """Return the entity tag of bytes tagged ``etag`` as one coding's, never equal to another's."""
    return etag if coding == IDENTITY_CODING else f'{etag[:-1]}-{coding}"'


def last_modified(identity: Identity, now_ns: int) -> int | None:
    """Return the seconds to send as Last-Modified, None for a time that says nothing.

    A time that is not yet past is held back (RFC 9110 section 8.8.2): the file may change again within the
    same second, and the date would not show it.
    """
    seconds, now = identity.mtime_ns // _SECOND_NS, now_ns // _SECOND_NS
    return conditional.plausible_last_modified(seconds, now) if seconds < now else None


def is_held_back(identity: Identity, now_ns: int) -> bool:
    """Tell whether the file's time lies in the present second or beyond, so that it is not sent for now."""
    return identity.mtime_ns // _SECOND_NS >= now_ns // _SECOND_NS


def content_fields(kind: str, form: Form) -> Fields:
    """Return the fields that describe ``form``, whose media type is ``kind``."""
    fields = [("Content-Type", kind)]
    if form.is_coded:
        fields.append(("Content-Encoding", form.coding))
    fields.append(("Content-Length", str(form.size)))
    if form.last_modified is not None:
        fields.append(("Last-Modified", format_http_date(form.last_modified)))
    fields.append(("ETag", form.etag))
    if not form.is_coded:
        fields.append(("Accept-Ranges", "bytes"))
    return tuple(fields)


def not_modified_fields(fields: Fields) -> Fields:
    """Return those ``fields`` of a 200 that its 304 repeats (RFC 9110 section 15.4.5)."""
    return tuple([pair for pair in fields if pair[0] not in _NOT_IN_304])


def whole(fields: Fields, chosen: Representation) -> Response:
    """Return the 200 with all of ``chosen``."""
    piece = chosen.body if chosen.body is not None else _piece(chosen, ranges.ByteRange(0, chosen.form.size))
    return Response(200, fields, (piece,), _file_of(piece))


def partial(
    request_fields: Mapping[str, str], kind: str, fields: Fields, chosen: Representation
) -> Response | None:
    """Return the answer to a Range field (RFC 9110 section 14.2), None where all is to be sent.

    Raises ``HTTPError`` 416. ``fields`` are those of the 200.
    """
    condition = request_fields.get("if-range")
    if condition is not None and not conditional.if_range_holds(
        condition, chosen.form.etag, chosen.form.last_modified
    ):
        return None
    parts = ranges.parse_ranges(request_fields["range"], chosen.form.size)
    if parts is None:
        return None
    if len(parts) > 1:
        return _multipart(kind, fields, chosen, parts)  # which nobody asks for twice
    length = ("Content-Length", str(parts[0].length))
    fields = (
        *[length if pair[0] == "Content-Length" else pair for pair in fields],
        ("Content-Range", ranges.content_range(parts[0], chosen.form.size)),
    )
    piece = _piece(chosen, parts[0])
    return Response(206, fields, (piece,), _file_of(piece))


def _multipart(
    kind: str, fields: Fields, chosen: Representation, parts: tuple[ranges.ByteRange, ...]
) -> Response:
    boundary = ranges.new_boundary()
    own = {
        "Content-Length": str(ranges.multipart_length(boundary, kind, parts, chosen.form.size)),
        "Content-Type": ranges.multipart_type(boundary),
    }
    pieces: list[bytes | FileSlice] = []
    for part in parts:
        pieces.append(ranges.part_head(boundary, kind, part, chosen.form.size))
        pieces.append(_piece(chosen, part))
    pieces.append(ranges.closing_delimiter(boundary))
    fields = tuple([(name, own.get(name, value)) for name, value in fields])
    return Response(206, fields, tuple(pieces), chosen.file)


def _piece(chosen: Representation, part: ranges.ByteRange) -> bytes | FileSlice:
    if chosen.body is not None:
        return chosen.body[part.first : part.first + part.length]
    assert chosen.file is not None
    if part.length <= INLINE_BYTES:
        try:
            data = portable.read_at(chosen.file.fd, part.length, part.first)
        except OSError as error:
            raise error_from_errno(error, "read") from None
        if len(data) == part.length:
            return data
    return FileSlice(chosen.file, part.first, part.length)


def _file_of(piece: bytes | FileSlice) -> Readable | None:
    return piece.file if isinstance(piece, FileSlice) else None
