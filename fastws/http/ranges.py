"""Range requests (RFC 9110 section 14) as pure functions, and the parts of multipart/byteranges."""

from __future__ import annotations

import os
import re

from ..language.named_tuple import NamedTuple
from .errors import HTTPError

MAX_RANGES = 100  # Apache allows 200, and no client is known to ask for as many as this

_MAX_DIGITS = 19  # a number with more is beyond every file size (2^63)
_RANGE_SET = re.compile("bytes=(.*)", re.IGNORECASE)
_RANGE_SPEC = re.compile("([0-9]*)-([0-9]*)")


class ByteRange(NamedTuple):
    """``length`` bytes, at least one, from the zero-based position ``first`` on."""

    first: int
    length: int


def parse_ranges(value: str, size: int) -> tuple[ByteRange, ...] | None:
    """Return the ranges that a Range field selects from a representation of ``size`` bytes.

    They are satisfiable, disjoint and not adjacent: what overlaps or touches is coalesced, as section
    17.15 advises, so that no byte is ever sent twice. They stand in the order in which the field names
    them. One range is answered as such, several as multipart/byteranges. None means that the field is to
    be ignored and all is sent (200): another range unit, a malformed set, more than ``MAX_RANGES``
    ranges, or an empty representation, for which there is no Content-Range. A content delivery network that asks
    for slices gets all of nothing.

    Raises HTTPError 416 with Content-Range if the set is well-formed and none of it is satisfiable.
    """
    range_set = _RANGE_SET.fullmatch(value)
    if range_set is None:
        return None
    specs = [spec for member in range_set[1].split(",") if (spec := member.strip(" \t"))]
    if not size or not 1 <= len(specs) <= MAX_RANGES:
        return None
    ranges = []
    for spec in specs:
        match = _RANGE_SPEC.fullmatch(spec)
        bounds = match and _select(match[1], match[2], size)
        if not bounds:
            return None
        if bounds[0] < bounds[1]:
            ranges.append(bounds)
    if not ranges:
        raise HTTPError(
            416,
            f"The document has {size} bytes, and the range asked for is outside of them.",
            fields=(("Content-Range", f"bytes */{size}"),),
        )
    return _coalesce(ranges)


def content_range(part: ByteRange, size: int) -> str:
    """Return the Content-Range value (section 14.4) of ``part`` of a representation of ``size`` bytes."""
    return f"bytes {part.first}-{part.first + part.length - 1}/{size}"


def new_boundary() -> str:
    """Return a boundary of 128 random bits: no author of a file can have put it there."""
    return os.urandom(16).hex()


def multipart_type(boundary: str) -> str:
    """Return the Content-Type value of a multipart/byteranges response (section 14.6)."""
    return f"multipart/byteranges; boundary={boundary}"


def part_head(boundary: str, content_type: str, part: ByteRange, size: int) -> bytes:
    """Return what precedes the bytes of ``part``: delimiter, Content-Type and Content-Range."""
    fields = f"Content-Type: {content_type}\r\nContent-Range: {content_range(part, size)}\r\n"
    return f"\r\n--{boundary}\r\n{fields}\r\n".encode("latin-1")


def closing_delimiter(boundary: str) -> bytes:
    """Return what follows the bytes of the last part."""
    return f"\r\n--{boundary}--\r\n".encode("latin-1")


def multipart_length(boundary: str, content_type: str, parts: tuple[ByteRange, ...], size: int) -> int:
    """Return the Content-Length in bytes of the response that is made of ``parts``."""
    heads = sum(len(part_head(boundary, content_type, part, size)) for part in parts)
    return heads + sum(part.length for part in parts) + len(closing_delimiter(boundary))


def _select(first: str, last: str, size: int) -> tuple[int, int] | None:
    """Return the half-open interval that one range-spec selects (section 14.1.2).

    It is empty where the spec is unsatisfiable, None where it is invalid or cannot be answered.
    """
    if first:
        begin = _position(first)
        end = _position(last) + 1 if last else max(size, begin + 1)
        if end <= begin:
            return None
        return (begin, min(end, size)) if begin < size else (0, 0)
    if not last:
        return None
    length = _position(last)
    return max(size - length, 0), size


def _position(digits: str) -> int:
    """Read a number of any length, cut to one beyond every file: ``int`` refuses thousands of digits."""
    significant = digits.lstrip("0")
    return int(significant or "0") if len(significant) <= _MAX_DIGITS else 10**_MAX_DIGITS


def _coalesce(intervals: list[tuple[int, int]]) -> tuple[ByteRange, ...]:
    """Join intervals that overlap or touch; each result stands where its earliest member stood."""
    if len(intervals) == 1:  # what nearly every client asks for
        begin, end = intervals[0]
        return (ByteRange(begin, end - begin),)
    joined: list[tuple[int, int, int]] = []  # place in the field, begin, end
    for (begin, end), place in sorted((interval, place) for place, interval in enumerate(intervals)):
        if joined and begin <= joined[-1][2]:
            earlier_place, earlier_begin, earlier_end = joined[-1]
            joined[-1] = min(place, earlier_place), earlier_begin, max(end, earlier_end)
        else:
            joined.append((place, begin, end))
    return tuple(ByteRange(begin, end - begin) for _, begin, end in sorted(joined))
