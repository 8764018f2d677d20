"""What application processes say: that they serve or cannot, pieces of answers, lines for the error log."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from typing import NoReturn

from ..application.loan import AbandonedError, Loan
from ..application.wsgi import OwnedFile
from ..http.errors import HTTPError
from ..http.messages import Fields, FileSlice, Given
from . import wire
from .child import ENDED, RETIRING, SERVING, STARTING, Child, Coming
from .crew import KILL, Crew
from .handing import Handing

KNOWN_HEADS = 256
"""Heads of answers that are known to be good."""

KNOWN_HEAD_BYTES = 1024
"""A longer one is checked each time."""

AGAIN_S = 1.0
"""How long to wait before a process is started in place of one that ended soon, or could not import."""


class ChildChannel:
    """See ``application.channel.Channel``.

    Its descriptor is a second one, so that waiting for it ends where it began.
    """

    def __init__(self, crew: Crew, hearing: Hearing, child: Child) -> None:
        self.fd = os.dup(child.sock.fileno())
        self._crew = crew
        self._hearing = hearing
        self._child = child

    def hear(self) -> bool:
        """See ``Channel.hear``. The end of a process is the courier's business."""
        return self._hearing.receive(self._child) is not False and self._child.state != ENDED

    def give_back(self, *, for_good: bool) -> None:
        """See ``Channel.give_back``."""
        with self._crew.lock:
            self._child.is_couriers, self._child.channel = for_good, None
        os.close(self.fd)
        self._crew.wake()


