"""OPTIONS, where the configuration lists it: for CORS preflights and for checks by load balancers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import bcrypt
import pytest
from rawhttp import Client, get, put, thrice

from fastws import Server

Serve = Callable[..., Server]
METHODS = "RequestMethods GET,HEAD,POST,OPTIONS"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return put(tmp_path / "root", {"a.txt": b"text", "index.html": b"<pre></pre>", "api/x.json": b"{}"})


def test_by_default_it_is_not_implemented(serve: Serve, root: Path) -> None:
    assert get(serve(), "/a.txt", method="OPTIONS").status == 501


def test_trusted_proxy_that_asks_for_itself_checks_the_server(serve: Serve, root: Path) -> None:
    server = serve("TrustedProxies 127.0.0.1")
    with Client(server) as client:
        client.send(b"OPTIONS / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")  # HAProxy's `option httpchk`
        assert client.reply().status == 204
        assert client.get("/a.txt", "X-Forwarded-For: 192.0.2.1", method="OPTIONS").status == 501
        server._condition.is_draining = True
        assert client.get("/a.txt", method="OPTIONS").status == 503
        assert client.get("/a.txt", method="DELETE").status == 501
        assert client.get("/a.txt").status == 200


def test_preflight_gets_the_fields_of_the_path(serve: Serve, root: Path) -> None:
    server = serve(
        METHODS,
        "Header Access-Control-Allow-Origin * /api/*",
        "Header Access-Control-Allow-Methods GET /api/*",
    )
    asked = ("Origin: https://a.example", "Access-Control-Request-Method: GET")
    reply = thrice(server, "/api/x.json", *asked, method="OPTIONS")
    assert (reply.status, reply.body, reply["Allow"]) == (204, b"", "GET, HEAD, OPTIONS")
    assert (reply["Access-Control-Allow-Origin"], reply["Access-Control-Allow-Methods"]) == ("*", "GET")
    # RFC 9110 section 8.6: a 204 has no Content-Length.
    assert reply.all("Content-Length") == reply.all("Content-Type") == []
    assert thrice(server, "/a.txt", *asked, method="OPTIONS").all("Access-Control-Allow-Origin") == []


def test_pages_take_forms_and_the_whole_server_has_a_target(serve: Serve, root: Path) -> None:
    server = serve(METHODS)
    for target in ("/", "/index.html", "/missing", "*"):
        reply = thrice(server, target, method="OPTIONS")
        assert (reply.status, reply["Allow"]) == (204, "GET, HEAD, POST, OPTIONS")
    assert get(server, "*").status == 400
    assert get(server, "/../x", method="OPTIONS").status == 400
    assert get(server, "/a.txt", method="POST")["Allow"] == "GET, HEAD, OPTIONS"


def test_it_needs_no_password_and_is_the_same_for_what_is_missing(
    serve: Serve, root: Path, tmp_path: Path
) -> None:
    (tmp_path / "users").write_bytes(b"a:" + bcrypt.hashpw(b"b", bcrypt.gensalt(4)))
    server = serve(METHODS, f"BasicAuth * {tmp_path}/users")
    there, missing = [
        get(server, target, method="OPTIONS") for target in ("/api/x.json", "/api/missing.json")
    ]
    assert there.status == missing.status == 204
    assert there["Allow"] == missing["Allow"]
    assert get(server, "/api/x.json").status == 401


def test_connection_goes_on_behind_it(serve: Serve, root: Path) -> None:
    with Client(serve(METHODS)) as client:
        for _ in range(3):
            assert client.get("/a.txt", method="OPTIONS", body=b"ignored").status == 204
            assert client.get("/a.txt").body == b"text"
