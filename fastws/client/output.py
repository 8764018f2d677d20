"""Standard output that may be closed or full: one sentence instead of a traceback, now and when Python ends."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO


class OutputError(Exception):
    """Standard output does not take what was printed; the text says why."""


class _Output:
    """Passes everything on, and turns the error of a write into ``OutputError``."""

    def __init__(self, file: TextIO) -> None:
        self._file = file

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def write(self, text: str) -> int:
        """Print ``text``."""
        try:
            return self._file.write(text)
        except (OSError, ValueError) as error:
            raise _failed(error) from error

    def flush(self) -> None:
        """Have it written."""
        try:
            self._file.flush()
        except (OSError, ValueError) as error:
            raise _failed(error) from error


@contextmanager
def output() -> Iterator[TextIO]:
    """Give standard output for a block, flushed at its end. Raises ``OutputError``."""
    if sys.stdout is None:
        raise OutputError("standard output is closed")
    out: Any = _Output(sys.stdout)
    yield out
    out.flush()


def _failed(error: OSError | ValueError) -> OutputError:
    # What Python still holds for it must go nowhere when it ends, instead of failing again.
    fd = os.open(os.devnull, os.O_WRONLY)
    os.dup2(fd, 1)
    os.close(fd)
    reason = error.strerror if isinstance(error, OSError) else error
    return OutputError(f"cannot write to standard output: {reason}")
