"""One tree on three nodes, which came there by different ways: every field of every answer is the same."""

from __future__ import annotations

import gzip
import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from rawhttp import Reply, get, put, settle, wait_until

from fastws import Server, backend, load

pytestmark = pytest.mark.posix

BUILT_S = 1_700_000_000
"""SOURCE_DATE_EPOCH of the build."""

LINES = (
    'DocumentRoot "root"',
    "ListenPort 8080",
    "DefaultType application/octet-stream",
    "DirectoryListing on",
    "CleanUrls on",
    "Redirect /old /page.html",
    "ErrorPage 403 /forbidden.html",
    "Header X-Content Kind *.css",
    "CacheControl *.css max-age=3600",
    "LargeFileETag times",
    "CacheMaxFile 64K",
    "StatusPath /-/",
)

FILES = {
    "index.html": b"<p>home</p>\n" * 50,
    "page.html": b"<p>page</p>\n" * 500,
    "style.css": b"p { color: red }\n" * 1000,
    "forbidden.html": b"no\n",
    "data.bin": bytes(range(256)) * 20,
    "large.bin": bytes(range(256)) * 1024,
    "beside.js": b"let a = 1;\n" * 300,
    "beside.js.gz": gzip.compress(b"let a = 1;\n" * 300, mtime=0),
    "only.txt.gz": gzip.compress(b"only so\n" * 300, mtime=0),
    "empty.txt": b"",
    "directory/one.txt": b"1",
    "directory/two.txt": b"22",
    "name with space.txt": b"x",
}

CODINGS = ("", "gzip", "br", "zstd", "gzip, br, zstd", "identity;q=0, gzip", "*;q=0")
RANGES = ("bytes=0-0", "bytes=5-9", "bytes=-5", "bytes=3-4,7-8", "bytes=999999-", "bytes=1-1,90000-")
PATHS = (
    *(
        "/",
        "/index.html",
        "/page",
        "/page.html",
        "/style.css",
        "/data.bin",
        "/large.bin",
        "/beside.js",
        "/empty.txt",
    ),
    *(
        "/only.txt",
        "/only.txt.gz",
        "/directory",
        "/directory/",
        "/directory/?format=json",
        "/name%20with%20space.txt",
    ),
    *("/old", "/missing", "/missing.css", "/.hidden", "/a/../../b", "/%ff"),
)


def build(root: Path) -> None:
    """Write the tree as a reproducible build does: the same bytes, all times that of the source."""
    put(root, FILES)
    (root / "link.txt").symlink_to("data.bin")
    for path in [*root.rglob("*"), root]:
        os.utime(path, (BUILT_S, BUILT_S), follow_symlinks=False)


def copy(source: Path, target: Path) -> None:
    """As an administrator does."""
    subprocess.run(["cp", "-pR", str(source), str(target)], check=True, timeout=60)


def unpack(source: Path, target: Path) -> None:
    """By an archive, in another order, by names that are made beforehand."""
    archive = target.with_suffix(".tar")
    with tarfile.open(archive, "w") as file:
        for path in sorted(source.rglob("*"), reverse=True):
            file.add(path, arcname=str(path.relative_to(source)), recursive=False)
    target.mkdir()
    with tarfile.open(archive) as file:
        file.extractall(target, filter="data") if sys.version_info >= (3, 12) else file.extractall(target)
    shutil.copystat(source, target)


@pytest.fixture
def nodes(tmp_path: Path, side: backend.Backend) -> Iterator[Callable[..., list[Server]]]:
    """Return a function that starts a server for each of three copies of the tree."""
    build(tmp_path / "one" / "root")
    for name in ("two", "three"):
        (tmp_path / name).mkdir()
    copy(tmp_path / "one" / "root", tmp_path / "two" / "root")
    unpack(tmp_path / "one" / "root", tmp_path / "three" / "root")
    with ExitStack() as stack:

        def start(*lines: str) -> list[Server]:
            servers = []
            for name in ("one", "two", "three"):
                (tmp_path / name / "ws.conf").write_text("\n".join([*LINES, *lines]) + "\n")
                config = load(str(tmp_path / name / "ws.conf")).with_overrides(listen_ports=(0,))
                servers.append(stack.enter_context(Server(config, backend=side)))
            settle(*[path for path in tmp_path.rglob("root/*") if path.is_file()])
            return servers

        yield start


