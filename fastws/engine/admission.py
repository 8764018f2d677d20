"""One worker's connections: which are let in, what is spoken on them, how many there are."""

from __future__ import annotations

import collections
import functools
import time
from collections.abc import Callable
from typing import Protocol

from .. import portable
from ..config.settings import Config
from ..http.errors import HTTPError
from ..http.forwarded import UNIX, UNKNOWN, is_loopback
from ..language.named_tuple import NamedTuple
from ..seam import (
    IDLE,
    PLAIN,
    PROXY,
    REDIRECT,
    TLS,
    Accepted,
    PartialSend,
    TLSContext,
    TLSCounters,
    Transport,
)
from ..transport.plain import PlainTransport
from ..transport.preamble import PREAMBLE_BYTES, PreambleError, PreambleTransport, parse_preamble
from ..transport.tls import TLSTally, TLSTransport
from .connection import Connection
from .http1 import Http1, RedirectingHttp1
from .shared import Shared
from .speaker import Speaker
from .states import HEAD, STATES

SAY_S = 10.0
"""How often it is said that connections are closed for the same reason."""

WITHOUT_ADDRESS = (UNIX, UNKNOWN)
"""Clients that are not counted by address: they have none here, and may be many."""

ACCEPT_BATCH = 64
"""Connections accepted in one turn, so that a flood of them does not starve those that are open."""


class Manner(NamedTuple):
    """How connections are served: what is spoken on them, and how their bytes come and go.

    ``transport`` is called with descriptor and peer; None: the bytes are plain. ``is_kept`` tells that the reactor
    may answer before Python has the connection, which it can where plain HTTP/1.x is spoken.
    """

    speaker: Callable[[Connection], Speaker]
    transport: Callable[[int, str], Transport] | None
    is_kept: bool


HTTP1 = Manner(Http1, None, is_kept=True)

REDIRECTING = Manner(RedirectingHttp1, PlainTransport, is_kept=False)

MANNERS = {PLAIN: HTTP1, REDIRECT: REDIRECTING}
"""How connections are served, by the manner of the listener that accepted them."""


class Census(Protocol):
    """Counts the connections of all workers of a server. Any of them may ask."""

    @property
    def worker_count(self) -> int:
        """How many workers there are."""

    def connection_count(self) -> int:
        """Return the number of open connections."""

    def connections_from(self, peer: str) -> int:
        """Return the number of open connections of the client address ``peer``; 0 if there is no limit."""


