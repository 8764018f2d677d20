"""A worker's listeners, and the pause in accepting when the process has no descriptor left."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence

from ..backend import Reactor
from ..transport.listener import Listener

PAUSE_S = 0.1
"""How long accepting rests."""

SAY_S = 10.0
"""How often it is said that it does."""


class Accepting:
    """One worker's listeners. Times are ``time.monotonic()`` seconds."""

    def __init__(self, reactor: Reactor, logger: logging.Logger) -> None:
        self._reactor = reactor
        self._logger = logger
        self._listeners: tuple[Listener, ...] = ()
        self._watched: list[Listener] = []  # those of them that the reactor reports
        self._say_again_at = 0.0
        self.resume_at = math.inf
        """When ``resume`` is due; infinity while accepting does not rest."""

    def watch(self, listeners: Sequence[Listener]) -> None:
        """Accept from these listeners only, from now on, or once the pause is over.

        Raises ``OSError`` if one cannot be watched; those before it are.
        """
        self._listeners = tuple(listeners)
        if self.resume_at == math.inf:
            self._watch_only(self._listeners)

    def _watch_only(self, listeners: tuple[Listener, ...]) -> None:
        for listener in [each for each in self._watched if each not in listeners]:
            self._watched.remove(listener)
            self._reactor.remove_listener(listener.sock.fileno())
        for listener in listeners:
            if listener not in self._watched:
                self._reactor.add_listener(listener.sock.fileno(), listener, listener.manner)
                self._watched.append(listener)

    def rest(self, error: Exception, now: float) -> None:
        """Pause briefly: a listener stays readable, so waiting for it would spin."""
        if now >= self._say_again_at:
            self._say_again_at = now + SAY_S
            self._logger.error("accepting rests: %s", getattr(error, "strerror", None) or repr(error))
        self._watch_only(())
        self.resume_at = now + PAUSE_S

    def resume(self, now: float) -> None:
        """Resume accepting; rest again if a listener cannot be watched."""
        self.resume_at = math.inf
        try:
            self._watch_only(self._listeners)
        except OSError as error:
            self.rest(error, now)
