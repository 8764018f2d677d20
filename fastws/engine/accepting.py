"""A worker's listeners, and the pause in accepting when the process has no descriptor left."""

from __future__ import annotations

import logging
import math
import socket
from collections.abc import Sequence

from ..backend import Reactor

PAUSE_S = 0.1
"""How long accepting rests."""

SAY_S = 10.0
"""How often it is said that it does."""


class Accepting:
    """One worker's listeners. Times are ``time.monotonic()`` seconds."""

    def __init__(self, reactor: Reactor, logger: logging.Logger) -> None:
        self._reactor = reactor
        self._logger = logger
        self._listeners: tuple[socket.socket, ...] = ()
        self._say_again_at = 0.0
        self.resume_at = math.inf
        """When ``resume`` is due; infinity while accepting does not rest."""

    def watch(self, listeners: Sequence[socket.socket]) -> None:
        """Accept from these listeners only, from now on."""
        if self.resume_at == math.inf:
            for listener in self._listeners:
                if listener not in listeners:
                    self._reactor.remove_listener(listener.fileno())
            for listener in listeners:
                if listener not in self._listeners:
                    self._reactor.add_listener(listener.fileno(), listener)
        self._listeners = tuple(listeners)

    def rest(self, error: OSError, now: float) -> None:
        """Pause briefly: a listener stays readable, so waiting for it would spin."""
        if now >= self._say_again_at:
            self._say_again_at = now + SAY_S
            self._logger.error("accepting rests: %s", error.strerror)
        listeners = self._listeners
        self.watch(())
        self._listeners, self.resume_at = listeners, now + PAUSE_S

    def resume(self) -> None:
        """Resume accepting."""
        listeners, self._listeners, self.resume_at = self._listeners, (), math.inf
        self.watch(listeners)
