"""A long mixture of everything that clients do; memory and descriptors must stay flat."""

from __future__ import annotations

import gzip
import os
import random
import socket
import statistics
import struct
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from launch import Process, running
from rawhttp import Client, Reply, put, request, wait_until

pytestmark = pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="looks into /proc")

PURE_ONLY = os.environ.get("FASTWS_NO_EXTENSIONS") == "1"
MIB = 1 << 20
TEXT = b"a line of text that compresses well\n" * 200
FORM = "Content-Type: application/x-www-form-urlencoded"
CLIENTS = 4
WARM_UP_VISITS = 4_000
"""Until then the server's memory grows, for what it remembers of paths and files is not much yet."""


@pytest.fixture(params=["compiled", "pure"])
def process_side(request: pytest.FixtureRequest) -> str:
    if request.param == "compiled" and PURE_ONLY:
        pytest.skip("FASTWS_NO_EXTENSIONS=1: the compiled side was left out on purpose")
    return str(request.param)


class Visitor:
    """One client after another, each doing something of ``ACTIONS``."""

    def __init__(self, port: int, root: Path, seed: int) -> None:
        self.port = port
        self.root = root
        self.name = f"own{seed}.txt"
        self.chance = random.Random(seed)
        self.count = 0

    def visit(self, end: float) -> int:
        """Go on until ``end``; return how many actions were done."""
        while time.monotonic() < end:
            self.chance.choice(ACTIONS)(self)
            self.count += 1
        return self.count

    def fetch(self, target: str, *lines: str, status: int = 200, body: bytes | None = None) -> Reply:
        with Client(self.port) as client:
            reply = client.get(target, *lines)
        assert reply.status == status, (target, reply)
        assert body is None or reply.body == body
        return reply

    def hot(self) -> None:
        with Client(self.port) as client:
            for _ in range(self.chance.randint(1, 50)):
                assert client.get("/a.txt").body == TEXT

    def pipelined(self) -> None:
        count = self.chance.randint(2, 60)
        with Client(self.port) as client:
            client.send(request("/a.txt") * count + request("/none"))
            for _ in range(count):
                assert client.reply().body == TEXT
            assert client.reply().status == 404

    def many_names(self) -> None:
        name = f"f{self.chance.randrange(500)}"
        self.fetch(f"/many/{name}.txt", body=name.encode() * 99)

    def conditional(self) -> None:
        etag = self.fetch("/a.txt")["ETag"]
        self.fetch("/a.txt", f"If-None-Match: {etag}", status=304)

    def ranged(self) -> None:
        first = self.chance.randrange(1000)
        self.fetch("/big.bin", f"Range: bytes={first}-{first + 99}", status=206, body=b"b" * 100)

    def compressed(self) -> None:
        reply = self.fetch("/a.txt", "Accept-Encoding: gzip")
        data = gzip.decompress(reply.body) if reply.all("Content-Encoding") else reply.body
        assert data == TEXT

    def listed(self) -> None:
        assert b"f1.txt" in self.fetch("/many/").body

    def submitted(self) -> None:
        body = b"name=" + b"x" * self.chance.randrange(50_000)
        with Client(self.port) as client:
            assert client.get("/", FORM, method="POST", body=body).status == 200

    def refused(self) -> None:
        with Client(self.port) as client:
            client.send(
                self.chance.choice([b"\0\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n", b"G" * 9000, b" / \r\n\r\n"])
            )
            assert client.reply().status in (400, 414)
            assert client.is_over()

    def wandering(self) -> None:
        self.fetch(f"/none/{self.chance.random()}?{self.chance.random()}", status=404)

    def agent(self) -> None:
        self.fetch("/a.txt", f"Accept-Encoding: x{self.chance.random()}, gzip;q={self.chance.random():.3f}")

    def downloaded(self) -> None:
        self.fetch("/big.bin", body=b"b" * (3 * MIB))

    def given_up(self) -> None:
        with Client(self.port, receive_buffer=4096) as client:
            client.send(request("/big.bin"))
            client.read(self.chance.randrange(1, 100_000))

    def reset(self) -> None:
        client = Client(self.port)
        data = request("/big.bin") * 3
        client.send(data[: self.chance.randrange(len(data))])
        client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.sock.close()

    def slow(self) -> None:
        with Client(self.port) as client:
            for byte in request("/a.txt"):
                client.send(bytes((byte,)))
            assert client.reply().body == TEXT

    def changed(self) -> None:
        text = str(self.chance.random()).encode()
        (self.root / f".{self.name}").write_bytes(text)
        os.replace(self.root / f".{self.name}", self.root / self.name)
        self.fetch(f"/{self.name}", body=text)


