"""PEP 3333: an application is called, and what it returns becomes the head and the pieces of an answer."""

from __future__ import annotations

import io
import logging
import os
import stat
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from types import TracebackType
from typing import Any, Protocol

from ..http.errors import HTTPError
from ..http.messages import Fields, FileSlice, Given
from .body import NO_BODY, NO_INPUT, Input, Spool
from .environ import Ends, Manner, build_environ
from .loan import AbandonedError, Piece
from .mounts import Call

ExcInfo = tuple[type[BaseException], BaseException, TracebackType | None]

BLOCK_BYTES = 65536
"""A piece of a file that cannot be sent as one, and of no size that the application names."""

Check = Callable[[str, Iterable[tuple[str, str]], Fields], Given]
"""See ``backend.Parser.check_given``."""


class Lent(Protocol):
    """A request on loan as what runs its application sees it; ``Loan`` says more of all this."""

    call: Call
    ends: Ends
    body: Spool
    lent_at: float
    begun_at: float
    is_abandoned: bool

    def begin(self) -> bool:
        """Tell that an application has it from now on; False if nobody waits any more."""

    def put(self, head: Given | None, *pieces: Piece, is_over: bool = False) -> None:
        """Add to the answer. Raises ``AbandonedError``."""

    def fail(self, error: HTTPError) -> None:
        """End the answer with an error."""


class FileWrapper:
    """``wsgi.file_wrapper``: a file to be sent from where it stands, by the server where that is possible."""

    def __init__(self, file: Any, block_bytes: int = BLOCK_BYTES) -> None:
        self.file = file
        self.block_bytes = block_bytes
        if hasattr(file, "close"):
            self.close = file.close

    def __iter__(self) -> Iterator[bytes]:
        while block := self.file.read(self.block_bytes):
            yield block


class OwnedFile:
    """A descriptor of a file that an application gave; see ``messages.Readable``."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    @property
    def fd(self) -> int:
        """The descriptor."""
        return self._fd

    def close(self) -> None:
        """Close it; a second call does nothing."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)


def _reads_its_descriptor(file: Any) -> bool:
    """Tell whether what ``file`` reads is what its descriptor has: ``gzip`` and others read something else.

    A file of ``tempfile`` or of Django has another in ``file``.
    """
    for _ in range(3):
        if isinstance(file, io.IOBase):
            break
        file = getattr(file, "file", None)
    if type(file) in (io.BufferedReader, io.BufferedRandom):
        file = file.raw
    return type(file) is io.FileIO


def _is_as_long_as(size: int, fd: int) -> bool:
    """Tell whether the file has what its size says.

    Those of ``/proc`` say 0 and have content all the same, those of ``/sys`` say 4,096 and have less.
    """
    if sys.platform == "win32":
        return size > 0
    return size > 0 and len(os.pread(fd, 1, size - 1)) == 1


class Errors:
    """``wsgi.errors``: lines for the error log."""

    __slots__ = ("_line", "_log", "_prefix")

    def __init__(self, logger: logging.Logger, prefix: str) -> None:
        self._log = logger
        self._prefix = prefix
        self._line = ""

    def write(self, text: str) -> int:
        """Write ``text``, whole lines of it at once."""
        *lines, self._line = (self._line + text).split("\n")
        for line in lines:
            self._log.error("application %s: %s", self._prefix, line)
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        """Write all of ``lines``, to which no line ends are added."""
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """Write what has no line end."""
        if self._line:
            line, self._line = self._line, ""
            self._log.error("application %s: %s", self._prefix, line)


class Caller:
    """Calls applications in one manner; ``check`` looks at the heads that they give."""

    __slots__ = ("_check", "_log", "_manner")

    def __init__(self, manner: Manner, check: Check, logger: logging.Logger) -> None:
        self._manner = manner
        self._check = check
        self._log = logger

    def answer(self, loan: Lent) -> None:
        """Call the application that ``loan`` is for, and put its answer there. Raises nothing; closes the body."""
        call, body = loan.call, loan.body
        errors = Errors(self._log, call.mount.prefix or "/")
        try:
            environ = build_environ(call, loan.ends, body.size, self._manner)
            environ["wsgi.input"] = NO_INPUT if body is NO_BODY else Input(body)
            environ["wsgi.errors"] = errors
            environ["wsgi.file_wrapper"] = FileWrapper
            _Answering(loan, self._check, self._log).run(environ)
        except AbandonedError:
            pass
        except BaseException as error:  # sys.exit() too ends this request and nothing else
            request = call.request
            self._log.exception("application %s failed at %s %s", call.mount, request.method, request.target)
            loan.fail(HTTPError(500, f"The application failed: {type(error).__name__}."))
        finally:
            errors.flush()
            if body is not NO_BODY:
                body.close()


