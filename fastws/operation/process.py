"""One server as a process: signals, the banner, the service manager, and root's rights.

SIGINT and SIGTERM drain and end, a second one ends at once; SIGHUP reloads the configuration and reopens the
logs, SIGUSR1 only reopens the logs.
"""

from __future__ import annotations

import gc
import logging
import os
import signal
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

from ..config.settings import Config, Source
from ..record.logfile import STANDARD_ERROR
from ..record.stream import StandardError
from ..version import __version__
from .file_limit import raise_file_limit
from .rights import is_root
from .server import Server
from .systemd import notify

GC_THRESHOLD = 20_000
"""Objects made between two runs of the cyclic garbage collector; the interpreter's own 700 is for scripts."""


def _numbers(*names: str) -> tuple[int, ...]:
    """Return the numbers of those signals that this platform has."""
    return tuple(int(getattr(signal, name)) for name in names if hasattr(signal, name))


# SIGBREAK is what Windows makes of Ctrl-Break, a closed console, a log-off and a shutdown.
_ENDING = _numbers("SIGINT", "SIGTERM", "SIGBREAK")
_RELOADING = _numbers("SIGHUP")
_OTHERS = (*_RELOADING, *_numbers("SIGUSR1"))

END_S = 7.0
"""How long after a second signal the process ends, whatever still holds it up."""

_standard_error = StandardError()
"""Where a dead or stopped terminal costs nothing but what it would have shown."""

OWN_FILES, WORKER_FILES = 64, 4
"""Descriptors that the process needs for itself, and for each worker."""


def serve(config: Config | str) -> int:
    """Serve until SIGINT or SIGTERM, and return the exit status 0. For the main thread only.

    ``config`` is a ``Config`` or the path of a ``ws.conf``. Raises what ``Server`` and its ``start`` raise.
    """
    if isinstance(config, str):
        return run(Source(config))
    return _run_until_signal(Server(config), lambda: config)


def run(source: Source) -> int:
    """Serve by ``source`` until SIGINT or SIGTERM; SIGHUP reads it again. Returns the exit status 0.

    Raises ``ConfigError`` and ``ListenError``.
    """
    server = Server(source.read())
    # Answers make no cycles, and what is published lives long: the collector has little to find and much to
    # look through. What was made until now lives for ever.
    gc.freeze()
    gc.set_threshold(GC_THRESHOLD)
    return _run_until_signal(server, source.read)


def _run_until_signal(server: Server, read: Callable[[], Config]) -> int:
    # Handlers in Python run when the main thread comes round to it, and a wait for a lock or a queue may begin
    # just before: then it sleeps, with the signal noted and nobody to tell. A byte in a socket stays.
    receiver, sender = socket.socketpair()
    sender.setblocking(False)
    is_ending, has_ended = False, threading.Event()

    def note(number: int, _: Any) -> None:
        nonlocal is_ending
        if number in _ENDING:
            if is_ending:
                server.abort()
                _end_unless(has_ended, number)
            is_ending = True

    before = {number: signal.signal(number, note) for number in (*_ENDING, *_OTHERS)}
    wakeup_fd = signal.set_wakeup_fd(sender.fileno(), warn_on_full_buffer=False)
    try:
        file_limit = _fit_file_limit(server)
        server.start()
        _warn(server, file_limit)
        _print_banner(server)
        notify("READY=1")
        while (number := receiver.recv(1)[0]) not in _ENDING:
            if number not in _OTHERS:
                continue  # of a handler that somebody else has set
            if number not in _RELOADING:
                server.reopen_logs()
                continue
            notify(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")
            server.reload(read)
            _fit_file_limit(server)
            notify("READY=1")
        notify("STOPPING=1")
        server.stop(on_wait=_say_what_is_waited_for if number == signal.SIGINT else None)
        return 0
    finally:
        has_ended.set()
        signal.set_wakeup_fd(wakeup_fd)
        receiver.close()
        sender.close()
        _standard_error.close()
        for number, handler in before.items():
            signal.signal(number, handler)


def _end_unless(has_ended: threading.Event, number: int) -> None:
    """Have the process end in a while though a file system, a device or a program does not let go of it."""

    def end() -> None:
        if not has_ended.wait(END_S):
            os._exit(128 + number)  # what shells report for a process that a signal ended

    threading.Thread(target=end, name="end", daemon=True).start()


def _print_banner(server: Server) -> None:
    config = server.config
    more = ", ".join(server.addresses[1:])
    logs = f"access log: {_named(config.access_log)}, error log: {_named(config.error_log)}"
    _standard_error.say(
        f"fastws {__version__} serves {config.document_root} at {server.url}"
        + (f" and {more}" if more else "")
        + (", open to other machines" if server.is_exposed else "")
        + f" ({logs}{f', as {config.state_problem}' if config.state_problem else ''}; Ctrl-C stops)"
    )


def _named(log: str) -> str:
    return "standard error" if log == STANDARD_ERROR else log


def _fit_file_limit(server: Server) -> int:
    """Have as many descriptors as a full house needs, a file for each connection; return how many there are."""
    wanted = 2 * server.config.max_connections + OWN_FILES + WORKER_FILES * server.worker_count
    return raise_file_limit(wanted)


def _warn(server: Server, file_limit: int) -> None:
    """Say what is doubtful on the terminal and in the error log, once where both are one."""
    config, texts = server.config, []
    if is_root():
        texts.append("fastws runs as root; the directive User names the account to change to after the start")
    if text := server.unused_compiler():
        texts.append(text)
    if file_limit < config.max_connections:
        texts.append(
            f"the limit of open files is {file_limit}, fewer than the {config.max_connections} of MaxConnections;"
            " raise it (ulimit -n, LimitNOFILE) or lower MaxConnections"
        )
    for text in texts:
        server.logger.warning(text)
    if config.error_log != STANDARD_ERROR or not server.logger.isEnabledFor(logging.WARNING):
        for text in (*map(str, server.doubts), *texts):  # the server itself has logged its doubts
            _standard_error.say(f"fastws: warning: {text}")


def _say_what_is_waited_for(count: int) -> None:
    connections = "1 connection" if count == 1 else f"{count} connections"
    _standard_error.say(f"fastws: finishing {connections}; Ctrl-C again ends at once")
