"""The preamble of a proxy, before TLS and HTTP: the PROXY protocol, versions 1 and 2.

Specified in https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt, sections 2.1 and 2.2.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence

from ..http.forwarded import UNKNOWN

LINE_BYTES = 107
"""The longest line of version 1, with its end."""

HEADER_BYTES = 16
"""Version 2: what comes before addresses and additions, whose length its last two bytes say."""

PREAMBLE_BYTES = 4096
"""The longest preamble of version 2 that is taken; nginx has the same bound. Addresses take up to 216 bytes of it,
the rest are additions (TLVs), such as the name of a certificate, which are skipped."""

_LINE = b"PROXY "
_SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
_VERSION = 2
_LOCAL, _PROXY = 0, 1
_STREAM, _DATAGRAM = 1, 2
_IPV4, _IPV6, _UNIX = 1, 2, 3
_LENGTHS = {0: 0, _IPV4: 12, _IPV6: 36, _UNIX: 216}
"""How many bytes the addresses of each family take."""

_MAPPED = bytes(10) + b"\xff\xff"


class PreambleError(Exception):
    """What came is no preamble that is taken; the text says why."""


def size_of(data: bytes) -> int | None:
    """Return how many bytes the preamble takes that ``data`` begins with, None if that is not known yet.

    Raises ``PreambleError`` as soon as it is certain that there is none.
    """
    if data.startswith(_LINE):
        end = data.find(b"\r\n", 0, LINE_BYTES)
        if end < 0 and len(data) >= LINE_BYTES:
            raise PreambleError(f"its line is longer than {LINE_BYTES} bytes")
        return None if end < 0 else end + 2
    if data.startswith(_SIGNATURE):
        if len(data) < HEADER_BYTES:
            return None
        size = HEADER_BYTES + int.from_bytes(data[14:16], "big")
        if size > PREAMBLE_BYTES:
            raise PreambleError(f"it is longer than {PREAMBLE_BYTES} bytes")
        return size
    if _LINE.startswith(data) or _SIGNATURE.startswith(data):
        return None
    raise PreambleError("what came first is no preamble of the PROXY protocol")


def parse_preamble(data: bytes) -> str:
    """Return the client's address in a whole preamble, as the reactor would name it.

    "" if the proxy speaks for itself, as in its health checks; ``UNKNOWN`` if it gives no address of a client.
    Raises ``PreambleError``.
    """
    if size_of(data) != len(data):
        raise PreambleError("it is not whole")
    return _parse_line(data) if data.startswith(_LINE) else _parse_header(data)


def _parse_line(data: bytes) -> str:
    words = data[len(_LINE) : -2].split(b" ")
    if words[0] == b"UNKNOWN":
        return UNKNOWN  # whatever follows it
    family = {b"TCP4": socket.AF_INET, b"TCP6": socket.AF_INET6}.get(words[0])
    if family is None:
        raise PreambleError("its protocol is none of TCP4, TCP6 and UNKNOWN")
    if len(words) != 5:
        raise PreambleError("its line does not have two addresses and two ports")
    source, _ = [_packed(family, word) for word in words[1:3]]
    for word in words[3:]:
        if not word.isdigit() or len(word) > 5 or int(word) > 65535 or str(int(word)).encode() != word:
            raise PreambleError("a port in its line is no number from 0 to 65535")
    return _shown(source)


def _packed(family: socket.AddressFamily, word: bytes) -> bytes:
    try:
        return socket.inet_pton(family, word.decode("ascii"))
    except (OSError, ValueError):
        raise PreambleError("an address in its line is malformed") from None


def _parse_header(data: bytes) -> str:
    version, command = data[12] >> 4, data[12] & 15
    family, protocol = data[13] >> 4, data[13] & 15
    if version != _VERSION or command not in (_LOCAL, _PROXY):
        raise PreambleError(f"version {version}, command {command} is not known")
    if command == _LOCAL:
        return ""
    if family not in _LENGTHS or protocol > _DATAGRAM:
        raise PreambleError(f"address family {family}, protocol {protocol} is not known")
    if protocol == _DATAGRAM:
        raise PreambleError("it announces datagrams")
    if len(data) < HEADER_BYTES + _LENGTHS[family]:
        raise PreambleError("it is too short for its addresses")
    if protocol != _STREAM or family not in (_IPV4, _IPV6):
        return UNKNOWN
    size = 4 if family == _IPV4 else 16
    return _shown(data[HEADER_BYTES : HEADER_BYTES + size])


def _shown(packed: bytes) -> str:
    """Return an address as text, an IPv4 address within an IPv6 one as such (RFC 4291 section 2.5.5.2)."""
    if packed.startswith(_MAPPED):
        packed = packed[len(_MAPPED) :]
    return socket.inet_ntop(socket.AF_INET if len(packed) == 4 else socket.AF_INET6, packed)


class PreambleTransport:
    """See ``seam.Transport``: takes a preamble from a socket and not a byte more. Nothing can be sent.

    So what follows is there for TLS or HTTP as if nothing had been before it. It owns the descriptor, which is
    non-blocking, until ``release``.
    """

    __slots__ = ("_data", "_is_over", "_sock")

    holds_back = False

    def __init__(self, fd: int) -> None:
        # Which family it is of does not matter to what is done with it.
        self._sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM, 0, fd)
        if socket.getdefaulttimeout() is not None:  # an application has set it, for sockets of its own
            self._sock.setblocking(False)
        self._data = b""
        self._is_over = False

    def receive(self, most: int) -> bytes:
        """Return what came, once it is a whole preamble or certainly none; see ``seam.Transport.receive``."""
        while not self._is_over:
            waiting = self._sock.recv(PREAMBLE_BYTES, socket.MSG_PEEK)
            if not waiting:
                return b""
            data = self._data + waiting
            try:
                size = size_of(data)
            except PreambleError:
                size = len(data)
            taken = len(waiting) if size is None else min(len(waiting), size - len(self._data))
            self._data += self._sock.recv(taken)
            if size is not None and len(self._data) >= size:
                self._is_over = True
                return self._data
        raise BlockingIOError

    def send(self, pieces: Sequence[bytes | memoryview], more: bool) -> int:
        """See ``seam.Transport.send``."""
        if pieces:
            raise BrokenPipeError
        return 0

    def send_file(self, file: int, offset: int, count: int) -> int:
        """See ``seam.Transport.send_file``."""
        raise BrokenPipeError

    def unacknowledged(self) -> int:
        """Return 0."""
        return 0

    def shut(self) -> None:
        """See ``seam.Transport.shut``."""
        self._sock.shutdown(socket.SHUT_WR)

    def release(self) -> int:
        """Return the descriptor, which is the caller's from now on."""
        return self._sock.detach()

    def close(self) -> None:
        """See ``seam.Transport.close``."""
        self._sock.close()

    def secured(self) -> None:
        """See ``seam.Transport.secured``."""
