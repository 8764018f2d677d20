"""Coverage-guided fuzzing of both parsers: the same bytes, whole and in pieces, must have the same outcome.

``python fuzz/differential.py [libFuzzer's options] [CORPUS]``, with atheris installed. What guides it is the
coverage of the pure parser and of ``grammar.py``, and of the scanner's C where the extensions were built for
it: see ``README.md``. An input is a head; the split follows from its checksum.
"""

from __future__ import annotations

import sys
import zlib
from pathlib import Path

import atheris

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE.parent / "tests" / "support")]

with atheris.instrument_imports(include=["fastws"]):
    from fastws import _parser, _parser_py
    from fastws.h1 import framing
    from fastws.http.errors import HTTPError
    from fastws.http.messages import Request
    from fastws.seam import AccessLine

from corpus import LIMITS, Refusal, split_at  # noqa: E402 - tests/support/ is on the path by now
from fuzz_differential import compare  # noqa: E402

LOG_FORMATS = ("combined", "combined_time", "json")


def splits(data: bytes) -> list[list[bytes]]:
    """Two ways to cut ``data``, always the same for the same data: anywhere, and at ends of lines."""
    number = zlib.crc32(data)
    anywhere = [number % 251, number // 251 % 509, number // 127_759 % 1021]
    ends = [at + (number >> at % 31 & 1) for at, byte in enumerate(data) if byte in b"\r\n"]
    return [split_at(data, anywhere), split_at(data, ends[:8])]


def compare_lines(data: bytes) -> None:
    """Both write the same access line of any texts."""
    text = data.decode("latin-1")
    third = len(text) // 3
    texts = (text[:third], text[third : 2 * third], text[2 * third :])
    for log_format in LOG_FORMATS:
        lines = [
            parser.format_access_line(
                log_format,
                AccessLine(
                    "::1", texts[1][:9], "now", texts[0], 200, 1, texts[1], texts[2], texts[0], len(data) ** 3
                ),
            )
            for parser in (_parser, _parser_py)
        ]
        assert lines[0] == lines[1], texts


def frame(request: Request) -> object:
    """Return how the body would be framed; framing may refuse, and must not fail otherwise."""
    try:
        return framing.body_length(request), framing.is_persistent(request)
    except HTTPError as error:
        return Refusal(error.status, error.detail, error.close)


def test_one_input(data: bytes) -> None:
    """Raise if the parsers differ on ``data``."""
    if 0 in compare(_parser, _parser_py, data, splits(data)):
        request = _parser.parse_request(data, 0, 0, LIMITS)
        assert request is not None
        frame(request)
    compare_lines(data)


if __name__ == "__main__":
    atheris.Setup(sys.argv, test_one_input)
    atheris.Fuzz()
