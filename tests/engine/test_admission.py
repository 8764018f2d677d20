"""Who is let in: counts and limits, and what becomes of a connection that cannot be watched."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from crew import equipped, make_config
from proxied import header

from fastws import backend, portable
from fastws.engine.admission import ACCEPT_BATCH, HTTP1, Admission
from fastws.engine.connection import Connection
from fastws.engine.shared import Shared
from fastws.seam import PLAIN, PROXY, Accepted
from fastws.transport.plain import PlainTransport


class World:
    """One worker's admission without the worker, among ``worker_count`` workers; it is the census too."""

    worker_count = 1

    def __init__(self, side: backend.Backend, tmp_path: Path, stack: ExitStack) -> None:
        self._stack = stack
        self.config = make_config(tmp_path)
        equipment, self.site = stack.enter_context(equipped(side, self.config))
        self.shared: Shared[Connection] = Shared(equipment, "worker-0")
        stack.callback(self.shared.reactor.close)
        self.shared.configure(self.config, self.site)
        self.admission = Admission(self.shared, self)
        stack.callback(self.admission.close)
        self.elsewhere = 0

    def configure(self, **overrides: object) -> None:
        self.admission.configure(self.config.with_overrides(**overrides))

    def connection_count(self) -> int:
        return self.admission.count + self.shared.reactor.kept + self.elsewhere

    def connections_from(self, peer: str) -> int:
        return self.admission.count_from(peer)

    def arrive(self, peer: str = "127.0.0.1", *, has_room: bool = False) -> socket.socket:
        """Have the admission take a connection from ``peer``; returns the client's end."""
        client, ours = socket.socketpair()
        self._stack.enter_context(client)
        client.settimeout(20)
        ours.setblocking(False)
        self.admission.take(Accepted(ours.detach(), peer), has_room)
        return client


@pytest.fixture
def world(side: backend.Backend, tmp_path: Path) -> Iterator[World]:
    with ExitStack() as stack:
        made = World(side, tmp_path, stack)
        made.configure()
        yield made


def is_refused(client: socket.socket) -> bool:
    client.setblocking(False)
    try:
        return client.recv(1 << 16).startswith(b"HTTP/1.1 503 ")
    except BlockingIOError:
        return False


@pytest.mark.parametrize(
    ("proxy", "source", "peer"),
    [
        ("192.0.2.1", "198.51.100.7", "198.51.100.7"),
        ("192.0.2.1", "127.0.0.1", "unknown"),  # which is the proxy's own
        ("192.0.2.1", "::1", "unknown"),
        ("127.0.0.1", "127.0.0.9", "127.0.0.9"),
        ("unix:", "127.0.0.9", "127.0.0.9"),
    ],
)
def test_loopback_address_of_another_machine_is_nobodys_here(
    world: World, proxy: str, source: str, peer: str
) -> None:
    config = world.config.with_overrides(
        trusted_proxies=["192.0.2.1", "127.0.0.1", "unix"], proxy_protocol=True
    )
    world.shared.configure(config, world.site)
    world.admission.configure(config)
    client, ours = socket.socketpair()
    ours.setblocking(False)
    with client:
        client.sendall(header(source))
        world.admission.take(Accepted(ours.detach(), proxy, PROXY), has_room=False)
        world.admission.adopt_kept()
        (connection,) = world.admission._connections
        assert connection.peer == peer
        world.admission.close()


