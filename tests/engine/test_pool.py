"""The workers together: which gets a connection, and what is done when one of them cannot do its part."""

from __future__ import annotations

import errno
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from crew import equipped, listening, make_config
from launch import END_S
from rawhttp import get, wait_until

from fastws import backend
from fastws.engine import pool as pool_module
from fastws.engine.pool import Pool
from fastws.engine.worker import Worker
from fastws.seam import Accepted
from fastws.transport.listener import BACKLOG, Listener


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with listening() as made:
        yield made


@pytest.fixture
def pool(side: backend.Backend, tmp_path: Path, listener: socket.socket) -> Iterator[Pool]:
    config = make_config(tmp_path)
    with equipped(side, config, worker_count=2) as (equipment, site):
        made = Pool(equipment)
        made.start(config, site, [Listener(listener)])
        yield made
        made.drain(0.0, END_S)
        made.stop()
        assert made.join(time.monotonic() + END_S)


def fail(_: Worker) -> None:
    raise RuntimeError("on purpose")


def test_least_loaded_is_preferred_in_a_tie_and_never_one_that_has_ended(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = pool.workers
    assert pool.least_loaded(first) is first
    assert pool.least_loaded(second) is second
    pair = socket.socketpair()
    with pair[0]:
        pair[1].setblocking(False)
        first.hand_over(Accepted(pair[1].detach(), "127.0.0.1"))
        wait_until(lambda: pool.connection_count() == 1)
        assert pool.least_loaded(first) is second
        monkeypatch.setattr(second, "has_ended", True)
        assert pool.least_loaded(first) is first
        monkeypatch.undo()
    wait_until(lambda: pool.connection_count() == 0)


def test_connection_that_a_worker_gets_after_its_end_is_closed(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was chosen a moment before, by the thread that accepted."""
    first, _ = pool.workers
    monkeypatch.setattr(first, "has_ended", True)
    ours, theirs = socket.socketpair()
    with ours:
        first.hand_over(Accepted(theirs.detach(), "127.0.0.1"))
        ours.settimeout(END_S)
        assert ours.recv(1) == b""
    monkeypatch.undo()


def test_worker_that_fails_is_replaced_at_its_place(pool: Pool, listener: socket.socket) -> None:
    first, second = pool.workers
    second.tell(fail)
    wait_until(lambda: pool.workers[1] is not second)
    assert pool.workers[0] is first
    assert [each.connections for each in pool.status()] == [0, 0]
    assert get(listener.getsockname()[1], "/a.txt").body == b"a file"


def test_replacement_has_the_configuration_of_the_last_change(
    pool: Pool, tmp_path: Path, listener: socket.socket
) -> None:
    config = make_config(tmp_path, max_connections=7)
    with listening() as another:
        pool.adopt(config, pool._present.site, [Listener(listener), Listener(another)])
        victim = pool.workers[0]
        victim.tell(fail)
        wait_until(lambda: pool.workers[0] is not victim)
        assert [worker.admission._max_connections for worker in pool.workers] == [7, 7]
        for sock in (listener, another):
            assert get(sock.getsockname()[1], "/a.txt").body == b"a file"
        pool.adopt(config, pool._present.site, [Listener(listener)])


def test_task_that_a_worker_cannot_do_is_not_waited_for(pool: Pool) -> None:
    began = time.monotonic()
    pool.have_all(fail, 3600)
    wait_until(lambda: not any(worker.has_ended for worker in pool.workers))
    assert time.monotonic() - began < END_S


def test_worker_that_is_stuck_is_waited_for_no_longer_than_it_may_take(pool: Pool) -> None:
    release = threading.Event()
    done: list[Worker] = []

    def be_stuck(_: Worker) -> None:
        release.wait(END_S)

    pool.workers[0].tell(be_stuck)
    pool.have_all(done.append, 0.1)
    assert pool.workers[0] not in done
    release.set()
    wait_until(lambda: sorted(map(id, done)) == sorted(map(id, pool.workers)))


def test_nobody_is_replaced_after_the_end_began(pool: Pool) -> None:
    pool.drain(0.0, END_S)
    victim = pool.workers[0]
    victim.tell(fail)
    assert victim.join(END_S)
    assert pool.workers[0] is victim


def test_what_waits_at_a_listener_is_handed_over_up_to_a_queue_of_it(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    class Endless:
        """A listener that always has somebody waiting."""

        def accept(self, _: socket.socket, limit: int) -> list[tuple[int, str]]:
            asked.append(limit)
            pairs = [socket.socketpair() for _ in range(limit)]
            for ours, client in pairs:
                client.close()
                ours.setblocking(False)
            return [(ours.detach(), "127.0.0.1") for ours, _ in pairs]

    with listening() as closing, monkeypatch.context() as patches:
        patches.setattr(pool_module, "BACKLOG", 100)
        patches.setattr(pool.workers[0], "reactor", EndlessReactor(pool.workers[0], Endless()))
        pool.accept_rest(Listener(closing))
    assert BACKLOG > 100
    assert sum(asked) in range(100, 100 + 64)
    wait_until(lambda: pool.connection_count() == 0)


class EndlessReactor:
    """A worker's reactor but for how it accepts."""

    def __init__(self, worker: Worker, other: object) -> None:
        self._reactor = worker.reactor
        self.accept = other.accept  # type: ignore[attr-defined]

    def __getattr__(self, name: str) -> object:
        return getattr(self._reactor, name)


def test_what_waits_and_cannot_be_accepted_is_said(
    pool: Pool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Full:
        def accept(self, *_: object) -> None:
            raise OSError(errno.EMFILE, "Too many open files")

    with listening() as closing, monkeypatch.context() as patches:
        patches.setattr(pool.workers[0], "reactor", EndlessReactor(pool.workers[0], Full()))
        pool.accept_rest(Listener(closing))
    log = (tmp_path / "errors.txt").read_text()
    assert "connections that waited could not be accepted: Too many open files" in log


def test_where_all_have_ended_nothing_is_accepted(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    for worker in pool.workers:
        monkeypatch.setattr(worker, "has_ended", True)
    with listening() as closing:
        client = socket.create_connection(closing.getsockname())
        pool.accept_rest(Listener(closing))
        closing.accept()[0].close()  # it is still there
        client.close()


def test_start_that_fails_half_way_leaves_no_thread(
    side: backend.Backend, tmp_path: Path, listener: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = make_config(tmp_path)
    before, calls = threading.active_count(), 0
    original = Worker.start

    def second_fails(worker: Worker, listeners: list[Listener]) -> None:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise RuntimeError("can't start new thread")
        original(worker, listeners)

    with equipped(side, config, worker_count=3) as (equipment, site):
        pool = Pool(equipment)
        monkeypatch.setattr(Worker, "start", second_fails)
        with pytest.raises(RuntimeError, match="new thread"):
            pool.start(config, site, [Listener(listener)])
        pool.abandon()
        assert pool.workers == []
        assert pool.connection_count() == 0
        assert threading.active_count() == before
