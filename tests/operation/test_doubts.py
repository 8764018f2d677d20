"""What is probably not meant in a valid configuration."""

from __future__ import annotations

from pathlib import Path

import pytest

from fastws import backend, load
from fastws.operation.doubts import doubts_of


def doubts(side: backend.Backend, tmp_path: Path, *lines: str) -> list[str]:
    """Return the doubts about a configuration with these lines, the first of them in line 4."""
    (tmp_path / "passwords").touch()
    first = f"DocumentRoot {tmp_path}", "ListenPort 8080", "BasicAuth /admin/* passwords"
    (tmp_path / "ws.conf").write_text("\n".join((*first, *lines)))
    found = doubts_of(load(str(tmp_path / "ws.conf")), side.opener)
    return [str(problem).removeprefix(f"{tmp_path}/ws.conf:") for problem in found]


@pytest.mark.parametrize(
    "value",
    [
        "public",
        "public, max-age=600",
        "s-maxage=60",
        "max-age=60, Must-Revalidate",
        'max-age=0, s-maxage="5"',
    ],
)
def test_value_that_lets_caches_give_away_what_has_a_password_is_doubted(
    side: backend.Backend, tmp_path: Path, value: str
) -> None:
    said = (
        f"4: CacheControl *: by {value!r} caches on the way give to anybody what BasicAuth /admin/* protects; a"
        " line 'CacheControl /admin/* private' before it keeps it from them"
    )
    assert doubts(side, tmp_path, f"CacheControl * {value}") == [said]


@pytest.mark.parametrize(
    "value",
    ["max-age=600", "immutable, max-age=600", "private, s-maxage=60", "no-store, public", "public, no-cache",
     "s-maxage=0", "must-revalidate, max-age=0", "public, max-age=000"],
)  # fmt: skip
def test_value_that_keeps_caches_from_it_is_not(side: backend.Backend, tmp_path: Path, value: str) -> None:
    assert doubts(side, tmp_path, f"CacheControl * {value}") == []


def test_line_is_doubted_where_it_decides_about_what_has_a_password(
    side: backend.Backend, tmp_path: Path
) -> None:
    for lines, numbers in (
        (("/assets/* public",), []),
        (("*.css public",), ["4"]),
        (("/assets/* public", "*.css public", "/admin/x public"), ["5", "6"]),
        (("/admin/* no-store", "* public"), []),
        (("* max-age=5", "/admin/* public"), []),
        (("/adm* private", "*.css public"), []),
        (("/admin/x/* private", "* public"), ["5"]),
    ):
        found = doubts(side, tmp_path, *[f"CacheControl {line}" for line in lines])
        assert [text.partition(":")[0] for text in found] == numbers, lines


def test_where_nothing_has_a_password_nothing_is_doubted(side: backend.Backend, tmp_path: Path) -> None:
    (tmp_path / "ws.conf").write_text(f"DocumentRoot {tmp_path}\nListenPort 8080\nCacheControl * public\n")
    assert doubts_of(load(str(tmp_path / "ws.conf")), side.opener) == []
