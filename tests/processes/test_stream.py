"""What an application process sends: all of it has left before the channel is closed."""

from __future__ import annotations

import socket
import threading
from typing import Any

from rawhttp import TIMEOUT_S

from fastws.processes.stream import Outlet


class Pausing:
    """A socket; a thread that is about to send pauses."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self.has_begun, self.may_go_on = threading.Event(), threading.Event()

    def sendall(self, data: bytes) -> None:
        self.has_begun.set()
        self.may_go_on.wait(TIMEOUT_S)
        self._sock.sendall(data)


def test_end_waits_for_what_another_thread_is_about_to_send() -> None:
    """The main thread closes the channel once no request is left, and the last answer may be on its way."""
    ours, theirs = socket.socketpair()
    pausing: Any = Pausing(ours)
    outlet = Outlet(pausing)
    outlet.hold(b"the last answer")
    sending = threading.Thread(target=outlet.flush)
    ending = threading.Thread(target=outlet.finish)
    with ours, theirs:
        theirs.settimeout(TIMEOUT_S)
        sending.start()
        assert pausing.has_begun.wait(TIMEOUT_S)
        ending.start()
        ending.join(0.1)
        assert ending.is_alive()
        pausing.may_go_on.set()
        ending.join(TIMEOUT_S)
        assert not ending.is_alive()
        sending.join(TIMEOUT_S)
        assert theirs.recv(100) == b"the last answer"
