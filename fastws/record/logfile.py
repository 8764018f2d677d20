"""Log files: whole lines appended, reopened on request, and what could not be written counted and said.

The access log's lines are buffered by the reactors and come here in batches. The error log comes line by line:
through the standard library's ``logging``, written at once, or as a note, which may wait here for the next flush.
A log that is a pipe, a FIFO or a terminal keeps nobody waiting: ``Stream`` writes it.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import stat
import threading
import time
from collections.abc import Callable

from .. import portable
from .clock import format_log_time
from .stream import StandardError, Stream, may_stop

STANDARD_ERROR = "-"
OFF = "off"

_LEVELS = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}
_NAMES = {number: name for name, number in _LEVELS.items()}
_NEVER = logging.CRITICAL + 1

FULL_BYTES = 65536
"""So many bytes wait at most to be written; nginx: buffer=64k."""


class LogFile:
    """Appends to one file, or to standard error (``-``), or nowhere (``off``). Any thread may write.

    ``number`` is (device, inode) of the file that is written, None for standard error and nowhere.
    ``on_loss`` is called with a sentence when lines begin to be lost and when that is over, with their
    number. ``opener`` opens as ``os.open`` does. Raises ``OSError`` if the file cannot be opened.
    """

    def __init__(
        self, path: str, on_loss: Callable[[str], None], opener: Callable[[str, int, int], int] = os.open
    ) -> None:
        self.path = path
        self._opener = opener
        self._on_loss = on_loss
        self._lock = threading.RLock()  # a stream may fail while lines are given to it
        self.lost = 0
        """How many lines were lost since the start."""
        self._said_lost = 0  # of these, how many had been lost when the last loss was over
        self._is_losing = False
        self._cut = b""  # the rest of a line that a full disk cut, to be written before any other
        self._waiting = bytearray()  # lines that were put
        self.on_lines: Callable[[bytes], None] | None = None
        """Called with all that ``write`` is called with; must neither wait nor raise."""
        self._stream: Stream | None = None
        self._use(self._open())

    def _open(self) -> int:
        if self.path == OFF:
            return -1
        if self.path == STANDARD_ERROR:
            try:
                return os.dup(2)
            except OSError:  # a server that is started without one serves
                return os.open(os.devnull, os.O_WRONLY)
        flags = portable.APPEND_FLAGS
        with contextlib.suppress(OSError):
            if stat.S_ISFIFO(os.stat(self.path).st_mode):
                # To be its reader too makes opening independent of another, which may come and go.
                flags = flags & ~os.O_WRONLY | os.O_RDWR
        return self._opener(self.path, flags, 0o640)

    def _use(self, fd: int) -> None:
        self._fd = fd
        self._stream = Stream(fd, self._note_loss, self._note_taken) if fd >= 0 and may_stop(fd) else None
        self.number = self._number()
        # Standard error is watched by somebody, who is not kept waiting.
        self._most_waiting = FULL_BYTES if self.number else 0

    def _number(self) -> tuple[int, int] | None:
        if self._fd < 0 or self.path == STANDARD_ERROR:
            return None
        return _number_of(self._fd)

    def put(self, line: bytes) -> None:
        """Append ``line`` as ``write`` does, but perhaps not before the next ``write`` or ``flush``."""
        with self._lock:
            self._waiting += line
            if len(self._waiting) > self._most_waiting:
                self._append(b"")

    def write(self, lines: bytes) -> None:
        """Append ``lines``, each with its line feed. Never raises: serving goes on when a disk is full."""
        if lines and self.on_lines is not None:
            self.on_lines(lines)
        with self._lock:
            self._append(lines)

    def flush(self) -> None:
        """Write what was put; costs nothing if that is nothing."""
        if self._waiting:
            self.write(b"")

    def _append(self, lines: bytes) -> None:
        """Write what waits, then ``lines``. The lock is held."""
        lines = bytes(self._waiting) + lines
        self._waiting.clear()
        if self._fd < 0 or not lines:
            return
        if self._stream is not None:
            if not self._stream.put(lines):
                self._note_loss(lines.count(b"\n"), "nothing reads it, or too slowly")
            return
        lines = self._cut + lines
        written = 0
        try:
            while written < len(lines):
                written += os.write(self._fd, lines[written:] if written else lines)
        except OSError as error:
            self._lose(lines, written, error)
            return
        self._cut = b""
        self._note_taken()

    def _lose(self, lines: bytes, written: int, error: OSError) -> None:
        """Count the lines of which nothing is in the file; keep the rest of one that has begun."""
        is_cut = lines[written - 1] != 0x0A if written else bool(self._cut)
        end = lines.index(b"\n", written) + 1 if is_cut else written
        self._cut = lines[written:end]
        self._note_loss(lines.count(b"\n", end), str(error.strerror))

    def _note_loss(self, count: int, reason: str) -> None:
        """Count lines that are lost; say so of the first. Also called by the stream's thread."""
        with self._lock:
            is_first = not self._is_losing
            self._is_losing = True
            self.lost += count
        if is_first:
            self._on_loss(f"lines for {self.path} are being lost: {reason}")

    def _note_taken(self) -> None:
        """Say how many lines were lost, if any were, now that others are taken."""
        if not self._is_losing:
            return
        with self._lock:
            self._is_losing = False
            count, self._said_lost = self.lost - self._said_lost, self.lost
        self._on_loss(f"{self.path} takes lines again; {count} were lost")

    def reopen(self, path: str) -> None:
        """Change to the file that is at ``path`` now: another, or the same after a rotation has moved it.

        Keeps the old one if that fails. What was put before is in the old one.
        """
        with self._lock:
            self._append(b"")
            if path == self.path == STANDARD_ERROR:
                return
            self.path = path
            try:
                fresh = self._open()
            except OSError as error:
                self._on_loss(f"{self.path} could not be reopened: {error.strerror}")
                return
            is_same = fresh >= 0 and self.number == _number_of(fresh)
            if self._stream is not None and is_same:
                os.close(fresh)  # the same FIFO or terminal; what waits for it keeps its order
                return
            if not is_same:  # or else the next line ends it first
                self._count_cut()
            if self._stream is not None:
                self._stream.finish()
            elif self._fd >= 0:
                os.close(self._fd)
            self._use(fresh)

    def _count_cut(self) -> None:
        """A line that was cut stays so."""
        if self._cut:
            self._cut = b""
            self.lost += 1
            self._is_losing = True

    def close(self) -> None:
        """Close the file; a second call does nothing. Takes about a second where nothing reads it."""
        with self._lock:
            self._append(b"")
            self._count_cut()
            stream, self._stream = self._stream, None
            fd, self._fd, self._most_waiting = self._fd, -1, 0
        if stream is not None:
            stream.finish()
            stream.join()  # without the lock, for its thread may have a loss to tell
        elif fd >= 0:
            os.close(fd)
        if self._is_losing:
            self._is_losing = False
            self._on_loss(f"{self.lost - self._said_lost} lines for {self.path} were lost")


