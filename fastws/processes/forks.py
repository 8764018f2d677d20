"""The spawner: a program with one thread that forks the application processes and says how they end.

The server starts it as a new interpreter. So it has none of the server's sockets, keys and threads, which makes
forking safe, and what a forked process imports is what lies on the disk by then.
"""

from __future__ import annotations

import gc
import json
import os
import selectors
import signal
import socket
import sys
from contextlib import suppress
from typing import Any

from .. import portable
from ..application.loading import find
from . import wire

QUIET = ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1")
"""Signals that a service manager or a terminal sends to all at once: what they mean is the server's business."""


def main(number: int) -> None:
    """Serve the control socket with this descriptor until the server closes it; exits the process."""
    child = _Forks(socket.socket(fileno=number)).run()
    if child is not None:
        numbers = [getattr(signal, name) for name in QUIET if hasattr(signal, name)]
        portable.call_in_forks(numbers, _be_usual)  # what an application forks is not the server's
        from .inside import run  # in the child alone

        sys.exit(run(be_quiet, *child))


def be_quiet() -> None:
    """Do nothing at signals that are not for this process and those that it forks.

    Programs that are started have them as usual, for a handler is not inherited by those.
    """
    for name in QUIET:
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), _nothing)


def _be_usual() -> None:
    """Have signals do again what they do in any program, but for those that the application has taken."""
    for name in QUIET:
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) is _nothing:
            signal.signal(number, signal.default_int_handler if name == "SIGINT" else signal.SIG_DFL)


def _nothing(number: int, frame: object) -> None:
    pass


class _Forks:
    """The processes that were forked, from the inside."""

    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._reader = wire.Reader(control)
        self._processes: dict[int, int] = {}  # the system's number of each
        self._is_loaded = False
        self._woken, self._waker = socket.socketpair()
        self._waker.setblocking(False)
        self._take_signals()

    def _take_signals(self) -> None:
        be_quiet()
        if sys.platform != "win32":
            signal.signal(signal.SIGCHLD, _nothing)
        signal.set_wakeup_fd(self._waker.fileno(), warn_on_full_buffer=False)

    def run(self) -> tuple[socket.socket, int, int, dict[str, Any]] | None:
        """Return what a forked child is to do, None in the spawner itself when the server is gone."""
        with selectors.DefaultSelector() as selector:
            for sock in (self._control, self._woken):
                selector.register(sock, selectors.EVENT_READ)
            while True:
                for key, _ in selector.select():
                    if key.fileobj is self._woken:
                        self._woken.recv(4096)
                        self._reap()
                    else:
                        try:
                            is_open = self._reader.receive()
                        except OSError:
                            is_open = False
                        if not is_open:
                            self._end()
                            return None
                        for frame in self._reader.frames():
                            if frame.kind == wire.SPAWN:
                                child = self._spawn(frame)
                                if child is not None:
                                    return child
                            elif frame.kind == wire.KILL and frame.stream in self._processes:
                                with suppress(ProcessLookupError):
                                    os.kill(self._processes[frame.stream], int(frame.payload))

    def _preload(self, settings: dict[str, Any]) -> None:
        """Import what processes will need; what fails here fails there again, and is said there."""
        if settings["preload"] and not self._is_loaded:
            self._is_loaded = True
            sys.path[:] = [settings["directory"], *settings["path"]]
            for name in settings["names"]:
                with suppress(Exception, SystemExit):
                    find(name)
            from .inside import prepare  # which each of them needs

            prepare(settings)
            gc.collect()
            gc.freeze()  # a collection in a process would write to the pages that all of them share
            self._take_signals()  # whatever the modules have made of them

    def _spawn(self, frame: wire.Frame) -> tuple[socket.socket, int, int, dict[str, Any]] | None:
        """Fork; return what the child is to do, None in the parent."""
        if sys.platform == "win32":
            raise NotImplementedError
        sock, report, taken = [self._reader.take_fd() for _ in range(3)]
        settings = json.loads(frame.payload)
        self._preload(settings)
        try:
            pid = os.fork()
        except OSError as error:
            self._tell(wire.pack_json(frame.stream, wire.DEAD, f"it cannot be started: {error.strerror}"))
            pid = -1
        if pid == 0:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            for own in (self._control, self._woken, self._waker):
                own.close()
            return socket.socket(fileno=sock), report, taken, settings
        for fd in (sock, report, taken):
            os.close(fd)
        if pid > 0:
            self._processes[frame.stream] = pid
            self._tell(wire.pack_json(frame.stream, wire.BORN, pid))
        return None

    def _reap(self) -> None:
        if sys.platform == "win32":
            raise NotImplementedError
        for number, pid in list(self._processes.items()):
            found, status = os.waitpid(pid, os.WNOHANG)
            if found:
                del self._processes[number]
                self._tell(wire.pack_json(number, wire.DEAD, _describe(status)))

    def _tell(self, frame: bytes) -> None:
        with suppress(OSError):
            self._control.sendall(frame)

    def _end(self) -> None:
        if sys.platform == "win32":
            raise NotImplementedError
        for pid in self._processes.values():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def _describe(status: int) -> str:
    code = os.waitstatus_to_exitcode(status)
    if code >= 0:
        return f"it ended with status {code}"
    try:
        return f"{signal.Signals(-code).name} ended it"
    except ValueError:
        return f"signal {-code} ended it"
