"""Which names Windows looks up as they are spelled."""

from __future__ import annotations

import pytest

from fastws.files.windows import is_literal


@pytest.mark.parametrize(
    "name",
    [
        "index.html", "a", "a.b.c", ".well-known", "..a", "a b", " a", "ünï", "CONSOLE", "con-1", "concert.html",
        "nul1", "com", "com10", "lpt.txt", "COM0x", "auxiliary.js", "a~1",
        "PROGRA~1", "$data", "a;b", "a'b", "a%b", "a\x7f",
    ],
)  # fmt: skip
def test_name_that_means_itself(name: str) -> None:
    assert is_literal(name)


@pytest.mark.parametrize("name", ["a.", "a..", "a ", "a. ", "a.html.", ".", "..", "...", " ", ""])
def test_dots_and_spaces_at_the_end_are_dropped_there(name: str) -> None:
    assert not is_literal(name)


@pytest.mark.parametrize(
    "name",
    [
        "a::$DATA",
        "a:b",
        "::$DATA",
        ":$I30:$INDEX_ALLOCATION",
        "C:",
        "C:a",
        "sub\\a.html",
        "\\",
        "a\\..",
        "a/b",
    ],
)
def test_drives_streams_and_the_other_separator_are_no_names(name: str) -> None:
    assert not is_literal(name)


@pytest.mark.parametrize("character", [*'"*<>?|', "\x00", "\x01", "\x1f", "\n"])
def test_wildcards_and_controls_are_no_names(character: str) -> None:
    assert not is_literal(f"a{character}b")


@pytest.mark.parametrize(
    "device", ["con", "PRN", "Aux", "nul", "COM1", "com0", "lpt9", "COM¹", "LPT³", "CONIN$", "conout$"]
)
@pytest.mark.parametrize("rest", ["", ".txt", ".tar.gz", " .txt", ".", ".\nx"])
def test_devices_are_no_names_whatever_their_extension(device: str, rest: str) -> None:
    assert not is_literal(device + rest)
