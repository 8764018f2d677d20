"""Clients that are slow or stand still get all of their answers, and have all of their requests taken.

Over TCP with the segments of an Ethernet, for what a client acknowledges moves in steps that depend on them, and
over a Unix-domain socket. A network of its own needs the right to make one; the loopback of this one has segments
of 64 KiB, which nobody else has.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import socket
import struct
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple, cast

import pytest
from rawhttp import Client, put, request, wait_until
from tlsclient import SECURED, TLSSocket

from fastws import Server

Serve = Callable[..., Server]
Link = Callable[[Server], socket.socket]
MTU = 1500
KB, MIB = 1000, 1 << 20
SIZE = 24 * MIB
"""Of the file: more than the buffers of both sides take."""

CLONE_NEWNET, SIOCGIFFLAGS, SIOCSIFFLAGS, SIOCSIFMTU, IFF_UP = 0x40000000, 0x8913, 0x8914, 0x8922, 1


def enter_network() -> None:
    """Put the calling thread, and those that it starts, into a network of its own, with a loopback of ``MTU``.

    Raises ``OSError`` without the right to do so.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "unshare failed")
    import fcntl

    with socket.socket() as sock:
        fcntl.ioctl(sock, SIOCSIFMTU, struct.pack("16si20x", b"lo", MTU))
        fcntl.ioctl(sock, SIOCSIFFLAGS, struct.pack("16sh22x", b"lo", IFF_UP))


@pytest.fixture
def inside() -> Iterator[ThreadPoolExecutor]:
    """A thread in a network of its own. What it opens, and the threads it starts, are there too."""
    if not sys.platform.startswith("linux"):
        pytest.skip("only Linux has networks of a thread")
    with ThreadPoolExecutor(1) as thread:
        try:
            thread.submit(enter_network).result(20)
        except OSError as error:
            pytest.skip(f"no network of its own may be made here: {error}")
        yield thread


@pytest.fixture(params=["tcp", "unix"])
def start(
    request: pytest.FixtureRequest, serve: Serve, root: Path, tmp_path: Path
) -> Callable[..., tuple[Server, Link]]:
    """Return a function that starts a server, and returns it with a function that connects to it."""
    if request.param == "unix":

        def over_unix(*lines: str) -> tuple[Server, Link]:
            def connect(_: Server) -> socket.socket:
                sock = socket.socket(socket.AF_UNIX)
                sock.settimeout(60)
                sock.connect(f"{tmp_path}/s")
                return sock

            return serve(*lines, f'Listen "unix:{tmp_path}/s"'), connect

        return over_unix
    inside: ThreadPoolExecutor = request.getfixturevalue("inside")

    def over_tcp(*lines: str) -> tuple[Server, Link]:
        def connect(server: Server) -> socket.socket:
            sock = inside.submit(socket.create_connection, ("127.0.0.1", server.port), 60).result(60)
            context = SECURED.get(server.port)
            return sock if context is None else cast(socket.socket, TLSSocket(sock, context))

        return inside.submit(serve, *lines).result(60), connect

    return over_tcp


@pytest.fixture
def root(tmp_path: Path) -> Path:
    put(tmp_path / "root", {"index.html": b"<pre></pre>", "big.bin": b""})
    os.truncate(tmp_path / "root" / "big.bin", SIZE)
    return tmp_path / "root"


class Reader(NamedTuple):
    """Reads ``ahead`` bytes at once, and then so many bytes a second for a while, no longer than ``most_s``."""

    rate: int
    ahead: int = 0
    most_s: float = 3600

    def read(self, sock: socket.socket, slow_s: float) -> int:
        """Read the answer to a request just sent, fast after ``slow_s`` seconds; return the bytes of its body."""
        client = Client.__new__(Client)
        client.sock, client.buffer = sock, b""
        client.send(request("/big.bin"))
        _, _, fields = client.head()
        length = int(dict(fields)["Content-Length"])
        came = len(client.read(max(self.ahead, len(client.buffer))))
        began, taken = time.monotonic(), 0
        while (spent := time.monotonic() - began) < min(slow_s, self.most_s) and came < length:
            due = int(spent * self.rate) - taken
            if due > 0:
                taken += (got := len(sock.recv(min(due, length - came))))
                came += got
            time.sleep(0.05)  # the pace of the reader
        return came + len(client.read(length - came))


