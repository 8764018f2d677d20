"""What the server believes of what an application process says."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest

from fastws.application import wire
from fastws.application.body import Spool
from fastws.application.environ import Ends
from fastws.application.loan import Loan
from fastws.application.mounts import Call, Mounts
from fastws.application.processes import Processes, Settings, _Process
from fastws.http.messages import Request
from fastws.http.target import parse_target


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
    process = _Process(1, None, None, None, settings)  # type: ignore[arg-type]
    process.streams[7] = loan
    processes = Processes(logging.getLogger("test"))
    processes._take_head(process, wire.Frame(7, wire.HEAD, json.dumps(head).encode()))
    processes._deliver(process)
    processes.close(0.0)
    portion = loan.take()
    if status:
        assert portion.head is None
        assert portion.error is not None
        assert portion.error.status == status
    else:
        assert portion.head is not None
        assert portion.head == (head[0], head[1], tuple(map(tuple, head[2])), head[3])
