"""What crosses between the Python layer and its twins: events, interests, counts, and how bytes come and go."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from typing import Any, Protocol

from .http.messages import Identity, Limits
from .language.named_tuple import NamedTuple


class FileFailedError(Exception):
    """A file cannot be read while it is sent; the text is the system's. What was announced cannot be kept."""


class RuleBrokenError(Exception):
    """The client has broken a rule of the transport, and was told; nothing more can come of the connection."""

    def __init__(self, reason: str, detail: str) -> None:
        """``reason`` is one of ``TLS_FAILURES``."""
        super().__init__(f"{reason}: {detail}")
        self.reason = reason


class ClearError(Exception):
    """The client speaks plain HTTP where TLS was expected; from now on the transport sends plain bytes too."""


class Transport(Protocol):
    """One connection's bytes: plain on this side, whatever they are on the wire.

    Only the thread whose reactor watches the connection calls it. Nothing blocks: what cannot go on now raises
    ``BlockingIOError``. Every other ``OSError`` says that the connection is broken.
    """

    def receive(self, most: int) -> bytes:
        """Return about ``most`` plain bytes or less, b"" at the end of the stream; see ``holds_back``.

        Raises ``BlockingIOError``, ``RuleBrokenError`` and ``ClearError``.
        """

    @property
    def holds_back(self) -> bool:
        """Whether ``receive`` has more of which the socket shows no sign: bytes, or the end."""

    def send(self, pieces: Sequence[bytes | memoryview], more: bool) -> int:
        """Send the pieces in their order; return how many plain bytes were taken.

        ``more`` tells that other bytes follow at once, which should leave in the same segment. What was taken may
        still wait for room in the socket: nothing more is taken until it is gone, and without pieces only that is
        sent. A message is sent when its last byte is.
        """

    def send_file(self, file: int, offset: int, count: int) -> int:
        """Send ``count`` bytes of the descriptor ``file`` from ``offset`` on; return how many were taken.

        0 says that the file has no bytes there. Raises ``FileFailedError`` where the file is to blame.
        """

    def unacknowledged(self) -> int:
        """Return how many bytes the other side has not acknowledged; 0 where the platform does not tell."""

    def shut(self) -> None:
        """End the sending direction; the other side may go on. Raises ``OSError``."""

    def close(self) -> None:
        """Close the connection and its descriptor; a second call does nothing."""

    def secured(self) -> tuple[str, str] | None:
        """Return the version of TLS and the suite, None without TLS; empty before the end of the handshake."""


class TLSSession(Protocol):
    """TLS on one connection, without its socket: bytes become bytes."""

    @property
    def is_open(self) -> bool:
        """Whether the handshake is over."""

    @property
    def is_clear(self) -> bool:
        """Whether the client speaks plain HTTP."""

    @property
    def has_ended(self) -> bool:
        """Whether the client has said that it sends no more."""

    @property
    def is_broken(self) -> bool:
        """Whether the client has broken a rule; whatever ``decipher`` is given then, it raises."""

    def decipher(self, data: bytes) -> bytes:
        """Return the plain bytes of what was received. Raises ``RuleBrokenError`` and ``ClearError``.

        The first may be due only after plain bytes: then it is raised by the next call.
        """

    def encipher(self, data: bytes | memoryview) -> None:
        """Turn plain bytes into some of what is to be sent. Raises ``BrokenPipeError`` after a broken rule."""

    def end(self) -> None:
        """Say that no more comes, in what is to be sent, if there are keys for that."""

    def take_outgoing(self) -> bytes:
        """Return what is to be sent by now."""

    def secured(self) -> tuple[str, str]:
        """See ``Transport.secured``."""

    @property
    def is_resumed(self) -> bool:
        """Whether the handshake resumed a session."""


class TLSContext(Protocol):
    """What handshakes of one worker are made with."""

    @property
    def side(self) -> str:
        """``compiled``: a compiled reactor has its sessions; ``pure``: it makes them itself."""

    def session(self) -> TLSSession:
        """Return the server's side of a new connection. Raises ``NotImplementedError`` on the compiled side."""


