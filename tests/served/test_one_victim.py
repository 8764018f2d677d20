"""One failure, one victim: what goes wrong on one connection, or holds up the server, ends nothing else."""

from __future__ import annotations

import errno
import socket
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import launch
import pytest
from rawhttp import Client, ProtocolError, get, open_descriptors, put, request, wait_until

from fastws import Server, backend, defaults
from fastws.engine import pool, states
from fastws.engine.admission import Admission
from fastws.engine.connection import Connection
from fastws.engine.http1 import Http1
from fastws.engine.worker import Worker
from fastws.http.messages import Request
from fastws.record.ledger import Ledger
from fastws.site.site import Decision, Site

Serve = Callable[..., Server]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return put(tmp_path / "root", {"a.txt": b"a file", "form.html": b"<pre></pre>"})


def fail_once(monkeypatch: pytest.MonkeyPatch, owner: type, name: str, error: Exception) -> threading.Event:
    """Make the next call of a method fail; the event is set when it has."""
    real, failed = getattr(owner, name), threading.Event()

    def fail(*arguments: Any, **options: Any) -> Any:
        if failed.is_set():
            return real(*arguments, **options)
        failed.set()
        raise error

    monkeypatch.setattr(owner, name, fail)
    return failed


FAILURES = [
    (Connection, "on_timeout"),
    (Connection, "on_begin"),
    (Connection, "linger"),
    (Http1, "on_close"),
    (Http1, "advance"),
    (Admission, "adopt"),
    (Ledger, "record"),
    (Site, "respond"),
    (Worker, "_keep_time"),
    (Worker, "_accept"),
    (Worker, "_write_logs"),
]


@pytest.mark.parametrize(
    ("owner", "name"), FAILURES, ids=[f"{owner.__name__}.{name}" for owner, name in FAILURES]
)
def test_a_failure_ends_one_connection_and_no_other(
    serve: Serve, root: Path, monkeypatch: pytest.MonkeyPatch, owner: type, name: str
) -> None:
    server = serve("KeepaliveTime 4", "ErrorLog errors.txt", worker_threads=1)
    if name == "_accept" and server._pool.workers[0].reactor.side == "compiled":
        pytest.skip("the compiled reactor accepts by itself")
    with ExitStack() as stack:
        steady = [stack.enter_context(Client(server)) for _ in range(3)]
        assert [is_served(client) for client in steady] == [True] * 3
        failed = fail_once(monkeypatch, owner, name, MemoryError("none left"))
        until = time.monotonic() + 20
        while not failed.is_set() and time.monotonic() < until:
            stack.enter_context(Client(server)).send(
                request("/form.html", "Connection: close", method="POST")
            )
            steady = [client for client in steady if is_served(client)]
            assert len(steady) >= 2, "more than one connection ended"
            time.sleep(0.02)
        assert failed.is_set()
        steady = [client for client in steady if is_served(client)]
        assert len(steady) >= 2
    assert get(server, "/a.txt").body == b"a file"
    assert "this worker failed" not in Path(server.config.error_log).read_text()


def is_served(client: Client) -> bool:
    """Tell whether a connection that Python has by now still gets answers."""
    try:
        return client.get("/form.html", method="POST").status in (200, 500)
    except (ProtocolError, OSError):
        return False


class StaleOpener:
    """An opener whose files' state cannot be looked at while ``is_stale``, as on NFS."""

    is_stale = False

    def __init__(self, opener: backend.Opener) -> None:
        self._opener = opener

    def __getattr__(self, name: str) -> Any:
        return getattr(self._opener, name)

    def look(self, fd: int) -> Any:
        if self.is_stale:
            raise OSError(errno.ESTALE, "Stale file handle")
        return self._opener.look(fd)


def test_an_error_page_that_cannot_be_looked_at_is_one_answers_matter(
    side: backend.Backend, serve: Serve, root: Path, tmp_path: Path
) -> None:
    put(root, {"408.html": b"own page"})
    opener = StaleOpener(side.opener)
    config = defaults(root).with_overrides(
        listen_ports=(0,),
        access_log="off",
        error_log=str(tmp_path / "errors.txt"),
        error_pages={408: "/408.html"},
        request_timeout_s=1,
        worker_threads=1,
    )
    with (
        Server(config, backend=side._replace(opener=opener)) as server,
        Client(server) as slow,
        Client(server) as other,
    ):
        assert other.get("/a.txt").body == b"a file"
        opener.is_stale = True
        slow.send(b"GET / HTTP/1.1\r\n")
        reply = slow.reply()
        assert (reply.status, b"own page" in reply.body) == (408, False)
        assert other.get("/form.html", method="POST").status == 500
        opener.is_stale = False
        assert other.get("/a.txt").body == b"a file"
    assert "Stale file handle" in (tmp_path / "errors.txt").read_text()


