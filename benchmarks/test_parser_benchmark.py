"""Parsing a request head: both sides of fastws beside httptools and h11, every field materialised."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
from conftest import side
from interleaved import ratio
from pytest_benchmark.fixture import BenchmarkFixture
from rivals import h11_parse, httptools_decoder, httptools_parser
from samples import BROWSER_REQUEST, MINIMAL_REQUEST

from fastws.http.messages import Limits, Request

HEADS = {"minimal request": (MINIMAL_REQUEST, 1), "browser request, 703 bytes": (BROWSER_REQUEST, 10)}
# Against httptools with the same result: text, in a dictionary by lower-case name. Its bare bytes are
# cheaper, and stand in the table beside it.
COMPILED_TO_HTTPTOOLS = 0.25
PURE_TO_HTTPTOOLS = 2.5
REPEATS = 5_000


def _fastws(name: str) -> Callable[[bytes], Request | None]:
    parser, limits = side(name), Limits()
    return lambda data: parser.parse_request(data, 0, 0, limits)


def _field_count(parsed: object) -> int:
    fields = parsed.fields if isinstance(parsed, Request) else parsed[-1]  # type: ignore[index]
    return len(fields)


CONTESTANTS: dict[str, Callable[[], Callable[[bytes], object]]] = {
    "fastws compiled": partial(_fastws, "compiled"),
    "fastws pure": partial(_fastws, "pure"),
    "httptools, bytes": httptools_parser,
    "httptools, text": httptools_decoder,
    "h11": lambda: h11_parse,
}


@pytest.mark.parametrize("name", CONTESTANTS)
@pytest.mark.parametrize("head", HEADS)
def test_parse(benchmark: BenchmarkFixture, head: str, name: str) -> None:
    data, fields = HEADS[head]
    benchmark.group = head
    assert _field_count(benchmark(CONTESTANTS[name](), data)) == fields


@pytest.mark.ratio
@pytest.mark.parametrize(
    ("name", "limit"), [("compiled", COMPILED_TO_HTTPTOOLS), ("pure", PURE_TO_HTTPTOOLS)]
)
def test_a_browser_request_takes_at_most_its_share_of_the_time_of_httptools(name: str, limit: float) -> None:
    parser, limits = side(name), Limits()
    rival = httptools_decoder()
    reached = ratio(
        lambda: parser.parse_request(BROWSER_REQUEST, 0, 0, limits),
        lambda: rival(BROWSER_REQUEST),
        repeats=REPEATS,
    )
    assert reached <= limit
