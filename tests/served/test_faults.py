"""What breaks around the server: clients that vanish or swarm, full disks, lost file systems, clocks, signals."""

from __future__ import annotations

import errno
import os
import random
import re
import select
import shutil
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from launch import Process, running
from rawhttp import (
    Client,
    ProtocolError,
    be_at_rest,
    get,
    loads_of,
    open_descriptors,
    put,
    request,
    thrice,
    wait_until,
)

from fastws import Server, portable
from fastws.engine.worker import Worker
from fastws.record.logfile import LogFile
from fastws.seam import Accepted

Serve = Callable[..., Server]
PURE_ONLY = os.environ.get("FASTWS_NO_EXTENSIONS") == "1"
MIB = 1 << 20
FAKETIME = "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1"
CONFIGURATION = """\
DocumentRoot "root"
ListenPort 8080
DefaultType application/octet-stream
AccessLog off
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    files = {
        "a.txt": b"a file",
        "index.html": b"<pre></pre>",
        "m.bin": b"m" * MIB,
        "big.bin": b"b" * (8 * MIB),
    }
    return put(tmp_path / "root", files)


@pytest.fixture(params=["compiled", "pure"])
def process_side(request: pytest.FixtureRequest) -> str:
    if request.param == "compiled" and PURE_ONLY:
        pytest.skip("FASTWS_NO_EXTENSIONS=1: the compiled side was left out on purpose")
    return str(request.param)


@contextmanager
def process(root: Path, side: str, *lines: str) -> Iterator[Process]:
    """A server of ``root`` in a process of its own."""
    (root.parent / "ws.conf").write_text(CONFIGURATION + "\n".join(lines) + "\n")
    with running(root.parent, side=side) as server:
        assert server.port, server.banner
        yield server


def error_log(server: Server) -> str:
    """What the error log holds now."""
    return Path(server.config.error_log).read_text()


def descriptors(server: Process) -> int:
    """How many descriptors the process has open."""
    return len(os.listdir(f"/proc/{server.popen.pid}/fd"))


needs_proc = pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="looks into /proc")


# Many connections


def swarm(server: Process, idle: int, busy: int, rounds: int) -> float:
    """Hold ``idle`` connections from several addresses while ``busy`` ones ask; all must be answered.

    Returns the seconds that the busy ones took.
    """
    with ExitStack() as stack:
        idlers = [stack.enter_context(connect(server.port, f"127.0.0.{2 + i % 8}")) for i in range(idle)]
        wait_until(lambda: descriptors(server) > idle, "all connections accepted")
        clients = [stack.enter_context(connect(server.port, "127.0.0.1")) for _ in range(busy)]
        began = time.monotonic()
        for _ in range(rounds):
            for sock in clients:
                sock.sendall(request("/a.txt"))
            for sock in clients:
                check_answer(sock)
        took = time.monotonic() - began
        for sock in idlers:  # none was lost meanwhile
            sock.sendall(request("/a.txt"))
        for sock in idlers:
            check_answer(sock)
    return took


def connect(port: int, source: str) -> socket.socket:
    """A connection from ``source``, an address of the loopback network."""
    return socket.create_connection(("127.0.0.1", port), 20, source_address=(source, 0))


def check_answer(sock: socket.socket) -> None:
    """Read one answer to ``/a.txt``."""
    data = b""
    while not data.endswith(b"\r\n\r\na file"):
        piece = sock.recv(4096)
        assert piece, data
        data += piece
    assert data.startswith(b"HTTP/1.1 200 ")


@needs_proc
def test_1_000_idle_connections_do_not_disturb_200_busy_ones(root: Path, process_side: str) -> None:
    with process(root, process_side, "KeepaliveTime 120") as server:
        before = descriptors(server)
        swarm(server, 1000, 200, 5)
        wait_until(lambda: descriptors(server) == before, "all connections closed")


@needs_proc
@pytest.mark.long
@pytest.mark.timeout(300)
def test_10_000_idle_connections_do_not_disturb_200_busy_ones(root: Path, process_side: str) -> None:
    with process(root, process_side, "KeepaliveTime 120") as server:
        before = descriptors(server)
        alone = swarm(server, 0, 200, 50)
        crowded = swarm(server, 10_000, 200, 50)
        print(
            f"{process_side}: 10,000 answers to 200 connections took {alone:.2f} s alone, {crowded:.2f} s crowded"
        )
        wait_until(lambda: descriptors(server) == before, "all connections closed")
        assert crowded < 5 * alone + 1


@needs_proc
def test_flood_of_connections_leaves_nothing_behind(root: Path, process_side: str) -> None:
    with process(root, process_side) as server:
        before = descriptors(server)
        with Client(server.port) as client:
            for number in range(3000):
                connect(server.port, "127.0.0.2").close()
                if number % 500 == 0:
                    assert client.get("/a.txt").body == b"a file"
        wait_until(lambda: descriptors(server) == before, "all connections closed")
        assert get(server.port, "/a.txt").body == b"a file"


def test_flood_beyond_max_connections_spares_those_that_are_open(serve: Serve, root: Path) -> None:
    server = serve("MaxConnections 20", "ErrorLog errors.txt")
    with ExitStack() as stack:
        clients = [stack.enter_context(Client(server)) for _ in range(20)]
        assert [client.get("/a.txt").status for client in clients] == [200] * 20
        for _ in range(300):
            with Client(server):
                pass
        assert [client.get("/a.txt").status for client in clients] == [200] * 20
    wait_until(lambda: server.connection_count() == 0)
    assert "Traceback" not in error_log(server)


def test_resets_at_random_moments_leave_nothing_behind(serve: Serve, root: Path) -> None:
    server = serve("ErrorLog errors.txt")
    chance = random.Random(1)
    form = request("/", "Content-Length: 5000", method="POST") + b"a" * 4000
    stages = [
        b"",
        b"GET /a.t",
        request("/a.txt"),
        request("/a.txt") * 9,
        request("/big.bin"),
        form,
        b"\0" * 99,
    ]
    for _ in range(300):
        client = Client(server)
        data = chance.choice(stages)
        client.send(data[: chance.randint(0, len(data))] if chance.random() < 0.3 else data)
        if chance.random() < 0.5:
            select.select([client.sock], [], [], 0.01)
        client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.sock.close()
    wait_until(lambda: server.connection_count() == 0)
    assert get(server, "/a.txt").body == b"a file"
    assert "Traceback" not in error_log(server)


# Disks and file systems


@contextmanager
def small_disk(path: Path, size: str) -> Iterator[None]:
    """Mount a tmpfs of ``size`` on ``path``; skips the test where that is not allowed."""
    path.mkdir(exist_ok=True)
    done = None
    if os.geteuid() == 0 and shutil.which("mount"):
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={size}", "none", path], capture_output=True
        )
    if done is None or done.returncode:
        pytest.skip("a file system may be mounted by root alone, and not in every container")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", path], capture_output=True)


def test_requests_go_on_while_the_log_disk_is_full_and_the_loss_is_counted(
    serve: Serve, root: Path, tmp_path: Path
) -> None:
    asked = 0
    with small_disk(tmp_path / "disk", "4m"):
        server = serve(f'AccessLog "{tmp_path}/disk/access.txt"', "ErrorLog errors.txt")
        with Client(server) as client:

            def ask(until: str) -> None:
                nonlocal asked
                deadline = time.monotonic() + 20
                while until not in error_log(server):
                    assert time.monotonic() < deadline, until
                    client.send(request("/a.txt") * 20)
                    for _ in range(20):
                        assert client.reply().status == 200
                    asked += 20

            (tmp_path / "disk" / "filler").write_bytes(b"x" * (4 * MIB - 16384))
            ask("are being lost: No space left on device")
            (tmp_path / "disk" / "filler").unlink()
            ask("takes lines again")
        server.stop()
        written = (tmp_path / "disk" / "access.txt").read_bytes().splitlines()
    assert all(line.count(b'"') == 6 for line in written)  # none is cut, none is glued to another
    lost = sum(map(int, re.findall(r"; (\d+) were lost", error_log(server))))
    assert lost
    assert len(written) + lost == asked


@pytest.mark.parametrize("reopens", [False, True])
def test_line_cut_by_a_full_disk_does_not_spoil_the_next_one(tmp_path: Path, reopens: bool) -> None:
    said: list[str] = []
    with small_disk(tmp_path / "disk", "16k"):
        log = LogFile(str(tmp_path / "disk" / "log.txt"), said.append)
        lines = b"".join(b"%05d %s\n" % (number, b"x" * 93) for number in range(200))
        (tmp_path / "disk" / "filler").write_bytes(b"x" * 8192)
        log.write(lines)
        if reopens:
            log.reopen(log.path)
        (tmp_path / "disk" / "filler").unlink()
        log.write(b"after\n")
        log.close()
        found = (tmp_path / "disk" / "log.txt").read_bytes().split(b"\n")
    assert found[-2:] == [b"after", b""]
    assert sum(len(line) == 99 for line in found) == len(found) - 2  # all others are whole
    lost = int(re.findall(r"; (\d+) were lost", said[-1])[0])
    assert len(found) - 2 + lost == 200


def test_standard_error_that_nobody_reads_stops_no_request(root: Path, process_side: str) -> None:
    with process(root, process_side, "ErrorLog -", "LogLevel debug") as server:
        assert server.popen.stderr
        server.popen.stderr.close()
        for _ in range(3):
            with Client(server.port) as client:
                client.send(b"nonsense\r\n\r\n")
                assert client.reply().status == 400
            assert get(server.port, "/a.txt").body == b"a file"
        server.signal(signal.SIGTERM)
        assert server.popen.wait(20) == 0


def test_document_root_on_a_file_system_that_vanishes_and_comes_back(serve: Serve, root: Path) -> None:
    shutil.rmtree(root)
    with small_disk(root, "40m"):
        put(root, {"a.txt": b"mounted", "big.bin": b"b" * (16 * MIB)})
        server = serve(root=root)
        with Client(server) as hot, Client(server, receive_buffer=4096) as download:
            assert thrice(server, "/a.txt").body == b"mounted"
            assert hot.get("/a.txt").body == b"mounted"
            download.send(request("/big.bin"))
            download.head()
            subprocess.run(["umount", "-l", root], check=True)
            assert hot.get("/a.txt").status == 404
            assert hot.get("/").status == 404
            assert download.read(16 * MIB) == b"b" * (16 * MIB)  # it was open
        with small_disk(root, "1m"):
            put(root, {"a.txt": b"back again"})
            assert thrice(server, "/a.txt").body == b"back again"


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE, errno.ENODEV, errno.ENOMEM])
@pytest.mark.parametrize("call", ["open_beneath", "look", "read_at"])
def test_file_system_that_fails_is_a_500_that_is_logged_and_passes(
    serve: Serve, root: Path, monkeypatch: pytest.MonkeyPatch, call: str, number: int
) -> None:
    server = serve("ErrorLog errors.txt", "WorkerThreads 1")
    caller = portable if call == "read_at" else server._backend.opener

    def fail(*_: object) -> object:
        raise OSError(number, os.strerror(number))

    with Client(server) as client:
        assert client.get("/a.txt").body == b"a file"
        put(root, {"new.txt": b"new"})
        with monkeypatch.context() as broken:
            broken.setattr(caller, call, fail)
            if server._backend.opener.side == "compiled":  # which is none of the module's three functions
                broken.setattr(server._backend.opener, "read_beneath", lambda *_: None)
            reply = client.get("/new.txt")
        assert reply.status in (500, 503)
        assert b"Traceback" not in reply.body
        assert client.get("/new.txt").body == b"new"
    assert re.search(f"error .*{reply.status}", error_log(server))


def test_disk_that_fails_in_the_middle_of_a_download_ends_the_connection(
    serve: Serve, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fastws.transport import plain

    server = serve("CacheMaxFile 1K", "ErrorLog errors.txt")
    original, calls = plain._send_file, []

    def fail_later(sock: socket.socket, fd: int, offset: int, count: int) -> int:
        calls.append(offset)
        if offset > MIB:
            raise OSError(errno.EIO, "Input/output error")
        return original(sock, fd, offset, min(count, 300_000))

    monkeypatch.setattr(plain, "_send_file", fail_later)
    with Client(server) as client:
        client.send(request("/big.bin"))
        client.head()
        with pytest.raises((ProtocolError, ConnectionError)):
            client.read(8 * MIB)
    monkeypatch.undo()
    assert calls
    assert get(server, "/a.txt").body == b"a file"


# Clocks


@pytest.mark.parametrize("jump_s", [-86400 * 365, -3600, 3600, 86400 * 365 * 5])
def test_clock_that_jumps_moves_no_deadline(
    serve: Serve, root: Path, monkeypatch: pytest.MonkeyPatch, jump_s: int
) -> None:
    """Deadlines are kept by CLOCK_MONOTONIC. What Python reads is replaced here; for C there is faketime."""
    server = serve("KeepaliveTime 30", "RequestTimeout 30")
    real, real_ns = time.time, time.time_ns
    with Client(server) as client, Client(server) as half, Client(server, receive_buffer=4096) as reader:
        half.send(b"GET /a.txt HT")
        reader.send(request("/big.bin"))
        assert client.get("/a.txt").status == 200
        monkeypatch.setattr(time, "time", lambda: real() + jump_s)
        monkeypatch.setattr(time, "time_ns", lambda: real_ns() + jump_s * 1_000_000_000)
        for target in ("/a.txt", "/m.bin", "/big.bin", "/nowhere"):
            assert client.get(target).status == (404 if target == "/nowhere" else 200)
        half.send(b"TP/1.1\r\nHost: x\r\n\r\n")
        assert half.reply().body == b"a file"
        assert len(reader.reply().body) == 8 * MIB
        monkeypatch.undo()
        assert client.get("/a.txt").status == 200


@pytest.mark.peer
@pytest.mark.skipif(not Path(FAKETIME).exists(), reason="needs Debian's faketime")
def test_clock_of_the_whole_process_jumps_and_dates_follow(
    tmp_path: Path, root: Path, process_side: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    stamp = tmp_path / "offset"
    stamp.write_text("+0\n")
    for name, value in {
        "LD_PRELOAD": FAKETIME,
        "FAKETIME_TIMESTAMP_FILE": str(stamp),
        "FAKETIME_NO_CACHE": "1",
        "DONT_FAKE_MONOTONIC": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "NO_FAKE_STAT": "1",
    }.items():
        monkeypatch.setenv(name, value)
    with process(root, process_side, "KeepaliveTime 2") as server:
        monkeypatch.undo()
        with Client(server.port) as client:
            year = int(client.get("/a.txt")["Date"].split()[3])
            for offset, expected in (("+2y", year + 2), ("-3y", year - 3), ("+0", year)):
                stamp.write_text(f"{offset}\n")

                def date_follows(expected: int = expected) -> bool:
                    reply = client.get("/a.txt")
                    assert reply.body == b"a file"
                    return abs(int(reply["Date"].split()[3]) - expected) <= (expected != year)

                wait_until(date_follows, f"a Date after a jump by {offset}")
            began = time.monotonic()
            assert client.get("/a.txt").status == 200
            assert client.is_over()  # the idle time of a connection passes as before
            assert 1.9 < time.monotonic() - began < 15


# Signals and threads


def test_sigterm_in_the_middle_of_100_downloads_completes_them_all(root: Path, process_side: str) -> None:
    # However slowly a busy machine lets the clients read.
    lines = ("DrainTimeout 300", "RequestTimeout 300")
    with process(root, process_side, *lines) as server, ExitStack() as stack:
        clients = [stack.enter_context(Client(server.port, receive_buffer=8192)) for _ in range(100)]
        for client in clients:
            client.send(request("/big.bin"))
        for client in clients:
            assert client.head()[0] == 200
            client.read(1000)
        server.signal(signal.SIGTERM)
        wait_until(lambda: not accepts(server.port), "the end of accepting")
        assert server.popen.poll() is None
        with ThreadPoolExecutor(100) as pool:
            bodies = pool.map(lambda client: client.read(8 * MIB - 1000), clients)
            assert [body == b"b" * (8 * MIB - 1000) for body in bodies] == [True] * 100
        assert [client.is_over() for client in clients] == [True] * 100
        assert server.wait() == 0


def accepts(port: int) -> bool:
    """Whether a new connection is taken."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=0.5).close()
    except OSError:
        return False
    return True


