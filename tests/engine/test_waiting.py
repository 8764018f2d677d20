"""Requests whose password is being checked: they wait, and nobody else does."""

from __future__ import annotations

import base64
import socket
import statistics
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import bcrypt
import pytest
from launch import END_S
from rawhttp import Client, ProtocolError, be_at_rest, finish_turns, get, put, request, wait_until

from fastws import Server
from fastws.engine import states
from fastws.site import auth
from fastws.work import fair_queue as checks

Serve = Callable[..., Server]

LONGEST_S = 20.0
"""How long a gate stays closed if nobody opens it."""


def hashed(password: str, cost: int = 4) -> bytes:
    return bcrypt.hashpw(password.encode(), bcrypt.gensalt(cost))


def credentials(name: str, password: str) -> str:
    return "Authorization: Basic " + base64.b64encode(f"{name}:{password}".encode()).decode()


RIGHT = credentials("anna", "s3cret")


class Gate:
    """Stands in the place of ``bcrypt.checkpw``: no check comes to its end before the gate is opened."""

    def __init__(self) -> None:
        self.begun: list[bytes] = []
        self._opened = threading.Event()
        self.open = self._opened.set

    def __call__(self, password: bytes, expected: bytes) -> bool:
        self.begun.append(password)
        self._opened.wait(LONGEST_S)
        return bcrypt.checkpw(password, expected)


