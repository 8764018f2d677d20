"""The twins against each other, and both against h11: generated requests, mutated, whole and in pieces."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from typing import TypeVar

import fuzz_differential
import h11
import pytest
from corpus import LIMITS, Case, all_cases, bytewise, judge, outcome, split_at, valid_cases
from fuzz_differential import compare
from hypothesis import given, settings
from hypothesis import strategies as st

from fastws import backend
from fastws.http.messages import Fields, Request
from fastws.seam import AccessLine

T = TypeVar("T")
Twins = tuple[backend.Parser, backend.Parser]


@pytest.fixture(scope="module")
def twins() -> Twins:
    if os.environ.get("FASTWS_NO_EXTENSIONS") == "1":
        pytest.skip("FASTWS_NO_EXTENSIONS=1: there is only one side")
    return backend.load(pure=False, required=True).parser, backend.load(pure=True).parser


# The twins on the corpus


@pytest.mark.parametrize("case", all_cases(), ids=str)
def test_twins_agree_on_a_corpus_case_however_it_is_split(twins: Twins, case: Case) -> None:
    step = max(1, len(case.data) // 40)
    in_two = [split_at(case.data, (cut,)) for cut in range(1, len(case.data), step)]
    compare(*twins, case.data, [bytewise(case.data), *in_two])


# Generated requests

TOKENS = st.text("!#$%&'*+-.^_`|~09AZaz", min_size=1, max_size=12)
NAMES = (
    st.sampled_from(["Host", "host", "X", "x-y", "Content-Length", "Transfer-Encoding", "Accept"]) | TOKENS
)
VALUES = st.text(
    st.sampled_from("\t ,;=abcXYZ0189")
    | st.characters(min_codepoint=0x20, max_codepoint=0xFF, exclude_characters="\x7f"),
    max_size=40,
)
TARGETS = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=40)
VERSIONS = st.sampled_from(["HTTP/1.1", "HTTP/1.1", "HTTP/1.0", "HTTP/2.0", "HTTP/9.9"])
FIELDS = st.lists(st.tuples(NAMES, VALUES, st.sampled_from(["", " ", "\t", "  "])), max_size=8)


@given(st.booleans(), TOKENS, TARGETS, VERSIONS, FIELDS)
@pytest.mark.parametrize("pure", [False, True])
def test_what_the_grammar_makes_is_parsed_into_what_it_was_made_of(
    twins: Twins,
    pure: bool,
    empty_line: bool,
    method: str,
    target: str,
    version: str,
    fields: list[tuple[str, str, str]],
) -> None:
    before = "\r\n" if empty_line else ""
    lines = "".join(f"{name}:{space}{value}{space}\r\n" for name, value, space in fields)
    head = f"{before}{method} {target} {version}\r\n{lines}\r\n".encode("latin-1")
    expected: dict[str, str] = {}
    for name, value, _ in fields:
        lower, value = name.lower(), value.strip(" \t")
        expected[lower] = f"{expected[lower]}, {value}" if lower in expected else value
    assert outcome(twins[pure], [head]) == Request(method, target, version, expected, len(head))


LINE_ENDS = st.sampled_from([b"\r\n"] * 12 + [b"\n", b"\r", b"\r\r\n", b"\n\r", b""])
SPACES = st.sampled_from([b" "] * 12 + [b"", b"  ", b"\t", b"\x0b"])
COLONS = st.sampled_from([b":", b": "] * 6 + [b" :", b"", b"\t:", b"::", b":\x00"])
NOISE = st.sampled_from(
    [b""] * 12 + [b"\x00", b"\x7f", b"\x1f", b"\xe9", b"\r", b"\n", b" ", b"a" * 17, b"a" * 200]
)


@st.composite
def almost_requests(draw: Callable[..., bytes]) -> bytes:
    """Requests in which any part may be slightly wrong."""

    def text(strategy: st.SearchStrategy[str]) -> bytes:
        return draw(strategy).encode("latin-1")  # type: ignore[attr-defined]

    line = [text(TOKENS), draw(NOISE), draw(SPACES), text(TARGETS), draw(NOISE), draw(SPACES), text(VERSIONS)]
    parts = [
        draw(st.sampled_from([b"", b"", b"", b"\r\n", b"\r\n\r\n", b"\n", b" "])),
        *line,
        draw(LINE_ENDS),
    ]
    for _ in range(draw(st.integers(0, 7))):
        parts += [text(NAMES), draw(NOISE), draw(COLONS), text(VALUES), draw(NOISE), draw(LINE_ENDS)]
    return b"".join([*parts, draw(LINE_ENDS), draw(NOISE)])


@settings(max_examples=400)
@given(almost_requests(), st.lists(st.integers(0, 400), max_size=6))
def test_twins_agree_on_almost_requests(twins: Twins, data: bytes, cuts: list[int]) -> None:
    compare(*twins, data, [bytewise(data), split_at(data, cuts)])


@settings(max_examples=400)
@given(st.lists(st.sampled_from(fuzz_differential.DICTIONARY), max_size=12).map(b"".join))
def test_twins_agree_on_any_order_of_troublesome_words(twins: Twins, data: bytes) -> None:
    compare(*twins, data, [bytewise(data)])


@given(st.binary(max_size=60), st.binary(max_size=200), st.integers(0, 300))
def test_twins_agree_wherever_the_head_begins(twins: Twins, before: bytes, data: bytes, scanned: int) -> None:
    for suffix in (b"", b" / HTTP/1.1\r\nX: y\r\n\r\n"):
        everything = before + data + suffix
        results = []
        for parser in twins:
            try:
                results.append(repr(parser.parse_request(everything, len(before), scanned, LIMITS)))
            except Exception as error:
                results.append(repr(error))
        assert results[0] == results[1]


# The fuzzer


def test_fuzzer_reaches_every_outcome_and_finds_no_difference(twins: Twins) -> None:
    seen = fuzz_differential.run(*twins, 20_000, seed=20)
    assert set(seen) == {-1, 0, 400, 414, 431}
    assert seen[0] > 2_000


@pytest.mark.long
@pytest.mark.timeout(1200)
def test_fuzzer_finds_no_difference_in_a_million_cases(twins: Twins) -> None:
    fuzz_differential.run(*twins, 1_000_000, seed=int.from_bytes(os.urandom(3), "big"))


def test_fuzzer_finds_a_planted_difference(twins: Twins) -> None:
    class Lenient:
        """A parser that takes a space before the colon, as some do."""

        side = "pure"

        def parse_request(self, data: bytes, start: int, scanned: int, limits: object) -> Request | None:
            return twins[1].parse_request(data.replace(b" :", b":"), start, scanned, LIMITS)

    with pytest.raises(AssertionError, match=r"^seed 1, case \d+: "):
        fuzz_differential.run(twins[0], Lenient(), 2_000, seed=1)  # type: ignore[arg-type]


# h11 as the oracle: what it refuses is refused


def h11_refuses(data: bytes) -> bool:
    """Tell whether h11 refuses the message; one that stays open is not refused."""
    connection = h11.Connection(h11.SERVER)
    connection.receive_data(data)
    try:
        while True:
            event = connection.next_event()
            # No bytes at all mean a closed connection to h11, which then says so for ever.
            is_over = isinstance(event, h11.EndOfMessage | h11.ConnectionClosed)
            if event is h11.NEED_DATA or event is h11.PAUSED or is_over:
                return False
    except h11.RemoteProtocolError:
        return True


EXCEPTIONS = {
    # RFC 9112 section 2.2: a server SHOULD ignore at least one empty line before the request line.
    "empty line before the request": re.compile(rb"\r\n"),
    # RFC 9112 section 7.1.1: BWS, which a recipient must parse for and remove.
    "white space before a chunk extension": re.compile(rb"(?is).*chunked.*\n[0-9a-f]+[ \t]+;"),
}
"""What h11 refuses and fastws accepts on purpose, as patterns at the message's beginning."""


