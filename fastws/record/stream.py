"""Lines for a pipe, a socket or a terminal, which may stop taking bytes at any time: a thread writes them.

Nothing that serves waits for whoever reads a log, or no longer does: Ctrl-S stops a terminal, a paused
program its pipe. What is not taken waits here, up to a size; what comes after that is the caller's to count.
"""

from __future__ import annotations

import contextlib
import os
import select
import stat
import sys
import threading
import time
from collections.abc import Callable

WAITING_BYTES = 1 << 20
"""Lines wait up to this size. One batch of an access log is taken whole where nothing waits."""

FINISH_S = 1.0
"""How long the last lines may take to be taken, once nothing is added."""

PIECE_BYTES = 4096
"""At most so much is written at once: PIPE_BUF of Linux, which a pipe that poll(2) calls ready takes whole."""

LOOK_S = 0.1
"""How often a thread whose reader has stopped looks whether it should end."""


def may_stop(fd: int) -> bool:
    """Tell whether writing to the descriptor ``fd`` may wait for a reader: not a file's, nor /dev/null's."""
    mode = os.fstat(fd).st_mode
    return stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode) or (stat.S_ISCHR(mode) and os.isatty(fd))


class Stream:
    """Writes to the descriptor ``fd``, which it closes at its end, in a thread of its own.

    That thread calls ``on_lost(count, reason)`` for lines that could not be written, and ``on_taken()`` when bytes
    were. Both may be called before ``put`` returns.
    """

    def __init__(self, fd: int, on_lost: Callable[[int, str], None], on_taken: Callable[[], None]) -> None:
        self._fd = fd
        self._on_lost = on_lost
        self._on_taken = on_taken
        self._lines = bytearray()
        self._changed = threading.Condition(threading.Lock())
        self._end_at: float | None = None
        # A daemon: an interpreter that ends does not wait for it, wherever it waits.
        self._thread = threading.Thread(target=self._run, name="log", daemon=True)
        self._is_started = False

    def put(self, lines: bytes) -> bool:
        """Take whole lines, to be written soon; False if too much waits already."""
        with self._changed:
            if self._lines and len(self._lines) + len(lines) > WAITING_BYTES:
                return False
            self._lines += lines
            if not self._is_started:
                self._thread.start()
                self._is_started = True
            self._changed.notify()
        return True

    def finish(self) -> None:
        """Take no more, and close the descriptor when all is written or ``FINISH_S`` is over."""
        with self._changed:
            if self._end_at is None:
                self._end_at = time.monotonic() + FINISH_S
                if not self._is_started:
                    os.close(self._fd)
            self._changed.notify()

    def join(self) -> None:
        """Wait until that is done; what was not taken by then is lost."""
        if not self._is_started:
            return
        self._thread.join(FINISH_S + 2 * LOOK_S)
        if self._thread.is_alive():  # in a write that does not return; the thread keeps the descriptor
            self._give_up()

    def _run(self) -> None:
        try:
            while piece := self._next_piece():
                self._write(piece)
        finally:
            os.close(self._fd)

    def _next_piece(self) -> bytes:
        """Wait for lines; return the first of them, or b"" at the end."""
        with self._changed:
            while not self._lines and self._end_at is None:
                self._changed.wait()
            # Whole lines where they fit, so that those of several writers to one terminal stay whole.
            end = self._lines.rfind(b"\n", 0, PIECE_BYTES) + 1 or PIECE_BYTES
            return bytes(self._lines[:end])

    def _write(self, piece: bytes) -> None:
        """Write what of ``piece`` is taken now, if anything."""
        try:
            if not self._is_ready():
                if self._end_at is not None and time.monotonic() >= self._end_at:
                    self._give_up()
                return
            written = os.write(self._fd, piece)
        except BlockingIOError:
            time.sleep(LOOK_S)  # a terminal with room for less
            return
        except OSError as error:
            with self._changed:
                lost = bytes(self._lines)
                self._lines.clear()
            self._on_lost(lost.count(b"\n"), str(error.strerror))
            return
        with self._changed:
            del self._lines[:written]
        self._on_taken()

    def _is_ready(self) -> bool:
        if sys.platform == "win32" or not hasattr(select, "poll"):
            return True  # then write waits, and nobody for it
        poll = select.poll()
        poll.register(self._fd, select.POLLOUT)
        return bool(poll.poll(LOOK_S * 1000))

    def _give_up(self) -> None:
        with self._changed:
            count = self._lines.count(b"\n")
            self._lines.clear()
        if count:
            self._on_lost(count, "nothing reads it")


class StandardError:
    """Says what has nowhere else to be said, on standard error, and neither waits for it nor raises."""

    def __init__(self) -> None:
        self._stream: Stream | None = None

    def say(self, text: str) -> None:
        """Write a line."""
        line = f"{text}\n".encode("utf-8", "backslashreplace")
        with contextlib.suppress(OSError):  # closed or gone
            if not may_stop(2):
                os.write(2, line)
                return
            if self._stream is None:
                self._stream = Stream(os.dup(2), lambda count, reason: None, lambda: None)
            self._stream.put(line)

    def close(self) -> None:
        """Let the last line be written; what is said later is as well."""
        stream, self._stream = self._stream, None
        if stream is not None:
            stream.finish()
            stream.join()