def test_a_worker_that_hangs_while_a_listener_is_closed_serves_its_clients_after_it(
    serve: Serve, root: Path, monkeypatch: pytest.MonkeyPatch, free_ports: Callable[..., tuple[int, ...]]
) -> None:
    monkeypatch.setattr(pool, "ANSWER_S", 0.2)
    first, second = free_ports(2)
    server = serve("ErrorLog errors.txt", worker_threads=1, listen_ports=(first, second))
    hangs, goes_on = threading.Event(), threading.Event()
    real = Site.respond

    def respond(site: Site, asked: Request, *arguments: Any) -> Decision:
        if asked.target == "/form.html":
            hangs.set()
            goes_on.wait(20)
        return real(site, asked, *arguments)

    monkeypatch.setattr(Site, "respond", respond)
    with Client(server.port) as slow, Client(server.port) as other:
        assert other.get("/a.txt").body == b"a file"
        slow.send(request("/form.html", method="POST"))
        assert hangs.wait(20)
        server.reload(lambda: server.config.with_overrides(listen_ports=(first,)))
        goes_on.set()
        assert slow.reply().status == 200
        assert other.get("/a.txt").body == b"a file"
        assert get(first, "/a.txt").body == b"a file"
    server.reload(lambda: server.config)  # closes what was left
    with pytest.raises(OSError):  # noqa: PT011 - refused or reset
        socket.create_connection(("127.0.0.1", second), 0.5).close()
    assert "KeyError" not in Path(server.config.error_log).read_text()


def test_many_slow_requests_on_one_connection_leave_others_their_turn(
    serve: Serve, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = serve(worker_threads=1)
    real, count = Site.respond, 2 * states.TURN_REQUESTS
    order: list[str] = []

    def respond(site: Site, asked: Request, *arguments: Any) -> Decision:
        order.append(asked.target)
        if asked.target == "/form.html":
            time.sleep(0.02)
        return real(site, asked, *arguments)

    monkeypatch.setattr(Site, "respond", respond)
    with ExitStack() as stack:
        greedy = [stack.enter_context(Client(server)) for _ in range(4)]
        quick = stack.enter_context(Client(server))
        assert quick.get("/form.html?quick", method="POST").status == 200
        order.clear()
        for client in greedy:
            client.send(request("/form.html", method="POST") * count)
        wait_until(lambda: len(order) >= 8)
        quick.send(request("/form.html?quick", method="POST"))
        asked_after = len(order)
        assert quick.reply().status == 200
        # Each of the others has one more answer, or two where the request came in the middle of a turn.
        assert order.index("/form.html?quick") - asked_after <= 3 * len(greedy)
        for client in greedy:
            for _ in range(count):
                assert client.reply().status == 200
    assert order.count("/form.html") == 4 * count


def test_what_came_while_the_server_slept_is_answered_before_anyone_is_idle(
    serve: Serve, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after SIGSTOP and SIGCONT: the worker sleeps for longer than KeepaliveTime."""
    sleeps, goes_on = threading.Event(), threading.Event()

    def sleep(_: Worker) -> None:
        sleeps.set()
        goes_on.wait(launch.END_S)

    with ExitStack() as stack:
        for keepalive_s in (
            1,
            4,
            16,
        ):  # on a busy machine the first may be idle for long before the last has come
            server = serve(f"KeepaliveTime {keepalive_s}", worker_threads=1)
            began, clients = time.monotonic(), []
            with suppress(ProtocolError, ConnectionError):
                for _ in range(300):  # more than one turn looks at
                    clients.append(stack.enter_context(Client(server)))
                    assert clients[-1].get("/form.html", method="POST").status == 200
            if time.monotonic() - began < keepalive_s / 2:
                break
        server._pool.workers[0].tell(sleep)
        assert sleeps.wait(20)
        for client in clients[1:]:
            client.send(request("/a.txt"))
        time.sleep(keepalive_s + 1.2)  # OVERSLEPT_S more than it
        goes_on.set()
        for client in clients[1:]:
            assert client.reply().body == b"a file"
        assert clients[0].is_over()  # this one really was idle


@pytest.mark.parametrize("call", ["register", "modify"])
def test_a_descriptor_that_cannot_be_watched_is_closed_and_nobody_else_is(
    serve: Serve, root: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    """The pure side: epoll_ctl fails with ENOMEM or ENOSPC."""
    server = serve("ErrorLog errors.txt", worker_threads=1)
    reactor = server._pool.workers[0].reactor
    if reactor.side == "compiled":
        pytest.skip("the compiled side calls epoll_ctl itself")
    put(root, {"big.bin": b"b" * (16 << 20)})
    selector = reactor._selector
    with Client(server) as other, Client(server) as victim:
        assert other.get("/a.txt").body == victim.get("/a.txt").body == b"a file"
        before = open_descriptors()
        failed = fail_once(
            monkeypatch, type(selector), call, OSError(errno.ENOSPC, "No space left on device")
        )
        if call == "register":
            with Client(server) as late:
                assert late.is_over()
        else:
            victim.send(request("/big.bin"))  # more than the socket takes, so that it waits for room
            wait_until(failed.is_set)
        assert failed.is_set()
        assert other.get("/a.txt").body == b"a file"
        wait_until(lambda: open_descriptors() <= before, "the descriptor's end")
    assert "this worker failed" not in Path(server.config.error_log).read_text()
