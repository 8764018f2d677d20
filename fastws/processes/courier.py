"""The courier: the one thread that waits for the spawners, for room to send, and for processes no worker hears."""

from __future__ import annotations

import logging
import selectors
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Protocol


class Errand(Protocol):
    """What the courier is for."""

    def is_over(self) -> bool:
        """Tell whether there is nothing more to wait for."""

    def prepare(self) -> None:
        """Say by ``Courier.expect`` which sockets have something to be sent."""

    def keep_time(self, now: float) -> float:
        """Do what is due; return when it is next to be called, in ``time.monotonic()`` seconds."""


class Courier:
    """Calls what waits for sockets, by its own thread. Any thread may call it, as far as nothing else is said."""

    def __init__(self, logger: logging.Logger, errand: Errand) -> None:
        self._log = logger
        self._errand = errand
        self._selector = selectors.DefaultSelector()
        self._wanted: dict[socket.socket, int] = {}  # of each socket that is watched
        self._woken, self._waker = socket.socketpair()
        self._woken.setblocking(False)
        self._waker.setblocking(False)
        self._look_at = 0.0  # when is looked at what is due
        self._is_closed = False
        self._thread = threading.Thread(target=self._run, name="courier", daemon=True)
        self.watch(self._woken, self._on_wake)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def watch(self, sock: socket.socket, on_event: Callable[[int], None]) -> None:
        """Call ``on_event`` with ``EVENT_READ`` and ``EVENT_WRITE`` of ``selectors`` when it may read or write."""
        self._selector.register(sock, selectors.EVENT_READ, on_event)
        self._wanted[sock] = selectors.EVENT_READ

    def expect(
        self, sock: socket.socket, on_event: Callable[[int], None], *, reads: bool, room: bool
    ) -> None:
        """Wait for what there is to read, for room to write, for both or nothing; for the courier's thread."""
        wanted = (selectors.EVENT_READ if reads else 0) | (selectors.EVENT_WRITE if room else 0)
        before = self._wanted.get(sock, 0)
        if wanted == before:
            return
        if not wanted:
            self.leave(sock)
        elif not before:
            self._selector.register(sock, wanted, on_event)
        else:
            self._selector.modify(sock, wanted, on_event)
        self._wanted[sock] = wanted

    def leave(self, sock: socket.socket) -> None:
        """Watch it no more."""
        if self._wanted.pop(sock, 0):
            self._selector.unregister(sock)

    def wake(self) -> None:
        """Have the errand looked at, soon."""
        with suppress(OSError):
            self._waker.send(b"x")

    def close(self, timeout_s: float) -> None:
        """Wait up to ``timeout_s`` for the errand to be over, and let go of everything."""
        if self._thread.ident is not None:
            self._thread.join(timeout_s)
            self._is_closed = True
            self.wake()
            self._thread.join()
        self._selector.close()
        self._woken.close()
        self._waker.close()

    def _on_wake(self, _: int) -> None:
        self._look_at = 0.0
        with suppress(OSError):
            self._woken.recv(4096)

    def _run(self) -> None:
        while not (self._is_closed or self._errand.is_over()):
            try:
                self._turn()
            except Exception:
                self._log.exception("unexpected exception; the courier goes on")
                time.sleep(0.01)

    def _turn(self) -> None:
        self._errand.prepare()
        for key, events in self._selector.select(max(0.0, self._look_at - time.monotonic())):
            key.data(events)
        now = time.monotonic()
        if now >= self._look_at:
            self._look_at = self._errand.keep_time(now)
