"""Both reactors against their contract (``backend.Reactor``), and what the compiled one replays."""

from __future__ import annotations

import ast
import os
import platform
import re
import select
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest
from conftest import PURE_ONLY
from rawhttp import TIMEOUT_S, Client, finish_turns, open_descriptors, put, request, settle, wait_until

import fastws
from fastws import Server, backend, load, seam
from fastws.files.identity import identity_of
from fastws.http.messages import ANY_CODINGS, Limits
from fastws.http.negotiation import codings_number, preferred_codings
from fastws.seam import (
    ACCEPT,
    ARRIVE,
    DONE,
    IDLE,
    INPUT,
    NOTHING,
    OUTPUT,
    PARTIAL,
    READ,
    RESET,
    SMALL_BYTES,
    WRITE,
    Filled,
    PartialSend,
    Published,
    ReplaySettings,
)
from fastws.site import status
from fastws.site.publication import MAX_DEPENDS

Serve = Callable[..., Server]
PACKAGE = Path(fastws.__file__).parent
SETTINGS = ReplaySettings(
    limits=Limits(),
    methods=("GET", "HEAD", "POST"),
    versions=("HTTP/1.0", "HTTP/1.1"),
    cache_bytes=16 << 20,
    log_format="combined",
    default_codings=codings_number(preferred_codings(None)),
)
GZIP = codings_number(preferred_codings("gzip"))
ETAG = '"the-tag"'
DATE = "Sun, 06 Nov 1994 08:49:37 GMT"
BODY = b"the body"
BIG = bytes(range(256)) * 64
HEAD_200 = b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n"
HEAD_304 = b'HTTP/1.1 304 Not Modified\r\nETag: "the-tag"\r\n'


def leave(*_: object) -> Filled:
    """Leave every answer to Python."""
    return Filled.UNDECIDED


class Rig:
    """A reactor and one connection that it watches; ``client`` is the other end."""

    def __init__(self, side: backend.Backend, **settings: Any) -> None:
        self.reactor = side.reactor()
        self.reactor.configure(SETTINGS._replace(**settings), leave)
        self.owner = object()
        self.client, self.ours = socket.socketpair()
        self.ours.setblocking(False)
        self.client.setblocking(False)
        self.fd = self.ours.fileno()
        self.reactor.add(self.fd, self.owner, "192.0.2.7")

    def close(self) -> None:
        self.reactor.remove(self.fd)
        self.ours.close()
        self.client.close()
        self.reactor.close()

    def turn(self, *, room: int = 0) -> list[tuple[object, int, Any]]:
        """What needs Python of all that is there now."""
        return list(self.reactor.wait(time.monotonic(), room))

    def next_events(self) -> list[tuple[object, int, Any]]:
        """What needs Python as soon as there is something: the network may be late, unlike a pair of sockets."""
        return list(self.reactor.wait(time.monotonic() + TIMEOUT_S))

    def ask(self, data: bytes) -> list[tuple[object, int, Any]]:
        self.client.send(data)
        return self.turn()

    def received(self, limit: int = 1 << 20) -> bytes:
        """What the client can read now."""
        try:
            return self.client.recv(limit)
        except BlockingIOError:
            return b""

    def publish(self, path: str = "/page.txt", body: bytes = BODY, **others: Any) -> None:
        answer: dict[str, Any] = {
            "codings": ANY_CODINGS,
            "head": HEAD_200,
            "not_modified_head": HEAD_304,
            "etag": ETAG,
            "last_modified": DATE,
            "depends": (),
            "content": None,
        }
        self.reactor.publish(Published(path=path, body=body, **answer | others))


Start = Callable[..., Rig]


@pytest.fixture
def rig(side: backend.Backend) -> Iterator[Start]:
    """Return a function that makes a rig, closed at the end."""
    with ExitStack() as stack:

        def start(**settings: Any) -> Rig:
            made = Rig(side, **settings)
            stack.callback(made.close)
            return made

        yield start


@pytest.fixture
def compiled() -> backend.Backend:
    if PURE_ONLY:
        pytest.skip("FASTWS_NO_EXTENSIONS=1: the compiled side was left out on purpose")
    return backend.load(pure=False, required=True)


@pytest.fixture
def hot(compiled: backend.Backend) -> Iterator[Rig]:
    """A compiled rig with one published answer."""
    made = Rig(compiled)
    made.publish()
    yield made
    made.close()


@pytest.fixture
def big(compiled: backend.Backend, tmp_path: Path) -> Iterator[tuple[Rig, Path]]:
    """A compiled rig with one small published answer, and one whose body is read from a file each time."""
    made, path = Rig(compiled), tmp_path / "big"
    path.write_bytes(BIG)
    made.publish()
    publish_file(made, path)
    yield made, path
    made.close()


def publish_file(made: Rig, path: Path) -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n" % path.stat().st_size
    known = ((str(path), identity_of(os.stat(path))),)
    made.publish("/big", b"", head=head, depends=known, body_file=0)


# Both sides: readiness


def test_bytes_are_read_and_their_end_is_empty(rig: Start) -> None:
    r = rig()
    assert r.turn() == []
    assert r.ask(b"some") == [(r.owner, READ, b"some")]
    assert r.turn() == []
    r.client.close()
    assert r.turn() == [(r.owner, READ, b"")]


def test_interest_decides_what_is_reported(rig: Start) -> None:
    r = rig()
    r.reactor.set_interest(r.fd, INPUT)
    assert r.ask(b"a") == [(r.owner, READ, b"a")]
    r.reactor.set_interest(r.fd, OUTPUT)
    assert r.ask(b"b") == [(r.owner, WRITE, None)]
    r.reactor.set_interest(r.fd, IDLE)
    assert r.turn() == [(r.owner, READ, b"b")]


def test_who_waits_for_nothing_hears_of_nothing_until_he_waits_again(rig: Start) -> None:
    r = rig()
    for interest, event in ((INPUT, READ), (OUTPUT, WRITE), (IDLE, READ)):
        r.reactor.set_interest(r.fd, NOTHING)
        assert r.ask(b"a") == []
        r.reactor.set_interest(r.fd, NOTHING)
        r.client.sendall(b"b")
        assert r.turn() == []
        r.reactor.set_interest(r.fd, interest)
        assert r.turn() == [(r.owner, event, b"ab" if event == READ else None)]
        if event == WRITE:
            r.reactor.set_interest(r.fd, INPUT)
            assert r.turn() == [(r.owner, READ, b"ab")]
    r.reactor.set_interest(r.fd, NOTHING)
    r.client.shutdown(socket.SHUT_WR)
    assert r.turn() == []  # he may still wait for an answer
    r.reactor.set_interest(r.fd, INPUT)
    assert r.turn() == [(r.owner, READ, b"")]


def test_who_waits_for_nothing_can_be_removed_and_another_added(rig: Start) -> None:
    r = rig()
    for _ in range(3):  # the number is the same again
        ours, theirs = socket.socketpair()
        with ours, theirs:
            ours.setblocking(False)
            owner = object()
            r.reactor.add(ours.fileno(), owner, "127.0.0.1")
            theirs.sendall(b"a")
            assert r.next_events() == [(owner, READ, b"a")]
            r.reactor.set_interest(ours.fileno(), NOTHING)
            r.reactor.remove(ours.fileno())


def test_reset_of_who_waits_for_nothing_is_noticed_at_once(compiled: backend.Backend) -> None:
    made = Rig(compiled)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = socket.create_connection(listener.getsockname())
        ours, _ = listener.accept()
    with ours:
        owner = object()
        made.reactor.add(ours.fileno(), owner, "127.0.0.1")
        made.reactor.set_interest(ours.fileno(), NOTHING)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.close()
        assert made.next_events() == [(owner, RESET, None)]
        made.reactor.remove(ours.fileno())
    made.close()


def test_broken_connection_is_a_reset(rig: Start) -> None:
    r = rig()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = socket.create_connection(listener.getsockname())
        ours, _ = listener.accept()
    with ours:
        ours.setblocking(False)
        owner = object()
        r.reactor.add(ours.fileno(), owner, "127.0.0.1")
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.close()
        assert r.next_events() == [(owner, RESET, None)]
        r.reactor.remove(ours.fileno())


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_listener_is_reported_until_it_is_removed(rig: Start, host: str) -> None:
    r = rig()
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, 0), family=family) as listener:
        listener.setblocking(False)
        assert r.reactor.accept(listener, 10) in ([], ())
        r.reactor.add_listener(listener.fileno(), listener)
        assert r.turn() == []
        clients = [socket.create_connection(listener.getsockname()[:2]) for _ in range(3)]
        assert r.next_events() == [(listener, ACCEPT, None)]
        accepted: list[tuple[int, str]] = []

        def are_accepted() -> bool:
            batch = r.reactor.accept(listener, 2)
            assert len(batch) <= 2
            accepted.extend(batch)
            return len(accepted) >= 3

        wait_until(are_accepted, "three connections")
        assert [peer for _, peer in accepted] == [host] * 3
        for fd, _ in accepted:
            assert not os.get_blocking(fd)
            assert not os.get_inheritable(fd)
            os.close(fd)
        assert r.turn() == []
        r.reactor.remove_listener(listener.fileno())
        clients.append(socket.create_connection(listener.getsockname()[:2]))
        assert r.turn() == []
        for client in clients:
            client.close()


