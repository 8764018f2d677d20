"""One server as a process: signals, the banner, the service manager, and the limit of open files.

SIGINT and SIGTERM drain and end, a second one ends at once; SIGHUP reloads the configuration and reopens the
logs, or ends a server whose terminal was closed; SIGUSR1 only reopens the logs; SIGUSR2 has a new process take
this one's place.
"""

from __future__ import annotations

import functools
import gc
import logging
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from .. import backend, portable
from ..config.settings import Config, Source
from ..http.errors import ConfigError, Problem
from ..record.logfile import OFF, STANDARD_ERROR
from ..record.stream import StandardError
from ..upgrade import VARIABLE, pidfile
from ..version import __version__
from .early import without_end_early
from .rights import is_root, raise_file_limit
from .server import Server
from .systemd import notify, watchdog_interval_s
from .terminal import RequestLines, has_controlling_terminal, is_terminal, wants_colour

if TYPE_CHECKING:
    from ..upgrade.heir import Heir
    from ..upgrade.upgrading import Upgrading

SWITCH_S = 0.001
"""How long a thread that computes keeps the interpreter from others that want it; the interpreter's own is 0.005.
A worker wants it back several times for each request that it hands to an application in a thread."""

GC_THRESHOLD = 20_000
"""Objects made between two runs of the cyclic garbage collector; the interpreter's own 700 is for scripts."""


def _numbers(*names: str) -> tuple[int, ...]:
    """Return the numbers of those signals that this platform has."""
    return tuple(int(getattr(signal, name)) for name in names if hasattr(signal, name))


# SIGBREAK is what Windows makes of Ctrl-Break, a closed console, a log-off and a shutdown.
_ENDING = _numbers("SIGINT", "SIGTERM", "SIGBREAK")
_RELOADING = _numbers("SIGHUP")
_REOPENING = _numbers("SIGUSR1")
_UPGRADING = _numbers("SIGUSR2")
_OTHERS = (*_RELOADING, *_REOPENING, *_UPGRADING)

END_S = 7.0
"""How long after a second signal the process ends, whatever still holds it up."""

_standard_error = StandardError()
"""Where a dead or stopped terminal costs nothing but what it would have shown."""

OWN_FILES, WORKER_FILES = 64, 4
"""Descriptors that the process needs for itself, and for each worker."""


def serve(config: Config | str | os.PathLike[str]) -> int:
    """Serve until SIGINT or SIGTERM, and return the exit status 0. For the main thread only.

    ``config`` is a ``Config`` or the path of a ``ws.conf``. Raises what ``Server`` and its ``start`` raise, and
    ``RuntimeError`` in another thread.
    """
    if threading.current_thread() is not threading.main_thread():
        raise RuntimeError(
            "serve() waits for signals, which only the main thread gets; in another thread, use"
            " 'with fastws.Server(config) as server:', which serves until its block ends"
        )
    if not isinstance(config, Config):
        return run(Source(config))
    with _succeeding() as heir:
        return _run_until_signal(Server(config), lambda: config, heir)


def run(source: Source, *, shows_requests: bool = False) -> int:
    """Serve by ``source`` until SIGINT or SIGTERM; SIGHUP reads it again. Returns the exit status 0.

    ``shows_requests`` has each request shown on the terminal, if there is one. Raises ``ConfigError`` and
    ``ListenError``.
    """
    with _succeeding() as heir:
        return _run(source, heir, shows_requests=shows_requests)


def _run(source: Source, heir: Heir | None, *, shows_requests: bool) -> int:
    read: Callable[[], Config] = source.read
    is_shown = shows_requests and is_terminal()
    if is_shown:
        read = functools.partial(_read_with_lines, source)
    server = Server(read())
    # Answers make no cycles, and what is published lives long: the collector has little to find and much to
    # look through. What was made until now lives for ever.
    gc.freeze()
    gc.enable()  # it is off while modules are loaded
    gc.set_threshold(GC_THRESHOLD)
    sys.setswitchinterval(SWITCH_S)
    if "MALLOC_ARENA_MAX" not in os.environ:  # which is the user's word
        backend.load().reactor.share_one_heap()
    if not is_shown or server.config.access_log == STANDARD_ERROR:
        return _run_until_signal(server, read, heir)
    lines = RequestLines(os.dup(2), is_coloured=wants_colour(os.environ))
    server.observe_requests(lines.show)
    try:
        return _run_until_signal(server, read, heir)
    finally:
        lines.close()


