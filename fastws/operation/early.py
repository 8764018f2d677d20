"""What comes first: signals before the server can obey them, and standard files that may be closed, full or gone.

It imports next to nothing, as it is imported first.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from contextlib import suppress
from types import FrameType
from typing import Any

EXIT_SIGNAL = 128
"""More than this by the signal's number: what shells report of a command that a signal has ended."""


_USUAL: dict[int, Any] = {signal.SIGTERM: signal.SIG_DFL, signal.SIGINT: signal.default_int_handler}
"""What these signals do in Python where nothing else is said."""


class Ended(SystemExit):
    """A signal ends the program: no application has called ``sys.exit()`` while it was imported."""


def end_early() -> None:
    """Let SIGTERM and SIGINT end this program from now on, without a traceback.

    The kernel ignores a SIGTERM that nothing handles in the first process of a container. For the main thread;
    elsewhere, and where a signal is ignored or handled already, nothing changes.
    """
    if threading.current_thread() is not threading.main_thread():
        return
    for number, usual in _USUAL.items():
        if signal.getsignal(number) is usual:
            signal.signal(number, _end)


def without_end_early(number: int, handler: Any) -> Any:
    """Return what a handler that was found for a signal was before ``end_early``."""
    return _USUAL[number] if handler is _end else handler


def _end(number: int, _: FrameType | None) -> None:
    raise Ended(EXIT_SIGNAL + number)


def open_standard_files() -> None:
    """Have descriptors 0, 1 and 2 lead somewhere: a file that got one of them would be taken for it."""
    for fd in (0, 1, 2):
        try:
            os.fstat(fd)
        except OSError:
            with suppress(OSError):  # without /dev/null it stays closed
                os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)


def say(text: str) -> None:
    """Print a line on standard error, if it is open and takes it."""
    with suppress(OSError, ValueError, AttributeError):  # closed, gone or never there
        print(text, file=sys.stderr, flush=True)


def show(text: str) -> bool:
    """Print ``text`` on standard output; False if that matters and cannot be done.

    Where nobody reads on, as behind ``| head``, it does not matter.
    """
    with suppress(AttributeError):  # closed: nothing is to be read
        try:
            if text:  # writing nothing waits for a terminal too
                sys.stdout.write(text)
            sys.stdout.flush()
        except BrokenPipeError:
            _give_up(1)
        except (OSError, ValueError) as error:
            _give_up(1)
            say(f"fastws: standard output cannot be written: {getattr(error, 'strerror', None) or error}")
            return False
    return True


def flush_standard_files() -> bool:
    """Write what Python still holds for standard output and error; False as from ``show``.

    What cannot be written goes nowhere, or the interpreter would complain of it at its end.
    """
    is_written = show("")
    with suppress(ValueError, AttributeError):
        try:
            sys.stderr.flush()
        except OSError:
            _give_up(2)
    return is_written


def _give_up(fd: int) -> None:
    with suppress(OSError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, fd)
        os.close(null)