def shown(reply: Reply, port: int) -> tuple[object, ...]:
    """All of an answer but for its date, the port in a location, and the boundary of parts, drawn by lot."""
    (kind,) = reply.all("Content-Type") or [""]
    boundary = kind.partition("; boundary=")[2] or "BOUNDARY"
    fields = tuple(
        (name, value.replace(f":{port}", ":PORT").replace(boundary, "BOUNDARY"))
        for name, value in reply.without()
    )
    return reply.status, reply.reason, fields, reply.body.replace(boundary.encode(), b"BOUNDARY")


def agree(servers: list[Server], target: str, *lines: str, method: str = "GET") -> Reply:
    """Ask all of them, and again what may be replayed now; return what they all say."""
    replies = [get(server, target, *lines, method=method) for server in servers for _ in range(2)]
    answers = {
        shown(reply, server.port)
        for server, reply in zip(servers * 2, sorted_by(servers, replies), strict=True)
    }
    assert len(answers) == 1, (target, lines, answers)
    return replies[0]


def sorted_by(servers: list[Server], replies: list[Reply]) -> list[Reply]:
    """The replies in the order of ``servers * 2``."""
    return [*replies[::2], *replies[1::2]]


def compressed(servers: list[Server]) -> None:
    """Have what compressors do in the background be done on all of them, for all codings."""
    for target in PATHS:
        for coding in ("gzip", "br", "zstd"):
            for server in servers:
                get(server, target, f"Accept-Encoding: {coding}")
    for server in servers:
        wait_until(
            lambda server=server: b"\nfastws_compression_pending 0\n" in get(server, "/-/metrics").body
        )


def test_every_field_of_every_answer_is_the_same(nodes: Callable[..., list[Server]]) -> None:
    servers = nodes()
    compressed(servers)
    seen = set()
    for target in PATHS:
        for coding in CODINGS:
            reply = agree(servers, target, *([f"Accept-Encoding: {coding}"] if coding else []))
            seen.add(reply.status)
        agree(servers, target, "Accept-Encoding: gzip", method="HEAD")
        for value in RANGES:
            seen.add(agree(servers, target, f"Range: {value}").status)
    assert {200, 206, 301, 302, 400, 404, 416} <= seen


def test_each_revalidates_what_another_has_sent(nodes: Callable[..., list[Server]]) -> None:
    servers = nodes()
    compressed(servers)
    for target in (
        "/page.html",
        "/style.css",
        "/data.bin",
        "/large.bin",
        "/beside.js",
        "/only.txt",
        "/directory/",
    ):
        for coding in CODINGS[:5]:
            ask = [f"Accept-Encoding: {coding}"] if coding else []
            first = get(servers[0], target, *ask)
            for field, name in (("If-None-Match", "ETag"), ("If-Modified-Since", "Last-Modified")):
                for value in first.all(name):
                    again = agree(servers, target, *ask, f"{field}: {value}")
                    assert again.status == 304, (target, coding, field)
            for value in first.all("ETag"):
                part = agree(servers, target, *ask, "Range: bytes=0-1", f"If-Range: {value}")
                assert part.status in (206, 200)


def test_tags_of_small_files_are_the_same_though_their_times_are_not(
    nodes: Callable[..., list[Server]], tmp_path: Path
) -> None:
    os.utime(tmp_path / "two" / "root" / "page.html", (BUILT_S + 100, BUILT_S + 100))
    servers = nodes()
    replies = [get(server, "/page.html") for server in servers]
    assert len({reply["ETag"] for reply in replies}) == 1
    assert replies[0]["Last-Modified"] == replies[2]["Last-Modified"] != replies[1]["Last-Modified"]


def test_large_files_have_a_tag_of_each_machine_unless_times_are_to_be_trusted(
    nodes: Callable[..., list[Server]],
) -> None:
    servers = nodes("# the default of LargeFileETag")
    assert len({get(server, "/large.bin")["ETag"] for server in servers}) == 1
    for server in servers:
        config = server.config.with_overrides(large_file_etag="state")
        server.reload(lambda config=config: config)
    assert len({get(server, "/large.bin")["ETag"] for server in servers}) == 3