def _read_with_lines(source: Source) -> Config:
    """Read the configuration; access lines are made for the terminal where no file is to have them."""
    config = source.read()
    return config.with_overrides(access_log=os.devnull) if config.access_log == OFF else config


class _Signals:
    """The signals of one server: noted when they arrive, waited for by the main thread.

    A handler in Python runs when the main thread comes round to it, and a wait may begin just before: then it
    sleeps, with the signal noted and nobody to tell. A byte in a socket stays. But the socket may be full, while a
    reload takes long: what counts is what was noted.
    """

    def __init__(self, abort: Callable[[], None]) -> None:
        self._abort = abort
        self._noted: set[int] = set()
        self._is_ending = False
        self._has_ended = threading.Event()
        self._receiver, self._sender = socket.socketpair()
        self._sender.setblocking(False)

    def __enter__(self) -> _Signals:
        self._wakeup_fd = signal.set_wakeup_fd(self._sender.fileno(), warn_on_full_buffer=False)
        self._before = {number: signal.signal(number, self._note) for number in (*_ENDING, *_OTHERS)}
        _in_force.append(self)
        return self

    def __exit__(self, *_: object) -> None:
        self._has_ended.set()
        _in_force.remove(self)
        for number, handler in self._before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._wakeup_fd)
        self._receiver.close()
        self._sender.close()
        _standard_error.close()

    def forget(self) -> None:
        """Have signals do what they did before, in a forked child: they are not for the server."""
        for number, handler in self._before.items():
            signal.signal(number, without_end_early(number, handler))
        signal.set_wakeup_fd(self._wakeup_fd)

    def _note(self, number: int, _: Any) -> None:
        if number in _ENDING:
            if self._is_ending:
                self._abort()
                _end_unless(self._has_ended, number)
            self._is_ending = True
        self._noted.add(number)

    def wake(self) -> None:
        """Have ``wait`` return. For any thread."""
        with suppress(OSError):  # it is full, and so returns anyway; or closed
            self._sender.send(b"\0")

    def wait(self, timeout_s: float | None) -> set[int]:
        """Return the numbers of the signals that have arrived, none after ``timeout_s``."""
        self._receiver.settimeout(timeout_s)
        try:
            self._receiver.recv(4096)
        except TimeoutError:
            return set()
        # One by one: a signal may arrive between any two of these instructions.
        return {self._noted.pop() for _ in range(len(self._noted))}


_in_force: list[_Signals] = []


def _forget_signals() -> None:
    for signals in _in_force:
        signals.forget()
    _in_force.clear()


portable.call_in_forks((*_ENDING, *_OTHERS), _forget_signals)


def _run_until_signal(server: Server, read: Callable[[], Config], heir: Heir | None = None) -> int:
    # nohup has SIGHUP ignored: then there is no hang-up to be obeyed.
    is_by_hand = has_controlling_terminal() and not any(
        signal.getsignal(number) is signal.SIG_IGN for number in _RELOADING
    )
    with _Signals(server.abort) as signals:
        directory = _current_directory()
        if server.config.user is not None:
            _upgrading()  # what the account may not be able to read
        file_limit = _start(server, heir)
        upgrading = _upgrading()(
            server.listeners, server.logger, _standard_error.say, signals.wake, directory
        )
        _announce(server, heir, file_limit)
        interval_s = watchdog_interval_s()
        while not (arrived := signals.wait(interval_s)).intersection(_ENDING):
            if interval_s is not None and server.is_responsive(interval_s / 2):
                notify("WATCHDOG=1")
            if arrived.intersection(_RELOADING) and is_by_hand and not has_controlling_terminal():
                break  # the terminal was closed
            upgrading.take_outcome(arrived)
            if upgrading.successor:
                break
            _obey(server, read, upgrading, arrived)
        if upgrading.successor:
            notify(f"MAINPID={upgrading.successor}")
            upgrading.hand_over(arrived)
        else:
            upgrading.cancel()
            notify("STOPPING=1")
        server.stop(
            on_wait=_say_what_is_waited_for if signal.SIGINT in arrived else None,
            is_replaced=bool(upgrading.successor),
        )
        if server.config.pid_file is not None:
            pidfile.remove(server.config.pid_file)
    return 0


def _obey(server: Server, read: Callable[[], Config], upgrading: Upgrading, arrived: set[int]) -> None:
    """Do what signals that do not end the server ask for."""
    if arrived.intersection(_REOPENING):
        server.reopen_logs()
    if upgrading.is_going_on:
        upgrading.missed |= arrived - {*_UPGRADING}  # the new process has its idea of the listeners already
    elif arrived.intersection(_RELOADING):
        _reload(server, read)
    if arrived.intersection(_UPGRADING):
        upgrading.begin(server.config.user)