class Admission:
    """The connections of one worker. Only its thread touches it, but for ``count`` and ``count_from``."""

    def __init__(self, shared: Shared[Connection], census: Census) -> None:
        self._shared = shared
        self._reactor = shared.reactor
        self._census = census
        self._connections: set[Connection] = set()
        self.manners = dict(MANNERS)
        self._turned_away: dict[str, tuple[float, int]] = {}  # when to say it again, how many since
        self._tls_tally = TLSTally()
        self._max_connections = self._max_per_address = 0
        self._count_by_peer: collections.Counter[str] = collections.Counter()
        shared.forget = self.forget

    def configure(self, config: Config) -> None:
        """Use the limits of this configuration from now on."""
        self.adopt_kept()  # they may have to be counted by address
        self._max_connections = config.max_connections
        if portable.CONNECTIONS_MOST is not None:
            most = portable.CONNECTIONS_MOST * self._census.worker_count
            self._max_connections = min(self._max_connections, most)
        # Counted only where there is a limit: it costs every connection something.
        self._max_per_address = config.max_connections_per_address
        counted = self._connections if self._max_per_address else ()
        self._count_by_peer = collections.Counter(connection.peer for connection in counted)

    def secure(self, context: TLSContext | None) -> None:
        """Use ``context`` for the handshakes that begin from now on, None for none; connections keep theirs."""
        if self._reactor.secure(context):
            self.manners[TLS] = Manner(Http1, self._reactor.secured, is_kept=True)
        elif context is not None:
            transport = functools.partial(TLSTransport, context, self._tls_tally)
            self.manners[TLS] = Manner(Http1, transport, is_kept=False)
        else:
            self.manners.pop(TLS, None)

    def tls_counters(self) -> TLSCounters:
        """Return the counts of TLS. Any thread may ask."""
        return self._reactor.tls_counters().plus(self._tls_tally.counters())

    @property
    def count(self) -> int:
        """How many connections this worker owns, without those that the reactor keeps. Any thread may ask."""
        return len(self._connections)

    def count_from(self, peer: str) -> int:
        """Return how many of them have the address ``peer``; 0 if there is no limit. Any thread may ask."""
        return self._count_by_peer[peer]

    def states(self) -> list[int]:
        """Return how many connections are in each state, in the order of ``STATES``. Any thread may ask."""
        present = [connection.state for connection in list(self._connections)]
        return [present.count(state) for state in STATES]

    # Who is let in

    def room(self) -> int:
        """Return how many connections the reactor may accept and keep.

        0 where Python has to decide about each: which of several workers gets it, how many its address has.
        """
        if self._census.worker_count > 1 or self._max_per_address or not self.manners[PLAIN].is_kept:
            return 0
        return self._max_connections - len(self._connections)

    def has_room(self) -> bool:
        """Tell whether all that the workers may accept in one turn is surely let in."""
        if self._max_per_address or self._shared.is_draining:
            return False
        most = ACCEPT_BATCH * self._census.worker_count
        return self._census.connection_count() + most <= self._max_connections

    def take(self, accepted: Accepted, has_room: bool) -> None:
        """Have the reactor keep a new connection, if it does that and all are let in; else decide about it."""
        if accepted.manner & PROXY:
            self._greet(accepted)
        elif not has_room:
            self._admit(accepted)
        elif not self._is_kept(accepted.manner) or not self._reactor.keep(*accepted):
            self.adopt(accepted)

    def _is_kept(self, number: int) -> bool:
        manner = self.manners.get(number)
        return manner is not None and manner.is_kept

    def _admit(self, accepted: Accepted) -> None:
        """Own a connection, or refuse it where there are too many."""
        connection = self.adopt(accepted)
        crowded = self._crowded(accepted.peer)
        if crowded and connection is not None:
            error = HTTPError(503, f"{crowded} has too many connections open.", close=True)
            connection.handle(Connection.on_refuse, error)

    def _crowded(self, peer: str) -> str:
        """Return who has more connections than the configuration allows, the new one included, or ''.

        Each worker counts its own before it looks at all, so that no two workers let in one too many.
        """
        if self._census.connection_count() > self._max_connections:
            return "The server"
        most = self._max_per_address
        # A proxy has the connections of many.
        is_counted = most and peer not in WITHOUT_ADDRESS and not self._shared.proxies.has(peer)
        if is_counted and self._census.connections_from(peer) > most:
            return "Your address"
        return ""

    def adopt(self, accepted: Accepted) -> Connection | None:
        """Own a connection, new or kept by the reactor so far; None if it cannot be watched and is closed."""
        manner = self.manners.get(accepted.manner)
        return self._own(accepted, manner)

    def _own(self, accepted: Accepted, manner: Manner | None) -> Connection | None:
        fd, peer, _ = accepted
        transport = None
        try:
            if manner is None:
                raise KeyError(accepted.manner)
            if manner.transport is not None:
                transport = manner.transport(fd, peer)
            connection = Connection(self._shared, fd, peer, transport)
            connection.speaker = manner.speaker(connection)
            self._reactor.add(fd, connection, peer, transport)
        except Exception as error:  # no memory, no room in the set of watched descriptors
            self._shared.logger.error("a connection from %s cannot be watched: %s", peer, error)
            if transport is None:
                portable.close_socket(fd)
            else:
                transport.close()
            return None
        self._connections.add(connection)
        if self._max_per_address:
            self._count_by_peer[peer] += 1
        connection.handle(Connection.on_begin)
        return connection

    def adopt_kept(self) -> None:
        """Own the connections that the reactor keeps."""
        for accepted in self._reactor.take_kept():
            self.adopt(accepted)

    # Preambles

    def _greet(self, accepted: Accepted) -> None:
        """Take a connection as soon as it is known which client it is from: a preamble says so."""
        fd, peer, _ = accepted
        transport = PreambleTransport(fd)
        if not self._shared.proxies.has(peer):
            self.turn_away(peer, "it comes from none of TrustedProxies")
            transport.close()
            return
        try:
            data = transport.receive(PREAMBLE_BYTES)
        except BlockingIOError:
            pass
        except OSError:
            transport.close()
            return
        else:  # it came with the connection, as it nearly always does
            self.introduce(transport, accepted, data)
            return
        greeting = functools.partial(Greeting, self, accepted, transport)
        self._own(accepted, Manner(greeting, lambda _, __: transport, is_kept=False))

    def introduce(self, transport: PreambleTransport, accepted: Accepted, data: bytes) -> None:
        """Take the connection whose preamble is ``data``, or end it if that is none."""
        try:
            client = parse_preamble(data) if data else None
        except PreambleError as error:
            self.turn_away(accepted.peer, str(error))
            client = None
        if client is None:
            transport.close()
            return
        if is_loopback(client) and not (is_loopback(accepted.peer) or accepted.peer == UNIX):
            client = UNKNOWN  # on the proxy's machine, and nobody's address here
        named = Accepted(transport.release(), client or accepted.peer, accepted.manner & ~PROXY)
        self.take(named, self.has_room())

    def turn_away(self, peer: str, reason: str) -> None:
        """Say why a connection is closed, unless the same was said a moment ago."""
        now = time.monotonic()
        say_at, count = self._turned_away.get(reason, (0.0, 0))
        if now < say_at:
            self._turned_away[reason] = say_at, count + 1
            return
        if len(self._turned_away) > 16:
            self._turned_away.clear()
        self._turned_away[reason] = now + SAY_S, 0
        more = f" (and {count} before it)" if count else ""
        self._shared.logger.warning("no PROXY preamble is taken from %s: %s%s", peer, reason, more)

    # Who goes

    def forget(self, connection: Connection) -> None:
        """Remove a connection that is being closed from every table."""
        self._connections.discard(connection)
        if self._max_per_address:
            self._count_by_peer[connection.peer] -= 1
            if not self._count_by_peer[connection.peer]:
                del self._count_by_peer[connection.peer]
        self._shared.timers.cancel(connection)
        self._reactor.remove(connection.fd)

    def drain(self) -> None:
        """Let none but the idle connections wait for a request, and these not for long; own what is kept."""
        for connection in list(self._connections):
            connection.handle(Connection.drain, self._shared.grace_s)
        self.adopt_kept()

    def close(self) -> None:
        """Close all connections."""
        for connection in list(self._connections):
            connection.abandon()


