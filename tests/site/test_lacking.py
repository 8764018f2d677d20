"""What a reactor lacks: it asks for that within its turn, by a function that is the test's own here."""

from __future__ import annotations

import os
import re
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from conftest import PURE_ONLY
from rawhttp import TIMEOUT_S, request

from fastws import backend
from fastws.engine.answer import continue_answer
from fastws.http.httpdate import format_http_date, parse_http_date
from fastws.http.messages import ANY_CODINGS, Limits, Prepared
from fastws.seam import (
    ARRIVE,
    DONE,
    PARTIAL,
    PLAIN,
    READ,
    REASON,
    RESET,
    Filled,
    PartialSend,
    Published,
    ReplaySettings,
)

pytestmark = pytest.mark.skipif(PURE_ONLY, reason="FASTWS_NO_EXTENSIONS=1: nothing is filled")

HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n"


class Rig:
    """A compiled reactor that watches some connections; ``fill`` is what it calls for what it lacks."""

    def __init__(
        self, fill: Callable[[Any, str, int], object], count: int = 1, cache_bytes: int = 1 << 20
    ) -> None:
        self.reactor = backend.load(pure=False, required=True).reactor()
        self.reactor.configure(
            ReplaySettings(
                limits=Limits(),
                methods=("GET", "HEAD"),
                versions=("HTTP/1.0", "HTTP/1.1"),
                cache_bytes=cache_bytes,
                log_format="combined",
                default_codings=0,
            ),
            fill,
        )  # type: ignore[arg-type]
        self.pairs = [socket.socketpair() for _ in range(count)]
        self.clients = [client for client, _ in self.pairs]
        for i, (client, ours) in enumerate(self.pairs):
            client.setblocking(False)
            ours.setblocking(False)
            self.reactor.add(ours.fileno(), i, "192.0.2.7")

    def close(self) -> None:
        for client, ours in self.pairs:
            if ours.fileno() >= 0:
                self.reactor.remove(ours.fileno())
                ours.close()
            client.close()
        self.reactor.close()

    def turn(self) -> list[tuple[object, int, Any]]:
        return list(self.reactor.wait(time.monotonic(), 0))

    def received(self, i: int = 0) -> bytes:
        try:
            return self.clients[i].recv(1 << 20)
        except BlockingIOError:
            return b""


@pytest.fixture
def rig() -> Iterator[Callable[..., Rig]]:
    """Return a function that makes a rig, closed at the end."""
    with ExitStack() as stack:

        def make(fill: Callable[[Any, str, int], object], **others: Any) -> Rig:
            made = Rig(fill, **others)
            stack.callback(made.close)
            return made

        yield make


Make = Callable[..., Rig]


def publish(reactor: backend.Reactor, path: str, body: bytes = b"body", codings: int = ANY_CODINGS) -> Filled:
    not_modified = b"HTTP/1.1 304 Not Modified\r\n"
    reactor.publish(Published(path, codings, HEAD % len(body), not_modified, body, '"tag"', "", (), None))
    return Filled.PUBLISHED


def test_fill_is_asked_for_the_path_and_the_codings(rig: Make) -> None:
    asked = []
    r = rig(lambda reactor, path, codings: asked.append((reactor, path, codings)) or publish(reactor, path))
    r.reactor.learn_codings("gzip", 7)
    fields = (), ("Accept-Encoding: gzip",), ("Accept-Encoding: unheard",)
    for n, lines in enumerate(fields):
        r.clients[0].send(request(f"/%FF{n}?query", *lines))
        assert r.turn() == []
        assert r.received().endswith(b"\r\n\r\nbody")
    assert [reactor is r.reactor for reactor, _, _ in asked] == [True] * 3
    assert [found[1:] for found in asked] == [("/%FF0", 0), ("/%FF1", 7), ("/%FF2", -2)]
    assert r.reactor.counters().filled == 3


