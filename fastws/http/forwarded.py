"""Proxies that are believed, and the client that they name."""

from __future__ import annotations

import functools
import os
import re
import socket
from collections.abc import Iterable, Mapping, Sequence

from ..language.named_tuple import NamedTuple
from .errors import HTTPError
from .vocabulary import TOKEN

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


def is_loopback(text: str) -> bool:
    """Tell whether ``text`` is a loopback address: that of a machine for itself."""
    number = number_of(text)
    return number == 1 or (number is not None and number >> 24 == (_MAPPED | 127 << 24) >> 24)


def number_of(address: str) -> int | None:
    """Return an IP address as a number of 128 bits, None if the text is none."""
    try:
        if ":" in address:
            return int.from_bytes(socket.inet_pton(socket.AF_INET6, address), "big")
        return _MAPPED | int.from_bytes(socket.inet_pton(socket.AF_INET, address), "big")
    except (OSError, ValueError):
        return None


# What a request says of its client

ANY = "any"
"""The client is named by Forwarded, X-Forwarded-For or X-Real-IP, as the request has it."""

CLIENT_HEADERS = (ANY, "Forwarded", "X-Forwarded-For", "X-Real-IP")
"""Which fields may name the client."""

SCHEMES = ("http", "https")

FORGEABLE = ("forwarded", "x-forwarded-", "x-real-ip", "x-client-ip", "true-client-ip", "cf-connecting-ip")
"""The beginnings of names of fields that only a proxy is believed in."""

_NAMING = ("forwarded", "x-forwarded-for", "x-real-ip")

NAME_BYTES = 45
"""The longest IPv6 address; a longer identifier of a client says nothing to anybody."""

_PAIR = rf'[ \t]*(?:({TOKEN})=(?:({TOKEN})|"((?:[^"\\\x00-\x1f\x7f]|\\[^\x00-\x1f\x7f])*)"))?[ \t]*([;,]|\Z)'
# Patterns are text: re compiles and keeps the few that are used.
_REQUEST_ID = r"[!#-\[\]-~]{1,128}"
_HIDDEN = r"_[A-Za-z0-9._-]+"
_PORT = r"[0-9]{1,5}|_[A-Za-z0-9._-]+"


class Sender(NamedTuple):
    """Whom a request is from: the client's address, and the scheme that it came by, "" if the connection tells.

    The address is ``unix:`` or ``UNKNOWN`` where there is none, or an identifier that a proxy has made up
    (RFC 7239 section 6.3). ``request_id`` is the name of the request, "" where requests have none.
    """

    peer: str
    scheme: str = ""
    request_id: str = ""


@functools.lru_cache(KNOWN_ADDRESSES)  # the same for all requests from there
def sender_at(peer: str) -> Sender:
    """Return the sender of a request that has no name and came by no proxy: the ``peer`` itself."""
    return Sender(peer)


def request_id_of(fields: Mapping[str, str], *, is_trusted: bool) -> str:
    """Return the name that a trusted proxy has given to a request in X-Request-ID, or else a new one."""
    given = fields.get("x-request-id", "") if is_trusted else ""
    return given if re.fullmatch(_REQUEST_ID, given) else new_request_id()


def new_request_id() -> str:
    """Return a name that no other request has."""
    return os.urandom(16).hex()


def sender_of(fields: Mapping[str, str], proxy: str, proxies: Proxies, header: str = ANY) -> Sender:
    """Return the sender of a request with these ``fields`` that the trusted address ``proxy`` has sent.

    The chain of proxies is walked from its end: the first address that is no trusted proxy's is the client's. If
    all are, it is the first of the chain. ``header`` is one of ``CLIENT_HEADERS``. Raises ``HTTPError`` 400 where
    Forwarded is malformed, or the fields that are believed do not name the same client and scheme.
    """
    found: list[Sender] = []
    if header in (ANY, "Forwarded") and (value := fields.get("forwarded")):
        found.append(_walk(_elements(value), proxies))
    if header in (ANY, "X-Forwarded-For") and (value := fields.get("x-forwarded-for")):
        found.append(_walk([(_node(each), "") for each in value.split(",") if each.strip(" \t")], proxies))
    if header in (ANY, "X-Real-IP") and (value := fields.get("x-real-ip")):
        name = _node(value)
        if not found or not proxies.has(name):  # beside a chain it may be that of a proxy in it
            found.append(Sender(name))
    scheme = "" if header == "Forwarded" else _last_scheme(fields.get("x-forwarded-proto", ""))
    peers, schemes = {each.peer for each in found}, {each.scheme for each in found} | {scheme}
    if len(peers) > 1 or len(schemes - {""}) > 1:
        raise HTTPError(
            400,
            "Forwarded, X-Forwarded-For, X-Forwarded-Proto and X-Real-IP contradict each other; ClientHeader says"
            " which to believe.",
        )
    return Sender(peers.pop() if peers else proxy, max(schemes))