def test_wait_lasts_until_its_deadline(rig: Start) -> None:
    r = rig()
    deadline = time.monotonic() + 0.05
    assert list(r.reactor.wait(deadline)) == []
    assert time.monotonic() >= deadline


def test_wake_ends_this_wait_or_the_next(rig: Start) -> None:
    r = rig()
    far = time.monotonic() + 3600
    r.reactor.wake()
    r.reactor.wake()
    assert list(r.reactor.wait(far)) == []
    waker = threading.Timer(0.05, r.reactor.wake)
    waker.start()
    assert list(r.reactor.wait(far)) == []
    waker.join()


def test_removed_connection_is_reported_no_more(rig: Start) -> None:
    r = rig()
    r.reactor.remove(r.fd)
    with r.ours, r.client:
        r.client.send(b"unseen")
    # Its number may come back for another connection.
    r.client, r.ours = socket.socketpair()
    r.ours.setblocking(False)
    r.client.setblocking(False)
    r.fd, r.owner = r.ours.fileno(), object()
    r.reactor.add(r.fd, r.owner, "192.0.2.8")
    assert r.turn() == []
    assert r.ask(b"seen") == [(r.owner, READ, b"seen")]


def test_activity_is_the_last_read(rig: Start) -> None:
    r = rig()
    before = time.monotonic()
    r.ask(b"some")
    active = r.reactor.last_activity(r.fd)
    assert before <= active <= time.monotonic()
    r.turn()
    assert r.reactor.last_activity(r.fd) == active


def test_log_is_kept_until_it_is_taken(rig: Start) -> None:
    reactor = rig().reactor
    assert (reactor.take_log(), reactor.log_is_full) == (b"", False)
    reactor.log(b"one\n")
    reactor.log(b"two\n")
    assert (reactor.take_log(), reactor.take_log()) == (b"one\ntwo\n", b"")
    while not reactor.log_is_full:
        reactor.log(b"x" * 1000)
    assert len(reactor.take_log()) == 66000
    assert not reactor.log_is_full


def test_log_that_is_off_takes_nothing(rig: Start) -> None:
    reactor = rig(log_format="off").reactor
    reactor.log(b"one\n")
    assert reactor.take_log() == b""


# Both sides: connections with a transport


