"""Requests as bytes, one file a case, and how the server's own functions judge them.

``valid/NAME`` is accepted. ``invalid/STATUS-NAME`` is refused with that status, wherever it is split.
A file holds one whole message, body included.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain, pairwise
from pathlib import Path
from typing import NamedTuple

from fastws.backend import Parser
from fastws.h1.framing import (
    CHUNKED,
    ChunkedDecoder,
    LengthDecoder,
    body_length,
    expects_continue,
)
from fastws.http.authority import check_host
from fastws.http.errors import HTTPError
from fastws.http.messages import Limits, Request
from fastws.http.target import parse_target

HERE = Path(__file__).resolve().parents[1] / "corpus"
MAX_BODY_BYTES = 1 << 20
LIMITS = Limits()


class Case(NamedTuple):
    """One file: ``status`` is 0 where the request is to be accepted."""

    name: str
    data: bytes
    status: int

    def __str__(self) -> str:
        return self.name


class Refusal(NamedTuple):
    """An ``HTTPError`` as a value that can be compared."""

    status: int
    detail: str
    close: bool


def valid_cases() -> list[Case]:
    return [Case(path.name, path.read_bytes(), 0) for path in sorted((HERE / "valid").iterdir())]


def invalid_cases() -> list[Case]:
    return [
        Case(path.name, path.read_bytes(), int(path.name.partition("-")[0]))
        for path in sorted((HERE / "invalid").iterdir())
    ]


def all_cases() -> list[Case]:
    return valid_cases() + invalid_cases()


def bytewise(data: bytes) -> list[bytes]:
    return [data[i : i + 1] for i in range(len(data))]


def split_at(data: bytes, positions: Iterable[int]) -> list[bytes]:
    """Return the pieces between ``positions``, which need neither order nor uniqueness."""
    cuts = [0, *sorted({position for position in positions if 0 < position < len(data)}), len(data)]
    return [data[start:end] for start, end in pairwise(cuts)]


def read_head(
    parser: Parser, pieces: Iterable[bytes], limits: Limits = LIMITS
) -> tuple[Request, bytes] | None:
    """Return the first request in ``pieces``, read as a connection reads it, and the bytes after it so far.

    None: the pieces end before the head does. Of an iterator no more is taken than the head needs.
    """
    data = b""
    for piece in pieces:
        scanned, data = len(data), data + piece
        request = parser.parse_request(data, 0, scanned, limits)
        if request is not None:
            return request, data[request.size :]
    return None


def outcome(parser: Parser, pieces: Iterable[bytes], limits: Limits = LIMITS) -> Request | Refusal | None:
    """Return the request that ``pieces`` begin with, the refusal, or None if the head stays open."""
    try:
        found = read_head(parser, pieces, limits)
    except HTTPError as error:
        return Refusal(error.status, error.detail, error.close)
    return found[0] if found else None


def read_body(
    request: Request, pieces: Iterable[bytes], limits: Limits = LIMITS
) -> tuple[bytes, bytes] | None:
    """Return the body in ``pieces`` and the bytes after it, None if the pieces end before the body does."""
    length = body_length(request)
    decoder = ChunkedDecoder(MAX_BODY_BYTES, limits) if length == CHUNKED else LengthDecoder(length)
    rest = b""
    for piece in pieces:
        rest += piece[decoder.feed(piece) :]
    return (bytes(decoder.body), rest) if decoder.is_complete else None


def judge(parser: Parser, pieces: Iterable[bytes]) -> int:
    """Return the status that the message in ``pieces`` is refused with; 0: accepted, -1: it stays open.

    The order of the checks is the server's: a message is read to its end before its head is looked at.
    """
    stream = iter(pieces)
    try:
        found = read_head(parser, stream)
        if found is None:
            return -1
        request, rest = found
        expects_continue(request)
        if read_body(request, chain((rest,), stream)) is None:
            return -1
        check_host(request)
        parse_target(request.target)
    except HTTPError as error:
        return error.status
    return 0
