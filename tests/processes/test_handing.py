"""Which process gets a request, how many it gets ahead, and what becomes of those that it had not begun."""

from __future__ import annotations

import logging
import math
import os
import socket
import sys
import tempfile
from collections.abc import Iterator
from typing import Any

import pytest
from exhausted import without_descriptors

from fastws.application.body import Spool
from fastws.application.environ import Ends
from fastws.application.loan import Loan
from fastws.application.mounts import Call, Mount
from fastws.backend import load_parser
from fastws.http.messages import Request
from fastws.processes import handing as module
from fastws.processes import wire
from fastws.processes.child import ENDED, SERVING, Child, Files, Settings
from fastws.processes.crew import Crew
from fastws.processes.handing import Handing

pytestmark = [
    pytest.mark.skipif(sys.platform == "win32", reason="there are no application processes"),
    pytest.mark.posix,
]

ENDS = Ends("127.0.0.1", "127.0.0.1", 80, "http")


def place_of(data: bytes) -> tuple[Mount, Ends]:
    place = wire.unpack_place(data)
    return Mount(place.prefix, nothing, place.name), place.ends


def nothing(*_: Any) -> list[bytes]:
    return []


class Bench:
    """A crew of processes that are sockets, and what hands requests to them."""

    def __init__(self) -> None:
        self.crew = Crew(logging.getLogger("test"), load_parser(pure=True))
        self.crew.wake = lambda: None
        self.handing = Handing(self.crew)
        self.readers: dict[int, wire.Reader] = {}
        self._open: list[socket.socket] = []

    def add(self, threads: int = 1) -> Child:
        """Add a process that serves."""
        number = len(self.crew.children) + 1
        self.crew.settings = Settings(1, threads, 200, ("m:app",), "/", False, {}, False, 10.0)
        ours, its = socket.socketpair()
        ours.setblocking(False)
        its.setblocking(False)
        self._open += (ours, its)
        files = Files(tempfile.TemporaryFile(buffering=0), tempfile.TemporaryFile(buffering=0))  # noqa: SIM115
        child = Child(number, None, ours, files, self.crew.settings)  # type: ignore[arg-type]
        child.state = SERVING
        self.crew.children[number] = child
        self.readers[number] = wire.Reader(its)
        return child

    def submit(self, target: str, body: bytes = b"") -> Loan:
        """Submit a request."""
        spool = Spool()
        spool += body
        loan = self.loan(target, spool)
        assert self.handing.submit(loan)
        self.handing.send()
        return loan

    def loan(self, target: str, body: Spool) -> Loan:
        """Return the loan of a request."""
        request = Request("GET", target, "HTTP/1.1", {"host": "x"}, 0)
        call = Call(Mount("", nothing, "m:app"), request, "", target, "", "", ())
        return Loan(call, ENDS, body, lambda: None)

    def frames(self, child: Child) -> list[wire.Frame]:
        """Return what a process has got since the last call."""
        reader = self.readers[child.number]
        try:
            reader.receive()
        except BlockingIOError:
            return []
        return list(reader.frames())

    def received(self, child: Child) -> list[str]:
        """Return the targets that a process has got since the last call."""
        requests = [frame.payload for frame in self.frames(child) if frame.kind == wire.REQUEST]
        return [wire.unpack_request(payload, place_of).call.request.target for payload in requests]

    def answer(self, child: Child, took_s: float) -> None:
        """Have the oldest request of a process answered after so long."""
        number, loan = next(iter(child.streams.items()))
        loan.begun_at -= took_s
        self.handing.finish(child, number)
        self.handing.serve_waiting()
        self.crew.tell_on()

    def close(self) -> None:
        for each in self._open:
            each.close()
        for child in self.crew.children.values():
            for file in child.files:
                file.close()


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    monkeypatch.setattr(module, "QUICK_S", 60.0)  # longer than a busy machine takes for what is quick here
    made = Bench()
    yield made
    made.close()


def test_request_is_as_it_was_packed() -> None:
    spool = Spool()
    spool += b"body\0"
    fields = {"host": "x", "x-a": "\xe9, b", "empty": ""}
    request = Request("POST", "/p/a%2Fb?q=1&r?", "HTTP/1.0", fields, 99)
    call = Call(Mount("/p\udcff", nothing, "m:app"), request, "/p\xff", "/a/b", "q=1&r?", "j\xf6rg", ())
    frame = wire.pack_request(7, call, ENDS, spool)
    stream, kind, length = wire.HEADER.unpack_from(frame)
    assert (stream, kind, length) == (7, wire.REQUEST, len(frame) - wire.HEADER.size)
    asked = wire.unpack_request(frame[wire.HEADER.size :], place_of)
    assert asked[1:] == (ENDS, b"body\0", 5, False)
    assert asked.call.mount == Mount("/p\udcff", nothing, "m:app")
    assert asked.call.request == request._replace(size=0)
    assert asked.call[2:] == call[2:]