class Hoarding:
    """A transport that turns letters round, and takes all that the socket has at the first ``receive``."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._held = b""
        self._is_over = False
        self.asked: list[int] = []
        self.error: OSError | None = None

    def receive(self, most: int) -> bytes:
        self.asked.append(most)
        if self.error:
            raise self.error
        while not self._is_over:
            try:
                came = self._sock.recv(1 << 20)
            except BlockingIOError:
                break
            self._held += came.swapcase()
            self._is_over = not came
        if not self._held and not self._is_over:
            raise BlockingIOError
        taken, self._held = self._held[:most], self._held[most:]
        return taken

    @property
    def holds_back(self) -> bool:
        return bool(self._held) or self._is_over

    def send(self, pieces: Sequence[bytes | memoryview], more: bool) -> int:
        return self._sock.send(b"".join(pieces).swapcase())

    def send_file(self, file: int, offset: int, count: int) -> int:
        return self._sock.send(os.pread(file, count, offset).swapcase())

    def unacknowledged(self) -> int:
        return 0

    def secured(self) -> None:
        pass

    def shut(self) -> None:
        self._sock.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        self._sock.close()


@pytest.fixture
def through(rig: Start) -> Callable[..., tuple[Rig, Hoarding]]:
    """Return a function that makes a rig whose connection has a transport, and that transport."""

    def start(**settings: Any) -> tuple[Rig, Hoarding]:
        made = rig(**settings)
        made.reactor.remove(made.fd)
        transport = Hoarding(made.ours)
        made.reactor.add(made.fd, made.owner, "192.0.2.7", transport)
        return made, transport

    return start


Through = Callable[..., tuple[Rig, Hoarding]]


def test_bytes_are_read_through_the_transport(through: Through) -> None:
    r, _ = through()
    for interest in (IDLE, INPUT):
        r.reactor.set_interest(r.fd, interest)
        assert r.ask(b"sOME") == [(r.owner, READ, b"Some")]
        assert r.turn() == []
    r.client.close()
    assert r.turn() == [(r.owner, READ, b"")]


def test_what_a_transport_holds_back_is_read_in_the_turns_that_follow(through: Through) -> None:
    r, _ = through()
    sent = bytes(range(65, 91)) * 10_000
    r.client.setblocking(True)
    sender = threading.Thread(target=lambda: (r.client.sendall(sent), r.client.close()))
    sender.start()
    received, longest, kinds = b"", 0, set()
    while len(received) < len(sent):
        for _, kind, data in r.next_events():
            kinds.add(kind)
            longest = max(longest, len(data))
            received += data
    sender.join()
    # The socket is at its end, and says so from now on; before that nothing but the transport had these bytes.
    assert received == sent.swapcase()
    assert kinds == {READ}
    assert longest <= 65536
    assert r.next_events() == [(r.owner, READ, b"")]


def test_what_is_held_back_waits_for_interest_and_for_nobody_else(through: Through) -> None:
    r, _ = through()
    [(_, _, data)] = r.ask(b"a" * 100_000)
    assert 0 < len(data) < 100_000
    for interest, events in ((NOTHING, []), (OUTPUT, [(r.owner, WRITE, None)])):
        r.reactor.set_interest(r.fd, interest)
        assert r.turn() == events
    other, theirs = socket.socketpair()
    with other, theirs:
        other.setblocking(False)
        r.reactor.add(other.fileno(), other, "192.0.2.8")
        theirs.sendall(b"plain")
        r.reactor.set_interest(r.fd, INPUT)
        events = r.next_events()  # at once, though no socket of a transport is ready
        assert {(owner, kind) for owner, kind, _ in events} == {(r.owner, READ), (other, READ)}
        r.reactor.remove(other.fileno())


def test_one_turn_reads_a_connection_once_though_it_is_ready_and_holds_back(through: Through) -> None:
    r, _ = through()
    r.ask(b"a" * 100_000)
    assert [kind for _, kind, _ in r.ask(b"b")] == [READ]


def test_bytes_that_say_nothing_plain_are_no_event_and_no_activity(through: Through) -> None:
    r, transport = through()
    transport.error = BlockingIOError()
    before = r.reactor.last_activity(r.fd)
    assert r.ask(b"a handshake") == []
    assert transport.asked
    assert r.reactor.last_activity(r.fd) == before
    transport.error = None
    assert r.turn() == [(r.owner, READ, b"A HANDSHAKE")]
    assert r.reactor.last_activity(r.fd) > before


def test_error_of_a_transport_is_a_reset(through: Through) -> None:
    r, transport = through()
    transport.error = OSError("bad record")
    assert r.ask(b"a") == [(r.owner, RESET, None)]


def test_transport_belongs_to_one_connection_and_not_to_its_number(through: Through) -> None:
    r, _ = through()
    r.ask(b"a" * 100_000)  # some of it is held back
    r.reactor.remove(r.fd)
    r.reactor.add(r.fd, r.owner, "192.0.2.7")
    assert r.turn() == []
    assert r.ask(b"plain") == [(r.owner, READ, b"plain")]


def test_transport_may_remove_and_add_connections_while_it_is_read(rig: Start) -> None:
    r = rig()
    pairs = [socket.socketpair() for _ in range(200)]  # more than the records have room for at first

    class Busy(Hoarding):
        def receive(self, most: int) -> bytes:
            if pairs[-1][0].fileno() not in added:
                r.reactor.remove(r.fd)
                for ours, _ in pairs:
                    ours.setblocking(False)
                    r.reactor.add(ours.fileno(), ours, "192.0.2.8")
                    added.add(ours.fileno())
                r.reactor.add(r.fd, r.owner, "192.0.2.7")
            return super().receive(most)

    added: set[int] = set()
    r.reactor.remove(r.fd)
    r.reactor.add(r.fd, r.owner, "192.0.2.7", Busy(r.ours))
    assert r.ask(b"sOME") == [(r.owner, READ, b"Some")]
    assert r.ask(b"plain") == [(r.owner, READ, b"plain")]
    for ours, theirs in pairs:
        r.reactor.remove(ours.fileno())
        ours.close()
        theirs.close()


def test_nothing_is_replayed_to_a_connection_with_a_transport(through: Through) -> None:
    r, _ = through()
    r.publish()
    asked = request("/page.txt")
    assert r.ask(asked.swapcase()) == [(r.owner, READ, asked)]
    assert r.reactor.replay(r.fd, asked) == (READ, asked)
    assert r.received() == b""


def test_no_file_is_sent_past_a_transport(through: Through, tmp_path: Path) -> None:
    r, _ = through()
    (tmp_path / "file").write_bytes(BODY)
    with (tmp_path / "file").open("rb") as file:
        r.reactor.transfer(r.fd, file.fileno(), 0, len(BODY))
        assert r.turn() == [(r.owner, WRITE, None)]
        assert r.reactor.end_transfer(r.fd) == 0
    assert r.received() == b""


# What may decide an answer


def names_looked_at(path: Path) -> set[str]:
    """The request fields that a module asks for by name, in any of the ways of asking a mapping."""

    def is_fields(node: ast.expr) -> bool:
        return ast.unparse(node).split(".")[-1].endswith("fields")

    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        key: ast.expr | None = None
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            if node.func.attr in ("get", "pop", "setdefault") and is_fields(node.func.value):
                key = node.args[0]
        elif isinstance(node, ast.Subscript) and is_fields(node.value):
            key = node.slice
        elif (
            isinstance(node, ast.Compare)
            and isinstance(node.ops[0], ast.In | ast.NotIn)
            and is_fields(node.comparators[0])
        ):
            key = node.left
        elif isinstance(node, ast.comprehension) and is_fields(node.iter) and path.stem == "status":
            names |= set(status._FORWARDED)
        if isinstance(key, ast.Constant) and isinstance(key.value, str):
            names.add(key.value)
        else:
            assert key is None, "who asks for a computed name?"
    return names


def test_every_field_that_python_looks_at_is_decisive(compiled: backend.Backend) -> None:
    from fastws.hot.decisive_fields import DECISIVE_FIELDS
    from fastws.hot.senders import SENDER_FIELDS

    files = [
        p for p in PACKAGE.rglob("*.py") if p.parent.name != "client" and not p.stem.startswith("_parser")
    ]
    assert len(files) > 60
    looked_at = set[str]().union(*map(names_looked_at, files))
    # Whoever looks at these never has the answer published.
    never_published = {
        "authorization",  # a file that it opens
        "accept",  # a listing
        "content-type",  # a form
        *status._FORWARDED,  # the pages below StatusPath
    }
    # These say whom a request is from, which no published answer depends on.
    assert SENDER_FIELDS.keys() <= looked_at
    assert looked_at - never_published - SENDER_FIELDS.keys() == DECISIVE_FIELDS.keys()
    assert never_published <= looked_at


def test_scan_sees_each_way_of_looking(tmp_path: Path) -> None:
    path = tmp_path / "module.py"
    path.write_text(
        "a.fields.get('one'); request_fields['two']; 'three' in fields\n"
        "'four' not in x.fields; fields.pop('five'); other.get('six'); 'seven' in names\n"
    )
    assert names_looked_at(path) == {"one", "two", "three", "four", "five"}


# The hit predicate


def get(*lines: str, target: str = "/page.txt", method: str = "GET", version: str = "HTTP/1.1") -> bytes:
    fields = "".join(f"{line}\r\n" for line in lines)
    return f"{method} {target} {version}\r\n{fields}\r\n".encode("latin-1")


H = "Host: localhost"

HITS = {
    "plain": (get(H), 200, ""),
    "names in capitals": (get("HOST: LOCALHOST"), 200, ""),
    "host with port": (get("Host: www.example.org:8080"), 200, ""),
    "empty host": (get("Host:"), 200, ""),
    "query": (get(H, target="/page.txt?a=1&b"), 200, ""),
    "empty query": (get(H, target="/page.txt?"), 200, ""),
    "head": (get(H, method="HEAD"), 200, ""),
    "1.0": (get(version="HTTP/1.0"), 200, "close"),
    "1.0 with host": (get(H, version="HTTP/1.0"), 200, "close"),
    "1.0 keep-alive": (get("Connection: Keep-Alive", version="HTTP/1.0"), 200, "keep-alive"),
    "1.0 close": (get("Connection: close", version="HTTP/1.0"), 200, "close"),
    "keep-alive": (get(H, "Connection: keep-alive"), 200, ""),
    "close": (get(H, "connection: CLOSE"), 200, "close"),
    "etag": (get(H, f"If-None-Match: {ETAG}"), 304, ""),
    "weak etag": (get(H, f"If-None-Match: W/{ETAG}"), 304, ""),
    "another etag": (get(H, 'If-None-Match: "another"'), 200, ""),
    "another weak etag": (get(H, 'If-None-Match: W/"another"'), 200, ""),
    "etag of nothing": (get(H, 'If-None-Match: ""'), 200, ""),
    "etag in latin-1": (get(H, 'If-None-Match: "\xe9,"'), 200, ""),
    "another etag, same date": (get(H, 'If-None-Match: "another"', f"If-Modified-Since: {DATE}"), 200, ""),
    "etag by head": (get(H, f"If-None-Match: {ETAG}", method="HEAD"), 304, ""),
    "date": (get(H, f"If-Modified-Since: {DATE}"), 304, ""),
    "etag goes before date": (
        get(H, f"If-None-Match: {ETAG}", "If-Modified-Since: Sat, 01 Jan 2000 00:00:00 GMT"),
        304,
        "",
    ),
    "no decisive field": (get(H, "X-Any: 1", "Accept: image/png", "Cookie: a=b", "Accept-Language: de"), 200, ""),
    "repeated field of no meaning": (get(H, "Cookie: a", "Cookie: b", "X-A: 1", "X-A: 2"), 200, ""),
    "authorization": (get(H, "Authorization: Basic eDp5"), 200, ""),
    "referer and agent": (get(H, "Referer: http://x/", "User-Agent: y"), 200, ""),
    "name that begins like a decisive one": (get(H, "Range-X: bytes=0-1", "If-Matches: x"), 200, ""),
    "if-range without range": (get(H, 'If-Range: "another"'), 200, ""),
    "range by head": (get(H, "Range: bytes=0-1", method="HEAD"), 200, ""),
    "body of the next": (get(H) * 3, 200, ""),
}  # fmt: skip

MISSES = {
    "another path": get(H, target="/page.tx"),
    "longer path": get(H, target="/page.txt/"),
    "path in capitals": get(H, target="/PAGE.txt"),
    "encoded path": get(H, target="/%70age.txt"),
    "absolute form": get(H, target="http://localhost/page.txt"),
    "fragment": get(H, target="/page.txt#top"),
    "fragment after query": get(H, target="/page.txt?a#top"),
    "asterisk": get(H, target="*", method="OPTIONS"),
    "post": get(H, method="POST"),
    "get in lower case": get(H, method="get"),
    "unknown method": get(H, method="BREW"),
    "no host": get(),
    "two hosts": get(H, H),
    "strange host": get("Host: a b"),
    "host with user": get("Host: me@localhost"),
    "host with long port": get("Host: localhost:123456"),
    "ipv6 host": get("Host: [::1]:80"),
    "range of an answer without ranges": get(H, "Range: bytes=0-1"),
    "range in capitals": get(H, "RANGE: bytes=0-1"),
    "if-match": get(H, f"If-Match: {ETAG}"),
    "if-unmodified-since": get(H, f"If-Unmodified-Since: {DATE}"),
    "list of etags": get(H, f'If-None-Match: "a", {ETAG}'),
    "any etag": get(H, "If-None-Match: *"),
    "empty etag": get(H, "If-None-Match:"),
    "etag twice": get(H, f"If-None-Match: {ETAG}", f"If-None-Match: {ETAG}"),
    "another date": get(H, "If-Modified-Since: Sun, 06 Nov 1994 08:49:38 GMT"),
    "date in another format": get(H, "If-Modified-Since: Sunday, 06-Nov-94 08:49:37 GMT"),
    "etag without quotes": get(H, "If-None-Match: the-tag"),
    "etag with one quote": get(H, 'If-None-Match: "'),
    "etag with a space": get(H, 'If-None-Match: "the tag"'),
    "etag that is weak in lower case": get(H, f"If-None-Match: w/{ETAG}"),
    "list of etags without space": get(H, f'If-None-Match: "a",{ETAG}'),
    "expect": get(H, "Expect: 100-continue"),
    "content-length": get(H, "Content-Length: 0"),
    "transfer-encoding": get(H, "Transfer-Encoding: chunked"),
    "upgrade": get(H, "Connection: Upgrade", "Upgrade: h2c"),
    "list of connection options": get(H, "Connection: keep-alive, TE"),
    "connection twice": get(H, "Connection: close", "Connection: close"),
    "empty connection": get(H, "Connection:"),
    "agent twice": get(H, "User-Agent: a", "User-Agent: b"),
    "codings twice": get(H, "Accept-Encoding: gzip", "Accept-Encoding: br"),
    "another version": get(H, version="HTTP/1.2"),
    "half a head": get(H)[:-2],
    "folded line": get(H, "X-A: 1", " 2"),
    "bare line feeds": b"GET /page.txt HTTP/1.1\nHost: x\n\n",
    "space before colon": get("Host : x"),
}


def without_date(data: bytes) -> bytes:
    assert re.search(rb"\r\nDate: \w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT\r\n", data)
    return re.sub(rb"Date: [^\r]*\r\n", b"", data)


@pytest.mark.parametrize("case", HITS)
def test_hit_is_answered_without_python(hot: Rig, case: str) -> None:
    data, status_code, connection = HITS[case]
    count = data.count(b" /page.txt")
    expected_event = [(hot.owner, DONE, b"")] if connection == "close" else []
    assert hot.ask(data) == expected_event
    head = HEAD_304 if status_code == 304 else HEAD_200
    end = f"Connection: {connection}\r\n\r\n".encode() if connection else b"\r\n"
    body = BODY if status_code == 200 and not data.startswith(b"HEAD") else b""
    assert without_date(hot.received()) == (head + end + body) * count
    counters = hot.reactor.counters()
    assert (counters.hits, counters.not_modified) == (count, count * (status_code == 304))
    assert counters.body_bytes == len(body) * count
    assert sum(counters.durations) == count


@pytest.mark.parametrize("case", MISSES)
def test_miss_goes_to_python_untouched(hot: Rig, case: str) -> None:
    data = MISSES[case]
    assert hot.ask(data) == [(hot.owner, READ, data)]
    assert hot.received() == b""
    assert hot.reactor.counters().hits == 0
    assert hot.reactor.take_log() == b""


def test_method_and_version_that_are_not_spoken_miss(compiled: backend.Backend) -> None:
    cases = [
        ({"methods": ("GET",)}, get(H, method="HEAD")),
        ({"versions": ("HTTP/1.1",)}, get(version="HTTP/1.0")),
    ]
    for settings, data in cases:
        r = Rig(compiled, **settings)
        r.publish()
        assert r.ask(data) == [(r.owner, READ, data)]
        r.close()


def test_connection_in_the_middle_of_something_misses(hot: Rig) -> None:
    hot.reactor.set_interest(hot.fd, INPUT)
    assert hot.ask(get(H)) == [(hot.owner, READ, get(H))]
    hot.reactor.set_interest(hot.fd, IDLE)
    assert hot.ask(get(H)) == []


def test_hits_before_a_miss_are_answered_and_the_rest_is_pythons(hot: Rig) -> None:
    rest = get(H, target="/other") + get(H)
    assert hot.ask(get(H) * 2 + rest) == [(hot.owner, READ, rest)]
    assert hot.received().count(BODY) == 2


def test_nothing_after_close_is_answered(hot: Rig) -> None:
    assert hot.ask(get(H, "Connection: close") + get(H)) == [(hot.owner, DONE, get(H))]
    assert hot.received().count(BODY) == 1


def test_more_pipelined_hits_than_one_send_takes_are_all_answered(hot: Rig) -> None:
    assert hot.ask(get(H) * 150) == []
    assert hot.received().count(BODY) == 150


def test_bytes_that_python_has_read_are_answered_and_counted_alike(hot: Rig) -> None:
    rest = get(H, target="/other")
    assert hot.reactor.replay(hot.fd, get(H)) == (READ, b"")
    assert hot.reactor.replay(hot.fd, get(H) + rest) == (READ, rest)
    assert hot.reactor.replay(hot.fd, get(H, "Connection: close") + rest) == (DONE, rest)
    assert hot.received().count(BODY) == 3
    assert hot.reactor.take_log().count(b"/page.txt") == 3
    counters = hot.reactor.counters()
    assert counters.hits == sum(counters.durations) == 3


def test_draining_closes_after_each_answer(hot: Rig) -> None:
    hot.reactor.drain()
    assert hot.ask(get(H)) == [(hot.owner, DONE, b"")]
    assert b"Connection: close\r\n" in hot.received()


def test_codings_are_those_that_python_has_said(compiled: backend.Backend) -> None:
    r = Rig(compiled)
    plain, coded = SETTINGS.default_codings, get(H, "Accept-Encoding: gzip")
    r.publish(codings=plain, body=b"as it is")
    r.publish(codings=GZIP, body=b"squeezed")
    assert r.ask(get(H)) == []
    assert r.received().endswith(b"as it is")
    assert r.ask(coded) == [(r.owner, READ, coded)]
    for _ in range(2):
        r.reactor.learn_codings("gzip", GZIP)
        assert r.ask(coded) == []
        assert r.received().endswith(b"squeezed")
        # A new configuration forgets, and learns again.
        r.reactor.configure(SETTINGS, leave)
        assert r.ask(coded) == [(r.owner, READ, coded)]
        r.publish(codings=GZIP, body=b"squeezed")
    r.close()


def test_more_codings_than_are_remembered_push_out_the_oldest(compiled: backend.Backend) -> None:
    r = Rig(compiled)
    r.publish(codings=GZIP)
    for number in range(65):
        r.reactor.learn_codings(f"gzip;q=0.{number:03}", GZIP)
    first, last = (get(H, f"Accept-Encoding: gzip;q=0.{number:03}") for number in (0, 64))
    assert r.ask(first) == [(r.owner, READ, first)]
    assert r.ask(last) == []
    r.close()


# The table


def test_answer_is_replayed_while_its_file_is_as_it_was(compiled: backend.Backend, tmp_path: Path) -> None:
    r, path = Rig(compiled), tmp_path / "file"
    path.write_bytes(BODY)
    r.publish(depends=((str(path), identity_of(os.stat(path))),))
    assert r.ask(get(H)) == []
    os.utime(path, (0, 0))
    assert r.ask(get(H)) == [(r.owner, READ, get(H))]
    counters = r.reactor.counters()
    assert (counters.hits, counters.stale) == (1, 1)
    assert r.ask(get(H)) == [(r.owner, READ, get(H))]
    assert r.reactor.counters().entries == 0
    r.close()


def test_answer_that_depends_on_more_than_is_looked_at_is_not_taken(
    compiled: backend.Backend, tmp_path: Path
) -> None:
    r = Rig(compiled)
    known = ((str(tmp_path), identity_of(os.stat(tmp_path))),)
    r.publish(depends=known * MAX_DEPENDS)
    assert r.ask(get(H)) == []
    r.publish(depends=known * (MAX_DEPENDS + 1))
    assert r.ask(get(H)) == [(r.owner, READ, get(H))]
    r.close()


def test_what_is_published_is_known_by_its_content_and_by_what_it_depends_on(
    side: backend.Backend, tmp_path: Path
) -> None:
    r, content, path = Rig(side), object(), tmp_path / "file"
    path.write_bytes(BODY)
    known = ((str(path), identity_of(os.stat(path))),)
    assert not r.reactor.has("/page.txt", ANY_CODINGS, known, content)
    r.publish(depends=known, content=content)
    assert r.reactor.has("/page.txt", ANY_CODINGS, known, content) is r.reactor.replays
    assert not r.reactor.has("/page.html", ANY_CODINGS, known, content)
    assert not r.reactor.has("/page.txt", ANY_CODINGS, known, object())
    assert not r.reactor.has("/page.txt", ANY_CODINGS, known * 2, content)
    os.utime(path, ns=(0, 1))
    changed = ((str(path), identity_of(os.stat(path))),)
    assert not r.reactor.has("/page.txt", ANY_CODINGS, changed, content)
    r.close()


def test_file_is_looked_at_again_for_bytes_that_python_has_read(
    compiled: backend.Backend, tmp_path: Path
) -> None:
    r, path = Rig(compiled), tmp_path / "file"
    path.write_bytes(BODY)
    r.publish(depends=((str(path), identity_of(os.stat(path))),))
    assert r.ask(get(H)) == []
    assert r.reactor.replay(r.fd, get(H)) == (READ, b"")
    os.utime(path, (0, 0))  # after the last look of a turn, and of a replay
    assert r.reactor.replay(r.fd, get(H)) == (READ, get(H))
    assert r.received().count(BODY) == 2
    r.close()


def test_new_answer_takes_the_place_of_the_old(hot: Rig) -> None:
    hot.publish(body=b"the next")
    hot.ask(get(H))
    assert hot.received().endswith(b"the next")
    assert hot.reactor.counters().entries == 1


def test_answers_that_are_filled_in_end_no_wait(compiled: backend.Backend) -> None:
    r, asked = Rig(compiled), []

    def fill(_: object, path: str, codings: int) -> Filled:
        asked.append(path)
        r.publish(path)
        if len(asked) < 3:
            r.client.send(get(H, target=f"/{len(asked)}"))
        elif len(asked) == 3:
            r.client.send(b"other")
        return Filled.PUBLISHED

    r.reactor.configure(SETTINGS, fill)
    r.client.send(get(H, target="/0"))
    assert r.next_events() == [(r.owner, READ, b"other")]
    assert asked == ["/0", "/1", "/2"]
    assert r.received().count(BODY) == 3
    r.close()


def test_wake_and_deadline_end_a_wait_that_fills_in(compiled: backend.Backend) -> None:
    r = Rig(compiled)

    def fill(_: object, path: str, codings: int) -> Filled:
        r.publish(path)
        r.client.send(get(H, target=f"{path}+"))
        if path == "/0++":
            r.reactor.wake()
        return Filled.PUBLISHED

    r.reactor.configure(SETTINGS, fill)
    r.client.send(get(H, target="/0"))
    assert r.next_events() == []  # woken while the third is filled in, for the turn of the fourth
    assert r.received().count(BODY) == 4
    assert r.turn() == []  # at its deadline already
    assert r.received().count(BODY) == 1
    r.close()


def test_configuring_forgets_every_answer(hot: Rig) -> None:
    hot.reactor.configure(SETTINGS, leave)
    assert hot.ask(get(H)) == [(hot.owner, READ, get(H))]
    assert (hot.reactor.counters().entries, hot.reactor.counters().entry_bytes) == (0, 0)


def test_table_stays_within_its_size_and_keeps_what_is_used(compiled: backend.Backend) -> None:
    size = 200_000
    r = Rig(compiled, cache_bytes=size)
    r.publish("/used", body=bytes(1000))
    for number in range(1000):
        r.publish(f"/{number}", body=bytes(1000))
        assert r.ask(get(H, target="/used")) == []
        r.received()
        assert r.reactor.counters().entry_bytes <= size
    counters = r.reactor.counters()
    assert counters.entries > 50
    assert counters.evicted == 1001 - counters.entries
    assert r.ask(get(H, target="/999")) == []
    assert r.ask(get(H, target="/0")) == [(r.owner, READ, get(H, target="/0"))]
    r.close()


def test_answer_larger_than_the_table_is_not_taken(compiled: backend.Backend) -> None:
    r = Rig(compiled, cache_bytes=100_000)
    r.publish("/small")
    r.publish("/large", body=bytes(100_000))
    assert r.ask(get(H, target="/small")) == []
    assert r.reactor.counters().entries == 1
    r.close()


def test_released_answers_are_freed(hot: Rig) -> None:
    body = b"x" * 5000
    before = sys.getrefcount(body)
    hot.publish("/kept", body=body)
    assert sys.getrefcount(body) > before
    hot.reactor.configure(SETTINGS, leave)
    assert sys.getrefcount(body) == before


# The process

HEAP = """
import threading
from fastws.backend import load

