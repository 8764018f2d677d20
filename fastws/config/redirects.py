"""Redirect lines: read, found wrong, and followed.

FROM and TO are kept percent-encoded. A ``*`` at the end of FROM stands for any rest of the path, one at the end of
TO for that rest; a star that is meant as such is ``%2A``.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence

from ..http.urlpath import decode_path, encode_path, is_normal, normalise
from .values import all_of, matching, one_of

STATUSES = (301, 302, 303, 307, 308)
DEFAULT_STATUS = 302

MAX_HOPS = 20
"""Redirects after which browsers give up; a chain that is longer leads nowhere."""

_URI_CHARACTER = r"[A-Za-z0-9._~:/?#\[\]@!$&'()*+,;=%-]"  # RFC 3986 sections 2.1 to 2.3
_TARGET = rf"https?://{_URI_CHARACTER}+|/(?!/){_URI_CHARACTER}*"


def parse_redirect(words: Sequence[str], base: str) -> dict[str, tuple[str, int]]:
    """``from to [status]``."""
    source, target, status = all_of(
        lambda: _source(words[0]),
        lambda: _target(words[1]),
        lambda: int(one_of(words[2], [str(n) for n in STATUSES])) if len(words) > 2 else DEFAULT_STATUS,
    )
    if target.endswith("*") and not source.endswith("*"):
        raise ValueError(f"{target!r} ends with * and {words[0]!r} does not; there is no rest to append")
    return {source: (target, status)}


class Redirects:
    """The redirects of one configuration. Any thread may ask."""

    def __init__(self, redirects: Mapping[str, tuple[str, int]]) -> None:
        self._lines = redirects
        self._exact = {_decoded(source): source for source in redirects if not source.endswith("*")}
        prefixes = [(_decoded(source[:-1]), source) for source in redirects if source.endswith("*")]
        self._prefixes = sorted(prefixes, key=lambda item: -len(item[0]))

    def find(self, path: str, query: str | None = None) -> tuple[str, int] | None:
        """Return the Location and status for the decoded, normalised ``path``, None if it stays.

        The whole path goes before a beginning of it, and a longer beginning before a shorter one. ``query`` is
        kept unless TO has one of its own.
        """
        match = self._match(path)
        if match is None:
            return None
        source, rest = match
        target, status = self._lines[source]
        return _with_query(_with_rest(target, rest), query), status

    def _match(self, path: str) -> tuple[str, str] | None:
        """The FROM that decides about ``path``, and the rest of the path behind it."""
        if source := self._exact.get(path):
            return source, ""
        for prefix, source in self._prefixes:
            if path.startswith(prefix):
                return source, path[len(prefix) :]
        return None

    def loop_from(self, source: str) -> list[str]:
        """Return the paths by which the line of FROM is come to again and again; none if it is not."""
        path = _decoded(source.removesuffix("*"))
        chain, lines = [path], []
        while match := self._match(path):
            lines.append(match[0])
            here = _own_path(_with_rest(self._lines[match[0]][0], match[1]))
            if here is None:
                return []
            chain.append(here)
            if here in chain[:-1]:
                # A line may only lead into a circle of others, which are told of by themselves.
                return chain if source in lines[chain.index(here) :] else []
            if len(lines) >= MAX_HOPS:
                return chain if source == lines[-1] else []
            path = here
        return []


def _source(text: str) -> str:
    """The one spelling of FROM; refuses what no request can match."""
    path, mark = (text[:-1], "*") if text.endswith("*") else (text, "")
    if re.search(r"[?#]", path):
        raise ValueError(f"{text!r} has a '?' or '#'; only the path counts, and in it they are %3F and %23")
    if "*" in path:
        raise ValueError(f"{text!r} has a * before its end; one at the end is allowed, a star as such is %2A")
    try:
        decoded = _decoded(path)
    except ValueError:
        raise ValueError(
            f"{text!r} is not percent-encoded: two hexadecimal digits after each %, and no %00"
        ) from None
    if not is_normal(decoded + "x" if mark else decoded):
        raise ValueError(f"{text!r} is not a path of this site: '/' first, no '//', '/./' or '/../'")
    return encode_path(decoded).replace("*", "%2A") + mark


def _target(text: str) -> str:
    allowed = "neither a /path nor an http:// or https:// URL, percent-encoded"
    matching(_TARGET, text, allowed)
    # The rest of a path must not become a part of the host's name, nor of a query.
    if text.endswith("*") and not re.fullmatch(r"(?:https?://[^/?#]+)?/[^?#]*", text):
        raise ValueError(f"{text!r} has its * outside the path; https://HOST/* or /PATH/* is allowed")
    return text


def _decoded(path: str) -> str:
    return decode_path(os.fsencode(path))


def _with_rest(target: str, rest: str) -> str:
    if not target.endswith("*"):
        return target
    start = target[:-1]
    # Two slashes at the beginning would name another host.
    return start + encode_path(rest.lstrip("/") if start.endswith("/") else rest)


def _with_query(target: str, query: str | None) -> str:
    address, mark, fragment = target.partition("#")
    if query is None or "?" in address:
        return target
    return f"{address}?{query}{mark}{fragment}"


def _own_path(location: str) -> str | None:
    """The decoded path that a client asks this site for, None if it asks another or is refused."""
    if not location.startswith("/"):
        return None
    try:
        return normalise(_decoded(re.split(r"[?#]", location, maxsplit=1)[0]))
    except ValueError:
        return None
