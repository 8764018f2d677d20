"""``fastws upgrade``: has a running server replaced by a new process, and says how it went.

Exit status 0: the new process serves; 1: it does not, and the old one goes on; 2: the command line or the
configuration is wrong, and nothing was done.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Sequence

from ..config.settings import Config
from . import pidfile
from .answering import DONE, Waiting, is_server
from .attempt import DONE_S, END_S, READY_S

EXIT_OK, EXIT_FAILED, EXIT_USAGE = 0, 1, 2

WAIT_S = READY_S + DONE_S + 2 * END_S + 10
"""As long as the server may take to answer, and a little more."""


def upgrade(words: Sequence[str], read: Callable[[str | None], Config], say: Callable[[str], None]) -> int:
    """Do what the words behind ``upgrade`` ask and return the exit status.

    ``read`` returns the configuration at a path, None for that of the current directory, and raises
    ``ConfigError``. ``say`` prints a line.
    """
    import argparse

    parser = argparse.ArgumentParser(
        prog="fastws upgrade",
        description="Replace a running server by a new process of the code that is installed now, without losing a"
        " request: it is sent SIGUSR2.",
    )
    parser.add_argument("pid", nargs="?", type=int, metavar="PID", help="process to replace")
    parser.add_argument("--config", metavar="FILE", help="else: the file whose PidFile names it (./ws.conf)")
    given = parser.parse_args(words)
    if sys.platform == "win32":
        say("fastws: this platform has no SIGUSR2; the server can only be stopped and started again")
        return EXIT_FAILED
    pid = given.pid
    if pid is None:
        path = read(given.config).pid_file
        if path is None:
            say("fastws: which process? A PID is needed, or a configuration with PidFile")
            return EXIT_USAGE
        try:
            pid = pidfile.read(path)
        except FileNotFoundError:
            say(f"fastws: no server runs: there is no {path}")
            return EXIT_FAILED
        except (OSError, ValueError) as error:
            say(f"fastws: PidFile cannot be read: {error}")
            return EXIT_FAILED
    return _have_replaced(pid, say)


def _have_replaced(pid: int, say: Callable[[str], None]) -> int:
    if sys.platform == "win32":
        return EXIT_FAILED  # for mypy: the caller has said why
    if pid <= 0 or not is_server(pid):
        say(f"fastws: process {pid} is no server that can be replaced: it has ended, or is something else")
        return EXIT_FAILED
    waiting = None
    try:
        if sys.platform == "linux":
            waiting = Waiting(pid)
        os.kill(pid, signal.SIGUSR2)
        if waiting is None:
            say(f"fastws: process {pid} was told; its error log says what comes of it")
            return EXIT_OK
        told = waiting.wait(WAIT_S)
    except PermissionError:
        say(f"fastws: process {pid} is another account's; root or that account may have it replaced")
        return EXIT_FAILED
    except OSError as error:
        say(f"fastws: process {pid} is being replaced by another command, or is gone: {error.strerror}")
        return EXIT_FAILED
    finally:
        if waiting is not None:
            waiting.close()
    if told is None:
        say(f"fastws: process {pid} has said nothing, or has ended; its error log says more")
        return EXIT_FAILED
    kind, text = told
    say(f"fastws: {text}")
    return EXIT_OK if kind == DONE else EXIT_FAILED
