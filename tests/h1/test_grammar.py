"""The diagnosis of refused heads: the right reason, the earliest moment, the same status however bytes arrive."""

from __future__ import annotations

import pytest

from fastws.h1.grammar import refusal, refuse_incomplete
from fastws.http.errors import HTTPError
from fastws.http.messages import Limits

LIMITS = Limits()
HOST = b"Host: a.example\r\n"

REASONS = [
    (b"\r\n\r\n", "More than one empty line"),
    (b"\r\n\r\nGET / HTTP/1.1\r\n\r\n", "More than one empty line"),
    (b"GET /\r\n\r\n", "The request line is not of the form"),
    (b"GET  / HTTP/1.1\r\n\r\n", "The request line is not of the form"),
    (b"G(T / HTTP/1.1\r\n\r\n", "The method has a character"),
    (b"GET /\x7f HTTP/1.1\r\n\r\n", "The request target is empty or"),
    (b"GET / HTTP/1.10\r\n\r\n", "The HTTP version is not"),
    (b"GET / http/1.1\r\n\r\n", "The HTTP version is not"),
    (b"GET / HTTP/1.1\r\n X: a\r\n\r\n", "folded"),
    (b"GET / HTTP/1.1\r\nX: a\r\n\tb\r\n\r\n", "folded"),
    (b"GET / HTTP/1.1\r\nX\r\n\r\n", "no colon"),
    (b"GET / HTTP/1.1\r\n: x\r\n\r\n", "empty name"),
    (b"GET / HTTP/1.1\r\nX : x\r\n\r\n", "White space stands between"),
    (b"GET / HTTP/1.1\r\nX(: x\r\n\r\n", "name has a character"),
    (b"GET / HTTP/1.1\r\nX: \x01\r\n\r\n", "value has a control character"),
    (b"GET / HTTP/1.1\nX: x\r\n\r\n", "a line feed without carriage return"),
    (b"GET / HTTP/1.1\r\nX: x\ry\r\n\r\n", "a carriage return without line feed"),
    (b"GET / HTTP/1.1\r\nX: x\x00\r\n\r\n", "a NUL byte"),
    (b"GET / HTTP/1.1\r\n" + b"X: x\r\n" * 101 + b"\r\n", "more than 100 header fields"),
    (b"GET /" + b"a" * 8192 + b" HTTP/1.1\r\n\r\n", "longer than 8192 bytes"),
    (b"GET / HTTP/1.1\r\nX: " + b"a" * 16384 + b"\r\n\r\n", "larger than 16384 bytes"),
]


@pytest.mark.parametrize(("head", "reason"), REASONS)
def test_a_refusal_names_its_reason(head: bytes, reason: str) -> None:
    error = refusal(head, LIMITS)
    assert reason in error.detail
    assert error.close


@pytest.mark.parametrize(("head", "reason"), REASONS)
def test_a_reason_never_quotes_the_request(head: bytes, reason: str) -> None:
    detail = refusal(head, LIMITS).detail
    assert detail.isascii()
    assert detail.isprintable()
    assert detail.endswith(".")


EARLY = [
    # What has come, and the status that is certain from its last byte on.
    (b"\n", 400),
    (b" ", 400),
    (b"\x16", 400),
    (b"\r\n(", 400),
    (b"\r\n\r\n", 400),
    (b"\rG", 400),
    (b"GET /\n", 400),
    (b"GET /\rx", 400),
    (b"GET /\x00", 400),
    (b"GET /\r\n", 400),
    (b"GET / HTTP/1.10\r\n", 400),
    (b"G(T / HTTP/1.1\r\n", 400),
    (b"GET / HTTP/1.1\r\nX: a\n", 400),
    (b"GET / HTTP/1.1\r\nX: a\rb", 400),
    (b"GET / HTTP/1.1\r\nX: a\x00", 400),
    (b"a" * 8193, 414),
    (b"GET / HTTP/1.1\r\nX: ".ljust(16384, b"a"), 431),
]


@pytest.mark.parametrize(("data", "status"), EARLY)
def test_what_no_head_may_contain_is_refused_at_once(data: bytes, status: int) -> None:
    refuse_incomplete(data[:-1], 0, 0, LIMITS)
    for scanned in (0, len(data) - 1):
        with pytest.raises(HTTPError) as caught:
            refuse_incomplete(data, 0, scanned, LIMITS)
        assert caught.value.status == status
        assert caught.value.close


@pytest.mark.parametrize(("data", "status"), EARLY)
def test_earlier_requests_in_the_buffer_do_not_count(data: bytes, status: int) -> None:
    before = b"POST / HTTP/1.1\r\n" + HOST + b"\r\n"
    refuse_incomplete(before + data[:-1], len(before), len(before), LIMITS)
    with pytest.raises(HTTPError) as caught:
        refuse_incomplete(before + data, len(before), len(before) + len(data) - 1, LIMITS)
    assert caught.value.status == status


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\r",
        b"\r\n",
        b"\r\n\r",
        b"G",
        b"GET / HTTP/1.1\r",
        b"GET / HTTP/1.1\r\nX : a\r\n",
        b"a" * 8192 + b"\r",
    ],
)
def test_what_may_still_become_a_head_or_needs_its_end_is_waited_for(data: bytes) -> None:
    refuse_incomplete(data, 0, 0, LIMITS)


FIRST_OFFENCE = [
    # Two offences: the one that a byte-by-byte reader meets first decides.
    (b"GET /\x00" + b"a" * 8300 + b" HTTP/1.1\r\n\r\n", 400),
    (b"GET /" + b"a" * 8300 + b"\x00 HTTP/1.1\r\n\r\n", 414),
    (b"(" + b"a" * 8300 + b" / HTTP/1.1\r\n\r\n", 400),
    (b"GET / HTTP/1.1\r\nX: \x00" + b"a" * 16384 + b"\r\n\r\n", 400),
    (b"GET / HTTP/1.1\r\nX: " + b"a" * 16384 + b"\x00\r\n\r\n", 431),
    (b"GET / HTTP/9\r\nX: " + b"a" * 16384 + b"\r\n\r\n", 400),
    (b"GET / HTTP/1.1\r\n" + b"X : x\r\n" * 101 + b"\r\n", 431),
    (b"G" + b"E" * 8191 + b"\r / HTTP/1.1\r\n\r\n", 414),
    (b"G" + b"E" * 8190 + b"\r / HTTP/1.1\r\n\r\n", 400),
]


@pytest.mark.parametrize(("head", "status"), FIRST_OFFENCE)
def test_the_first_of_two_offences_decides_the_status(head: bytes, status: int) -> None:
    assert refusal(head, LIMITS).status == status
    seen = 0
    with pytest.raises(HTTPError) as caught:  # noqa: PT012 - the loop is what raises
        for size in range(1, len(head)):
            refuse_incomplete(head[:size], 0, seen, LIMITS)
            seen = size
        raise refusal(head, LIMITS)
    assert caught.value.status == status


def test_a_head_that_only_a_parser_refuses_is_400_all_the_same() -> None:
    """The diagnosis finds nothing wrong, which no parser of ours leaves to it; the request ends nevertheless."""
    found = refusal(b"GET / HTTP/1.1\r\n" + HOST + b"\r\n", LIMITS)
    assert (found.status, found.detail, found.close) == (400, "The request head is malformed.", True)
