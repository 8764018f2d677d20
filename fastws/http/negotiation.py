"""Content negotiation by the request (RFC 9110 section 12.5) as pure functions."""

from __future__ import annotations

import functools
import re
from itertools import permutations

from .vocabulary import TOKEN

IDENTITY_CODING = "identity"
"""What a form without any coding is called (RFC 9110 section 8.4.1)."""

CODINGS = ("br", "zstd", "gzip", IDENTITY_CODING)
"""The content codings that the server may choose from, in its own order of preference."""

_ANY = (
    IDENTITY_CODING,
    "gzip",
    "br",
    "zstd",
)  # for who says nothing: the plain form, or what most can decode

_ALIASES = {"x-gzip": "gzip"}  # RFC 9110 section 8.4.1.3

# Every preference that there can be: 65, the same numbers in every process of this version.
_NUMBERS = {
    preference: number
    for number, preference in enumerate(
        preference for length in range(len(CODINGS) + 1) for preference in permutations(CODINGS, length)
    )
}

_WEIGHT = r"[ \t]*;[ \t]*[qQ]=(0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?)"
# Patterns are text: re compiles each when it is first needed, and keeps it; a start does not pay for it.
_CODING = rf"[ \t,]*({TOKEN})(?:{_WEIGHT})?[ \t]*(?:,|\Z)"
# Space after a semicolon belongs to a name or to the next semicolon, never to both: no backtracking there.
_PARAMETER = rf'[ \t]*;(?:[ \t]*(?![qQ]=){TOKEN}=(?:{TOKEN}|"(?:[^"\\]|\\.)*"))?'
_MEDIA_RANGE = rf"[ \t,]*({TOKEN}/{TOKEN})(?:{_PARAMETER})*(?:{_WEIGHT}(?:{_PARAMETER})*)?[ \t]*(?:,|\Z)"
_EMPTY_MEMBERS = r"[ \t,]*"


@functools.lru_cache(maxsize=256)
def preferred_codings(value: str | None) -> tuple[str, ...]:
    """Return the members of ``CODINGS`` that an Accept-Encoding accepts, best first (section 12.5.3).

    Ordered by weight, then as in ``CODINGS``. ``identity`` is accepted unless the field excludes it, and
    comes last unless the field gives it a weight. Empty if nothing known is accepted. A coding named twice
    has the lower weight. Without the field anything is accepted, identity first; an empty or malformed one means
    identity alone.
    """
    if value is None:
        return _ANY
    weights: dict[str, float] = {}
    for name, weight in _parse_list(_CODING, value) or ():
        coding = _ALIASES.get(name, name)
        weights[coding] = min(weight, weights.get(coding, weight))
    unnamed = weights.get("*", 0.0)
    # An identity that is not mentioned is acceptable, but less than anything that is: weights have 3 digits.
    unnamed_identity = weights.get("*", 0.0001)
    ranked = [
        (coding, weights.get(coding, unnamed_identity if coding == IDENTITY_CODING else unnamed))
        for coding in CODINGS
    ]
    acceptable = [(coding, weight) for coding, weight in ranked if weight > 0]
    return tuple(coding for coding, _ in sorted(acceptable, key=lambda pair: -pair[1]))


def codings_number(preference: tuple[str, ...]) -> int:
    """Return the number, from 0 to 64, of a result of ``preferred_codings``; for cache keys."""
    return _NUMBERS[preference]


def prefers_json(accept: str | None) -> bool:
    """Tell whether an Accept field (section 12.5.1) wants application/json rather than text/html.

    The weight decides, then the more specific media range, then HTML: so what a browser or ``*/*`` accepts
    is HTML, and ``application/json, */*`` is JSON. Parameters other than the weight are not looked at.
    """
    weights = dict(_parse_list(_MEDIA_RANGE, accept or "") or ())

    def quality(media_type: str) -> tuple[float, int]:
        ranges = media_type, media_type.partition("/")[0] + "/*", "*/*"
        return next(
            ((weights[name], -rank) for rank, name in enumerate(ranges) if name in weights), (0.0, -3)
        )

    json = quality("application/json")
    return json[0] > 0 and json > quality("text/html")


def _parse_list(member: str, value: str) -> list[tuple[str, float]] | None:
    """Return the lower-case names and the weights of a list's members; None if the list is malformed."""
    pattern = re.compile(member)
    members = []
    position = 0
    while (match := pattern.match(value, position)) is not None:
        members.append((match[1].lower(), float(match[2] or 1)))
        position = match.end()
    return members if re.fullmatch(_EMPTY_MEMBERS, value[position:]) else None
