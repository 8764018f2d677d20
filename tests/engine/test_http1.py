"""HTTP/1.x on a connection, where what it sends cannot be sent."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from rawhttp import Client, put, request, wait_until

from fastws import Server
from fastws.backend import Backend
from fastws.transport.plain import PlainTransport

Serve = Callable[..., Server]
INVITED = ("Content-Type: application/x-www-form-urlencoded", "Expect: 100-continue", "Content-Length: 3")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    directory = tmp_path / "root"
    put(directory, {"form.html": b"<pre></pre>", "a.bin": bytes(100_000)})
    return directory


def fail_once(monkeypatch: pytest.MonkeyPatch, error: OSError) -> list[OSError]:
    """Let the next thing that is sent fail with ``error``; it is in the list until then."""
    original = PlainTransport.send
    errors = [error]

    def send(self: PlainTransport, pieces: Sequence[bytes | memoryview], more: bool) -> int:
        if errors:
            raise errors.pop()
        return original(self, pieces, more)

    monkeypatch.setattr(PlainTransport, "send", send)
    return errors


def test_client_that_takes_no_invitation_may_send_its_body_all_the_same(
    serve: Serve, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    errors = fail_once(monkeypatch, BlockingIOError())
    with Client(serve()) as client:
        client.send(request("/form.html", *INVITED, method="POST"))
        wait_until(lambda: not errors)
        client.send(b"a=b")
        assert client.reply().body == b"<pre>a: b</pre>"


def test_connection_that_breaks_at_the_invitation_is_closed(
    serve: Serve, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fail_once(monkeypatch, BrokenPipeError())
    with Client(serve()) as client:
        client.send(request("/form.html", *INVITED, method="POST"))
        assert client.is_over()


@pytest.mark.parametrize("target", ["/a.bin", "/missing"])
def test_response_with_an_impossible_field_is_logged_and_ends_its_connection(
    serve: Serve, side: Backend, root: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, target: str
) -> None:
    def refuse(status: int, fields: object) -> bytes:
        raise ValueError("a control character")

    log = tmp_path / "errors.txt"
    server = serve(cache_size_bytes=0, error_log=str(log))
    with Client(server) as client:
        client.get("/a.bin")
        open_files = len(os.listdir("/proc/self/fd"))
        monkeypatch.setattr(side.parser, "build_head", refuse)
        client.send(request(target))
        assert client.is_over()
    wait_until(lambda: "has an impossible field" in log.read_text())
    assert len(os.listdir("/proc/self/fd")) < open_files
