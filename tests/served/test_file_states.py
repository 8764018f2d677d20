"""Files that no size and no time tells apart, and files without a size: an answer is of one state of one file."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from rawhttp import Client, get, put, settle, thrice

from fastws import Server, portable

Serve = Callable[..., Server]
OLD = 1_000_000_000
SIZE = 300_000


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "root"


# Other content of equal size and time


def change_in_place(path: Path) -> None:
    path.write_bytes(b"b" * SIZE)


def put_in_its_place(path: Path) -> None:
    other = path.with_name("other.bin")
    other.write_bytes(b"b" * SIZE)
    os.utime(other, (OLD, OLD))
    other.replace(path)


def swap_a_link(path: Path) -> None:
    other = path.with_name("other")
    other.mkdir()
    (other / "large.bin").write_bytes(b"b" * SIZE)
    os.utime(other / "large.bin", (OLD, OLD))
    link = path.with_name("link")
    link.symlink_to("other")
    link.replace(path.with_name("current"))


@pytest.mark.parametrize("change", [change_in_place, put_in_its_place, swap_a_link])
@pytest.mark.parametrize("date", [1, OLD])
def test_other_content_of_equal_size_and_time_is_sent_whole(
    serve: Serve, root: Path, change: Callable[[Path], None], date: int
) -> None:
    put(root, {"large.bin": b"a" * SIZE, "first/large.bin": b"a" * SIZE})
    for name in ("large.bin", "first/large.bin"):
        os.utime(root / name, (date, date))
    (root / "current").symlink_to("first")
    settle(root / "large.bin", root / "first/large.bin")
    server = serve(cache_max_file_bytes=1000)
    target = "/current/large.bin" if change is swap_a_link else "/large.bin"
    tag = thrice(server, target)["ETag"]
    assert not tag.startswith("W/")
    assert thrice(server, target, f"If-None-Match: {tag}").status == 304
    assert thrice(server, target, "Range: bytes=9-", f"If-Range: {tag}").status == 206
    change(root / "large.bin")
    for path in (root / "large.bin", root / "other/large.bin"):
        if path.exists():
            os.utime(path, (date, date))
            settle(path)
    for lines in ((f"If-None-Match: {tag}",), ("Range: bytes=9-", f"If-Range: {tag}")):
        reply = thrice(server, target, *lines)
        assert (reply.status, reply.body) == (200, b"b" * SIZE)
    assert get(server, target, f"If-Match: {tag}").status == 412


def test_tag_by_times_is_the_same_on_every_node(serve: Serve, root: Path, tmp_path: Path) -> None:
    tags = []
    for node in ("one", "two"):
        put(tmp_path / node, {"large.bin": b"a" * SIZE, "small.bin": b"a"})
        os.utime(tmp_path / node / "large.bin", (OLD, OLD))
        settle(tmp_path / node / "large.bin")
        server = serve("LargeFileETag times", root=tmp_path / node, cache_max_file_bytes=1000)
        tags.append((get(server, "/large.bin")["ETag"], get(server, "/small.bin")["ETag"]))
    assert tags[0] == tags[1]


DATES = {"epoch": 0, "Nix": 1, "zip": 315532800, "npm": 499162500, "Bazel": 946684800}


@pytest.mark.parametrize("maker", DATES)
def test_date_that_many_files_share_decides_nothing(serve: Serve, root: Path, maker: str) -> None:
    put(root, {"page.html": b"old"})
    os.utime(root / "page.html", (DATES[maker], DATES[maker]))
    settle(root / "page.html")
    server = serve()
    reply = thrice(server, "/page.html")
    assert reply.all("Last-Modified") == []
    assert thrice(server, "/page.html", f"If-None-Match: {reply['ETag']}").status == 304
    since = time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(DATES[maker]))
    (root / "page.html").write_bytes(b"new")
    os.utime(root / "page.html", (DATES[maker], DATES[maker]))
    for line in (f"If-Modified-Since: {since}", "If-Modified-Since: Sat, 01 Jan 2022 00:00:00 GMT"):
        assert thrice(server, "/page.html", line).body == b"new"


# Without a size, and growing


@pytest.mark.skipif(not Path("/proc/sys/kernel/ostype").exists(), reason="needs Linux")
def test_files_of_proc_are_sent_whole_and_anew(serve: Serve) -> None:
    server = serve(root=Path("/proc"), default_type="text/plain")
    for _ in range(3):
        for name in ("sys/kernel/ostype", "cpuinfo", "self/limits"):
            reply = get(server, f"/{name}")
            assert (reply.status, len(reply.body)) == (200, len(Path("/proc", name).read_bytes()))
            assert get(server, f"/{name}", method="HEAD")["Content-Length"] == str(len(reply.body))
    assert get(server, "/sys/kernel/ostype", "Range: bytes=1-3").body == b"inu"
    bodies = [get(server, "/uptime").body for _ in range(2) if time.sleep(0.05) is None]
    assert bodies[0] != bodies[1]


@pytest.mark.skipif(not Path("/sys/kernel/mm").exists(), reason="needs Linux")
def test_files_of_sys_are_as_long_as_what_they_say(serve: Serve) -> None:
    name = "transparent_hugepage/enabled"
    path = Path("/sys/kernel/mm", name)
    if not path.exists():
        pytest.skip("needs transparent huge pages")
    server = serve(root=Path("/sys/kernel/mm"), default_type="text/plain")
    for _ in range(3):
        assert get(server, f"/{name}").body == path.read_bytes()


def test_log_that_grows_while_it_is_read_is_sent_to_where_it_was(
    serve: Serve, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(root, {"log.txt": b"first line\n"})
    server = serve("WorkerThreads 1")
    read_at = portable.read_at

    def grow_and_read(*arguments: int) -> bytes:
        with (root / "log.txt").open("ab") as log:
            log.write(b"next line\n")
        return read_at(*arguments)

    with Client(server) as client:
        monkeypatch.setattr(portable, "read_at", grow_and_read)
        reply = client.get("/log.txt", "Range: bytes=0-")  # which no twin reads by itself
        monkeypatch.undo()
    assert reply.body.endswith(b"line\n")
