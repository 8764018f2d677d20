"""Plain sockets: what the process does with sockets of its own is nothing to those of clients."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from fastws.transport.plain import PlainTransport
from fastws.transport.preamble import PreambleTransport


@pytest.fixture(autouse=True)
def default_timeout() -> Iterator[None]:
    """Sockets that anything makes from now on have a timeout, as some applications ask for."""
    socket.setdefaulttimeout(3.0)
    yield
    socket.setdefaulttimeout(None)


def test_nothing_is_waited_for_where_sockets_have_a_timeout_by_default() -> None:
    client, ours = socket.socketpair()
    with client:
        transport = PlainTransport(ours.detach(), "unix:")
        with pytest.raises(BlockingIOError):
            transport.receive(1)
        block = b"x" * 65536
        while transport.send((block,), False) == len(block):
            pass
        with pytest.raises(BlockingIOError):
            transport.send((block,), False)
        transport.close()


def test_no_preamble_is_waited_for_either() -> None:
    client, ours = socket.socketpair()
    with client:
        transport = PreambleTransport(ours.detach())
        with pytest.raises(BlockingIOError):
            transport.receive(1)
        transport.close()
