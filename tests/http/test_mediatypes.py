from __future__ import annotations

import pytest

from fastws.http.mediatypes import BUILT_IN, MediaTypes, content_type, is_compressible, with_charset


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("index.html", "text/html; charset=utf-8"),
        ("module.mjs", "text/javascript; charset=utf-8"),
        ("style.css", "text/css; charset=utf-8"),
        ("code.wasm", "application/wasm"),
        ("picture.webp", "image/webp"),
        ("picture.avif", "image/avif"),
        ("font.woff2", "font/woff2"),
        ("drawing.svg", "image/svg+xml"),
        ("bundle.js.map", "application/json"),
        ("feed.xml", "application/xml"),
        ("film.mp4", "video/mp4"),
    ],
)
def test_built_in_table_knows_what_the_web_uses(name: str, expected: str) -> None:
    assert content_type(f"some.folder/{name}", BUILT_IN, None) == expected


def test_last_extension_counts() -> None:
    assert content_type("/a/backup.tar.gz", BUILT_IN, None) == "application/gzip"


def test_extension_is_matched_in_any_case() -> None:
    assert content_type("/a/PHOTO.JPG", BUILT_IN, None) == "image/jpeg"


@pytest.mark.parametrize("path", ["/a/README", "/a.html/README", "/a/.html", "/a/b.unknown", "/a/b.", ""])
def test_file_without_known_extension_gets_the_default(path: str) -> None:
    assert content_type(path, BUILT_IN, "x/default") == "x/default"
    assert content_type(path, BUILT_IN, None) is None


def test_every_built_in_extension_is_lower_case_with_one_dot() -> None:
    assert [e for e in BUILT_IN if e != e.lower() or not e.startswith(".") or e.count(".") != 1] == []


def test_no_extension_is_listed_under_two_types() -> None:
    from fastws.http.mediatypes import _EXTENSIONS_BY_TYPE

    listed = [extension for extensions in _EXTENSIONS_BY_TYPE.values() for extension in extensions.split()]
    assert len(listed) == len(BUILT_IN)


@pytest.mark.parametrize("media_type", ["text/html", "text/x-own", "Text/Plain", "application/javascript"])
def test_text_without_charset_is_declared_utf_8(media_type: str) -> None:
    assert with_charset(media_type) == f"{media_type}; charset=utf-8"


@pytest.mark.parametrize(
    "value",
    [
        "text/html; charset=iso-8859-1",
        "text/html;Charset=UTF-8",
        "application/json",
        "application/xml",
        "text/xml",
        "image/svg+xml",
        "image/png",
    ],
)
def test_charset_is_not_added_where_it_is_given_or_has_no_place(value: str) -> None:
    assert with_charset(value) == value


@pytest.mark.parametrize(
    "value",
    [
        "text/html; charset=utf-8",
        "TEXT/CSS",
        "application/json",
        "application/ld+json",
        "image/svg+xml",
        "application/wasm",
        "font/ttf",
        "image/vnd.microsoft.icon",
    ],
)
def test_uncompressed_formats_are_compressible(value: str) -> None:
    assert is_compressible(value)


@pytest.mark.parametrize(
    "value", ["image/png", "font/woff2", "video/mp4", "application/zip", "application/octet-stream"]
)
def test_compressed_formats_are_not_compressed_again(value: str) -> None:
    assert not is_compressible(value)


def types(
    added: dict[str, str] | None = None,
    codings: dict[str, str] | None = None,
    *,
    table: dict[str, str] | None = None,
    default: str | None = None,
) -> MediaTypes:
    """What such directives say; the built-in table unless another is given."""
    return MediaTypes.of(
        BUILT_IN if table is None else table, added or {}, codings or {}, default, with_names=table is None
    )


@pytest.mark.parametrize("name", ["README", "LICENSE", "Makefile", "a/b/AUTHORS", "COPYING", "Dockerfile"])
def test_well_known_names_without_extension_are_text(name: str) -> None:
    assert types().find(name) == "text/plain; charset=utf-8"
    assert types(table={".html": "text/html"}).find(name) is None


@pytest.mark.parametrize("name", ["licenses", "README.bin2", ".readme", "token", "info/refs"])
def test_other_names_without_extension_get_the_default(name: str) -> None:
    assert types().known(name) is None
    assert types(default="x/y").find(name) == "x/y"


def test_types_are_added_to_the_built_in_table_and_to_a_given_one() -> None:
    assert types({".usdz": "model/x"}).find("a.USDZ") == "model/x"
    assert types({".usdz": "model/x"}).find("a.html") == "text/html; charset=utf-8"
    given = types({".usdz": "model/x"}, table={".a": "a/a"})
    assert [given.find(name) for name in ("b.a", "b.usdz", "b.html")] == ["a/a", "model/x", None]


def test_added_type_goes_before_the_table() -> None:
    assert types({".ts": "text/typescript"}).find("a.ts") == "text/typescript"


def test_pattern_goes_before_an_extension_and_the_first_one_wins() -> None:
    found = types({"/a/*": "x/first", "*.txt": "x/second", ".txt": "x/third"})
    assert [found.find(path) for path in ("a/b.txt", "/a/b.txt", "c.txt", "c.png")] == [
        "x/first", "x/first", "x/second", "image/png",
    ]  # fmt: skip


def test_svgz_is_a_picture_in_gzip() -> None:
    assert (types().find("a.SVGZ"), types().coding("a.SVGZ")) == ("image/svg+xml", "gzip")
    assert types(codings={".svgz": "off"}).coding("a.svgz") == ""


def test_coded_file_has_the_type_of_what_it_unpacks_to() -> None:
    found = types(codings={".br": "br", "/Build/*.gz": "gzip"}, default="x/default")
    assert (found.find("game.wasm.br"), found.coding("game.wasm.br")) == ("application/wasm", "br")
    assert (found.find("Build/a.js.gz"), found.coding("Build/a.js.gz")) == (
        "text/javascript; charset=utf-8",
        "gzip",
    )
    assert (found.find("a.js.gz"), found.coding("a.js.gz")) == ("application/gzip", "")
    assert found.find("a.unknown.br") == "x/default"
