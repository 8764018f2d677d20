"""The seam between a connection and its socket, by a second transport: every byte is changed on the wire."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from launch import END_S
from rawhttp import Client, ProtocolError, be_at_rest, put, request, thrice, wait_until

from fastws import Server
from fastws.engine.admission import HTTP1, MANNERS
from fastws.seam import PLAIN
from fastws.transport.plain import PlainTransport

Serve = Callable[..., Server]

MOST = 50_000
"""What the transport takes at once: no multiple of anything."""

_CHANGED = bytes(byte ^ 0x55 for byte in range(256))


def changed(data: bytes) -> bytes:
    return data.translate(_CHANGED)


class Changing:
    """A transport that changes every byte, and changes it back."""

    def __init__(self, fd: int, peer: str) -> None:
        self._plain = PlainTransport(fd, peer)
        self.closed = 0

    holds_back = False

    def receive(self, most: int) -> bytes:
        return changed(self._plain.receive(most))

    def send(self, pieces: Sequence[bytes | memoryview], more: bool) -> int:
        return self._plain.send((changed(b"".join(pieces)[:MOST]),), more)

    def send_file(self, file: int, offset: int, count: int) -> int:
        data = os.pread(file, min(count, MOST), offset)
        return self._plain.send((changed(data),), False) if data else 0

    def unacknowledged(self) -> int:
        return self._plain.unacknowledged()

    def shut(self) -> None:
        self._plain.shut()

    def secured(self) -> None:
        pass

    def close(self) -> None:
        self.closed += 1
        self._plain.close()


class ChangedSocket:
    """A client's socket, for which the same is done."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self.came = b""

    def sendall(self, data: bytes) -> None:
        self._sock.sendall(changed(data))

    def recv(self, most: int) -> bytes:
        data = self._sock.recv(most)
        self.came = data
        return changed(data)

    def shutdown(self, how: int) -> None:
        self._sock.shutdown(how)

    def settimeout(self, timeout_s: float) -> None:
        self._sock.settimeout(timeout_s)

    def close(self) -> None:
        self._sock.close()


class ChangingClient(Client):
    """A client whose bytes are changed."""

    def __init__(self, server: Server, *, receive_buffer: int = 0) -> None:
        super().__init__(server, receive_buffer=receive_buffer)
        self.sock: ChangedSocket = ChangedSocket(self.sock)  # type: ignore[assignment]


@pytest.fixture(autouse=True)
def transports(monkeypatch: pytest.MonkeyPatch) -> list[Changing]:
    """Have every connection change its bytes; the transports in the order of their making."""
    made: list[Changing] = []

    def make(fd: int, peer: str) -> Changing:
        made.append(Changing(fd, peer))
        return made[-1]

    monkeypatch.setitem(MANNERS, PLAIN, HTTP1._replace(transport=make, is_kept=False))
    return made


@pytest.fixture
def root(tmp_path: Path) -> Path:
    files = {
        "a.txt": b"a file",
        "big.bin": os.urandom(3 << 20),
        "large.txt": b"l" * 200_000,
        "form.html": b"<pre></pre>",
    }
    return put(tmp_path / "root", files)


@pytest.mark.parametrize("workers", [1, 2])
def test_every_kind_of_body_arrives_as_it_is(serve: Serve, root: Path, workers: int) -> None:
    server = serve(f"WorkerThreads {workers}", "CacheMaxFile 256K")
    with ChangingClient(server) as client:
        for _ in range(3):  # what is published by the first is not replayed to the others
            for name in ("a.txt", "large.txt", "big.bin"):
                reply = client.get(f"/{name}")
                assert reply.status == 200
                assert reply.body == (root / name).read_bytes()
            assert client.get("/a.txt", "Range: bytes=2-3").body == b"fi"
            assert client.get("/nowhere").status == 404
            assert client.get("/a.txt", method="HEAD")["Content-Length"] == "6"
        form = "Content-Type: application/x-www-form-urlencoded"
        assert b"a: b" in client.get("/form.html", form, method="POST", body=b"a=b").body
        assert b"HTTP/1.1" not in client.sock.came
    be_at_rest(server)


