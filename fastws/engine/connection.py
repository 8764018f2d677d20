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
from ..transport.plain import PlainTransport
from ..transport.transmission import FileShrankError, Transmission
from . import states
from .shared import Shared
from .speaker import Speaker
from .states import CLOSED, HEAD, IDLE, LENT, LINGERING, SENDING
from .timers import TICK_S

SHAKING_HANDS = ("", "")
"""What ``secured`` is before the end of a TLS handshake."""


class Connection:
    """One client's connection. It owns the descriptor; only its worker's thread touches it.

    A plain transport is made when Python has something to send: a connection whose requests are all answered by
    the reactor never needs one. ``transport`` is any other.
    """

    __slots__ = (
        "_grace_until", "_lingered", "_mark", "_since", "_transmission", "_transport", "_until", "fd", "peer",
        "shared", "speaker", "state", "tick",
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
        self._since = 0.0  # when the present state began; 0: never yet
        self._until = 0.0  # how long its transfer may go on by what it has moved; 0: nobody has looked yet
        self._mark: int | None = None  # the bytes moved until that look, None: not known
        self._lingered = 0  # bytes that came meanwhile
        self._grace_until = 0.0  # set while draining

    @property
    def transport(self) -> Transport:
        """The way of its bytes to the client; it owns the descriptor from now on."""
        if self._transport is None:
            self._transport = PlainTransport(self.fd, self.peer, by_sendfile=self.shared.by_sendfile)
        return self._transport

    def handle(self, handler: Callable[[Connection, Any], None], data: Any = None) -> None:
        """Call a method of this connection, from outside: an unexpected exception ends this one and no other."""
        if self.state == CLOSED:
            return  # by an event before this one in the same turn
        try:
            self.shared.clock.tick()
            handler(self, data)
        except Exception:
            self.shared.logger.exception("unexpected exception; the connection to %s is closed", self.peer)
            self.abandon()

    @property
    def secured(self) -> tuple[str, str] | None:
        """The version of TLS and the suite, empty before the end of the handshake; None without TLS."""
        return None if self._transport is None else self._transport.secured()

    # Handlers; EVENTS says which are called at the reactor's events

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
        shared = self.shared
        if shared.is_draining:
            self.drain(shared.grace_s)
        else:
            if self._transport is not None:
                self._since = time.monotonic()  # a handshake may begin
            shared.timers.schedule(self, min(self._deadline(), time.monotonic() + shared.keepalive_time_s))
        self.speaker.advance()

    def on_refuse(self, error: HTTPError) -> None:
        """Answer with ``error`` and end: the connection is not let in."""
        self.speaker.refuse(error)

    # What a speaker has its connection do

    def enter(self, state: int) -> None:
        """Begin ``state``, and the time that it may last."""
        self.state, self._since, self._until, self._mark = state, time.monotonic(), 0.0, 0

    def wait(self, interest: int) -> None:
        """Wait for what ``interest`` says (``seam``), for as long as the present state may last."""
        shared = self.shared
        shared.reactor.set_interest(self.fd, interest)
        shared.timers.schedule(self, self._deadline())

    def rest(self, interest: int = seam.IDLE) -> None:
        """Wait for the next request, of which nothing has come; ``INPUT`` where something before it has."""
        shared = self.shared
        self.state, self._since = IDLE, time.monotonic()
        shared.reactor.set_interest(self.fd, interest)
        if shared.is_draining:
            self.drain(shared.grace_s)
        else:
            shared.timers.schedule(self, self._since + shared.keepalive_time_s)

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
        self.state, self._since, self._until, self._mark = SENDING, time.monotonic(), 0.0, None
        return self._send_on(transmission)

    def _send_on(self, transmission: Transmission) -> bool:
        try:
            if not transmission.send(self.transport if self._transport is None else self._transport):
                self._wait_for_room(transmission.rest)
                return False
        except FileShrankError:
            self.shared.logger.warning("a file shrank while it was sent to %s; connection closed", self.peer)
            self.close()
            return False
        except FileFailedError as error:
            self.shared.logger.error("sending a file to %s failed: %s; connection closed", self.peer, error)
            self.close()
            return False
        except OSError:
            self.close()
            return False
        self._transmission = None
        return True

    def _wait_for_room(self, rest: FileSlice | None) -> None:
        shared = self.shared
        if rest is None:
            shared.reactor.set_interest(self.fd, seam.OUTPUT)
        else:
            shared.reactor.transfer(self.fd, rest.file.fd, rest.offset, rest.length)
        shared.timers.schedule(self, self._deadline())

    def body_sent(self, transmission: Transmission) -> int:
        """Return how many bytes of the body are sent, by the reactor too."""
        return transmission.body_sent + self.shared.reactor.transferred(self.fd)

    # Deadlines

    def _deadline(self) -> float:
        """Return when the present state has lasted too long."""
        shared, state = self.shared, self.state
        if state == IDLE:
            if self._grace_until:
                return self._grace_until
            if self.secured == SHAKING_HANDS:
                return self._since + shared.request_timeout_s
            return max(self._since, shared.reactor.last_activity(self.fd)) + shared.keepalive_time_s
        if state in states.LONGEST_S:
            return self._since + states.LONGEST_S[state]
        if state == HEAD:
            return self._since + shared.request_timeout_s
        if state == LENT:
            return self._since + shared.application_timeout_s
        return self._until or self._since + shared.stall_time_s / states.FIRST_LOOK

    def on_timeout(self, now: float) -> None:
        """Check the deadline, and re-arm the timer if it fired early or for an earlier state."""
        deadline, transmission = self._deadline(), self._transmission
        if now < deadline:
            if self.secured == SHAKING_HANDS:  # it has KeepaliveTime from the end of that on
                deadline = min(deadline, now + self.shared.keepalive_time_s)
            self.shared.timers.schedule(self, deadline)
        elif self.shared.overslept_s:
            self._excuse(deadline, self.shared.overslept_s)
        elif self.state in states.READING and self._is_about_to_be_read():
            self.shared.timers.schedule(self, now + TICK_S)  # it came in time, and is about to be read
        elif self.state == IDLE:
            is_shaking = self.secured == SHAKING_HANDS
            reason = "RequestTimeout, in the TLS handshake" if is_shaking else "KeepaliveTime"
            reason = "the server is stopping" if self._grace_until else reason
            self.shared.logger.info("%s: idle connection closed: %s", self.peer, reason)
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

    def _excuse(self, deadline: float, overslept_s: float) -> None:
        """Let the present state last so much longer: the server could not look before."""
        if self.state == IDLE:
            self._since = self.shared.reactor.last_activity(self.fd)
        self._since += overslept_s
        if self._until:
            self._until += overslept_s
        if self._grace_until:
            self._grace_until += overslept_s
        self.shared.timers.schedule(self, deadline + overslept_s)

    def keeps_up(self, moved: int, now: float) -> bool:
        """Tell whether a transfer whose time is over may go on, having moved ``moved`` bytes since its begin.

        Each byte since the last look gives the time that it takes at MinRate; no more than StallTime is ever in
        store. Bytes move in steps: a receive window that was closed opens by a 16th of the receive buffer, and a
        Unix-domain socket frees whole buffers. What of an answer had moved when it began is not known, for the
        answers before it may still be on their way; so it gets all of StallTime at the first look.
        """
        rate, most_s = self.shared.min_rate_bytes_s, self.shared.stall_time_s
        gained_s = most_s
        if self._mark is not None and rate:
            gained_s = max(0, moved - self._mark) / rate
        self._mark = moved if self._mark is None else max(moved, self._mark)
        self._until = min(self._deadline() + gained_s, now + most_s) if rate else now + most_s
        if self._until <= now:
            return False
        self.shared.timers.schedule(self, self._until)
        return True

    # The end

    def drain(self, grace_s: float) -> None:
        """The server is ending: a connection without a request has ``grace_s`` seconds to send a last one."""
        if self.state == IDLE:
            self._grace_until = time.monotonic() + grace_s
            self.shared.timers.schedule(self, self._grace_until)

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


EVENTS: dict[int, Callable[[Connection, Any], None]] = {
    seam.READ: Connection.on_read,
    seam.WRITE: Connection.on_write,
    seam.RESET: Connection.close,
    seam.DONE: Connection.on_done,
    seam.PARTIAL: Connection.on_partial,
    seam.CLEAR: Connection.on_clear,
}
"""What a connection does at each event of its reactor."""
