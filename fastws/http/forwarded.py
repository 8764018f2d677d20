"""Proxies that are believed, and the client that they name."""

from __future__ import annotations

import functools
import socket
from collections.abc import Iterable

UNKNOWN = "unknown"
"""The client of a proxy that does not say, or does not know, who that is (RFC 7239 section 6.2)."""

UNIX = "unix:"
"""The peer of a Unix-domain socket."""

KNOWN_ADDRESSES = 4096
"""Addresses of which it is remembered whether they are a trusted proxy's."""

_MAPPED = 0xFFFF << 32
"""IPv4 addresses as IPv6 ones: RFC 4291 section 2.5.5.2."""


class Proxies:
    """Addresses, networks, and ``unix`` for Unix-domain sockets. Any thread may ask."""

    def __init__(self, networks: Iterable[str] = ()) -> None:
        """``networks`` are spelled as ``ipaddress`` spells them."""
        networks = tuple(networks)
        self._networks = tuple([_network(each) for each in networks if each != "unix"])
        self._has_unix = "unix" in networks
        self.has = functools.lru_cache(KNOWN_ADDRESSES)(self._has) if networks else _has_none
        """``has(peer)`` tells whether the address ``peer`` is one of them."""

    def __bool__(self) -> bool:
        return self._has_unix or bool(self._networks)

    def _has(self, peer: str) -> bool:
        if peer == UNIX:
            return self._has_unix
        number = number_of(peer)
        return number is not None and any((number ^ base) >> shift == 0 for base, shift in self._networks)


def _has_none(_: str) -> bool:
    return False


def _network(text: str) -> tuple[int, int]:
    """Return the first address of a network as a number, and how many of its last bits do not matter."""
    address, _, length = text.partition("/")
    number = number_of(address)
    assert number is not None
    width = 128 if ":" in address else 32
    return number, width - int(length or width)


def is_address(text: str) -> bool:
    """Tell whether ``text`` is an IP address."""
    return number_of(text) is not None


def number_of(address: str) -> int | None:
    """Return an IP address as a number of 128 bits, None if the text is none."""
    try:
        if ":" in address:
            return int.from_bytes(socket.inet_pton(socket.AF_INET6, address), "big")
        return _MAPPED | int.from_bytes(socket.inet_pton(socket.AF_INET, address), "big")
    except (OSError, ValueError):
        return None
