"""What the server believes of what an application process says."""

from __future__ import annotations

import io
import logging
import os
import socket
import struct
import sys
from pathlib import Path

import pytest
from exhausted import without_descriptors
from hypothesis import given
from hypothesis import strategies as st

from fastws.application.body import Spool
from fastws.application.environ import Ends
from fastws.application.loan import Loan
from fastws.application.mounts import Call, Mounts
from fastws.application.wsgi import OwnedFile
from fastws.backend import Backend
from fastws.backend import load as load_backend
from fastws.http.messages import FileSlice, Given, Request
from fastws.http.target import parse_target
from fastws.processes import wire
from fastws.processes.child import RETIRING, SERVING, Child, Files, Settings
from fastws.processes.crew import Crew
from fastws.processes.handing import Handing
from fastws.processes.hearing import Hearing

pytestmark = [
    pytest.mark.skipif(sys.platform == "win32", reason="there are no application processes"),
    pytest.mark.posix,
]


def make_loan(method: str = "GET") -> Loan:
    mounts = Mounts({}, {"/": "module:application"})
    request, mount = Request(method, "/", "HTTP/1.1", {}, 0), mounts.find("/")
    assert mount is not None
    call = Call(*mounts.call(mount, request, parse_target("/"), "", (("Server", "s"),)))
    return Loan(call, Ends("127.0.0.1", "127.0.0.1", 80, "http"), Spool(), lambda: None)


class Killing:
    """A spawner that notes what it is to kill."""

    def __init__(self) -> None:
        self.killed: list[int] = []

    def kill(self, number: int, signal_number: int) -> None:
        self.killed.append(number)


def make_crew(side: Backend, log: str = "test") -> Crew:
    crew = Crew(logging.getLogger(log), side.parser)
    crew.wake = lambda: None
    return crew


def make_child(side: Backend) -> tuple[Crew, Child, socket.socket]:
    """Return a process that is a socket, and the other end of that."""
    settings = Settings(1, 1, 1, ("module:application",), "/", False, {}, False, 10.0)
    ours, its = socket.socketpair()
    files = Files(io.BytesIO(), io.BytesIO())
    child = Child(1, Killing(), ours, files, settings)  # type: ignore[arg-type]
    child.state = SERVING
    return make_crew(side), child, its


@pytest.mark.parametrize(
    ("lines", "length", "status"),
    [
        (b"HTTP/1.1 200 OK\r\nX-A: b\r\n", 5, 0),
        (b"HTTP/1.1 200 \r\n", -1, 0),
        (b"HTTP/1.1 200 OK\r\nX-A: b\nSet-Cookie: forged=1\r\n", -1, 502),
        (b"HTTP/1.1 200 OK\r\nX-A: b\r\n\r\nforged", -1, 502),
        (b"HTTP/1.1 200 OK\r\nX-A b\r\n", -1, 502),
        (b"HTTP/1.1 200 OK\r\nX-A: b", -1, 502),
        (b"HTTP/1.1 200 OK\rX: y\r\n", -1, 502),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n", -1, 502),
        (b"HTTP/1.1 101 Switching Protocols\r\n", -1, 502),
        (b"", -1, 502),
    ],
)
def test_head_is_checked_once_more(side: Backend, lines: bytes, length: int, status: int) -> None:
    crew, child, its = make_child(side)
    loan = child.streams[7] = make_loan()
    its.sendall(wire.pack(7, wire.HEAD, struct.pack("<q", length) + lines))
    with child.sock, its:
        Hearing(crew, Handing(crew)).receive(child)
    portion = loan.take()
    if status:
        assert portion.head is None
        assert portion.error is not None
        assert portion.error.status == status
    else:
        assert portion.head is not None
        sent = lines.replace(b"200 \r\n", b"200 OK\r\n") + b"Server: s\r\n"
        assert portion.head == (200, sent, None if length < 0 else length, False)