ACCEPT = 0
"""Event: a listener has connections waiting, or a ``CHANNEL`` something to be read; data is None."""
READ = 1
"""Event: bytes came; data is bytes, empty at the end of the stream."""
WRITE = 2
"""Event: the socket takes bytes again; data is None."""
RESET = 3
"""Event: the connection is broken; data is None."""
DONE = 4
"""Event: the last answer was replayed and nothing more is sent; data is bytes that came after it."""
PARTIAL = 5
"""Event: a replayed answer did not fit the socket; data is a ``PartialSend``."""

ARRIVE = 6
"""Event: a connection that the reactor has kept is Python's from now on. Owner is its ``Accepted``, data the
(kind, data) of what has come to pass, None if it has only stayed for a while."""

REASON = 7
"""Event: a ``Prepared`` answer was sent. Owner is the client's address, data its (status, detail, request line,
request id)."""

CLEAR = 8
"""Event: the client of a connection by TLS speaks plain HTTP, and would read a plain answer; data is None."""

IDLE = 0
"""Interest: between requests, where a hit may be answered; a ``READ`` otherwise."""
INPUT = 1
"""Interest: more bytes of a message that has begun."""
OUTPUT = 2
"""Interest: room to send."""
NOTHING = 3
"""Interest: none, while the server is busy with a request. What comes stays in the kernel. ``RESET`` may come."""


class Filled(Enum):
    """What has become of a path that a reactor had no answer for; the third value is a ``Prepared`` response."""

    PUBLISHED = "its answer is published"
    UNDECIDED = "Python must decide"


class Published(NamedTuple):
    """A 200 that a reactor replays to GET and HEAD of ``path``, as long as what it ``depends`` on holds.

    ``path`` is spelled as a client must spell it; ``codings`` is the number of the accepted-codings set that the
    response is for, or ``ANY_CODINGS``. The heads, of the 200 and of the 304 to a request that repeats ``etag`` or
    ``last_modified``, lack Date, Connection and the empty line. ``depends`` are paths, with the identity that each
    must still have. ``content`` owns ``body`` and is kept as long as the response. With a ``body_file`` of 0 or
    more, the body is instead read from that one of the ``depends`` each time. ``ranges`` tells that a part of it
    may be replayed as a 206; the head then begins with HTTP/1.1 200 OK and has a Content-Length.
    """

    path: str
    codings: int
    head: bytes
    not_modified_head: bytes
    body: bytes
    etag: str
    last_modified: str
    depends: tuple[tuple[str, Identity], ...]
    content: object
    body_file: int = -1
    ranges: bool = False


class AccessLine(NamedTuple):
    """What one line of the access log says. All texts are ISO 8859-1; what is missing is "".

    ``time`` is spelled as the log's format has it; ``size`` counts the body bytes really sent.
    ``host`` is the field Host; ``duration_us`` counts the microseconds from a complete head to the last byte
    handed to the kernel; ``tls_version`` and ``tls_cipher`` are as OpenSSL names them. These four are in JSON
    lines alone. ``request_id`` ends a line that has one; ``trace_parent`` and ``trace_state`` are the fields
    traceparent and tracestate, in JSON lines with an id.
    """

    peer: str
    user: str
    time: str
    request_line: str
    status: int
    size: int
    referer: str
    agent: str
    host: str = ""
    duration_us: int = 0
    tls_version: str = ""
    tls_cipher: str = ""
    request_id: str = ""
    trace_parent: str = ""
    trace_state: str = ""


class PartialSend(NamedTuple):
    """An answer replayed as far as the socket took it; Python sends the rest and writes the access line.

    ``request`` is the request head's bytes, ``head`` what remains of the response head. Of the body, ``length``
    bytes from ``begin`` on are to be sent, and ``offset`` of them were; it is ``body``, or ``file``, a descriptor
    that whoever gets this closes (-1: none). ``rest`` holds the bytes that came after the request. ``request_id``
    is its name, "" if requests have none.
    """

    request: bytes
    status: int
    head: bytes
    body: bytes
    file: int
    begin: int
    length: int
    offset: int
    close: bool
    rest: bytes
    request_id: str = ""


Event = tuple[Any, int, Any]
"""(owner, kind, data); owner is the object that was given to ``add`` or ``add_listener``."""


SMALL_BYTES = 16384
"""What is sent at most without giving other threads the interpreter."""