def exceptions_of(data: bytes) -> list[str]:
    return [reason for reason, pattern in EXCEPTIONS.items() if pattern.match(data)]


def test_each_exception_is_refused_by_h11_and_accepted_here(twins: Twins) -> None:
    met = set()
    for case in valid_cases():
        if h11_refuses(case.data):
            reasons = exceptions_of(case.data)
            assert reasons, case.name
            assert judge(twins[0], [case.data]) == judge(twins[1], [case.data]) == 0
            met.update(reasons)
    assert met == set(EXCEPTIONS)


@pytest.mark.parametrize("pure", [False, True])
@settings(max_examples=400)
@given(almost_requests())
def test_what_h11_refuses_is_refused(twins: Twins, pure: bool, data: bytes) -> None:
    if h11_refuses(data) and not exceptions_of(data):
        assert judge(twins[pure], [data]) != 0


def test_what_h11_refuses_of_mutated_messages_is_refused(twins: Twins) -> None:
    refused = 0
    for number in range(10_000):
        data, _ = fuzz_differential.mutant(11, number)
        if h11_refuses(data) and not exceptions_of(data):
            refused += 1
            assert judge(twins[0], [data]) != 0, data
    assert refused > 2_000


# The makers of bytes

LATIN = st.text(st.characters(max_codepoint=0xFF), max_size=40)
ANY_TEXT = (
    LATIN | st.text(max_size=20) | st.sampled_from(["a\r\nX: b", "\r", "\n", "\r\n", "\x7f", "\u20ac", ""])
)