def test_pipelined_requests_and_half_heads(serve: Serve, root: Path) -> None:
    server = serve()
    with ChangingClient(server) as client:
        client.send(request("/a.txt") * 100 + request("/big.bin") + request("/a.txt")[:20])
        assert [client.reply().body for _ in range(100)] == [b"a file"] * 100
        assert len(client.reply().body) == 3 << 20
        client.send(request("/a.txt")[20:])
        assert client.reply().body == b"a file"


def test_published_answer_is_replayed_to_plain_connections_only(serve: Serve, root: Path) -> None:
    server = serve("WorkerThreads 1")
    with ChangingClient(server) as client:
        assert client.get("/a.txt").body == b"a file"
        server._pool.workers[0].admission.manners[PLAIN] = HTTP1
        assert thrice(server, "/a.txt").body == b"a file"
        assert client.get("/a.txt").body == b"a file"
        client.send(request("/a.txt", "X: y")[:-2])
        client.send(b"\r\n" + request("/a.txt") * 3)
        assert [client.reply().body for _ in range(4)] == [b"a file"] * 4


def test_slow_reader_gets_all_of_a_file(serve: Serve, root: Path) -> None:
    server = serve()
    with ChangingClient(server, receive_buffer=4096) as client:
        client.send(request("/big.bin"))
        wait_until(lambda: server.connection_count() == 1)
        assert client.reply().body == (root / "big.bin").read_bytes()


def test_reader_that_reads_nothing_is_cut_off(serve: Serve, root: Path, transports: list[Changing]) -> None:
    server = serve("StallTime 2", "MinRate 1000000")
    with ChangingClient(server, receive_buffer=4096) as client:
        client.send(request("/big.bin"))
        wait_until(lambda: [each.closed for each in transports] == [1])
        with pytest.raises((ProtocolError, ConnectionError)):
            client.reply()
    assert "the client reads too slowly" in Path(server.config.error_log).read_text()


def test_last_answer_is_followed_by_the_end(serve: Serve, root: Path, transports: list[Changing]) -> None:
    server = serve()
    with ChangingClient(server) as client:
        assert client.get("/a.txt", "Connection: close")["Connection"] == "close"
        assert client.is_over()
    with ChangingClient(server) as client:
        client.send(b"malformed\r\n\r\n")
        assert client.reply().status == 400
        assert client.is_over()
    with ChangingClient(server) as client:
        client.half_close()
        assert client.is_over()
    be_at_rest(server)
    assert [each.closed for each in transports] == [1, 1, 1]


def test_body_is_invited_through_the_transport(serve: Serve, root: Path) -> None:
    server = serve()
    form = "Content-Type: application/x-www-form-urlencoded"
    head = request("/form.html", form, "Content-Length: 3", "Expect: 100-continue", method="POST")
    with ChangingClient(server) as client:
        client.send(head)
        assert client.head()[0] == 100
        client.send(b"a=b")
        assert client.reply().status == 200


def test_every_answer_has_its_access_line(serve: Serve, root: Path) -> None:
    server = serve()
    with ChangingClient(server) as client:
        for target in ("/a.txt", "/a.txt", "/big.bin", "/nowhere"):
            client.get(target)
    be_at_rest(server)
    server.stop()
    found = [line.split('"')[2].split() for line in Path(server.config.access_log).read_text().splitlines()]
    assert found[:3] == [["200", "6"], ["200", "6"], ["200", str(3 << 20)]]
    assert [status for status, _ in found[3:]] == ["404"]


def test_drain_answers_what_was_asked(serve: Serve, root: Path) -> None:
    server = serve("WorkerThreads 1")
    with ChangingClient(server) as client, ChangingClient(server) as idle:
        assert idle.get("/a.txt").status == 200
        client.send(request("/big.bin"))
        length = int(dict(client.head()[2])["Content-Length"])
        thread = threading.Thread(target=server.stop, daemon=True)
        thread.start()
        assert idle.is_over()
        assert len(client.read(length)) == 3 << 20
    thread.join(END_S)
    assert not thread.is_alive()
