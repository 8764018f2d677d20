"""The pool of threads: who gets which connection, and what holds none of them up."""

from __future__ import annotations

import os
import select
import shutil
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest
from launch import running
from rawhttp import Client, get, loads_of, put, request, thrice, wait_until

from fastws import Server
from fastws.engine.worker import Worker

Serve = Callable[..., Server]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return put(tmp_path / "root", {"a.txt": b"text of a", "index.html": b"", "big.bin": b"x" * (4 << 20)})


def test_connections_opened_2_ms_apart_spread_over_two_workers(serve: Serve, root: Path) -> None:
    server = serve("WorkerThreads 2")
    with ExitStack() as stack:
        clients = []
        for _ in range(100):
            clients.append(stack.enter_context(Client(server)))
            time.sleep(0.002)  # the pace that is promised for
        assert all(client.get("/a.txt").status == 200 for client in clients)
        loads = loads_of(server, 100)
        assert all(40 <= load <= 60 for load in loads), loads


def test_connections_opened_at_once_spread_over_two_workers(serve: Serve, root: Path) -> None:
    server = serve("WorkerThreads 2")
    with ExitStack() as stack:
        clients = [stack.enter_context(Client(server)) for _ in range(100)]
        assert all(client.get("/a.txt").status == 200 for client in clients)
        loads = loads_of(server, 100)
        assert all(40 <= load <= 60 for load in loads), loads


def test_worker_threads_is_the_number_of_threads(serve: Serve, root: Path) -> None:
    before = threading.active_count()
    server = serve("WorkerThreads 5")
    workers = [thread for thread in threading.enumerate() if thread.name.startswith("worker-")]
    assert len(workers) == 5
    assert thrice(server, "/a.txt").status == 200
    server.stop()
    assert threading.active_count() == before


def test_500_connections_at_once_are_all_answered(serve: Serve, root: Path) -> None:
    server = serve("WorkerThreads 2")
    with ExitStack() as stack:
        clients = [stack.enter_context(Client(server)) for _ in range(500)]
        for _ in range(3):
            for client in clients:
                client.send(request("/a.txt"))
            for client in clients:
                assert client.reply().body == b"text of a"
        assert sum(loads_of(server, 500)) == 500
    wait_until(lambda: server.connection_count() == 0)


def test_many_threads_that_connect_anew_are_all_answered(serve: Serve, root: Path) -> None:
    server = serve("WorkerThreads 2")
    with ThreadPoolExecutor(20) as pool:
        bodies = list(pool.map(lambda _: get(server, "/a.txt").body, range(500)))
    assert bodies == [b"text of a"] * 500


def test_slow_clients_hold_no_thread(serve: Serve, root: Path) -> None:
    """One thread, and clients stuck in every state of a connection: others are answered all the same."""
    server = serve("WorkerThreads 1", "RequestTimeout 30", "KeepaliveTime 30")
    half_head = request("/a.txt")[:-2]
    half_body = request("/", "Content-Length: 100", method="POST") + b"x"
    half_chunk = request("/", "Transfer-Encoding: chunked", method="POST") + b"5\r\nab"
    with ExitStack() as stack:
        for data in (b"", half_head, half_body, half_chunk, request("/big.bin") * 3, request("/a.txt")):
            for _ in range(10):
                stuck = stack.enter_context(Client(server, receive_buffer=4096))
                stuck.send(data)
        for _ in range(3):
            assert thrice(server, "/a.txt").body == b"text of a"
        assert len(get(server, "/big.bin").body) == 4 << 20
        wait_until(lambda: server.connection_count() >= 60)


@pytest.mark.skipif(shutil.which("prlimit") is None, reason="prlimit is missing")
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="processor time is read in /proc")
@pytest.mark.parametrize("kind", ["compiled", "pure"])
def test_server_out_of_descriptors_rests_and_goes_on(root: Path, kind: str) -> None:
    (root.parent / "ws.conf").write_text("ListenPort 8080\nDocumentRoot root\nErrorLog errors.txt\n")
    with (
        running(root.parent, "--workers", "2", side=kind, prefix=["prlimit", "--nofile=60:60"]) as server,
        ExitStack() as stack,
    ):
        clients = [stack.enter_context(Client(server.port)) for _ in range(100)]
        wait_until(lambda: "accepting rests" in (root.parent / "errors.txt").read_text())
        before, since = processor_time(server.popen.pid), time.monotonic()
        select.select([], [], [], 0.5)  # a moment in which nothing is to be done
        assert processor_time(server.popen.pid) - before < (time.monotonic() - since) / 4
        # Those that were accepted are answered, if only with 503 while no file can be opened.
        clients[0].send(request("/a.txt"))
        assert clients[0].reply().status in (200, 503)
        for client in clients[:70]:
            client.sock.close()
        for client in clients[70:]:
            client.send(request("/a.txt", "Connection: close"))
            assert client.reply().status in (200, 503)
            client.sock.close()
        wait_until(lambda: get(server.port, "/a.txt").status == 200)
        server.signal(15)
        assert server.wait() == 0


