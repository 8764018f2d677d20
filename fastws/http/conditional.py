"""Conditional requests (RFC 9110 section 13) as pure functions over validators."""

from __future__ import annotations

import re
from collections.abc import Mapping

from .httpdate import parse_http_date

FIRST_REAL_S = 631152000
"""1990-01-01, before the first page of the Web. What is older is a mark of the tool that made the file: the epoch
or a second after it (OSTree, Nix, Jib), 1980-01-01 in some time zone (FAT, zip, buildpacks), 1980-02-01 (Gradle),
1985-10-26 (npm)."""

_NO_REAL_DATES = frozenset({946684800, 1262304000})  # midnight of 2000-01-01 and 2010-01-01: Bazel

_ENTITY_TAG = r'(?:W/)?"[\x21\x23-\x7e\x80-\xff]*"'
_LIST_MEMBER = re.compile(rf"[ \t,]*({_ENTITY_TAG})[ \t]*(?:,|\Z)")
_EMPTY_MEMBERS = re.compile(r"[ \t,]*")


def evaluate(
    method: str, fields: Mapping[str, str], etag: str, last_modified: int | None, now: float
) -> int | None:
    """Evaluate the preconditions among ``fields`` in the order of RFC 9110 section 13.2.2.

    Returns the status that they lead to, 304 or 412, None to answer as if there were none.

    ``fields`` has lower-case names; ``etag`` is the strong entity tag with its quotes; ``last_modified``
    is in seconds since the epoch, None where the representation has no plausible date; ``now`` is the
    present in the same unit. A representation exists, or the caller would have nothing to compare.
    If-Range belongs to the range: see ``if_range_holds``.
    """
    is_read = method in ("GET", "HEAD")
    if (tags := fields.get("if-match")) is not None:
        if not _if_match_holds(tags, etag):
            return 412
    elif (date := fields.get("if-unmodified-since")) is not None and last_modified is not None:
        since = parse_http_date(date, now)
        if since is not None and last_modified > since:
            return 412
    if (tags := fields.get("if-none-match")) is not None:
        if _if_none_match_holds(tags, etag, is_read):
            return None
        return 304 if is_read else 412
    if is_read and (date := fields.get("if-modified-since")) is not None and last_modified is not None:
        since = parse_http_date(date, now)
        # A date ahead of the clock is none that was sent as Last-Modified, and what happens until then
        # would go unseen: it is ignored, as a whole answer is never wrong.
        if since is not None and last_modified <= since <= now:
            return 304
    return None


def if_range_holds(value: str, etag: str, last_modified: int | None) -> bool:
    """Tell whether the range may be served under this If-Range (RFC 9110 section 13.1.5).

    An entity tag is compared strongly (``etag`` is strong, so that a weak one never equals it), a date
    exactly. Anything malformed does not hold: then the whole representation is sent, which is right in
    every case.
    """
    if value.endswith('"'):
        return value == etag
    return last_modified is not None and parse_http_date(value) == last_modified


def plausible_last_modified(mtime_s: float, now_s: float) -> int | None:
    """Return the whole seconds to send as Last-Modified, or None if ``mtime_s`` says nothing of a change.

    Reproducible builds, archives and image stores leave one date behind on all that they make. A time in the
    future must not be sent (RFC 9110 section 8.8.2.1).
    """
    seconds = int(mtime_s // 1)
    return seconds if FIRST_REAL_S <= seconds <= now_s and seconds not in _NO_REAL_DATES else None


def _if_match_holds(value: str, etag: str) -> bool:
    """RFC 9110 section 13.1.1: strong comparison. A list that cannot be read protects by not holding."""
    if value == "*":
        return True
    return etag in (_parse_entity_tags(value) or ())


def _if_none_match_holds(value: str, etag: str, is_read: bool) -> bool:
    """RFC 9110 section 13.1.2: weak comparison.

    A list that cannot be read does hold for GET and HEAD, so that it leads to a whole answer and never to
    a wrong 304; for other methods it does not, so that nothing is done that the client meant to prevent.
    """
    if value == "*":
        return False
    tags = _parse_entity_tags(value)
    if tags is None:
        return is_read
    return etag not in [tag.removeprefix("W/") for tag in tags]


def _parse_entity_tags(value: str) -> list[str] | None:
    """Return the members of ``#entity-tag`` as they are spelled; None if the list is malformed."""
    tags = []
    position = 0
    while (member := _LIST_MEMBER.match(value, position)) is not None:
        tags.append(member[1])
        position = member.end()
    return tags if _EMPTY_MEMBERS.fullmatch(value, position) else None