@pytest.mark.parametrize(
    "fill",
    [
        lambda *_: Filled.UNDECIDED,
        lambda *_: Filled.PUBLISHED,
        lambda reactor, path, _: publish(reactor, path + "x"),
        lambda reactor, path, codings: publish(reactor, path, codings=codings + 1),
        lambda reactor, path, _: publish(reactor, path, bytes(2 << 20)),
    ],
)
def test_what_is_not_published_is_pythons(rig: Make, fill: Callable[..., object]) -> None:
    asked = []
    r = rig(lambda *about: asked.append(about[1]) or fill(*about), count=2)
    publish(r.reactor, "/hot")
    hot, cold = request("/hot"), request("/cold") + request("/hot")
    r.clients[0].send(hot + cold)
    r.clients[1].send(cold)
    assert sorted(r.turn(), key=str) == [(0, READ, cold), (1, READ, cold)]
    assert r.received().count(b"HTTP/1.1 200") == 1
    assert r.received(1) == b""
    assert asked == ["/cold"] * 2
    assert r.turn() == []
    assert (r.reactor.counters().hits, r.reactor.counters().filled) == (1, 0)


def test_answer_to_what_was_lacking_is_of_the_moment(rig: Make) -> None:
    def slow(reactor: backend.Reactor, path: str, _: int) -> Filled:
        time.sleep(1.1)
        return publish(reactor, path)

    r = rig(slow)
    begun = int(time.time())
    r.clients[0].send(request("/cold", "Connection: close"))
    assert [event[:2] for event in r.turn()] == [(0, DONE)]
    (date,) = re.findall(rb"Date: (.*)\r\n", r.received())
    assert format_http_date(begun).encode() < date
    assert parse_http_date(date.decode(), time.time()) > begun
    counters = r.reactor.counters()
    assert 1.1 <= counters.duration_s < 10


def test_burst_of_one_connection_does_not_keep_the_others_waiting(rig: Make) -> None:
    asked = []

    def slow(reactor: backend.Reactor, path: str, _: int) -> Filled:
        asked.append(path)
        time.sleep(0.006)
        return publish(reactor, path)

    r = rig(slow, count=2)
    for client in r.clients:
        client.send(b"".join(request(f"/{client.fileno()}-{n}") for n in range(100)))
    events = r.turn()
    assert len(asked) <= 4
    for i, client in enumerate(r.clients):
        own = [path for path in asked if path.startswith(f"/{client.fileno()}-")]
        assert own  # each had its turn
        rest = b"".join(request(f"/{client.fileno()}-{n}") for n in range(len(own), 100))
        assert (i, READ, rest) in events


def test_connection_that_stays_is_passed_on_though_others_lack_something_all_the_time(rig: Make) -> None:
    r = rig(lambda *_: Filled.UNDECIDED)
    client, ours = socket.socketpair()
    assert r.reactor.keep(ours.fileno(), "192.0.2.8")
    deadline, arrived = time.monotonic() + TIMEOUT_S, []
    while not arrived:
        assert time.monotonic() < deadline
        r.clients[0].send(request("/cold"))
        arrived = [event for event in r.turn() if event[1] == ARRIVE]
    assert arrived == [((ours.fileno(), "192.0.2.8", PLAIN), ARRIVE, None)]
    r.reactor.add(ours.fileno(), "owner", "192.0.2.8")
    r.reactor.remove(ours.fileno())
    ours.close()
    client.close()


def test_old_connection_that_lacks_something_arrives_once(rig: Make) -> None:
    r = rig(lambda reactor, path, _: publish(reactor, path) if path == "/filled" else Filled.UNDECIDED)
    for path in ("/filled", "/missing"):
        client, ours = socket.socketpair()
        assert r.reactor.keep(ours.fileno(), "192.0.2.8")
        time.sleep(0.15)
        client.send(request(path))
        came = None if path == "/filled" else (READ, request(path))
        assert r.turn() == [((ours.fileno(), "192.0.2.8", PLAIN), ARRIVE, came)]
        assert bool(client.recv(999, socket.MSG_DONTWAIT) if came is None else b"") == (came is None)
        r.reactor.add(ours.fileno(), "owner", "192.0.2.8")
        r.reactor.remove(ours.fileno())
        ours.close()
        client.close()


