"""Starting, watching and stopping one measured server, by process id."""

from __future__ import annotations

import http.client
import os
import shlex
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from string import Template
from types import TracebackType
from typing import NamedTuple

from peers import CERTIFICATE, FLOOR, HERE, KEY, Peer, make_certificate

START_TIMEOUT_S = 20.0
STOP_TIMEOUT_S = 15.0


class StartError(Exception):
    """A server that could be started did not answer; the text ends with the last line it wrote."""


def free_port() -> int:
    """Return a port of 127.0.0.1 that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Variables(NamedTuple):
    """What a peer's command and configuration may name beside its port and folders."""

    body: int = 0  # bytes of the floor's one response
    mode: str = ""  # the floor's
    cache: str = "64M"
    app: str = "hello"


BY_DEFAULT = Variables()


class Server:
    """A running server, pinned to ``cores``; a context manager that starts and stops it.

    ``python`` is the interpreter of an environment in which fastws is installed; None stands for this one, with
    the working tree's fastws before all others.
    """

    def __init__(
        self,
        peer: Peer,
        root: Path,
        directory: Path,
        *,
        cores: Iterable[int] = (0,),
        variables: Variables = BY_DEFAULT,
        python: Path | None = None,
    ) -> None:
        self.peer = peer
        self.port = free_port()
        self._cores = set(cores)
        self._directory = directory
        if python is None and peer.python:
            python = Path(peer.python)
        self._python_path = f"{HERE.parent}{os.pathsep}{HERE}" if python is None else ""
        self._values = {
            "port": str(self.port), "root": str(root), "dir": str(directory),
            "python": str(python or sys.executable), "floor": str(FLOOR), "apps": str(HERE),
            "certificate": str(CERTIFICATE), "key": str(KEY),
            **{name: str(value) for name, value in variables._asdict().items()},
        }  # fmt: skip
        self._process: subprocess.Popen[bytes] | None = None

    def _filled(self, text: str) -> str:
        return Template(text).substitute(self._values)

    def __enter__(self) -> Server:
        self._directory.mkdir(parents=True, exist_ok=True)
        if self.peer.tls:
            make_certificate()
        (self._directory / self.peer.config_name).write_text(self._filled(self.peer.config))
        environment = dict(os.environ)
        environment.pop("PYTHONDONTWRITEBYTECODE", None)  # what pip has installed has its bytecode
        environment["BENCH_ROOT"] = self._values["root"]
        environment["PYTHONPATH"] = self._python_path
        environment.update((name, self._filled(text)) for name, text in self.peer.environment.items())
        with (self._directory / "output.txt").open("wb") as output:
            self._process = subprocess.Popen(
                shlex.split(self._filled(self.peer.command)),
                stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=environment, cwd=self._directory,
                preexec_fn=lambda: os.sched_setaffinity(0, self._cores),
            )  # fmt: skip
        try:
            self._wait_for_answer(time.monotonic() + START_TIMEOUT_S)
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _wait_for_answer(self, deadline: float) -> None:
        assert self._process is not None
        while self._process.poll() is None and time.monotonic() < deadline:
            try:
                connection = self._connect()
                connection.request("GET", "/")
                connection.getresponse().read()
                connection.close()
            except (OSError, http.client.HTTPException):
                time.sleep(0.002)
            else:
                return
        output = (self._directory / "output.txt").read_text(errors="replace").strip().splitlines()
        raise StartError(f"does not answer; its last words: {output[-1] if output else 'none'}")

    def _connect(self) -> http.client.HTTPConnection:
        if not self.peer.tls:
            return http.client.HTTPConnection("127.0.0.1", self.port, timeout=2)
        context = ssl._create_unverified_context()
        return http.client.HTTPSConnection("127.0.0.1", self.port, timeout=2, context=context)

    def stop(self) -> None:
        """Ask the server to end, wait, and end it; its children go with it."""
        if self._process is None:
            return
        children = self.pids()[1:]
        self._process.terminate()
        try:
            self._process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            for pid in children:
                _kill_quietly(pid)
        self._process = None

    def pids(self) -> list[int]:
        """Return the server's process and all its living descendants."""
        assert self._process is not None
        family = [self._process.pid]
        parents = _parents()
        for pid in family:
            family.extend(child for child, parent in parents.items() if parent == pid)
        return family

    def private_bytes(self) -> int:
        """Return the memory that belongs to these processes alone and was written to, in bytes."""
        return sum(_private_dirty(pid) for pid in self.pids())


def cpu_ns(pids: Iterable[int]) -> int:
    """Return the user and system time of the processes, ended threads included, in ns.

    The kernel's per-process CPU clock (``clock_getcpuclockid(3)``) is the sum that ``/proc/PID/stat``
    shows in ticks of 10 ms, in ns.
    """
    return sum(time.clock_gettime_ns((~pid << 3) | 2) for pid in pids)


def _parents() -> dict[int, int]:
    parents = {}
    for entry in os.listdir("/proc"):
        if entry.isdecimal():
            try:
                stat = Path("/proc", entry, "stat").read_text()
            except OSError:
                continue  # it has ended since the listing
            parents[int(entry)] = int(stat.rpartition(")")[2].split()[1])
    return parents


def _private_dirty(pid: int) -> int:
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Private_Dirty:"):
            return int(line.split()[1]) * 1024
    return 0


def _kill_quietly(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return