ACTIONS: list[Callable[[Visitor], None]] = [
    action
    for name, action in vars(Visitor).items()
    if name not in ("visit", "fetch") and not name.startswith("_")
]


class Sample:
    """What the server holds at one moment."""

    def __init__(self, server: Process) -> None:
        directory = Path(f"/proc/{server.popen.pid}")
        self.resident = int((directory / "statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        self.descriptors = len(os.listdir(directory / "fd"))
        self.sockets = sum(is_socket(directory / "fd" / name) for name in os.listdir(directory / "fd"))
        self.threads = len(os.listdir(directory / "task"))


def is_socket(descriptor: Path) -> bool:
    """Whether a process's descriptor, named by its path in /proc, is one of a socket."""
    try:
        return os.readlink(descriptor).startswith("socket:")
    except FileNotFoundError:
        return False  # closed meanwhile


def soak(directory: Path, side: str, seconds: float) -> None:
    """Let ``CLIENTS`` visitors go on for ``seconds``, warm as the server is then; compare."""
    files = {f"many/f{i}.txt": f"f{i}".encode() * 99 for i in range(500)}
    root = put(
        directory / "root", files | {"a.txt": TEXT, "index.html": b"<pre></pre>", "big.bin": b"b" * 3 * MIB}
    )
    (directory / "ws.conf").write_text(
        'DocumentRoot "root"\nListenPort 8080\nContentType .txt text/plain\nContentType .html text/html\n'
        "ContentType .bin application/octet-stream\nDirectoryListing on\nCacheSize 1M\nLogLevel warning\n"
    )
    with running(directory, side=side) as server, ThreadPoolExecutor(CLIENTS) as pool:
        visitors = [Visitor(server.port, root, seed) for seed in range(CLIENTS)]

        def visit(seconds: float) -> list[Sample]:
            end = time.monotonic() + seconds
            done = [pool.submit(visitor.visit, end) for visitor in visitors]
            samples, tick = [], threading.Event()
            while not tick.wait(seconds / 50) and time.monotonic() < end:
                samples.append(Sample(server))
            for each in done:
                each.result()
            return samples

        fresh = Sample(server)
        while sum(visitor.count for visitor in visitors) < WARM_UP_VISITS:
            visit(seconds / 4)
        quiet = wait_for_quiet(server, fresh.sockets)
        samples = visit(seconds)
        after = wait_for_quiet(server, fresh.sockets)
    third = len(samples) // 3
    first, last = (
        statistics.median(s.resident for s in part) for part in (samples[:third], samples[-third:])
    )
    print(
        f"{side}: {sum(visitor.count for visitor in visitors)} visits in {seconds:g} s; resident"
        f" {first / MIB:.1f} MiB in the first third, {last / MIB:.1f} MiB in the last; descriptors at rest"
        f" {quiet.descriptors} before, {after.descriptors} after; at most {max(s.descriptors for s in samples)}"
    )
    assert after.descriptors == quiet.descriptors
    assert after.threads == quiet.threads
    assert last - first < 0.05 * first + 2 * MIB  # CPython takes memory in arenas of one MiB
    log = (directory / "log_webserver_error.txt").read_text()
    assert "Traceback" not in log
    assert " error " not in log


def wait_for_quiet(server: Process, sockets: int) -> Sample:
    """Wait until no client is connected, and look then; ``sockets`` is what the server has without any."""
    connections = Path(f"/proc/{server.popen.pid}/net/tcp")
    port = f":{server.port:04X} "

    def is_quiet() -> bool:
        # the local address is the second column, the state the fourth: 01 established, 08 close-wait
        lines = [line.split() for line in connections.read_text().splitlines()]
        if any(f"{line[1]} ".endswith(port) and line[3] in ("01", "08", "04", "05") for line in lines):
            return False
        return Sample(server).sockets == sockets

    wait_until(is_quiet, "no client connected")
    return Sample(server)


@pytest.mark.timeout(180)
def test_ten_seconds_of_everything_leave_memory_and_descriptors_flat(
    tmp_path: Path, process_side: str
) -> None:
    soak(tmp_path, process_side, 10)


@pytest.mark.long
@pytest.mark.timeout(1200)
def test_ten_minutes_of_everything_leave_memory_and_descriptors_flat(
    tmp_path: Path, process_side: str
) -> None:
    soak(tmp_path, process_side, 600)