def test_wake_while_a_lack_is_filled_in_ends_the_wait(rig: Make) -> None:
    r = rig(lambda reactor, path, _: reactor.wake() or publish(reactor, path))
    for n in range(3):
        r.clients[0].send(request(f"/{n}"))
        begun = time.monotonic()
        assert list(r.reactor.wait(begun + TIMEOUT_S)) == []
        assert time.monotonic() - begun < TIMEOUT_S / 2
        assert r.received()


def test_last_answer_of_a_drain_may_be_a_filled_one(rig: Make) -> None:
    r = rig(lambda reactor, path, _: publish(reactor, path))
    r.reactor.drain()
    r.clients[0].send(request("/cold") + request("/after"))
    assert r.turn() == [(0, DONE, request("/after"))]
    assert b"Connection: close\r\n" in r.received()


def whole(r: Rig, i: int, partial: PartialSend) -> bytes:
    """The body of the answer of which the client has got a part."""
    text = r.received(i) + partial.head + bytes(partial.body)[partial.offset :]
    return text.rpartition(b"\r\n\r\n")[2]


def test_rest_of_an_answer_is_right_though_its_entry_is_replaced(rig: Make) -> None:
    big, other = os.urandom(400_000), os.urandom(300_000)

    def fill(reactor: backend.Reactor, path: str, _: int) -> Filled:
        for name in ("/big", "/a", "/b", "/c"):
            publish(reactor, name, other)
        return publish(reactor, path, other)

    r = rig(fill, count=6)
    publish(r.reactor, "/big", big)
    for n, client in enumerate(r.clients):
        client.send((request("/big") if n < 4 else b"") + request(f"/cold{n}") + request("/big"))
    events = r.turn()
    assert [(i, kind) for i, kind, _ in events] == [(n, PARTIAL) for n in range(6)]
    assert r.reactor.counters().evicted > 5
    for n, (_, _, partial) in enumerate(events):
        assert whole(r, n, partial) == (big if n < 4 else other)
        assert partial.rest == (request(f"/cold{n}") if n < 4 else b"") + request("/big")


def test_answer_that_was_begun_is_counted_by_who_ends_it(rig: Make) -> None:
    r = rig(lambda reactor, path, _: publish(reactor, path, bytes(1_000_000)))
    r.clients[0].send(request("/cold") + request("/cold", method="HEAD"))
    assert [event[:2] for event in r.turn()] == [(0, PARTIAL)]
    assert (r.reactor.counters().hits, r.reactor.counters().filled) == (0, 0)


# What is made for one request

MISSING = Prepared(
    404, b"HTTP/1.1 404 Not Found\r\nContent-Length: 9\r\n", b"not there", "There is no such file."
)


def reasons(events: list[tuple[object, int, Any]]) -> list[str]:
    """The request lines of the reasons among ``events``, which must be those of MISSING."""
    found = [event for event in events if event[1] == REASON]
    assert all((peer, data[:2]) == ("192.0.2.7", (404, MISSING.detail)) for peer, _, data in found)
    return [data[2] for _, _, data in found]


def without_date(text: bytes) -> bytes:
    return re.sub(rb"Date: [^\r]*\r\n", b"", text)


def test_prepared_answer_is_sent_once_and_its_reason_reported(rig: Make) -> None:
    asked = []
    r = rig(lambda *about: asked.append(about[1]) or MISSING)
    for _ in range(2):
        r.clients[0].send(request("/none?a=b", "Referer: x"))
        assert reasons(r.turn()) == ["GET /none?a=b HTTP/1.1"]
        assert without_date(r.received()) == MISSING.head + b"\r\n" + MISSING.body
    assert asked == ["/none"] * 2
    counters = r.reactor.counters()
    assert (counters.hits, counters.filled, counters.missing, counters.body_bytes) == (2, 2, 2, 18)
    assert (counters.entries, sum(counters.durations)) == (0, 2)
    assert r.reactor.take_log().count(b'"GET /none?a=b HTTP/1.1" 404 9 "x" "-"\n') == 2


