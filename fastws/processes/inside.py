"""An application process, from the inside: requests come from the server, threads answer them."""

from __future__ import annotations

import faulthandler
import json
import logging
import signal
import socket
import sys
import threading
from typing import Any

from ..application.body import Spool
from ..application.environ import Ends, Manner
from ..application.loading import LoadError, explain, files_of, load, watch
from ..application.mounts import Application, Call, Mount
from ..application.threads import Threads
from ..backend import load_parser
from ..http.messages import Request
from . import wire
from .stream import Stream

STACKS_SIGNAL = "SIGUSR2"
"""Has the stacks of all threads written into the report."""


def run(sock: socket.socket, report: int, settings: dict[str, Any]) -> int:
    """Serve until the server says that it is enough, or is gone; return the exit status.

    What signals do is inherited of the spawner.
    """
    if sys.platform == "win32":
        raise NotImplementedError
    faulthandler.enable(report)
    faulthandler.register(getattr(signal, STACKS_SIGNAL), report, all_threads=True)
    _name_process(f"fastws: app {settings['number']}")
    process = _Process(sock, settings)
    try:
        return process.run()
    except OSError:  # the server is gone
        return 0


def _name_process(name: str) -> None:
    try:
        with open("/proc/self/comm", "w") as file:
            file.write(name[:15])
    except OSError:  # elsewhere it is called as it is
        pass


class _Process:
    def __init__(self, sock: socket.socket, settings: dict[str, Any]) -> None:
        self._sock = sock
        self._reader = wire.Reader(sock)
        self._settings = settings
        self._sending = threading.Lock()
        self._changing = threading.Lock()
        self._streams: dict[int, Stream] = {}
        self._is_quitting = False
        self._applications: dict[str, Application] = {}
        self._log = logging.Logger("fastws")
        self._log.addHandler(_Handler(self))
        count = settings["threads"]
        manner = Manner(multithread=count > 1, multiprocess=True)
        self._threads = Threads(self._log, load_parser(pure=settings["is_pure"]).check_given, manner)
        self._threads.limit(count, count)  # the server sends no more than there are threads

    def run(self) -> int:
        if not self._load():
            return 3
        self.send(wire.pack(0, wire.READY))
        while not (self._is_quitting and not self._streams) and self._reader.receive():
            for frame in self._reader.frames():
                self._take(frame)
        return 0

    def _load(self) -> bool:
        sys.path[:] = self._settings["path"]
        sys.argv[:] = ["fastws"]
        try:
            for name in self._settings["names"]:
                self._applications[name] = load(name, self._settings["directory"])
        except LoadError as error:
            if self._settings["reload"]:
                self._explain(error)
                return True
            if error.__cause__ is not None:
                self._log.error("an application cannot be loaded", exc_info=error.__cause__)
            self.send(wire.pack(0, wire.FAILED, str(error).encode("utf-8", "replace")))
            return False
        if self._settings["reload"]:
            watch(self._tell_change)
        return True

    def _explain(self, error: LoadError) -> None:
        """Answer every request with what is wrong, until a file changes."""
        cause = error.__cause__ or error
        self._log.error("%s; it is tried again when a file changes", error)
        self._applications = dict.fromkeys(self._settings["names"], explain(cause))
        watch(self._tell_change, files_of(cause))

    def _tell_change(self) -> None:
        self.send(wire.pack(0, wire.CHANGED))

    def _take(self, frame: wire.Frame) -> None:
        if frame.kind == wire.REQUEST:
            self._begin(frame)
            return
        if frame.kind == wire.QUIT:
            self._is_quitting = True
            return
        with self._changing:
            stream = self._streams.get(frame.stream)
        if stream is None:
            return  # it is answered by now
        if frame.kind == wire.CANCEL:
            self.forget(frame.stream)
            stream.loan.abandon()
        elif frame.kind == wire.CREDIT:
            stream.add_credit(int(frame.payload))

    def _begin(self, frame: wire.Frame) -> None:
        size = int.from_bytes(frame.payload[:4], "little")
        told = json.loads(frame.payload[4 : 4 + size])
        body = Spool()
        if told["has_file"]:
            body.adopt(self._reader.take_fd(), told["size"])
        else:
            body += frame.payload[4 + size :]
        method, target, version, fields = told["request"]
        script_name, path_info, query = told["path"]
        mount = Mount(told["prefix"], self._applications[told["name"]], told["name"])
        request = Request(method, target, version, fields, 0)
        call = Call(mount, request, script_name, path_info, query, told["user"], ())
        stream = Stream(self, frame.stream, call, Ends(*told["ends"]), body)
        with self._changing:
            self._streams[frame.stream] = stream
        self._threads.submit(stream.loan)

    def forget(self, number: int) -> None:
        """Have no such stream any more; after the last one the process may end."""
        with self._changing:
            self._streams.pop(number, None)
            if self._is_quitting and not self._streams:
                self._sock.shutdown(socket.SHUT_RD)  # wakes the main thread

    def send(self, data: bytes, fds: tuple[int, ...] = ()) -> None:
        """Send all of ``data``; any thread may. Raises ``OSError``."""
        with self._sending:
            view = memoryview(data)
            sent = wire.send(self._sock, view, fds)
            while sent < len(data):
                sent += self._sock.send(view[sent:])


class _Handler(logging.Handler):
    """Passes lines on to the server's error log."""

    def __init__(self, process: _Process) -> None:
        super().__init__()
        self._process = process

    def emit(self, record: logging.LogRecord) -> None:
        """Send the record, and its traceback a line each."""
        lines = [record.getMessage()]
        if record.exc_info:
            lines += (self.formatter or logging.Formatter()).formatException(record.exc_info).splitlines()
        try:
            for line in lines:
                self._process.send(wire.pack_json(0, wire.LOG, [record.levelno, record.threadName, line]))
        except OSError:
            pass