def test_head_is_as_the_process_packed_it() -> None:
    head = Given(404, b"HTTP/1.1 404 Nope: \xe9\r\nA: b: c\r\nD: \r\n", 7, False)
    frame = wire.pack_head(3, head)[wire.HEADER.size :]
    length, lines = wire.unpack_head(frame)
    assert length == 7
    assert wire.unpack_lines(lines) == ("404 Nope: \xe9", [("A", "b: c"), ("D", "")])


def test_file_for_which_no_descriptor_is_free_is_503_and_the_next_one_is_not_taken_for_it(
    side: Backend, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    crew, child, its = make_child(side)
    loans = {number: make_loan() for number in (7, 8)}
    child.streams.update(loans)
    hearing = Hearing(crew, Handing(crew))
    head = struct.pack("<q", 1) + b"HTTP/1.1 200 OK\r\n"

    def answer(number: int, more: bytes) -> None:
        path = tmp_path / f"{number}"
        path.write_bytes(b"%d" % number)
        frames = [wire.pack(number, wire.HEAD, head), wire.pack_json(number, wire.FILE, [0, 1]), more]
        with path.open("rb") as file:
            wire.send(its, b"".join(frames), (file.fileno(),))

    with child.sock, its:
        answer(7, b"")
        with without_descriptors():
            hearing.receive(child)
        answer(8, wire.pack(7, wire.OVER) + wire.pack(8, wire.OVER))
        hearing.receive(child)
        assert [frame[:2] for frame in frames_of(its)] == [(7, wire.CANCEL)]
    lost, sent = (loans[number].take() for number in (7, 8))
    assert lost.head is None
    assert lost.error is not None
    assert lost.error.status == 503
    assert "Too many open files" in caplog.text
    assert sent.error is None
    [piece] = sent.pieces
    assert isinstance(piece, FileSlice)
    assert isinstance(piece.file, OwnedFile)
    assert os.pread(piece.file.fd, 9, 0) == b"8"
    piece.file.close()


def frames_of(sock: socket.socket) -> list[wire.Frame]:
    reader = wire.Reader(sock)
    assert reader.receive()
    return list(reader.frames())


def head_of(length: int, status: int = 200) -> bytes:
    return wire.pack(7, wire.HEAD, struct.pack("<q", length) + b"HTTP/1.1 %d OK\r\n" % status)


def answer_of(length: int, body: bytes, lines: bytes = b"HTTP/1.1 200 OK\r\n") -> bytes:
    return wire.pack(7, wire.ANSWER, struct.pack("<qI", length, len(lines)) + lines + body)


DATA, OVER = wire.pack(7, wire.DATA, b"123"), wire.pack(7, wire.OVER)

BROKEN = {
    "unknown kind": wire.pack(7, 99),
    "kind of another direction": wire.pack(7, wire.REQUEST, b"x" * 50),
    "empty answer": wire.pack(7, wire.ANSWER),
    "answer cut off": wire.pack(7, wire.ANSWER, struct.pack("<qI", 5, 1 << 31) + b"HTTP/1.1 200 OK\r\n"),
    "answer shorter than announced": answer_of(5, b"four"),
    "answer longer than announced": answer_of(3, b"four"),
    "answer after a head": head_of(-1) + answer_of(4, b"four"),
    "empty head": wire.pack(7, wire.HEAD),
    "second head": head_of(-1) + head_of(-1),
    "body without a head": DATA,
    "end without a head": OVER,
    "more than announced": head_of(5) + DATA + DATA,
    "less than announced": head_of(5) + DATA + OVER,
    "body of a 204": head_of(-1, 204) + DATA,
    "error that is no JSON": wire.pack(7, wire.ERROR, b"{"),
    "error that is no list": wire.pack_json(7, wire.ERROR, 5),
    "error without a status": wire.pack_json(7, wire.ERROR, ["500", "x"]),
    "error of a client": wire.pack_json(7, wire.ERROR, [404, "x"]),
    "deep JSON": wire.pack(7, wire.ERROR, b"[" * 60_000),
    "no UTF-8": wire.pack(7, wire.ERROR, b"\xff"),
    "file of half a byte": wire.pack_json(7, wire.FILE, [0, 0.5]),
    "file before its begin": wire.pack_json(7, wire.FILE, [-1, 5]),
    "file without an end": wire.pack_json(7, wire.FILE, [1, 2**63 - 1]),
    "line of a log without a text": wire.pack_json(0, wire.LOG, [20, "thread", None, ""]),
    "streams given back that are none": wire.pack_json(0, wire.RECALLED, [[]]),
    "stream given back that is answered": head_of(-1) + wire.pack_json(0, wire.RECALLED, [7]),
}


@pytest.mark.parametrize("said", BROKEN.values(), ids=BROKEN)
def test_process_that_says_what_none_says_is_killed_and_its_requests_are_502(
    side: Backend, said: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    crew, child, its = make_child(side)
    loans = {number: make_loan() for number in (7, 8)}
    child.streams.update(loans)
    child.busy.update(loans)
    hearing = Hearing(crew, Handing(crew))
    with child.sock, its:
        its.sendall(said + wire.pack(8, wire.DATA, b"never heard"))
        while (is_open := hearing.receive(child)) is True:
            pass
        assert is_open is False
        assert hearing.receive(child) is False
    for loan in loans.values():
        portion = loan.take()
        assert portion.error is not None
        assert (portion.error.status, portion.is_over) == (502, False)
    assert (child.state, child.streams, child.busy, child.coming) == (RETIRING, {}, set(), {})
    assert child.spawner.killed == [1]  # type: ignore[attr-defined]
    [record] = caplog.records
    assert "it says what no process says" in record.getMessage()
    assert record.exc_info is None


@pytest.mark.parametrize(
    ("method", "said", "is_over"),
    [
        ("GET", head_of(6) + DATA + DATA + OVER, True),
        ("GET", head_of(-1) + DATA, False),
        ("GET", head_of(0) + OVER, True),
        ("GET", head_of(5, 304) + OVER, True),
        ("HEAD", head_of(5) + OVER, True),
        ("HEAD", answer_of(5, b""), True),
        ("GET", answer_of(5, b"", b"HTTP/1.1 304 X\r\n"), True),
        ("GET", answer_of(-1, b"some"), True),
        ("GET", answer_of(4, b"four"), True),
        ("GET", head_of(3) + wire.pack_json(7, wire.ERROR, [500, "failed"]), False),
    ],
)
def test_what_processes_say_is_believed(side: Backend, method: str, said: bytes, *, is_over: bool) -> None:
    crew, child, its = make_child(side)
    loan = child.streams[7] = make_loan(method)
    with child.sock, its:
        its.sendall(said + wire.pack(99, wire.DATA, b"of a request that nobody waits for"))
        assert Hearing(crew, Handing(crew)).receive(child) is True
    portion = loan.take()
    assert portion.head is not None
    assert (portion.is_over, not child.is_broken) == (is_over, True)


KINDS = st.sampled_from(
    [wire.READY, wire.FAILED, wire.HEAD, wire.DATA, wire.FILE, wire.OVER, wire.ERROR, wire.LOG, wire.FREE,
     wire.ANSWER, wire.CHANGED, wire.RECALLED, 0, 255]
)  # fmt: skip
VALUES = st.recursive(
    st.integers(-1, 600) | st.text(max_size=3) | st.none(), lambda x: st.lists(x, max_size=4)
)
PAYLOADS = st.binary(max_size=40) | VALUES.map(lambda value: wire.pack_json(0, 0, value)[wire.HEADER.size :])


@given(st.lists(st.tuples(st.integers(6, 9), KINDS, PAYLOADS), max_size=8))
def test_nothing_that_a_process_says_is_an_exception(frames: list[tuple[int, int, bytes]]) -> None:
    crew, child, its = make_child(load_backend(pure=True))
    crew.log.disabled = True
    child.streams.update({number: make_loan() for number in (7, 8)})
    crew.children[1] = child
    with child.sock, its:
        its.sendall(b"".join([wire.pack(*frame) for frame in frames]) + wire.pack(0, wire.FREE))
        Hearing(crew, Handing(crew)).receive(child)
    crew.log.disabled = False