def _walk(chain: Sequence[tuple[str, str]], proxies: Proxies) -> Sender:
    """Return the client in a chain of names and schemes."""
    for name, scheme in reversed(chain):
        if not proxies.has(name):
            return Sender(name, scheme)
    return Sender(*chain[0]) if chain else Sender(UNKNOWN)


def _last_scheme(value: str) -> str:
    """Return the last scheme of X-Forwarded-Proto: what is before it, a client may have sent."""
    scheme = value.rpartition(",")[2].strip(" \t").lower()
    return scheme if scheme in SCHEMES else ""


def _elements(value: str) -> list[tuple[str, str]]:
    """Return the ``for`` and ``proto`` of each element of Forwarded (RFC 7239 section 4); raises 400."""
    found: list[tuple[str, str]] = []
    pairs: dict[str, str] = {}
    pair = re.compile(_PAIR)
    position, is_over = 0, False
    while not is_over:
        match = pair.match(value, position)
        if match is None or (match[1] and match[1].lower() in pairs):
            raise HTTPError(400, "The field Forwarded is malformed.")
        name, token, quoted, end = match.groups()
        if name:
            pairs[name.lower()] = token or re.sub(r"\\(.)", r"\1", quoted or "")
        position, is_over = match.end(), not end
        if end != ";" and pairs:
            scheme = pairs.get("proto", "").lower()
            found.append((_node(pairs.get("for", "")), scheme if scheme in SCHEMES else ""))
            pairs = {}
    return found


@functools.lru_cache(KNOWN_ADDRESSES)
def _node(text: str) -> str:
    """Return the name of a node, without its port, as the logs have it: an address in its canonical form."""
    text = text.strip(" \t")
    if text.startswith("["):
        address, bracket, port = text[1:].partition("]")
        is_right = (
            ":" in address and bracket and (not port or (port[0] == ":" and re.fullmatch(_PORT, port[1:])))
        )
        return canonical(address) if is_right else UNKNOWN
    if text.count(":") == 1:
        text, _, port = text.partition(":")
        if not re.fullmatch(_PORT, port):
            return UNKNOWN
    if re.fullmatch(_HIDDEN, text) and len(text) <= NAME_BYTES:
        return text
    return canonical(text)


def canonical(address: str) -> str:
    """Return an IP address in its canonical form, IPv4 within IPv6 as IPv4; ``UNKNOWN`` for what is none."""
    number = number_of(address)
    if number is None:
        return UNKNOWN
    packed = number.to_bytes(16, "big")
    if number >> 32 == _MAPPED >> 32:
        return socket.inet_ntop(socket.AF_INET, packed[12:])
    return socket.inet_ntop(socket.AF_INET6, packed)


def without_forged(fields: dict[str, str], header: str | None) -> dict[str, str]:
    """Return ``fields`` without those that name clients and are not to be believed.

    ``header`` is the one of ``CLIENT_HEADERS`` that is believed of the sender, None for no field at all.
    """
    if header == ANY:
        return fields
    if header is None:
        forged = [name for name in fields if name.startswith(FORGEABLE)]
    else:
        others = ("x-forwarded-", "x-real-ip") if header == "Forwarded" else _NAMING
        forged = [name for name in fields if name.startswith(others) and name != header.lower()]
    return {name: value for name, value in fields.items() if name not in forged} if forged else fields
