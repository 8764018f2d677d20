"""Request target → normalised path, or 400 (RFC 9112 section 3.2, RFC 3986 sections 2.1 and 5.2.4)."""

from __future__ import annotations

import functools
import os
import re
from typing import NamedTuple

from .errors import HTTPError
from .framing import is_authority

# A path that is its own normal form: no percent-encoding, no empty and no dot segment.
_PLAIN = re.compile(r"(?:/(?!\.)[A-Za-z0-9\-._~!$&'()*+,;=:@]+)*/?")
_PERCENT = re.compile(rb"%([0-9A-Fa-f]{2})")
_ABSOLUTE = re.compile(r"https?://([^/?#]*)", re.IGNORECASE)
_UNENCODED = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~!$&'()*+,;=:@/")


class Target(NamedTuple):
    """What a request target names.

    ``path`` starts with one slash, has no empty, ``.`` or ``..`` segment, and is decoded from its
    percent-encoding the way the file system's names are (``os.fsdecode``). ``query`` is as it was sent.
    ``is_canonical`` tells that the path was spelled the one way in which this server itself would spell it.
    """

    path: str
    query: str | None
    is_canonical: bool


@functools.lru_cache(maxsize=512)  # of at most 8 KiB each
def parse_target(target: str) -> Target:
    """Return what ``target`` names.

    Raises 400 for anything but origin-form and absolute-form, bad percent-encoding, a NUL byte, a fragment,
    and a path that leaves the root, in whichever encoding.
    """
    path, mark, query = target.partition("?")
    if "#" in target:
        raise HTTPError(400, "A request target has no fragment.")
    if path.startswith("/") and _PLAIN.fullmatch(path):
        return Target(path, query if mark else None, True)
    if not path.startswith("/"):
        path, mark, query = _split_absolute(target)
    normal = _normalise(_decode(path))
    return Target(normal, query if mark else None, encode_path(normal) == path)


def encode_path(path: str) -> str:
    """Percent-encode a decoded path for use in a URI, the canonical way: only what must be."""
    if _PLAIN.fullmatch(path):
        return path
    return "".join([chr(byte) if byte in _UNENCODED else f"%{byte:02X}" for byte in os.fsencode(path)])


def _split_absolute(target: str) -> tuple[str, str, str]:
    """Return path, question mark and query; the authority is checked, and no part of what is served."""
    match = _ABSOLUTE.match(target)
    if not match:
        raise HTTPError(400, "The request target is neither a path nor an http URI.")
    authority = match.group(1)
    if not authority or authority.startswith(":") or not is_authority(authority):
        raise HTTPError(400, "The request target's authority is not a valid host.")
    path, mark, query = target[match.end() :].partition("?")
    return path or "/", mark, query


def _decode(path: str) -> str:
    raw = path.encode("latin-1")
    if b"%" in raw:
        decoded, count = _PERCENT.subn(lambda match: bytes((int(match.group(1), 16),)), raw)
        if count != raw.count(b"%"):
            raise HTTPError(400, "The path has a percent sign without two hexadecimal digits after it.")
        raw = decoded
    if b"\x00" in raw:
        raise HTTPError(400, "The path has a NUL byte.")
    return os.fsdecode(raw)


def _normalise(path: str) -> str:
    """Remove dot segments and empty segments; a backslash counts as a separator only against escapes."""
    _remove_dot_segments(path.replace("\\", "/"))
    segments = _remove_dot_segments(path)
    is_directory = path.endswith(("/", "/.", "/.."))
    return "/" + "/".join(segments) + ("/" if is_directory and segments else "")


def _remove_dot_segments(path: str) -> list[str]:
    kept: list[str] = []
    for segment in path.split("/"):
        if segment == "..":
            if not kept:
                raise HTTPError(400, "The path leaves the document root.")
            kept.pop()
        elif segment not in ("", "."):
            kept.append(segment)
    return kept
