"""HTTP/1.x on a connection: head → body → respond → send → head again, one request after another."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from ..application.mounts import Call
from ..h1 import framing
from ..h1.grammar import beginning
from ..http.errors import PASSWORD, HTTPError, UndecidedError
from ..http.forwarded import Sender
from ..http.messages import Fields, Request, Response
from ..seam import DONE, INPUT, PARTIAL, READ, PartialSend
from ..site.publication import Answering, publish
from . import states
from .answer import Answer, build_answer, continue_answer
from .connection import Connection
from .lending import Lending
from .states import BODY, HEAD, IDLE, LENT, WAITING

_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_BEFORE_A_REQUEST = (b"\r", b"\r\n")
"""What some clients send after a body, and a server ignores (RFC 9112 section 2.2): no request has begun by it."""


class Http1:
    """See ``speaker.Speaker``."""

    __slots__ = (
        "_answer", "_asked_at", "_asks", "_awaited", "_buffer", "_connection", "_decoder", "_is_tried",
        "_lending", "_request", "_scanned", "_sender", "_shared",
    )  # fmt: skip

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._shared = connection.shared
        self._buffer = b""  # what has come and is not yet parsed
        self._scanned = 0  # so much of it was looked at for the end of a head
        self._is_tried = False  # the reactor has looked at the buffer and left it to Python
        self._asked_at = 0.0  # when the request's head was complete
        self._request: Request | None = None
        self._sender = Sender(connection.peer)  # of the request, or of what could not be read as one
        self._decoder: framing.LengthDecoder | framing.ChunkedDecoder | None = None  # of its body
        self._asks = 0  # how often the site has been asked in vain
        self._awaited = PASSWORD  # what was to be done first
        self._answer: Answer | None = None
        self._lending: Lending | None = None  # once a request was for an application

    @property
    def _site(self) -> Answering:
        """What decides about the requests."""
        return self._shared.site

    # What the connection reports

    def on_read(self, data: bytes) -> None:
        """See ``Speaker.on_read``."""
        if self._connection.state == IDLE:
            self._connection.enter(HEAD)
            self._is_tried = not self._buffer
        self._buffer = self._buffer + data if self._buffer else data
        if self._shared.is_turn_over():
            self._connection.give_way()
        else:
            self.advance()

    def on_partial(self, partial: PartialSend) -> None:
        """See ``Speaker.on_partial``."""
        if self._finish_replay(partial):
            self._go_on()

    def on_sent(self) -> None:
        """See ``Speaker.on_sent``."""
        if self._after_message():
            self._go_on()

    def on_timeout(self, now: float) -> None:
        """See ``Speaker.on_timeout``."""
        connection, decoder = self._connection, self._decoder
        if connection.state == BODY and decoder is not None and connection.keeps_up(decoder.received, now):
            return
        if connection.state == WAITING:
            if self._fail(HTTPError(503, self._awaited.late)):
                self.advance()
        elif connection.state == LENT:
            assert self._lending is not None
            if self._give_up(self._lending.call_back(self._answer)):
                self.advance()
        else:
            part = "head" if connection.state == HEAD else "body"
            self.refuse(HTTPError(408, f"The request {part} took too long to arrive.", close=True))

    def refuse(self, error: HTTPError) -> None:
        """See ``Speaker.refuse``."""
        self._asked_at = time.monotonic()
        self._fail(error, is_last=True)

    def on_close(self) -> None:
        """See ``Speaker.on_close``."""
        if self._lending is not None:
            self._lending.abandon()
        if self._answer is not None:
            self._record(self._answer)
        self._lending = None  # it refers to the connection

    # The pipeline

    def _go_on(self) -> None:
        """Advance, or wait for the next turn where this one is over: others have waited for longer."""
        if self._shared.is_turn_over():
            self._connection.give_way()
        else:
            self.advance()

    def advance(self) -> None:
        """Go through the requests in the buffer, until more bytes, more room, a pause or others need it to stop.

        See ``Speaker.advance``. Takes one step at least.
        """
        connection, shared = self._connection, self._shared
        for _ in states.TURN:
            step = _STEPS.get(connection.state)
            if step is None or not step(self):
                return
            if shared.is_turn_over():
                break
        connection.give_way()

    def _read_head(self) -> bool:
        shared = self._shared
        if not self._is_tried and not self._replay():
            return False
        self._is_tried = False
        buffer = self._buffer
        if not buffer:
            self._connection.rest()
            return False
        try:
            request = shared.parser.parse_request(buffer, 0, self._scanned, shared.limits)
            if request is None:
                self._scanned = len(buffer)
                if buffer in _BEFORE_A_REQUEST:
                    self._connection.rest(INPUT)
                else:
                    self._connection.wait(INPUT)
                return False
            self._request, self._asked_at = request, time.monotonic()
            self._buffer, self._scanned = buffer[request.size :], 0
            self._sender = shared.sender(request, self._connection.peer)
            fields = request.fields
            if "content-length" in fields or "transfer-encoding" in fields:
                length = framing.body_length(request)
                if length:
                    return self._begin_body(request, length)
            return self._respond(buffer)
        except HTTPError as error:
            self.refuse(error)
            return False

    def _replay(self) -> bool:
        """Let the reactor answer what it can from the buffer; False if nothing is left to do."""
        return self._take_replayed(*self._shared.reactor.replay(self._connection.fd, self._buffer))

    def _take_replayed(self, kind: int, data: Any) -> bool:
        if kind == READ:
            if len(data) != len(self._buffer):
                self._buffer, self._scanned = data, 0
                self._connection.enter(HEAD)
            return True
        if kind == PARTIAL:
            return self._finish_replay(data)
        self._buffer = b""
        if kind == DONE:
            self._connection.on_done(data)
        else:
            self._connection.close()
        return False

    def _finish_replay(self, partial: PartialSend) -> bool:
        shared = self._shared
        request = shared.parser.parse_request(partial.request, 0, 0, shared.limits)
        if request is not None:
            self._sender = shared.sender(request, self._connection.peer)
            if partial.request_id:
                self._sender = self._sender._replace(request_id=partial.request_id)
        self._buffer, self._scanned, self._asked_at = partial.rest, 0, time.monotonic()
        return self._send(continue_answer(request, partial))

    def _begin_body(self, request: Request, length: int) -> bool:
        shared, connection = self._shared, self._connection
        self._decoder = framing.body_decoder(length, shared.max_body_bytes(request), shared.limits)
        if self._site.lends(request):
            self._lending = self._lending or Lending(connection)
            self._lending.begin_body()
        if framing.expects_continue(request) and not self._buffer:
            return self._answer_expectation()
        connection.enter(BODY)
        return True

    def _answer_expectation(self) -> bool:
        """Send 100 (Continue), or at once the answer that does not depend on the body (RFC 9110 section 10.1.1).

        After such an answer the connection ends: whether the client still sends the body is not known.
        """
        request, connection = self._request, self._connection
        assert request is not None
        try:
            response = self._site.refuse(request, self._sender.peer)
        except UndecidedError as undecided:
            return self._pause(undecided)
        if response is not None:
            return self._start(response, is_last=True)
        if not self._invite_body():
            connection.close()
            return False
        connection.enter(BODY)
        return True

    def _invite_body(self) -> bool:
        """Send 100 (Continue); False if the connection is broken."""
        try:
            # After a part of it whatever comes next would go on in the middle.
            return self._connection.transport.send((_CONTINUE,), False) == len(_CONTINUE)
        except BlockingIOError:
            return True  # the client reads nothing; it will find its own way
        except OSError:
            return False

    def _read_body(self) -> bool:
        decoder = self._decoder
        assert decoder is not None
        try:
            taken = decoder.feed(self._buffer)
            if self._lending is not None:
                self._lending.add(decoder.body)
        except HTTPError as error:
            self.refuse(error)
            return False
        self._buffer = self._buffer[taken:]
        if not decoder.is_complete:
            self._connection.wait(INPUT)
            return False
        return self._respond()

    def _respond(self, unanswered: bytes = b"") -> bool:
        """Answer the request that was read; ``unanswered`` holds it and what came after it, if it has no body.

        A response just published is sent by the reactor, along with those to the requests after it.
        """
        request, shared = self._request, self._shared
        assert request is not None
        site = self._site
        if (call := site.call_again(request)) is not None:
            return self._lend(request, call)
        body = b"" if self._decoder is None else bytes(self._decoder.body)
        try:
            response, publication, call = site.respond(request, body, self._sender.peer)
        except UndecidedError as undecided:
            return self._pause(undecided)
        if call is not None:
            return self._lend(request, call)
        is_published = publication is not None and publish(
            publication, shared.reactor, shared.parser, shared.site.fill
        )
        if is_published and unanswered and response.file is None:
            kind, data = shared.reactor.replay(self._connection.fd, unanswered, self._asked_at)
            if kind != READ or len(data) < len(unanswered):
                shared.ledger.count_miss()
                self._request, self._buffer, self._is_tried = None, unanswered, kind == READ
                return self._take_replayed(kind, data)
        return self._start(response)

    def _ask_on(self) -> bool:
        """Go on after a pause, before or after the request's body."""
        if self._decoder is not None and not self._decoder.is_complete:
            return self._answer_expectation()
        return self._respond()

    def _pause(self, undecided: UndecidedError) -> bool:
        """Let others go on until it is time to ask the site again."""
        connection = self._connection
        if connection.state != WAITING:
            self._asks = 0
            connection.pause(WAITING)
        self._asks, self._awaited = self._asks + 1, undecided.work
        is_queued = self._asks <= states.ASK_TIMES and self._shared.queues.submit(
            undecided, self._sender.peer, self._ask_again
        )
        if is_queued:
            return False
        return self._fail(HTTPError(503, undecided.work.crowded))

    def _ask_again(self) -> None:
        self._shared.resume(self._connection)  # called by other threads

    # Applications

    def _lend(self, request: Request, call: Call) -> bool:
        """Let an application have the request, with all of its body."""
        connection, shared, sender = self._connection, self._shared, self._sender
        if shared.secure_fields:
            call = call._replace(fields=(*call.fields, *self._secure_fields()))
        if sender.request_id and shared.answers_ids:
            call = call._replace(fields=(("X-Request-ID", sender.request_id), *call.fields))
        if shared.changes_fields:
            call = call._replace(request=shared.for_application(request, connection.peer, sender))
        lending = self._lending
        if lending is None:
            lending = self._lending = Lending(connection)
        try:
            error = lending.lend(call, sender)
        except OSError:
            connection.close()
            return False
        if error is not None:
            return self._fail(error)
        connection.pause(LENT)
        return False

    def _send_on(self) -> bool:
        """Send what has come of the application's answer."""
        assert self._lending is not None
        answer = self._lending.take(self._answer)
        if answer is None:
            return False
        if isinstance(answer, HTTPError):
            return self._give_up(answer)
        self._request = self._decoder = None
        self._answer = answer
        return self._connection.send(answer.transmission) and self._after_message()

    def _after_message(self) -> bool:
        """Go on after a message that is sent."""
        if self._lending is None or self._lending.is_over:
            return self._finish()
        self._connection.pause(LENT)
        return True  # more may have come meanwhile

    def _give_up(self, error: HTTPError) -> bool:
        """Expect nothing more of an application: answer with ``error`` if nothing is sent yet."""
        if self._answer is not None:
            self._connection.close()  # the client sees that the answer is not whole
            return False
        assert self._lending is not None
        self._lending.finish()
        return self._fail(error)

    # Answers

    def _fail(self, error: HTTPError, *, is_last: bool = False) -> bool:
        """Answer with an error that the site knows nothing of."""
        response = self._site.error(error)
        if self._request is None:
            self._sender = self._shared.sender_of_nothing(self._connection.peer)
            response = response._replace(received=beginning(self._buffer))
        elif self._request.method == "HEAD":
            response = response._replace(body=())
        return self._start(response, is_last=is_last)

    def _secure_fields(self) -> Fields:
        """Return the fields that answers have over TLS alone, if that is what this connection speaks."""
        return () if self._connection.secured is None else self._shared.secure_fields

    def _start(self, response: Response, *, is_last: bool = False) -> bool:
        shared = self._shared
        request, self._request, self._decoder = self._request, None, None
        if self._lending is not None:
            self._lending.drop_body()
        try:
            head = shared.parser.build_head(response.status, response.fields)
        except ValueError:
            peer = self._connection.peer
            shared.logger.exception("a response to %s has an impossible field", peer)
            if response.file is not None:
                response.file.close()
            self._connection.close()
            return False
        is_last = is_last or shared.is_draining
        moment = shared.clock.date_line
        if shared.has_moment_lines:
            moment = shared.moment_lines(self._sender, is_secured=self._connection.secured is not None)
        return self._send(build_answer(request, response, head, moment, shared.endings, is_last=is_last))

    def _send(self, answer: Answer) -> bool:
        self._answer = answer
        return self._connection.send(answer.transmission) and self._finish()

    def _finish(self) -> bool:
        """The answer is sent: record it, and go on with the next request or end."""
        answer, connection = self._answer, self._connection
        assert answer is not None
        self._record(answer)
        if answer.is_last:
            self._buffer = b""
            connection.linger()
            return False
        if self._buffer:
            connection.enter(HEAD)
            return True
        connection.rest()
        return False

    def _record(self, answer: Answer) -> None:
        """Record the answer in progress with what was really sent, and let go of it."""
        connection = self._connection
        sent, duration_s = connection.body_sent(answer.transmission), time.monotonic() - self._asked_at
        if self._lending is not None:
            sent = max(0, sent - self._lending.finish())
        self._shared.ledger.record(
            connection, self._sender, answer.request, answer.response, sent, duration_s
        )
        answer.close()
        self._answer = None


class RedirectingHttp1(Http1):
    """Sends clients to https: the reactor has nothing for them."""

    __slots__ = ()

    @property
    def _site(self) -> Answering:
        """What came to a proxy by https has been sent there already."""
        site = self._shared.site
        return site if self._sender.scheme == "https" else site.to_https

    def _replay(self) -> bool:
        return True


_STEPS: dict[int, Callable[[Http1], bool]] = {
    HEAD: Http1._read_head,
    BODY: Http1._read_body,
    WAITING: Http1._ask_on,
    LENT: Http1._send_on,
}
"""What is done in a state in which there is something to do; it tells whether to go on at once."""
