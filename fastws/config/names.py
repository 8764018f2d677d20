"""Names of machines → the addresses to listen on."""

from __future__ import annotations

import errno
import socket

_LOOPBACK = ("127.0.0.1", "::1")


def addresses_of(name: str) -> tuple[str, ...]:
    """The addresses of this machine that ``name`` stands for, of both families; raises ``ValueError``.

    ``localhost`` is both loopback addresses (RFC 6761 section 6.3). A family that the machine lacks is left out.
    """
    if name.lower().rstrip(".") == "localhost":
        found: tuple[str, ...] = _LOOPBACK
    else:
        try:
            answers = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            reason = getattr(error, "strerror", None) or error
            raise ValueError(
                f"{name!r} is neither an IP address such as 127.0.0.1 nor a name that has one: {reason}"
            ) from None
        found = tuple(dict.fromkeys([str(answer[4][0]) for answer in answers]))
    usable = tuple([address for address in found if is_of_this_machine(address)])
    return usable or found  # the start says of the first what is wrong with it


def is_of_this_machine(address: str) -> bool:
    """Tell whether this machine has ``address``."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.bind((address, 0))
    except OSError as error:
        return error.errno not in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)
    return True
