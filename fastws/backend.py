"""The contracts of the twins, and the choice: the compiled or the pure side, made once, and which it is.

``FASTWS_NO_EXTENSIONS=1`` means pure; ``FASTWS_REQUIRE_EXTENSIONS=1`` means "fail rather than fall back".
Each twin falls back separately: a platform without epoll still has the compiled parser.
"""

from __future__ import annotations

import importlib
import os
import socket
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Protocol, cast

from .http.messages import Fields, Given, Identity, Limits, Prepared, Request
from .language.named_tuple import NamedTuple
from .seam import (
    PLAIN,
    Accepted,
    AccessLine,
    Event,
    Filled,
    Published,
    ReplayCounters,
    ReplaySettings,
    TLSContext,
    TLSCounters,
    Transport,
)
from .tls.settings import TLSSettings

if TYPE_CHECKING:  # for those that look for the modules of a program without running it, such as PyInstaller
    from . import _openat, _openat_py, _parser, _parser_py, _reactor, _reactor_py, _tls, _tls_py  # noqa: F401
    from .hot import (  # noqa: F401
        codings_memo,
        decisive_fields,
        epoll_set,
        hit_predicate,
        log_buffer,
        outgoing,
        senders,
        table,
        turn,
    )

PURE, REQUIRED = "FASTWS_NO_EXTENSIONS", "FASTWS_REQUIRE_EXTENSIONS"


class Parser(Protocol):
    """Bytes → requests; responses → bytes. Stateless."""

    @property
    def side(self) -> str:
        """``compiled`` or ``pure``."""

    def parse_request(self, data: bytes, start: int, scanned: int, limits: Limits) -> Request | None:
        """Return the request whose head begins at ``data[start]``, or None if more bytes are needed.

        ``scanned`` is the length that ``data`` had at the last call for the same head (0 at the first), so
        that a head that trickles in is not searched again and again. Raises ``HTTPError`` with 400, 414 or
        431, as early as that is certain, and ``IndexError`` for a start outside ``data``. RFC 9112 sections
        2 to 5; one empty line before the head is tolerated.
        """

    def build_head(self, status: int, fields: Fields) -> bytes:
        """Return status line and field lines, without Date, Connection and the empty line that ends the head.

        Raises ``ValueError`` for a field with a control character or one beyond ISO 8859-1, ``KeyError``
        for an unknown status.
        """

    def check_given(self, status: str, fields: Iterable[tuple[str, str]], added: Fields) -> Given:
        """Return the head that an application gave, with the fields ``added`` of which it gave none of that name.

        Raises ``ValueError`` or ``TypeError`` for one that cannot be sent: another status line than three digits
        from 200 to 599 and a phrase, a name that is no token, a control character or one beyond ISO 8859-1, a
        field that belongs to the connection, a Content-Length that is not one decimal number.
        """

    def format_access_line(self, log_format: str, line: AccessLine) -> bytes:
        """Return one line of the access log with its line feed.

        ``log_format`` is ``combined`` (NCSA; what is empty is ``-``), ``combined_time`` (the duration in seconds
        behind it) or ``json`` (an object). What the client chose is escaped: a quote, a backslash and
        whatever is not printable ASCII; but for ``json`` it is also cut, so that the line stays below the 4096
        bytes that log readers take.
        """