def test_request_goes_to_the_process_with_the_fewest(bench: Bench) -> None:
    first, second = bench.add(threads=2), bench.add(threads=2)
    for target in "/a", "/b", "/c":
        bench.submit(target)
    assert (bench.received(first), bench.received(second)) == (["/a", "/c"], ["/b"])


def test_none_gets_ahead_while_nothing_waits(bench: Bench) -> None:
    child = bench.add()
    for _ in range(5):
        bench.submit("/quick")
        bench.answer(child, 0.0)
    assert child.ahead == 0


def test_quick_process_gets_ahead_while_others_wait_and_a_slow_one_does_not(bench: Bench) -> None:
    child = bench.add()
    for number in range(2 * module.AHEAD + 8):
        bench.submit(f"/{number}")
    assert bench.received(child) == ["/0"]
    bench.answer(child, 0.0)
    assert bench.received(child) == ["/1", "/2"]
    for _ in range(module.AHEAD + 2):
        bench.answer(child, 0.0)
    assert child.ahead == module.AHEAD
    for number in range(10):
        bench.submit(f"/late{number}")
    held = len(child.streams)
    bench.answer(child, 2 * module.QUICK_S)
    assert child.ahead == module.AHEAD // 2
    assert len(child.streams) == held - 1


def test_body_in_a_file_does_not_go_ahead(bench: Bench) -> None:
    child = bench.add()
    child.ahead = 5
    bench.submit("/running")
    bench.submit("/upload", b"x" * 100_000)
    assert bench.received(child) == ["/running"]
    assert bench.handing.waiting == 1
    bench.answer(child, 0.0)
    assert bench.handing.waiting == 0


def test_what_no_thread_has_taken_is_handed_to_another(bench: Bench) -> None:
    child = bench.add()
    child.ahead = 5
    loans = [bench.submit(f"/{number}") for number in range(4)]
    loans[2].abandon()
    bench.received(child)
    child.files.taken.write(wire.COUNTER.pack(2))
    assert child.close() == loans[:2]
    del bench.crew.children[child.number]
    other = bench.add(threads=4)
    bench.handing.put_back(list(child.streams.values()))
    assert bench.received(other) == ["/3"]
    assert loans[3].is_begun
    assert not loans[3].take().is_over


def test_what_waits_ahead_and_is_late_is_no_reason_to_end_its_process(bench: Bench) -> None:
    child = bench.add()
    child.ahead = 5
    bench.submit("/running")
    waiting = bench.submit("/waiting")
    child.files.taken.write(wire.COUNTER.pack(1))
    waiting.abandon(is_late=True)
    assert child.state == SERVING
    assert not child.kill_at


def test_what_waits_in_a_process_that_answers_nothing_is_called_back(bench: Bench) -> None:
    child, other = bench.add(), bench.add()
    child.ahead = 5
    other.state = ENDED
    loans = [bench.submit(f"/{number}") for number in range(3)]
    assert bench.received(child) == ["/0", "/1", "/2"]
    assert bench.handing.recall(child, child.recall_at - 0.001) == child.recall_at
    assert bench.frames(child) == []
    bench.handing.recall(child, child.recall_at)
    assert [frame.kind for frame in bench.frames(child)] == [wire.RECALL]
    assert child.recall_at == math.inf
    other.state = SERVING
    bench.handing.take_back(child, [2, 3])
    assert bench.received(other) == ["/1"]
    assert bench.handing.waiting == 1
    assert list(child.streams.values()) == loans[:1]
    assert (child.ahead, child.recall_at) == (0, 0.0)


def test_what_is_answered_meanwhile_is_not_called_back(bench: Bench) -> None:
    child = bench.add()
    child.ahead = 5
    for number in range(2):
        bench.submit(f"/{number}")
    bench.answer(child, 0.0)
    assert bench.handing.recall(child, math.inf) == math.inf
    assert child.recall_at == 0.0
    bench.received(child)
    assert bench.frames(child) == []


def test_body_in_a_file_is_handed_on_where_no_descriptor_is_free(bench: Bench) -> None:
    child = bench.add()
    spool = Spool()
    spool += b"x" * 100_000
    loan = bench.loan("/", spool)
    with without_descriptors():
        assert bench.handing.submit(loan)
        bench.handing.send()
    [frame] = bench.frames(child)
    asked = wire.unpack_request(frame.payload, place_of)
    assert (asked.has_file, asked.size) == (True, 100_000)
    fd = bench.readers[child.number].take_fd()
    assert os.fstat(fd).st_size == 100_000
    os.close(fd)