def result_of(make: Callable[[], T]) -> T | type[Exception]:
    try:
        return make()
    except ValueError:
        return ValueError
    except KeyError:
        return KeyError


@settings(max_examples=400)
@given(
    st.sampled_from([200, 206, 304, 404, 500, 0, 999]),
    st.lists(st.tuples(ANY_TEXT, ANY_TEXT), max_size=5).map(tuple),
)
def test_twins_build_the_same_head_or_refuse_alike(twins: Twins, status: int, fields: Fields) -> None:
    compiled, pure = (result_of(lambda parser=parser: parser.build_head(status, fields)) for parser in twins)  # type: ignore[misc]
    assert compiled == pure
    if isinstance(pure, bytes):
        assert pure.count(b"\n") == pure.count(b"\r\n") == len(fields) + 1
        assert not re.search(rb"[^\t\x20-\x7e\x80-\xff]", pure.replace(b"\r\n", b""))


GIVEN_NAMES = st.sampled_from(
    [
        *("Date", "dAtE", "X-A", "x-a", "Content-Length", "content-length", "Te", "TE2", "X_^`|~!", "A:", ""),
        *("Keep-Alive", "Trailer", "Upgrade", "Connection", "Transfer-Encoding", "Proxy-Authenticate"),
        *("Proxy-Authorization", "proxy-connection", "Server"),
    ]
)
GIVEN_FIELD = st.tuples(
    GIVEN_NAMES | ANY_TEXT,
    st.sampled_from(["7", "07", "-1", "+7", " x\ty ", "", "9" * 18, "9" * 19]) | ANY_TEXT,
)


@settings(max_examples=1500)
@given(
    st.sampled_from(
        ["200 OK", "200", "200 ", "599 \xe9", "600 X", "199 X", "2000 X", "20 X", "200 a\nb", "404 \t"]
    )
    | ANY_TEXT,
    st.lists(GIVEN_FIELD, max_size=6),
    st.lists(st.tuples(st.sampled_from(["Server", "X-A", "Date", "X-B"]), ANY_TEXT), max_size=3).map(tuple),
)
def test_twins_take_the_same_given_head_or_refuse_alike(
    twins: Twins, status: str, fields: list[tuple[str, str]], added: Fields
) -> None:
    compiled, pure = (
        result_of(lambda parser=parser: parser.check_given(status, fields, added)) for parser in twins
    )  # type: ignore[misc]
    assert compiled == pure
    assert type(compiled) is type(pure)


@settings(max_examples=400)
@given(
    st.sampled_from(["combined", "combined_time", "json"]),
    st.integers(0, 2**63 - 1),
    st.tuples(*[ANY_TEXT] * 4),
)
def test_twins_write_the_same_access_line(
    twins: Twins, log_format: str, size: int, texts: tuple[str, str, str, str]
) -> None:
    user, request, referer, agent = texts
    compiled, pure = (
        result_of(
            lambda parser=parser: parser.format_access_line(  # type: ignore[misc]
                log_format, AccessLine("::1", user, "now", request, 200, size, referer, agent, agent, size)
            )
        )
        for parser in twins
    )
    assert compiled == pure
    if isinstance(pure, bytes):
        assert pure.count(b"\n") == 1
        assert re.fullmatch(rb"[\x20-\x7e]*\n", pure)
    else:
        assert any(ord(character) > 0xFF for text in texts for character in text)


def test_as_many_fields_as_the_limit_lets_through_are_scanned(twins: Twins) -> None:
    fields = "".join(f"X-{number}: {number}\r\n" for number in range(LIMITS.field_count))
    head = f"GET / HTTP/1.1\r\n{fields}\r\n".encode()
    for parser in twins:
        request = parser.parse_request(head, 0, 0, LIMITS)
        assert request is not None
        assert len(request.fields) == LIMITS.field_count
