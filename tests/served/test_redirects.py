"""Redirect lines: which paths they match, where they lead, and which are refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rawhttp import get, put, thrice

from fastws import ConfigError, Server, load
from fastws.config.redirects import Redirects, parse_redirect
from fastws.http.urlpath import encode_path, is_normal

Serve = Callable[..., Server]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return put(tmp_path / "root", {"index.html": b"index", "new/page.html": b"new", "old/page.html": b"old"})


@pytest.mark.parametrize(
    ("line", "target", "location"),
    [
        ("/old /new/", "/old", "/new/"),
        ("/old /new/", "/old?a=b&c", "/new/?a=b&c"),
        ("/old /new?own", "/old?a=b", "/new?own"),
        ("/old /new#part", "/old?a=b", "/new?a=b#part"),
        ("/old /new#a?b", "/old?c", "/new?c#a?b"),
        ("/old/* /new/", "/old/page.html", "/new/"),
        ("/old/* /new/", "/old/", "/new/"),
        ("/old/* /new/", "/old/a/b?c", "/new/?c"),
        ("/old/* /new/*", "/old/a/b.html?c=d", "/new/a/b.html?c=d"),
        ("/old/* /new/*", "/old/", "/new/"),
        ("/old/* https://example.org/x/*", "/old/a%20b/%C3%A4", "https://example.org/x/a%20b/%C3%A4"),
        ("/old* /new*", "/old-page", "/new-page"),
        ("/an%20old%2fpage /new/", "/an%20old/page", "/new/"),
        ('"/an old" /new/', "/an%20old", "/new/"),
        ("/%C3%A4 /new/", "/%c3%a4", "/new/"),
        ("/a%3Fb /new/", "/a%3Fb", "/new/"),
        ("/100%25 /new/", "/100%25", "/new/"),
        ("/a%2Ab /new/", "/a*b", "/new/"),
        ("/a%2A /new/", "/a*", "/new/"),
        ("/old /a*b", "/old", "/a*b"),
    ],
)
def test_redirect_leads(serve: Serve, root: Path, line: str, target: str, location: str) -> None:
    reply = thrice(serve(f"Redirect {line}"), target)
    assert (reply.status, reply["Location"]) == (302, location)


def test_path_beside_a_pattern_stays(serve: Serve, root: Path) -> None:
    server = serve("Redirect /gone/* /new/*", "Redirect /a%2A /new/")
    for target in ("/gone", "/goner/", "/new/gone/", "/ab", "/a*/"):
        assert get(server, target).status == 404


def test_whole_path_goes_first_and_then_the_longest_beginning(serve: Serve, root: Path) -> None:
    server = serve(
        "Redirect /old/* /a/*", "Redirect /old/x/* /b/*", "Redirect /old/x/y /c", "Redirect /old/x/y/* /d"
    )
    for target, location in (
        ("/old/1", "/a/1"),
        ("/old/x/1", "/b/1"),
        ("/old/x/y", "/c"),
        ("/old/x/y/", "/d"),
    ):
        assert get(server, target)["Location"] == location


@pytest.mark.parametrize(
    ("line", "target", "location"),
    [
        ("/old* /*", "/old/evil.example", "/evil.example"),
        ("/old* /*", "/old//evil.example", "/evil.example"),
        ("/old* /*", "/old%2F%2Fevil.example", "/evil.example"),
        ("/old* /*", "/old%5Cevil.example", "/%5Cevil.example"),
        ("/old* https://example.org/*", "/old@evil.example", "https://example.org/@evil.example"),
        ("/old/* /new/*", "/old/a%0D%0ASet-Cookie:%20b", "/new/a%0D%0ASet-Cookie:%20b"),
        ("/old/* /new/*", "/old/%3Cscript%3E", "/new/%3Cscript%3E"),
        ("/old/* /new/*", "/old/a%3Fb%23c", "/new/a%3Fb%23c"),
    ],
)
def test_rest_of_a_path_leads_to_no_other_host_and_adds_no_field(
    serve: Serve, root: Path, line: str, target: str, location: str
) -> None:
    reply = get(serve(f"Redirect {line}"), target)
    assert (reply.status, reply["Location"], reply.all("Set-Cookie")) == (302, location, [])
    assert b"<script>" not in reply.body


@given(st.text(alphabet="/\\.@:%?#*abä\n\0 ", max_size=20))
def test_whatever_the_rest_is_the_location_stays_on_the_site(rest: str) -> None:
    path = f"/old{rest}"
    if is_normal(path):
        found = Redirects({"/old*": ("/*", 302)}).find(path)
        assert found is not None
        location = found[0]
        assert location.startswith("/")
        assert not location.startswith(("//", "/\\"))
        assert set(location) <= set(encode_path(location)) | {"%"}
        assert location.isascii()
        assert location.isprintable()


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("/old?a=b /new", "only the path counts, and in it they are %3F and %23"),
        ("/old#a /new", "only the path counts"),
        ("/o*d /new", "has a * before its end; one at the end is allowed, a star as such is %2A"),
        ("/old/** /new", "has a * before its end"),
        ("/100% /new", "is not percent-encoded: two hexadecimal digits after each %"),
        ("/a%00 /new", "no %00"),
        ("/a/%2e%2e/b /new", "is not a path of this site"),
        ("/a%2F%2Fb /new", "is not a path of this site"),
        ("/a//* /new", "is not a path of this site"),
        ("* /new", "is not a path of this site"),
        ("/old /new/*", "'/new/*' ends with * and '/old' does not; there is no rest to append"),
        ("/old* https://example.org*", "has its * outside the path; https://HOST/* or /PATH/* is allowed"),
        ("/old* https://example.org?a=*", "outside the path"),
        ("/old/* /search?q=*", "outside the path"),
        ("/old/* /new#*", "outside the path"),
        ("/old/* //*", "neither a /path nor an http"),
        ("/old /old", "/old leads round in a circle or on for ever: /old > /old"),
        ("/old /old?a#b", "/old leads round"),
        ("/old /%6Fld", "/old leads round"),
        ("/old /x/../old", "/old leads round"),
        ("/old/* /old/new/", "/old/* leads round in a circle or on for ever: /old/ > /old/new/ > /old/new/"),
        ("/old/* /old/new/*", "/old/* leads round in a circle or on for ever: /old/ > /old/new/ > "),
        ("/* /index.html", "/* leads round"),
    ],
)
def test_line_that_can_only_be_a_mistake_is_refused(tmp_path: Path, line: str, said: str) -> None:
    path = tmp_path / "ws.conf"
    path.write_text(f"ListenPort 8080\nDocumentRoot .\nRedirect /fine /there\nRedirect {line}\n")
    with pytest.raises(ConfigError) as caught:
        load(str(path))
    (problem,) = caught.value.problems
    assert problem.line == 4
    assert problem.text.startswith("Redirect: ")
    assert said in problem.text


def test_circle_of_several_lines_is_refused_where_each_stands(tmp_path: Path) -> None:
    path = tmp_path / "ws.conf"
    lines = ["Redirect /a /b", "Redirect /to /a", "Redirect /b /c", "Redirect /c/* /x", "Redirect /c /a"]
    path.write_text("\n".join(["ListenPort 8080", "DocumentRoot .", *lines]))
    with pytest.raises(ConfigError) as caught:
        load(str(path))
    assert [problem.line for problem in caught.value.problems] == [3, 5, 7]
    assert str(caught.value.problems[0]).endswith("on for ever: /a > /b > /c > /a")


def test_chain_that_arrives_is_no_circle(tmp_path: Path) -> None:
    path = tmp_path / "ws.conf"
    lines = ["Redirect /a /b", "Redirect /b https://example.org/a", "Redirect /x/* /*", "Redirect /y/* /x/*"]
    path.write_text("\n".join(["ListenPort 8080", "DocumentRoot .", *lines]))
    assert len(load(str(path)).redirects) == 4


def test_what_is_kept_reads_as_itself() -> None:
    for source in ("/a b", "/a%20b", "/%2A*", "/a%2a", "/ä/*", "/100%25"):
        kept = parse_redirect([source, "/new"], "")
        assert parse_redirect([next(iter(kept)), "/new"], "") == kept
