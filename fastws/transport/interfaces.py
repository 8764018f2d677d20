"""The addresses of this machine that others can use."""

from __future__ import annotations

import os
import socket
import struct
import sys

_IPV6_ADDRESSES = "/proc/net/if_inet6"
_SIOCGIFADDR = 0x8915  # netdevice(7)
_GLOBAL = "00"  # the scope in if_inet6


def local_addresses(family: int) -> list[str]:
    """Return the addresses of the network interfaces, but for loopback and link-local ones, in no order."""
    found = _ipv6_addresses() if family == socket.AF_INET6 else _ipv4_addresses()
    return found or _address_of_route(family)


def _ipv4_addresses() -> list[str]:
    if sys.platform != "linux":
        return []
    import fcntl  # once at a start that is open to other machines

    found = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        for _, name in socket.if_nameindex():
            try:
                answer = fcntl.ioctl(sock, _SIOCGIFADDR, struct.pack("256s", os.fsencode(name)[:15]))
            except OSError:
                continue  # it has no IPv4 address
            found.append(socket.inet_ntoa(answer[20:24]))
    return [address for address in dict.fromkeys(found) if not address.startswith(("127.", "169.254."))]


def _ipv6_addresses() -> list[str]:
    try:
        with open(_IPV6_ADDRESSES, encoding="ascii") as file:
            rows = [line.split() for line in file]
    except OSError:
        return []
    return [socket.inet_ntop(socket.AF_INET6, bytes.fromhex(row[0])) for row in rows if row[3:4] == [_GLOBAL]]


def _address_of_route(family: int) -> list[str]:
    """Return the address that packets to the world would leave from; connecting a datagram socket sends none."""
    world = "2001:db8::1" if family == socket.AF_INET6 else "192.0.2.1"  # RFC 3849, RFC 5737
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as sock:
            sock.connect((world, 9))
            return [str(sock.getsockname()[0])]
    except OSError:
        return []
