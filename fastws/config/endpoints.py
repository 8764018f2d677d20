"""Listen lines: where the server listens and what is spoken there."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable, Sequence
from typing import Any

from ..language.named_tuple import NamedTuple
from .values import absolute, hosts_of, matching, one_of, port

PLAIN, TLS, REDIRECT = "plain", "tls", "redirect"
"""What is spoken at an address: HTTP, HTTPS, or HTTP that answers everything by sending clients to HTTPS."""

KINDS = (PLAIN, TLS, REDIRECT)
PROXY = "proxy"
"""The word that stands for a PROXY preamble before what is spoken at an address."""

ANYBODY = 0o666
"""The mode of a socket to which anybody may connect who may enter its directory, as with nginx."""

_MODE = r"0?[0-7]{3}"
_ADDRESS = r"(?:(.*):)?([^:\[\]]*)"


class Endpoint(NamedTuple):
    """One address to listen on.

    ``address`` is ``unix:/path``, ``192.0.2.1:8443`` or ``[::1]:8443``, or a port, meant on each ``Host``.
    ``mode`` holds the permissions of a Unix-domain socket. ``has_preamble`` tells that each connection begins with
    the preamble of a proxy.
    """

    address: str
    kind: str = PLAIN
    mode: int = ANYBODY
    has_preamble: bool = False

    @property
    def is_unix(self) -> bool:
        """Whether it is a Unix-domain socket."""
        return self.address.startswith("unix:")


def parse_listen(words: Sequence[str], base: str, *, lowest: int = 1) -> tuple[Endpoint, ...]:
    """``unix:/path [mode]`` or ``[address:]port [kind]``, then perhaps ``proxy``; a name is all its addresses."""
    has_preamble = len(words) > 1 and words[-1].lower() == PROXY
    words = words[:-1] if has_preamble else words
    if len(words) > 2:
        raise ValueError(f"{words[2]!r} is not {PROXY}, the one word that may stand there")
    if words[0].startswith("unix:"):
        return (_unix(words, base)._replace(has_preamble=has_preamble),)
    return tuple([each._replace(has_preamble=has_preamble) for each in _tcp(words, lowest)])


def _tcp(words: Sequence[str], lowest: int) -> list[Endpoint]:
    kind = one_of(words[1].lower(), KINDS) if len(words) > 1 else PLAIN
    match = re.fullmatch(_ADDRESS, words[0])
    if match is None or not match[2].isdigit() or match[1] == "":
        raise ValueError(f"{words[0]!r} is none of PORT, ADDRESS:PORT, [IPV6-ADDRESS]:PORT and unix:/PATH")
    host, number = match[1], int(match[2]) if lowest == 0 and match[2] == "0" else port(match[2])
    if host is None:
        return [Endpoint(str(number), kind)]
    if ":" in host and not host.startswith("["):
        raise ValueError(f"{words[0]!r} has no brackets; [{host}]:{number} is allowed")
    return [
        Endpoint(f"[{each}]:{number}" if ":" in each else f"{each}:{number}", kind) for each in hosts_of(host)
    ]


def _unix(words: Sequence[str], base: str) -> Endpoint:
    path = words[0].removeprefix("unix:")
    if not path:
        raise ValueError(f"{words[0]!r} is not unix:/PATH")
    if sys.platform == "win32":
        raise ValueError("Python has no Unix-domain sockets on this platform; a TCP port is needed")
    mode = words[1] if len(words) > 1 else f"{ANYBODY:04o}"
    if mode.lower() in KINDS:
        raise ValueError(f"a Unix-domain socket is always plain and {mode!r} no mode; TLS needs a TCP port")
    matching(_MODE, mode, "not a mode: three octal digits, such as 0660, are allowed")
    path = absolute(path, base)
    if len(os.fsencode(path)) > 107:  # unix(7): sun_path holds 108 bytes, one of them the final NUL
        raise ValueError(f"{path!r} is too long for a Unix-domain socket; at most 107 bytes are allowed")
    return Endpoint(f"unix:{path}", PLAIN, int(mode, 8))


def words_of(value: Any) -> list[list[Any]]:
    """Return the words of the lines that say what a program gives for ``Config.listen``."""
    items = value if isinstance(value, tuple | list) and not isinstance(value, Endpoint) else [value]
    return [_line_of(item) for item in items]


def _line_of(item: Any) -> list[Any]:
    if isinstance(item, Endpoint):
        preamble = [PROXY] if item.has_preamble else []
        return [item.address, f"{item.mode:04o}" if item.is_unix else item.kind, *preamble]
    first, *more = item if isinstance(item, tuple | list) else (item,)
    if isinstance(first, os.PathLike):
        first = f"unix:{os.fspath(first)}"
    elif isinstance(first, str) and not first.startswith("unix:") and not more:
        first, *more = first.split() or [first]
    return [first, *[f"{each:04o}" if isinstance(each, int) else each for each in more]]


class Spoken(NamedTuple):
    """What is spoken at an address: the kind, and whether a preamble comes before it."""

    kind: str = PLAIN
    has_preamble: bool = False


def tcp_endpoints(
    hosts: Iterable[str], ports: Iterable[int], listen: Iterable[Endpoint]
) -> list[tuple[str, int, Spoken]]:
    """Return host and port of every TCP listener, with what its line says is spoken there.

    Each port on each host comes first, then the Listen lines.
    """
    hosts = tuple(hosts)
    found = [(host, number, Spoken()) for host in hosts for number in ports]
    for endpoint in listen:
        if endpoint.is_unix:
            continue
        host, _, number = endpoint.address.rpartition(":")
        of_line = (host.strip("[]"),) if host else hosts
        spoken = Spoken(endpoint.kind, endpoint.has_preamble)
        found += [(each, int(number), spoken) for each in of_line]
    return found


def is_socket_activated() -> bool:
    """Tell whether systemd (or the like) hands listening sockets to this process: sd_listen_fds(3)."""
    own = str(os.getpid())
    # A shell that tries --check sets no LISTEN_PID; one that belongs to another process means: not for us.
    return os.environ.get("LISTEN_FDS", "0") not in ("", "0") and os.environ.get("LISTEN_PID", own) == own


def activated_kinds() -> tuple[str, ...]:
    """Return what is spoken at the sockets that are handed over, in their order, as far as they have names.

    The names ``tls`` and ``redirect`` (systemd: FileDescriptorName=) say so; any other one means plain.
    """
    if not is_socket_activated():
        return ()
    names = os.environ.get("LISTEN_FDNAMES", "").split(":")
    return tuple([name if name in KINDS else PLAIN for name in names])