def size():
    for line in open("/proc/self/maps"):
        if line.endswith("[heap]\\n"):
            first, last = line.split()[0].split("-")
            return int(last, 16) - int(first, 16)

load(pure=False, required=True).reactor.share_one_heap()
before, kept = size(), []
thread = threading.Thread(target=lambda: kept.extend(bytes(1000) for _ in range(10_000)))
thread.start()
thread.join()
print(size() - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other libraries have one heap anyway")
def test_threads_share_the_first_heap(compiled: backend.Backend) -> None:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("MALLOC_")}
    done = subprocess.run(
        [sys.executable, "-c", HEAP], capture_output=True, text=True, timeout=60, env=environment, check=True
    )
    assert int(done.stdout) > 5_000_000


# What Python sends


def test_small_message_is_sent_without_waiting(compiled: backend.Backend) -> None:
    send_small = compiled.reactor().send_small
    assert send_small is not None
    client, ours = socket.socketpair()
    with client, ours:
        assert send_small(ours.fileno(), b"a message") == 9
        assert client.recv(100) == b"a message"
        ours.setblocking(False)
        with suppress(BlockingIOError):
            while ours.send(bytes(SMALL_BYTES)):
                pass
        ours.setblocking(True)
        with pytest.raises(BlockingIOError):
            send_small(ours.fileno(), b"more")
        client.close()
        with pytest.raises(ConnectionError):
            send_small(ours.fileno(), b"more")
    with pytest.raises(OSError, match="Bad file descriptor"):
        send_small(-1, b"more")