def _number_of(fd: int) -> tuple[int, int]:
    info = os.fstat(fd)
    return info.st_dev, info.st_ino


class _LineFormatter(logging.Formatter):
    """One record, one line: what a client chose cannot begin another. In text, a traceback follows indented."""

    def __init__(self) -> None:
        super().__init__()
        self.spell = _spell_text

    def format(self, record: logging.LogRecord) -> str:
        trace = self.formatException(record.exc_info) if record.exc_info else record.exc_text or ""
        level = record.levelname.lower()
        return self.spell(record.created, level, str(record.threadName), record.getMessage(), trace)


def _spell_text(moment: float, level: str, thread: str, text: str, trace: str = "") -> str:
    line = f"{_time(moment)} {level} [{thread}] {_printable(text)}\n"
    if trace:
        line += "".join(f"    {_printable(part)}\n" for part in trace.splitlines())
    return line


def _spell_json(moment: float, level: str, thread: str, text: str, trace: str = "") -> str:
    import json  # only where it is asked for

    members = {"time": _time(moment), "level": level, "thread": thread, "message": text}
    if trace:
        members["trace"] = trace
    return json.dumps(members) + "\n"


def _time(moment: float) -> str:
    """Return ``moment`` as local time with its offset, to the millisecond (RFC 3339)."""
    second, milliseconds = divmod(int(moment * 1000), 1000)
    stamp, offset = _stamp(second)
    # A format specification would cost as much again as the rest of the line.
    return f"{stamp}.{str(milliseconds).zfill(3)}{offset}"


@functools.lru_cache(maxsize=4)
def _stamp(second: int) -> tuple[str, str]:
    stamp = format_log_time(second, "json")
    return stamp[:19], stamp[19:]


def _printable(text: str) -> str:
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in text)


class _LogFileHandler(logging.Handler):
    """Passes formatted records on to a ``LogFile``."""

    def __init__(self, file: LogFile) -> None:
        super().__init__()
        self.file = file
        self.lines = _LineFormatter()
        self.setFormatter(self.lines)

    def emit(self, record: logging.LogRecord) -> None:
        """Write the record."""
        try:
            line = self.format(record).encode("utf-8", "backslashreplace")
        except Exception:
            self.handleError(record)
        else:
            self.file.write(line)


class _Logger(logging.Logger):
    """A logger that is in no registry: two servers in one process keep two logs."""

    def isEnabledFor(self, level: int) -> bool:  # noqa: N802
        """The inherited one remembers its answers, and only the registry would make it forget them."""
        return level >= self.level


class ErrorLog:
    """The error log: ``logger`` to write to, and the file behind it."""

    def __init__(
        self,
        path: str,
        level: str,
        log_format: str = "text",
        opener: Callable[[str, int, int], int] = os.open,
    ) -> None:
        # What the error log itself loses has nowhere else to be said than standard error.
        self._standard_error = StandardError()
        self.file = LogFile(path, lambda text: self._standard_error.say(f"fastws: {text}"), opener)
        self.logger: logging.Logger = _Logger("fastws")
        self._handler = _LogFileHandler(self.file)
        self.logger.addHandler(self._handler)
        self.configure(level, log_format)

    def note(self, level: int, thread: str, text: str) -> None:
        """Record one line as ``logger`` would in ``thread``, at a fraction of its cost: any request may cause it.

        Only an error is written at once; what is less, with the next line that is, or by ``flush``.
        """
        if level >= self.logger.level:
            line = self._handler.lines.spell(time.time(), _NAMES[level], thread, text)
            add = self.file.write if level >= logging.ERROR else self.file.put
            add(line.encode("utf-8", "backslashreplace"))

    def flush(self) -> None:
        """Write the notes that wait."""
        self.file.flush()

    def configure(self, level: str, log_format: str) -> None:
        """Record from ``level`` (debug, info, warning, error) on, nothing in a log that is off.

        ``log_format`` is ``text``, or ``json`` for an object a line.
        """
        self._handler.lines.spell = _spell_json if log_format == "json" else _spell_text
        self.logger.setLevel(_NEVER if self.file.path == OFF else _LEVELS[level])

    def close(self) -> None:
        """Close the file."""
        self.file.close()
        self._standard_error.close()
