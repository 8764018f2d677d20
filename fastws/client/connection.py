"""One connection of the load client: HTTP by ``http.client``, and what that does not tell.

Namely: whether a byte of the response had come when the connection ended, what the server did between two
requests, and whether more bytes came than the response may have.
"""

from __future__ import annotations

import re
import selectors
import socket
from http.client import HTTPConnection, HTTPException, HTTPResponse
from typing import NamedTuple


class ExchangeError(Exception):
    """A request without a complete response; the text says why, ``status`` what the status line said."""

    def __init__(self, reason: str, status: int | None = None) -> None:
        super().__init__(reason)
        self.status = status


class NoResponseError(ExchangeError):
    """The connection was closed before a byte of the response came."""


class ServerDownError(Exception):
    """No connection can be opened."""


class Reply(NamedTuple):
    """A complete response; ``error`` tells of bytes that came after its end."""

    status: int
    body: bytes
    error: str


class Connection:
    """One open TCP connection; the constructor raises ``ServerDownError``.

    ``reused`` tells that it has carried a response, ``unusable`` why it cannot carry another (empty: it
    can). ``timeout_s`` bounds the connect and every single read.
    """

    def __init__(self, host: str, port: int, timeout_s: float) -> None:
        self._http = HTTPConnection(host, port, timeout=timeout_s)
        self._http.auto_open = 0  # http.client would reconnect without telling
        try:
            self._http.connect()
        except OSError as error:
            raise ServerDownError(f"cannot connect to {host}:{port}: {error.strerror or error}") from error
        self._socket: socket.socket = self._http.sock
        self.local_port: int = self._socket.getsockname()[1]
        self.reused = False
        self.unusable = ""

    def close(self) -> None:
        """Close the connection; a second call does nothing."""
        self._http.close()

    def check_idle(self) -> str:
        """Look, between two requests, what the server did meanwhile; return an error or nothing.

        A close is no error, and neither is a 408 before it (RFC 9110 section 15.5.9): both only make
        the connection unusable.
        """
        if self.unusable or not _is_readable(self._socket):
            return ""
        self.unusable = "idle connection closed by the server"
        try:
            unasked = self._socket.recv(16, socket.MSG_PEEK)
        except ConnectionError:
            return ""
        if not unasked or re.match(rb"HTTP/1\.\d 408", unasked):
            return ""
        self.unusable = f"unasked-for bytes {unasked!r}"
        return self.unusable

    def exchange(self, target: str) -> Reply:
        """Send a GET request and read all of its response; raises ``ExchangeError``."""
        try:
            return self._exchange(target)
        except ExchangeError as error:
            self.unusable = str(error)
            raise

    def _exchange(self, target: str) -> Reply:
        status = None
        try:
            self._await_response(target)
            with self._http.getresponse() as response:
                status = response.status
                reply = self._read(response)
        except TimeoutError as error:
            raise ExchangeError("timed out", status) from error
        except (HTTPException, OSError) as error:
            # repr, for the text may quote what the server sent, control characters and all
            raise ExchangeError(f"broken response: {error!r}", status) from error
        self.reused = True
        return reply

    def _await_response(self, target: str) -> None:
        try:
            self._http.request("GET", target, headers={"User-Agent": "fastws-client"})
            # Peeked at, because an exception of http.client does not tell whether a byte had come.
            first = self._socket.recv(1, socket.MSG_PEEK)
        except ConnectionError as error:
            raise NoResponseError(f"closed without a response: {error.strerror or error}") from error
        if not first:
            raise NoResponseError("closed without a response")

    def _read(self, response: HTTPResponse) -> Reply:
        declared = response.headers.get_all("Content-Length", [])
        length = response.length
        if length is None or len(declared) != 1:
            raise ExchangeError(f"status {response.status}, Content-Length {declared}", response.status)
        body = b""
        after = b""
        if length:
            # All but the last byte, then a peek: it shows also what came behind that byte and would be
            # lost in the buffer of this response.
            body = response.read(length - 1)
            last = response.peek()
            if not last:
                raise ExchangeError(f"body ended after {len(body)} of {length} bytes", response.status)
            body += response.read()
            after = last[1:]
        if after:
            self.unusable = f"{len(after)} bytes more than Content-Length {length}"
        elif response.will_close:
            self.unusable = "close announced by the server"
        return Reply(response.status, body, self.unusable if after else "")


def _is_readable(sock: socket.socket) -> bool:
    with selectors.DefaultSelector() as selector:
        selector.register(sock, selectors.EVENT_READ)
        return bool(selector.select(0))
