"""The old process's side of an upgrade: it starts the new one, and waits until that serves or has failed."""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING

from ..config.endpoints import is_socket_activated
from ..language.named_tuple import NamedTuple
from ..transport.listener import ACTIVATED, Address, UnixListener
from . import VARIABLE
from .channel import DONE, ESTATE, FAILED, GO, READY, Channel

if TYPE_CHECKING:
    import subprocess

READY_S = 60.0
"""How long the new process may take until it serves; applications are imported in this time."""

DONE_S = 5.0
"""How long it may take to write its pid file once it may."""

END_S = 2.0
"""How long a process that does not become ready may take to end before it is killed."""

MOST_LINES = 50
"""As many of the last lines that a new process printed before it failed are kept for the error log."""

_KILL = getattr(signal, "SIGKILL", signal.SIGTERM)

_FOR_ONE_PROCESS = ("LISTEN_PID", "WATCHDOG_PID")
"""Variables that name the process they are for: without them they are for the one that reads them."""


class Outcome(NamedTuple):
    """What came of an attempt: the process that serves, and where; or 0, and why there is none."""

    pid: int
    addresses: tuple[Address, ...] = ()
    summary: str = ""
    details: tuple[str, ...] = ()


def _failure(summary: str, details: Iterable[str] = ()) -> Outcome:
    return Outcome(0, (), summary, tuple(details))


class Attempt:
    """Starts a process by ``command`` that is to serve what ``listeners`` do; ``on_end`` is called by a thread.

    ``show`` takes what the new process prints before it has got hold of standard error.
    """

    def __init__(
        self,
        command: Command,
        listeners: Mapping[Address, socket.socket],
        show: Callable[[str], None],
        on_end: Callable[[], None],
    ) -> None:
        self._command = command
        self._listeners = dict(listeners)
        self._show = show
        self._on_end = on_end
        self._channel: Channel
        self._program: subprocess.Popen[bytes] | None = None
        self._printed: list[str] = []
        self._is_cancelled = False
        self.outcome: Outcome | None = None
        """None while it goes on."""
        self._thread = threading.Thread(target=self._run, name="upgrade", daemon=True)
        self._thread.start()

    # For the main thread

    def cancel(self) -> None:
        """End the new process, and return when it has ended."""
        self._is_cancelled = True
        self._kill()
        self._thread.join(2 * END_S)

    def confirm(self) -> None:
        """Tell the new process that it counts from now on; return when it has taken over."""
        self._channel.send(GO)
        with suppress(TimeoutError):
            self._channel.sock.settimeout(DONE_S)
            while self._channel.receive()[0] not in (DONE, ""):
                pass
        self._channel.close()

    # The thread

    def _run(self) -> None:
        try:
            self.outcome = self._try()
        except Exception as error:  # no descriptors, no memory, a Python that is not there any more
            self.outcome = _failure(
                f"cannot start {self._command.words[0]}: {_said(error)}{self._command.hint}"
            )
        if not self.outcome.pid:
            self._kill()
        self._on_end()

    def _try(self) -> Outcome:
        ours, its = socket.socketpair()
        self._channel = Channel(ours)
        read_end, write_end = os.pipe()
        printing = threading.Thread(target=self._relay, args=(read_end,), name="relay", daemon=True)
        printing.start()
        try:
            self._launch(its.fileno(), write_end)
            if self._is_cancelled:  # before there was anything to end
                self._kill()
        finally:
            its.close()
            os.close(write_end)
        return self._await(printing)

    def _launch(self, channel: int, error: int) -> None:
        """Start the new process, whose standard error is ``error`` at first, and say what it inherits."""
        later = os.dup(2)
        try:
            listening = [sock.fileno() for sock in self._listeners.values()]
            # Said before there is a process to hear it: this one may be killed in between.
            self._channel.send(ESTATE, {"listeners": self._described(), "stderr": later})
            self._program = self._command.start(channel, error, [later, *listening])
        finally:
            os.close(later)

    def _described(self) -> list[tuple[str, int, int, tuple[int, int]]]:
        return [
            (*address, sock.fileno(), sock.file_number if isinstance(sock, UnixListener) else (0, 0))
            for address, sock in self._listeners.items()
            if address[0] != ACTIVATED  # those are found as a service manager hands them over
        ]

    def _await(self, printing: threading.Thread) -> Outcome:
        assert self._program is not None
        self._channel.sock.settimeout(READY_S)
        try:
            kind, value = self._channel.receive()
        except TimeoutError:
            return _failure(f"it did not serve within {READY_S:g} s")
        if kind == READY and not self._is_cancelled:
            return Outcome(self._program.pid, tuple([(host, port) for host, port in value]))
        if self._is_cancelled:
            return _failure("this process was told to stop")
        if kind == FAILED:
            first, *more = value.splitlines() or ["it gave no reason"]
            return _failure(first + (f" (and {len(more)} more in the error log)" if more else ""), more)
        status = self._wait()
        printing.join(END_S)
        last = next(filter(None, map(str.strip, reversed(self._printed))), "it printed nothing")
        return _failure(f"it {_ended(status)}: {last}{self._command.hint}", self._printed[-MOST_LINES:])

    def _relay(self, fd: int) -> None:
        """Show what the new process prints, and keep the end of it."""
        with open(fd, errors="replace") as file:
            for line in file:
                self._printed = [*self._printed[-MOST_LINES:], line.rstrip()]
                self._show(line.rstrip("\n"))

    def _wait(self) -> int | None:
        """Wait for a process that has closed its end of the channel; None if it does not end."""
        assert self._program is not None
        deadline = time.monotonic() + END_S
        while (status := self._program.poll()) is None and time.monotonic() < deadline:
            time.sleep(0.01)
        return status

    def _kill(self) -> None:
        if self._program is None:
            return
        for number in (signal.SIGTERM, _KILL):
            with suppress(OSError):
                self._program.send_signal(number)
            if self._wait() is not None:
                return


