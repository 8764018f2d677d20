"""What the server believes of what an application process says."""

from __future__ import annotations

import logging
import socket
import struct

import pytest

from fastws.application.body import Spool
from fastws.application.environ import Ends
from fastws.application.loan import Loan
from fastws.application.mounts import Call, Mounts
from fastws.backend import Backend
from fastws.http.messages import Given, Request
from fastws.http.target import parse_target
from fastws.processes import wire
from fastws.processes.child import Child, Settings
from fastws.processes.crew import Crew
from fastws.processes.handing import Handing
from fastws.processes.hearing import Hearing


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
    mounts = Mounts({}, {"/": "module:application"})
    request, mount = Request("GET", "/", "HTTP/1.1", {}, 0), mounts.find("/")
    assert mount is not None
    call = Call(*mounts.call(mount, request, parse_target("/"), "", (("Server", "s"),)))
    loan = Loan(call, Ends("127.0.0.1", "127.0.0.1", 80, "http"), Spool(), lambda: None)
    settings = Settings(1, 1, 1, ("module:application",), "/", False, {}, False, 10.0)
    ours, its = socket.socketpair()
    child = Child(1, None, ours, None, settings)  # type: ignore[arg-type]
    child.streams[7] = loan
    crew = Crew(logging.getLogger("test"), side.parser)
    its.sendall(wire.pack(7, wire.HEAD, struct.pack("<q", length) + lines))
    with ours, its:
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
