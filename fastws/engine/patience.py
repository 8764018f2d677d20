"""How long a connection's states may last, and how a slow client gains time by what moves."""

from __future__ import annotations

import time
from typing import Any

from ..seam import Transport
from . import states
from .shared import Shared
from .states import HEAD, IDLE, LENT

SHAKING_HANDS = ("", "")
"""What ``Transport.secured`` returns before the end of a TLS handshake."""


class Patience:
    """With one connection, whose descriptor is ``fd``; ``transport`` is any but a plain one.

    Times are ``time.monotonic()`` seconds.
    """

    __slots__ = ("_fd", "_mark", "_shared", "_transport", "_until", "grace_until", "since")

    def __init__(self, shared: Shared[Any], fd: int, transport: Transport | None) -> None:
        self._shared = shared
        self._fd = fd
        self._transport = transport
        self.since = 0.0  # when the present state began; 0: never yet
        self.grace_until = 0.0  # for a last request, while draining
        self._until = 0.0  # how long its transfer may go on by what it has moved; 0: nobody has looked yet
        self._mark: int | None = None  # the bytes moved until that look, None: not known

    def begin(self, mark: int | None = 0) -> None:
        """Begin a state, in which ``mark`` bytes have moved; None: that is not known."""
        self.since, self._until, self._mark = time.monotonic(), 0.0, mark

    @property
    def _is_shaking_hands(self) -> bool:
        return self._transport is not None and self._transport.secured() == SHAKING_HANDS

    def deadline(self, state: int) -> float:
        """Return when ``state``, which is the present one, has lasted too long."""
        shared = self._shared
        if state == IDLE:
            if self.grace_until:
                return self.grace_until
            if self._is_shaking_hands:
                return self.since + shared.request_timeout_s
            return max(self.since, shared.reactor.last_activity(self._fd)) + shared.keepalive_time_s
        if state in states.LONGEST_S:
            return self.since + states.LONGEST_S[state]
        if state == HEAD:
            return self.since + shared.request_timeout_s
        if state == LENT:
            return self.since + shared.application_timeout_s
        return self._until or self.since + shared.stall_time_s / states.FIRST_LOOK

    def next_look(self, deadline: float, now: float) -> float:
        """Return when to look again at a state whose ``deadline`` is not over."""
        if self._is_shaking_hands:  # it has KeepaliveTime from the end of that on
            return min(deadline, now + self._shared.keepalive_time_s)
        return deadline

    def reason(self) -> str:
        """Return why a connection is closed that was idle until its deadline."""
        if self.grace_until:
            return "the server is stopping"
        return "RequestTimeout, in the TLS handshake" if self._is_shaking_hands else "KeepaliveTime"

    def excuse(self, state: int, overslept_s: float) -> None:
        """Let the present ``state`` last so much longer: the server could not look before."""
        if state == IDLE:
            self.since = self._shared.reactor.last_activity(self._fd)
        self.since += overslept_s
        if self._until:
            self._until += overslept_s
        if self.grace_until:
            self.grace_until += overslept_s

    def extend(self, moved: int, deadline: float, now: float) -> float:
        """Return until when a transfer may go on whose ``deadline`` is over, having moved ``moved`` bytes.

        Each byte since the last look gives the time that it takes at MinRate; no more than StallTime is ever in
        store. Bytes move in steps: a receive window that was closed opens by a 16th of the receive buffer, and a
        Unix-domain socket frees whole buffers. What of an answer had moved when it began is not known, for the
        answers before it may still be on their way; so it gets all of StallTime at the first look.
        """
        rate, most_s = self._shared.min_rate_bytes_s, self._shared.stall_time_s
        gained_s = most_s
        if self._mark is not None and rate:
            gained_s = max(0, moved - self._mark) / rate
        self._mark = moved if self._mark is None else max(moved, self._mark)
        self._until = min(deadline + gained_s, now + most_s) if rate else now + most_s
        return self._until
