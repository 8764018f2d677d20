"""The seam between a connection and the version of HTTP that is spoken on it."""

from __future__ import annotations

from typing import Protocol

from ..http.errors import HTTPError
from ..seam import PartialSend


class Speaker(Protocol):
    """One version of HTTP on one connection: bytes become requests, and responses become bytes.

    A speaker is made with its connection and calls the connection's ``rest``, ``enter``, ``wait``, ``give_way``,
    ``send``, ``linger`` and ``close``; the connection calls what is below, on its worker's thread. The connection
    owns the descriptor, the transport, the deadline of the present state and what is being sent; the speaker owns
    the bytes it has not yet read, and its requests and answers, one or several at a time. Nothing blocks. What
    another thread does for a request (check a password, run an application) goes on without the speaker: it
    enters a state of ``states.PAUSED``, which has a deadline, and ``advance`` is called after ``Shared.resume``.
    """

    def on_read(self, data: bytes) -> None:
        """Take bytes of the client, at least one. ``Connection.wait`` says when more of them are read."""

    def on_partial(self, partial: PartialSend) -> None:
        """Finish an answer that the reactor began to replay."""

    def on_sent(self) -> None:
        """Go on after a message of which ``Connection.send`` left a part to be sent later; now all of it is."""

    def advance(self) -> None:
        """Go on: the connection begins or has its next turn, or another thread has ended a pause."""

    def on_timeout(self, now: float) -> None:
        """Answer or close: the present state, neither idle nor sending, has lasted until its deadline.

        ``now`` is in ``time.monotonic()`` seconds. ``Connection.keeps_up`` gives more time to what moves.
        """

    def refuse(self, error: HTTPError) -> None:
        """Answer with ``error`` what is in progress or still to come; then the connection ends."""

    def on_close(self) -> None:
        """Let go of everything: the connection ends. An answer in progress is recorded with what was sent."""
