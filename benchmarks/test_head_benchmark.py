"""Building the head of a response, on both sides."""

from __future__ import annotations

import pytest
from conftest import side
from interleaved import ratio
from pytest_benchmark.fixture import BenchmarkFixture

from fastws import backend

FIELDS = (
    ("Server", "fastws"),
    ("Content-Type", "text/html; charset=utf-8"),
    ("Content-Length", "10240"),
    ("Last-Modified", "Mon, 23 Nov 2026 08:00:00 GMT"),
    ("ETag", '"0123456789abcdef0123456789abcdef"'),
    ("Cache-Control", "no-cache"),
    ("X-Content-Type-Options", "nosniff"),
)
REPEATS = 10_000


@pytest.mark.benchmark(group="response head, 7 field lines")
def test_build_head(benchmark: BenchmarkFixture, parser: backend.Parser) -> None:
    head = benchmark(parser.build_head, 200, FIELDS)
    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    assert head.count(b"\r\n") == 1 + len(FIELDS)


@pytest.mark.ratio
def test_the_compiled_side_builds_a_head_faster_than_the_pure_one() -> None:
    compiled, pure = side("compiled"), side("pure")
    reached = ratio(
        lambda: compiled.build_head(200, FIELDS), lambda: pure.build_head(200, FIELDS), repeats=REPEATS
    )
    assert reached < 1
