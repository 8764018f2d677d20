"""The terminal of a server that is started by hand: requests shown as they come, and its hang-up.

Nothing may wait for a terminal: a stream takes the lines, and what it does not take is counted instead of kept.
"""

from __future__ import annotations

import os
import re
import sys
import threading

from ..record.stream import Stream

# Text: re compiles and keeps it when the first line is shown; a start without a terminal does not pay for it.
_LINE = (
    r"\S+ \S+ .*? \[[^:\]]*:(?P<time>[0-9:]{8})[^\]]*\] "
    r'"(?P<request>(?:[^"\\]|\\.)*)" (?P<status>[0-9]{3}) (?P<size>\S+)'
)
_COLOURS = {"2": "32", "3": "36", "4": "33", "5": "31"}  # green, cyan, yellow, red: SGR parameters of ECMA-48

MOST_LINES = 200
"""As many lines of a batch are shown; nobody reads more of what came within a second."""


def is_terminal() -> bool:
    """Tell whether somebody can read standard error."""
    try:
        return os.isatty(2)
    except OSError:
        return False


def has_controlling_terminal() -> bool:
    """Tell whether this process belongs to a terminal that has not been closed: tty(4)."""
    if sys.platform == "win32":
        return False
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC))
    except OSError:
        return False
    return True


class RequestLines:
    """Shows access lines of the combined format as short ones, on the descriptor ``fd``, which it closes."""

    def __init__(self, fd: int, *, is_coloured: bool) -> None:
        self._is_coloured = is_coloured
        self._lock = threading.Lock()
        self._left_out = 0
        self._stream = Stream(fd, lambda count, reason: None, lambda: None)

    def show(self, lines: bytes) -> None:
        """Take whole lines of the access log; never waits."""
        found = lines.decode("latin-1").splitlines()
        text = "".join([short_line(line, is_coloured=self._is_coloured) for line in found[:MOST_LINES]])
        with self._lock:
            more = self._left_out + len(found[MOST_LINES:])
            if more:
                text += f"... {more} more requests\n"
            is_taken = self._stream.put(text.encode("latin-1", "replace"))
            self._left_out = 0 if is_taken else more + len(found[:MOST_LINES])

    def close(self) -> None:
        """Show what waits, as far as that does not take long."""
        self._stream.finish()
        self._stream.join()


def short_line(line: str, *, is_coloured: bool) -> str:
    """Return time, status, request and size of a line of the combined format, '' for what is none."""
    found = re.match(_LINE, line)
    if found is None:
        return ""
    status = found["status"]
    if is_coloured and status[0] in _COLOURS:
        status = f"\x1b[{_COLOURS[status[0]]}m{status}\x1b[0m"
    size = "" if found["size"] == "-" else f" {found['size']} B"
    request = found["request"].removesuffix(" HTTP/1.1")
    return f"{found['time']} {status} {request}{size}\n"


def wants_colour(environment: dict[str, str] | os._Environ[str]) -> bool:
    """Tell whether colours are welcome: https://no-color.org, and terminals that have none."""
    return not environment.get("NO_COLOR") and environment.get("TERM", "dumb") != "dumb"