def test_small_message_lets_no_other_thread_in(compiled: backend.Backend) -> None:
    send_small = compiled.reactor().send_small
    assert send_small is not None
    interval = sys.getswitchinterval()
    client, ours = socket.socketpair()
    counts, is_over = [0], threading.Event()

    def count() -> None:
        while not is_over.is_set():
            counts[0] += 1
            time.sleep(0)

    thread = threading.Thread(target=count)
    with client, ours:
        sys.setswitchinterval(60)  # nobody takes the interpreter, unless it is given up
        try:
            thread.start()
            wait_until(lambda: counts[0])
            before = counts[0]
            for _ in range(50):
                send_small(ours.fileno(), b"a message")
            after = counts[0]
        finally:
            is_over.set()
            sys.setswitchinterval(interval)
        thread.join()
    assert after == before


# What does not fit the socket


def test_partial_send_says_exactly_what_is_left(hot: Rig) -> None:
    body = os.urandom(4 << 20)
    hot.publish("/big", body=body)
    ask, rest = get(H, "Referer: r", target="/big"), get(H)
    ((owner, kind, partial),) = hot.ask(ask + rest)
    assert (owner, kind) == (hot.owner, PARTIAL)
    assert isinstance(partial, PartialSend)
    assert (partial.request, partial.status, partial.rest, partial.close) == (ask, 200, rest, False)
    assert partial.body is body
    sent = b""
    while piece := hot.received():
        sent += piece
    head, _, begun = sent.partition(b"\r\n\r\n")
    assert without_date(head + b"\r\n") == HEAD_200
    assert partial.head == b""
    assert begun == body[: partial.offset]
    # Python sends the rest, and counts and logs it.
    assert hot.reactor.counters().hits == 0
    assert hot.reactor.take_log() == b""


def test_socket_that_takes_nothing_leaves_the_request_to_python(hot: Rig) -> None:
    hot.publish("/big", body=bytes(4 << 20))
    ((_, kind, _),) = hot.ask(get(H, target="/big"))
    assert kind == PARTIAL
    assert hot.ask(get(H)) == [(hot.owner, READ, get(H))]


def test_client_that_is_gone_is_a_reset_and_logged_with_nothing_sent(hot: Rig) -> None:
    hot.client.send(get(H))
    hot.client.close()
    assert hot.turn() == [(hot.owner, RESET, None)]
    assert hot.reactor.take_log().endswith(b' 200 0 "-" "-"\n')


@pytest.mark.parametrize("size", [1 << 20, 8 << 20])
def test_slow_reader_gets_all_of_a_large_answer(serve: Serve, tmp_path: Path, size: int) -> None:
    content = os.urandom(size)
    root = put(tmp_path / "root", {"big.bin": content})
    server = serve("CacheMaxFile 16M", root=root)
    for _ in range(3):
        with Client(server, receive_buffer=4096) as client:
            client.send(request("/big.bin", "User-Agent: slow") + request("/missing"))
            assert client.reply().body == content
            assert client.reply().status == 404
    server.stop()
    lines = Path(server.config.access_log).read_text().splitlines()
    assert [line.split('"', 2)[2] for line in lines if "big.bin" in line] == [f' 200 {size} "-" "slow"'] * 3


def test_reader_that_gives_up_is_logged_with_what_was_sent(serve: Serve, tmp_path: Path) -> None:
    size = 8 << 20  # more than the kernel takes ahead of a reader
    server = serve(
        "WorkerThreads 1", "CacheMaxFile 16M", root=put(tmp_path / "root", {"big.bin": bytes(size)})
    )
    taken = []
    for _ in range(3):
        with Client(server, receive_buffer=4096) as client:
            client.send(request("/big.bin"))
            client.head()
            taken.append(len(client.read(5000)))
        wait_until(lambda: server.connection_count() == 0)
    server.stop()
    sizes = [int(line.split()[9]) for line in Path(server.config.access_log).read_text().splitlines()]
    assert len(sizes) == 3
    assert all(5000 <= sent < size for sent in sizes)


# The same as Python says

