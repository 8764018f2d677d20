"""The client side: wrk for the load, plain sockets for checks, warming and idle connections."""

from __future__ import annotations

import json
import os
import socket
import ssl
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from peers import HERE
from samples import many_path

TIMEOUT_S = 30
WARM_BATCH = 20  # pipelined requests while warming; few enough for any peer's limits


class LoadError(Exception):
    """A response was wrong, or wrk reported errors: the figures of this run say nothing."""


@dataclass(frozen=True)
class Load:
    """What wrk asks for. ``mode`` is a mode of ``load.lua`` with its argument."""

    path: str
    status: int = 200
    connections: int = 64
    mode: tuple[str, ...] = ("plain",)
    fields: tuple[tuple[str, str], ...] = ()
    tls: bool = False

    @property
    def pipelined(self) -> int:
        """Requests in one send."""
        return int(self.mode[1]) if self.mode[0] == "pipeline" else 1

    def request(self) -> bytes:
        """Return the head of one such request."""
        lines = "".join(f"{name}: {value}\r\n" for name, value in (("Host", "127.0.0.1"), *self.fields))
        return f"GET {self.path} HTTP/1.1\r\n{lines}\r\n".encode()


@dataclass(frozen=True)
class Answer:
    """One response as it was read from a socket."""

    status: int
    fields: Mapping[str, str]
    body: bytes


class Wire:
    """One client connection that reads responses by their Content-Length."""

    def __init__(self, port: int, *, tls: bool = False) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT_S)
        if tls:
            self._socket = ssl._create_unverified_context().wrap_socket(self._socket)
        self._data = bytearray()

    def send(self, data: bytes) -> None:
        """Send all of ``data``."""
        self._socket.sendall(data)

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def is_open(self) -> bool:
        """Tell whether the server has neither closed the connection nor sent more than was read."""
        self._socket.setblocking(False)  # with a timeout, recv would first wait for it
        try:
            self._socket.recv(1, 0 if isinstance(self._socket, ssl.SSLSocket) else socket.MSG_PEEK)
        except (BlockingIOError, ssl.SSLWantReadError):
            return True
        except OSError:
            return False
        finally:
            self._socket.settimeout(TIMEOUT_S)
        return False

    def _receive(self) -> None:
        data = self._socket.recv(1 << 20)
        if not data:
            raise LoadError("the server closed the connection within a response")
        self._data += data

    def read(self) -> Answer:
        """Read one response to its end."""
        while (end := self._data.find(b"\r\n\r\n")) < 0:
            self._receive()
        start, *lines = bytes(self._data[:end]).decode("latin-1").split("\r\n")
        fields = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        del self._data[: end + 4]
        length = int(fields.get("content-length", "-1"))
        if fields.get("transfer-encoding") == "chunked":
            body = b"".join(iter(self._chunk, b""))
        elif length < 0:
            raise LoadError("a response without Content-Length")
        else:
            body = self._take(length)
        return Answer(int(start.split()[1]), fields, body)

    def _chunk(self) -> bytes:
        """Read one chunk; the last is empty."""
        while (end := self._data.find(b"\r\n")) < 0:
            self._receive()
        size = int(self._data[:end].partition(b";")[0], 16)
        return self._take(end + 2 + size + 2)[end + 2 : -2]

    def _take(self, size: int) -> bytes:
        while len(self._data) < size:
            self._receive()
        taken = bytes(self._data[:size])
        del self._data[:size]
        return taken


def verify(port: int, load: Load, status: int, expected: bytes | None) -> None:
    """Ask once as wrk will; raise LoadError unless status and body are as expected (None: any body)."""
    wire = Wire(port, tls=load.tls)
    try:
        wire.send(load.request() * load.pipelined)
        for _ in range(load.pipelined):
            answer = wire.read()
            if answer.status != status:
                raise LoadError(f"status {answer.status} for {load.path}, not {status}")
            if expected is not None and answer.body != expected:
                raise LoadError(f"wrong body for {load.path}: {len(answer.body)} bytes, not {len(expected)}")
    finally:
        wire.close()


def warm_many(port: int, count: int) -> None:
    """Fetch each of the many files twice: once to be read, once more so that a cache may keep it."""
    for _ in range(2):
        wire = Wire(port)
        for first in range(0, count, WARM_BATCH):
            numbers = range(first, min(first + WARM_BATCH, count))
            wire.send(b"".join(Load(many_path(number)).request() for number in numbers))
            for number in numbers:
                if not wire.read().body.startswith(f"{number:06d}".encode()):
                    raise LoadError(f"wrong body for {many_path(number)}")
        wire.close()


class IdleConnections:
    """``count`` connections that have each been answered once and then say nothing."""

    def __init__(self, port: int, count: int, load: Load) -> None:
        self._wires: list[Wire] = []
        try:
            for _ in range(count):
                wire = Wire(port, tls=load.tls)
                self._wires.append(wire)
                wire.send(load.request())
                status = wire.read().status
                if status != load.status:
                    raise LoadError(f"status {status} on idle connection {len(self._wires)}")
        except BaseException:
            self.close()
            raise

    def check(self) -> None:
        """Raise LoadError unless the server has kept them all open."""
        closed = sum(not wire.is_open() for wire in self._wires)
        if closed:
            raise LoadError(f"the server closed {closed} of {len(self._wires)} idle connections")

    def close(self) -> None:
        """Close them all."""
        for wire in self._wires:
            wire.close()


def run_wrk(port: int, load: Load, seconds: int, cores: Iterable[int]) -> dict[str, Any]:
    """Run wrk for ``seconds`` on ``cores``; return its figures, or raise LoadError for errors among them."""
    pinned = set(cores)
    command = ["wrk", "-t1", f"-c{load.connections}", f"-d{seconds}s", "--timeout", f"{TIMEOUT_S}s"]
    for name, value in load.fields:
        command += ["-H", f"{name}: {value}"]
    command += [
        "-s",
        str(HERE / "load.lua"),
        f"http{'s' * load.tls}://127.0.0.1:{port}{load.path}",
        "--",
        *load.mode,
    ]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: os.sched_setaffinity(0, pinned),
    )
    marker = "FIGURES "
    lines = [line for line in done.stdout.splitlines() if line.startswith(marker)]
    if not lines:
        raise LoadError(f"wrk failed: {(done.stdout + done.stderr).strip()[-300:]}")
    figures: dict[str, Any] = json.loads(lines[0].removeprefix(marker))
    refused = figures["requests"] if load.status >= 400 else 0
    errors = {name: figures[name] for name in ("connect", "read", "write", "timeout") if figures[name]}
    if errors or figures["status"] != refused or not figures["requests"]:
        raise LoadError(f"wrk reports {figures}")
    return figures