class _Answering:
    """One answer being made."""

    __slots__ = (
        "_check", "_head", "_is_begun", "_is_bodiless", "_is_head", "_is_long", "_is_whole", "_left", "_loan",
        "_log", "_result",
    )  # fmt: skip

    def __init__(self, loan: Lent, check: Check, logger: logging.Logger) -> None:
        self._loan = loan
        self._check = check
        self._log = logger
        self._is_head = loan.call.request.method == "HEAD"
        self._head: Given | None = None  # what start_response was called with
        self._is_begun = False  # it is sent
        self._is_bodiless = False  # whatever the application returns
        self._is_whole = False  # all of it is put
        self._left: int | None = None  # of the length announced
        self._result: Any = None  # what the application returned, while its length may tell the answer's
        self._is_long = False

    def run(self, environ: dict[str, Any]) -> None:
        result = self._loan.call.mount.application(environ, self._start_response)
        if (type(result) is list or type(result) is tuple) and not self._is_begun:
            for piece in result:
                if not isinstance(piece, bytes):
                    break  # which is an error, but for those before it
            else:
                self._send_whole(result)
                return
        try:
            if not isinstance(result, FileWrapper) or not self._send_file(result):
                self._send_all(result)
        except BaseException:
            self._close(result)
            raise
        self._close(result)

    def _close(self, result: object) -> None:
        """Call ``close`` once, whatever happened; what it raises is of no use to a client that has its answer."""
        close = getattr(result, "close", None)
        if close is not None:
            try:
                close()
            except BaseException:
                self._log.exception("application %s failed in close()", self._loan.call.mount)

    # What the application calls

    def _start_response(
        self, status: str, fields: list[tuple[str, str]], exc_info: ExcInfo | None = None
    ) -> Callable[[bytes], None]:
        if exc_info:
            try:
                if self._is_begun:
                    raise exc_info[1].with_traceback(exc_info[2])
            finally:
                exc_info = None  # no circle of references
        elif self._head is not None:
            raise AssertionError("start_response was called a second time, and without exc_info")
        self._head = self._check(status, fields, self._loan.call.fields)
        return self._write

    def _write(self, data: bytes) -> None:
        self._put(data)

    # What it returns

    def _send_all(self, result: Iterable[bytes]) -> None:
        self._result = result
        for piece in result:
            self._put(piece)
            if self._is_bodiless and self._is_begun:
                break
        self._finish()

    def _send_whole(self, pieces: Sequence[bytes]) -> None:
        """Send all of the answer in one step: its length is known."""
        size = len(pieces[0]) if len(pieces) == 1 else sum(map(len, pieces))
        head = self._begin(size if size or not self._is_head else None)
        if self._left == size and not self._is_bodiless:
            self._loan.put(head, *pieces, is_over=True)
            return
        if self._is_bodiless:
            self._loan.put(head, is_over=True)
            return
        kept = [cut for piece in pieces if (cut := self._cut(piece))]
        if self._left:
            self._finish()  # nothing of it is sent
        else:
            self._loan.put(head, *kept, is_over=True)

    def _put(self, piece: bytes) -> None:
        if not isinstance(piece, bytes):
            raise TypeError(f"the body is made of bytes, and the application gave {type(piece).__name__}")
        if not piece:
            return
        head = None
        if not self._is_begun:
            head = self._begin(len(piece) if self._is_only(piece) else None)
        if self._is_bodiless:
            if head is not None:
                self._loan.put(head)
            return
        piece = self._cut(piece)
        if piece or head is not None:
            self._is_whole = self._left == 0  # as announced: the client need not wait for what else happens
            self._loan.put(head, *((piece,) if piece else ()), is_over=self._is_whole)

    def _is_only(self, piece: bytes) -> bool:
        """Tell whether the application returned nothing but this piece (PEP 3333, "Content-Length")."""
        try:
            return len(self._result) == 1
        except TypeError:
            return False

    def _begin(self, length: int | None) -> Given:
        """Return the head, to be sent now; ``length`` is the body's, as far as the server knows."""
        head = self._head
        if head is None:
            raise AssertionError("the application has not called start_response")
        if head.length is None:
            head = head._replace(length=length)
        self._is_bodiless = self._is_head or head.status in (204, 304)
        if head.status == 204 or (head.status == 304 and self._head and self._head.length is None):
            head = head._replace(length=None)  # RFC 9110 section 8.6
        self._is_begun, self._left = True, None if self._is_bodiless else head.length
        return head

    def _cut(self, piece: bytes) -> bytes:
        """Return as much of ``piece`` as the length announced allows."""
        if self._left is None:
            return piece
        kept = piece[: self._left]
        self._left -= len(kept)
        if len(kept) < len(piece) and not self._is_long:
            self._is_long = True
            self._log.error(
                "application %s gave more than its Content-Length for %s; the rest is not sent",
                self._loan.call.mount,
                self._loan.call.request.target,
            )
        return kept

    def _finish(self) -> None:
        if self._is_whole:
            return
        if self._left:
            text = f"The application gave {self._left} bytes less than its Content-Length."
            self._log.error("application %s: %s", self._loan.call.mount, text)
            self._loan.fail(HTTPError(500, text))
            return
        head = None if self._is_begun else self._begin(None if self._is_head else 0)
        self._loan.put(head, is_over=True)

    # Files

    def _send_file(self, wrapper: FileWrapper) -> bool:
        """Have the connection send the rest of a regular file; False where that cannot be done.

        A file that is not as long as it says is read, for only its end tells its length.
        """
        if self._is_begun or self._head is None or not _reads_its_descriptor(wrapper.file):
            return False
        try:
            number = wrapper.file.fileno()
            info, position = os.fstat(number), wrapper.file.tell()
            if not stat.S_ISREG(info.st_mode) or not _is_as_long_as(info.st_size, number):
                return False
            fd = os.dup(number)
        except (AttributeError, OSError, ValueError):  # io.UnsupportedOperation is the last two
            return False
        file = OwnedFile(fd)
        try:
            there = max(0, info.st_size - position)
            head = self._begin(there)
            length = there if self._left is None else min(there, self._left)
        except BaseException:
            file.close()
            raise
        if self._is_bodiless or not length:
            file.close()
            self._left = None if self._is_bodiless else self._left
            self._loan.put(head)
        else:
            self._left = 0 if self._left is None else self._left - length
            self._loan.put(head, FileSlice(file, position, length))
        self._finish()
        return True
