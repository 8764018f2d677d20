"""Connections that begin as those of a proxy do."""

from __future__ import annotations

import socket
import struct

from rawhttp import Client
from tlsclient import TLSSocket

from fastws import Server

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"


def line(source: str, family: str = "TCP4", destination: str = "", ports: str = "56324 443") -> bytes:
    """A preamble of version 1."""
    return f"PROXY {family} {source} {destination or source} {ports}\r\n".encode()


def header(source: str = "", *, command: int = 1, kind: int | None = None, additions: bytes = b"") -> bytes:
    """A preamble of version 2; ``kind`` is the byte of family and protocol, None: that of TCP."""
    if not source:
        addresses, found = b"", 0
    elif ":" in source:
        addresses = 2 * socket.inet_pton(socket.AF_INET6, source) + struct.pack("!HH", 56324, 443)
        found = 0x21
    else:
        addresses = 2 * socket.inet_pton(socket.AF_INET, source) + struct.pack("!HH", 56324, 443)
        found = 0x11
    rest = addresses + additions
    numbers = struct.pack("!BBH", 0x20 | command, found if kind is None else kind, len(rest))
    return SIGNATURE + numbers + rest


class Introduced(Client):
    """One connection with a preamble, which leaves together with the first bytes after it, or in ``pieces``."""

    def __init__(self, where: Server | int, preamble: bytes, *, pieces: int = 0) -> None:
        super().__init__(where)
        self._first = b""
        if pieces:
            wire = self.sock.wire if isinstance(self.sock, TLSSocket) else self.sock
            for i in range(0, len(preamble), pieces):
                wire.sendall(preamble[i : i + pieces])
        elif isinstance(self.sock, TLSSocket):
            self.sock.outgoing.write(preamble)
        else:
            self._first = preamble

    def send(self, data: bytes) -> None:
        """Send ``data``, behind the preamble if nothing was sent before."""
        first, self._first = self._first, b""
        super().send(first + data)
