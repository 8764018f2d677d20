"""A connection by itself: what fails while it sends, a deadline that the server slept through, and its end."""

from __future__ import annotations

import errno
import logging
import time
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from fastws.engine.connection import Connection
from fastws.engine.states import HEAD, IDLE
from fastws.seam import FileFailedError
from fastws.transport.transmission import FileShrankError, Transmission


class Transport:
    """Takes nothing: it fails as it is told to."""

    def __init__(self) -> None:
        self.error: BaseException | None = None
        self.is_closed = False

    def send(self, _: Sequence[bytes | memoryview], more: bool) -> int:
        if self.error is not None:
            raise self.error
        return 3

    def close(self) -> None:
        self.is_closed = True


class Timers:
    def __init__(self) -> None:
        self.deadlines: list[float] = []

    def schedule(self, _: object, deadline: float) -> None:
        self.deadlines.append(deadline)


class Speaker:
    is_closed = False

    def on_close(self) -> None:
        self.is_closed = True


@pytest.fixture
def transport() -> Transport:
    return Transport()


@pytest.fixture
def shared() -> Any:
    reactor = SimpleNamespace(last_activity=lambda _: 5.0, set_interest=lambda *_: None)
    return SimpleNamespace(
        timers=Timers(), reactor=reactor, logger=logging.getLogger("test"), overslept_s=0.0,
        keepalive_time_s=15.0, request_timeout_s=10.0, forget=lambda _: None,
    )  # fmt: skip


@pytest.fixture
def connection(shared: Any, transport: Transport) -> Connection:
    made = Connection(shared, 99, "192.0.2.1", transport)  # type: ignore[arg-type]
    made.speaker = Speaker()  # type: ignore[assignment]
    return made


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (FileFailedError("no disk"), ["sending a file failed: no disk; the connection to 192.0.2.1 is closed"]),
        (FileShrankError(), ["a file shrank while it was sent; the connection to 192.0.2.1 is closed"]),
        (
            OSError(errno.EMSGSIZE, "Message too long"),
            [f"sending failed: [Errno {errno.EMSGSIZE}] Message too long; the connection to 192.0.2.1 is closed"],
        ),
        (ConnectionResetError(), []),
        (TimeoutError(), []),
        (OSError(errno.EHOSTUNREACH, "No route to host"), []),
    ],
)  # fmt: skip
def test_failure_to_send_closes_the_connection(
    connection: Connection,
    transport: Transport,
    caplog: pytest.LogCaptureFixture,
    error: Exception,
    said: list[str],
) -> None:
    transport.error = error
    assert connection.send(Transmission(b"head", ())) is False
    assert transport.is_closed
    assert [record.getMessage() for record in caplog.records] == said


@pytest.mark.parametrize("state", [IDLE, HEAD])
def test_time_that_the_server_slept_through_is_not_the_clients(
    connection: Connection, shared: Any, transport: Transport, state: int
) -> None:
    connection.enter(state)
    connection.drain(1000.0)  # an idle connection has until then for a last request
    shared.timers.deadlines.clear()
    now = time.monotonic() + 5000
    shared.overslept_s = 60.0
    before = connection._patience.deadline(state)
    connection.on_timeout(now)
    assert shared.timers.deadlines == [before + 60]
    assert connection._patience.deadline(state) == before + 60
    assert not transport.is_closed


def test_time_of_a_transfer_is_not_the_clients_either(connection: Connection, shared: Any) -> None:
    connection.enter(HEAD + 1)
    connection._patience._until = 7.0
    shared.overslept_s = 60.0
    connection.on_timeout(time.monotonic())
    assert connection._patience._until == 67.0


def test_end_that_fails_is_logged_and_closes_the_descriptor(
    connection: Connection, shared: Any, transport: Transport, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(_: Connection) -> None:
        raise RuntimeError("no such table")

    shared.forget = fail
    connection.abandon()
    assert transport.is_closed
    assert "unexpected exception while the connection to 192.0.2.1 was closed" in caplog.text
