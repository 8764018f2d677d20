"""A client's socket by TLS, over memory: what comes and goes on the wire can be cut, changed and counted."""

from __future__ import annotations

import select
import socket
import ssl
import threading
import time
from contextlib import suppress
from typing import Any

SECURED: dict[int, ssl.SSLContext] = {}
"""What a client of the server on a port must speak to it with, by port; plain bytes where there is nothing."""


class TLSSocket:
    """A connected socket over which TLS is spoken; whatever is not here is the socket's own.

    ``is_cut`` tells that the stream ended without close_notify. One thread may send while another one receives.
    """

    def __init__(self, sock: socket.socket, context: ssl.SSLContext, name: str = "localhost") -> None:
        self.wire = sock
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self.incoming, self.outgoing, server_hostname=name)
        self.is_open = self.is_cut = False
        self.plain = b""  # what was read to see whether there is anything
        self._lock = threading.Lock()  # an SSLObject is for one thread at a time
        self._sending = threading.Lock()  # records leave in the order in which they were made

    def __enter__(self) -> TLSSocket:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.wire, name)

    def flush(self) -> None:
        """Send what is enciphered."""
        with self._lock:
            data = self.outgoing.read()
        if data:
            with self._sending:
                self.wire.sendall(data)

    def feed(self, flags: int = 0) -> bool:
        """Take records from the wire; False at its end."""
        data = self.wire.recv(1 << 16, flags)
        with self._lock:
            if data:
                self.incoming.write(data)
            else:
                self.incoming.write_eof()
        return bool(data)

    def shake_hands(self) -> None:
        """Do the handshake, if it has not been done. Raises ``ssl.SSLError``, ``ConnectionError``."""
        while not self.is_open:
            try:
                self.tls.do_handshake()
                self.is_open = True
            except ssl.SSLWantReadError:
                self.flush()
                if not self.feed():
                    raise ConnectionResetError("the server ended in the handshake") from None
            finally:
                self.flush()

    def sendall(self, data: bytes) -> None:
        """See ``socket.sendall``."""
        self.shake_hands()
        for start in range(0, len(data), 1 << 16):
            with self._sending:
                with self._lock:
                    self.tls.write(data[start : start + (1 << 16)])
                    records = self.outgoing.read()
                self.wire.sendall(records)

    send = sendall

    def recv(self, most: int, flags: int = 0) -> bytes:
        """See ``socket.recv``."""
        if self.plain:
            data, self.plain = self.plain[:most], self.plain[most:]
            return data
        self.shake_hands()
        while True:
            try:
                with self._lock:
                    return self.tls.read(most)
            except ssl.SSLWantReadError:
                self.feed(flags)
                self.flush()
            except ssl.SSLZeroReturnError:
                return b""
            except ssl.SSLEOFError:
                self.is_cut = True
                return b""

    def is_readable(self, timeout_s: float) -> bool:
        """Wait for plain bytes or the end of the stream; False if there are none: a ticket is neither."""
        deadline = time.monotonic() + timeout_s
        while not self.plain and select.select([self.wire], [], [], max(0.0, deadline - time.monotonic()))[0]:
            usual = self.wire.gettimeout()
            self.wire.settimeout(0.0)
            try:
                self.plain = self.recv(1)
            except BlockingIOError:
                continue
            finally:
                self.wire.settimeout(usual)
            if not self.plain:
                return True
        return bool(self.plain)

    def shutdown(self, how: int) -> None:
        """See ``socket.shutdown``; the server is told by close_notify first."""
        if how != socket.SHUT_RD:
            self.goodbye()
        self.wire.shutdown(how)

    def goodbye(self) -> None:
        """Send close_notify, and go on reading."""
        if self.is_open:
            with suppress(ssl.SSLError):  # the other side has not said it yet
                self.tls.unwrap()
            self.flush()

    def close(self) -> None:
        """See ``socket.close``."""
        self.wire.close()
