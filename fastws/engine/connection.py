"""One connection's states, in their order: head → body → wait → send → head again, or linger → end.

The reactor reads; what it read comes to ``on_read``. A connection writes until the socket takes no more and
then waits for ``on_write``. Nothing here blocks.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from .. import portable
from ..h1 import framing
from ..h1.grammar import beginning
from ..http.errors import PASSWORD, HTTPError, UndecidedError
from ..http.messages import FileSlice, Request, Response
from ..seam import DONE, IDLE, INPUT, NOTHING, OUTPUT, PARTIAL, READ, PartialSend, Transport
from ..site.publication import publish
from ..transport.plain import PlainTransport
from ..transport.transmission import FileShrankError
from . import states
from .answer import Answer, build_answer, continue_answer
from .states import BODY, CLOSED, HEAD, LINGERING, SENDING, WAITING

if TYPE_CHECKING:
    from .worker import Worker

_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class Connection:
    """One client's connection. It owns the descriptor; only its worker's thread touches it.

    The transport is made when Python has something to send: a connection whose requests are all answered by the
    reactor never needs one.
    """

    __slots__ = (
        "_answer", "_asked_at", "_asks", "_awaited", "_buffer", "_decoder", "_grace_until", "_is_tried", "_mark",
        "_request", "_scanned", "_since", "_transport", "_worker", "fd", "peer", "state", "tick",
    )  # fmt: skip

    def __init__(self, worker: Worker, fd: int, peer: str) -> None:
        self._worker = worker
        self._transport: Transport | None = None
        self.fd = fd
        self.peer = peer
        self.state = HEAD
        self.tick = 0
        self._buffer = b""
        self._scanned = 0
        self._since = 0.0  # when the present state began, or its transfer was looked at; 0: never yet
        self._mark: int | None = None  # the bytes transferred until then, None at the start of an answer
        self._asked_at = 0.0  # when the request's head was complete
        self._request: Request | None = None
        self._asks = 0  # how often the site has been asked in vain
        self._awaited = PASSWORD  # what was to be done first
        self._answer: Answer | None = None
        self._decoder: framing.LengthDecoder | framing.ChunkedDecoder | None = None
        self._is_tried = False  # the reactor has looked at the buffer and left it to Python
        self._grace_until = 0.0  # set while draining

    # Events of the reactor

    def on_read(self, data: bytes) -> None:
        """Take bytes from the client; none: it will send no more."""
        if self.state == LINGERING:
            self._scanned += len(data)
            if not data or self._scanned > states.LINGER_BYTES:
                self.close()
            return
        if not data:
            # A client that half-closes has had all its complete requests answered by now.
            self.close()
            return
        if self._buffer:
            self._buffer += data
        else:
            self._buffer = data
            if self.state == HEAD:
                self._since = time.monotonic()
                self._is_tried = True
        self._advance()

    def on_write(self, _: None = None) -> None:
        """Continue sending, or continue after a pause."""
        if self.state == SENDING:
            answer = self._answer
            assert answer is not None
            answer.transmission.skip(self._worker.reactor.end_transfer(self.fd))
            if not self._send(answer):
                return
        self._advance()

    def on_done(self, rest: bytes) -> None:
        """End after a replayed response. A client that did not ask to close may still be sending."""
        self._linger() if rest or self._worker.is_draining else self.close()

    def on_partial(self, partial: PartialSend) -> None:
        """Finish a response that the reactor began to replay."""
        if self._finish_replay(partial):
            self._advance()

    def _finish_replay(self, partial: PartialSend) -> bool:
        worker = self._worker
        request = worker.parser.parse_request(partial.request, 0, 0, worker.limits)
        self._buffer, self._scanned, self._asked_at = partial.rest, 0, time.monotonic()
        return self._begin_sending(continue_answer(request, partial))

    @property
    def transport(self) -> Transport:
        """The way of its bytes to the client; it owns the descriptor from now on."""
        if self._transport is None:
            self._transport = PlainTransport(self.fd, self.peer)
        return self._transport

    # The pipeline

    def _advance(self) -> None:
        """Go through the requests in the buffer, until more bytes, more room or a pause is needed."""
        for _ in states.TURN:
            if self.state == HEAD:
                going = self._read_head()
            elif self.state == BODY:
                going = self._read_body()
            elif self.state == WAITING:
                going = self._respond()
            else:
                return
            if not going:
                return
        # Others first. The socket has room, so that the next turn comes back here, and reads nothing meanwhile.
        self._worker.reactor.set_interest(self.fd, OUTPUT)

    def _read_head(self) -> bool:
        worker = self._worker
        if self._buffer and not self._is_tried and not self._replay():
            return False
        self._is_tried = False
        buffer = self._buffer
        if not buffer:
            self._wait_for_request()
            return False
        try:
            request = worker.parser.parse_request(buffer, 0, self._scanned, worker.limits)
            if request is None:
                self._scanned = len(buffer)
                self._wait_for_input(worker.request_timeout_s)
                return False
            self._request, self._asked_at = request, time.monotonic()
            self._buffer, self._scanned = buffer[request.size :], 0
            length = framing.body_length(request)
            if length == 0:
                return self._respond(buffer)
            self._begin_body(request, length)
        except HTTPError as error:
            return self.refuse(error)
        return True

    def _replay(self) -> bool:
        """Let the reactor answer what it can from the buffer; False if nothing is left to do."""
        return self._take_replayed(*self._worker.reactor.replay(self.fd, self._buffer))

    def _take_replayed(self, kind: int, data: Any) -> bool:
        if kind == READ:
            if len(data) != len(self._buffer):
                self._buffer, self._scanned = data, 0
                self._since = time.monotonic()
            return True
        if kind == PARTIAL:
            return self._finish_replay(data)
        if kind == DONE:
            self.on_done(data)
        else:
            self.close()
        return False

    def _begin_body(self, request: Request, length: int) -> None:
        worker = self._worker
        decoder = framing.body_decoder(length, worker.max_body_bytes, worker.limits)
        if framing.expects_continue(request) and not self._buffer and not self._invite_body():
            self.close()
            return
        self._decoder = decoder
        self.state, self._since, self._mark = BODY, time.monotonic(), 0

    def _invite_body(self) -> bool:
        """Send 100 (Continue) (RFC 9110 section 10.1.1); False if the connection is broken."""
        try:
            # After a part of it whatever comes next would go on in the middle.
            return self.transport.send((_CONTINUE,), False) == len(_CONTINUE)
        except BlockingIOError:
            return True  # the client reads nothing; it will find its own way
        except OSError:
            return False

    def _read_body(self) -> bool:
        decoder = self._decoder
        assert decoder is not None
        try:
            taken = decoder.feed(self._buffer)
        except HTTPError as error:
            return self.refuse(error)
        self._buffer = self._buffer[taken:]
        if not decoder.is_complete:
            self._wait_for_input(self._worker.patience_s)
            return False
        return self._respond()

    def _respond(self, unanswered: bytes = b"") -> bool:
        """Answer the request that was read; ``unanswered`` holds it and what came after it, if it has no body.

        A response just published is sent by the reactor, along with those to the requests after it.
        """
        request, worker = self._request, self._worker
        assert request is not None
        body = b"" if self._decoder is None else bytes(self._decoder.body)
        try:
            response, publication = worker.site.respond(request, body, self.peer)
        except UndecidedError as undecided:
            return self._wait(undecided)
        is_published = publication is not None and publish(
            publication, worker.reactor, worker.parser, worker.site.fill
        )
        if is_published and unanswered and response.file is None:
            kind, data = worker.reactor.replay(self.fd, unanswered, self._asked_at)
            if kind != READ or len(data) < len(unanswered):
                worker.ledger.count_miss()
                self._request, self._buffer, self._is_tried = None, unanswered, kind == READ
                return self._take_replayed(kind, data)
        return self._start(response)

    def _wait(self, undecided: UndecidedError) -> bool:
        """Let others go on until it is time to ask the site again."""
        worker = self._worker
        if self.state != WAITING:
            self.state, self._since, self._asks = WAITING, time.monotonic(), 0
            worker.reactor.set_interest(self.fd, NOTHING)
            worker.timers.schedule(self, self._deadline())
        self._asks, self._awaited = self._asks + 1, undecided.work
        if self._asks <= states.ASK_TIMES and worker.queues.submit(undecided, self.peer, self._ask_again):
            return False
        return self._fail(HTTPError(503, undecided.work.crowded))

    def _ask_again(self) -> None:
        self._worker.resume(self)  # called by other threads

    def refuse(self, error: HTTPError) -> bool:
        """Answer a request that could not be, or will not be, read to its end; then the connection ends."""
        self._asked_at = time.monotonic()
        return self._fail(error, is_last=True)

    def _fail(self, error: HTTPError, *, is_last: bool = False) -> bool:
        """Answer with an error that the site knows nothing of."""
        response = self._worker.site.error(error)
        if self._request is None:
            response = response._replace(received=beginning(self._buffer))
        elif self._request.method == "HEAD":
            response = response._replace(body=())
        return self._start(response, is_last=is_last)

    def _start(self, response: Response, *, is_last: bool = False) -> bool:
        worker = self._worker
        request, self._request, self._decoder = self._request, None, None
        try:
            head = worker.parser.build_head(response.status, response.fields)
        except ValueError:
            worker.logger.exception("a response to %s has an impossible field", self.peer)
            if response.file is not None:
                response.file.close()
            self.close()
            return False
        is_last = is_last or worker.is_draining
        date_line = worker.clock.date_line
        return self._begin_sending(build_answer(request, response, head, date_line, is_last=is_last))

    def _begin_sending(self, answer: Answer) -> bool:
        self._answer = answer
        self.state, self._since, self._mark = SENDING, time.monotonic(), None
        return self._send(answer)

    def _send(self, answer: Answer) -> bool:
        try:
            if not answer.transmission.send(self.transport):
                self._wait_for_room(answer.transmission.rest)
                return False
        except FileShrankError:
            self._worker.logger.warning("a file shrank while it was sent to %s; connection closed", self.peer)
            self.close()
            return False
        except OSError:
            self.close()
            return False
        return self._finish(answer)

    def _finish(self, answer: Answer) -> bool:
        """The answer is sent: log it, and go on with the next request or end."""
        self._record(answer)
        if answer.is_last:
            self._linger()
            return False
        self.state, self._since = HEAD, time.monotonic()
        if self._buffer:
            return True
        self._wait_for_request()
        return False

    def _record(self, answer: Answer) -> None:
        """Log the answer in progress with what was really sent, and let go of it."""
        body_sent, duration_s = self._body_sent(answer), time.monotonic() - self._asked_at
        self._worker.ledger.record(self.peer, answer.request, answer.response, body_sent, duration_s)
        answer.close()
        self._answer = None

    def _wait_for_request(self) -> None:
        worker = self._worker
        worker.reactor.set_interest(self.fd, IDLE)
        if worker.is_draining:
            self.drain(worker.grace_s)
        else:
            worker.timers.schedule(self, self._since + worker.keepalive_time_s)

    def _wait_for_room(self, rest: FileSlice | None) -> None:
        if rest is None:
            self._worker.reactor.set_interest(self.fd, OUTPUT)
        else:
            self._worker.reactor.transfer(self.fd, rest.file.fd, rest.offset, rest.length)
        self._worker.timers.schedule(self, self._since + self._worker.patience_s)

    def _body_sent(self, answer: Answer) -> int:
        return answer.transmission.body_sent + self._worker.reactor.transferred(self.fd)

    def _wait_for_input(self, patience_s: float) -> None:
        self._worker.reactor.set_interest(self.fd, INPUT)
        self._worker.timers.schedule(self, self._since + patience_s)

    def _is_moving(self) -> bool:
        """Tell whether the transfer in progress has kept the minimum rate since ``_mark`` was set; set it again.

        What is sent counts when the client's side has it, for the kernel takes megabytes ahead of a slow reader.
        """
        if self._answer is not None:
            moved = self._body_sent(self._answer) - self.transport.unacknowledged()
        else:
            assert self._decoder is not None
            moved = self._decoder.received
        before, self._mark = self._mark, moved
        return before is None or moved - before >= self._worker.least_bytes

    # The end

    def on_timeout(self, now: float) -> None:
        """Check the deadline, and re-arm the timer if it fired early or for an earlier state."""
        deadline = self._deadline()
        if now < deadline:
            self._worker.timers.schedule(self, deadline)
        elif self.state == HEAD and not self._buffer:
            reason = "the server is stopping" if self._grace_until else "KeepaliveTime"
            self._worker.logger.info("%s: idle connection closed: %s", self.peer, reason)
            self.close()
        elif self.state in (BODY, SENDING) and self._is_moving():
            self._since = now
            self._worker.timers.schedule(self, self._deadline())
        elif self.state == WAITING:
            if self._fail(HTTPError(503, self._awaited.late)):
                self._advance()
        elif self.state in (HEAD, BODY):
            part = "head" if self.state == HEAD else "body"
            self.refuse(HTTPError(408, f"The request {part} took too long to arrive.", close=True))
        else:
            if self.state == SENDING:
                self._worker.logger.info("%s: connection closed, the client reads too slowly", self.peer)
            self.close()

    def _deadline(self) -> float:
        worker = self._worker
        if self.state in states.LONGEST_S:
            return self._since + states.LONGEST_S[self.state]
        if self.state in (BODY, SENDING):
            return self._since + self._worker.patience_s
        if self._buffer:
            return self._since + worker.request_timeout_s
        if self._grace_until:
            return self._grace_until
        return max(self._since, worker.reactor.last_activity(self.fd)) + worker.keepalive_time_s

    def _linger(self) -> None:
        """Tell the client that no more comes, and read on for a while.

        Closing a socket with unread input sends a reset, which could destroy the response before the client
        reads it (RFC 9112 section 9.6).
        """
        try:
            self.transport.shut()
        except OSError:
            self.close()
            return
        self._buffer, self._scanned = b"", 0
        self.state, self._since = LINGERING, time.monotonic()
        self._worker.reactor.set_interest(self.fd, INPUT)
        self._worker.timers.schedule(self, self._since + states.LINGER_S)

    def drain(self, grace_s: float) -> None:
        """The server is ending: a connection without a request has ``grace_s`` seconds to send a last one."""
        if self.state == HEAD and not self._buffer:
            self._grace_until = time.monotonic() + grace_s
            self._worker.timers.schedule(self, self._grace_until)

    def close(self, _: None = None) -> None:
        """End the connection now, in any state; a second call does nothing."""
        if self.state == CLOSED:
            return
        if self._answer is not None:
            self._record(self._answer)
        self.state = CLOSED
        self._worker.forget(self)
        if self._transport is None:
            portable.close_socket(self.fd)
        else:
            self._transport.close()