def _upgrading() -> type[Upgrading]:
    """Return what upgrades this process: loaded once it serves, for the first answer has no need of it.

    Not as late as the signal: by then the code that is installed may be another version's.
    """
    from ..upgrade.upgrading import Upgrading

    return Upgrading


@contextmanager
def _succeeding() -> Iterator[Heir | None]:
    """Give what another process has left for this one; None where there is no such process."""
    if VARIABLE not in os.environ:
        yield None
        return
    from ..upgrade.heir import succeeding

    with succeeding() as heir:
        yield heir


def _current_directory() -> str:
    try:
        return os.getcwd()
    except FileNotFoundError:
        return os.sep  # it is gone, and every path is absolute


def _start(server: Server, heir: Heir | None) -> int:
    """Begin to serve; return the limit of open files."""
    if heir is not None:
        server.listeners.shared = heir.listeners
    file_limit = _fit_file_limit(server)
    server.start()
    return file_limit


def _announce(server: Server, heir: Heir | None, file_limit: int) -> None:
    """Tell all that wait for it that the server serves."""
    if heir is not None:
        heir.take_place(list(server.listeners.by_address))
        server.listeners.own()
    _write_pid_file(server, must_be=heir is None)
    _warn(server, file_limit)
    _print_banner(server)
    notify("READY=1")
    if heir is not None:
        heir.finish()


def _write_pid_file(server: Server, *, must_be: bool) -> None:
    path = server.config.pid_file
    if path is None:
        return
    try:
        pidfile.write(path)
    except OSError as error:
        text = pidfile.refusal(path, error.strerror or str(error))
        if must_be:
            server.stop(0.0)
            raise ConfigError((Problem(*server.config.given["PidFile"], text),)) from None
        server.logger.error("%s", text)


def _reload(server: Server, read: Callable[[], Config]) -> None:
    notify(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")
    server.reload(read)
    _fit_file_limit(server)
    notify("READY=1")


def _end_unless(has_ended: threading.Event, number: int) -> None:
    """Have the process end in a while though a file system, a device or a program does not let go of it."""

    def end() -> None:
        if not has_ended.wait(END_S):
            os._exit(128 + number)  # what shells report for a process that a signal ended

    threading.Thread(target=end, name="end", daemon=True).start()


def _print_banner(server: Server) -> None:
    config = server.config
    more = ", ".join(address for address in server.addresses if not server.listeners.is_first(address))
    logs = f"access log: {_named(config.access_log)}, error log: {_named(config.error_log)}"
    _standard_error.say(
        f"fastws {__version__} serves {config.what_is_served} at {server.url}"
        + (f" and {more}" if more else "")
        + (", open to other machines" + _urls_for_others(server) if server.is_exposed else "")
        + f" ({logs}{f', as {config.state_problem}' if config.state_problem else ''}; Ctrl-C stops)"
    )


def _urls_for_others(server: Server) -> str:
    """Return what another machine in the network may type, where a listener takes every address of a family."""
    from ..transport.interfaces import local_addresses  # only a server that is open to others has them

    found = []
    for address, scheme in server.listeners.schemes().items():
        host, _, port = address.rpartition(":")
        if host == "0.0.0.0":
            found += [f"{scheme}://{each}:{port}/" for each in local_addresses(socket.AF_INET)]
        elif host == "[::]":
            found += [f"{scheme}://[{each}]:{port}/" for each in local_addresses(socket.AF_INET6)]
    return " at " + " ".join(found) if found else ""


def _named(log: str) -> str:
    return {STANDARD_ERROR: "standard error", os.devnull: OFF}.get(log, log)


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
    most = portable.CONNECTIONS_MOST
    if (
        most is not None
        and "MaxConnections" in config.given
        and most * server.worker_count < config.max_connections
    ):
        texts.append(
            f"MaxConnections is {config.max_connections}, and one worker thread takes no more than {most} on this"
            " platform; raise WorkerThreads or lower MaxConnections"
        )
    for text in texts:
        server.logger.warning(text)
    if config.error_log != STANDARD_ERROR or not server.logger.isEnabledFor(logging.WARNING):
        for text in (*map(str, server.doubts), *texts):  # the server itself has logged its doubts
            _standard_error.say(f"fastws: warning: {text}")


def _say_what_is_waited_for(count: int) -> None:
    connections = "1 connection" if count == 1 else f"{count} connections"
    _standard_error.say(f"fastws: finishing {connections}; Ctrl-C again ends at once")
