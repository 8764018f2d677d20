"""Behind HAProxy, nginx and Caddy: who the client is, and what their checks find."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from balancers import caddy, haproxy, nginx, state_in_haproxy
from certificates import CA, port_of
from rawhttp import Client, Reply, put, request, wait_until
from wsgi_programs import probe

from fastws import Server

pytestmark = [pytest.mark.peer, pytest.mark.posix, pytest.mark.timeout(120)]

Serve = Callable[..., Server]
Ports = Callable[..., tuple[int, ...]]

ON = "TrustedProxies 127.0.0.1"
SOURCE = "127.0.0.9"
"""An address of this machine that is no proxy's."""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return put(tmp_path / "root", {"page.txt": b"x" * 1000})


def ask(port: int, target: str = "/page.txt", *lines: str, count: int = 1) -> list[Reply]:
    """Ask from ``SOURCE``, on one connection."""
    with Client(port) as client:
        client.sock.close()
        client.sock = socket.create_connection(("127.0.0.1", port), 20, (SOURCE, 0))
        replies = []
        for _ in range(count):
            client.send(request(target, *lines))
            replies.append(client.reply())
    return replies


def peers(tmp_path: Path, server: Server, target: str = "/page.txt") -> list[str]:
    server.stop()
    lines = (tmp_path / "log_webserver.txt").read_text().splitlines()
    return [line.split()[0] for line in lines if f" {target} " in line]


@pytest.mark.parametrize(
    "option", ["send-proxy", "send-proxy-v2", "send-proxy-v2 proxy-v2-options crc32c,unique-id"]
)
def test_haproxy_names_clients_in_preambles(
    serve: Serve, root: Path, tmp_path: Path, free_ports: Ports, option: str
) -> None:
    (port,) = free_ports(1)
    server = serve(ON, "ProxyProtocol on")
    with haproxy(port, tmp_path / "own", f"server node 127.0.0.1:{server.port} {option}"):
        assert [reply.body for reply in ask(port, count=4)] == [b"x" * 1000] * 4
    assert peers(tmp_path, server) == [SOURCE] * 4


def test_haproxy_names_clients_before_tls(
    serve: Serve, root: Path, tmp_path: Path, free_ports: Ports, authority: CA
) -> None:
    (port,) = free_ports(1)
    pair = authority.pair("localhost")
    server = serve(
        ON, "ProxyProtocol on", listen=("0 tls",), tls_certificates=[(pair.certificate, pair.key)]
    )  # fmt: skip
    line = f"server node 127.0.0.1:{port_of(server, 'tls')} send-proxy-v2 ssl verify none check check-ssl"
    lines = ("option httpchk GET /page.txt", f"{line} check-send-proxy inter 100")
    with haproxy(port, tmp_path / "own", *lines):
        wait_until(lambda: state_in_haproxy(tmp_path / "own") == ("UP", "L7OK"))
        assert [reply.status for reply in ask(port, count=3)] == [200] * 3
    assert peers(tmp_path, server).count(SOURCE) == 3


CHECKS = {
    "bare": ("option httpchk", "check"),
    "bare with a preamble": ("option httpchk", "check check-send-proxy send-proxy-v2"),
    "GET": ("option httpchk GET /-/readyz", "check"),
    "GET with a preamble": ("option httpchk GET /-/readyz", "check check-send-proxy send-proxy-v2"),
    "GET with a preamble of version 1": ("option httpchk GET /-/readyz", "check check-send-proxy send-proxy"),
}


@pytest.mark.parametrize("name", CHECKS)
def test_checks_of_haproxy_see_the_start_and_the_end(
    serve: Serve, root: Path, tmp_path: Path, free_ports: Ports, name: str
) -> None:
    (port,) = free_ports(1)
    option, words = CHECKS[name]
    preamble = ("ProxyProtocol on",) if "preamble" in name else ()
    server = serve(ON, "StatusPath /-/", *preamble)
    line = f"server node 127.0.0.1:{server.port} {words} inter 100 fall 1 rise 1"
    with haproxy(port, tmp_path / "own", option, line):
        wait_until(lambda: state_in_haproxy(tmp_path / "own") == ("UP", "L7OK"))
        assert ask(port)[0].status == 200
        server._condition.is_draining = True  # as for DrainDelay after a signal to stop
        wait_until(lambda: state_in_haproxy(tmp_path / "own") == ("DOWN", "L7STS"))


