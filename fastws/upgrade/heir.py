"""The new process's side of an upgrade: it takes the listening sockets over, and says how its start went."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from ..transport.listener import Address, inherited
from . import VARIABLE
from .channel import DONE, ESTATE, FAILED, READY, Channel


class Heir:
    """This process as the one that is to take another one's place."""

    def __init__(self, channel: Channel, listeners: dict[Address, socket.socket]) -> None:
        self._channel = channel
        self._is_waited_for = True
        self.listeners = listeners
        """The listening sockets that the process before serves too, by their addresses."""

    def fail(self, reason: str) -> None:
        """Say why this process will not serve. Does nothing once it does."""
        if self._is_waited_for:
            self._channel.send(FAILED, reason)
            self._channel.close()

    def take_place(self, addresses: list[Address]) -> None:
        """Say that all of ``addresses`` are served; return when this process is the one that counts.

        It is too where the process before has died.
        """
        self._channel.send(READY, addresses)
        self._channel.receive()  # ``GO``, or the end
        self._is_waited_for = False

    def finish(self) -> None:
        """Say that the process before may go."""
        self._channel.send(DONE)
        self._channel.close()


@contextmanager
def succeeding() -> Iterator[Heir | None]:
    """Give what another process has left for this one; None where there is no such process.

    What the block raises is said to it.
    """
    heir = _find()
    try:
        yield heir
    except BaseException as error:
        if heir is not None:
            heir.fail(str(error) or type(error).__name__)
        raise


def _find() -> Heir | None:
    text = os.environ.pop(VARIABLE, "")
    if not text.isascii() or not text.isdigit():
        return None
    try:
        channel = Channel(socket.socket(fileno=int(text)))
    except OSError:
        return None  # the variable has outlived what it meant
    os.set_inheritable(int(text), False)
    kind, estate = channel.receive()
    if kind != ESTATE:
        return None
    # So far, what was printed went to the process before, for its log: the only trace of code that does not start.
    with suppress(OSError):
        os.dup2(estate["stderr"], 2)
    os.close(estate["stderr"])
    if "LISTEN_FDS" in os.environ:
        os.environ["LISTEN_PID"] = str(os.getpid())  # for the programs that this one starts
    return Heir(
        channel, {(host, port): inherited(host, fd, file) for host, port, fd, file in estate["listeners"]}
    )
