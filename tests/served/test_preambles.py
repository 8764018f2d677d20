"""Connections of a proxy that says in a preamble which client they are from."""

from __future__ import annotations

import random
import re
import socket
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest
from proxied import Introduced, header, line
from rawhttp import Client, put, request, wait_until

from fastws import Server
from fastws.engine import admission

Serve = Callable[..., Server]

ON = ("ProxyProtocol on", "TrustedProxies 127.0.0.1 unix")

NAMED = {
    line("192.0.2.1"): "192.0.2.1",
    line("2001:db8::1", "TCP6"): "2001:db8::1",
    header("192.0.2.1", additions=b"\x20\x00\x05hello"): "192.0.2.1",
    header("2001:db8::1"): "2001:db8::1",
    header(): "unknown",
    header(kind=0x31, additions=bytes(216)): "unknown",
    header(command=0): "127.0.0.1",
    b"PROXY UNKNOWN\r\n": "unknown",
}
"""Preambles, and how the log names the client."""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return put(tmp_path / "root", {"page.txt": b"x" * 1000})


def lines_of(path: Path, server: Server) -> list[str]:
    server.stop()
    return path.read_text().splitlines()


def is_cut_off(server: Server, *pieces: bytes) -> bool:
    """Whether a client that sends the pieces gets nothing and is closed."""
    with socket.create_connection(("127.0.0.1", server.port), 20) as client:
        try:
            for piece in pieces:
                client.sendall(piece)
            return client.recv(100) == b""
        except ConnectionError:
            return True


def peers(tmp_path: Path, server: Server) -> list[str]:
    return [each.split()[0] for each in lines_of(tmp_path / "log_webserver.txt", server)]


@pytest.mark.parametrize("pieces", [0, 1, 9])
def test_client_of_every_request_is_the_one_of_the_preamble(
    serve: Serve, root: Path, tmp_path: Path, pieces: int
) -> None:
    server = serve(*ON, "WorkerThreads 1")
    for preamble in NAMED:
        with Introduced(server, preamble, pieces=pieces) as client:
            for _ in range(3):  # the last of them is replayed, where that is done
                assert client.get("/page.txt").body == b"x" * 1000
    assert peers(tmp_path, server) == [name for name in NAMED.values() for _ in range(3)]


def test_requests_pipelined_behind_the_preamble_are_all_answered(
    serve: Serve, root: Path, tmp_path: Path
) -> None:
    server = serve(*ON)
    with Introduced(server, header("192.0.2.7")) as client:
        client.send(request("/page.txt") * 5)
        assert [client.reply().status for _ in range(5)] == [200] * 5
    assert peers(tmp_path, server) == ["192.0.2.7"] * 5


def test_connection_without_preamble_is_closed_and_named_once(
    serve: Serve, root: Path, tmp_path: Path
) -> None:
    server = serve(*ON, "WorkerThreads 1")
    assert all(is_cut_off(server, request("/page.txt")) for _ in range(3))
    said = lines_of(tmp_path / "log_webserver_error.txt", server)
    found = [each for each in said if "PROXY" in each]
    assert len(found) == 1
    assert re.search(r" warning .* 127\.0\.0\.1: what came first is no preamble", found[0])
    assert (tmp_path / "log_webserver.txt").read_text() == ""


def test_connection_of_another_than_the_trusted_is_closed_unread(
    serve: Serve, root: Path, tmp_path: Path
) -> None:
    server = serve("ProxyProtocol on", "TrustedProxies 10.0.0.0/8")
    assert is_cut_off(server, header("10.0.0.1") + request("/page.txt"))
    said = "\n".join(lines_of(tmp_path / "log_webserver_error.txt", server))
    assert "127.0.0.1: it comes from none of TrustedProxies" in said


