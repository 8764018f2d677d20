"""The seam between a connection and what is spoken on it, by a second implementation: lines that come back."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from rawhttp import Client, be_at_rest, wait_until

from fastws import Server
from fastws.engine import states
from fastws.engine.admission import MANNERS, Manner
from fastws.engine.connection import Connection
from fastws.engine.speaker import Speaker
from fastws.http.errors import HTTPError
from fastws.seam import INPUT, NOTHING, PLAIN, PartialSend
from fastws.transport.transmission import Transmission

Serve = Callable[..., Server]


class Echo:
    """Sends every line back. Three lines mean something: ``later`` is answered after a pause that another thread
    ends, ``never`` after one that its deadline ends, ``bye`` is the last."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._buffer = b""
        self._is_last = False
        self.closed = 0

    def on_read(self, data: bytes) -> None:
        self._buffer += data
        self.advance()

    def on_partial(self, partial: PartialSend) -> None:
        raise AssertionError("the reactor has nothing to replay")

    def on_sent(self) -> None:
        if self._is_last:
            self._connection.linger()
        else:
            self.advance()

    def advance(self) -> None:
        connection = self._connection
        if connection.state == states.WAITING and not self._say(b"now\n"):
            return
        for _ in range(4):
            line, end, rest = self._buffer.partition(b"\n")
            if not end:
                connection.enter(states.HEAD)
                connection.wait(INPUT)
                return
            self._buffer = rest
            if line in (b"later", b"never"):
                connection.enter(states.WAITING)
                connection.wait(NOTHING)
                if line == b"later":
                    threading.Thread(target=connection.shared.resume, args=(connection,)).start()
                return
            if line == b"boom":
                raise RuntimeError("a line that this speaker cannot bear")
            self._is_last = line == b"bye"
            if not self._say(line + end):
                return
        connection.give_way()

    def _say(self, text: bytes) -> bool:
        if not self._connection.send(Transmission(text, ())):
            return False
        if self._is_last:
            self._connection.linger()
        return not self._is_last

    def on_timeout(self, now: float) -> None:
        if self._connection.state == states.WAITING:
            self._is_last = True
            self._say(b"too late\n")
        else:
            raise RuntimeError("a deadline that this speaker cannot bear")

    def refuse(self, error: HTTPError) -> None:
        self._is_last = True
        self._say(b"%d\n" % error.status)

    def on_close(self) -> None:
        self.closed += 1


@pytest.fixture(autouse=True)
def speakers(monkeypatch: pytest.MonkeyPatch) -> list[Echo]:
    """Have every connection speak lines; the speakers in the order of their making."""
    made: list[Echo] = []

    def make(connection: Connection) -> Speaker:
        made.append(Echo(connection))
        return made[-1]

    monkeypatch.setitem(MANNERS, PLAIN, Manner(make, None, is_kept=False))
    return made


def lines(client: Client, count: int) -> list[bytes]:
    while client.buffer.count(b"\n") < count:
        client._receive("a line")
    *found, client.buffer = client.buffer.split(b"\n", count)
    return found


@pytest.mark.parametrize("workers", [1, 2])
def test_lines_come_back_in_their_order(serve: Serve, speakers: list[Echo], workers: int) -> None:
    server = serve(f"WorkerThreads {workers}")
    with Client(server) as client, Client(server) as other:
        client.send(b"one\ntwo\nthr")
        assert lines(client, 2) == [b"one", b"two"]
        other.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert lines(other, 3) == [b"GET / HTTP/1.1\r", b"Host: x\r", b"\r"]
        client.send(b"ee\n")
        assert lines(client, 1) == [b"three"]
        wait_until(lambda: server.connection_count() == 2)
    be_at_rest(server)
    assert [speaker.closed for speaker in speakers] == [1, 1]


def test_many_lines_take_turns(serve: Serve) -> None:
    server = serve("WorkerThreads 1")
    sent = [b"%d" % number for number in range(1000)]
    with Client(server) as client:
        client.send(b"\n".join(sent) + b"\n")
        assert lines(client, 1000) == sent


def test_line_that_does_not_fit_the_socket_is_sent_as_it_is_read(serve: Serve) -> None:
    server = serve("MinRate 0")
    line = b"x" * (4 << 20)
    with Client(server) as client:
        client.send(line + b"\nnext\n")
        assert client.read(len(line) + 1) == line + b"\n"
        assert lines(client, 1) == [b"next"]


def test_pause_is_ended_by_another_thread(serve: Serve) -> None:
    server = serve()
    with Client(server) as client:
        client.send(b"later\nlater\nand\n")
        assert lines(client, 3) == [b"now", b"now", b"and"]


def test_pause_is_ended_by_its_deadline(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(states.LONGEST_S, states.WAITING, 0.2)
    server = serve()
    with Client(server) as client:
        client.send(b"never\n")
        assert lines(client, 1) == [b"too late"]
        assert client.is_over()


def test_last_line_is_followed_by_the_end(serve: Serve) -> None:
    server = serve()
    with Client(server) as client:
        client.send(b"bye\nunread\n")
        assert lines(client, 1) == [b"bye"]
        assert client.is_over()
    be_at_rest(server)


def test_one_too_many_is_refused_in_its_own_words(serve: Serve) -> None:
    server = serve("MaxConnections 1")
    with Client(server) as first, Client(server) as second:
        assert lines(second, 1) == [b"503"]
        assert second.is_over()
        first.send(b"still here\n")
        assert lines(first, 1) == [b"still here"]


def test_exception_ends_its_connection_and_no_other(serve: Serve, speakers: list[Echo]) -> None:
    server = serve("WorkerThreads 1", "RequestTimeout 1")
    with Client(server) as victim, Client(server) as idle, Client(server) as other:
        idle.send(b"half a li")
        victim.send(b"boom\n")
        assert victim.is_over()
        deadline = time.monotonic() + 30
        while len([each for each in speakers if each.closed]) < 2:  # the deadline of the half line
            other.send(b"here\n")
            assert lines(other, 1) == [b"here"]
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert idle.is_over()
    log = Path(server.config.error_log).read_text()
    assert "a line that this speaker cannot bear" in log
    assert "a deadline that this speaker cannot bear" in log
    assert "this worker failed" not in log


def test_drain_ends_with_the_last_line(serve: Serve) -> None:
    server = serve("WorkerThreads 1")
    with Client(server) as client:
        client.send(b"one\n")
        assert lines(client, 1) == [b"one"]
        thread = threading.Thread(target=server.stop, daemon=True)
        thread.start()
        wait_until(lambda: server._pool.workers[0].shared.is_draining)
        client.send(b"bye\n")
        assert lines(client, 1) == [b"bye"]
    thread.join(30)
    assert not thread.is_alive()


def test_speaker_is_let_go_with_its_connection(serve: Serve, speakers: list[Echo]) -> None:
    """They refer to each other: kept so, each would stay until the garbage collector finds both."""
    server = serve()
    with Client(server) as client:
        client.send(b"one\n")
        assert lines(client, 1) == [b"one"]
        (speaker,) = speakers
        connection = speaker._connection
    be_at_rest(server)
    assert not hasattr(connection, "speaker")
    assert connection.state == states.CLOSED
