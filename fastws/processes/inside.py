"""An application process, from the inside: requests come from the server, threads answer them."""

from __future__ import annotations

import faulthandler
import functools
import logging
import mmap
import os
import select
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from ..application.body import NO_BODY, Spool
from ..application.environ import Ends, Manner
from ..application.loading import LoadError, State, explain, files_of, load, note_imports, to_trace, watch
from ..application.mounts import Application, Mount
from ..application.threads import Threads
from ..backend import load_parser
from . import wire
from .stream import HOLD_S, Outlet, Stream

STACKS_SIGNAL = "SIGUSR2"
"""Has the stacks of all threads written into the report."""

PLACES = 256
"""So many clients are remembered, each with what all of its requests have in common."""


def run(
    be_quiet: Callable[[], None], sock: socket.socket, report: int, taken: int, settings: dict[str, Any]
) -> int:
    """Serve until the server says that it is enough, or is gone; return the exit status.

    ``be_quiet`` has signals do what they should, once more when the applications are imported, whatever they have
    made of them.
    """
    if sys.platform == "win32":
        raise NotImplementedError
    sock.setblocking(True)  # a module that is preloaded may have called socket.setdefaulttimeout
    faulthandler.enable(report)
    _take_signals(be_quiet, report)
    _name_process(f"fastws: app {settings['number']}")
    process = _Process(sock, taken, settings)
    os.register_at_fork(after_in_child=process.disown)
    try:
        if not process.load():
            return 3
        _take_signals(be_quiet, report)
        process.run()
        return 0
    except OSError:  # the server is gone
        return 0
    finally:
        # The end that the server sees; threads of the applications may take longer. Closing alone would leave the
        # socket open for as long as one of them waits for a request.
        with suppress(OSError):
            sock.shutdown(socket.SHUT_RDWR)
        sock.close()


def prepare(settings: dict[str, Any]) -> None:
    """Import what a process needs, before it is forked."""
    load_parser(pure=settings["is_pure"])


def _take_signals(be_quiet: Callable[[], None], report: int) -> None:
    if sys.platform == "win32":
        raise NotImplementedError
    be_quiet()
    number = getattr(signal, STACKS_SIGNAL)
    faulthandler.unregister(number)  # or else registering it again changes nothing
    faulthandler.register(number, report, all_threads=True)


def _name_process(name: str) -> None:
    try:
        with open("/proc/self/comm", "wb") as file:
            file.write(name[:15].encode())
    except OSError:  # elsewhere it is called as it is
        pass