def test_prepared_answer_fits_the_request(rig: Make) -> None:
    r = rig(lambda *_: MISSING)
    r.clients[0].send(request("/none", method="HEAD") + b"GET /old HTTP/1.0\r\n\r\n")
    events = r.turn()
    assert reasons(events) == ["HEAD /none HTTP/1.1", "GET /old HTTP/1.0"]
    assert [event for event in events if event[1] != REASON] == [(0, DONE, b"")]
    end = b"Connection: close\r\n\r\n"
    assert without_date(r.received()) == MISSING.head + b"\r\n" + MISSING.head + end + MISSING.body


def test_prepared_answers_and_published_ones_leave_in_their_order(rig: Make) -> None:
    r = rig(lambda reactor, path, _: MISSING if "none" in path else publish(reactor, path), count=2)
    paths = ["/none", "/a", "/a", "/none-b", "/none", "/c", "/a", "/none"]
    for client in r.clients:
        client.send(b"".join(map(request, paths)))
    assert sorted(reasons(r.turn())) == sorted(
        [f"GET {path} HTTP/1.1" for path in paths if "none" in path] * 2
    )
    for i in range(2):
        found = re.findall(rb"HTTP/1.1 (\d+)", r.received(i))
        assert found == [b"404" if "none" in path else b"200" for path in paths]


def test_what_is_missing_has_no_parts(rig: Make) -> None:
    r = rig(lambda *_: MISSING)
    lines = ["Range: bytes=0-1"], ["Range: bytes=99-"], ["Range: items=1", 'If-Range: "a"'], []
    r.clients[0].send(b"".join(request("/none", *each) for each in lines))
    assert reasons(r.turn()) == ["GET /none HTTP/1.1"] * 4
    assert without_date(r.received()) == (MISSING.head + b"\r\n" + MISSING.body) * 4
    assert (r.reactor.counters().filled, r.reactor.counters().missing) == (4, 4)


def test_prepared_answer_that_does_not_fit_is_finished_by_python_and_its_reason_reported_once(
    rig: Make,
) -> None:
    large = MISSING._replace(body=os.urandom(4 << 20))
    r = rig(lambda *_: large)
    r.clients[0].send(request("/none") + request("/rest"))
    events = r.turn()
    assert reasons(events) == ["GET /none HTTP/1.1"]
    ((_, kind, partial),) = [event for event in events if event[1] != REASON]
    assert (kind, partial.status, partial.rest) == (PARTIAL, 404, request("/rest"))
    text = b""
    while piece := r.received():
        text += piece
    answer = continue_answer(None, partial)
    assert (text + bytes(answer.response.body[0])).endswith(b"\r\n\r\n" + large.body)
    assert answer.response.detail == ""
    assert r.reactor.counters().missing == 0


def test_prepared_answer_for_which_there_is_no_room_is_pythons(rig: Make) -> None:
    r = rig(lambda *_: MISSING)
    ours = r.pairs[0][1]
    while True:
        try:
            ours.send(bytes(65536))
        except BlockingIOError:
            break
    r.clients[0].send(request("/none"))
    assert r.turn() == [(0, READ, request("/none"))]
    assert r.reactor.take_log() == b""


def test_reason_is_reported_though_the_client_is_gone(rig: Make) -> None:
    r = rig(lambda *_: MISSING)
    r.clients[0].send(request("/none"))
    r.clients[0].close()
    events = r.turn()
    assert reasons(events) == ["GET /none HTTP/1.1"]
    assert [event for event in events if event[1] != REASON] == [(0, RESET, None)]
    assert b'" 404 0 ' in r.reactor.take_log()
