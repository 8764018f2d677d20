"""The queue of passwords to check: order, bounds, and what it does for whom."""

from __future__ import annotations

import logging
import random
import threading
from collections.abc import Callable, Iterator

import pytest

from fastws.http.errors import LISTING, PASSWORD, UndecidedError
from fastws.work import fair_queue as checks


class Queue:
    """Checks whose thread never starts: jobs are done when the test says so."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(checks.FairQueue, "_announce", lambda _: None)
        self.checks = checks.FairQueue(logging.getLogger("test"), PASSWORD)
        self.computed: list[str] = []
        self.told: list[str] = []

    def submit(self, peer: str, name: str, tell: Callable[[], None] | None = None) -> bool:
        undecided = UndecidedError(name.encode(), lambda: self.computed.append(name), PASSWORD)
        return self.checks.submit(undecided, peer, tell or (lambda: self.told.append(name)))

    def work(self) -> None:
        while self.checks._has_work():
            self.checks._work()
        assert self.checks.pending == 0


@pytest.fixture
def queue(monkeypatch: pytest.MonkeyPatch) -> Iterator[Queue]:
    made = Queue(monkeypatch)
    yield made
    made.checks.close()


def test_addresses_take_turns(queue: Queue) -> None:
    for peer, name in ("a", "a1"), ("a", "a2"), ("a", "a3"), ("b", "b1"), ("c", "c1"), ("b", "b2"):
        assert queue.submit(peer, name)
    queue.work()
    assert queue.computed == queue.told == ["a1", "b1", "c1", "a2", "b2", "a3"]


def test_equal_checks_are_one_and_all_are_told_once(queue: Queue) -> None:
    told: list[str] = []
    same = lambda: told.append("same")  # noqa: E731
    for tell in (same, lambda: told.append("other"), same):
        assert queue.submit("a", "name", tell)
    assert queue.checks.pending == 1
    queue.work()
    assert (queue.computed, told) == (["name"], ["same", "other"])


def test_queue_is_bounded_for_one_address(queue: Queue) -> None:
    accepted = [queue.submit("a", f"a{number}") for number in range(checks.QUEUE_JOBS + 10)]
    assert accepted.count(True) == checks.QUEUE_JOBS + 1  # the first is about to be computed
    assert queue.submit("a", "a0")  # which is there
    queue.work()
    assert queue.submit("a", "again")


def test_last_of_the_greediest_makes_room(queue: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "QUEUE_JOBS", 3)
    for name in ("a1", "a2", "a3", "a4"):
        assert queue.submit("a", name)
    assert queue.submit("b", "b1")
    assert queue.told == ["a4"]  # it may ask again
    assert not queue.submit("a", "a4")
    assert queue.submit("c", "c1")
    assert queue.told == ["a4", "a3"]
    assert not queue.submit("d", "d1") or queue.told[-1] == "a2"
    queue.work()
    assert queue.computed[0] == "a1"
    assert {"b1", "c1"} <= set(queue.computed)


def test_who_was_dropped_and_asks_again_does_not_drive_out_others_for_ever(
    queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checks, "QUEUE_JOBS", 8)
    chance = random.Random(1)
    steps = 0

    def ask(peer: str, name: str) -> None:
        nonlocal steps
        steps += 1
        queue.submit(peer, name, lambda: again.append((peer, name)))

    again: list[tuple[str, str]] = []
    for number in range(200):
        peer = chance.choice("abcdefgh")
        ask(peer, f"{peer}{number}")
        while again:
            ask(*again.pop())
    assert steps < 2000
    assert queue.checks.pending == 9


def test_nothing_is_taken_once_closed(queue: Queue) -> None:
    assert queue.submit("a", "a1")
    queue.checks.close()
    assert queue.checks.pending == 0
    assert not queue.submit("a", "a2")
    assert (queue.computed, queue.told) == ([], [])


def test_no_password_waits_for_a_listing() -> None:
    queues = checks.FairQueues(logging.getLogger("test"))
    gate, told = threading.Event(), threading.Event()
    assert queues.submit(UndecidedError(b"listing", lambda: bool(gate.wait(20)), LISTING), "a", lambda: None)
    assert queues.submit(UndecidedError(b"password", lambda: None, PASSWORD), "a", told.set)
    assert told.wait(20)
    assert queues.pending >= 1  # the listing is still in progress
    gate.set()
    queues.close()
    assert not queues.submit(UndecidedError(b"other", lambda: None, LISTING), "a", lambda: None)
