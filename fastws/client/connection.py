"""One connection of the load client: HTTP by ``http.client``, and what that does not tell.

Namely: whether a byte of the response had come when the connection ended, what the server did between two
requests, and whether more bytes came than the response may have.
"""

from __future__ import annotations

import re
import selectors
import socket
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from typing import TYPE_CHECKING, Any, NamedTuple

from ..h1.framing import ChunkedDecoder, LengthDecoder
from ..http.errors import HTTPError
from ..http.messages import Limits

if TYPE_CHECKING:
    from ssl import SSLContext

MOST_BODY_BYTES = 1 << 30
"""A longer body is an error: what is fetched is compared in memory."""

MOST_INTERIM = 20
"""More interim responses (RFC 9110 section 15.2) before one final response are an error."""

_READ_BYTES = 1 << 16
_MOST_LINES, _MOST_LINE_BYTES = 100, 65536  # of a head, as http.client has them


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


class _Response(HTTPResponse):
    """A final response. ``http.client`` itself passes over 100 alone, without a bound."""

    def _read_status(self) -> Any:
        for _ in range(MOST_INTERIM + 1):
            found = super()._read_status()  # type: ignore[misc]
            if not 100 <= found[1] < 200 or found[1] == 101:
                return found
            for _ in range(_MOST_LINES):
                line = self.fp.readline(_MOST_LINE_BYTES)
                if not line.endswith(b"\n"):
                    raise HTTPException("an interim response is cut off, or has a line too long")
                if line in (b"\r\n", b"\n"):
                    break
            else:
                raise HTTPException("an interim response has too many fields")
        raise HTTPException(f"more than {MOST_INTERIM} interim responses")


class Connection:
    """One open connection; the constructor raises ``ServerDownError``.

    With a ``context`` of ``secure.client_context`` it speaks TLS. ``reused`` tells that it has carried a response,
    ``unusable`` why it cannot carry another (empty: it can). ``timeout_s`` bounds the connect and every read.
    """

    def __init__(self, host: str, port: int, timeout_s: float, context: SSLContext | None = None) -> None:
        try:
            if context is None:
                self._http = HTTPConnection(host, port, timeout=timeout_s)
            else:
                self._http = HTTPSConnection(host, port, timeout=timeout_s, context=context)
            self._http.auto_open = 0  # http.client would reconnect without telling
            self._http.response_class = _Response
            self._http.connect()
        except OSError as error:
            reason = getattr(error, "verify_message", None) or error.strerror or error
            raise ServerDownError(f"cannot connect to {host}:{port}: {reason}") from error
        except (HTTPException, ValueError) as error:  # UnicodeError included: a name that cannot be one
            raise ServerDownError(f"cannot connect to {host!r}: not the name of a host") from error
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
        if self.unusable:
            return ""
        try:
            unasked = _arrived(self._socket)
        except ConnectionError:
            unasked = b""
        if unasked is None:
            return ""
        self.unusable = "idle connection closed by the server"
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
        except HTTPError as error:
            raise ExchangeError(f"broken response: {error.detail}", status) from error
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
        """Return the response with its body (RFC 9112 section 6.3); piece by piece, whatever length it claims."""
        coding = response.headers.get_all("Transfer-Encoding", [])
        declared = response.headers.get_all("Content-Length", [])
        is_number = len(declared) == 1 and response.length is not None and declared[0].isdigit()
        is_certain = (response.chunked and not declared) if coding else (not declared or is_number)
        if not is_certain:
            named = f"Transfer-Encoding {coding}, " * bool(coding)
            raise ExchangeError(
                f"status {response.status}, {named}Content-Length {declared}", response.status
            )
        body, after = b"", b""
        if coding:
            body, after = self._decode(response, ChunkedDecoder(MOST_BODY_BYTES, Limits()))
        elif response.length is None:
            body = _read_to_the_end(response)
        elif response.length:
            body, after = self._decode(response, LengthDecoder(response.length))
        if after:
            end = "the last chunk" if coding else f"Content-Length {len(body)}"
            self.unusable = f"{len(after)} bytes more than {end}"
        elif response.will_close:
            self.unusable = "close announced by the server"
        return Reply(response.status, body, self.unusable if after else "")

    def _decode(self, response: HTTPResponse, decoder: LengthDecoder | ChunkedDecoder) -> tuple[bytes, bytes]:
        """Return the body, and the bytes that came along behind it."""
        data = b""
        taken = 0
        while not decoder.is_complete:
            data = response.fp.read1(_READ_BYTES)
            if not data:
                whole = (
                    f" of {len(decoder.body) + decoder.remaining}"
                    if isinstance(decoder, LengthDecoder)
                    else ""
                )
                raise ExchangeError(f"body ended after {len(decoder.body)}{whole} bytes", response.status)
            taken = decoder.feed(data)
            _check_size(len(decoder.body), response)
        return bytes(decoder.body), data[taken:]


def _read_to_the_end(response: HTTPResponse) -> bytes:
    """Return a body that ends with the connection."""
    body = bytearray()
    while data := response.fp.read1(_READ_BYTES):
        body += data
        _check_size(len(body), response)
    return bytes(body)


def _check_size(size: int, response: HTTPResponse) -> None:
    if size > MOST_BODY_BYTES:
        raise ExchangeError(f"body longer than {MOST_BODY_BYTES} bytes", response.status)


def _arrived(sock: socket.socket) -> bytes | None:
    """Return the first bytes that wait to be read, b"" at the end of the stream, None if there are none."""
    pending_now = getattr(sock, "pending_now", None)  # secure.PeekingSocket
    if pending_now is not None:
        return pending_now(16)  # type: ignore[no-any-return]
    return sock.recv(16, socket.MSG_PEEK) if _is_readable(sock) else None


def _is_readable(sock: socket.socket) -> bool:
    with selectors.DefaultSelector() as selector:
        selector.register(sock, selectors.EVENT_READ)
        return bool(selector.select(0))