class Reactor(Protocol):
    """Readiness of one worker's sockets, and on the compiled side the responses replayed to them.

    It watches descriptors and closes only those of connections that it keeps: accepted, but not yet passed to
    Python. Other threads may use only ``wake``, ``accept``, ``kept`` and ``counters``.
    """

    # One turn after another

    @property
    def side(self) -> str:
        """``compiled`` or ``pure``."""

    def configure(
        self, settings: ReplaySettings, fill: Callable[[Reactor, str, int], Filled | Prepared]
    ) -> None:
        """Take other settings, and forget every published response.

        ``fill`` is called within ``wait``, with this reactor, a path and the number of an accepted-codings set,
        for a request that would mostly be a hit if its response were published. ``Filled`` says whether it now is.
        A ``Prepared`` is sent once, and reported by ``REASON``.
        """

    def wait(self, deadline: float, room: int = 0) -> Sequence[Event]:
        """Return what needs Python, by ``deadline`` (``time.monotonic()`` seconds) at the latest.

        While it keeps fewer than ``room`` connections it may accept and keep others without reporting ``ACCEPT``.
        Returns early, perhaps with nothing, when woken or when the access log's buffer is full.
        """

    def wake(self) -> None:
        """Make the current ``wait``, or else the next one, return. For any thread and signal handler."""

    def close(self) -> None:
        """Release the reactor's own resources, and close the connections that it keeps."""

    # Connections and listeners

    def add_listener(self, fd: int, owner: object, manner: int = PLAIN) -> None:
        """Report ``ACCEPT`` for the listening socket ``fd``, whose connections are served in that manner.

        With ``CHANNEL`` it is any other socket, and reported as long as there is something to read.
        """

    def remove_listener(self, fd: int) -> None:
        """Stop reporting it."""

    def accept(self, listener: socket.socket, limit: int) -> Sequence[tuple[int, str]]:
        """Accept at most ``limit`` connections, which are to be added or kept. Any thread may call.

        Returns their descriptors, non-blocking, and their peers' addresses as ``Accepted`` has them. Raises
        ``OSError`` if the first one waiting cannot be accepted, for example for lack of descriptors.
        """

    def add(self, fd: int, owner: object, peer: str, transport: Transport | None = None) -> None:
        """Watch the connection ``fd``, new or kept so far, with interest ``IDLE``; ``peer`` is for access lines.

        None: its bytes are plain, and the reactor reads them itself. Otherwise it reads them by
        ``transport.receive``, until ``BlockingIOError`` or as much as a turn allows; ``READ`` has the plain bytes.
        It never writes to such a connection: nothing is replayed to it and no file is sent without Python.
        Raises ``OSError`` if it cannot be watched.
        """

    def remove(self, fd: int) -> None:
        """Forget the connection; its owner closes ``fd`` right after."""

    def set_interest(self, fd: int, interest: int) -> None:
        """Say what the connection waits for: ``IDLE``, ``INPUT``, ``OUTPUT`` or ``NOTHING``."""

    def last_activity(self, fd: int) -> float:
        """Return the ``time.monotonic()`` second of the last replayed answer or read on ``fd``."""

    def keep(self, fd: int, peer: str, manner: int = PLAIN) -> bool:
        """Keep an accepted connection: watch, answer and close it, until ``ARRIVE`` passes it to Python.

        That is when it needs Python or has stayed for a moment. False: the caller must add it, as always where the
        reactor does not know the manner.
        """

    @property
    def kept(self) -> int:
        """How many connections it keeps, including those that ``wait`` has just reported. Any thread may ask."""

    def take_kept(self) -> Sequence[Accepted]:
        """Return the connections that it keeps; the caller must add them."""

    # TLS

    def secure(self, context: TLSContext | None) -> bool:
        """Use ``context`` for the handshakes that begin from now on; connections keep theirs.

        Returns whether it is one of the reactor's own kind. If not, or if it is None, no connection is kept in the
        manner ``TLS``.
        """

    def secured(self, fd: int, peer: str) -> Transport:
        """Return the transport of a connection by TLS that is kept or about to be added with it.

        Only where ``secure`` has taken a context. The reactor itself reads such a connection, sends files to it
        and replays responses.
        """

    def tls_counters(self) -> TLSCounters:
        """Return the counts of its TLS, approximately current. Any thread may ask."""

    # Files that are being sent

    def transfer(self, fd: int, file: int, offset: int, length: int) -> None:
        """Wait for room to send, as with interest ``OUTPUT``, before ``length`` bytes of ``file``.

        The reactor may send them itself and defer ``WRITE`` until they are sent or sending fails.
        ``file`` is a descriptor that the caller keeps open until ``end_transfer`` or ``remove``.
        """

    def transferred(self, fd: int) -> int:
        """Return how many bytes of the file the reactor has sent since ``transfer``."""

    def end_transfer(self, fd: int) -> int:
        """Stop sending the file, and return the number of bytes sent."""

    # What Python sends

    @property
    def send_small(self) -> Callable[[int, bytes], int] | None:
        """Sends up to ``SMALL_BYTES`` on a non-blocking socket; returns how many were taken, raises ``OSError``.

        Meanwhile no other thread gets the interpreter: to have it back from one that computes would take a switch
        interval of the interpreter. None on the side that has only what the socket module offers.
        """

    # Responses that are replayed

    @property
    def replays(self) -> bool:
        """Whether published responses are replayed; if not, publishing is useless."""

    def has(self, path: str, codings: int, depends: Sequence[tuple[str, Identity]], content: object) -> bool:
        """Tell whether a response with this content that depends on these states is published by now."""

    def publish(self, published: Published) -> None:
        """Replay this response from now on, in place of one for the same requests.

        Evicts others beyond the cache's size, and leaves out what is larger than all of it.
        """

    def learn_codings(self, accept_encoding: str, codings: int) -> None:
        """Remember that this Accept-Encoding value means the accepted-codings set ``codings``."""

    def replay(self, fd: int, data: bytes, asked_at: float = 0) -> tuple[int, Any]:
        """Answer from the table what it can of the requests in ``data``; ``fd`` must be waiting for nothing else.

        ``asked_at`` is the ``time.monotonic()`` second from which their duration counts, 0: now.

        Returns (kind, data) as in an event: ``READ`` with the bytes that need Python, none if all is
        answered; ``DONE``; ``PARTIAL``; or ``RESET``.
        """

    def drain(self) -> None:
        """From now on send ``Connection: close`` with every replayed response, and report ``DONE`` after it."""

    def counters(self) -> ReplayCounters:
        """Return the counts of replayed responses, approximately current. Any thread may ask."""

    # The access log

    def log(self, line: bytes) -> None:
        """Append a line to the access log's buffer, which also holds those of replayed responses."""

    @property
    def log_is_full(self) -> bool:
        """Whether the access log's buffer is full and should be taken now."""

    def take_log(self) -> bytes:
        """Return the buffer's lines and empty it."""