def processor_time(pid: int) -> float:
    """Seconds of user and system time of a process."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_idle_server_uses_no_processor_time(serve: Serve, root: Path) -> None:
    server = serve("WorkerThreads 2")
    with ExitStack() as stack:
        for _ in range(50):
            assert stack.enter_context(Client(server)).get("/a.txt").status == 200
        before, since = time.process_time(), time.monotonic()
        select.select([], [], [], 0.5)
        assert time.process_time() - before < (time.monotonic() - since) / 4


def test_worker_that_fails_is_replaced_and_logged(
    serve: Serve, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = serve("WorkerThreads 2", "ErrorLog errors.txt")
    with ExitStack() as stack:
        clients = [stack.enter_context(Client(server)) for _ in range(4)]
        assert all(client.get("/a.txt").status == 200 for client in clients)
        victim, other = server._pool.workers

        def fail(_: Worker) -> None:
            raise RuntimeError("this thread is broken")

        victim.tell(fail)
        assert victim.join(20)
        wait_until(lambda: victim not in server._pool.workers)
        ended = [client for client in clients if not serves_on(client)]
        assert len(ended) == 2
        assert other in server._pool.workers
        fresh = [stack.enter_context(Client(server)) for _ in range(4)]
        assert all(client.get("/a.txt").status == 200 for client in fresh)
        assert loads_of(server, 6) == [3, 3]
    log = (tmp_path / "errors.txt").read_text()
    assert "RuntimeError: this thread is broken" in log
    assert "another takes its place" in log


@pytest.mark.parametrize("failure", ["descriptors", "threads"])
def test_worker_that_cannot_be_replaced_gets_no_connections_until_it_can_be(
    serve: Serve, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failure: str
) -> None:
    server = serve("WorkerThreads 2", "ErrorLog errors.txt")
    victim, other = server._pool.workers
    attempts = 0

    def fail(*_: object) -> None:
        nonlocal attempts
        attempts += 1
        raise OSError(24, "there are too many")

    def break_down(_: Worker) -> None:
        raise RuntimeError("this thread is broken")

    with ExitStack() as stack, monkeypatch.context() as patches:
        patches.setattr(Worker, *(("__init__", fail) if failure == "descriptors" else ("start", fail)))
        victim.tell(break_down)
        wait_until(lambda: attempts > 1, "a second attempt")
        clients = [stack.enter_context(Client(server)) for _ in range(10)]
        assert all(client.get("/a.txt").status == 200 for client in clients)
        wait_until(lambda: (victim.load, other.load) == (0, 10))
        server.reload(lambda: server.config)
        patches.undo()
        wait_until(lambda: victim not in server._pool.workers)
        clients += [stack.enter_context(Client(server)) for _ in range(10)]
        assert all(client.get("/a.txt").status == 200 for client in clients)
        assert loads_of(server, 20) == [10, 10]
    assert victim.join(20)
    log = (tmp_path / "errors.txt").read_text()
    assert log.count("no worker could be started in its place") == 1


def test_server_ends_while_a_worker_waits_for_its_replacement(
    serve: Serve, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = serve("WorkerThreads 1")
    attempted = threading.Event()

    def fail(*_: object) -> None:
        attempted.set()
        raise OSError(24, "there are too many")

    def break_down(_: Worker) -> None:
        raise RuntimeError("this thread is broken")

    monkeypatch.setattr(Worker, "__init__", fail)
    victim = server._pool.workers[0]
    victim.tell(break_down)
    assert attempted.wait(20)
    server.stop()
    assert victim.join(0)


def serves_on(client: Client) -> bool:
    try:
        return client.get("/a.txt").status == 200
    except (AssertionError, ConnectionError):
        return False


def test_resets_in_every_state_leave_nothing_behind(serve: Serve, root: Path) -> None:
    server = serve("WorkerThreads 2")
    reset = b"\1\0\0\0\0\0\0\0"  # SO_LINGER with no time: close sends a reset
    for _ in range(5):
        for data in (b"", b"GET", request("/a.txt"), request("/a.txt") * 50, request("/big.bin"), b"\0"):
            with Client(server, receive_buffer=4096) as client:
                client.send(data)
                client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, reset)
    wait_until(lambda: server.connection_count() == 0)
    assert thrice(server, "/a.txt").status == 200