class Hearing:
    """Takes what the processes of a crew say. It holds the crew's lock meanwhile; any thread may call."""

    def __init__(self, crew: Crew, handing: Handing) -> None:
        self._crew = crew
        self._handing = handing
        self._check = crew.parser.check_given
        self._heads: dict[tuple[bytes, Fields], Given] = {}

    def receive(self, child: Child) -> bool | None:
        """Take what a process says; None if that is nothing, False after the last."""
        with self._crew.lock:
            if child.state == ENDED:
                return None
            try:
                is_open = child.reader.receive()
            except BlockingIOError:
                return None
            except OSError:
                is_open = False
            if child.is_broken:
                return False
            try:
                for frame in child.reader.frames():
                    _TAKERS[frame.kind](self, child, frame)
            except wire.BrokenError as error:
                self._give_up(child, error)
                is_open = False
            if child.coming:
                self._deliver(child)
            self._handing.serve_waiting()
            self._crew.tell_on()
        return is_open

    def _deliver(self, child: Child) -> None:
        """Put what was received into the loans that it belongs to."""
        coming, child.coming = child.coming, {}
        for number, come in coming.items():
            loan = child.streams.get(number)
            if loan is None:
                for piece in come.pieces:
                    if isinstance(piece, FileSlice):
                        piece.file.close()
                continue
            with suppress(AbandonedError):
                loan.deliver(come.head, *come.pieces, is_over=come.is_over)
            if come.is_over:
                self._handing.finish(child, number)

    def _give_up(self, child: Child, error: wire.BrokenError) -> None:
        """Hear nothing more of a process that is broken: it is killed, and its requests are 502."""
        crew = self._crew
        reason = f"it says what no process says, {error}"
        crew.log.error("%s: %s; it is killed, and its requests are 502", child.name, reason)
        if child.state == STARTING:
            child.failure = reason
        if time.monotonic() < child.begun_at + AGAIN_S:
            crew.start_again_at = time.monotonic() + AGAIN_S
        child.is_broken = child.is_expected_to_end = True
        child.state = RETIRING
        for loan in child.streams.values():
            crew.tally.end(loan)
            loan.fail(HTTPError(502, "The application's process is broken."))
        child.streams.clear()
        child.busy.clear()
        with suppress(OSError):
            child.sock.shutdown(socket.SHUT_RDWR)  # so that its end is seen
        child.spawner.kill(child.number, KILL)
        crew.changed.notify_all()
        crew.wake()

    # Of the process

    def _take_ready(self, child: Child, frame: wire.Frame) -> None:
        crew = self._crew
        if child.state != STARTING:
            return
        child.state = SERVING
        crew.log.info("%s serves %s", child.name, ", ".join(child.settings.names))
        crew.changed.notify_all()
        crew.wake()

    def _take_failed(self, child: Child, frame: wire.Frame) -> None:
        crew = self._crew
        child.failure = frame.payload.decode("utf-8", "replace")
        crew.log.error("%s: %s", child.name, child.failure)
        child.is_expected_to_end, child.end = True, "unimported"
        crew.start_again_at = time.monotonic() + AGAIN_S
        crew.changed.notify_all()

    def _take_changed(self, child: Child, frame: wire.Frame) -> None:
        crew = self._crew
        crew.log.info("%s: a file has changed", child.name)
        for each in crew.children.values():
            each.is_due = True
        crew.start_again_at = 0.0
        crew.wake()

    def _take_log(self, child: Child, frame: wire.Frame) -> None:
        level, thread, line, trace = wire.unpack_values(frame.payload, int, str, str, str)
        log = self._crew.log
        record = log.makeRecord(log.name, level, "", 0, line, (), None)
        record.threadName, record.exc_text = f"app-{child.number} {thread}", trace
        log.handle(record)

    # Of answers

    def _take_answer(self, child: Child, frame: wire.Frame) -> None:
        loan = child.streams.get(frame.stream)
        if loan is None:
            return
        try:
            length, lines, body = wire.unpack_answer(frame.payload)
            head = self._head(lines, length, loan.call.fields)
            if loan.owed is not None or (length != len(body) and not _may_differ(loan, head, body)):
                raise wire.BrokenError("an answer that is not as it was announced")
            if body:
                loan.deliver(head, body, is_over=True)
            else:
                loan.deliver(head, is_over=True)
        except AbandonedError:
            pass
        except (TypeError, ValueError):
            self._refuse(child, loan)
        self._handing.finish(child, frame.stream)

    def _take_head(self, child: Child, frame: wire.Frame) -> None:
        loan = child.streams.get(frame.stream)
        if loan is None:
            return
        try:
            length, lines = wire.unpack_head(frame.payload)
            head = self._head(lines, length, loan.call.fields)
        except (TypeError, ValueError):
            self._refuse(child, loan)
        else:
            if loan.owed is not None:
                raise wire.BrokenError("a second head")
            loan.owed = 0 if _is_bodiless(loan, head) else -1 if length is None else length
            child.coming.setdefault(frame.stream, Coming()).head = head

    def _head(self, lines: bytes, length: int | None, added: Fields) -> Given:
        """Return the head that these lines are, with the fields ``added``.

        Applications give the same lines again and again: those are checked once. Raises ``TypeError`` and
        ``ValueError``.
        """
        known = self._heads.get((lines, added))
        if known is None:
            known = self._check(*wire.unpack_lines(lines), added)
            if len(lines) <= KNOWN_HEAD_BYTES:
                if len(self._heads) >= KNOWN_HEADS:
                    self._heads.clear()
                self._heads[lines, added] = known
        return Given(known.status, known.lines, length, known.is_dated)

    def _refuse(self, child: Child, loan: Loan) -> None:
        """A head cannot be sent; the process has checked it, if nothing in it has forged it since."""
        self._crew.log.error("%s sends a head that no answer may have", child.name)
        loan.fail(HTTPError(502, "The application's process sent what cannot be sent on."))

    def _count(self, child: Child, number: int, size: int) -> None:
        """Count what comes of a body. Raises ``BrokenError`` where that was not announced."""
        loan = child.streams.get(number)
        if loan is None:
            return
        if loan.owed is None:
            raise wire.BrokenError("a body without a head")
        if loan.owed >= 0:
            if size > loan.owed:
                raise wire.BrokenError("more of a body than it has announced")
            loan.owed -= size

    def _take_data(self, child: Child, frame: wire.Frame) -> None:
        self._count(child, frame.stream, len(frame.payload))
        child.coming.setdefault(frame.stream, Coming()).pieces.append(frame.payload)

    def _take_file(self, child: Child, frame: wire.Frame) -> None:
        offset, length = wire.unpack_part(frame.payload)
        try:
            fd = child.reader.take_fd()
        except OSError as error:
            self._lack(child, frame.stream, error)
            return
        try:
            self._count(child, frame.stream, length)
        except wire.BrokenError:
            os.close(fd)
            raise
        piece = FileSlice(OwnedFile(fd), offset, length)
        child.coming.setdefault(frame.stream, Coming()).pieces.append(piece)

    def _lack(self, child: Child, number: int, error: OSError) -> None:
        """A file has not come with the frame that announces it: the answer cannot be whole."""
        loan = child.streams.get(number)
        if loan is None:
            return
        self._crew.log.error("%s sends a file that cannot be taken: %s", child.name, error.strerror)
        loan.fail(HTTPError(503, "The server has too many files open."))
        self._crew.tell_later(child, wire.pack(number, wire.CANCEL))
        self._handing.finish(child, number)

    def _take_over(self, child: Child, frame: wire.Frame) -> None:
        loan = child.streams.get(frame.stream)
        if loan is not None and (loan.owed is None or loan.owed > 0):
            raise wire.BrokenError("the end of an answer that is not whole")
        child.coming.setdefault(frame.stream, Coming()).is_over = True

    def _take_free(self, child: Child, frame: wire.Frame) -> None:
        child.busy.discard(frame.stream)

    def _take_recalled(self, child: Child, frame: wire.Frame) -> None:
        numbers = wire.unpack_value(frame.payload, list)
        loans = [child.streams.get(number) if type(number) is int else None for number in numbers]
        if any(type(number) is not int for number in numbers) or any(
            loan and loan.owed is not None for loan in loans
        ):
            raise wire.BrokenError(f"streams that it cannot give back: {frame.payload[:40]!r}")
        self._handing.take_back(child, numbers)

    def _take_error(self, child: Child, frame: wire.Frame) -> None:
        self._deliver(child)
        status, detail = wire.unpack_values(frame.payload, int, str)
        if not 500 <= status <= 599:
            raise wire.BrokenError(f"an error that is none of a server: {frame.payload[:40]!r}")
        loan = child.streams.get(frame.stream)
        if loan is not None:
            loan.fail(HTTPError(status, detail))
        self._handing.finish(child, frame.stream)


def _is_bodiless(loan: Loan, head: Given) -> bool:
    return loan.call.request.method == "HEAD" or head.status in (204, 304)


def _may_differ(loan: Loan, head: Given, body: bytes) -> bool:
    """Tell whether a whole answer may have another length than its ``body``: none is announced, or none sent."""
    return not body if _is_bodiless(loan, head) else head.length is None


class _Takers(dict[int, Callable[[Hearing, Child, wire.Frame], None]]):
    """What takes frames, by their kinds."""

    def __missing__(self, kind: int) -> NoReturn:
        raise wire.BrokenError(f"a frame of the unknown kind {kind}")


_TAKERS = _Takers(
    {
        wire.READY: Hearing._take_ready,
        wire.FAILED: Hearing._take_failed,
        wire.CHANGED: Hearing._take_changed,
        wire.ANSWER: Hearing._take_answer,
        wire.HEAD: Hearing._take_head,
        wire.DATA: Hearing._take_data,
        wire.FILE: Hearing._take_file,
        wire.OVER: Hearing._take_over,
        wire.FREE: Hearing._take_free,
        wire.ERROR: Hearing._take_error,
        wire.RECALLED: Hearing._take_recalled,
        wire.LOG: Hearing._take_log,
    }
)
