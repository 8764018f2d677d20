"""What an application process sends: answers held, sent as a whole or in parts; all of it before it ends."""

from __future__ import annotations

import itertools
import socket
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from rawhttp import TIMEOUT_S

from fastws.application.body import NO_BODY
from fastws.application.environ import Ends
from fastws.application.loan import AbandonedError
from fastws.application.mounts import Call, Mount
from fastws.http.errors import HTTPError
from fastws.http.messages import Given, Request
from fastws.processes import stream as module
from fastws.processes import wire
from fastws.processes.stream import Outlet, Stream

pytestmark = [
    pytest.mark.skipif(sys.platform == "win32", reason="there are no application processes"),
    pytest.mark.posix,
]

HEAD = Given(200, b"HTTP/1.1 200 OK\r\n", 4, False)


class Pausing:
    """A socket; a thread that is about to send pauses."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self.has_begun, self.may_go_on = threading.Event(), threading.Event()

    def sendall(self, data: bytes) -> None:
        self.has_begun.set()
        self.may_go_on.wait(TIMEOUT_S)
        self._sock.sendall(data)


class Bench:
    """Streams of one process, and the server's end of its socket."""

    def __init__(self) -> None:
        ours, self._its = socket.socketpair()
        ours.setblocking(False)
        self._ours = ours
        self._reader = wire.Reader(ours)
        self._numbers = itertools.count(1)
        self.outlet = Outlet(self._its)
        self.over: list[int] = []

    def begin(self) -> Stream:
        """Return a stream whose application has begun at this moment."""
        call = Call(Mount("", lambda *_: []), Request("GET", "/", "HTTP/1.1", {}, 0), "", "/", "", "", ())
        ends = Ends("127.0.0.1", "127.0.0.1", 80, "http")
        stream = Stream(self.outlet, self.over.append, next(self._numbers), call, ends, NO_BODY)
        stream.begun_at = float("inf")  # it takes no time
        assert stream.begin()
        return stream

    def kinds(self) -> list[tuple[int, int]]:
        """Return what has come since the last call: streams and kinds of frames."""
        try:
            while self._reader.receive():
                pass
        except BlockingIOError:
            pass
        return [(frame.stream, frame.kind) for frame in self._reader.frames()]

    def close(self) -> None:
        self._ours.close()
        self._its.close()


@pytest.fixture
def bench() -> Iterator[Bench]:
    made = Bench()
    yield made
    made.close()


def test_quick_answers_are_held_and_sent_together(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "HOLD_S", 60.0)
    for _ in range(3):
        bench.begin().put(HEAD, b"body", is_over=True)
    assert bench.kinds() == []
    assert bench.over == [1, 2, 3]
    bench.outlet.flush()
    assert bench.kinds() == [(1, wire.ANSWER), (2, wire.ANSWER), (3, wire.ANSWER)]


def test_answers_are_not_held_for_long(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "HOLD_S", -1.0)
    stream = bench.begin()
    stream.put(HEAD, b"body", is_over=True)
    assert bench.kinds() == [(1, wire.ANSWER)]


def test_answer_that_took_long_is_sent_at_once_with_those_before(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "HOLD_S", 60.0)
    bench.begin().put(HEAD, b"body", is_over=True)
    slow = bench.begin()
    slow.begun_at = float("-inf")
    slow.put(HEAD, b"bo", b"dy", is_over=True)
    assert bench.kinds() == [(1, wire.ANSWER), (2, wire.ANSWER)]


def test_answer_in_parts_is_sent_as_it_comes(bench: Bench) -> None:
    stream = bench.begin()
    stream.put(HEAD, b"bo")
    assert bench.kinds() == [(1, wire.HEAD), (1, wire.DATA)]
    assert bench.over == []
    stream.put(None, b"dy", is_over=True)
    assert bench.kinds() == [(1, wire.DATA), (1, wire.OVER)]
    assert bench.over == [1]


def test_long_answer_waits_for_credit(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "AHEAD_BYTES", wire.PIECE_BYTES)  # the socket takes more at once
    stream = bench.begin()
    stream.put(HEAD, b"x" * 2 * wire.PIECE_BYTES, is_over=True)
    assert bench.kinds() == [(1, wire.HEAD), (1, wire.DATA), (1, wire.FREE)]
    assert bench.over == []
    stream.add_credit(wire.PIECE_BYTES)
    assert bench.kinds() == [(1, wire.DATA), (1, wire.OVER)]
    assert bench.over == [1]


def test_error_ends_an_answer_once(bench: Bench) -> None:
    failed, done = bench.begin(), bench.begin()
    failed.fail(HTTPError(500, "no"))
    done.put(HEAD, b"body", is_over=True)
    done.fail(HTTPError(500, "too late"))
    bench.outlet.flush()
    assert bench.kinds() == [(1, wire.ERROR), (2, wire.ANSWER)]
    assert bench.over == [1, 2]


@pytest.mark.parametrize("is_begun", [True, False])
def test_nothing_is_sent_of_what_nobody_waits_for(bench: Bench, is_begun: bool) -> None:
    stream = bench.begin()
    if is_begun:
        stream.put(HEAD, b"bo")
    stream.abandon()
    bench.kinds()
    assert not stream.begin()
    with pytest.raises(AbandonedError):
        stream.put(HEAD, b"body", is_over=True)
    with pytest.raises(AbandonedError):
        stream.put(None, b"dy")
    stream.fail(HTTPError(500, "no"))
    stream.add_credit(1)
    bench.outlet.flush()
    assert bench.kinds() == []


def test_server_that_is_gone_ends_the_answer(bench: Bench) -> None:
    whole, parts = bench.begin(), bench.begin()
    whole.begun_at = float("-inf")
    bench.close()
    with pytest.raises(AbandonedError):
        whole.put(HEAD, b"body", is_over=True)
    parts.put(HEAD, b"bo")
    with pytest.raises(AbandonedError):
        parts.put(None, b"dy")
    assert bench.over == [1, 2]


def test_end_waits_for_what_another_thread_is_about_to_send() -> None:
    """The main thread closes the channel once no request is left, and the last answer may be on its way."""
    ours, theirs = socket.socketpair()
    pausing: Any = Pausing(ours)
    outlet = Outlet(pausing)
    outlet.hold(b"the last answer", 0.0)
    sending = threading.Thread(target=outlet.flush)
    ending = threading.Thread(target=outlet.finish)
    with ours, theirs:
        theirs.settimeout(TIMEOUT_S)
        sending.start()
        assert pausing.has_begun.wait(TIMEOUT_S)
        ending.start()
        ending.join(0.1)
        assert ending.is_alive()
        pausing.may_go_on.set()
        ending.join(TIMEOUT_S)
        assert not ending.is_alive()
        sending.join(TIMEOUT_S)
        assert theirs.recv(100) == b"the last answer"