def test_signals_that_come_right_after_the_start_are_not_lost(root: Path, process_side: str) -> None:
    log = root.parent / "log_webserver_error.txt"
    for number in range(10):
        with process(root, process_side) as server:
            log.write_text("")
            server.signal(signal.SIGHUP)
            if number % 2:  # else the end may overtake the reload
                wait_until(lambda: "configuration reloaded" in log.read_text(), "a reload")
            server.signal(signal.SIGTERM)
            assert server.wait() == 0


@pytest.mark.parametrize("threads", [1, 3])
def test_worker_that_dies_is_replaced_its_connections_closed_and_logged(
    serve: Serve, root: Path, threads: int
) -> None:
    server = serve(f"WorkerThreads {threads}", "ErrorLog errors.txt")
    with ExitStack() as stack:
        clients = [stack.enter_context(Client(server)) for _ in range(2 * threads)]
        assert [client.get("/a.txt").status for client in clients] == [200] * len(clients)
        victim, (victims, *_) = server._pool.workers[0], loads_of(server, len(clients))
        assert victims

        def fail(worker: Worker) -> None:
            raise RuntimeError("a task that nobody expected to fail")

        victim.tell(fail)
        wait_until(lambda: server._pool.workers[0] is not victim, "another worker")
        assert victim.join(20)
        survivors = sum(client.is_open() for client in clients)
        assert survivors == len(clients) - victims
        for _ in range(20):
            assert get(server, "/a.txt").body == b"a file"
    wait_until(lambda: server.connection_count() == 0)
    log = error_log(server)
    assert "this worker failed" in log
    assert "RuntimeError: a task that nobody expected to fail" in log


