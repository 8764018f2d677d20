"""What a reactor does that keeps no connection, sends no file and replays nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .http.messages import Identity
from .seam import PLAIN, READ, Accepted, Published, ReplayCounters, TLSContext, TLSCounters, Transport


class ReplaysNothing:
    """That part of ``backend.Reactor``. Everything is left to Python."""

    replays = False
    send_small = None

    def secure(self, context: TLSContext | None) -> bool:
        """Return False: TLS is a transport's."""
        return False

    def secured(self, fd: int, peer: str) -> Transport:
        """Raise ``NotImplementedError``: no context was taken."""
        raise NotImplementedError

    def tls_counters(self) -> TLSCounters:
        """Return zeros."""
        return TLSCounters()

    def keep(self, fd: int, peer: str, manner: int = PLAIN) -> bool:
        """Return False: the caller must add every connection."""
        return False

    @property
    def kept(self) -> int:
        """Return 0."""
        return 0

    def take_kept(self) -> Sequence[Accepted]:
        """Return none."""
        return ()

    def transferred(self, fd: int) -> int:
        """Return 0."""
        return 0

    def end_transfer(self, fd: int) -> int:
        """Return 0."""
        return 0

    def has(self, path: str, codings: int, depends: Sequence[tuple[str, Identity]], content: object) -> bool:
        """Return False."""
        return False

    def publish(self, published: Published) -> None:
        """Do nothing."""

    def learn_codings(self, accept_encoding: str, codings: int) -> None:
        """Do nothing."""

    def replay(self, fd: int, data: bytes, asked_at: float = 0) -> tuple[int, Any]:
        """Return all that came: Python must decide."""
        return READ, data

    def drain(self) -> None:
        """Do nothing."""

    def counters(self) -> ReplayCounters:
        """Return zeros."""
        return ReplayCounters()
