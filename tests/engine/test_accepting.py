"""A worker's listeners: which are watched, also when accepting rests meanwhile."""

from __future__ import annotations

import errno
import logging
import math
import os
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from fastws.engine.accepting import PAUSE_S, Accepting
from fastws.seam import PLAIN, TLS
from fastws.transport.listener import Listener


class Reactor:
    """Knows which listeners it watches."""

    def __init__(self) -> None:
        self.watched: dict[int, Any] = {}

    def add_listener(self, fd: int, listener: object, _: int) -> None:
        self.watched[fd] = listener

    def remove_listener(self, fd: int) -> None:
        del self.watched[fd]


@pytest.fixture
def listeners() -> Iterator[list[Listener]]:
    made = [Listener(socket.socket()) for _ in range(3)]
    yield made
    for each in made:
        each.sock.close()


@pytest.fixture
def reactor() -> Reactor:
    return Reactor()


@pytest.fixture
def accepting(reactor: Reactor) -> Accepting:
    return Accepting(reactor, logging.getLogger("test"))  # type: ignore[arg-type]


def test_listeners_that_stay_are_watched_all_along(
    accepting: Accepting, reactor: Reactor, listeners: list[Listener]
) -> None:
    a, b, c = listeners
    accepting.watch([a, b])
    accepting.watch([b, c])
    assert list(reactor.watched.values()) == [b, c]


def test_listener_whose_manner_changes_is_watched_anew(
    accepting: Accepting, reactor: Reactor, listeners: list[Listener]
) -> None:
    sock = listeners[0].sock
    for manner in (PLAIN, TLS, PLAIN):
        accepting.watch([Listener(sock, manner)])
        assert list(reactor.watched.values()) == [Listener(sock, manner)]


def test_listeners_that_change_while_accepting_rests_are_watched_after_it(
    accepting: Accepting, reactor: Reactor, listeners: list[Listener]
) -> None:
    a, b, c = listeners
    accepting.watch([a, b])
    accepting.rest(OSError(errno.EMFILE, os.strerror(errno.EMFILE)), now=100.0)
    assert (reactor.watched, accepting.resume_at) == ({}, 100.0 + PAUSE_S)
    accepting.watch([b, c])
    assert reactor.watched == {}
    accepting.resume(100.0)
    assert list(reactor.watched.values()) == [b, c]
    assert accepting.resume_at == math.inf


def test_listener_that_cannot_be_watched_again_is_tried_again(
    accepting: Accepting, reactor: Reactor, listeners: list[Listener], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    accepting.watch(listeners[:1])
    accepting.rest(OSError(errno.EMFILE, os.strerror(errno.EMFILE)), now=100.0)
    with monkeypatch.context() as patches:
        patches.setattr(reactor, "add_listener", full)
        accepting.resume(101.0)
    assert (reactor.watched, accepting.resume_at) == ({}, 101.0 + PAUSE_S)
    accepting.resume(102.0)
    assert list(reactor.watched.values()) == listeners[:1]
