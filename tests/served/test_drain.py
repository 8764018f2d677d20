"""How a server ends: what waits is accepted, what is in flight is finished, and nothing holds it up for ever."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import launch
import pytest
from hammer import hammering, holding, is_refused
from rawhttp import Client, put, request, wait_until

from fastws import ListenError, Server
from fastws.operation import process

Serve = Callable[..., Server]
FreePorts = Callable[..., tuple[int, ...]]
BIG = 4 << 20


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return put(tmp_path / "root", {"page.txt": b"x" * 1000, "big.bin": bytes(BIG)})


@contextmanager
def stopping(server: Server) -> Iterator[None]:
    """Have the server stopped by another thread; it must have ended when the block does."""
    thread = threading.Thread(target=server.stop, daemon=True)
    thread.start()
    wait_until(lambda: server.is_draining)
    yield
    thread.join(launch.END_S)
    assert not thread.is_alive()


def last_answer(client: Client) -> None:
    """Ask until an answer says that it is the last, which it must be."""
    while not (reply := client.get("/page.txt")).all("Connection"):
        assert reply.status == 200
    assert (reply.status, reply["Connection"]) == (200, "close")
    assert client.is_over()
    client.sock.close()


def begin_download(client: Client) -> None:
    client.send(request("/big.bin"))
    assert client.head()[0] == 200


def error_log(server: Server) -> str:
    return Path(server.config.error_log).read_text()


# Before it

STATUS = "StatusPath /-/"


def test_new_clients_are_served_while_the_balancer_learns_of_the_end(serve: Serve, root: Path) -> None:
    server = serve("DrainDelay 300", STATUS)
    with stopping(server):
        for _ in range(3):
            with Client(server) as client:
                assert client.get("/-/readyz").status == 503
                reply = client.get("/page.txt")
                assert (reply.status, reply.all("Connection")) == (200, [])
        server.abort()  # as a second signal does


@pytest.mark.usefixtures("patient")
def test_drain_begins_after_its_delay(serve: Serve, root: Path) -> None:
    server = serve("DrainDelay 0.3", STATUS)
    port = server.port
    with Client(server) as client, stopping(server):
        assert client.get("/page.txt").status == 200
        last_answer(client)
    assert not launch.answers(port)


# Under load


@pytest.mark.usefixtures("patient")
def test_drain_under_load_fails_not_one_request(serve: Serve, root: Path) -> None:
    server = serve("WorkerThreads 2")
    with hammering(server.port, "/page.txt", count=32) as hammer:
        server.stop()
        hammer.join()
    assert hammer.refused == 32
    assert "cut off" not in error_log(server)


@pytest.mark.usefixtures("patient")
def test_drain_fails_no_request_of_clients_that_connect_anew_each_time(serve: Serve, root: Path) -> None:
    server = serve("WorkerThreads 2")
    with hammering(server.port, "/page.txt", lines=["Connection: close"], count=16) as hammer:
        server.stop()
        hammer.join()
    assert hammer.refused == 16


@pytest.mark.plain
def test_what_waits_in_the_queue_is_still_answered(serve: Serve, root: Path) -> None:
    server = serve("WorkerThreads 2")
    clients = []
    with ExitStack() as held:
        held.enter_context(holding(server))
        for _ in range(20):
            clients.append(Client(server))
            clients[-1].send(request("/page.txt"))
        with stopping(server):
            # Each worker is told to drain before it can look at the queue again.
            wait_until(lambda: all(worker._tasks for worker in server._pool.workers))
            held.close()
            for client in clients:
                reply = client.reply()
                assert (reply.status, reply["Connection"]) == (200, "close")
                assert client.is_over()
                client.sock.close()


def test_hundred_slow_downloads_are_finished(serve: Serve, root: Path) -> None:
    # Read one after another; how long that takes is the machine's business.
    server = serve("WorkerThreads 2", "DrainTimeout 300", "RequestTimeout 300")
    clients = [Client(server, receive_buffer=1 << 16) for _ in range(100)]
    for client in clients:
        begin_download(client)
    port = server.port
    with stopping(server):
        wait_until(lambda: is_refused(port))
        for client in clients:
            assert len(client.read(BIG)) == BIG
            client.sock.close()
    assert "cut off" not in error_log(server)


# Idle connections


@pytest.mark.usefixtures("patient")
def test_idle_connection_may_send_one_more_request(serve: Serve, root: Path) -> None:
    server = serve()
    with Client(server) as used, Client(server) as fresh, Client(server) as silent:
        for _ in range(3):
            used.get("/page.txt")
        wait_until(lambda: server.connection_count() == 3)
        with stopping(server):
            last_answer(used)
            last_answer(fresh)
            assert silent.is_over()
    assert "the server is stopping" in error_log(server)


@pytest.mark.usefixtures("patient")
def test_client_that_sends_on_after_its_last_answer_is_not_reset(serve: Serve, root: Path) -> None:
    """It did not choose the end: its next request is on its way when it learns of it (RFC 9112 section 9.6)."""
    server = serve()
    with Client(server) as client:
        for _ in range(3):
            client.get("/page.txt")
        with stopping(server):
            while not client.get("/page.txt").all("Connection"):
                pass
            for _ in range(3):  # a reset would be the answer to the first, and fail the next
                client.send(request("/page.txt"))
            assert client.is_over()


@pytest.mark.usefixtures("patient")
def test_answer_begun_before_the_end_is_followed_by_one_more(serve: Serve, root: Path) -> None:
    server = serve()
    with Client(server, receive_buffer=4096) as client:
        begin_download(client)
        with stopping(server):
            client.read(BIG)
            last_answer(client)


# Bounds


def test_reader_that_stalls_is_cut_off_after_drain_timeout(serve: Serve, root: Path) -> None:
    server = serve("DrainTimeout 0.3")
    with Client(server, receive_buffer=4096) as client:
        begin_download(client)
        server.stop()
        with pytest.raises((AssertionError, OSError)):
            client.read(BIG)
    assert "still open after DrainTimeout are cut off" in error_log(server)
    sent = int(Path(server.config.access_log).read_text().split()[9])
    assert 0 < sent < BIG


def test_drain_timeout_0_ends_at_once(serve: Serve, root: Path) -> None:
    server = serve("DrainTimeout 0")
    with Client(server) as client:
        client.get("/page.txt")
        server.stop()
        assert client.is_over()


def test_abort_ends_a_stop_at_once(serve: Serve, root: Path) -> None:
    server = serve("DrainTimeout 3600")
    with Client(server, receive_buffer=4096) as client:
        begin_download(client)
        with stopping(server):
            server.abort()
    assert "fastws stopped" in error_log(server)


def test_worker_that_fails_while_draining_does_not_hold_up_the_end(serve: Serve, root: Path) -> None:
    server = serve("WorkerThreads 2", "DrainTimeout 3600")
    with Client(server, receive_buffer=4096) as client, Client(server, receive_buffer=4096) as other:
        begin_download(client)
        begin_download(other)
        # A worker that has nothing to finish may have ended before it is told.
        wait_until(lambda: [worker.load for worker in server._pool.workers] == [1, 1], "one each")
        with stopping(server):
            for worker in server._pool.workers:
                worker.tell(lambda _: 1 / 0)
    assert error_log(server).count("ZeroDivisionError") == 2


def test_second_stop_does_nothing(serve: Serve, root: Path) -> None:
    server = serve()
    server.stop()
    server.stop()
    server.reload(lambda: server.config)
    assert error_log(server).count("fastws stopped") == 1


# Several ports


def test_every_port_is_served_by_every_worker(serve: Serve, root: Path, free_ports: FreePorts) -> None:
    server = serve("WorkerThreads 2", listen_ports=free_ports(3))
    for port in server.config.listen_ports:
        with ExitStack() as stack:
            for _ in range(10):
                assert stack.enter_context(Client(port)).get("/page.txt").status == 200
            # An answer may be on its way before its connection is counted.
            wait_until(lambda: [worker.load for worker in server._pool.workers] == [5, 5], "five each")
        wait_until(lambda: server.connection_count() == 0)


def test_start_closes_what_it_opened_if_a_port_is_taken(
    serve: Serve, root: Path, free_ports: FreePorts
) -> None:
    server = serve()
    free, path = free_ports(1)[0], root.parent / "socket"
    config = server.config.with_overrides(listen_ports=(free, server.port), listen=(f"unix:{path}",))
    with pytest.raises(ListenError, match=f"127.0.0.1:{server.port}: the port is in use"):
        Server(config).start()
    assert is_refused(free)
    assert not path.exists()


# Signals


@pytest.fixture(params=["compiled", "pure"])
def site(request: pytest.FixtureRequest, root: Path) -> tuple[Path, str]:
    text = "ListenPort 8080\nDocumentRoot root\nDefaultType text/plain\nDrainTimeout 3600\n"
    (root.parent / "ws.conf").write_text(text)
    return root.parent, request.param


@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT])
def test_second_signal_ends_at_once(site: tuple[Path, str], second: int) -> None:
    directory, side = site
    with (
        launch.running(directory, side=side) as running,
        Client(running.port, receive_buffer=4096) as client,
    ):
        begin_download(client)
        running.signal(signal.SIGTERM)
        wait_until(lambda: is_refused(running.port))
        assert running.popen.poll() is None
        running.signal(second)
        assert running.wait() == 0
    assert "GET /big.bin" in (directory / "log_webserver.txt").read_text()
    assert "fastws stopped" in (directory / "log_webserver_error.txt").read_text()


def test_signal_under_load_fails_not_one_request(site: tuple[Path, str]) -> None:
    directory, side = site
    with launch.running(directory, "--workers", "2", side=side, patient=True) as running:
        with hammering(running.port, "/page.txt", count=16) as hammer:
            running.signal(signal.SIGTERM)
            hammer.join()
        assert running.wait() == 0


def test_handlers_of_signals_are_put_back(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = [signal.getsignal(number) for number in numbers]
    path = root.parent / "ws.conf"
    path.write_text("ListenPort 8080\nDocumentRoot root\n")
    monkeypatch.setattr(process, "_print_banner", lambda _: signal.raise_signal(signal.SIGTERM))
    monkeypatch.setattr(process, "Server", lambda config: Server(config.with_overrides(listen_ports=(0,))))
    assert process.serve(str(path)) == 0
    assert [signal.getsignal(number) for number in numbers] == before
