"""A client over a bare socket: sends any bytes and reads responses strictly (RFC 9112), so that nothing is mended.

Not named ``http``: pytest puts this directory first on the path.
"""

from __future__ import annotations

import gc
import os
import re
import select
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tlsclient import SECURED, TLSSocket

from fastws import Server
from fastws.files.identity import identity_of, is_settled

TIMEOUT_S = 60.0
"""No answer takes that long; a test that waits for one fails then instead of hanging."""

_STATUS_LINE = re.compile(rb"HTTP/1\.1 ([1-5][0-9]{2}) ([A-Za-z ]+)")
_FIELD_LINE = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+): ([\x21-\x7e\x80-\xff](?:[\t\x20-\x7e\x80-\xff]*))")


class ProtocolError(AssertionError):
    """The server sent what no response may be, or closed the connection in the middle of one."""


@dataclass(frozen=True)
class Reply:
    """One response: ``fields`` in their order, as they were sent."""

    status: int
    reason: str
    fields: tuple[tuple[str, str], ...]
    body: bytes

    def __getitem__(self, name: str) -> str:
        """The value of the field ``name``, which must be there exactly once."""
        values = self.all(name)
        assert len(values) == 1, f"{name} is there {len(values)} times in {self.fields}"
        return values[0]

    def all(self, name: str) -> list[str]:
        """The values of every field line called ``name``."""
        return [value for key, value in self.fields if key.lower() == name.lower()]

    def without(self, *names: str) -> tuple[tuple[str, str], ...]:
        """The fields except those of the moment and the connection, and ``names``."""
        left_out = {"date", "connection", *(name.lower() for name in names)}
        return tuple((name, value) for name, value in self.fields if name.lower() not in left_out)


class Client:
    """One connection."""

    def __init__(self, where: Server | int, *, receive_buffer: int = 0) -> None:
        port = where if isinstance(where, int) else where.port
        host = "127.0.0.1" if isinstance(where, int) else where.config.hosts[0]
        self.sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
        self.sock.settimeout(TIMEOUT_S)
        # What is sent in pieces goes out in these pieces, and none waits for an acknowledgement.
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if receive_buffer:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.sock.connect((host, port))
        if port in SECURED:
            self.sock = TLSSocket(self.sock, SECURED[port])  # type: ignore[assignment]
        self.buffer = b""

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.sock.close()

    def send(self, data: bytes) -> None:
        """Send all of ``data``."""
        self.sock.sendall(data)

    def half_close(self) -> None:
        """Say that no more will be sent."""
        self.sock.shutdown(socket.SHUT_WR)

    def get(self, target: str = "/", *lines: str, method: str = "GET", body: bytes = b"") -> Reply:
        """Send one HTTP/1.1 request with the further field ``lines`` and return the answer."""
        self.send(request(target, *lines, method=method, body=body))
        return self.reply(method)

    def reply(self, method: str = "GET") -> Reply:
        """Read one response to a request by ``method``."""
        status, reason, fields = self.head()
        lengths = [value for name, value in fields if name.lower() == "content-length"]
        if ("Transfer-Encoding", "chunked") in fields and not lengths and method != "HEAD":
            return Reply(status, reason, fields, self._read_chunks())
        if status < 200 or status in (204, 304):
            if lengths and status != 304:
                raise ProtocolError(f"a {status} has Content-Length")
            return Reply(status, reason, fields, b"")
        if len(lengths) != 1 or not re.fullmatch("0|[1-9][0-9]*", lengths[0]):
            raise ProtocolError(f"Content-Length is not there once, as a number: {fields}")
        return Reply(status, reason, fields, b"" if method == "HEAD" else self.read(int(lengths[0])))

    def head(self) -> tuple[int, str, tuple[tuple[str, str], ...]]:
        """Read a response head: status, reason phrase, fields."""
        while b"\r\n\r\n" not in self.buffer:
            self._receive("a response head")
        head, _, self.buffer = self.buffer.partition(b"\r\n\r\n")
        first, *lines = head.split(b"\r\n")
        status_line = _STATUS_LINE.fullmatch(first)
        if not status_line:
            raise ProtocolError(f"not a status line: {first!r}")
        fields = []
        for line in lines:
            match = _FIELD_LINE.fullmatch(line)
            if not match:
                raise ProtocolError(f"not a field line: {line!r}")
            fields.append((match[1].decode(), match[2].decode("latin-1")))
        return int(status_line[1]), status_line[2].decode(), tuple(fields)

    def read(self, count: int) -> bytes:
        """Read exactly ``count`` bytes."""
        pieces, missing = [self.buffer[:count]], count - len(self.buffer)
        self.buffer = self.buffer[count:]
        while missing > 0:
            piece = self.sock.recv(min(missing, 1 << 20))
            if not piece:
                raise ProtocolError(f"the connection ended {missing} bytes before a body did")
            pieces.append(piece)
            missing -= len(piece)
        return b"".join(pieces)

    def _read_chunks(self) -> bytes:
        """Read a chunked body (RFC 9112 section 7.1); there may be no extension and no trailer."""
        chunks = []
        while True:
            while b"\r\n" not in self.buffer:
                self._receive("the size of a chunk")
            line, _, self.buffer = self.buffer.partition(b"\r\n")
            if not re.fullmatch(b"0|[1-9a-f][0-9a-f]*", line):
                raise ProtocolError(f"not the size of a chunk: {line!r}")
            chunk = self.read(int(line, 16))
            if self.read(2) != b"\r\n":
                raise ProtocolError(f"a chunk is longer than its size says: {chunk!r}")
            if not chunk:
                return b"".join(chunks)
            chunks.append(chunk)

    def _receive(self, what: str) -> None:
        piece = self.sock.recv(1 << 16)
        if not piece:
            raise ProtocolError(f"the connection ended instead of {what}; before: {self.buffer!r}")
        self.buffer += piece

    def is_over(self) -> bool:
        """Wait for the end of the stream; False if bytes come instead."""
        if self.buffer:
            return False
        self.buffer = self.sock.recv(1 << 16)
        assert not getattr(self.sock, "is_cut", False), "the stream ended without close_notify"
        return not self.buffer

    def is_open(self) -> bool:
        """Whether the connection serves another request."""
        self.send(request("/the-connection-is-open", method="GET"))
        try:
            return self.reply().status == 404
        except (ProtocolError, ConnectionError):
            return False


