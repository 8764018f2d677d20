from __future__ import annotations

import pytest

from fastws.http.mediatypes import BUILT_IN, content_type, is_compressible, with_charset


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
