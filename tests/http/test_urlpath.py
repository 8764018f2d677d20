"""Patterns of paths: whether two of them have a path in common."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastws.http.urlpath import glob_pattern, globs_meet


@pytest.mark.parametrize(
    ("one", "other", "do_meet"),
    [
        ("*", "/admin/*", True),
        ("*.css", "/admin/*", True),
        ("/admin/*", "/admin/", True),
        ("/admin/*", "/admin", False),
        ("/assets/*", "/admin/*", False),
        ("*.css", "*.js", False),
        ("*.css", "/a.css", True),
        ("/a*c", "/ab*", True),
        ("/a*c", "/b*", False),
        ("/a*b*c", "/*x*c", True),
        ("/a**", "/*a", True),
        ("", "*", True),
        ("/a", "/a", True),
        ("/a", "/ab", False),
    ],
)
def test_patterns_meet_where_a_path_matches_both(one: str, other: str, *, do_meet: bool) -> None:
    assert globs_meet(one, other) == globs_meet(other, one) == do_meet


PATTERNS = st.text("ab*", max_size=6)


@given(PATTERNS, PATTERNS, st.text("ab", max_size=8))
def test_patterns_that_match_one_path_meet(one: str, other: str, path: str) -> None:
    matches = [bool(glob_pattern(glob).fullmatch(path)) for glob in (one, other)]
    if all(matches):
        assert globs_meet(one, other)
    if not globs_meet(one, other):
        assert not all(matches)
