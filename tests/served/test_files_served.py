"""Files on their way out: by sendfile, of any size, while they change, and never from outside the root."""

from __future__ import annotations

import itertools
import os
import re
import resource
import socket
import stat
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from rawhttp import (
    TIMEOUT_S,
    Client,
    ProtocolError,
    be_at_rest,
    get,
    open_descriptors,
    put,
    request,
    settle,
    thrice,
    wait_until,
)

from fastws import Server, backend, portable
from fastws.files.representation import INLINE_BYTES
from fastws.transport import plain

Serve = Callable[..., Server]
MIB = 1 << 20


@pytest.fixture
def root(tmp_path: Path) -> Path:
    put(tmp_path / "outside", {"secret.txt": b"SECRET", "sub/secret.txt": b"SECRET"})
    put(tmp_path / "root-other", {"secret.txt": b"SECRET"})
    return put(tmp_path / "root", {"a.txt": b"inside", "sub/b.txt": b"deeper", "index.html": b"index"})


@pytest.fixture
def sent_by_sendfile(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The counts that ``os.sendfile`` returned."""
    counts: list[int] = []
    original = os.sendfile

    def traced(out: int, file: int, offset: int, count: int) -> int:
        sent = original(out, file, offset, count)
        counts.append(sent)
        return sent

    monkeypatch.setattr(os, "sendfile", traced)
    return counts


# sendfile


@pytest.mark.parametrize("lines", [["CacheMaxFile 1M"], ["CacheMaxFile 0"], ["CacheSize 0"]])
def test_large_files_go_by_sendfile(
    serve: Serve,
    side: backend.Backend,
    root: Path,
    sent_by_sendfile: list[int],
    lines: list[str],
    request: pytest.FixtureRequest,
) -> None:
    content = os.urandom(MIB + 1)
    put(root, {"big.bin": content})
    server = serve(*lines)
    assert thrice(server, "/big.bin").body == content
    check_sent(server, sent_by_sendfile, 3 * len(content), request)


def test_files_beyond_a_piece_go_by_sendfile_where_nothing_is_replayed(
    serve: Serve, root: Path, sent_by_sendfile: list[int], request: pytest.FixtureRequest
) -> None:
    put(root, {"piece.bin": b"p" * INLINE_BYTES, "more.bin": b"m" * (INLINE_BYTES + 1)})
    server = serve("CacheSize 0")
    assert thrice(server, "/piece.bin").body == b"p" * INLINE_BYTES
    assert thrice(server, "/more.bin").body == b"m" * (INLINE_BYTES + 1)
    check_sent(server, sent_by_sendfile, 3 * (INLINE_BYTES + 1), request)


def test_file_that_is_cut_off_before_a_piece_of_it_is_read_ends_the_connection(
    serve: Serve, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(root, {"piece.bin": b"piece" * 100})
    server = serve("WorkerThreads 1", cache_max_file_bytes=100)
    original = portable.read_at

    def cut_off(fd: int, size: int, offset: int) -> bytes:
        os.truncate(root / "piece.bin", 250)
        return original(fd, size, offset)

    with Client(server) as client:
        monkeypatch.setattr(portable, "read_at", cut_off)
        client.send(request("/piece.bin", "Range: bytes=240-259"))
        status, _, fields = client.head()
        assert (status, dict(fields)["Content-Length"]) == (206, "20")
        with pytest.raises((ProtocolError, ConnectionError)):
            client.read(20)


def test_ranges_of_large_files_go_by_sendfile(
    serve: Serve, root: Path, sent_by_sendfile: list[int], request: pytest.FixtureRequest
) -> None:
    put(root, {"big.bin": bytes(range(256)) * 8192})
    server = serve()
    for _ in range(2):
        reply = get(server, "/big.bin", "Range: bytes=1000-1000999,-10")
        assert reply.status == 206
        assert len(reply.body) > 1_000_010
        assert bytes(range(232, 256)) in reply.body
    check_sent(server, sent_by_sendfile, 2 * 1_000_000, request)  # the small one is read


def check_sent(server: Server, counts: list[int], expected: int, request: pytest.FixtureRequest) -> None:
    """All of it went by sendfile, from Python or from the reactor, and nothing where there is none; the client may
    have it before it is counted."""

    def sent() -> int:
        return sum(counts) + sum(worker.reactor.counters().file_bytes for worker in server._pool.workers)

    if {"bare", "windows"} & {*re.split("[^a-z]", request.node.name)}:
        expected = 0
    wait_until(lambda: sent() >= expected)
    assert sent() == expected


# Size


@pytest.mark.timeout(900)
def test_file_of_4_gib_arrives_whole_in_constant_memory(serve: Serve, root: Path) -> None:
    size = (4 << 30) + 12345
    with open(root / "sparse.bin", "wb") as file:
        file.truncate(size)
        file.seek(size - 4)
        file.write(b"last")
    server = serve()
    assert get(server, "/sparse.bin", "Range: bytes=-5").body == b"\0last"
    assert get(server, "/sparse.bin", method="HEAD")["Content-Length"] == str(size)
    # Where Python reads all that it sends, a part tells as much: it is large, and crosses the 4 GiB.
    begin = (4 << 30) - 256 * MIB if plain._send_file is plain._read_and_send else 0
    lines = [f"Range: bytes={begin}-"] if begin else []
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with Client(server) as client:
        client.send(request("/sparse.bin", *lines))
        assert client.head()[0] == (206 if begin else 200)
        left = size - begin - len(client.buffer)
        waste = bytearray(8 * MIB)
        while left > 4:  # MSG_TRUNC: the kernel drops the bytes instead of copying them here
            dropped = client.sock.recv_into(waste, min(left - 4, len(waste)), socket.MSG_TRUNC)
            assert dropped
            left -= dropped
        client.buffer = b""
        assert client.read(left) == b"last"
        assert client.is_open()
    grown_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown_kib < 64 * 1024


def test_download_resumes_whenever_the_reader_does(serve: Serve, root: Path) -> None:
    content = os.urandom(20 * MIB)
    put(root, {"big.bin": content, "one.bin": content[:MIB]})
    with Client(serve(), receive_buffer=16384) as client:
        for target, expected in (
            ("/big.bin", content),
            ("/one.bin", content[:MIB]),
            ("/one.bin", content[:MIB]),
        ):
            assert client.get(target).body == expected


# Change


@pytest.mark.parametrize("left", [0, 3 * MIB])
def test_file_that_shrinks_while_it_is_sent_ends_the_connection(
    serve: Serve, root: Path, tmp_path: Path, left: int
) -> None:
    put(root, {"big.bin": b"x" * (64 * MIB)})
    server = serve("ErrorLog errors.txt")
    with Client(server, receive_buffer=16384) as client:
        client.send(request("/big.bin"))
        _, _, fields = client.head()
        assert ("Content-Length", str(64 * MIB)) in fields
        os.truncate(root / "big.bin", left)
        received = len(client.buffer)
        while piece := client.sock.recv(MIB):
            received += len(piece)
        assert received < 64 * MIB
    assert "shrank" in (tmp_path / "errors.txt").read_text()
    assert len(get(server, "/big.bin").body) == left


def test_file_that_grows_while_it_is_sent_keeps_its_announced_length(serve: Serve, root: Path) -> None:
    put(root, {"big.bin": b"x" * (16 * MIB)})
    with Client(serve(), receive_buffer=16384) as client:
        client.send(request("/big.bin"))
        client.head()
        with open(root / "big.bin", "ab") as file:
            file.write(b"y" * MIB)
        assert client.read(16 * MIB) == b"x" * (16 * MIB)
        assert len(client.get("/big.bin").body) == 17 * MIB


def test_replaced_file_is_sent_to_its_end_as_it_was(serve: Serve, root: Path) -> None:
    put(root, {"big.bin": b"x" * (16 * MIB), "next.bin": b"y" * 100})
    with Client(serve(), receive_buffer=16384) as client:
        client.send(request("/big.bin"))
        client.head()
        os.replace(root / "next.bin", root / "big.bin")
        assert client.read(16 * MIB) == b"x" * (16 * MIB)
        assert client.get("/big.bin").body == b"y" * 100


# What is no file


def test_fifo_socket_and_device_are_404_without_blocking(serve: Serve, root: Path) -> None:
    os.mkfifo(root / "fifo")
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(root / "socket"))
    names = ["fifo", "socket"]
    if os.geteuid() == 0:
        os.mknod(root / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
        os.mknod(root / "zero", stat.S_IFCHR | 0o666, os.makedev(1, 5))
        names += ["null", "zero"]
    os.symlink("/dev/zero", root / "link")
    server = serve("WorkerThreads 1")
    for name in [*names, "link"]:
        assert thrice(server, f"/{name}").status == 404
        assert thrice(server, f"/{name}/").status == 404
    listener.close()


# Symbolic links


def test_links_that_stay_inside_are_served(serve: Serve, root: Path) -> None:
    (root / "relative").symlink_to("a.txt")
    (root / "absolute").symlink_to(root / "a.txt")
    (root / "up").symlink_to("sub/../a.txt")
    (root / "out-and-in").symlink_to("../root/a.txt")
    (root / "chain").symlink_to("relative")
    (root / "dir").symlink_to("sub")
    (root / "absolute-dir").symlink_to(root / "sub")
    (root / "self").symlink_to(".")
    server = serve()
    for target in (
        "/relative",
        "/absolute",
        "/up",
        "/out-and-in",
        "/chain",
        "/self/a.txt",
        "/self/self/a.txt",
    ):
        assert thrice(server, target).body == b"inside"
    for target in ("/dir/b.txt", "/absolute-dir/b.txt", "/self/dir/b.txt"):
        assert thrice(server, target).body == b"deeper"
    assert thrice(server, "/self/").body == b"index"
    assert thrice(server, "/self")["Location"] == "/self/"


def test_links_that_leave_dangle_or_loop_are_404(serve: Serve, root: Path, tmp_path: Path) -> None:
    (root / "absolute").symlink_to(tmp_path / "outside" / "secret.txt")
    (root / "relative").symlink_to("../outside/secret.txt")
    (root / "dir").symlink_to(tmp_path / "outside")
    (root / "parent").symlink_to("..")
    (root / "sibling").symlink_to(tmp_path / "root-other")  # its name begins with the root's
    (root / "chain").symlink_to("relative")
    (root / "inside-dir").mkdir()
    (root / "inside-dir" / "index.html").symlink_to(tmp_path / "outside" / "secret.txt")
    (root / "dangling").symlink_to("nothing")
    (root / "loop").symlink_to("loop")
    (root / "slash").symlink_to("/")
    server = serve()
    for target in (
        "/absolute", "/relative", "/dir/secret.txt", "/dir/sub/secret.txt", "/dir", "/dir/", "/parent",
        "/parent/outside/secret.txt", "/sibling/secret.txt", "/chain", "/inside-dir/", "/dangling", "/loop",
        "/slash/etc/passwd", "/slash", "/parent/root/../outside/secret.txt",
    ):  # fmt: skip
        reply = thrice(server, target)
        assert reply.status == 404, target
        assert b"SECRET" not in reply.body


def test_document_root_that_is_a_link_may_be_swapped(serve: Serve, root: Path, tmp_path: Path) -> None:
    for version in ("one", "two"):
        put(tmp_path / version, {"a.txt": version.encode(), f"{version}.txt": b"own"})
        (tmp_path / version / "link").symlink_to(tmp_path / version / "a.txt")
    current = tmp_path / "current"
    current.symlink_to("one")
    server = serve(root=current)
    with Client(server) as client:
        for version in ("one", "two", "one", "two"):
            (tmp_path / "next").symlink_to(version)
            os.replace(tmp_path / "next", current)
            for _ in range(3):
                assert client.get("/a.txt").body == version.encode()
                assert client.get("/link").body == version.encode()
            other = "two" if version == "one" else "one"
            assert client.get(f"/{version}.txt").status == 200
            assert client.get(f"/{other}.txt").status == 404


def test_link_swapped_while_it_is_asked_for_never_shows_the_outside(
    serve: Serve, root: Path, tmp_path: Path
) -> None:
    swap_while_asking(serve(), root / "link", [root / "a.txt", tmp_path / "outside" / "secret.txt"], "/link")


def test_directory_swapped_while_it_is_asked_for_never_shows_the_outside(
    serve: Serve, root: Path, tmp_path: Path
) -> None:
    put(root, {"sub/secret.txt": b"inside"})
    swap_while_asking(serve(), root / "d", [root / "sub", tmp_path / "outside"], "/d/secret.txt")


@pytest.mark.long
@pytest.mark.timeout(1200)
def test_link_swapped_100_000_times_never_shows_the_outside(serve: Serve, root: Path, tmp_path: Path) -> None:
    targets = [root / "a.txt", tmp_path / "outside" / "secret.txt"]
    swap_while_asking(serve(), root / "link", targets, "/link", swaps=100_000)


def swap_while_asking(
    server: Server, link: Path, targets: list[Path], target: str, swaps: int = 1000
) -> None:
    """Point ``link`` to each of ``targets`` in turn while it is asked for; outside of the root is 404."""
    link.symlink_to(targets[0])
    seen: set[int] = set()

    def swap() -> None:
        deadline = time.monotonic() + TIMEOUT_S
        numbers = itertools.count()
        while (number := next(numbers)) < swaps or (200 not in seen and time.monotonic() < deadline):
            fresh = link.with_name("fresh")
            fresh.symlink_to(targets[number % 2])
            os.replace(fresh, link)

    swapper = threading.Thread(target=swap)
    with Client(server) as client:
        swapper.start()
        while swapper.is_alive():
            client.send(request(target) * 10)
            for _ in range(10):
                reply = client.reply()
                seen.add(reply.status)
                assert b"SECRET" not in reply.body
                assert reply.status != 200 or reply.body == b"inside"
        swapper.join()
    assert seen <= {200, 404}
    assert 200 in seen


# Confinement


@pytest.mark.parametrize(
    "path",
    [
        "/../outside/secret.txt",
        "/sub/../../outside/secret.txt",
        "/%2e%2e/outside/secret.txt",
        "/%2e%2e%2foutside%2fsecret.txt",
        "/..%2foutside/secret.txt",
        "/%252e%252e/outside/secret.txt",
        "/%c0%ae%c0%ae/outside/secret.txt",
        "/%e0%80%ae%e0%80%ae/outside/secret.txt",
        "/..%c0%afoutside/secret.txt",
        "/..%5coutside%5csecret.txt",
        "/..\\outside\\secret.txt",
        "/....//outside/secret.txt",
        "/.../outside/secret.txt",
        "/..;/outside/secret.txt",
        "/..%00/outside/secret.txt",
        "/..%09/outside/secret.txt",
        "/.%2e/outside/secret.txt",
        "/sub/..%2f..%2foutside/secret.txt",
        "//../outside/secret.txt",
        "/./../outside/secret.txt",
        "http://x/../outside/secret.txt",
        "/con",
        "/nul.txt",
        "/a.txt.",
        "/a.txt::$DATA",
        "/file:///etc/passwd",
    ],
)
def test_no_spelling_leads_outside(serve: Serve, root: Path, path: str) -> None:
    with Client(serve()) as client:
        for _ in range(2):
            reply = client.get(path)
            assert reply.status in (400, 404)
            assert b"SECRET" not in reply.body


def test_own_logs_and_configuration_are_never_served(serve: Serve, root: Path, tmp_path: Path) -> None:
    put(tmp_path, {"page.html": b"page"})
    server = serve("AccessLog access.txt", "ErrorLog errors.txt", root=tmp_path)
    wait_until(lambda: (tmp_path / "errors.txt").stat().st_size)
    os.link(tmp_path / "ws.conf", tmp_path / "hard.txt")
    (tmp_path / "soft.txt").symlink_to("access.txt")
    settle(tmp_path / "ws.conf", tmp_path / "errors.txt")
    for name in (
        "access.txt",
        "errors.txt",
        "ws.conf",
        "hard.txt",
        "soft.txt",
        "root/../ws.conf",
        "./ws.conf",
    ):
        assert thrice(server, f"/{name}").status == 404, name
    assert thrice(server, "/page.html").body == b"page"


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="descriptors are counted in /proc")
def test_no_descriptor_is_left_open(serve: Serve, root: Path) -> None:
    put(root, {"big.bin": b"x" * (8 * MIB)})
    server = serve()
    tag = get(server, "/big.bin")["ETag"]
    asked = [
        request("/a.txt"), request("/missing"), request("/sub"), request("/sub/"), request("/big.bin"),
        request("/big.bin", method="HEAD"), request("/big.bin", f"If-None-Match: {tag}"),
        request("/big.bin", 'If-Match: "x"'), request("/big.bin", "Range: bytes=0-0,9-9"),
        request("/big.bin", "Range: bytes=99999999-"), request("/", method="POST"),
        request("/a.txt", method="POST"),
        request("/a.txt/x"), request("/x", method="PUT"), b"malformed\r\n\r\n",
    ]  # fmt: skip
    be_at_rest(server)
    before = open_descriptors()
    for data in asked * 3:
        with Client(server) as client:
            client.send(data)
            client.reply("HEAD" if data.startswith(b"HEAD") else "GET")
        with Client(server, receive_buffer=4096) as client:
            client.send(data)  # and leaves
    be_at_rest(server)
    assert open_descriptors() == before


def test_many_downloads_at_once_share_the_threads(serve: Serve, root: Path) -> None:
    content = os.urandom(3 * MIB)
    put(root, {"big.bin": content})
    server = serve("WorkerThreads 2")
    clients = [Client(server, receive_buffer=16384) for _ in range(20)]
    for client in clients:
        client.send(request("/big.bin"))
    for client in reversed(clients):
        assert client.reply().body == content
        client.sock.close()


@pytest.mark.posix  # Windows does not let a file be replaced while it is open
def test_etag_of_a_file_being_sent_is_that_of_its_bytes(serve: Serve, root: Path) -> None:
    """Equal tags mean equal bytes, whoever writes meanwhile."""
    server = serve()
    seen: dict[str, bytes] = {}
    stop = threading.Event()

    def write() -> None:
        number = 0
        while not stop.is_set():
            number += 1
            (root / "fresh").write_bytes(b"%06d" % (number % 7) * 100)
            os.replace(root / "fresh", root / "a.txt")

    writer = threading.Thread(target=write)
    writer.start()
    try:
        with Client(server) as client:
            for _ in range(300):
                reply = client.get("/a.txt")
                assert seen.setdefault(reply["ETag"], reply.body) == reply.body
                assert re.fullmatch(rb"(\d{6})\1{99}|inside", reply.body)
    finally:
        stop.set()
        writer.join()
