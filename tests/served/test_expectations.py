"""Expect: 100-continue (RFC 9110 section 10.1.1): a body is invited only where the answer depends on it."""

from __future__ import annotations

import base64
import os
from collections.abc import Callable
from pathlib import Path

import bcrypt
import pytest
from rawhttp import Client, put, request, wait_until

from fastws import Server

Serve = Callable[..., Server]
FORM = "Content-Type: application/x-www-form-urlencoded"
EXPECT = "Expect: 100-continue"


@pytest.fixture
def server(serve: Serve, tmp_path: Path) -> Server:
    put(
        tmp_path / "root",
        {"form.html": b"<pre></pre>", "a.txt": b"text", "odd.xyz": b"?", "private/form.html": b"<pre></pre>"},
    )
    (tmp_path / "users").write_bytes(b"ann:" + bcrypt.hashpw(b"secret", bcrypt.gensalt(4)) + b"\n")
    return serve(
        "ContentType .html text/html",
        "ContentType .txt text/plain",
        "Redirect /old.html /form.html 307",
        "RequestMethods GET HEAD POST",
        f'BasicAuth /private/* "{tmp_path}/users"',
        default_type=None,
    )


@pytest.mark.parametrize(
    ("method", "target", "lines", "status"),
    [
        ("PUT", "/form.html", [FORM], 501),
        ("POST", "/odd.xyz", [FORM], 501),
        ("POST", "/missing.html", [FORM], 404),
        ("POST", "/.hidden", [FORM], 404),
        ("POST", "/a.txt", [FORM], 405),
        ("POST", "/form.html", ["Content-Type: application/json"], 415),
        ("POST", "/%zz", [FORM], 400),
        ("POST", "/../form.html", [FORM], 400),
        ("POST", "/old.html", [FORM], 307),
        ("POST", "/private/form.html", [FORM], 401),
        ("POST", "/private/form.html", [FORM, "Authorization: Basic YW5uOndyb25n"], 401),
    ],
)
@pytest.mark.parametrize("framing", ["Content-Length: 3", "Transfer-Encoding: chunked"])
def test_what_is_refused_whatever_its_body_is_refused_at_once(
    server: Server, method: str, target: str, lines: list[str], status: int, framing: str
) -> None:
    with Client(server) as client:
        client.send(request(target, *lines, EXPECT, framing, method=method))
        reply = client.reply()  # the first head that comes: no 100 before it
        assert reply.status == status
        assert reply["Connection"] == "close"
        assert client.is_over()


def test_a_body_that_matters_is_invited(server: Server) -> None:
    ann = "Authorization: Basic " + base64.b64encode(b"ann:secret").decode()
    for target, lines in (("/form.html", ()), ("/private/form.html", (ann,))):
        with Client(server) as client:
            client.send(request(target, FORM, *lines, EXPECT, "Content-Length: 3", method="POST"))
            assert client.head()[0] == 100
            client.send(b"a=b")
            assert client.reply().body == b"<pre>a: b</pre>"
            assert client.get("/a.txt").body == b"text"


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="descriptors are counted in /proc")
def test_a_file_that_is_looked_at_before_the_body_has_come_is_closed(serve: Serve, tmp_path: Path) -> None:
    put(tmp_path / "root", {"big.bin": bytes(100_000)})
    server = serve(cache_size_bytes=0)
    with Client(server) as client:
        client.get("/big.bin")
        open_files = len(os.listdir("/proc/self/fd"))
        for _ in range(3):
            client.send(request("/big.bin", EXPECT, "Content-Length: 3"))
            assert client.head()[0] == 100
            client.send(b"a=b")
            assert len(client.reply().body) == 100_000
        wait_until(lambda: len(os.listdir("/proc/self/fd")) <= open_files)


def test_a_body_that_does_not_change_the_answer_is_invited_and_read(server: Server) -> None:
    with Client(server) as client:
        client.send(request("/a.txt", EXPECT, "Content-Length: 3"))
        assert client.head()[0] == 100
        client.send(b"a=b")
        assert client.reply().body == b"text"
        assert client.get("/a.txt").body == b"text"
