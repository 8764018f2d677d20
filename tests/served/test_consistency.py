"""Answers that an earlier one must not decide: what is remembered, and what is replayed, is right by itself."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from rawhttp import Client, get, put, thrice, wait_until

from fastws import Server
from fastws.files.root import Descriptor
from fastws.http.messages import FileSlice
from fastws.transport.transmission import Transmission

Serve = Callable[..., Server]
OLD = 1_000_000_000


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "root"


def put_old(root: Path, entries: dict[str, bytes]) -> None:
    """Files of long ago, whose answers are remembered and replayed at once."""
    put(root, entries)
    for name in entries:
        os.utime(root / name, (OLD, OLD))
    time.sleep(0.03)  # their times of change are of now


# What is remembered


def test_renamed_file_has_the_type_of_its_new_name(serve: Serve, root: Path) -> None:
    put_old(root, {"about.html": b"<p>about</p>", "sub/index.html": b"<p>sub</p>"})
    server = serve("CleanUrls on", "DirectoryIndex index.html index.txt")
    assert thrice(server, "/about")["Content-Type"].startswith("text/html")
    assert thrice(server, "/sub/")["Content-Type"].startswith("text/html")
    (root / "about.html").rename(root / "about")
    (root / "sub/index.html").rename(root / "sub/index.txt")
    time.sleep(0.03)
    assert thrice(server, "/about")["Content-Type"] == "application/octet-stream"
    assert thrice(server, "/sub/")["Content-Type"].startswith("text/plain")


# What is replayed


def test_clean_url_beside_a_link_that_leads_nowhere_is_decided_each_time(serve: Serve, root: Path) -> None:
    put_old(root, {"clean.html": b"the clean one", "other/some": b"."})
    (root / "clean").symlink_to("other/target")
    time.sleep(0.03)
    server = serve("CleanUrls on")
    assert thrice(server, "/clean").body == b"the clean one"
    put_old(root, {"other/target": b"the link's target"})
    assert get(server, "/clean").body == b"the link's target"


def test_sidecar_for_a_link_that_leads_nowhere_is_decided_each_time(serve: Serve, root: Path) -> None:
    put_old(root, {"page.txt.gz": b"its sidecar", "other/some": b"."})
    (root / "page.txt").symlink_to("other/target")
    server = serve("Compression on")
    with Client(server) as client:
        for _ in range(3):
            assert client.get("/page.txt", "Accept-Encoding: identity;q=0.5, gzip").body == b"its sidecar"
        put_old(root, {"other/target": b"the link's target, newer than the sidecar"})
        os.utime(root / "other/target")
        time.sleep(0.03)
        answer = client.get("/page.txt", "Accept-Encoding: identity;q=0.5, gzip")
    assert answer.body.startswith(b"the link's target")


def test_file_below_status_path_is_not_replayed_to_those_who_may_see_the_status(
    serve: Serve, root: Path
) -> None:
    put_old(root, {"-/metrics": b"a file of the root", "-/page.txt": b"another"})
    server = serve("StatusPath /-/")
    for _ in range(3):
        assert get(server, "/-/metrics", "X-Forwarded-For: 192.0.2.1").body == b"a file of the root"
        assert b"fastws_requests_total" in get(server, "/-/metrics").body
        assert thrice(server, "/-/page.txt").body == b"another"


# What is sent


class Recorder:
    """A transport that takes everything and remembers whether more was to follow."""

    def __init__(self) -> None:
        self.sent: list[tuple[bytes, bool]] = []

    def send(self, pieces: Sequence[bytes | memoryview], more: bool) -> int:
        self.sent.append((b"".join(pieces), more))
        return len(self.sent[-1][0])


def test_head_before_an_empty_file_does_not_wait_for_more() -> None:
    """The kernel would hold it back for 0.2 s."""
    transport = Recorder()
    transmission = Transmission(b"head", (FileSlice(Descriptor(-1), 0, 0),))
    assert transmission.send(transport)  # type: ignore[arg-type]
    assert [each for each in transport.sent if each[0]] == [(b"head", False)]
    assert transmission.body_sent == 0


def test_empty_file_is_served(serve: Serve, root: Path) -> None:
    put_old(root, {"empty.txt": b""})
    for lines in ((), ("CacheSize 0",)):
        server = serve(*lines)
        assert [get(server, "/empty.txt").body for _ in range(3)] == [b""] * 3
        assert get(server, "/empty.txt", "Range: bytes=0-9").status == 200
        server.stop()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_connection_that_a_forked_process_still_has_is_forgotten(serve: Serve, root: Path) -> None:
    """Closing does not take a socket out of an epoll set while another process has it open."""
    put_old(root, {"page.txt": b"page"})
    server = serve("WorkerThreads 1")
    reactor = server._pool.workers[0].reactor
    reading, writing = os.pipe()
    with Client(server) as client:
        assert client.get("/page.txt").status == 200
        wait_until(lambda: len(server._pool.workers[0].admission._connections) == 1)
        child = os.fork()
        if not child:
            os.close(writing)
            os.read(reading, 1)  # until the parent is done
            os._exit(0)
        try:
            client.sock.shutdown(socket.SHUT_RDWR)
            wait_until(lambda: server.connection_count() == 0)
            before = time.process_time()
            time.sleep(0.3)
            assert time.process_time() - before < 0.15, "the loop spins"
            assert reactor.kept == 0
        finally:
            os.close(writing)
            os.close(reading)
            os.waitpid(child, 0)
