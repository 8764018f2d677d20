"""Spellings that some file system takes for the same path."""

from __future__ import annotations

import pytest

from fastws.site.spelling import Spellings, has_short_name

SAME = {
    "/private/*": {
        "/private/x": "/private/x",
        "/PRIVATE/X": "/private/X",
        "/Private./x. .": "/private/x",
        "/private /a/b": "/private/a/b",
    },
    "*.Key": {"/a.KEY": "/a.Key", "/A.key.": "/A.Key"},
    "/a*b*C": {"/A1B2B3c": "/a1b2B3C"},
    "/caf\u00e9/*": {"/cafe\u0301/x": "/caf\u00e9/x", "/CAFE\u0301/x": "/caf\u00e9/x"},
    "/exact": {"/EXACT": "/exact"},
}
UNSURE = {
    "/stra\u00dfe/*": ["/STRASSE/x", "/strasse/x"],
    "/kelvin": ["/\u212aelvin"],
    "/a\u00adb": ["/ab"],
    "/\ufb01le": ["/file"],
}


@pytest.mark.parametrize("glob", SAME)
def test_path_is_spelled_as_the_pattern_is(glob: str) -> None:
    for path, expected in SAME[glob].items():
        assert Spellings(glob).may_match(path), path
        assert Spellings(glob).respell(path) == expected


@pytest.mark.parametrize("glob", UNSURE)
def test_spelling_of_another_length_may_match(glob: str) -> None:
    for path in UNSURE[glob]:
        assert Spellings(glob).may_match(path), path


@pytest.mark.parametrize("path", ["/privat/x", "/private", "/x/private/x", "/", "", "/pr\u00efvate/x"])
def test_other_paths_do_not_match(path: str) -> None:
    assert not Spellings("/private/*").may_match(path)


def test_search_is_short_whatever_the_path() -> None:
    spellings = Spellings("/" + "*a" * 20 + "!")
    assert not spellings.may_match("/" + "a" * 8000)
    assert spellings.respell("/" + "a" * 8000) is None


@pytest.mark.parametrize(
    ("path", "expected"),
    [("/PRIVAT~1/x", True), ("/a/b~2.TXT", True), ("/~user/x", False), ("/x~", False), ("/x", False)],
)
def test_short_names_are_known(path: str, expected: bool) -> None:
    assert has_short_name(path) is expected