class _Process:
    """The source of the loans that its threads run; the main thread only looks after them."""

    def __init__(self, sock: socket.socket, taken: int, settings: dict[str, Any]) -> None:
        self._sock = sock
        self._outlet = Outlet(sock)
        self._places: dict[bytes, tuple[Mount, Ends]] = {}
        self._reader = wire.Reader(sock)
        self._settings = settings
        self._streams: dict[int, Stream] = {}
        self._is_quitting = self._is_over = self._is_disowned = False
        self._applications: dict[str, Application] = {}
        self._noted: dict[str, State] = {}
        self._log = logging.Logger("fastws")
        self._log.addHandler(_Handler(self))
        manner = Manner(multithread=settings["threads"] > 1, multiprocess=True)
        check = load_parser(pure=settings["is_pure"]).check_given
        self._threads = Threads(self._log, check, manner, self)
        self.count = functools.partial(wire.COUNTER.pack_into, mmap.mmap(taken, wire.COUNTER.size), 0)
        """Tells how many requests were begun, in memory that the server sees even when this process is dead."""

    def run(self) -> None:
        self.send(wire.pack(0, wire.READY))
        self._threads.limit(self._settings["threads"], sys.maxsize)  # the server sends no more than is good
        seen = 0
        while not self._is_over:
            if seen == self._threads.taken:  # calls take long, or there are none
                self._outlet.flush()
                if not self._threads.nudge():
                    self._stand_in()
            seen = self._threads.taken
            self._threads.pause(HOLD_S)
        self._outlet.finish()

    def _stand_in(self) -> None:
        """Fetch in place of the threads, which are all busy."""
        if sys.platform == "win32":
            raise NotImplementedError
        waiting = select.poll()
        waiting.register(self._sock, select.POLLIN)
        loans: Sequence[Stream] | None = ()
        while not self._is_over and loans is not None and self._threads.add(loans):
            loans = self.fetch() if waiting.poll(HOLD_S * 1e3) else ()
            self._outlet.flush()

    def fetch(self) -> Sequence[Stream] | None:
        """Wait for what the server says, and return the requests in it; None if there will be none any more."""
        try:
            if self._reader.receive():
                return self._take_all()
        except OSError:  # the server is gone
            pass
        except Exception:
            self._log.exception("unexpected exception; the process ends")
        self._end()
        return None

    def _take_all(self) -> list[Stream]:
        loans: list[Stream] = []
        for frame in self._reader.frames():
            if frame.kind == wire.REQUEST:
                loans.append(self._begin(frame))
            elif frame.kind == wire.RECALL:
                self._give_back(loans)
                loans = []
            else:
                self._take(frame)
        return loans

    def rest(self) -> None:
        """Send what is held, for its thread has nothing more to do."""
        with suppress(OSError):  # the server is gone, which is read too
            self._outlet.flush()

    def _end(self) -> None:
        if self._is_disowned:
            os._exit(0)
        self._is_over = True
        self._threads.unpause()

    def load(self) -> bool:
        sys.path[:] = self._settings["path"]
        sys.argv[:] = ["fastws"]
        if self._settings["reload"]:
            self._noted = note_imports()
        try:
            for name in self._settings["names"]:
                self._applications[name] = load(name, self._settings["directory"])
        except LoadError as error:
            if self._settings["reload"]:
                self._explain(error)
                return True
            if cause := to_trace(error):
                self._log.error("an application cannot be loaded", exc_info=cause)
            self.send(wire.pack(0, wire.FAILED, str(error).encode("utf-8", "replace")))
            return False
        if self._settings["reload"]:
            watch(self._tell_change, noted=self._noted)
        return True

    def _explain(self, error: LoadError) -> None:
        """Answer every request with what is wrong, until a file changes."""
        cause = error.__cause__ or error
        self._log.error("%s; it is tried again when a file changes", error)
        self._applications = dict.fromkeys(self._settings["names"], explain(cause))
        watch(self._tell_change, files_of(cause), self._noted)

    def _tell_change(self) -> None:
        self.send(wire.pack(0, wire.CHANGED))

    def _take(self, frame: wire.Frame) -> None:
        if frame.kind == wire.QUIT:
            self._is_quitting = True
            if not self._streams:
                self._end()
            return
        stream = self._streams.get(frame.stream)
        if stream is None:
            return  # it is answered by now
        if frame.kind == wire.CANCEL:
            stream.abandon()
            self.forget(frame.stream)
        elif frame.kind == wire.CREDIT:
            stream.add_credit(int(frame.payload))

    def _begin(self, frame: wire.Frame) -> Stream:
        number, _, payload = frame
        call, ends, data, size, has_file = wire.unpack_request(payload, self._place)
        body, is_lacking = NO_BODY, False
        if size:
            body = Spool()
            try:
                if has_file:
                    body.adopt(self._reader.take_fd(), size)
                else:
                    body += data
            except OSError:  # the file has not come
                is_lacking = True
        self._streams[number] = stream = Stream(self._outlet, self.forget, number, call, ends, body)
        if is_lacking:  # a thread takes it all the same, for those that are taken are counted
            stream.abandon()
            self.send(wire.pack_json(number, wire.ERROR, [503, "The application has too many files open."]))
            self.forget(number)
        return stream

    def _give_back(self, fetched: list[Stream]) -> None:
        """Say which requests no thread has taken, those in ``fetched`` among them, and forget them."""
        numbers = [loan.number for loan in self._threads.withdraw(fetched) if isinstance(loan, Stream)]
        given = [number for number in numbers if self._streams.pop(number, None) is not None]
        self.send(wire.pack_json(0, wire.RECALLED, given))

    def _place(self, data: bytes) -> tuple[Mount, Ends]:
        """Return the mount that a request is for, and the ends of its connection."""
        known = self._places.get(data)
        if known is None:
            place = wire.unpack_place(data)
            if len(self._places) >= PLACES:
                self._places.clear()
            mount = Mount(place.prefix, self._applications[place.name], place.name)
            known = self._places[data] = mount, place.ends
        return known

    def forget(self, number: int) -> None:
        """Have no such stream any more; after the last one the process may end."""
        if self._is_disowned:
            os._exit(0)
        self._streams.pop(number, None)
        if self._is_quitting and not self._streams:
            self._end()

    def disown(self) -> None:
        """In a process that an application has forked: say nothing in this one's name, and end at an attempt."""
        self._is_disowned = True
        self._sock.close()
        self._outlet.disown()

    def send(self, data: bytes) -> None:
        """Send all of ``data``; any thread may. Raises ``OSError``."""
        self._outlet.send(data)


class _Handler(logging.Handler):
    """Passes lines on to the server's error log."""

    def __init__(self, process: _Process) -> None:
        super().__init__()
        self._process = process

    def emit(self, record: logging.LogRecord) -> None:
        """Send the record with its traceback."""
        trace = ""
        if record.exc_info:
            trace = (self.formatter or logging.Formatter()).formatException(record.exc_info)
        said = [record.levelno, record.threadName or "", record.getMessage(), trace]
        with suppress(OSError):
            self._process.send(wire.pack_json(0, wire.LOG, said))