def test_no_more_are_let_in_than_the_platform_can_watch(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(portable, "CONNECTIONS_MOST", 2)
    world.configure(max_connections=100)
    assert [is_refused(world.arrive()) for _ in range(3)] == [False, False, True]


def test_more_than_the_server_takes_are_refused(world: World) -> None:
    world.configure(max_connections=2)
    assert [is_refused(world.arrive()) for _ in range(3)] == [False, False, True]
    world.elsewhere = 5
    assert is_refused(world.arrive())


def test_more_than_an_address_may_have_are_refused_until_one_goes(world: World) -> None:
    world.configure(max_connections_per_address=1)
    first, second = world.arrive("192.0.2.1"), world.arrive("192.0.2.1")
    assert (is_refused(first), is_refused(second)) == (False, True)
    assert not is_refused(world.arrive("192.0.2.2"))
    assert world.admission.count_from("192.0.2.1") == 2
    for connection in list(world.admission._connections):
        if connection.peer == "192.0.2.1":
            connection.close()
    assert world.admission.count_from("192.0.2.1") == 0
    assert not is_refused(world.arrive("192.0.2.1"))


def test_unix_clients_have_no_address_to_count(world: World) -> None:
    world.configure(max_connections_per_address=1)
    assert [is_refused(world.arrive("unix:")) for _ in range(3)] == [False] * 3


def test_addresses_are_counted_from_the_reload_on_that_limits_them(world: World) -> None:
    clients = [world.arrive("192.0.2.1", has_room=True) for _ in range(3)]
    assert world.admission.count_from("192.0.2.1") == 0
    world.configure(max_connections_per_address=3)
    assert world.admission.count == 3  # the reactor keeps none of them
    assert world.admission.count_from("192.0.2.1") == 3
    assert not any(is_refused(client) for client in clients)
    assert is_refused(world.arrive("192.0.2.1"))
    world.configure()
    assert world.admission.count_from("192.0.2.1") == 0


def test_reactor_may_accept_only_where_nothing_is_to_be_decided(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.configure(max_connections=1000)
    assert (world.admission.room(), world.admission.has_room()) == (1000, True)
    world.arrive()
    assert world.admission.room() == 999
    world.elsewhere = 1000 - ACCEPT_BATCH
    assert not world.admission.has_room()
    world.elsewhere = 0
    monkeypatch.setattr(World, "worker_count", 2)
    assert (world.admission.room(), world.admission.has_room()) == (0, True)
    monkeypatch.setattr(World, "worker_count", 1)
    monkeypatch.setitem(world.admission.manners, PLAIN, HTTP1._replace(is_kept=False))
    assert world.admission.room() == 0
    world.arrive(has_room=True)
    assert world.shared.reactor.kept == 0
    monkeypatch.setitem(world.admission.manners, PLAIN, HTTP1)
    world.configure(max_connections_per_address=9)
    assert (world.admission.room(), world.admission.has_room()) == (0, False)
    world.configure()
    world.shared.is_draining = True
    assert not world.admission.has_room()


@pytest.mark.parametrize("is_plain", [True, False])
def test_connection_that_cannot_be_watched_is_closed_and_logged(
    world: World, monkeypatch: pytest.MonkeyPatch, is_plain: bool
) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")  # epoll_ctl(2): too many watches

    manner = HTTP1 if is_plain else HTTP1._replace(transport=PlainTransport, is_kept=False)
    monkeypatch.setitem(world.admission.manners, PLAIN, manner)

    class Full:
        """A reactor that watches no more."""

        add = staticmethod(fail)
        keep = staticmethod(lambda *_: False)

    monkeypatch.setattr(world.admission, "_reactor", Full())
    for has_room in (True, False):
        client = world.arrive(has_room=has_room)
        assert client.recv(1) == b""
    assert world.admission.count == 0
    log = Path(world.config.error_log).read_text()
    assert log.count("a connection from 127.0.0.1 cannot be watched: [Errno 28] No space left") == 2


def test_connection_whose_transport_cannot_be_made_is_closed_and_logged(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> PlainTransport:
        raise OSError(errno.ENOMEM, "Cannot allocate memory")

    monkeypatch.setitem(world.admission.manners, PLAIN, HTTP1._replace(transport=fail, is_kept=False))
    assert world.arrive().recv(1) == b""
    assert world.admission.count == 0
    assert "a connection from 127.0.0.1 cannot be watched" in Path(world.config.error_log).read_text()


def test_forgetting_that_fails_closes_the_descriptor_all_the_same(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = world.arrive()
    (connection,) = world.admission._connections

    def fail(*_: object) -> None:
        raise OSError(errno.EBADF, "Bad file descriptor")

    with monkeypatch.context() as patches:
        patches.setattr(world.shared, "forget", fail)
        with pytest.raises(OSError, match="Bad file"):
            connection.close()
    assert client.recv(1) == b""
    with pytest.raises(OSError, match="Bad file"):
        os.fstat(connection.fd)
    connection.close()  # does nothing
    world.admission.forget(connection)


def test_draining_gives_idle_connections_a_grace(world: World) -> None:
    world.arrive()
    world.arrive(has_room=True)
    world.shared.is_draining, world.shared.grace_s = True, 0.0
    world.admission.drain()
    assert world.admission.count == 2
    late = world.arrive()
    now = 1e12
    for connection in world.shared.timers.pop_due(now):
        connection.handle(Connection.on_timeout, now)
    assert world.admission.count == 0
    assert late.recv(1) == b""