def test_fields_of_haproxy_name_client_scheme_and_request(
    serve: Serve, root: Path, tmp_path: Path, free_ports: Ports
) -> None:
    (port,) = free_ports(1)
    server = serve(ON, "RequestID answer", applications={"/app": probe})
    lines = (
        "option forwardfor",
        "http-request set-header X-Forwarded-Proto https",
        "http-request set-header X-Request-ID %[uuid()]",
        f"server node 127.0.0.1:{server.port}",
    )
    with haproxy(port, tmp_path / "own", *lines):
        replies = ask(port, "/page.txt", "X-Forwarded-For: 1.2.3.4", "X-Request-ID: forged", count=3)
        assert len({reply["X-Request-ID"] for reply in replies}) == 3
        assert all(reply["X-Request-ID"].count("-") == 4 for reply in replies)
        told = environ(ask(port, "/app/environ", "X-Forwarded-For: 1.2.3.4")[0])
    assert (told["REMOTE_ADDR"], told["wsgi.url_scheme"]) == (SOURCE, "https")
    assert peers(tmp_path, server) == [SOURCE] * 3


def environ(reply: Reply) -> dict[str, Any]:
    told: dict[str, Any] = json.loads(reply.body)
    return told.get("environ", told)


NGINX = (
    "location / {{ proxy_pass http://{where}; proxy_http_version 1.1; proxy_set_header Connection '';"
    " proxy_set_header Host $host; proxy_set_header X-Forwarded-Proto $scheme;"
    " proxy_set_header X-Request-ID $request_id; {more} }}"
)
"""As docs/deployment.md has it."""


@pytest.mark.parametrize(
    "more",
    [
        "proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;",
        "proxy_set_header X-Real-IP $remote_addr; proxy_set_header X-Forwarded-For '';",
        "proxy_set_header Forwarded 'for=$remote_addr;proto=$scheme';",
    ],
)
def test_nginx_names_clients(serve: Serve, root: Path, tmp_path: Path, free_ports: Ports, more: str) -> None:
    (port,) = free_ports(1)
    server = serve(ON, "StatusPath /-/", applications={"/app": probe})
    where = f"127.0.0.1:{server.port}"
    with nginx(port, tmp_path / "own", NGINX.format(where=where, more=more)):
        assert [reply.status for reply in ask(port, count=3)] == [200] * 3
        assert ask(port, "/-/healthz")[0].status == 404
        told = environ(ask(port, "/app/environ")[0])
    assert (told["REMOTE_ADDR"], told["wsgi.url_scheme"]) == (SOURCE, "http")
    assert peers(tmp_path, server) == [SOURCE] * 3


def test_nginx_names_clients_on_a_unix_domain_socket(
    serve: Serve, root: Path, tmp_path: Path, free_ports: Ports
) -> None:
    (port,) = free_ports(1)
    path = tmp_path / "socket"
    server = serve("TrustedProxies unix", listen=(f"unix:{path}",), applications={"/app": probe})
    more = "proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;"
    with nginx(port, tmp_path / "own", NGINX.format(where=f"unix:{path}", more=more)):
        assert [reply.status for reply in ask(port, count=3)] == [200] * 3
        assert environ(ask(port, "/app/environ")[0])["REMOTE_ADDR"] == SOURCE
    assert peers(tmp_path, server) == [SOURCE] * 3


def test_caddy_names_clients_by_itself(serve: Serve, root: Path, tmp_path: Path, free_ports: Ports) -> None:
    (port,) = free_ports(1)
    server = serve(ON, "StatusPath /-/", applications={"/app": probe})
    with caddy(port, tmp_path / "own", f"reverse_proxy 127.0.0.1:{server.port}"):
        replies = ask(port, "/page.txt", "X-Forwarded-For: 1.2.3.4", count=3)
        assert [reply.status for reply in replies] == [200] * 3
        assert ask(port, "/-/healthz")[0].status == 404
        told = environ(ask(port, "/app/environ", "X-Forwarded-Proto: https")[0])
    assert (told["REMOTE_ADDR"], told["wsgi.url_scheme"]) == (SOURCE, "http")
    assert peers(tmp_path, server) == [SOURCE] * 3
