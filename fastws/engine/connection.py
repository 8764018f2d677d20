"""The life of one connection: its descriptor and transport, its deadlines, what it sends, how it ends.

What is said on it is its speaker's business. The reactor reads; a connection writes until the transport takes no
more, and then waits for ``on_write``. Nothing here blocks.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from .. import portable, seam
from ..http.errors import HTTPError
from ..http.messages import FileSlice
from ..seam import FileFailedError, PartialSend, Transport
from ..transport.transmission import FileShrankError, Transmission, why_cut
from . import states
from .patience import Patience
from .shared import Shared
from .speaker import Speaker
from .states import CLOSED, IDLE, LINGERING, SENDING
from .timers import TICK_S


class Connection:
    """One client's connection. It owns the descriptor; only its worker's thread touches it.

    A plain transport is made when Python has something to send: a connection whose requests are all answered by
    the reactor never needs one. ``transport`` is any other.
    """

    __slots__ = (
        "_lingered", "_patience", "_transmission", "_transport", "fd", "peer", "shared", "speaker", "state",
        "tick",
    )  # fmt: skip

    speaker: Speaker
    """Set by the admission, and deleted at the end: the two refer to each other."""

    def __init__(
        self, shared: Shared[Connection], fd: int, peer: str, transport: Transport | None = None
    ) -> None:
        self.shared = shared
        self.fd = fd
        self.peer = peer
        self.state = IDLE
        self.tick = 0
        self._transport = transport
        self._transmission: Transmission | None = None  # while sending
        self._patience = Patience(shared, fd, transport)
        self._lingered = 0  # bytes that came meanwhile

    @property
    def transport(self) -> Transport:
        """The way of its bytes to the client; it owns the descriptor from now on."""
        if self._transport is None:
            self._transport = self.shared.plain(self.fd, self.peer)
        return self._transport

    def handle(self, handler: Callable[[Connection, Any], None], data: Any = None) -> None:
        """Call a method of this connection, from outside: an unexpected exception ends this one and no other."""
        if self.state == CLOSED:
            return  # by an event before this one in the same turn
        try:
            handler(self, data)
        except Exception:
            self.shared.logger.exception("unexpected exception; the connection to %s is closed", self.peer)
            self.abandon()

    @property
    def secured(self) -> tuple[str, str] | None:
        """The version of TLS and the suite, empty before the end of the handshake; None without TLS."""
        return None if self._transport is None else self._transport.secured()

    # Handlers; ``worker.EVENTS`` says which are called at the reactor's events

    def on_read(self, data: bytes) -> None:
        """Take bytes from the client; none: it will send no more."""
        if not data:
            # A client that half-closes has had all its complete requests answered by now.
            self.close()
        elif self.state == LINGERING:
            self._lingered += len(data)
            if self._lingered > seam.LINGER_BYTES:
                self.close()
        else:
            self.speaker.on_read(data)

    def on_write(self, _: None = None) -> None:
        """Continue sending."""
        transmission = self._transmission
        assert transmission is not None
        transmission.skip(self.shared.reactor.end_transfer(self.fd))
        if self._send_on(transmission):
            self.speaker.on_sent()

    def on_done(self, _: bytes) -> None:
        """End after a replayed response. Even a client that asked to close may still be sending."""
        self.linger()

    def on_clear(self, _: None = None) -> None:
        """Refuse plain HTTP where TLS is spoken, so that the client can read why."""
        self.speaker.refuse(
            HTTPError(400, "This port speaks HTTPS; the request came in plain HTTP.", close=True)
        )

    def on_partial(self, partial: PartialSend) -> None:
        """Finish a response that the reactor began to replay."""
        self.speaker.on_partial(partial)

    def on_turn(self, _: None = None) -> None:
        """Go on: it is this connection's turn again."""
        self.speaker.advance()

    def on_resume(self, _: None = None) -> None:
        """Go on after a pause, if it has not ended otherwise."""
        if self.state in states.PAUSED:
            self.speaker.advance()

    def on_begin(self, _: None = None) -> None:
        """Wait for the first request."""
        shared, patience = self.shared, self._patience
        patience.begin()
        if shared.is_draining:
            self.drain(shared.grace_s)
        else:
            shared.timers.schedule(self, patience.next_look(patience.deadline(IDLE), patience.since))
        self.speaker.advance()

    def on_refuse(self, error: HTTPError) -> None:
        """Answer with ``error`` and end: the connection is not let in."""
        self.speaker.refuse(error)

    # What a speaker has its connection do

    def enter(self, state: int) -> None:
        """Begin ``state``, and the time that it may last."""
        self.state = state
        self._patience.begin()

    def pause(self, state: int) -> None:
        """Begin ``state``, in which nothing is read, until another thread ends it or it has lasted too long."""
        self.state = state
        self._patience.begin()
        self.wait(seam.NOTHING)

    def wait(self, interest: int) -> None:
        """Wait for what ``interest`` says (``seam``), for as long as the present state may last."""
        shared = self.shared
        shared.reactor.set_interest(self.fd, interest)
        shared.timers.schedule(self, self._patience.deadline(self.state))

    def rest(self, interest: int = seam.IDLE) -> None:
        """Wait for the next request, of which nothing has come; ``INPUT`` where something before it has."""
        shared, patience = self.shared, self._patience
        self.state = IDLE
        patience.begin()
        shared.reactor.set_interest(self.fd, interest)
        if shared.is_draining:
            self.drain(shared.grace_s)
        else:
            shared.timers.schedule(self, patience.since + shared.keepalive_time_s)

    def give_way(self) -> None:
        """Let others have their turn; the speaker's ``advance`` is called when it is this one's again.

        Nothing is read meanwhile.
        """
        self.shared.reactor.set_interest(self.fd, seam.NOTHING)
        self.shared.turns.append(self)

    def send(self, transmission: Transmission) -> bool:
        """Send a message; return whether all of it is sent.

        If not, the rest follows as there is room and ``Speaker.on_sent`` is called after it, or the connection is
        broken and closed by now.
        """
        self._transmission = transmission
        self.state = SENDING
        return self._send_on(transmission, is_begin=True)

    def _send_on(self, transmission: Transmission, *, is_begin: bool = False) -> bool:
        try:
            if not transmission.send(self._transport or self.transport):
                if is_begin:
                    self._patience.begin(None)
                self._wait_for_room(transmission.rest)
                return False
        except (FileShrankError, FileFailedError, OSError) as error:
            if why := why_cut(error):
                self.shared.logger.error("%s; the connection to %s is closed", why, self.peer)
            self.close()
            return False
        self._transmission = None
        return True

    def _wait_for_room(self, rest: FileSlice | None) -> None:
        if rest is None:
            self.wait(seam.OUTPUT)
        else:
            self.shared.reactor.transfer(self.fd, rest.file.fd, rest.offset, rest.length)
            self.shared.timers.schedule(self, self._patience.deadline(self.state))

    def body_sent(self, transmission: Transmission) -> int:
        """Return how many bytes of the body are sent, by the reactor too."""
        return transmission.body_sent + self.shared.reactor.transferred(self.fd)

    # Deadlines

    def on_timeout(self, now: float) -> None:
        """Check the deadline, and re-arm the timer if it fired early or for an earlier state."""
        deadline, transmission = self._patience.deadline(self.state), self._transmission
        if now < deadline:
            self.shared.timers.schedule(self, self._patience.next_look(deadline, now))
        elif self.shared.overslept_s:
            self._patience.excuse(self.state, self.shared.overslept_s)
            self.shared.timers.schedule(self, deadline + self.shared.overslept_s)
        elif self.state in states.READING and self._is_about_to_be_read():
            self.shared.timers.schedule(self, now + TICK_S)  # it came in time, and is about to be read
        elif self.state == IDLE:
            self.shared.logger.info("%s: idle connection closed: %s", self.peer, self._patience.reason())
            self.close()
        elif self.state == LINGERING:
            self.close()
        elif transmission is None:
            self.speaker.on_timeout(now)
        # What is sent counts when the client's side has it: the kernel takes megabytes ahead of a slow reader.
        elif not self.keeps_up(self.body_sent(transmission) - self.transport.unacknowledged(), now):
            self.shared.logger.info("%s: connection closed, the client reads too slowly", self.peer)
            self.close()

    def _is_about_to_be_read(self) -> bool:
        """Tell whether something has come. While a client does not take what it was sent, nothing is read."""
        if self._transport is not None:
            try:
                self._transport.send((), False)
            except BlockingIOError:
                return False
            except OSError:
                pass  # there is nothing to be sent any more
        return portable.is_readable(self.fd)

    def keeps_up(self, moved: int, now: float) -> bool:
        """Tell whether a transfer whose time is over may go on, having moved ``moved`` bytes since its begin."""
        until = self._patience.extend(moved, self._patience.deadline(self.state), now)
        if until <= now:
            return False
        self.shared.timers.schedule(self, until)
        return True

    # The end

    def drain(self, grace_s: float) -> None:
        """The server is ending: a connection without a request has ``grace_s`` seconds to send a last one."""
        if self.state == IDLE:
            self._patience.grace_until = time.monotonic() + grace_s
            self.shared.timers.schedule(self, self._patience.grace_until)

    def linger(self) -> None:
        """Tell the client that no more comes, and read on for a while.

        Closing a socket with unread input sends a reset, which could destroy the response before the client
        reads it (RFC 9112 section 9.6).
        """
        try:
            self.transport.shut()
        except OSError:
            self.close()
            return
        self.enter(LINGERING)
        self.wait(seam.INPUT)

    def abandon(self) -> None:
        """Close; what fails in that is logged, and ends nothing else."""
        try:
            self.close()
        except Exception:
            self.shared.logger.exception(
                "unexpected exception while the connection to %s was closed", self.peer
            )

    def close(self, _: None = None) -> None:
        """End the connection now, in any state; a second call does nothing."""
        if self.state == CLOSED:
            return
        self.state = CLOSED
        try:
            self.speaker.on_close()
        finally:
            del self.speaker
            try:
                self.shared.forget(self)
            finally:
                if self._transport is None:
                    portable.close_socket(self.fd)
                else:
                    self._transport.close()