class Greeting:
    """See ``speaker.Speaker``: waits for the rest of a preamble, and has the connection taken anew after it."""

    __slots__ = ("_accepted", "_admission", "_connection", "_transport")

    def __init__(
        self, admission: Admission, accepted: Accepted, transport: PreambleTransport, connection: Connection
    ) -> None:
        self._admission = admission
        self._accepted = accepted
        self._transport = transport
        self._connection = connection

    def advance(self) -> None:
        """See ``Speaker.advance``."""
        self._connection.enter(HEAD)
        self._connection.wait(IDLE)

    def on_read(self, data: bytes) -> None:
        """See ``Speaker.on_read``; ``data`` is a whole preamble, or none at all."""
        # What owns the descriptor now is not to watch it twice.
        transport = PreambleTransport(self._transport.release())
        self._connection.close()
        self._admission.introduce(transport, self._accepted, data)

    def on_timeout(self, now: float) -> None:
        """See ``Speaker.on_timeout``."""
        self._admission.turn_away(self._accepted.peer, "it did not come within RequestTimeout")
        self._connection.close()

    def refuse(self, error: HTTPError) -> None:
        """See ``Speaker.refuse``: nothing could be read on the other side."""
        self._connection.close()

    def on_partial(self, partial: PartialSend) -> None:
        """See ``Speaker.on_partial``: there is never one."""

    def on_sent(self) -> None:
        """See ``Speaker.on_sent``: there is never a message."""

    def on_close(self) -> None:
        """See ``Speaker.on_close``."""