class Command(NamedTuple):
    """How this process was started, so that another one can be started the same way."""

    words: tuple[str, ...]
    directory: str
    hint: str = ""
    """What is worth knowing where the new process fails without a word."""

    def start(self, channel: int, error: int, fds: list[int]) -> subprocess.Popen[bytes]:
        """Start it with these descriptors; raises ``OSError``."""
        import subprocess  # an upgrade alone needs it

        if sys.platform == "win32":
            raise OSError("this platform has no SIGUSR2")
        kept = {name: text for name, text in os.environ.items() if name not in _FOR_ONE_PROCESS}
        if not is_socket_activated():
            kept.pop("LISTEN_FDS", None)
        return subprocess.Popen(
            self.words,
            cwd=self.directory if os.path.isdir(self.directory) else None,
            env=kept | {VARIABLE: str(channel)},
            stderr=error,
            pass_fds=(channel, *fds),
            # The end of a session's leader hangs up its terminal for all that belong to it: setsid(2).
            start_new_session=os.getsid(0) == os.getpid(),
        )


def command_of_this_process(here: str) -> Command:
    """Return how this process was started, in the directory ``here``."""
    named = os.environ.get("PWD", "")
    # A directory that was entered by a link, such as `current`, is entered by it again.
    with suppress(OSError):
        if os.path.isabs(named) and os.path.samefile(named, here):
            here = named
    return Command((sys.executable, *sys.orig_argv[1:]), here)


def _ended(status: int | None) -> str:
    if status is None:
        return "closed its channel and goes on"
    if status >= 0:
        return f"ended with status {status}"
    try:
        return f"was ended by {signal.Signals(-status).name}"
    except ValueError:
        return f"was ended by signal {-status}"


def _said(error: Exception) -> str:
    return (isinstance(error, OSError) and error.strerror) or str(error) or type(error).__name__
