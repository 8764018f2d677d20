"""Request target → normalised path, or 400 (RFC 9112 section 3.2, RFC 3986 sections 2.1 and 5.2.4)."""

from __future__ import annotations

import functools
import re

from ..language.named_tuple import NamedTuple
from .authority import is_authority
from .errors import HTTPError
from .urlpath import PLAIN, complete_encoding, decode_path, encode_path, normalise

_ABSOLUTE = re.compile(r"https?://([^/?#]*)", re.IGNORECASE)


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
    if path.startswith("/") and PLAIN.fullmatch(path):
        return Target(path, query if mark else None, True)
    if not path.startswith("/"):
        path, mark, query = _split_absolute(target)
    try:
        normal = normalise(decode_path(path.encode("latin-1")))
    except ValueError as error:
        raise HTTPError(400, str(error)) from None
    return Target(normal, query if mark else None, encode_path(normal) == path)


def authority_of(target: str) -> str | None:
    """Return the authority of a target in absolute-form; it goes before Host (RFC 9112 section 3.2.2)."""
    match = None if target.startswith("/") else _ABSOLUTE.match(target)
    return match.group(1) if match else None


def path_of(target: str) -> str:
    """Return the path of a target that ``parse_target`` takes, as it was sent but for what a URI may not have."""
    path = target.partition("?")[0] if target.startswith("/") else _split_absolute(target)[0]
    return complete_encoding(path)


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