PLAIN = 0
"""Manner: HTTP/1.x in plain bytes. A manner says how the connections of a listener are served."""
TLS = 1
"""Manner: HTTP/1.x over TLS."""
REDIRECT = 2
"""Manner: HTTP/1.x in plain bytes, of which the reactor answers nothing: clients are sent to https."""
PROXY = 4
"""Added to one of these manners: before that, the connection begins with the preamble of a proxy."""
CHANNEL = 8
"""Manner: no connections come, but something that Python reads, from another process."""


class Accepted(NamedTuple):
    """A connection without an owner: a non-blocking descriptor, the peer's address, and the listener's manner.

    The peer of a Unix-domain socket is ``unix:``.
    """

    fd: int
    peer: str
    manner: int = PLAIN


class ReplaySettings(NamedTuple):
    """What the answers of a reactor depend on besides those that are published.

    ``log_format`` is ``combined``, ``combined_time``, ``json`` or ``off``; ``default_codings`` is the number of
    the accepted-codings set of a request without Accept-Encoding. Without ``by_sendfile`` files are read and sent.
    ``secure_line`` is a field line, of less than 64 bytes with its CRLF, that answers over TLS have and no others.
    ``proxies`` are the networks whose fields are believed, and ``unix``; ``client_header`` is the one that names
    the client. ``request_id`` is ``off``, ``log``, or ``answer``: requests have a name in access lines, and in
    answers. ``keep_alive_line`` is a field line, of less than 40 bytes with its CRLF, of answers on connections
    that stay open.
    """

    limits: Limits
    methods: tuple[str, ...]
    versions: tuple[str, ...]
    cache_bytes: int
    log_format: str
    default_codings: int
    by_sendfile: bool = True
    secure_line: bytes = b""
    proxies: tuple[str, ...] = ()
    client_header: str = "any"
    request_id: str = "off"
    keep_alive_line: bytes = b""


LINGER_S = 2.0
"""How long a closing connection waits for the client to read the last answer; nginx: lingering_timeout 5s."""

LINGER_BYTES = 1 << 20
"""How much a closing connection reads and throws away meanwhile."""

DURATION_BOUNDS_S = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.5, 2.5, 10.0)
"""Upper bounds of the buckets by which answers are counted, from a complete request head to the last byte sent."""


TLS_FAILURES = (
    "version",
    "cipher",
    "client_certificate",
    "refused_by_client",
    "plain_http",
    "timeout",
    "closed",
    "records",
    "other",
)
"""Why a handshake failed: no common version; no common suite; the client has no certificate, or one that is not
trusted; it does not trust ours; it speaks plain HTTP; it took too long; it left; records that no honest client
sends, after the handshake too; anything else."""


class TLSCounters(NamedTuple):
    """What one worker has counted of TLS since its start: handshakes by version, those of them that resumed a
    session, and connections that failed, by ``TLS_FAILURES``."""

    version_1_2: int = 0
    version_1_3: int = 0
    resumed: int = 0
    failures: tuple[int, ...] = (0,) * len(TLS_FAILURES)

    def plus(self, other: TLSCounters) -> TLSCounters:
        """Return the sums."""
        failures = tuple([own + more for own, more in zip(self.failures, other.failures, strict=True)])
        return TLSCounters(
            self.version_1_2 + other.version_1_2,
            self.version_1_3 + other.version_1_3,
            self.resumed + other.resumed,
            failures,
        )


class ReplayCounters(NamedTuple):
    """What a reactor has replayed since its start, and what its response table holds now.

    ``durations`` counts answers by ``DURATION_BOUNDS_S`` (not accumulated), and last those that took longer;
    ``stale`` counts entries found changed, ``evicted`` those that made room for others. ``file_bytes`` were sent
    by sendfile, of replayed answers and on behalf of Python. ``filled`` are those of the ``hits`` that had to be
    published or prepared first; ``missing`` of them were 404.
    """

    hits: int = 0
    not_modified: int = 0
    body_bytes: int = 0
    duration_s: float = 0.0
    durations: tuple[int, ...] = (0,) * (len(DURATION_BOUNDS_S) + 1)
    entries: int = 0
    entry_bytes: int = 0
    stale: int = 0
    evicted: int = 0
    file_bytes: int = 0
    filled: int = 0
    missing: int = 0
