"""What a worker waits for: its listeners, also when accepting rests meanwhile, and application processes."""

from __future__ import annotations

import errno
import logging
import math
import os
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from fastws.engine.accepting import PAUSE_S, Accepting, Channels
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


class Channel:
    """An application process that says so many things more."""

    def __init__(self, fd: int, left: int = 2) -> None:
        self.fd = fd
        self.left = left
        self.given_back: list[bool] = []

    def hear(self) -> bool:
        self.left -= 1
        return self.left > 0

    def give_back(self, *, for_good: bool) -> None:
        self.given_back.append(for_good)


@pytest.fixture
def channels(reactor: Reactor) -> Channels:
    return Channels(reactor, logging.getLogger("test"))  # type: ignore[arg-type]


def test_channel_is_heard_until_it_has_said_all(channels: Channels, reactor: Reactor) -> None:
    channel = Channel(7)
    channels.offer(channel)
    assert (channels.count, reactor.watched) == (1, {})
    channels.watch_offered()
    assert (channels.count, reactor.watched) == (1, {7: channel})
    channels.hear(channel)
    assert channel.given_back == []
    channels.hear(channel)
    assert (channels.count, reactor.watched) == (0, {})
    assert channel.given_back == [True]


def test_channels_of_a_worker_that_has_ended_are_for_others(channels: Channels) -> None:
    heard, offered, late = Channel(7), Channel(8), Channel(9)
    channels.offer(heard)
    channels.watch_offered()
    channels.offer(offered)
    channels.close()
    channels.offer(late)
    assert [each.given_back for each in (heard, offered, late)] == [[False]] * 3
    assert channels.count == 0


def test_channel_that_cannot_be_watched_is_given_back_for_good(
    channels: Channels, monkeypatch: pytest.MonkeyPatch, reactor: Reactor
) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(reactor, "add_listener", fail)
    channel = Channel(7)
    channels.offer(channel)
    channels.watch_offered()
    assert (channels.count, channel.given_back) == (0, [True])
