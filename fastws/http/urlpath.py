"""Paths of this site as URIs spell them and as the file system does (RFC 3986 sections 2.1 and 5.2.4).

A decoded path is text the way the file system's names are (``os.fsdecode``).
"""

from __future__ import annotations

import os
import re

# A path that is its own normal form: no percent-encoding, no empty and no dot segment.
PLAIN = re.compile(r"(?:/(?!\.)[A-Za-z0-9\-._~!$&'()*+,;=:@]+)*/?")
_PERCENT = re.compile(rb"%([0-9A-Fa-f]{2})")
_UNENCODED = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~!$&'()*+,;=:@/")


def encode_path(path: str) -> str:
    """Percent-encode a decoded path for use in a URI, the canonical way: only what must be."""
    if PLAIN.fullmatch(path):
        return path
    return "".join([chr(byte) if byte in _UNENCODED else f"%{byte:02X}" for byte in os.fsencode(path)])


def complete_encoding(path: str) -> str:
    """Percent-encode what a URI may not have in ``path``, which is ASCII and percent-encoded already."""
    if PLAIN.fullmatch(path):
        return path
    return "".join([char if char == "%" or ord(char) in _UNENCODED else f"%{ord(char):02X}" for char in path])


def decode_path(raw: bytes) -> str:
    """Return ``raw`` without its percent-encoding; raises ``ValueError`` for a malformed one and for NUL."""
    if b"%" in raw:
        decoded, count = _PERCENT.subn(lambda match: bytes((int(match.group(1), 16),)), raw)
        if count != raw.count(b"%"):
            raise ValueError("The path has a percent sign without two hexadecimal digits after it.")
        raw = decoded
    if b"\x00" in raw:
        raise ValueError("The path has a NUL byte.")
    try:
        return os.fsdecode(raw)
    except UnicodeDecodeError:  # on Windows, where names are text
        raise ValueError("The path is not UTF-8.") from None


def normalise(path: str) -> str:
    """Remove dot segments and empty segments of a decoded path; raises ``ValueError`` where it leaves the root.

    A backslash counts as a separator only against that.
    """
    _remove_dot_segments(path.replace("\\", "/"))
    segments = _remove_dot_segments(path)
    is_directory = path.endswith(("/", "/.", "/.."))
    return "/" + "/".join(segments) + ("/" if is_directory and segments else "")


def is_normal(path: str) -> bool:
    """Tell whether a request can lead to the decoded ``path`` as it stands."""
    try:
        return normalise(path) == path
    except ValueError:
        return False


def _remove_dot_segments(path: str) -> list[str]:
    kept: list[str] = []
    for segment in path.split("/"):
        if segment == "..":
            if not kept:
                raise ValueError("The path leaves the document root.")
            kept.pop()
        elif segment not in ("", "."):
            kept.append(segment)
    return kept


def glob_pattern(glob: str) -> re.Pattern[str]:
    """Return the pattern of whole decoded paths that ``glob`` stands for.

    ``*`` is all that is special, and matches a slash too. Every part between two of them matches at its first
    place for good, so that no path makes the search long.
    """
    first, *others = map(re.escape, re.split(r"\*+", glob))
    if not others:
        return re.compile(first)
    middle = "".join([f"(?>.*?{part})" for part in others[:-1]])
    return re.compile(f"{first}{middle}.*{others[-1]}", re.DOTALL)


def globs_meet(one: str, other: str) -> bool:
    """Tell whether there is a path that both patterns of ``glob_pattern`` match."""
    reached = {0}  # how much of ``other`` what was read of ``one`` may have met
    for character in one:
        reached = _with_skipped(other, reached)
        if character == "*":
            reached = set(range(min(reached, default=len(other) + 1), len(other) + 1))
        else:
            stars = {at for at in reached if other[at : at + 1] == "*"}
            reached = stars | {at + 1 for at in reached if other[at : at + 1] == character}
    return len(other) in _with_skipped(other, reached)


def _with_skipped(glob: str, reached: set[int]) -> set[int]:
    """Return the places of ``reached``, and those behind a star that stands for nothing there."""
    found = set(reached)
    for at in reached:
        while glob[at : at + 1] == "*":
            at += 1
            found.add(at)
    return found
