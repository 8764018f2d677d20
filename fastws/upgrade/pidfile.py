"""The file that names the server's process, for programs that send it signals."""

from __future__ import annotations

import errno
import os
from contextlib import suppress


def write(path: str) -> None:
    """Have the file name this process, at once and whole. Raises ``OSError``."""
    draft = f"{path}.{os.getpid()}"
    fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_CLOEXEC", 0), 0o644)
    try:
        os.write(fd, b"%d\n" % os.getpid())
        os.close(fd)
        os.replace(draft, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(draft)
        raise


def obstacle(path: str) -> str:
    """Return what would keep ``write`` from writing the file, in the system's words; '' for nothing."""
    parent, number = os.path.dirname(os.path.abspath(path)), 0
    if os.path.isdir(path):
        number = errno.EISDIR
    elif not os.path.exists(parent):
        number = errno.ENOENT
    elif not os.path.isdir(parent):
        number = errno.ENOTDIR
    elif not os.access(parent, os.W_OK | os.X_OK):
        number = errno.EACCES
    return os.strerror(number) if number else ""


def refusal(path: str, reason: str) -> str:
    """Return the sentence about a file that cannot be written for this reason."""
    return f"PidFile {path} cannot be written: {reason}; the server needs a directory for it"


def read(path: str) -> int:
    """Return the number in the file. Raises ``OSError``, ``ValueError`` where there is none."""
    with open(path, encoding="ascii", errors="replace") as file:
        text = file.read(32).strip()
    if not text.isdigit() or int(text) <= 0:
        raise ValueError(f"{path} holds {text!r} and no process number")
    return int(text)


def remove(path: str) -> None:
    """Remove the file, if it names this process."""
    with suppress(OSError, ValueError):
        if read(path) == os.getpid():
            os.unlink(path)
