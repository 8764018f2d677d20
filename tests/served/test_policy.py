"""What the configuration says about paths: as rules, and as clients see them."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import pytest
from rawhttp import Client, get, put, thrice

from fastws import Server, backend, defaults
from fastws.files.root import Nothing
from fastws.http.messages import Request
from fastws.http.urlpath import glob_pattern
from fastws.site import site
from fastws.site.hidden import is_hidden
from fastws.site.policy import is_long_lived

Serve = Callable[..., Server]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    files = {
        "index.html": b"the app",
        "about.html": b"about",
        "assets/app.js": b"js",
        "404.html": b"<h1>our own page</h1>",
        "folder/index.html": b"folder",
        "folder.html": b"not the folder",
        ".well-known/security.txt": b"contact",
        ".git/config": b"secret",
    }
    return put(tmp_path / "root", files)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/", False),
        ("/a.b/c.html", False),
        ("/.git/config", True),
        ("/a/.hidden", True),
        ("/..hidden", True),
        ("/.well-known/security.txt", False),
        ("/.well-known/.hidden", True),
        ("/.well-known/a/.hidden", True),
        ("/a/.well-known/b", True),
        ("/.well-knownish/a", True),
    ],
)
def test_dotfiles_are_hidden_but_for_well_known(path: str, expected: bool) -> None:
    assert is_hidden(path) is expected


@pytest.mark.parametrize(
    ("glob", "path", "matches"),
    [
        ("*", "/a/b", True),
        ("*.css", "/a/b.css", True),
        ("*.css", "/a/b.css/c", False),
        ("/a/*", "/a/", True),
        ("/a/*", "/a", False),
        ("/a/*", "/b/a/c", False),
        ("/a?", "/ab", False),
        ("/a?", "/a?", True),
        ("/[ab]", "/b", False),
        ("/[ab]/*", "/[ab]/c", True),
        ("/[!a]", "/b", False),
        ("/a.c", "/abc", False),
        ("/a|/b", "/a", False),
        ("*", "/line\nfeed", True),
        ("/a*b*c", "/abbcbc", True),
        ("/a*b*c", "/acb", False),
        ("/a**c", "/abc", True),
        ("/*/x/*.css", "/a/x/b/x/c.css", True),
        ("/*.css*.css", "/a.css", False),
    ],
)
def test_glob_matches_whole_paths(glob: str, path: str, matches: bool) -> None:
    assert bool(glob_pattern(glob).fullmatch(path)) is matches


def test_no_path_makes_the_search_of_a_pattern_long() -> None:
    pattern = glob_pattern("*a" * 30 + "b")
    assert not pattern.fullmatch("/" + "a" * 8000)


def test_what_a_site_remembers_of_files_is_bounded(
    side: backend.Backend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(site, "KNOWN_FORMS", 4)
    put(tmp_path, {f"{number}.png": b"picture" for number in range(50)})
    answers = site.Site(
        defaults(str(tmp_path)),
        logging.getLogger("test"),
        replays=False,
        opener=side.opener,
        hidden=Nothing(),
    )
    for number in [*range(50), *range(50)]:
        response, *_ = answers.respond(Request("GET", f"/{number}.png", "HTTP/1.1", {"host": "x"}, 0))
        assert response.status == 200
        assert ("Cache-Control", "no-cache") in response.fields
        assert response.file is None
        assert 0 < len(answers._known) <= 4


def test_first_matching_cache_control_decides(serve: Serve, root: Path) -> None:
    server = serve(
        'CacheControl /assets/* "public, max-age=31536000, immutable"', "CacheControl *.js no-store"
    )
    reply = thrice(server, "/assets/app.js")
    assert reply["Cache-Control"] == "public, max-age=31536000, immutable"
    assert thrice(server, "/about.html")["Cache-Control"] == "no-cache"
    not_modified = thrice(server, "/assets/app.js", f"If-None-Match: {reply['ETag']}")
    assert (not_modified.status, not_modified["Cache-Control"]) == (304, reply["Cache-Control"])


def test_configured_fields_are_on_every_answer(serve: Serve, root: Path) -> None:
    server = serve(
        'Header "X-Frame-Options" "DENY"',
        'Header "X-Script" "yes" *.js',
        "Redirect /old /about.html",
        "DirectoryListing on",
    )
    cases = [
        ("/about.html", "GET", 200),
        ("/about.html", "HEAD", 200),
        ("/about.html", "POST", 200),
        ("/missing", "GET", 404),
        ("/old", "GET", 302),
        ("/folder", "GET", 301),
        ("/assets/", "GET", 200),
    ]
    for target, method, status in cases:
        reply = get(server, target, method=method)
        assert (reply.status, reply["X-Frame-Options"], reply.all("X-Script")) == (status, "DENY", [])
    assert thrice(server, "/assets/app.js")["X-Script"] == "yes"
    assert get(server, "/assets/missing.js")["X-Script"] == "yes"


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET /../x HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        (b"GET /about.html HTTP/1.1\r\n\r\n", 400),
        (b"nonsense\r\n\r\n", 400),
        (b"PUT /about.html HTTP/1.1\r\nHost: x\r\n\r\n", 501),
        (b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", 414),
        (b"GET /-/healthz HTTP/1.1\r\nHost: x\r\n\r\n", 200),
    ],
)
def test_field_for_everywhere_is_on_answers_that_know_no_path(
    serve: Serve, root: Path, request_: bytes, status: int
) -> None:
    server = serve('Header "X-Frame-Options" "DENY"', "Header X-Script yes *.js", "StatusPath /-/")
    with Client(server) as client:
        client.send(request_)
        reply = client.reply()
    assert (reply.status, reply["X-Frame-Options"], reply.all("X-Script")) == (status, "DENY", [])


@pytest.fixture
def by_path(serve: Serve, root: Path) -> Server:
    """A server with a field and a Cache-Control for some names of files, and for some of URLs."""
    put(root, {"app.page": b"one page", "blog/index.html": b"blog"})
    return serve(
        "Header X-About yes /about.html",
        "Header X-Index yes */index.html",
        "Header X-App yes /app.page",
        "Header X-Error yes /404.html",
        "Header X-Url yes /route*",
        "CacheControl /about.html max-age=1",
        "CacheControl /blog/ max-age=2",
        "CacheControl /blog/index.html max-age=3",
        "CacheControl /app.page max-age=4",
        "CacheControl /route* max-age=5",
        "CleanUrls on",
        "Fallback /app.page",
        "ErrorPage 404 /404.html",
    )


@pytest.mark.parametrize(
    ("target", "fields", "cache_control"),
    [
        ("/about", ["X-About"], "max-age=1"),
        ("/about.html", ["X-About"], "max-age=1"),
        ("/blog/", ["X-Index"], "max-age=2"),
        ("/blog/index.html", ["X-Index"], "max-age=3"),
        ("/", ["X-Index"], "no-cache"),
        ("/elsewhere", ["X-App"], "max-age=4"),
        ("/route/7", ["X-App", "X-Url"], "max-age=4"),
        ("/assets/app.js", [], "no-cache"),
    ],
)
def test_pattern_matches_the_path_of_the_url_or_of_the_file(
    by_path: Server, target: str, fields: list[str], cache_control: str
) -> None:
    names = ("X-About", "X-Index", "X-App", "X-Error", "X-Url")
    reply = thrice(by_path, target)
    not_modified = thrice(by_path, target, f"If-None-Match: {reply['ETag']}")
    head = get(by_path, target, method="HEAD")
    part = get(by_path, target, "Range: bytes=0-0")
    assert [each.status for each in (reply, not_modified, head, part)] == [200, 304, 200, 206]
    for each in (reply, not_modified, head, part):
        assert [name for name in names if each.all(name) == ["yes"]] == fields
        assert each["Cache-Control"] == cache_control
    refused = get(by_path, target, "Range: bytes=999-")
    assert refused.status == 416
    assert [name for name in names if refused.all(name) == ["yes"]] == fields


def test_field_of_a_file_is_on_a_filled_in_form_and_on_a_refused_one(by_path: Server, root: Path) -> None:
    assert get(by_path, "/about", method="POST", body=b"a=b").all("X-About") == ["yes"]
    reply = get(by_path, "/elsewhere", method="POST", body=b"a=b")
    assert (reply.status, reply.all("X-App")) == (405, ["yes"])


def test_pattern_matches_the_page_of_an_error(serve: Serve, root: Path) -> None:
    server = serve("Header X-Error yes /404.html", "Header X-Url yes /missing", "ErrorPage 404 /404.html")
    for method in ("GET", "HEAD"):
        reply = get(server, "/missing", method=method)
        assert (reply.status, reply.all("X-Error"), reply.all("X-Url")) == (404, ["yes"], ["yes"])
        assert reply["Cache-Control"] == "no-store"
    (root / "404.html").unlink()
    reply = get(server, "/missing")
    assert (reply.all("X-Error"), reply.all("X-Url")) == ([], ["yes"])


def test_pattern_matches_a_redirect_by_its_url_alone(serve: Serve, root: Path) -> None:
    server = serve("Header X-Old yes /old", "Header X-About yes /about.html", "Redirect /old /about.html")
    reply = get(server, "/old")
    assert (reply.all("X-Old"), reply.all("X-About")) == (["yes"], [])
    assert get(server, "/about.html").all("X-Old") == []


def test_configured_nosniff_takes_the_place_of_the_default(serve: Serve, root: Path) -> None:
    server = serve("Header X-Content-Type-Options none *.html")
    assert get(server, "/about.html").all("X-Content-Type-Options") == ["none"]
    assert get(server, "/assets/app.js").all("X-Content-Type-Options") == ["nosniff"]


def test_redirect_to_a_directory_is_asked_for_anew(serve: Serve, root: Path) -> None:
    """Browsers keep a 301 that says nothing for good, and a directory may become a file."""
    assert get(serve(), "/folder")["Cache-Control"] == "no-cache"


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirect_has_its_status(serve: Serve, root: Path, status: int) -> None:
    reply = thrice(serve(f"Redirect /about.html https://example.org/a?b {status}"), "/about.html?query")
    assert (reply.status, reply["Location"]) == (status, "https://example.org/a?b")


def test_error_page_stands_in_and_keeps_the_status(serve: Serve, root: Path) -> None:
    server = serve("ErrorPage 404 /404.html", "ErrorPage 405 /missing.html")
    reply = get(server, "/missing")
    assert (reply.status, reply.body) == (404, b"<h1>our own page</h1>")
    assert get(server, "/missing", method="HEAD").without() == reply.without()
    reply = get(server, "/assets/app.js", method="POST", body=b"a=b")
    assert (reply.status, reply["Allow"]) == (405, "GET, HEAD")
    assert b"405" in reply.body


def test_clean_urls_serve_the_html_file(serve: Serve, root: Path) -> None:
    server = serve("CleanUrls on")
    assert thrice(server, "/about").body == b"about"
    assert thrice(server, "/about")["Content-Type"] == "text/html; charset=utf-8"
    assert get(server, "/folder").status == 301  # a directory is one
    assert get(server, "/about/")["Location"] == "/about"
    assert get(serve(), "/about").status == 404


PAGE, INDEX = b"blog.html", b"blog/index.html"


@pytest.mark.parametrize(
    ("files", "without", "with_slash", "by_name"),
    [
        (["blog.html"], PAGE, PAGE, PAGE),
        (["blog.html", "blog/post.html"], PAGE, PAGE, PAGE),
        (["blog.html", "blog/index.html"], INDEX, INDEX, PAGE),
        (["blog/index.html"], INDEX, INDEX, 404),
        (["blog/post.html"], 404, 404, 404),
        (["blog"], b"blog", 404, 404),
        (["blog", "blog.html"], b"blog", b"blog", PAGE),
    ],
)
@pytest.mark.parametrize("more", [(), ("Fallback /app.html",)])
def test_every_form_of_a_clean_url_leads_somewhere_right_in_one_step(
    serve: Serve, tmp_path: Path, files: list[str], without: object, with_slash: object, by_name: object,
    more: tuple[str, ...],
) -> None:  # fmt: skip
    place = put(tmp_path / "clean", {name: name.encode() for name in [*files, "app.html"]})
    server = serve("CleanUrls on", *more, root=place)
    for target, expected in (("/blog", without), ("/blog/", with_slash), ("/blog.html", by_name)):
        reply = thrice(server, f"{target}?q=1")
        if reply.status == 301:
            assert reply["Location"].endswith("?q=1")
            reply = thrice(server, reply["Location"])
        seen = reply.body if reply.status == 200 else reply.status
        assert seen == (b"app.html" if more and expected == 404 else expected), target
    if "blog/post.html" in files:
        assert get(server, "/blog/post").body == b"blog/post.html"


def test_clean_url_sees_what_comes_and_goes_beside_it(serve: Serve, root: Path) -> None:
    server = serve("CleanUrls on")
    put(root, {"blog.html": b"page", "blog/post.html": b"post"})
    assert thrice(server, "/blog").body == b"page"
    put(root, {"blog/index.html": b"index"})
    assert thrice(server, "/blog")["Location"] == "/blog/"
    assert thrice(server, "/blog/").body == b"index"
    (root / "blog/index.html").unlink()
    assert thrice(server, "/blog").body == b"page"
    assert thrice(server, "/blog/")["Location"] == "/blog"
    (root / "blog.html").unlink()
    assert thrice(server, "/blog")["Location"] == "/blog/"
    assert thrice(server, "/blog/").status == 404


def test_redirect_to_or_from_a_slash_is_not_kept_for_long(serve: Serve, root: Path) -> None:
    server = serve("CleanUrls on", 'CacheControl * "max-age=31536000, immutable"')
    assert get(server, "/about.html")["Cache-Control"] == "max-age=31536000, immutable"
    for target in ("/about/", "/folder"):
        assert (get(server, target).status, get(server, target)["Cache-Control"]) == (301, "no-cache")


IMMUTABLE = 'CacheControl /assets/* "public, max-age=31536000, immutable"'


@pytest.mark.parametrize(
    "name", ["x.js", "app.css", "x.png", "x.js.map", "x.json", "x.unknown", "A.JS", "f.7z"]
)
def test_fallback_is_for_pages_and_a_missing_file_is_404(serve: Serve, root: Path, name: str) -> None:
    server = serve("Fallback /index.html", IMMUTABLE)
    for folder in ("/assets", "/route", ""):
        reply = thrice(server, f"{folder}/{name}")
        assert (reply.status, reply["Cache-Control"]) == (404, "no-store")
        assert reply.body != b"the app"


@pytest.mark.parametrize("name", ["", "page", "page.html", "page.htm", "v1.2", "page/"])
def test_fallback_never_inherits_a_long_lifetime(serve: Serve, root: Path, name: str) -> None:
    server = serve("Fallback /index.html", IMMUTABLE)
    reply = thrice(server, f"/assets/deep/{name}")
    assert (reply.status, reply.body, reply["Cache-Control"]) == (200, b"the app", "no-cache")
    server = serve("Fallback /index.html", "CacheControl * max-age=86400")
    assert get(server, f"/assets/deep/{name}")["Cache-Control"] == "no-cache"
    assert get(server, "/index.html")["Cache-Control"] == "max-age=86400"
    server = serve("Fallback /index.html", "CacheControl * max-age=600")
    assert get(server, f"/assets/deep/{name}")["Cache-Control"] == "max-age=600"


@pytest.mark.parametrize(
    ("value", "is_long"),
    [
        ("no-cache", False), ("max-age=86399", False), ("max-age=86400", True), ("public, MAX-AGE=31536000", True),
        ("immutable", True), ("s-maxage=604800", True), ('max-age="99999999999999"', True), ("max-age=x", False),
        ("stale-while-revalidate=604800, max-age=0", False), ("x-max-age=86400", False),
    ],
)  # fmt: skip
def test_long_lifetimes_are_known(value: str, is_long: bool) -> None:
    assert is_long_lived(value) == is_long


def test_clean_url_gives_way_to_a_file_that_appears(serve: Serve, root: Path) -> None:
    server = serve("CleanUrls on")
    assert thrice(server, "/about").body == b"about"
    put(root, {"about": b"the file itself"})
    assert thrice(server, "/about").body == b"the file itself"
    (root / "about").unlink()
    assert thrice(server, "/about").body == b"about"


def test_fallback_is_200_for_what_is_not_there(serve: Serve, root: Path) -> None:
    server = serve("Fallback /index.html")
    for target in ("/some/route", "/folder/missing/", "/missing"):
        assert thrice(server, target).body == b"the app"
    assert thrice(server, "/about.html").body == b"about"
    assert get(server, "/.git/config").status == 404
    put(root, {"some/route": b"now there"})
    assert get(server, "/some/route").body == b"now there"


def test_fallback_that_is_missing_is_404(serve: Serve, root: Path) -> None:
    assert get(serve("Fallback /nothing.html"), "/some/route").status == 404


def test_first_index_that_appears_later_is_seen_at_once(serve: Serve, root: Path) -> None:
    server = serve("DirectoryIndex first.html, index.html")
    assert thrice(server, "/").body == b"the app"
    put(root, {"first.html": b"first"})
    assert thrice(server, "/").body == b"first"
    (root / "first.html").unlink()
    assert thrice(server, "/").body == b"the app"


def test_well_known_is_served_and_other_dotfiles_are_not(serve: Serve, root: Path) -> None:
    server = serve()
    assert thrice(server, "/.well-known/security.txt").body == b"contact"
    assert get(server, "/.git/config").status == 404


def test_nosniff_is_on_every_answer(serve: Serve, root: Path) -> None:
    server = serve("StatusPath /-/")
    for target in ("/", "/missing", "/folder", "/-/healthz"):
        assert get(server, target)["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize("method", ["OPTIONS", "TRACE"])
def test_options_and_trace_are_501(serve: Serve, root: Path, method: str) -> None:
    assert get(serve(), "/", method=method).status == 501
