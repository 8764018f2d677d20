"""What a worker waits for besides its connections: listeners, with pauses, and application processes."""

from __future__ import annotations

import collections
import logging
import math
from collections.abc import Sequence

from ..application.channel import Channel
from ..backend import Reactor
from ..seam import CHANNEL
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


class Channels:
    """The application processes that one worker hears. Any thread may ``offer`` one."""

    def __init__(self, reactor: Reactor, logger: logging.Logger) -> None:
        self._reactor = reactor
        self._logger = logger
        self._offered: collections.deque[Channel] = collections.deque()
        self._heard: set[Channel] = set()
        self._is_closed = False

    @property
    def count(self) -> int:
        """How many there are or are about to be."""
        return len(self._heard) + len(self._offered)

    def offer(self, channel: Channel) -> None:
        """Have ``channel`` heard once the worker calls ``watch_offered``."""
        self._offered.append(channel)
        if self._is_closed:  # since this worker was chosen
            self.close()

    def watch_offered(self) -> None:
        """Wait for what was offered."""
        while self._offered:
            channel = self._offered.popleft()
            try:
                self._reactor.add_listener(channel.fd, channel, CHANNEL)
            except OSError as error:
                self._logger.error("an application process is heard by the courier: %s", error.strerror)
                channel.give_back(for_good=True)
            else:
                self._heard.add(channel)

    def hear(self, channel: Channel) -> None:
        """Take what has come by ``channel``."""
        if not channel.hear():
            self._reactor.remove_listener(channel.fd)
            self._heard.discard(channel)
            channel.give_back(for_good=True)

    def close(self) -> None:
        """Give all of them back: the worker has ended. Another thread may be doing the same."""
        self._is_closed = True
        for channels in (self._offered, self._heard):
            while channels:
                try:
                    channel = channels.pop()
                except (IndexError, KeyError):
                    break
                channel.give_back(for_good=False)
