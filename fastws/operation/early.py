"""What a signal does that arrives before the server can obey it. Imports next to nothing: it is imported first."""

from __future__ import annotations

import signal
import threading
from types import FrameType

EXIT_SIGNAL = 128
"""More than this by the signal's number: what shells report of a command that a signal has ended."""


def end_early() -> None:
    """Let SIGTERM and SIGINT end this program from now on, without a traceback.

    The kernel ignores a SIGTERM that nothing handles in the first process of a container. For the main thread;
    elsewhere, and where a signal is ignored or handled already, nothing changes.
    """
    if threading.current_thread() is not threading.main_thread():
        return
    for number, usual in ((signal.SIGTERM, signal.SIG_DFL), (signal.SIGINT, signal.default_int_handler)):
        if signal.getsignal(number) is usual:
            signal.signal(number, _end)


def _end(number: int, _: FrameType | None) -> None:
    raise SystemExit(EXIT_SIGNAL + number)
