"""An address that sends clients to https, over the wire, beside a plain one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from certificates import CA, port_of
from rawhttp import Client, get, put, request, wait_until

from fastws import Server

Serve = Callable[..., Server]


@pytest.fixture
def start(serve: Serve, tmp_path: Path) -> Serve:
    folder = tmp_path / "ca"
    folder.mkdir()
    pair = CA(folder).pair("localhost", "*.example.org")
    put(tmp_path / "root", {"index.html": b"page", ".well-known/acme-challenge/token": b"proof"})

    def start(*lines: str, **overrides: object) -> Server:
        own = {"listen": ("0 redirect", "0 tls"), "tls_certificates": [(pair.certificate, pair.key)]}
        return serve(*lines, **own | overrides)

    return start


def test_clients_are_sent_to_the_port_of_tls_on_one_connection(start: Serve) -> None:
    server = start()
    tls = port_of(server, "tls")
    with Client(port_of(server, "redirect")) as client:
        for target in ("/", "/index.html?a=b", "/index.html"):
            reply = client.get(target)
            assert (reply.status, reply["Location"]) == (308, f"https://localhost:{tls}{target}")
            assert reply["Server"] == "fastws"
        reply = client.get("/x", method="HEAD")
        assert (reply.status, reply.body) == (308, b"")
        reply = client.get("/form", method="POST", body=b"a=b")
        assert (reply.status, reply["Location"]) == (308, f"https://localhost:{tls}/form")


def test_what_a_plain_address_has_published_is_not_replayed_there(start: Serve) -> None:
    server = start("WorkerThreads 1")
    plain, redirect = port_of(server, "plain"), port_of(server, "redirect")
    for _ in range(3):
        assert get(plain, "/index.html").body == b"page"
        assert get(redirect, "/index.html").status == 308
    with Client(redirect) as client:
        client.send(request("/index.html") * 3)
        assert [client.reply().status for _ in range(3)] == [308] * 3


def test_other_hosts_are_misdirected_and_hosts_of_a_wildcard_are_not(start: Serve) -> None:
    server = start()
    port = port_of(server, "redirect")
    for host, status in (("a.example.org", 308), ("a.b.example.org", 421), ("evil.example", 421)):
        with Client(port) as client:
            client.send(f"GET /x HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
            reply = client.reply()
        assert reply.status == status
        assert reply.all("Location") == (
            [f"https://{host}:{port_of(server, 'tls')}/x"] if status == 308 else []
        )


def test_an_authority_finds_its_file_whatever_the_name(start: Serve) -> None:
    port = port_of(start(), "redirect")
    for host in ("localhost", "new.example"):
        with Client(port) as client:
            client.send(f"GET /.well-known/acme-challenge/token HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
            reply = client.reply()
        assert (reply.status, reply.body) == (200, b"proof")


def test_a_body_that_is_announced_is_not_asked_for(start: Serve) -> None:
    with Client(port_of(start(), "redirect")) as client:
        client.send(request("/x", "Expect: 100-continue", "Content-Length: 100", method="POST"))
        assert client.reply("POST").status == 308
        assert client.is_over()


def test_bad_requests_are_refused_and_limits_hold_there_too(start: Serve) -> None:
    server = start(max_connections=1)
    port = port_of(server, "redirect")
    with Client(port) as first:
        assert first.get("/").status == 308
        assert get(port, "/").status == 503
    wait_until(lambda: server.connection_count() == 0)
    with Client(port) as client:
        client.send(b"GET / HTTP/1.1\r\n\r\n")
        assert client.reply().status == 400
    wait_until(lambda: server.connection_count() == 0)
    with Client(port) as client:
        client.send(b"GET  / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert client.reply().status == 400


def test_a_reload_makes_a_plain_address_redirect_and_back(
    start: Serve, free_ports: Callable[..., tuple[int, ...]]
) -> None:
    changing, tls = free_ports(2)
    server = start(listen=(f"{changing} plain", f"{tls} tls"))
    assert get(changing, "/").status == 200
    listen = server.config.listen
    server.reload(lambda: server.config.with_overrides(listen=(f"{changing} redirect", f"{tls} tls")))
    reply = get(changing, "/")
    assert (reply.status, reply["Location"]) == (308, f"https://localhost:{tls}/")
    server.reload(lambda: server.config.with_overrides(listen=listen))
    assert get(changing, "/").status == 200
