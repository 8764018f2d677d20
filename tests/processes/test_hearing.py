"""What the server believes of what an application process says."""

from __future__ import annotations

import logging
import socket
from typing import Any

import pytest

from fastws.application.body import Spool
from fastws.application.environ import Ends
from fastws.application.loan import Loan
from fastws.application.mounts import Call, Mounts
from fastws.http.messages import Request
from fastws.http.target import parse_target
from fastws.processes import wire
from fastws.processes.child import Child, Settings
from fastws.processes.crew import Crew
from fastws.processes.handing import Handing
from fastws.processes.hearing import Hearing


@pytest.mark.parametrize(
    ("head", "status"),
    [
        ([200, "OK", [["X-A", "b"]], 5], 0),
        ([200, "", [], None], 0),
        ([200, "OK", [["X-A", "b\r\nSet-Cookie: forged=1"]], None], 502),
        ([200, "OK\r\nX: y", [], None], 502),
        ([200, "OK", [["Transfer-Encoding", "chunked"]], None], 502),
        ([101, "Switching Protocols", [], None], 502),
    ],
)
def test_head_is_checked_once_more(head: list[Any], status: int) -> None:
    mounts = Mounts({}, {"/": "module:application"})
    request, mount = Request("GET", "/", "HTTP/1.1", {}, 0), mounts.find("/")
    assert mount is not None
    call = Call(*mounts.call(mount, request, parse_target("/"), "", ()))
    loan = Loan(call, Ends("127.0.0.1", "127.0.0.1", 80, "http"), Spool(), lambda: None)
    settings = Settings(1, 1, 1, ("module:application",), "/", False, {}, False)
    ours, its = socket.socketpair()
    child = Child(1, None, ours, None, settings)  # type: ignore[arg-type]
    child.streams[7] = loan
    crew = Crew(logging.getLogger("test"))
    its.sendall(wire.pack_json(7, wire.HEAD, head))
    with ours, its:
        Hearing(crew, Handing(crew)).receive(child)
    portion = loan.take()
    if status:
        assert portion.head is None
        assert portion.error is not None
        assert portion.error.status == status
    else:
        assert portion.head is not None
        assert portion.head == (head[0], head[1], tuple(map(tuple, head[2])), head[3])