EQUAL = {
    "get": get(H),
    "head": get(H, method="HEAD"),
    "query": get(H, target="/page.txt?q=1"),
    "1.0": get(version="HTTP/1.0"),
    "1.0 keep-alive": get("Connection: keep-alive", version="HTTP/1.0"),
    "close": get(H, "Connection: close"),
    "names and spaces": get("hOsT:   localhost  ", "uSER-aGENT:\t tabs\t"),
    "log": get(
        H, 'Referer: http://"quoted"/\\back', "User-Agent: caf\xe9 \x80 [tab\there]", target='/page.txt?"<>'
    ),
    "long log": get(H, "Referer: " + "r" * 3000, "User-Agent: " + 'a"' * 1000),
}


@pytest.mark.parametrize("log_format", ["combined", "combined_time", "json"])
@pytest.mark.parametrize("case", [*EQUAL, "etag", "date", "etag by head"])
def test_replayed_answer_and_its_line_are_those_of_python(
    compiled: backend.Backend, tmp_path: Path, case: str, log_format: str
) -> None:
    root = put(tmp_path / "root", {"page.txt": b"x" * 3000})
    path = tmp_path / "ws.conf"
    lines = [
        "ListenPort 8080", "DocumentRoot root", "DefaultType text/plain", "WorkerThreads 1", "Compression off",
        f"AccessLogFormat {log_format}", 'Header X-Own "value"', "CacheControl *.txt max-age=60",
    ]  # fmt: skip
    path.write_text("\n".join(lines) + "\n")
    settle(root / "page.txt")
    config = load(str(path)).with_overrides(listen_ports=(0,))
    said = []
    for number, side in enumerate((backend.load(pure=True), compiled)):
        own = config.with_overrides(access_log=str(tmp_path / f"log{number}"))
        with Server(own, backend=side) as server:
            with Client(server) as client:
                first = client.get("/page.txt")
            data = EQUAL.get(case)
            if data is None:
                validator = (
                    f"If-None-Match: {first['ETag']}"
                    if "etag" in case
                    else f"If-Modified-Since: {first['Last-Modified']}"
                )
                data = get(H, validator, method="HEAD" if "head" in case else "GET")
            with Client(server) as client:
                client.send(data)
                client.half_close()
                received = client.sock.makefile("rb").read()
            finish_turns(server)
            hits = server.worker_status()[0].cache_hits
        log = Path(own.access_log).read_bytes().splitlines()[1]
        line = re.sub(
            rb'\d\d:\d\d:\d\d(?= ?[+-]\d\d:?\d\d)|"duration":\d+\.\d{6}(?=,)| \d+\.\d{6}$', b"", log
        )
        said.append((without_date(received), line))
        assert hits == number
    assert said[0] == said[1]


# On time, and beside Python


class Flood:
    """A client that has always more hits under way than one turn answers, until the end."""

    def __init__(self, sock: socket.socket, data: bytes) -> None:
        self.sock, self.data = sock, data
        self.sock.setblocking(True)
        self._threads = [threading.Thread(target=run, daemon=True) for run in (self._send, self._receive)]
        for thread in self._threads:
            thread.start()

    def _send(self) -> None:
        while True:
            try:
                self.sock.sendall(self.data * 100)
            except OSError:
                return

    def _receive(self) -> None:
        with suppress(OSError):
            while self.sock.recv(1 << 20):
                pass

    def end(self) -> None:
        with suppress(OSError):
            self.sock.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(20)


def test_wait_ends_for_its_reasons_only_and_in_time_while_hits_go_on(hot: Rig) -> None:
    is_over = threading.Event()
    pairs = [socket.socketpair() for _ in range(4)]

    def ask(client: socket.socket) -> None:
        while not is_over.is_set():
            client.sendall(get(H))
            assert client.recv(1000).endswith(BODY)

    for _, ours in pairs:
        ours.setblocking(False)
        hot.reactor.add(ours.fileno(), hot.owner, "192.0.2.8")
    threads = [threading.Thread(target=ask, args=(client,), daemon=True) for client, _ in pairs]
    for thread in threads:
        thread.start()
    hits = 0
    for _ in range(5):
        deadline = time.monotonic() + 0.02
        while True:
            assert list(hot.reactor.wait(deadline)) == []
            if not hot.reactor.log_is_full:
                break
            hot.reactor.take_log()
        assert time.monotonic() >= deadline
        hits, before = hot.reactor.counters().hits, hits
        assert hits > before
    far = time.monotonic() + 3600
    hot.reactor.wake()
    assert list(hot.reactor.wait(far)) == []
    hot.reactor.take_log()
    assert list(hot.reactor.wait(far)) == []
    assert hot.reactor.log_is_full
    is_over.set()
    while any(thread.is_alive() for thread in threads):
        hot.turn()
    for client, ours in pairs:
        hot.reactor.remove(ours.fileno())
        client.close()
        ours.close()


def test_expiry_log_and_reload_are_on_time_under_an_endless_stream_of_hits(
    serve: Serve, tmp_path: Path
) -> None:
    server = serve(
        "WorkerThreads 1", "KeepaliveTime 1", root=put(tmp_path / "root", {"page.txt": b"x" * 100})
    )
    floods = []
    for _ in range(4):
        client = Client(server)
        client.get("/page.txt")
        floods.append(Flood(client.sock, request("/page.txt")))
    try:
        with Client(server) as idle:
            assert idle.get("/page.txt").status == 200
            assert idle.is_over()
        log = Path(server.config.access_log)
        wait_until(lambda: log.stat().st_size > 0)
        size = log.stat().st_size
        wait_until(lambda: log.stat().st_size > size)
        server.reload(lambda: server.config.with_overrides(server_header="changed"))
        with Client(server) as fresh:
            assert fresh.get("/page.txt")["Server"] == "changed"
        server.stop()
    finally:
        for flood in floods:
            flood.end()
    assert "cut off" not in Path(server.config.error_log).read_text()


CLIENT = """
import socket, sys
with socket.create_connection(("127.0.0.1", int(sys.argv[1]))) as client:
    data = b"GET /page.txt HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n"
    while True:
        client.sendall(data)
        if not client.recv(65536):
            break
"""


def test_hits_are_answered_while_another_thread_holds_the_gil(
    compiled: backend.Backend, tmp_path: Path
) -> None:
    put(tmp_path / "root", {"page.txt": b"x" * 100})
    (tmp_path / "ws.conf").write_text(
        "ListenPort 8080\nDocumentRoot root\nDefaultType text/plain\nAccessLog off\nWorkerThreads 2\n"
    )
    config = load(str(tmp_path / "ws.conf")).with_overrides(listen_ports=(0,))

    def hits() -> int:
        return sum(worker.cache_hits for worker in server.worker_status())

    with Server(config, backend=compiled) as server:
        clients = [subprocess.Popen([sys.executable, "-c", CLIENT, str(server.port)]) for _ in range(2)]
        try:
            wait_until(lambda: hits() > 100)
            numbers = list(range(1, 2_000_000)) * 2
            grown = []
            while max(grown, default=0) <= 50 and len(grown) < 20:
                before = hits()
                sorted(numbers, reverse=True)  # one call that never lets go of the GIL
                grown.append(hits() - before)
        finally:
            for client in clients:
                client.kill()
                client.wait(20)
    # Workers go to Python once in 0.9 s and wait for the GIL then; they may do so early in a call, not in all.
    assert max(grown) > 50, grown


# Compiled: bodies in files, and files on Python's behalf


def test_body_in_a_file_is_replayed_in_the_order_of_the_requests(big: tuple[Rig, Path]) -> None:
    r, _ = big
    r.client.setblocking(True)
    assert r.ask(request("/page.txt") + request("/big") + request("/page.txt") + request("/big")) == []
    data = b""
    while len(data) < 2 * len(BIG) or not data.endswith(BIG):
        data += r.client.recv(1 << 20)
    assert [part[-len(BODY) :] for part in data.split(b"HTTP/1.1 200 OK")[1:]] == 2 * [
        BODY,
        BIG[-len(BODY) :],
    ]
    assert data.count(BIG) == 2
    assert r.reactor.counters().file_bytes == 2 * len(BIG)
    assert [line.split()[-3:-2] for line in r.reactor.take_log().decode().splitlines()] == [
        [str(len(body))] for body in (BODY, BIG, BODY, BIG)
    ]


def test_head_and_304_of_a_body_in_a_file_open_nothing(big: tuple[Rig, Path]) -> None:
    r, _ = big
    assert r.ask(request("/big", method="HEAD") + request("/big", f"If-None-Match: {ETAG}")) == []
    answer = r.received()
    assert answer.count(b"HTTP/1.1 200") == answer.count(b"HTTP/1.1 304") == 1
    assert BIG[:100] not in answer
    assert r.reactor.counters().file_bytes == 0