def test_connection_handed_to_a_worker_that_dies_is_closed(serve: Serve, root: Path) -> None:
    server = serve("WorkerThreads 2")
    victim = server._pool.workers[0]
    release = threading.Event()
    here, there = socket.socketpair()
    there.settimeout(20)

    def fail(worker: Worker) -> None:
        release.wait(20)
        raise RuntimeError

    victim.tell(fail)
    victim.hand_over(Accepted(os.dup(here.fileno()), "127.0.0.1"))
    here.close()
    release.set()
    assert victim.join(20)
    assert there.recv(1) == b""
    late, kept = socket.socketpair()  # by a thread that had chosen the worker before it died
    kept.settimeout(20)
    victim.hand_over(Accepted(late.detach(), "127.0.0.1"))
    assert kept.recv(1) == b""
    there.close()
    kept.close()


def test_workers_that_die_again_and_again_leave_no_descriptor(serve: Serve, root: Path) -> None:
    server = serve("WorkerThreads 2")
    before = None
    for _ in range(10):
        for victim in list(server._pool.workers):

            def fail(worker: Worker) -> None:
                raise RuntimeError

            victim.tell(fail)
            assert victim.join(20)
        wait_until(lambda old=victim: old not in server._pool.workers)
        assert get(server, "/a.txt").status == 200
        be_at_rest(server)
        count = open_descriptors() if sys.platform == "linux" else 0
        before = before or count
    assert count <= before
