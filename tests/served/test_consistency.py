"""Answers that an earlier one must not decide: what is remembered, and what is replayed, is right by itself."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from rawhttp import Client, get, put, thrice, wait_until

from fastws import Server, portable
from fastws.files import root as files
from fastws.files.root import Contents, Descriptor, Root, is_settled
from fastws.http.messages import FileSlice, Identity
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


def test_file_dated_in_the_future_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path, {"page.txt": b"from the future"})
    os.utime(tmp_path / "page.txt", (time.time() + 1e6,) * 2)
    time.sleep(0.03)
    reads = []
    monkeypatch.setattr(files, "_read", lambda *which, read=files._read: reads.append(which) or read(*which))
    contents = Contents(1 << 20)
    for _ in range(3):
        with Root(str(tmp_path)) as opened:
            contents.tag(opened.open("page.txt"))
    assert len(reads) == 1


def test_identity_is_settled_by_when_the_file_was_changed() -> None:
    tick = files.SETTLED_NS
    now = 100 * tick
    assert is_settled(Identity(1, 1, 1, now - 2 * tick, now - 2 * tick), now)
    assert is_settled(Identity(1, 1, 1, now + 9 * tick, now - 2 * tick), now)
    assert not is_settled(Identity(1, 1, 1, now, now - 2 * tick), now)
    assert not is_settled(Identity(1, 1, 1, now - 2 * tick, now - tick), now)
    assert not is_settled(Identity(1, 1, 1, now + 9 * tick, now), now)


def test_write_after_the_read_is_not_taken_for_what_was_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the clock of the files ticks slowly, only the time that has passed before reading tells."""
    put(tmp_path, {"page.txt": b"old bytes"})
    changed_ns = os.stat(tmp_path / "page.txt").st_ctime_ns
    now_ns = [changed_ns + files.SETTLED_NS // 2]

    def read_slowly(*arguments: int, read: Callable[..., bytes] = portable.read_at) -> bytes:
        now_ns[0] = changed_ns + 9 * files.SETTLED_NS
        return read(*arguments)

    monkeypatch.setattr(files.time, "time_ns", lambda: now_ns[0])
    monkeypatch.setattr(portable, "read_at", read_slowly)
    contents = Contents(1 << 20)
    with Root(str(tmp_path)) as opened:
        assert not contents.load(opened.open("page.txt")).is_settled


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
    assert transport.sent == [(b"head", False)]
    assert transmission.body_sent == 0


def test_empty_file_is_served(serve: Serve, root: Path) -> None:
    put_old(root, {"empty.txt": b""})
    for lines in ((), ("CacheSize 0",)):
        server = serve(*lines)
        assert [get(server, "/empty.txt").body for _ in range(3)] == [b""] * 3
        assert get(server, "/empty.txt", "Range: bytes=0-9").status == 416
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
