"""What the server believes of what an application process says."""

from __future__ import annotations

import logging
import os
import socket
import struct
import sys
from pathlib import Path

import pytest
from exhausted import without_descriptors

from fastws.application.body import Spool
from fastws.application.environ import Ends
from fastws.application.loan import Loan
from fastws.application.mounts import Call, Mounts
from fastws.application.wsgi import OwnedFile
from fastws.backend import Backend
from fastws.http.messages import FileSlice, Given, Request
from fastws.http.target import parse_target
from fastws.processes import wire
from fastws.processes.child import Child, Settings
from fastws.processes.crew import Crew
from fastws.processes.handing import Handing
from fastws.processes.hearing import Hearing

pytestmark = [
    pytest.mark.skipif(sys.platform == "win32", reason="there are no application processes"),
    pytest.mark.posix,
]


def make_loan() -> Loan:
    mounts = Mounts({}, {"/": "module:application"})
    request, mount = Request("GET", "/", "HTTP/1.1", {}, 0), mounts.find("/")
    assert mount is not None
    call = Call(*mounts.call(mount, request, parse_target("/"), "", (("Server", "s"),)))
    return Loan(call, Ends("127.0.0.1", "127.0.0.1", 80, "http"), Spool(), lambda: None)


def make_child(side: Backend) -> tuple[Crew, Child, socket.socket]:
    """Return a process that is a socket, and the other end of that."""
    settings = Settings(1, 1, 1, ("module:application",), "/", False, {}, False, 10.0)
    ours, its = socket.socketpair()
    child = Child(1, None, ours, None, settings)  # type: ignore[arg-type]
    return Crew(logging.getLogger("test"), side.parser), child, its


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
