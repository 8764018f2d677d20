"""An application process as the server meets it: what is said on its socket, and what comes back."""

from __future__ import annotations

import json
import socket
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from rawhttp import wait_until

from fastws.application.body import Spool
from fastws.application.environ import Ends
from fastws.application.mounts import Call, Mount
from fastws.http.messages import Request
from fastws.processes import inside, wire

pytestmark = [
    pytest.mark.skipif(sys.platform == "win32", reason="there are no application processes"),
    pytest.mark.posix,
]


class Place:
    """A process that is a thread here, and the server's end of its socket."""

    def __init__(self, threads: int) -> None:
        self.opened = threading.Event()
        self.targets: list[str] = []
        self.peers: list[str] = []
        self.sock, its = socket.socketpair()
        self.sock.settimeout(60)
        self._its = its
        self._taken = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115
        self._taken.truncate(wire.COUNTER.size)
        settings = {"number": 1, "threads": threads, "is_pure": True}
        process = inside._Process(its, self._taken.fileno(), settings)
        process._applications["m:app"] = self._application
        self.thread = threading.Thread(target=process.run, daemon=True)
        self.thread.start()
        self._reader = wire.Reader(self.sock)
        assert self.next()[0].kind == wire.READY

    def _application(self, environ: dict[str, Any], start: Callable[..., Any]) -> list[bytes]:
        self.targets.append(environ["REQUEST_URI"])
        self.peers.append(environ["REMOTE_ADDR"])
        if environ["PATH_INFO"] == "/slow":
            self.opened.wait(60)
        start("200 OK", [])
        return [environ["PATH_INFO"].encode()]

    def say(self, *frames: bytes) -> None:
        """Send frames in one step."""
        self.sock.sendall(b"".join(frames))

    def next(self) -> list[wire.Frame]:
        """Return what has come in one step."""
        assert self._reader.receive()
        return list(self._reader.frames())

    @property
    def taken(self) -> int:
        """How many requests were begun, as the server sees it."""
        self._taken.seek(0)
        return int(wire.COUNTER.unpack(self._taken.read(wire.COUNTER.size))[0])

    def close(self) -> None:
        self.opened.set()
        self.sock.close()
        self.thread.join(60)
        self._its.close()
        self._taken.close()


@pytest.fixture
def place_of() -> Iterator[Callable[[int], Place]]:
    made: list[Place] = []

    def make(threads: int) -> Place:
        made.append(Place(threads))
        return made[-1]

    yield make
    for place in made:
        place.close()


def request(number: int, path: str = "/quick", peer: str = "127.0.0.1", body: bytes = b"") -> bytes:
    spool = Spool()
    spool += body
    call = Call(
        Mount("", lambda *_: [], "m:app"),
        Request("GET", path, "HTTP/1.1", {"host": "x"}, 0),
        "",
        path,
        "",
        "",
        (),
    )
    return wire.pack_request(number, call, Ends(peer, "127.0.0.1", 80, "http"), spool)


def test_what_came_at_once_is_answered_and_counted(place_of: Callable[[int], Place]) -> None:
    place = place_of(4)
    place.say(*[request(number) for number in (1, 2, 3)])
    frames: list[wire.Frame] = []
    while len(frames) < 3:
        frames += place.next()
    assert [frame.kind for frame in frames] == [wire.ANSWER] * 3
    assert sorted(frame.stream for frame in frames) == [1, 2, 3]
    assert wire.unpack_answer(frames[0].payload) == (6, b"HTTP/1.1 200 OK\r\n", b"/quick")
    assert place.taken == 3


def test_request_beside_a_slow_one_is_answered(place_of: Callable[[int], Place]) -> None:
    place = place_of(2)
    place.say(request(1), request(2, "/slow"), request(3))
    answered: list[int] = []
    while len(answered) < 2:
        answered += [frame.stream for frame in place.next()]
    assert sorted(answered) == [1, 3]
    place.opened.set()
    assert [frame.stream for frame in place.next()] == [2]


@pytest.mark.parametrize("threads", [1, 3])
def test_what_no_thread_has_taken_is_given_back(place_of: Callable[[int], Place], threads: int) -> None:
    place = place_of(threads)
    slow = [request(number, "/slow") for number in range(1, threads + 1)]
    place.say(*slow)
    wait_until(lambda: len(place.targets) == threads)
    place.say(request(8), request(9), wire.pack(0, wire.RECALL))
    (frame,) = place.next()
    assert (frame.kind, json.loads(frame.payload)) == (wire.RECALLED, [8, 9])
    assert place.taken == threads + 2
    place.opened.set()
    wait_until(lambda: place.taken == threads + 2)
    assert set(place.targets) == {"/slow"}


def test_answer_that_nobody_waits_for_is_not_sent(place_of: Callable[[int], Place]) -> None:
    place = place_of(1)
    place.say(request(1, "/slow"), request(2))
    wait_until(lambda: place.targets == ["/slow"])
    place.say(wire.pack(1, wire.CANCEL), wire.pack(2, wire.CANCEL), wire.pack(0, wire.RECALL))
    (frame,) = place.next()
    assert (frame.kind, frame.payload) == (wire.RECALLED, b"[]")
    place.say(request(3))
    place.opened.set()
    assert [frame.stream for frame in place.next()] == [3]
    assert place.targets == ["/slow", "/quick"]


def test_process_ends_when_all_is_answered(place_of: Callable[[int], Place]) -> None:
    place = place_of(1)
    place.say(request(1, "/slow"), wire.pack(0, wire.QUIT))
    wait_until(lambda: place.targets == ["/slow"])
    assert place.thread.is_alive()
    place.opened.set()
    assert [frame.stream for frame in place.next()] == [1]
    place.thread.join(60)
    assert not place.thread.is_alive()


def test_call_that_nobody_waits_for_keeps_no_process_from_ending(place_of: Callable[[int], Place]) -> None:
    place = place_of(1)
    place.say(request(1, "/slow"))
    wait_until(lambda: place.targets == ["/slow"])
    place.say(wire.pack(1, wire.CANCEL), wire.pack(0, wire.QUIT))
    place.thread.join(60)
    assert not place.thread.is_alive()


def test_clients_beyond_those_that_are_remembered_are_served(
    place_of: Callable[[int], Place], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inside, "PLACES", 1)
    place = place_of(1)
    for number, peer in enumerate(("192.0.2.1", "192.0.2.2", "192.0.2.1")):
        place.say(request(number, f"/peer{number}", peer))
        assert [frame.stream for frame in place.next()] == [number]
    assert place.peers == ["192.0.2.1", "192.0.2.2", "192.0.2.1"]


def test_body_whose_file_does_not_come_is_503_and_the_next_request_is_answered(
    place_of: Callable[[int], Place],
) -> None:
    place = place_of(1)
    place.say(request(1, "/lost", body=b"x" * 100_000))
    (frame,) = place.next()
    assert (frame.stream, frame.kind, json.loads(frame.payload)[0]) == (1, wire.ERROR, 503)
    place.say(request(2))
    assert [(frame.stream, frame.kind) for frame in place.next()] == [(2, wire.ANSWER)]
    assert (place.targets, place.taken) == (["/quick"], 2)