class ReactorFactory(Protocol):
    """Makes a reactor, which must be configured before use."""

    side: str

    def __call__(self) -> Reactor:
        """Return a reactor that watches nothing yet."""

    def share_one_heap(self) -> None:
        """Have the threads that this process starts from now on allocate from one heap, if the side can.

        glibc gives each thread a heap of its own, which grows by a page and a system call at a time; the first one
        grows by 132 KiB (mallopt(3), ``M_ARENA_MAX``). For a process that is fastws's own.
        """


class Opener(Protocol):
    """Opens and reads files below a directory, and returns their state. Stateless."""

    @property
    def side(self) -> str:
        """``compiled`` or ``pure``."""

    @property
    def DEEPEST(self) -> int:  # noqa: N802, a constant of the twins
        """The most slashes in a path that is still cheap to open this way."""

    def open_beneath(self, directory: int, path: str) -> int:
        """Return a descriptor of what ``path`` names below the open ``directory`` ('': itself), for reading.

        -1 where nothing has that name. No link is followed, so it lies inside. Raises ``OSError``, ELOOP or
        ENOTDIR at a link. A FIFO does not block, and a terminal does not become the controlling one.
        """

    def read_beneath(self, root: bytes, path: bytes, most: int) -> tuple[bytes, Identity] | None:
        """Return all bytes and the identity of the file that ``path`` names below the directory ``root``.

        None if it cannot be opened as by ``open_beneath``, is not a regular file of at most ``most`` bytes, or
        changed meanwhile. Both names are without NUL bytes.
        """

    def look(self, fd: int) -> tuple[int, Identity]:
        """Return the mode (``stat.S_ISREG`` and its like read it) and the identity of an open file."""