@pytest.fixture
def gate(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
    """A closed gate, which is opened at the latest before the server is stopped."""
    made = Gate()
    monkeypatch.setattr(auth, "_load_bcrypt", lambda *_: made)
    yield made
    made.open()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    files = {"open.html": b"open", "private/page.html": b"private page", "private/form.html": b"<pre></pre>"}
    return put(tmp_path / "root", files)


@pytest.fixture
def htpasswd(tmp_path: Path) -> Path:
    path = tmp_path / "htpasswd"
    path.write_bytes(b"anna:%s\nbert:%s\n" % (hashed("s3cret"), hashed("other")))
    return path


@pytest.fixture
def server(serve: Serve, root: Path, htpasswd: Path, gate: Gate) -> Server:
    return serve(f"BasicAuth /private/* {htpasswd}", "WorkerThreads 1")


def waiting(server: Server) -> int:
    """How many connections wait."""
    return sum(
        connection.state == states.WAITING
        for worker in server._pool.workers
        for connection in list(worker.admission._connections)
    )


def ask(client: Client, server: Server, *lines: str, method: str = "GET", body: bytes = b"") -> None:
    """Ask for a protected page, and come back when the request waits."""
    before = waiting(server)
    target = "/private/form.html" if method == "POST" else "/private/page.html"
    client.send(request(target, *lines, method=method, body=body))
    wait_until(lambda: waiting(server) == before + 1, "a request that waits")
    finish_turns(server)  # it says that it waits before what it waits for has begun


def error_log(server: Server) -> str:
    return Path(server.config.error_log).read_text()


def test_others_are_answered_while_a_password_is_checked(server: Server, gate: Gate) -> None:
    with Client(server) as client, Client(server) as other:
        assert other.get("/open.html").status == 200
        ask(client, server, RIGHT)
        wait_until(lambda: gate.begun)
        for _ in range(3):
            assert other.get("/open.html").body == b"open"
            assert get(server, "/open.html").body == b"open"
            assert get(server, "/private/page.html").status == 401
        gate.open()
        assert client.reply().body == b"private page"
        assert client.get("/private/page.html", RIGHT).body == b"private page"
    assert gate.begun == [b"s3cret"]


def test_each_gets_its_own_answer_and_may_ask_on(server: Server, gate: Gate) -> None:
    form = "Content-Type: application/x-www-form-urlencoded"
    asked = [
        ("GET", 200, b"private page", RIGHT),
        ("GET", 401, None, credentials("anna", "wrong")),
        ("GET", 401, None, credentials("nobody", "s3cret")),
        ("GET", 200, b"private page", credentials("bert", "other")),
        ("HEAD", 200, b"", RIGHT),
        ("POST", 200, b"<pre>a: b</pre>", RIGHT),
    ]
    with ExitStack() as stack:
        clients = [stack.enter_context(Client(server)) for _ in asked]
        for client, (method, _, _, line) in zip(clients, asked, strict=True):
            ask(client, server, line, form, method=method, body=b"a=b" if method == "POST" else b"")
        gate.open()
        for client, (method, status, body, _) in zip(clients, asked, strict=True):
            reply = client.reply(method)
            assert reply.status == status
            assert body is None or reply.body == body
            assert client.is_open()


def test_same_password_is_checked_once_for_all_who_wait(server: Server, gate: Gate) -> None:
    with ExitStack() as stack:
        clients = [stack.enter_context(Client(server)) for _ in range(20)]
        for client in clients:
            ask(client, server, RIGHT)
        gate.open()
        assert [client.reply().status for client in clients] == [200] * 20
    assert gate.begun == [b"s3cret"]


def test_pipelined_requests_keep_their_order(server: Server, gate: Gate) -> None:
    with Client(server) as client:
        wrong = request("/private/page.html", credentials("anna", "wrong"))
        right = request("/private/page.html", RIGHT)
        client.send(
            request("/open.html") + wrong + request("/open.html") + right + right + request("/open.html")
        )
        assert client.reply().body == b"open"
        wait_until(lambda: waiting(server))
        client.send(request("/private/"))  # stays in the kernel
        gate.open()
        assert [client.reply().status for _ in range(6)] == [401, 200, 200, 200, 200, 401]


def test_chunked_body_is_kept_meanwhile(server: Server, gate: Gate) -> None:
    lines = ("Content-Type: application/x-www-form-urlencoded", "Transfer-Encoding: chunked")
    with Client(server) as client:
        ask(client, server, RIGHT, *lines, method="POST", body=b"1\r\na\r\n2\r\n=b\r\n0\r\n\r\n")
        gate.open()
        assert b"a: b" in client.reply().body
        assert client.is_open()


def test_two_files_are_checked_one_after_the_other(
    serve: Serve, root: Path, htpasswd: Path, gate: Gate
) -> None:
    put(root, {"private/page.html.gz": b"\x1f\x8bno matter"})
    second = htpasswd.with_name("second")
    second.write_bytes(b"anna:%s\n" % hashed("s3cret"))
    server = serve(f"BasicAuth *.gz {second}", f"BasicAuth /private/* {htpasswd}", "WorkerThreads 1")
    gate.open()
    assert get(server, "/private/page.html.gz", RIGHT).status == 200
    assert gate.begun == [b"s3cret"] * 2


# Who goes away


def test_half_closed_client_gets_its_answer(server: Server, gate: Gate) -> None:
    with Client(server) as client:
        ask(client, server, RIGHT)
        client.half_close()
        assert get(server, "/open.html").status == 200
        gate.open()
        assert client.reply().body == b"private page"
        assert client.is_over()


def test_clients_that_have_gone_are_forgotten(server: Server, gate: Gate) -> None:
    with Client(server) as patient:
        for is_reset in (False, True):
            with Client(server) as client:
                ask(client, server, credentials("anna", f"guess {is_reset}"))
                if is_reset:
                    client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        if server._backend.reactor.side == "compiled":  # which hears of a reset at once
            wait_until(lambda: server.connection_count() == 2)
        ask(patient, server, RIGHT)
        gate.open()
        assert patient.reply().status == 200
    be_at_rest(server)
    assert error_log(server).count("exception") == 0


def test_nothing_is_read_meanwhile(server: Server, gate: Gate) -> None:
    """What a client sends on stays in the kernel's buffers, and then in its own."""
    with Client(server) as client:
        ask(client, server, RIGHT)
        client.sock.settimeout(0.5)
        with pytest.raises(TimeoutError):
            client.send(bytes(256 << 20))
        (connection,) = (
            each for each in server._pool.workers[0].admission._connections if each.state == states.WAITING
        )
        assert not connection.speaker._buffer


# Bounds


def test_full_queue_is_503_with_retry_after(
    server: Server, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checks, "QUEUE_JOBS", 1)
    with Client(server) as first, Client(server) as second, Client(server) as third:
        ask(first, server, RIGHT)
        wait_until(lambda: gate.begun)
        ask(second, server, credentials("bert", "other"))
        for method in ("GET", "HEAD"):
            reply = third.get("/private/page.html", credentials("anna", "guess"), method=method)
            assert (reply.status, reply["Retry-After"]) == (503, "5")
        assert third.get("/open.html").body == b"open"
        gate.open()
        assert [client.reply().status for client in (first, second)] == [200, 200]
        assert third.get("/private/page.html", credentials("anna", "guess")).status == 401
    assert "503 Too many passwords wait to be checked." in error_log(server)


@pytest.mark.skipif(not Path("/proc").exists(), reason="needs the other addresses of Linux's loopback")
def test_one_address_does_not_fill_the_queue_for_another(
    server: Server, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checks, "QUEUE_JOBS", 2)
    with ExitStack() as stack:
        greedy = [stack.enter_context(Client(server)) for _ in range(3)]
        for number, client in enumerate(greedy):
            ask(client, server, credentials("anna", f"guess {number}"))
            wait_until(lambda: gate.begun)
        other = stack.enter_context(
            socket.create_connection(("127.0.0.1", server.port), 60, source_address=("127.0.0.2", 0))
        )
        other.sendall(request("/private/page.html", RIGHT))
        assert greedy[2].reply().status == 503
        assert waiting(server) == 3
        gate.open()
        assert other.recv(1 << 16).startswith(b"HTTP/1.1 200 OK\r\n")
        assert [client.reply().status for client in greedy[:2]] == [401, 401]
    assert gate.begun == [b"guess 0", b"s3cret", b"guess 1"] or gate.begun == [
        b"guess 0",
        b"guess 1",
        b"s3cret",
    ]


def test_check_that_takes_too_long_is_503_and_helps_the_next_request(
    server: Server, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(states.LONGEST_S, states.WAITING, 0.2)
    with Client(server) as client:
        client.send(request("/private/page.html", RIGHT) + request("/open.html"))
        reply = client.reply()
        assert (reply.status, reply["Retry-After"]) == (503, "5")
        assert client.reply().body == b"open"
        gate.open()
        wait_until(lambda: not server._queues.pending)
        assert client.get("/private/page.html", RIGHT).body == b"private page"
    assert gate.begun == [b"s3cret"]
    assert "503 The password could not be checked in time." in error_log(server)


@pytest.mark.parametrize("error", [RuntimeError, BaseException])
def test_check_that_fails_is_503_and_logged(
    server: Server, gate: Gate, monkeypatch: pytest.MonkeyPatch, error: type[BaseException]
) -> None:
    gate.open()

    def fail(*_: object) -> bool:
        raise error("such as a panic")

    for rule in server._site._rules._auth._rules:
        monkeypatch.setattr(rule.file, "_checkpw", fail)
    with Client(server) as client:
        assert client.get("/private/page.html", RIGHT).status == 503
        for rule in server._site._rules._auth._rules:
            monkeypatch.setattr(rule.file, "_checkpw", bcrypt.checkpw)
        assert client.get("/private/page.html", RIGHT).status == 200
    assert error_log(server).count("a password could not be checked") == states.ASK_TIMES


def test_thread_starts_with_the_first_password_and_ends_with_the_server(server: Server, gate: Gate) -> None:
    def threads() -> list[threading.Thread]:
        return [thread for thread in threading.enumerate() if thread.name == "passwords"]

    gate.open()
    assert get(server, "/open.html").status == 200
    assert get(server, "/private/page.html").status == 401
    assert not threads()
    for number in range(3):
        assert get(server, "/private/page.html", credentials("anna", f"{number}")).status == 401
    assert len(threads()) == 1
    server.stop()
    wait_until(lambda: not threads())


# Reload, failure and end


def test_reload_meanwhile_is_answered_by_the_new_configuration(
    server: Server, gate: Gate, htpasswd: Path
) -> None:
    other = htpasswd.with_name("other")
    other.write_bytes(b"anna:%s\n" % hashed("new"))
    with Client(server) as client, Client(server) as second:
        ask(client, server, RIGHT)
        ask(second, server, credentials("anna", "new"))
        changed = server.config.with_overrides(basic_auth=(("/private/*", str(other)),))
        server.reload(lambda: changed)
        assert server.config is changed
        gate.open()
        assert client.reply().status == 401
        assert second.reply().body == b"private page"
    assert sorted(gate.begun) == [b"new", b"new", b"s3cret", b"s3cret"]


def test_worker_that_fails_meanwhile_is_replaced(server: Server, gate: Gate) -> None:
    failed = server._pool.workers[0]

    def fail(_: object) -> None:
        raise RuntimeError("on purpose")

    with Client(server) as client:
        ask(client, server, RIGHT)
        failed.tell(fail)
        with pytest.raises((ProtocolError, ConnectionError)):
            client.reply()
    wait_until(lambda: server._pool.workers[0] is not failed)
    with Client(server) as client:
        ask(client, server, RIGHT)
        gate.open()
        assert client.reply().body == b"private page"
    assert gate.begun == [b"s3cret"]


def test_drain_waits_for_the_answer(server: Server, gate: Gate) -> None:
    with Client(server) as client:
        ask(client, server, RIGHT)
        thread = threading.Thread(target=server.stop, daemon=True)
        thread.start()
        wait_until(lambda: server._pool.workers[0].shared.is_draining)
        gate.open()
        reply = client.reply()
        assert (reply.status, reply["Connection"]) == (200, "close")
        assert client.is_over()
    thread.join(END_S)
    assert not thread.is_alive()


def test_drain_timeout_cuts_off_who_waits(server: Server, gate: Gate) -> None:
    with Client(server) as client, Client(server) as second:
        ask(client, server, RIGHT)
        ask(second, server, credentials("anna", "guess"))
        wait_until(lambda: gate.begun)
        server.stop(0.2)
        for each in (client, second):
            with pytest.raises((ProtocolError, ConnectionError)):
                each.reply()
    gate.open()
    wait_until(lambda: not any(thread.name == "passwords" for thread in threading.enumerate()))
    assert gate.begun == [b"s3cret"]


# A flood


def test_flood_of_new_wrong_passwords_delays_nobody_else(
    serve: Serve, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No check ends during half of the others' requests, while one after the other does."""
    monkeypatch.setitem(states.LONGEST_S, states.WAITING, 3600.0)  # its thread yields to all other programs
    costly = tmp_path / "costly"
    costly.write_bytes(b"anna:%s\n" % hashed("s3cret", 8))
    server = serve(f"BasicAuth /private/* {costly}", "WorkerThreads 1")
    ended = threading.Event()
    refused: list[int] = []

    def guess(name: int) -> None:
        with Client(server) as client:
            number = 0
            while not ended.is_set():
                number += 1
                line = credentials("anna", f"{name} {number}")
                refused.append(client.get("/private/page.html", line).status)

    threads = [threading.Thread(target=guess, args=(name,), daemon=True) for name in range(4)]
    for thread in threads:
        thread.start()
    try:
        wait_until(lambda: len(refused) > 4, "a flood")
        ended_meanwhile = []
        with Client(server) as client:
            for _ in range(20):
                before = len(refused)
                wait_until(lambda: len(refused) > before, "the end of a check")  # noqa: B023
                before = len(refused)
                assert client.get("/open.html").body == b"open"
                ended_meanwhile.append(len(refused) - before)
    finally:
        ended.set()
        for thread in threads:
            thread.join(END_S)
    assert set(refused) == {401}
    assert statistics.median(ended_meanwhile) == 0