def test_reason_is_said_again_after_a_while_with_their_number(
    serve: Serve, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = serve("ProxyProtocol on", "TrustedProxies 10.0.0.0/8", "WorkerThreads 1")
    log = tmp_path / "log_webserver_error.txt"

    assert all(is_cut_off(server) for _ in range(3))
    clock = admission.time.monotonic
    monkeypatch.setattr(admission.time, "monotonic", lambda: clock() + admission.SAY_S)
    assert is_cut_off(server)
    wait_until(lambda: "(and 2 before it)" in log.read_text())


def test_preamble_must_come_in_time(serve: Serve, root: Path, tmp_path: Path) -> None:
    server = serve(*ON, "RequestTimeout 0.2")
    assert is_cut_off(server, b"PROXY TCP4 192.0")
    wait_until(lambda: "within RequestTimeout" in (tmp_path / "log_webserver_error.txt").read_text())


def test_client_that_leaves_before_its_preamble_is_forgotten(
    serve: Serve, root: Path, tmp_path: Path
) -> None:
    server = serve(*ON)
    for sent in (b"", b"PROXY"):
        with socket.create_connection(("127.0.0.1", server.port), 20) as client:
            client.sendall(sent)
    with Introduced(server, header("192.0.2.1"), pieces=5) as client:
        assert client.get("/page.txt").status == 200
        wait_until(lambda: server._pool.connection_count() == 1)
    assert "PROXY" not in "\n".join(lines_of(tmp_path / "log_webserver_error.txt", server))


@pytest.mark.plain  # over TLS there is nothing to read before the handshake
def test_clients_are_counted_by_the_address_of_the_preamble(serve: Serve, root: Path) -> None:
    server = serve(*ON, "MaxConnectionsPerAddress 1")
    with (
        Introduced(server, header("192.0.2.1")) as one,
        Introduced(server, line("192.0.2.2"), pieces=3) as two,
    ):
        assert one.get("/page.txt").status == two.get("/page.txt").status == 200
        with Introduced(server, header("192.0.2.1"), pieces=3) as third:
            assert third.get("/page.txt").status == 503
        for _ in range(3):  # who is not named is not counted
            with Introduced(server, header()) as unknown:
                assert unknown.get("/page.txt").status == 200
        assert one.get("/page.txt").status == 200


def test_status_is_for_whom_the_preamble_names(serve: Serve, root: Path) -> None:
    server = serve(*ON, "StatusPath /-/", "StatusAllow 192.0.2.0/24")
    for preamble, status in {
        header("192.0.2.1"): 200,
        header("198.51.100.1"): 404,
        header("127.0.0.1"): 200,
        header(command=0): 200,
        header(): 404,
        header(kind=0x31, additions=bytes(216)): 404,
    }.items():
        with Introduced(server, preamble) as client:
            assert client.get("/-/healthz").status == status, preamble


def test_one_address_may_have_preambles_and_another_not(
    serve: Serve, root: Path, tmp_path: Path, free_ports: Callable[..., tuple[int, ...]]
) -> None:
    (port,) = free_ports(1)
    path = tmp_path / "socket"
    server = serve(
        f"Listen 127.0.0.1:{port} proxy", f"Listen unix:{path} 0600 proxy", "TrustedProxies 127.0.0.1,unix"
    )
    with Client(server) as client:
        assert client.get("/page.txt").status == 200
    if not getattr(client.sock, "wire", None):  # whose test has TLS on one port alone
        with Introduced(port, header("192.0.2.1")) as introduced:
            assert introduced.get("/page.txt").status == 200
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(20)
        sock.connect(str(path))
        sock.sendall(line("192.0.2.2") + request("/page.txt", "Connection: close"))
        assert sock.makefile("rb").read().endswith(b"x" * 1000)
    assert {"127.0.0.1", "192.0.2.2"} <= set(peers(tmp_path, server))


@pytest.mark.plain
def test_addresses_for_proxies_are_told_and_come_last(serve: Serve, root: Path, tmp_path: Path) -> None:
    server = serve("TrustedProxies 127.0.0.1", listen=((0, "proxy"), 0))
    with Client(server) as client:  # at the first that a browser can use
        assert client.get("/page.txt").status == 200
    said = "\n".join(lines_of(tmp_path / "log_webserver_error.txt", server))
    assert re.search(r"listening on 127\.0\.0\.1:\d+, 127\.0\.0\.1:\d+ \(proxy\), 127", said)


def test_reload_begins_and_ends_preambles(serve: Serve, root: Path, tmp_path: Path) -> None:
    server = serve("TrustedProxies 127.0.0.1")
    with Client(server) as client:
        assert client.get("/page.txt").status == 200
    server.reload(lambda: server.config.with_overrides(proxy_protocol=True))
    with Introduced(server, header("192.0.2.1")) as introduced:
        assert introduced.get("/page.txt").status == 200
    server.reload(lambda: server.config.with_overrides(proxy_protocol=False))
    with Client(server) as client:
        assert client.get("/page.txt").status == 200


@pytest.mark.plain
def test_mutated_preambles_end_their_own_connection_at_most(serve: Serve, root: Path) -> None:
    server = serve(*ON, "RequestTimeout 30", "MaxConnections 1000")
    chance = random.Random(1)
    with ExitStack() as stack:
        for _ in range(300):
            data = bytearray(chance.choice(list(NAMED)) + request("/page.txt"))
            for _ in range(chance.randrange(4)):
                place = chance.randrange(min(len(data), 40))
                data[place : place + chance.randrange(3)] = chance.randbytes(chance.randrange(3))
            client = stack.enter_context(socket.create_connection(("127.0.0.1", server.port), 20))
            with suppress(ConnectionError):
                client.sendall(data[:20])
                client.sendall(data[20:])
        for preamble in NAMED:
            with Introduced(server, preamble) as introduced:
                assert introduced.get("/page.txt").body == b"x" * 1000
    wait_until(lambda: server._pool.connection_count() == 0)


@pytest.mark.plain
def test_preamble_where_none_is_expected_is_named(serve: Serve, root: Path, tmp_path: Path) -> None:
    server = serve()
    with Introduced(server, header("192.0.2.1")) as client:
        assert client.get("/page.txt").status == 400
    said = "\n".join(lines_of(tmp_path / "log_webserver_error.txt", server))
    assert "400 This is a preamble of the PROXY protocol" in said