class TLS(Protocol):
    """OpenSSL. Whatever is asked of it loads the library, which takes milliseconds."""

    @property
    def side(self) -> str:
        """``compiled`` or ``pure``."""

    def find(self) -> str:
        """Return what keeps the library from being used on this side, '' if nothing does."""

    def version(self) -> str:
        """Return its name and version, such as ``OpenSSL 3.0.19 27 Jan 2026``. Raises ``ImportError``."""

    def Context(self, settings: TLSSettings, ticket_key: bytes) -> TLSContext:  # noqa: N802, a class
        """Return what the handshakes of one worker are made with.

        ``ticket_key`` are 80 bytes, the same for all that shall take each other's session tickets; the pure side
        makes a key of its own. Raises ``OSError`` if a file cannot be read or is not what it should be,
        ``ImportError`` without the library.
        """


class Backend(NamedTuple):
    """One choice of sides."""

    parser: Parser
    reactor: ReactorFactory
    opener: Opener

    def describe(self) -> str:
        """Return which side of each runs, for ``--version`` and the log's first line."""
        return f"parser {self.parser.side}, reactor {self.reactor.side}, opener {self.opener.side}"

    def tls(self) -> TLS:
        """Return the side that TLS runs on: with a compiled reactor the compiled one, if it finds its library.

        Raises ``ImportError`` if it does not and the environment requires the compiled side.
        """
        compiled = self._compiled_tls()
        if compiled is None:
            return self._pure_tls()
        problem = compiled.find()
        if problem and _is_set(REQUIRED):
            raise ImportError(
                f"{REQUIRED}=1, and the OpenSSL of Python's ssl module cannot be used: {problem}"
            )
        return self._pure_tls() if problem else compiled

    def _pure_tls(self) -> TLS:
        return cast(TLS, importlib.import_module("._tls_py", __package__))

    def _compiled_tls(self) -> TLS | None:
        if self.reactor.side == "pure":
            return None
        return cast(TLS, importlib.import_module("._tls", __package__))

    def describe_tls(self) -> str:
        """Return which side TLS runs on, by which library, and, where it could have been the other one, why."""
        compiled = self._compiled_tls()
        why = "" if compiled is None else compiled.find()
        tls = self._pure_tls() if compiled is None or why else compiled
        problem = tls.find()
        if problem:
            return f"none, as {problem}"
        return f"{tls.side}, {tls.version()}" + (f", as {why}" if why else "")

    def default_worker_count(self, processors: int) -> int:
        """Return the number of worker threads: one per processor where hits run without the GIL.

        Two loops that both need the GIL are slower than one; see ``benchmarks/README.md``.
        """
        return 1 if self.reactor.side == "pure" else processors


def load_parser(*, pure: bool) -> Parser:
    """Return the parser alone, for a process that needs nothing else; not the compiled one where ``pure``."""
    return cast(Parser, _twin("_parser", pure=pure, required=_is_set(REQUIRED) and not pure))


def load(*, pure: bool | None = None, required: bool | None = None) -> Backend:
    """Return the twins to use; None leaves the choice to the environment.

    Raises ``ImportError`` if a compiled twin is required and missing, or if the environment asks for both sides.
    """
    if pure is None and required is None and _is_set(PURE) and _is_set(REQUIRED):
        raise ImportError(f"{REQUIRED}=1 and {PURE}=1 exclude each other")
    if pure is None:
        pure = _is_set(PURE)
    if required is None:
        required = _is_set(REQUIRED)
    parser = _twin("_parser", pure=pure, required=required)
    reactor = _twin("_reactor", pure=pure, required=required)
    opener = _twin("_openat", pure=pure, required=required)
    return Backend(cast(Parser, parser), cast(ReactorFactory, reactor.Reactor), cast(Opener, opener))


def _twin(name: str, *, pure: bool, required: bool) -> Any:
    if not pure:
        try:
            return importlib.import_module(f".{name}", __package__)
        except ImportError as error:
            if required:
                raise ImportError(
                    f"{REQUIRED}=1, and the compiled module {error.name or name} is missing or cannot be used:"
                    f" {error.msg}"
                ) from error
    return importlib.import_module(f".{name}_py", __package__)


def _is_set(variable: str) -> bool:
    return os.environ.get(variable) == "1"


def describe() -> str:
    """Return which sides would run in this environment."""
    return load().describe()
