"""Application processes, from the server's side: who gets a request, what comes back, who is replaced and why."""

from __future__ import annotations

import collections
import functools
import json
import logging
import os
import random
import selectors
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import IO, NamedTuple

from ..http.errors import ConfigError, HTTPError, Problem
from ..http.messages import FileSlice
from . import wire
from .loan import AbandonedError, Head, Loan, Piece
from .spawner import Spawner
from .tally import ApplicationStatus, Tally
from .wsgi import OwnedFile, check_head

AGAIN_S = 1.0
"""How long to wait before a process is started in place of one that ended soon, or could not import."""

START_S = 5.0
"""How long a start waits for the applications to be imported; after that files are served meanwhile."""

CHANGE_S = 60.0
"""How long a reload waits for that."""

TICK_S = 1.0
"""How often is looked at what is due."""

STACKS_S = 0.5
"""How long a process that hangs has to write its stacks before it is killed."""

REPORT_BYTES = 65536
"""The most of a report that goes into the error log."""

STACKS: int = getattr(signal, "SIGUSR2", 0)
KILL: int = getattr(signal, "SIGKILL", 0)
"""The signals that a process that hangs gets."""

STARTING, SERVING, RETIRING, ENDED = range(4)


Where = tuple[str, int] | None
"""The file and line that gave the applications, for what is said of them."""


class Settings(NamedTuple):
    """What the processes are to be: so many of them, with so many threads each, for the applications ``names``.

    ``waiting`` requests may wait for one; modules are looked for in ``directory`` first. ``recycle`` tells when
    one is replaced that does well: after ``requests`` and up to ``jitter`` more, at ``age`` seconds, beyond
    ``memory`` bytes. ``reload``: when a file that was imported changes. ``preload``: the spawner imports the
    modules, so that the processes share them.
    """

    processes: int
    threads: int
    waiting: int
    names: tuple[str, ...]
    directory: str
    preload: bool
    recycle: Mapping[str, int]
    reload: bool


class _Coming:
    """What has come of one answer in what was received at once: its connection is woken once for all of it."""

    __slots__ = ("head", "is_over", "pieces")

    def __init__(self) -> None:
        self.head: Head | None = None
        self.pieces: list[Piece] = []
        self.is_over = False


class _Process:
    """One application process. ``streams`` are the loans that it has."""

    def __init__(
        self,
        number: int,
        spawner: Spawner,
        sock: socket.socket,
        report: IO[bytes],
        settings: Settings,
    ) -> None:
        self.number = number
        self.spawner = spawner
        self.sock = sock
        self.report = report
        self.settings = settings
        self.reader = wire.Reader(sock)
        self.state = STARTING
        self.pid = 0
        self.streams: dict[int, Loan] = {}
        self.coming: dict[int, _Coming] = {}
        self.busy: set[int] = set()  # of them: those that occupy a thread
        self.begun_at = time.monotonic()
        self.kill_at = 0.0  # when it is killed, having been asked for its stacks; 0: it hangs not
        self.unsent: collections.deque[tuple[memoryview, int]] = (
            collections.deque()
        )  # with a descriptor or -1
        self.failure = ""  # why it does not serve
        self.is_expected_to_end = False
        self.is_due = False  # to be replaced
        self.end = "crashed"  # as it is counted
        requests = settings.recycle.get("requests", 0)
        self.left = requests + random.randint(0, settings.recycle.get("jitter", 0)) if requests else 0

    @property
    def name(self) -> str:
        return f"application process {self.number} ({self.pid})"

    def is_worn(self, now: float) -> bool:
        """Tell whether it has grown too old or too large."""
        age, memory = self.settings.recycle.get("age"), self.settings.recycle.get("memory")
        return (age is not None and now >= self.begun_at + age) or (
            memory is not None and self.pid > 0 and _memory_of(self.pid) > memory
        )

    def takes(self, loan: Loan) -> bool:
        """Tell whether it may have ``loan`` now."""
        return (
            self.state == SERVING
            and len(self.busy) < self.settings.threads
            and loan.call.mount.name in self.settings.names
        )


