"""Host and port as a request names them: RFC 9112 section 3.2, RFC 3986 section 3.2."""

from __future__ import annotations

import functools
import re

from .errors import HTTPError
from .messages import Request

# uri-host and port of RFC 3986 without userinfo and percent-encoding, which no client of a file server sends.
_HOST = re.compile(r"(?:[A-Za-z0-9_.~!$&'()*+;=-]*|\[([0-9A-Fa-f:.]+)\])(?::[0-9]{0,5})?")


def check_host(request: Request) -> None:
    """Raise 400 unless the Host field is there once and valid (RFC 9112 section 3.2; optional in HTTP/1.0)."""
    host = request.fields.get("host")
    if host is None:
        if request.version != "HTTP/1.0":
            raise HTTPError(400, "The Host field is missing.", close=True)
    elif not is_authority(host):
        raise HTTPError(400, "The Host field is repeated or not a valid host name.", close=True)


@functools.lru_cache(maxsize=256)  # of at most 16 KiB each; clients have few names for one server
def is_authority(text: str) -> bool:
    """Tell whether ``text`` is a host with an optional port, without userinfo."""
    match = _HOST.fullmatch(text)
    return match is not None and (match[1] is None or _is_ipv6(match[1]))


def _is_ipv6(text: str) -> bool:
    import ipaddress  # some milliseconds that most servers never need

    try:
        ipaddress.IPv6Address(text)
    except ValueError:
        return False
    return True
