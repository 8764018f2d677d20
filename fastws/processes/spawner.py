"""The spawner, as the server has it: a program of its own, told to start processes and to send them signals."""

from __future__ import annotations

import os
import socket
import sys
from contextlib import suppress
from typing import Any

from . import wire

END_S = 2.0
"""How long the spawner may take to end."""


class Spawner:
    """The spawner, as the server has it. Raises ``OSError`` if it cannot be started."""

    def __init__(self) -> None:
        import subprocess  # applications in processes alone need it

        self.control, its = socket.socketpair()
        for end in (self.control, its):
            end.setblocking(True)  # whatever socket.setdefaulttimeout was told
        self.reader = wire.Reader(self.control)
        self.is_gone = False
        """Whether it has ended by itself."""
        root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
        program = (
            f"import sys; sys.path.insert(0, {root!r});"
            f" from {__package__}.forks import main; main({its.fileno()})"
        )
        try:
            self._program = subprocess.Popen(
                [sys.executable, "-c", program],
                stdin=subprocess.DEVNULL,
                pass_fds=(its.fileno(),),
                start_new_session=True,  # so that Ctrl-C at a terminal is for the server alone
            )
        finally:
            its.close()

    def receive(self) -> bool:
        """Read what it says; False if it is gone."""
        try:
            self.is_gone = not self.reader.receive()
        except OSError:
            self.is_gone = True
        return not self.is_gone

    def spawn(self, number: int, settings: dict[str, Any], *fds: int) -> None:
        """Have it fork process ``number``, which gets these descriptors. Raises ``OSError``."""
        data = memoryview(wire.pack_json(number, wire.SPAWN, settings))
        sent = wire.send(self.control, data, fds)
        self.control.sendall(data[sent:])

    def kill(self, number: int, signal_number: int) -> None:
        """Have it send a signal to process ``number``, if that has not ended."""
        with suppress(OSError):
            self.control.sendall(wire.pack(number, wire.KILL, b"%d" % signal_number))

    def end(self) -> None:
        """End it by force: it hears nothing while it imports."""
        self._program.kill()

    def close(self) -> None:
        """End it, and what it has forked."""
        with suppress(OSError):
            self.control.shutdown(socket.SHUT_RDWR)
        self.control.close()
        try:
            self._program.wait(END_S)
        except Exception:  # subprocess.TimeoutExpired
            self._program.kill()
            self._program.wait()
