"""Request targets: what they name, and that none names anything outside the root, in whichever encoding."""

from __future__ import annotations

import os
from types import SimpleNamespace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from fastws.http import urlpath
from fastws.http.errors import HTTPError
from fastws.http.target import Target, authority_of, parse_target
from fastws.http.urlpath import decode_path, encode_path, is_normal

NAMES = [
    ("/", Target("/", None, True)),
    ("/a", Target("/a", None, True)),
    ("/a/", Target("/a/", None, True)),
    ("/a/b.c/d-e_f~g", Target("/a/b.c/d-e_f~g", None, True)),
    ("/a?", Target("/a", "", True)),
    ("/a?b=c&d?e/../f", Target("/a", "b=c&d?e/../f", True)),
    ("/a?%zz%00", Target("/a", "%zz%00", True)),
    ("/!$&'()*+,;=:@", Target("/!$&'()*+,;=:@", None, True)),
    ("/a%20b", Target("/a b", None, True)),
    ("/%E2%82%AC", Target("/\u20ac", None, True)),
    ("/%e2%82%ac", Target("/\u20ac", None, False)),
    ("/%41", Target("/A", None, False)),
    ("/a%3Fb", Target("/a?b", None, True)),
    ("/a%23b", Target("/a#b", None, True)),
    ("/a%2Fb", Target("/a/b", None, False)),
    ("/a%25b", Target("/a%b", None, True)),
    ("/%FF", Target("/" + os.fsdecode(b"\xff"), None, True)),
    ("/a//b", Target("/a/b", None, False)),
    ("//a", Target("/a", None, False)),
    ("//", Target("/", None, False)),
    ("//a.example/b", Target("/a.example/b", None, False)),
    ("/./a", Target("/a", None, False)),
    ("/a/.", Target("/a/", None, False)),
    ("/a/./", Target("/a/", None, False)),
    ("/a/..", Target("/", None, False)),
    ("/a/b/..", Target("/a/", None, False)),
    ("/a/../b", Target("/b", None, False)),
    ("/a/b/%2e%2E/c", Target("/a/c", None, False)),
    ("/.", Target("/", None, False)),
    ("/.a", Target("/.a", None, True)),
    ("/...", Target("/...", None, True)),
    ("/..a/a..", Target("/..a/a..", None, True)),
    ("http://a", Target("/", None, True)),
    ("http://a/", Target("/", None, True)),
    ("http://a?b", Target("/", "b", True)),
    ("HTTP://A.example:80/b/c?d", Target("/b/c", "d", True)),
    ("https://a/b", Target("/b", None, True)),
    ("http://[::1]:80/b", Target("/b", None, True)),
    ("http://a//b", Target("/b", None, False)),
    ("http://a/?http://b/", Target("/", "http://b/", True)),
]


@pytest.mark.parametrize(("target", "meaning"), NAMES)
def test_a_target_names_a_path(target: str, meaning: Target) -> None:
    assert parse_target(target) == meaning


@pytest.mark.parametrize(
    "target",
    [
        "*", "a", "a/b", "index.html", "?a", "a.example:443", "http:", "http:/", "http:/a", "http:a", "ftp://a/", "file:///etc/passwd",
        "javascript:1", "\\", "\\\\a\\b", "http//a", "://a", "httpx://a/",
    ],
)  # fmt: skip
def test_neither_origin_nor_absolute_form_is_400(target: str) -> None:
    _assert_400(target)


@pytest.mark.parametrize(
    "authority",
    [
        "",
        ":80",
        "u@a",
        "u:p@a",
        "a:b",
        "a:80:80",
        "[::1",
        "a b",
        "a,b",
        "a%41",
        "[]",
        "a\\b",
        "a\\@b",
        "<",
        "a:-1",
    ],
)
def test_an_authority_that_is_no_host_is_400(authority: str) -> None:
    _assert_400(f"http://{authority}/")
    _assert_400(f"http://{authority}?q")


@pytest.mark.parametrize(
    "target", ["/#", "/a#b", "/#?b", "/a?b#c", "/%41?b#c", "http://a/#b", "http://a#b", "/a#/../.."]
)
def test_a_fragment_is_400(target: str) -> None:
    _assert_400(target)


@pytest.mark.parametrize(
    "path",
    ["/%", "/a%", "/a%2", "/%2/", "/%zz", "/%0g", "/%%41", "/%-1", "/%+1", "/% 1", "/%u002e", "/%2%65"],
)
def test_bad_percent_encoding_is_400(path: str) -> None:
    _assert_400(path)
    _assert_400(f"http://a{path}")


@pytest.mark.parametrize("path", ["/%00", "/a%00", "/a%00.html", "/%00/../a", "/a/%00/..", "/../%00"])
def test_a_nul_byte_is_400(path: str) -> None:
    _assert_400(path)


DOTS = ["..", "%2e%2e", "%2E%2e", ".%2e", "%2e.", "%2E."]
SLASHES = ["/", "%2f", "%2F", "\\", "%5c", "%5C", "//", "/./", "/%2e/"]