def test_body_in_a_file_that_was_replaced_or_is_gone_is_a_miss(big: tuple[Rig, Path]) -> None:
    r, path = big
    fresh = path.with_name("fresh")
    fresh.write_bytes(BIG)
    os.replace(fresh, path)
    asked = request("/page.txt") + request("/big")
    assert r.ask(asked) == [(r.owner, READ, request("/big"))]
    publish_file(r, path)
    path.unlink()
    assert r.ask(asked) == [(r.owner, READ, request("/big"))]
    assert r.received().count(BODY) == 2


INSIDE, OUTSIDE = b"inside! " * 40_000, b"outside " * 40_000
LOOKS = 120
SLOW_PATH_BYTES = 4000
"""A path of so many bytes takes the kernel some time to walk; it may have 4096."""


def put_a_link_above(here: Path) -> None:
    os.rename(here / "inside", here / "gone")
    os.symlink(here / "outside", here / "inside")


OTHERS: dict[str, tuple[str, Callable[[Path], object]]] = {
    # name: (the file that is published, what makes it another)
    "replaced": ("inside/big", lambda here: os.replace(here / "outside/big", here / "inside/big")),
    "rewritten": ("inside/big", lambda here: (here / "inside/big").write_bytes(OUTSIDE)),
    "gone": ("inside/big", lambda here: os.unlink(here / "inside/big")),
    "link": ("link", lambda here: os.replace(here / "fresh link", here / "link")),
    "link above": ("above/big", lambda here: os.replace(here / "fresh above", here / "above")),
    "new link above": ("inside/big", put_a_link_above),
}


def lay_out(here: Path) -> None:
    for folder, content in (("inside", INSIDE), ("outside", OUTSIDE)):
        (here / folder).mkdir(parents=True)
        (here / folder / "big").write_bytes(content)
    (here / "link").symlink_to("inside/big")
    (here / "fresh link").symlink_to("outside/big")
    (here / "above").symlink_to("inside")
    (here / "fresh above").symlink_to("outside")


@pytest.mark.parametrize("other", OTHERS)
def test_body_comes_from_no_other_file_than_was_looked_at(
    compiled: backend.Backend, tmp_path: Path, other: str
) -> None:
    # The file becomes another within the turn that has found it fresh, and before it is opened. HEAD has the
    # reactor look at it, the requests after that keep it busy, and GET has it open the file. The first answers
    # leave together: when they are there, the look is over.
    name, make_another = OTHERS[other]
    r, slow = Rig(compiled), tmp_path / "slow"
    r.ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
    slow.touch()
    slow_path = f"{tmp_path}/{'./' * ((SLOW_PATH_BYTES - len(str(slow))) // 2)}slow"
    for number in range(LOOKS):
        r.publish(f"/{number}", depends=((slow_path, identity_of(os.stat(slow))),) * 4)
    asked = request("/big", method="HEAD") + b"".join(request(f"/{number}") for number in range(LOOKS))
    outcomes: list[tuple[int, Any]] = []

    def turn() -> None:
        outcomes.append(r.reactor.replay(r.fd, asked + request("/big")))

    for attempt in range(100):
        here = tmp_path / str(attempt)
        lay_out(here)
        publish_file(r, here / name)
        thread = threading.Thread(target=turn)
        thread.start()
        r.client.setblocking(True)
        data = r.client.recv(1 << 20)
        make_another(here)
        thread.join(TIMEOUT_S)
        r.client.setblocking(False)
        while piece := r.received():
            data += piece
        kind, rest = outcomes.pop()
        if kind == PARTIAL:
            data += os.pread(rest.file, rest.length, rest.offset)
            os.close(rest.file)
        assert b"outside " not in data
        if (kind, rest) == (READ, request("/big")):
            break  # it was another in time
        assert data.endswith(b"inside! ")
    else:
        pytest.fail("the file never became another in time")
    r.close()


def test_what_does_not_fit_of_a_body_in_a_file_comes_with_its_descriptor(big: tuple[Rig, Path]) -> None:
    r, path = big
    content = 64 * BIG
    path.write_bytes(content)
    publish_file(r, path)
    r.ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    [(owner, kind, partial)] = r.ask(request("/big") + b"rest")
    assert (owner, kind) == (r.owner, PARTIAL)
    assert (partial.request, partial.head, partial.body) == (request("/big"), b"", b"")
    assert (partial.length, partial.rest) == (len(content), b"rest")
    assert 0 < partial.offset < len(content)
    try:
        left = os.pread(partial.file, len(content), partial.offset)
    finally:
        os.close(partial.file)
    assert content[: partial.offset] + left == content
    assert r.received().endswith(content[: partial.offset][-100:])


def test_transfer_goes_on_without_python_and_says_when_it_is_over(rig: Start, tmp_path: Path) -> None:
    r = rig()
    (tmp_path / "big").write_bytes(BIG)
    r.ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    received = b""
    with (tmp_path / "big").open("rb") as file:
        r.reactor.transfer(r.fd, file.fileno(), 100, len(BIG) - 100)
        events = r.turn()
        while not events:
            received += r.received()
            assert r.reactor.transferred(r.fd) >= len(received)
            events = r.turn()
        received += r.received()
        assert events == [(r.owner, WRITE, None)]
        sent = r.reactor.end_transfer(r.fd)
    assert (r.reactor.transferred(r.fd), r.reactor.end_transfer(r.fd)) == (0, 0)
    # The pure side leaves all of it to Python.
    assert received == (BIG[100:] if r.reactor.side == "compiled" else b"")
    assert sent == len(received)


def test_transfer_of_a_file_that_shrank_is_left_to_python(compiled: backend.Backend, tmp_path: Path) -> None:
    r = Rig(compiled)
    (tmp_path / "big").write_bytes(BIG)
    with (tmp_path / "big").open("rb") as file:
        r.reactor.transfer(r.fd, file.fileno(), 0, len(BIG) + 1)
        assert r.turn() == [(r.owner, WRITE, None)]
        assert r.turn() == [(r.owner, WRITE, None)]
        assert r.reactor.end_transfer(r.fd) == len(BIG)
    r.close()


# Compiled: connections that are kept


@pytest.fixture
def arriving(compiled: backend.Backend) -> Iterator[tuple[Rig, socket.socket]]:
    """A compiled rig with one published answer, and a listener."""
    made = Rig(compiled)
    made.publish()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        made.reactor.add_listener(listener.fileno(), listener)
        yield made, listener
    made.close()


def connect_and_keep(arriving: tuple[Rig, socket.socket], data: bytes = b"") -> socket.socket:
    """Connect and send; the reactor has the connection when this returns."""
    r, listener = arriving
    client = socket.create_connection(listener.getsockname())
    client.settimeout(TIMEOUT_S)
    client.sendall(data)
    most = r.reactor.kept + 1
    wait_until(lambda: r.turn(room=most) == [] and r.reactor.kept == most, "a connection")
    return client


def read_to_end(client: socket.socket) -> bytes:
    received = b""
    while piece := client.recv(4096):
        received += piece
    return received


def turn_until_none_is_kept(r: Rig) -> None:
    """The network may be late; Python is not needed."""
    wait_until(lambda: r.turn() == [] and r.reactor.kept == 0, "the end of all that was kept")


def test_kept_connection_is_answered_and_closed_without_python(arriving: tuple[Rig, socket.socket]) -> None:
    r, _ = arriving
    with connect_and_keep(arriving, request("/page.txt", "Connection: close")) as client:
        turn_until_none_is_kept(r)
        answer = read_to_end(client)
    assert answer.startswith(HEAD_200)
    assert answer.endswith(b"Connection: close\r\n\r\n" + BODY)
    assert r.reactor.take_log().startswith(b"127.0.0.1 - - [")


def test_kept_connection_that_ends_or_breaks_is_closed_without_python(
    arriving: tuple[Rig, socket.socket],
) -> None:
    r, _ = arriving
    before = open_descriptors()
    with connect_and_keep(arriving) as ending, connect_and_keep(arriving) as breaking:
        ending.shutdown(socket.SHUT_WR)
        breaking.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        breaking.close()
        turn_until_none_is_kept(r)
        assert read_to_end(ending) == b""
    assert open_descriptors() == before


LAST = request("/page.txt", "Connection: close")


def test_kept_connection_is_read_on_after_its_last_answer(arriving: tuple[Rig, socket.socket]) -> None:
    """What was sent behind the request, and what comes later, is neither answered nor a reason for a reset."""
    r, _ = arriving
    with connect_and_keep(arriving, LAST + request("/page.txt")) as client:
        answer = b""
        while not answer.endswith(BODY):
            assert r.turn() == []
            answer += client.recv(4096)
        for _ in range(5):
            client.sendall(request("/page.txt"))
            assert r.turn() == []
        assert r.reactor.kept == 1
        assert list(r.reactor.take_kept()) == []  # it is none that waits for a request
        assert client.recv(4096) == b""
        client.shutdown(socket.SHUT_WR)
        turn_until_none_is_kept(r)
    assert r.reactor.counters().hits == 1


