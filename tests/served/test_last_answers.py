"""The last answer of a connection is read in full, whatever its client still sends; empty lines are no request.

A reset is sent where a socket with unread input is closed, or where something comes after that (RFC 9112 section
9.6).
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest
from rawhttp import Client, is_readable, put, request, wait_until

from fastws import Server, seam
from fastws.engine import states

Serve = Callable[..., Server]
TIMES = 50
PAGE = b"the page " * 100


@pytest.fixture
def root(tmp_path: Path) -> Path:
    files = {"index.html": b"<pre></pre>", "page.txt": PAGE, "big.bin": b"b" * (1 << 20)}
    return put(tmp_path / "root", files)


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Connections linger for a moment only."""
    linger_for(monkeypatch, 0.4)


def linger_for(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    """Have connections linger so long, by Python as by the reactor."""
    monkeypatch.setattr(seam, "LINGER_S", seconds)
    monkeypatch.setitem(states.LONGEST_S, states.LINGERING, seconds)


def read_to_the_end(sock: socket.socket) -> bytes:
    """Everything that comes until the end; a reset is an error."""
    came = b""
    while data := sock.recv(1 << 16):
        came += data
    return came


def wait_for(sock: socket.socket) -> None:
    """Wait until something can be read."""
    assert is_readable(sock, 20)


LAST = {
    "HTTP/1.0": b"GET %s HTTP/1.0\r\n\r\n",
    "close": b"GET %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
}
LATER = {"an empty line": b"\r\n", "a request": request("/page.txt"), "a body": b"x" * 70000}


@pytest.mark.parametrize("age", ["new", "kept alive", "older"])
@pytest.mark.parametrize("later", LATER)
@pytest.mark.parametrize("last", LAST)
def test_what_is_sent_after_the_last_request_destroys_no_answer(
    serve: Serve, root: Path, last: str, later: str, age: str
) -> None:
    """On a new connection, after other requests, and after the reactor has passed it to Python."""
    server = serve("WorkerThreads 1")
    destroyed = []
    with ExitStack() as stack:
        clients = [stack.enter_context(Client(server)) for _ in range(TIMES)]
        if age != "new":
            for client in clients:
                assert client.get("/page.txt").body == PAGE
        if age == "older":
            wait_until(lambda: len(server._pool.workers[0].admission._connections) == TIMES)
        for number, client in enumerate(clients):
            if number % 2:
                client.send(LAST[last] % b"/page.txt" + LATER[later])
            else:
                client.send(LAST[last] % b"/page.txt")
                wait_for(client.sock)
                client.send(LATER[later])
        for client in clients:
            try:
                if not read_to_the_end(client.sock).endswith(b"\r\n\r\n" + PAGE):
                    destroyed.append("cut")
            except ConnectionError as error:
                destroyed.append(str(error))
    assert destroyed == []


@pytest.mark.parametrize("last", LAST)
def test_large_last_answer_survives_what_is_sent_after_its_request(
    serve: Serve, root: Path, last: str
) -> None:
    server = serve("WorkerThreads 1")
    for _ in range(10):
        with Client(server, receive_buffer=4096) as client:
            client.send(LAST[last] % b"/big.bin" + b"\r\n")
            wait_for(client.sock)
            client.send(b"\r\n" + request("/page.txt"))
            assert read_to_the_end(client.sock).endswith(b"b" * (1 << 20))


def test_clients_of_a_unix_socket_lose_no_answer(serve: Serve, root: Path, tmp_path: Path) -> None:
    serve(f'Listen "unix:{tmp_path}/s"')
    for _ in range(TIMES):
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(20)
            sock.connect(f"{tmp_path}/s")
            sock.sendall(LAST["close"] % b"/page.txt" + b"\r\n")
            wait_for(sock)
            sock.sendall(b"\r\n")
            assert read_to_the_end(sock).endswith(PAGE)


def test_connection_is_closed_when_its_client_has_closed(serve: Serve, root: Path) -> None:
    """At once, that is long before the time for which it would linger."""
    server = serve("WorkerThreads 1")
    began = time.monotonic()
    for _ in range(20):
        with Client(server) as client:
            client.send(LAST["close"] % b"/page.txt")
            assert read_to_the_end(client.sock).endswith(PAGE)
        wait_until(lambda: server.connection_count() == 0)
    assert time.monotonic() - began < 20 * seam.LINGER_S


@pytest.mark.parametrize("age", ["new", "older"])
def test_client_that_stays_is_left_after_a_while(serve: Serve, short: None, root: Path, age: str) -> None:
    server = serve("WorkerThreads 1", "KeepaliveTime 60")
    with Client(server) as client, Client(server) as other:
        if age == "older":
            assert client.get("/page.txt").body == PAGE
            wait_until(lambda: len(server._pool.workers[0].admission._connections) == 2)
        client.send(LAST["close"] % b"/page.txt")
        assert read_to_the_end(client.sock).endswith(PAGE)
        wait_until(lambda: server.connection_count() == 1, "the end of the connection that lingers")
        assert other.get("/page.txt").body == PAGE


def test_client_that_sends_without_end_is_left(serve: Serve, root: Path) -> None:
    server = serve("WorkerThreads 1")
    with Client(server) as client:
        client.send(LAST["close"] % b"/page.txt")
        with pytest.raises(ConnectionError):
            client.send(b"x" * (64 << 20))  # the kernel's buffers take some of it


@pytest.mark.plain
def test_connections_that_linger_count_towards_the_limit(
    serve: Serve, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    linger_for(monkeypatch, 60.0)
    server = serve("WorkerThreads 1", "MaxConnections 3")
    with ExitStack() as stack:
        for _ in range(3):
            client = stack.enter_context(Client(server))
            client.send(LAST["close"] % b"/page.txt")
            assert read_to_the_end(client.sock).endswith(PAGE)
        with Client(server) as fourth:
            assert fourth.get("/page.txt").status == 503


def test_end_of_the_server_waits_for_those_that_linger_and_no_longer(serve: Serve, root: Path) -> None:
    server = serve("WorkerThreads 1", "DrainTimeout 60")
    with Client(server) as client:
        client.send(LAST["close"] % b"/big.bin")
        wait_for(client.sock)
        began = time.monotonic()
        server.stop()
        assert time.monotonic() - began < 20
        assert read_to_the_end(client.sock).endswith(b"b" * (1 << 20))


# Empty lines between requests (section 2.2)


@pytest.mark.parametrize("pieces", [(b"\r\n",), (b"\r", b"\n"), (b"\r",)], ids=["whole", "split", "half"])
@pytest.mark.parametrize("before", ["nothing", "a page", "a form"])
def test_connection_with_an_empty_line_is_idle_and_closed_quietly(
    serve: Serve, root: Path, before: str, pieces: tuple[bytes, ...]
) -> None:
    server = serve("RequestTimeout 0.3", "KeepaliveTime 1", "ErrorLog errors.txt")
    form = "Content-Type: application/x-www-form-urlencoded"
    with Client(server) as client:
        if before == "a page":
            assert client.get("/page.txt").body == PAGE
        elif before == "a form":
            assert client.get("/", form, method="POST", body=b"a=b").status == 200
        for piece in pieces:
            client.send(piece)
            time.sleep(0.05)  # so that the pieces come one by one
        assert client.is_over()
    assert " 408 " not in Path(server.config.error_log).read_text()


@pytest.mark.parametrize("target", ["/page.txt", "/"])
@pytest.mark.parametrize("gap_s", [0, 0.05], ids=["in one piece", "in pieces"])
def test_empty_line_before_each_request_is_ignored(
    serve: Serve, root: Path, target: str, gap_s: float
) -> None:
    server = serve()
    with Client(server) as client:
        first = client.get(target)
        pieces = [b"\r", b"\n", request(target)[:9], request(target)[9:]]
        for _ in range(5):
            for piece in pieces if gap_s else [b"".join(pieces)]:
                client.send(piece)
                time.sleep(gap_s)
            assert client.reply().body == first.body
        # A form whose body is followed by an empty line, as old browsers sent it, and a request behind it.
        form = "Content-Type: application/x-www-form-urlencoded"
        client.send(request("/", form, method="POST", body=b"a=b") + b"\r\n" + request(target))
        assert b"a: b" in client.reply().body
        assert client.reply().body == first.body
        assert client.get(target).body == first.body


def test_head_that_begins_after_an_empty_line_has_its_time(serve: Serve, root: Path) -> None:
    server = serve("RequestTimeout 0.3", "KeepaliveTime 60")
    with Client(server) as client:
        client.send(b"\r\n")
        time.sleep(0.6)  # longer than a head may take: it has not begun
        client.send(b"GET ")
        assert client.reply().status == 408


def test_two_empty_lines_are_refused_in_every_split(serve: Serve, root: Path) -> None:
    server = serve()
    for pieces in ((b"\r\n\r\n",), (b"\r\n", b"\r\n"), (b"\r", b"\n\r", b"\n")):
        with Client(server) as client:
            for piece in pieces:
                client.send(piece)
                time.sleep(0.05)  # so that the pieces come one by one
            assert client.reply().status == 400