@pytest.mark.parametrize("slash", SLASHES)
@pytest.mark.parametrize("dots", DOTS)
def test_leaving_the_root_in_any_encoding_is_400(dots: str, slash: str) -> None:
    for path in (
        f"/{dots}",
        f"/{dots}{slash}",
        f"/{dots}{slash}etc/passwd",
        f"/a{slash}{dots}{slash}{dots}{slash}etc/passwd",
        f"/a/b/{dots}{slash}{dots}{slash}{dots}{slash}b",
        f"//{dots}{slash}a",
        f"/.{slash}{dots}{slash}a",
        f"/{slash.replace('//', '/')}{dots}/a",
        f"/{dots}{slash}a/b/c/d",
    ):
        _assert_400(path)
        _assert_400(f"http://a.example{path}")


def test_leaving_the_root_and_coming_back_is_400() -> None:
    _assert_400("/../root/a")
    _assert_400("/a/../../a")


@pytest.mark.parametrize(
    "path",
    [
        # encoded twice: decoded once
        "/%252e%252e/a", "/%252e%252e%252fa", "/%25%32%65%25%32%65/a",
        # overlong UTF-8
        "/%c0%ae%c0%ae/a", "/%c0%ae%c0%ae%c0%afetc", "/%e0%80%ae%e0%80%ae/a", "/%f0%80%80%ae%f0%80%80%ae/a",
        "/..%c0%af..%c0%afetc",
        # look-alikes
        "/%ef%bc%8e%ef%bc%8e/a", "/%e2%80%a4%e2%80%a4/a", "/%ef%bc%8f..%ef%bc%8f",
        # other systems' rules
        "/..;/a", "/..%20/a", "/..%09/a", "/.../a", "/..../a", "/..%0a/a", "/%2e%2e%3b/a", "/..:/a", "/..::$DATA",
        "/CON", "/nul.txt", "/aux/../COM1", "/C:/a", "/c:%5ca", "/a.%20", "/a...", "/~root/a", "/$HOME/a", "/`id`",
        "/-rf",
    ],
)  # fmt: skip
def test_what_only_looks_like_leaving_the_root_is_a_name_inside_it(path: str) -> None:
    _assert_confined(parse_target(path).path)


def _assert_400(target: str) -> None:
    with pytest.raises(HTTPError) as caught:
        parse_target(target)
    assert caught.value.status == 400


def _assert_confined(path: str) -> None:
    assert path.startswith("/")
    assert not path.startswith("//")
    assert "\0" not in path
    segments = path[1:].removesuffix("/").split("/") if path != "/" else []
    assert not {"", ".", ".."} & set(segments)
    # What a file system makes of it, on a system whose separator is either.
    for separators in (path, path.replace("\\", "/")):
        assert os.path.normpath("/root" + separators).startswith("/root")


FRAGMENTS = st.sampled_from(
    [
        *DOTS,
        *SLASHES,
        "/",
        "/",
        ".",
        "a",
        "b.html",
        "%00",
        "%",
        "%c0%ae",
        "%252e",
        "?",
        "#",
        ":",
        "@",
        "http://a",
        "\xe9",
        " ",
        "~",
    ]
)


@given(st.lists(FRAGMENTS, max_size=12).map(lambda pieces: "/" + "".join(pieces)))
@example("/a\\..\\..\\b")
@example("/a/..\\..\\b")
def test_whatever_is_accepted_is_confined_and_stable(target: str) -> None:
    try:
        found = parse_target(target)
    except HTTPError:
        _assert_400(target)
        return
    _assert_confined(found.path)
    again = parse_target(encode_path(found.path))
    assert again.path == found.path
    assert again.is_canonical
    assert found.is_canonical == (encode_path(found.path) == target.partition("?")[0])


@given(st.binary(min_size=1).map(lambda raw: raw.replace(b"\0", b"")))
def test_any_file_name_survives_encoding_and_parsing(raw: bytes) -> None:
    name = raw.replace(b"/", b"_").replace(b"\\", b"_")
    if name in (b"", b".", b".."):
        name = b"_"
    path = "/" + os.fsdecode(name)
    encoded = encode_path(path)
    assert encoded.isascii()
    assert parse_target(encoded) == Target(path, None, True)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        *[(path, True) for path in ("/", "/a/", "/a/b")],
        *[(path, False) for path in ("/a//b", "/a/./b", "/a/../b", "/../a")],
    ],
)
def test_a_normal_path_is_what_a_request_leads_to(path: str, expected: bool) -> None:
    assert is_normal(path) is expected


def test_path_that_is_no_text_is_refused_where_names_are_text(monkeypatch: pytest.MonkeyPatch) -> None:
    assert decode_path(b"/caf%C3%A9") == "/caf\u00e9"
    monkeypatch.setattr(urlpath, "os", SimpleNamespace(fsdecode=lambda raw: raw.decode()))  # as on Windows
    assert decode_path(b"/caf%C3%A9") == "/caf\u00e9"
    with pytest.raises(ValueError, match="not UTF-8"):
        decode_path(b"/caf%E9")


@pytest.mark.parametrize(
    ("target", "authority"),
    [
        ("/", None),
        ("/http://other/", None),
        ("*", None),
        ("localhost:80", None),
        ("ftp://other/", None),
        ("http://other", "other"),
        ("HTTPS://Other:81/a", "Other:81"),
        ("http://[::1]:8080?x", "[::1]:8080"),
    ],
)
def test_authority_is_that_of_the_absolute_form(target: str, authority: str | None) -> None:
    assert authority_of(target) == authority