READERS = {
    "2 KB/s": Reader(2 * KB),
    "5 KB/s": Reader(5 * KB),
    "20 KB/s": Reader(20 * KB),
    "a player": Reader(20 * KB, ahead=8 * MIB),
    "nothing for a minute": Reader(0, most_s=60),
    "ahead, and then nothing for a minute": Reader(0, ahead=8 * MIB, most_s=60),
}


def read_all(server: Server, connect: Link, slow_s: float) -> dict[str, int | Exception]:
    """Have all readers read at the same time; return what each got."""
    with ThreadPoolExecutor(len(READERS)) as threads, contextlib.ExitStack() as opened:
        jobs: dict[str, Future[int]] = {}
        for name, reader in READERS.items():
            sock = opened.enter_context(connect(server))
            jobs[name] = threads.submit(reader.read, sock, slow_s)
        return {name: job.exception() or job.result() for name, job in jobs.items()}  # type: ignore[misc]


Start = Callable[..., tuple[Server, Link]]


def test_slow_readers_and_those_that_stop_for_a_while_get_everything(start: Start) -> None:
    """RequestTimeout, which is short here, says nothing of them."""
    server, connect = start("RequestTimeout 1", "WorkerThreads 1")
    assert read_all(server, connect, slow_s=3) == dict.fromkeys(READERS, SIZE)


@pytest.mark.long
@pytest.mark.timeout(900)
def test_slow_readers_get_everything_with_the_values_as_they_come(start: Start) -> None:
    """And one that reads a byte a second is dropped, later than any that pauses."""
    server, connect = start("ErrorLog errors.txt")
    log = Path(server.config.error_log)

    def drip(sock: socket.socket) -> float:
        began = time.monotonic()
        while "reads too slowly" not in log.read_text() and time.monotonic() - began < 600:
            sock.recv(1)
            time.sleep(1)
        return time.monotonic() - began

    with ThreadPoolExecutor(1) as thread, contextlib.closing(connect(server)) as dripping:
        dripping.sendall(request("/big.bin"))
        dropped_after_s = thread.submit(drip, dripping)
        assert read_all(server, connect, slow_s=400) == dict.fromkeys(READERS, SIZE)
        assert 300 < dropped_after_s.result(600) < 500
    assert log.read_text().count("reads too slowly") == 1


def test_body_that_stops_for_a_while_is_taken(serve: Serve, root: Path) -> None:
    server = serve("RequestTimeout 1")
    form = "Content-Type: application/x-www-form-urlencoded"
    with Client(server) as client:
        client.send(request("/", form, "Content-Length: 40", method="POST"))
        time.sleep(1.2)  # the pause is what is tested
        client.send(b"a=" + b"x" * 18)
        time.sleep(1.2)
        client.send(b"x" * 20)
        assert client.reply().status == 200


def test_body_of_which_nothing_comes_is_408_after_a_quarter_of_stall_time(serve: Serve, root: Path) -> None:
    server = serve("StallTime 2")
    with Client(server) as client:
        client.send(request("/", "Content-Length: 40", method="POST"))
        assert client.reply().status == 408


def test_reader_that_stands_still_for_longer_than_stall_time_is_dropped(serve: Serve, root: Path) -> None:
    server = serve("StallTime 0.5", "ErrorLog errors.txt")
    with Client(server, receive_buffer=4096) as client:
        client.send(request("/big.bin"))
        client.head()
        wait_until(lambda: server.connection_count() == 0, "its end")
    assert "reads too slowly" in Path(server.config.error_log).read_text()


def test_time_is_given_for_bytes_that_are_read(serve: Serve, root: Path) -> None:
    """A reader well above MinRate goes on for many times StallTime."""
    server = serve("StallTime 0.5", "MinRate 10K", "WorkerThreads 1")
    with Client(server, receive_buffer=65536) as client:
        client.send(request("/big.bin"))
        client.head()
        began, left = time.monotonic(), SIZE
        while time.monotonic() - began < 2.5:
            left -= len(client.read(32768))
            time.sleep(0.02)  # the pace of the reader
        assert len(client.read(left)) == left