@pytest.mark.parametrize("ends", ["by age", "by bytes", "by a reset", "with the reactor"])
def test_kept_connection_lingers_within_bounds(
    compiled: backend.Backend, monkeypatch: pytest.MonkeyPatch, ends: str
) -> None:
    monkeypatch.setattr(seam, "LINGER_S", 0.2 if ends == "by age" else 3600.0)
    monkeypatch.setattr(seam, "LINGER_BYTES", 10)
    before = open_descriptors()
    r = Rig(compiled)
    r.publish()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        r.reactor.add_listener(listener.fileno(), listener)
        clients = [connect_and_keep((r, listener), LAST) for _ in range(3)]
        for client in clients:
            wait_until(
                lambda client=client: r.turn() == [] and select.select([client], [], [], 0)[0], "an answer"
            )
        if ends == "with the reactor":
            r.close()
        elif ends == "by bytes":
            for client in clients[::-1]:
                client.sendall(b"x" * 10)
                assert r.turn() == []
                assert r.reactor.kept == 3
            for client in clients[1:] + clients[:1]:  # the middle one first
                client.sendall(b"x")
        elif ends == "by a reset":
            for client in clients[1:] + clients[:1]:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                client.close()
        if ends != "with the reactor":
            turn_until_none_is_kept(r)
            r.close()
        for client in clients:
            client.close()
    assert open_descriptors() == before


def test_connections_that_linger_count_towards_the_room(arriving: tuple[Rig, socket.socket]) -> None:
    r, listener = arriving
    with connect_and_keep(arriving, LAST) as client:
        wait_until(lambda: r.turn(room=1) == [] and select.select([client], [], [], 0)[0], "an answer")
        with socket.create_connection(listener.getsockname()):
            wait_until(lambda: r.turn(room=1) == [(listener, ACCEPT, None)], "more than there is room for")


def test_drain_hears_of_the_end_of_a_connection_that_lingers(arriving: tuple[Rig, socket.socket]) -> None:
    """The wait returns, with nothing: a server that ends may have waited for this one."""
    r, _ = arriving
    with connect_and_keep(arriving, LAST) as client:
        wait_until(lambda: r.turn() == [] and select.select([client], [], [], 0)[0], "an answer")
        r.reactor.drain()
    began = time.monotonic()
    assert r.reactor.wait(began + TIMEOUT_S) == []
    assert time.monotonic() < began + TIMEOUT_S
    assert r.reactor.kept == 0


@pytest.mark.parametrize(
    ("data", "came"),
    [
        (request("/missing"), (READ, request("/missing"))),
        (request("/page.txt") + b"GET /", (READ, b"GET /")),
    ],
)
def test_kept_connection_is_python_s_when_it_needs_it(
    arriving: tuple[Rig, socket.socket], data: bytes, came: tuple[int, bytes]
) -> None:
    r, listener = arriving
    with socket.create_connection(listener.getsockname()) as client:
        client.sendall(data)
        events: list[Any] = []
        # What was sent by the time it is accepted comes with it.
        wait_until(lambda: events or events.extend(r.turn(room=1)), "what needs Python")
        [((fd, peer, _), kind, what)] = events
        assert (peer, kind, what) == ("127.0.0.1", ARRIVE, came)
        assert r.reactor.kept == 1
        r.reactor.add(fd, "owner", peer)
        assert r.reactor.kept == 0
        client.sendall(request("/nothing"))
        assert r.next_events() == [("owner", READ, request("/nothing"))]
        r.reactor.remove(fd)
        os.close(fd)


def test_kept_connections_that_stay_arrive_by_age(arriving: tuple[Rig, socket.socket]) -> None:
    r, _ = arriving
    begun = time.monotonic()
    clients = [connect_and_keep(arriving) for _ in range(3)]
    clients[0].sendall(request("/page.txt"))
    clients.pop(1).close()
    arrived: list[socket.socket] = []
    while len(arrived) < 2:
        for (fd, *_), kind, came in r.next_events():
            assert (kind, came) == (ARRIVE, None)
            r.reactor.add(fd, fd, "127.0.0.1")
            arrived.append(socket.socket(fileno=fd))
    assert time.monotonic() - begun >= 0.1
    assert clients[0].recv(4096).endswith(BODY)
    # In the order of their arrival, both open.
    assert [sock.getpeername() for sock in arrived] == [client.getsockname() for client in clients]
    for sock in arrived:
        r.reactor.remove(sock.fileno())
    for sock in (*arrived, *clients):
        sock.close()


def test_connection_that_was_accepted_elsewhere_is_kept(arriving: tuple[Rig, socket.socket]) -> None:
    r, _ = arriving
    ours, client = socket.socketpair()
    with client:
        ours.setblocking(False)
        assert r.reactor.keep(ours.detach(), "192.0.2.9")
        assert r.reactor.kept == 1
        client.sendall(request("/page.txt", "Connection: close"))
        assert r.turn() == []
        assert read_to_end(client).endswith(BODY)
    assert r.reactor.take_log().startswith(b"192.0.2.9 - - [")


def test_what_cannot_be_watched_is_not_kept(arriving: tuple[Rig, socket.socket], tmp_path: Path) -> None:
    r, _ = arriving
    with (tmp_path / "file").open("wb") as file:  # epoll takes no regular files
        assert not r.reactor.keep(file.fileno(), "192.0.2.9")
        with pytest.raises(OSError, match="not permitted"):
            r.reactor.add(file.fileno(), "owner", "192.0.2.9")
    assert r.reactor.kept == 0


def test_taken_connections_are_all_that_are_kept(arriving: tuple[Rig, socket.socket]) -> None:
    r, _ = arriving
    clients = [connect_and_keep(arriving) for _ in range(3)]
    kept = r.reactor.take_kept()
    assert [peer for _, peer, _ in kept] == ["127.0.0.1"] * 3
    for fd, peer, _ in kept:
        r.reactor.add(fd, fd, peer)
    assert (r.reactor.kept, list(r.reactor.take_kept())) == (0, [])
    clients[2].sendall(b"x")
    assert r.next_events() == [(kept[2][0], READ, b"x")]
    for fd, *_ in kept:
        r.reactor.remove(fd)
        os.close(fd)
    for client in clients:
        client.close()


def test_closed_reactor_closes_what_it_keeps(compiled: backend.Backend) -> None:
    before = open_descriptors()
    r = Rig(compiled)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        r.reactor.add_listener(listener.fileno(), listener)
        with connect_and_keep((r, listener)) as waiting, connect_and_keep((r, listener), b"x") as reported:
            assert [kind for _, kind, _ in r.next_events()] == [ARRIVE]
            r.close()
            assert read_to_end(waiting) + read_to_end(reported) == b""
    assert open_descriptors() == before


def test_no_more_are_kept_than_there_is_room_for(arriving: tuple[Rig, socket.socket]) -> None:
    r, listener = arriving
    clients = [socket.create_connection(listener.getsockname()) for _ in range(5)]
    wait_until(lambda: r.turn(room=2) == [(listener, ACCEPT, None)], "more than there is room for")
    assert r.reactor.kept == 2
    for client in clients:
        client.close()
    # The two are over, so that there is room again.
    wait_until(lambda: r.turn(room=2) == [] and r.reactor.kept == 0, "the end of them all")


def test_connections_in_a_manner_that_the_reactor_does_not_know_are_python_s(
    arriving: tuple[Rig, socket.socket],
) -> None:
    r, listener = arriving
    r.reactor.remove_listener(listener.fileno())
    r.reactor.add_listener(listener.fileno(), listener, 7)
    with socket.create_connection(listener.getsockname()) as client:
        wait_until(lambda: r.turn(room=2) == [(listener, ACCEPT, None)], "the connection")
        [(fd, peer)] = r.reactor.accept(listener, 10)
        assert not r.reactor.keep(fd, peer, 7)
        assert r.reactor.kept == 0
        os.close(fd)
        assert client.recv(1) == b""


def test_accepting_without_keeping_reads_nothing(arriving: tuple[Rig, socket.socket]) -> None:
    r, listener = arriving
    with socket.create_connection(listener.getsockname()) as client:
        client.sendall(request("/page.txt"))
        assert r.next_events() == [(listener, ACCEPT, None)]
        [(fd, _)] = r.reactor.accept(listener, 10)
        with socket.socket(fileno=fd) as ours:
            assert ours.recv(4096) == request("/page.txt")
        assert r.turn() == []