def request(target: str = "/", *lines: str, method: str = "GET", body: bytes = b"") -> bytes:
    """An HTTP/1.1 request; Host is added, and Content-Length where there is a body and no other framing."""
    fields = ["Host: localhost", *lines]
    if body and not any(line.lower().startswith(("content-length", "transfer-encoding")) for line in lines):
        fields.append(f"Content-Length: {len(body)}")
    head = f"{method} {target} HTTP/1.1\r\n" + "".join(f"{line}\r\n" for line in fields) + "\r\n"
    return head.encode("latin-1") + body


def is_readable(sock: Any, timeout_s: float) -> bool:
    """Wait for something to be read, or the end of the stream; whether that has come."""
    if isinstance(sock, TLSSocket):
        return sock.is_readable(timeout_s)
    return bool(select.select([sock], [], [], timeout_s)[0])


def get(where: Server | int, target: str = "/", *lines: str, method: str = "GET", body: bytes = b"") -> Reply:
    """One request over a connection of its own, which the server must close after the answer."""
    with Client(where) as client:
        reply = client.get(target, *lines, "Connection: close", method=method, body=body)
        assert reply["Connection"] == "close"
        assert client.is_over()
    return reply


def thrice(where: Server | int, target: str = "/", *lines: str, method: str = "GET") -> Reply:
    """The same request three times over one connection, so that the last may come from a cache.

    The answers must be equal but for the moment.
    """
    with Client(where) as client:
        replies = [client.get(target, *lines, method=method) for _ in range(3)]
    first = replies[0]
    for other in replies[1:]:
        assert other.status == first.status
        assert other.without() == first.without()
        assert other.body == first.body
    return first


def settle(*paths: Path) -> None:
    """Wait until the files are old enough for their answers to be cached."""
    wait_until(lambda: all(is_settled(identity_of(os.stat(path))) for path in paths))


def put(root: Path, files: dict[str, bytes]) -> Path:
    """Write ``files`` (relative path → content) below ``root``, settle them, and return ``root``.

    They are dated back, for no Last-Modified is sent of a file that is younger than a second.
    """
    date = time.time() - 60
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        os.utime(path, (date, date))
    settle(*(root / name for name in files))
    return root


def finish_turns(server: Server) -> None:
    """Wait until every worker is past the turn in which it sent what a client has: only then is that counted."""
    server._pool.have_all(lambda _: None, TIMEOUT_S)


def loads_of(server: Server, count: int) -> list[int]:
    """The connections of each worker, once they are ``count`` together.

    For a moment, one that is handed over is with neither worker.
    """
    loads: list[int] = []

    def is_complete() -> bool:
        loads[:] = [worker.load for worker in server._pool.workers]
        return sum(loads) == count

    wait_until(is_complete, f"{count} connections")
    return loads


def be_at_rest(server: Server) -> None:
    """Wait until ``server`` has no connection, and has closed what it had.

    A connection that waits to be accepted is not counted yet, and one that is being closed is counted no more.
    So every worker is asked to finish its turn before and after the count is looked at.
    """

    def is_at_rest() -> bool:
        finish_turns(server)
        if server.connection_count():
            return False
        finish_turns(server)
        return server.connection_count() == 0

    wait_until(is_at_rest, "a server at rest")


def open_descriptors() -> int:
    """How many descriptors this process has open (Linux); what is only waiting to be collected is closed first."""
    gc.collect()
    return len(os.listdir("/proc/self/fd"))


def wait_until(condition: Callable[[], object], what: str = "the condition") -> None:
    """Look at ``condition`` until it is true; for what announces itself by nothing to wait for."""
    deadline = time.monotonic() + TIMEOUT_S
    while not condition():
        assert time.monotonic() < deadline, f"{what} never came true"
        time.sleep(0.005)
