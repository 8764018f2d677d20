"""The vocabulary of one exchange: request, response, limits. Immutable values, no I/O.

``Request`` and ``Limits`` are named tuples: as frozen as a dataclass, and the compiled parser makes one in
a tenth of the time.
"""

from __future__ import annotations

from typing import Protocol

from ..language.named_tuple import NamedTuple

Fields = tuple[tuple[str, str], ...]
"""Response field lines in the order in which they are sent, without Date and Connection."""


class Limits(NamedTuple):
    """Bounds on what a client may send before it is refused. Sizes in bytes."""

    request_line_bytes: int = 8192  # 414 beyond it; nginx: large_client_header_buffers 8k
    head_bytes: int = 16384  # 431 beyond it; request line and all field lines with their line ends
    field_count: int = 100  # 431 beyond it; Apache: LimitRequestFields 100


class Request(NamedTuple):
    """One request head as it was sent (RFC 9112 sections 3 and 5), decoded as ISO 8859-1.

    ``fields`` maps a lower-case field name to its value without surrounding whitespace; the values of
    repeated field lines are joined by ``", "`` in their order (RFC 9110 section 5.3), those of Cookie by ``"; "``
    (RFC 6265 section 5.4). ``size`` is the number of bytes that the head took, an empty line tolerated before it
    included.
    """

    method: str
    target: str
    version: str
    fields: dict[str, str]
    size: int


class Identity(NamedTuple):
    """What distinguishes one state of a file from another without reading it: see ``os.stat``. Times in ns."""

    device: int
    inode: int
    size: int
    mtime_ns: int
    ctime_ns: int


class Readable(Protocol):
    """A file opened for reading; its owner closes it."""

    @property
    def fd(self) -> int:
        """The descriptor."""

    def close(self) -> None:
        """Close the descriptor; a second call does nothing."""


class FileSlice(NamedTuple):
    """``length`` bytes of an open file from ``offset`` on; the response that holds it owns the file."""

    file: Readable
    offset: int
    length: int


class Publication(NamedTuple):
    """A permission to replay a response: to which requests, and until when.

    ``path`` is the request target's path exactly as a client must spell it. ``codings`` is the number of the
    accepted-codings set that the answer depended on (``ANY_CODINGS`` where it did not) and
    ``accept_encoding`` the field value that was read as that set. ``depends`` are the file-system paths
    whose identities must all still hold. ``fields`` are those of the 200 with all of it; the same entry is the 304
    to a precondition that repeats ``etag`` or ``last_modified``.
    ``body`` is owned by ``content``; where ``body_file`` is not -1, it is instead that one of the ``depends``.
    ``ranges`` tells that a range may be served. ``is_typical`` tells that the answers for other files with the
    same name extension differ only as their files do.
    """

    path: str
    codings: int
    accept_encoding: str | None
    depends: tuple[tuple[str, Identity], ...]
    fields: Fields
    etag: str
    last_modified: str
    body: bytes
    content: object
    body_file: int
    ranges: bool
    is_typical: bool


ANY_CODINGS = -1


class Prepared(NamedTuple):
    """A response for a reactor to send once: all but Date and Connection. ``detail`` is as in ``Response``."""

    status: int
    head: bytes
    body: bytes
    detail: str


class Response(NamedTuple):
    """One response, complete except for Date and Connection, which depend on the moment and the connection.

    ``body`` holds the pieces to send one after another; it is empty for HEAD, whatever Content-Length among
    the ``fields`` says. ``file`` is closed when the response has been sent or given up. ``close`` asks for
    the connection to end after it; ``detail`` is the reason of an error, for the error log; ``user`` is who
    was authenticated, for the access log. ``received`` stands in the logs for the request line of what could not
    be read as a request.
    """

    status: int
    fields: Fields
    body: tuple[bytes | memoryview | FileSlice, ...] = ()
    file: Readable | None = None
    close: bool = False
    detail: str = ""
    user: str = ""
    received: str = ""


class Given(NamedTuple):
    """The head of an answer as an application gave it.

    ``lines`` are the status line and those of the fields, without Content-Length and what belongs to the moment
    and the connection. ``length`` is the Content-Length, None where it gave none; ``is_dated`` tells that it gave
    a Date.
    """

    status: int
    lines: bytes
    length: int | None
    is_dated: bool