class Processes:
    """The application processes of one server, and the queue before them. Any thread may call.

    One thread, the courier, reads what they say; a request is sent by the thread that brings it.
    """

    def __init__(self, logger: logging.Logger) -> None:
        self._log = logger
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)
        self._settings: Settings
        self._processes: dict[int, _Process] = {}
        self._waiting: collections.deque[Loan] = collections.deque()
        self._numbers = 0  # of processes
        self._streams = 0  # numbers of streams
        self._start_again_at = 0.0
        self._first: _Process | None = None  # of the settings that are about to be those of all
        self._spawner: Spawner | None = None  # of the processes to come; those before it have their own
        self._selector = selectors.DefaultSelector()
        self._woken, self._waker = socket.socketpair()
        self._look_at = 0.0  # when is looked at what is due
        self._is_closed = False
        self._tally = Tally()
        self._courier = threading.Thread(target=self._run, name="courier", daemon=True)

    # Start, change and end

    def start(self, settings: Settings) -> None:
        """Start the processes; they serve when they have imported the applications. Raises ``OSError``."""
        with self._lock:
            self._settings = settings
            self._spawner = self._start_spawner()
            self._waker.setblocking(False)
            self._selector.register(self._woken, selectors.EVENT_READ, self._on_wake)
            for _ in range(settings.processes):
                self._spawn(settings)
            self._courier.start()

    def await_start(self, where: Where) -> None:
        """Return when one process serves, or after ``START_S``. Raises ``ConfigError`` if one cannot."""
        with self._lock:
            self._await(list(self._processes.values()), START_S, where)

    def change(self, settings: Settings, where: Where) -> None:
        """Start processes anew, one after another, each before an old one ends; returns when the first serves.

        Raises ``ConfigError`` if it cannot; then all is as it was.
        """
        with self._lock:
            before = self._spawner
            if settings.preload or self._settings.preload:
                self._spawner = self._start_spawner()  # which has not yet imported anything
            first = self._first = self._spawn(settings)
            self._wake()
            try:
                try:
                    self._await([first], CHANGE_S, where)
                except ConfigError:
                    self._spawner = before
                    raise
                if first.state == STARTING:
                    self._spawner = before
                    self._stop(first)
                    raise _failure(f"they were not imported within {CHANGE_S:g} s", where)
                self._settings = settings
            finally:
                self._first = None
            self._wake()

    def _await(self, processes: list[_Process], timeout_s: float, where: Where) -> None:
        """Wait until one of them serves, or ``timeout_s`` are over; raises ``ConfigError`` if one cannot."""
        deadline = time.monotonic() + timeout_s
        while not any(process.state == SERVING for process in processes):
            for process in processes:
                if process.failure:
                    raise _failure(process.failure, where)
            left = deadline - time.monotonic()
            if left <= 0 or self._is_closed:
                return
            self._changed.wait(left)

    def close(self, timeout_s: float) -> None:
        """End the processes, those that are still busy after ``timeout_s`` by force."""
        deadline = time.monotonic() + timeout_s
        with self._lock:
            self._is_closed = True
            for process in self._processes.values():
                self._retire(process)
            while self._processes and (left := deadline - time.monotonic()) > 0:
                self._changed.wait(left)
            self._wake()
        if self._spawner is not None:
            self._courier.join(TICK_S)
            for spawner in {self._spawner, *(process.spawner for process in self._processes.values())}:
                spawner.close()  # which kills what is left
        self._selector.close()
        self._woken.close()
        self._waker.close()

    def forget(self) -> None:
        """Let go of all sockets without a word, in a forked child, in which no thread serves."""
        for process in self._processes.values():
            process.sock.close()
            process.spawner.control.close()
        if self._spawner is not None:
            self._spawner.control.close()

    def _start_spawner(self) -> Spawner:
        spawner = Spawner()
        on_event = functools.partial(self._on_spawner, spawner)
        self._selector.register(spawner.control, selectors.EVENT_READ, on_event)
        return spawner

    def _spawn(self, settings: Settings) -> _Process:
        """Have the spawner start a process; the lock is held."""
        import tempfile  # applications in processes alone need it

        assert self._spawner is not None
        self._numbers += 1
        number = self._numbers
        ours, its = socket.socketpair()
        ours.setblocking(False)
        report = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115
        process = _Process(number, self._spawner, ours, report, settings)
        told = {
            "number": number,
            "threads": settings.threads,
            "names": settings.names,
            "directory": settings.directory,
            "reload": settings.reload,
            "preload": settings.preload,
            "path": sys.path,
        }
        try:
            self._spawner.spawn(number, told, its.fileno(), report.fileno())
        finally:
            its.close()
        self._processes[number] = process
        self._selector.register(ours, selectors.EVENT_READ, process)
        return process

    # Requests

    def submit(self, loan: Loan) -> bool:
        """Have ``loan`` answered; False if too many others wait."""
        with self._lock:
            if self._is_closed:
                return False
            process = self._free(loan)
            if process is not None:
                self._hand(process, loan)
                return True
            if len(self._waiting) >= self._settings.waiting:
                self._waiting = collections.deque(each for each in self._waiting if not each.is_abandoned)
                if len(self._waiting) >= self._settings.waiting:
                    return False
            self._waiting.append(loan)
            return True

    def _free(self, loan: Loan) -> _Process | None:
        """Return the process with the fewest requests that may have ``loan``, None if all are busy."""
        free = [process for process in self._processes.values() if process.takes(loan)]
        return min(free, key=lambda process: len(process.busy)) if free else None

    def _hand(self, process: _Process, loan: Loan) -> None:
        """Give ``loan`` to ``process``; the lock is held."""
        if not loan.begin():
            return
        self._streams = (self._streams + 1) % (1 << 32)
        number = self._streams
        process.streams[number] = loan
        process.busy.add(number)
        self._tally.begin(loan)
        loan.on_take = lambda count: self._send(process, wire.pack(number, wire.CREDIT, b"%d" % count))
        loan.on_abandon = lambda is_late: self._on_abandon(process, number, is_late=is_late)
        call, body = loan.call, loan.body
        fd = body.fileno()
        told = {
            "prefix": call.mount.prefix,
            "name": call.mount.name,
            "request": call.request[:4],
            "path": (call.script_name, call.path_info, call.query),
            "user": call.user,
            "ends": loan.ends,
            "size": body.size,
            "has_file": fd >= 0,
        }
        text = json.dumps(told).encode()
        payload = len(text).to_bytes(4, "little") + text + body.read_memory()
        self._send(process, wire.pack(number, wire.REQUEST, payload), os.dup(fd) if fd >= 0 else -1)
        body.close()

    def _serve_waiting(self) -> None:
        """Hand out what waits, as far as there are free processes; the lock is held."""
        for _ in range(len(self._waiting)):
            loan = self._waiting.popleft()
            if loan.is_abandoned:
                continue
            process = self._free(loan)
            if process is None:
                self._waiting.append(loan)
            else:
                self._hand(process, loan)

    def _on_abandon(self, process: _Process, number: int, *, is_late: bool) -> None:
        with self._lock:
            loan = process.streams.pop(number, None)
            if loan is None or process.state == ENDED:
                return
            self._tally.end(loan)
            process.busy.discard(number)
            if is_late:
                self._log.error("%s takes too long; it is replaced, and its stacks are below", process.name)
                self._stop(process)
            else:
                # Its thread is free when the application has noticed, which is not waited for.
                self._send(process, wire.pack(number, wire.CANCEL))
                self._serve_waiting()

    def _stop(self, process: _Process) -> None:
        """Have a process that hangs write its stacks, and kill it a little later; the lock is held."""
        if not process.kill_at:
            process.state, process.kill_at = RETIRING, time.monotonic() + STACKS_S
            process.end = "hung"
            process.spawner.kill(process.number, STACKS)
            self._wake()

    # Sending

    def _send(self, process: _Process, data: bytes, fd: int = -1) -> None:
        """Send ``data`` now, or what the socket does not take as soon as it does. ``fd`` is closed after it."""
        with self._lock:
            if process.state == ENDED:
                if fd >= 0:
                    os.close(fd)
                return
            process.unsent.append((memoryview(data), fd))
            if len(process.unsent) == 1 and not self._send_on(process):
                self._wake()

    def _send_on(self, process: _Process) -> bool:
        """Send what waits; False if something is left. The lock is held."""
        while process.unsent:
            data, fd = process.unsent[0]
            try:
                sent = wire.send(process.sock, data, (fd,) if fd >= 0 else ())
            except BlockingIOError:
                return False
            except OSError:  # its end will be read
                sent = len(data)
            if fd >= 0:
                os.close(fd)
            if sent < len(data):
                process.unsent[0] = data[sent:], -1
            else:
                process.unsent.popleft()
        return True

    # The courier

    def _wake(self) -> None:
        with suppress(OSError):
            self._waker.send(b"x")

    def _on_wake(self) -> None:
        self._look_at = 0.0
        with suppress(OSError):
            self._woken.recv(4096)

    def _run(self) -> None:
        while not (self._is_closed and not self._processes):
            try:
                self._turn()
            except Exception:
                self._log.exception("unexpected exception; the courier goes on")
                time.sleep(0.01)

    def _turn(self) -> None:
        with self._lock:
            timeout = max(0.0, self._look_at - time.monotonic())
            for process in self._processes.values():
                if process.state == ENDED:
                    continue
                wanted = selectors.EVENT_READ | (selectors.EVENT_WRITE if process.unsent else 0)
                if self._selector.get_key(process.sock).events != wanted:
                    self._selector.modify(process.sock, wanted, process)
        for key, events in self._selector.select(timeout):
            if isinstance(key.data, _Process):
                self._on_process(key.data, events)
            else:
                key.data()
        now = time.monotonic()
        if now >= self._look_at:
            with self._lock:
                self._keep_time(now)
                due = [process.kill_at for process in self._processes.values() if process.kill_at]
                self._look_at = min([now + TICK_S, *due])

    def _keep_time(self, now: float) -> None:
        """Kill what hangs, and have as many processes of the present settings as there should be."""
        assert self._spawner is not None
        for process in list(self._processes.values()):
            if process.kill_at and now >= process.kill_at:
                process.kill_at = now + TICK_S
                process.spawner.kill(process.number, KILL)
        if self._is_closed or now < self._start_again_at:
            return
        present = [
            each
            for each in self._processes.values()
            if each.state in (STARTING, SERVING) and each is not self._first
        ]
        for each in present:
            if each.state == SERVING and each.settings.recycle and each.is_worn(now):
                each.is_due = True
        fresh = [each for each in present if each.settings is self._settings and not each.is_due]
        outdated = [each for each in present if each not in fresh]
        if (
            len(present) > self._settings.processes
            and outdated
            and all(each.state == SERVING for each in fresh)
        ):
            self._retire(outdated[0])
        elif len(fresh) > self._settings.processes:
            self._retire(fresh[0])
        elif not outdated:
            for _ in range(self._settings.processes - len(fresh)):
                self._spawn(self._settings)
        elif len(fresh) < self._settings.processes and all(each.state == SERVING for each in fresh):
            self._spawn(self._settings)

    def _on_spawner(self, spawner: Spawner) -> None:
        if not spawner.receive():
            self._selector.unregister(spawner.control)
            with self._lock:
                self._replace_spawner(spawner)
            return
        for frame in spawner.reader.frames():
            process = self._processes.get(frame.stream)
            if process is not None and frame.kind == wire.BORN:
                process.pid = json.loads(frame.payload)
            elif process is not None:
                while self._receive(process):  # what it said before it ended
                    pass
                self._end(process, json.loads(frame.payload))

    def _replace_spawner(self, spawner: Spawner) -> None:
        """Start another spawner in place of one that is gone, and have it replace what that one has left."""
        left = [each for each in self._processes.values() if each.spawner is spawner]
        if spawner is self._spawner and not self._is_closed:
            self._log.error("the spawner of application processes has ended; it and they are replaced")
            self._spawner = self._start_spawner()
            for process in left:
                process.is_due = True
            self._wake()
        for process in left:
            if process.state == ENDED:
                self._forget(process, "it ended")

    def _on_process(self, process: _Process, events: int) -> None:
        if events & selectors.EVENT_WRITE:
            with self._lock:
                self._send_on(process)
        if events & selectors.EVENT_READ:
            self._receive(process)

    def _receive(self, process: _Process) -> bool:
        """Take what a process says; False if that is nothing."""
        if process.state == ENDED:
            return False
        try:
            is_open = process.reader.receive()
        except BlockingIOError:
            return False
        except OSError:
            is_open = False
        for frame in process.reader.frames():
            _TAKERS[frame.kind](self, process, frame)
        if process.coming:
            self._deliver(process)
        if not is_open:
            self._end(process, "it ended" if process.spawner.is_gone else "")
        return is_open

    def _end(self, process: _Process, reason: str) -> None:
        """A process is gone: answer what it had, and replace it. The reason may come a moment after the end."""
        with self._lock:
            if reason and process.state == ENDED:
                self._forget(process, reason)
                return
            if process.state == ENDED:
                return
            if process.state == STARTING:
                process.failure = process.failure or "it ended before the applications were imported"
            if not process.is_expected_to_end and time.monotonic() < process.begun_at + AGAIN_S:
                self._start_again_at = time.monotonic() + AGAIN_S
            process.state = ENDED
            self._changed.notify_all()
            self._selector.unregister(process.sock)
            process.sock.close()
            for fd in [*process.reader.take_fds(), *(fd for _, fd in process.unsent if fd >= 0)]:
                os.close(fd)
            loans, process.streams = list(process.streams.values()), {}
            process.busy.clear()
            for loan in loans:
                self._tally.end(loan)
            process.unsent.clear()
            if reason:
                self._forget(process, reason)
        for loan in loans:
            loan.fail(HTTPError(502, "The application's process ended."))

    def _forget(self, process: _Process, reason: str) -> None:
        """Say how a process ended, and have it no more; the lock is held."""
        if self._processes.pop(process.number, None) is None:
            return
        process.report.seek(0)
        report = process.report.read(REPORT_BYTES).decode("utf-8", "replace")
        process.report.close()
        if not process.is_expected_to_end:
            self._log.error("%s: %s", process.name, reason)
        for line in report.splitlines():
            self._log.error("%s: %s", process.name, line)
        if not self._is_closed:
            self._tally.ends[process.end] += 1
        spawner = process.spawner
        if spawner is not self._spawner and not any(
            each.spawner is spawner for each in self._processes.values()
        ):
            if not spawner.is_gone:
                self._selector.unregister(spawner.control)
            spawner.close()
        self._changed.notify_all()
        self._wake()

    def status(self) -> ApplicationStatus:
        """Return the counts."""
        with self._lock:
            processes = list(self._processes.values())
            busy = sum([len(process.busy) for process in processes])
            serving = sum([process.state == SERVING for process in processes])
            return self._tally.status(busy, len(self._waiting), serving)

    def _retire(self, process: _Process) -> None:
        """Give a process no more requests; it ends after those that it has. The lock is held."""
        if process.state in (STARTING, SERVING):
            process.state = RETIRING
            process.is_expected_to_end = True
            process.end = "recycled" if process.is_due else "reloaded"
            self._send(process, wire.pack(0, wire.QUIT))

    # What processes say

    def _take_ready(self, process: _Process, frame: wire.Frame) -> None:
        with self._lock:
            if process.state != STARTING:
                return
            process.state = SERVING
            self._log.info("%s serves %s", process.name, ", ".join(process.settings.names))
            self._serve_waiting()
            self._changed.notify_all()
            self._wake()

    def _take_failed(self, process: _Process, frame: wire.Frame) -> None:
        with self._lock:
            process.failure = frame.payload.decode("utf-8", "replace")
            self._log.error("%s: %s", process.name, process.failure)
            process.is_expected_to_end, process.end = True, "unimported"
            self._start_again_at = time.monotonic() + AGAIN_S
            self._changed.notify_all()

    def _take_changed(self, process: _Process, frame: wire.Frame) -> None:
        with self._lock:
            self._log.info("%s: a file has changed", process.name)
            for each in self._processes.values():
                each.is_due = True
            self._start_again_at = 0.0
            self._wake()

    def _take_head(self, process: _Process, frame: wire.Frame) -> None:
        status, reason, fields, length = json.loads(frame.payload)
        try:
            head = check_head(f"{status} {reason}", fields)._replace(length=length)
        except (TypeError, ValueError):  # the process has checked it, if nothing in it has forged it since
            self._log.error("%s sends a head that no answer may have", process.name)
            loan = process.streams.get(frame.stream)
            if loan is not None:
                loan.fail(HTTPError(502, "The application's process sent what cannot be sent on."))
            return
        process.coming.setdefault(frame.stream, _Coming()).head = head

    def _take_data(self, process: _Process, frame: wire.Frame) -> None:
        process.coming.setdefault(frame.stream, _Coming()).pieces.append(frame.payload)

    def _take_file(self, process: _Process, frame: wire.Frame) -> None:
        offset, length = json.loads(frame.payload)
        piece = FileSlice(OwnedFile(process.reader.take_fd()), offset, length)
        process.coming.setdefault(frame.stream, _Coming()).pieces.append(piece)

    def _take_over(self, process: _Process, frame: wire.Frame) -> None:
        process.coming.setdefault(frame.stream, _Coming()).is_over = True

    def _deliver(self, process: _Process) -> None:
        """Put what was received into the loans that it belongs to."""
        coming, process.coming = process.coming, {}
        for number, come in coming.items():
            loan = process.streams.get(number)
            if loan is None:
                for piece in come.pieces:
                    if isinstance(piece, FileSlice):
                        piece.file.close()
                continue
            with suppress(AbandonedError):
                loan.deliver(come.head, *come.pieces, is_over=come.is_over)
            if come.is_over:
                self._free_stream(process, number)

    def _take_free(self, process: _Process, frame: wire.Frame) -> None:
        with self._lock:
            process.busy.discard(frame.stream)
            self._serve_waiting()

    def _take_error(self, process: _Process, frame: wire.Frame) -> None:
        self._deliver(process)
        status, detail = json.loads(frame.payload)
        loan = process.streams.get(frame.stream)
        if loan is not None:
            loan.fail(HTTPError(status, detail))
        self._free_stream(process, frame.stream)

    def _take_log(self, process: _Process, frame: wire.Frame) -> None:
        level, thread, line = json.loads(frame.payload)
        record = self._log.makeRecord(self._log.name, level, "", 0, line, (), None)
        record.threadName = f"app-{process.number} {thread}"
        self._log.handle(record)

    def _free_stream(self, process: _Process, number: int) -> None:
        with self._lock:
            loan = process.streams.pop(number, None)
            if loan is not None:
                self._tally.end(loan)
            process.busy.discard(number)
            process.left -= 1
            if process.left == 0:
                process.is_due = True
                self._wake()
            self._serve_waiting()


def _memory_of(pid: int) -> int:
    """Return the resident memory of a process in bytes, 0 where the platform does not tell."""
    if sys.platform == "win32":
        return 0
    try:
        with open(f"/proc/{pid}/statm", "rb") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError):
        return 0


def _failure(text: str, where: Where) -> ConfigError:
    file, line = where or ("configuration", 0)
    return ConfigError((Problem(file, line, f"Application: {text}"),))


_TAKERS: dict[int, Callable[[Processes, _Process, wire.Frame], None]] = {
    wire.READY: Processes._take_ready,
    wire.FAILED: Processes._take_failed,
    wire.CHANGED: Processes._take_changed,
    wire.HEAD: Processes._take_head,
    wire.DATA: Processes._take_data,
    wire.FILE: Processes._take_file,
    wire.OVER: Processes._take_over,
    wire.FREE: Processes._take_free,
    wire.ERROR: Processes._take_error,
    wire.LOG: Processes._take_log,
}
