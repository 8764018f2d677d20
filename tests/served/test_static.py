"""Directories below a path of their own, applications beside and behind files, limits by path."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rawhttp import Client, get, put, settle, thrice

from fastws import Server
from fastws.backend import Backend

Serve = Callable[..., Server]


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """Return a directory beside the document root."""
    put(tmp_path / "root", {"index.html": b"index", "a.css": b"the root's", "static/b.css": b"covered"})
    return put(
        tmp_path / "files",
        {"a.css": b"the directory's", "index.html": b"its index", "deep/index.html": b"deep", ".hidden": b"no",
         "large.bin": b"0123456789" * 100_000, "page.html": b"a page", "list/x.txt": b"x"},
    )  # fmt: skip


def application(environ: dict[str, Any], start: Callable[..., Any]) -> list[bytes]:
    start("200 OK", [("Content-Type", "text/plain")])
    return [f"{environ['REQUEST_METHOD']} {environ['PATH_INFO']}".encode()]


def test_files_of_the_directory_are_below_its_path(serve: Serve, files: Path) -> None:
    server = serve(f"Static /static/ {files}")
    for target, status, body in (
        ("/static/a.css", 200, b"the directory's"),
        ("/a.css", 200, b"the root's"),
        ("/static/", 200, b"its index"),
        ("/static/deep/", 200, b"deep"),
        ("/static/b.css", 404, None),
        ("/static/.hidden", 404, None),
        ("/static/missing.css", 404, None),
        ("/static/../a.css", 200, b"the root's"),
        ("/%73tatic//a.css", 200, b"the directory's"),
    ):
        reply = thrice(server, target)
        assert reply.status == status, target
        assert body is None or reply.body == body, target
    reply = get(server, "/static/deep?q")
    assert (reply.status, reply["Location"]) == (301, "/static/deep/?q")


def test_path_without_its_slash_leads_to_the_directory(serve: Serve, files: Path) -> None:
    put(files.parent / "root", {"index.html": b"index", "taken": b"a file", "page.html": b"a page"})
    names = "/assets/", "/assets/deep/", "/caf\u00e9/", "/taken/", "/page/"
    server = serve(
        *[f"Static {name} {files}" for name in names],
        "Fallback /index.html",
        "CleanUrls on",
        "Header X-A b /assets",
    )
    with Client(server) as client:
        client.get("/a.css")
        for target, location in (
            ("/assets", "/assets/"),
            ("/assets?a=/b", "/assets/?a=/b"),
            ("/assets/deep", "/assets/deep/"),
            ("/caf%c3%a9", "/caf%C3%A9/"),
            ("//%61ssets", "/assets/"),
        ):
            for method in ("GET", "GET", "HEAD", "GET"):
                reply = client.get(target, method=method)
                assert (reply.status, reply["Location"]) == (301, location), (target, method)
                assert (reply.body == b"") == (method == "HEAD")
        assert client.get("/assets")["X-A"] == "b"
        for target, body in (
            ("/taken", b"a file"),
            ("/page", b"a page"),
            ("/asset", b"index"),
            ("/assetsx", b"index"),
        ):
            assert [client.get(target).body for _ in range(3)] == [body] * 3, target


def test_path_without_its_slash_is_found_missing_no_sooner_than_it_is_looked_for(
    serve: Serve, files: Path
) -> None:
    """What prepares the 404 of a missing file knows of the directory too."""
    server = serve(f"Static /assets/ {files}", f"Static /assets/sub/ {files}")
    with Client(server) as client:
        for _ in range(3):
            assert client.get("/missing").status == 404
            assert client.get("/assets/missing").status == 404
            assert client.get("/assets").status == client.get("/assets/sub").status == 301
    put(files.parent / "root", {"assets": b"a file"})
    assert thrice(server, "/assets").body == b"a file"


def test_what_answers_the_path_without_its_slash_goes_before_the_directory(serve: Serve, files: Path) -> None:
    server = serve(
        f"Static /assets/ {files}", f"Static /other/ {files}", "Redirect /other /elsewhere",
        applications={"/": application},
    )  # fmt: skip
    assert get(server, "/assets").body == b"GET /assets"
    assert get(server, "/other")["Location"] == "/elsewhere"


def test_with_files_first_the_application_has_the_path_without_its_slash(serve: Serve, files: Path) -> None:
    server = serve(f"Static /assets/ {files}", "FilesFirst on", applications={"/": application})
    assert get(server, "/assets").body == b"GET /assets"


def test_path_of_an_application_is_the_applications_with_and_without_a_slash(
    serve: Serve, files: Path
) -> None:
    server = serve(applications={"/app/": application})
    assert [get(server, target).body for target in ("/app", "/app/", "/app/x")] == [
        b"GET ",
        b"GET /",
        b"GET /x",
    ]
    assert get(server, "/apps").status == 404


def test_longest_path_decides_among_directories(serve: Serve, files: Path, tmp_path: Path) -> None:
    other = put(tmp_path / "other", {"a.css": b"the other's"})
    server = serve(f"Static /static/ {files}", f"Static /static/deep/ {other}")
    assert get(server, "/static/deep/a.css").body == b"the other's"
    assert get(server, "/static/a.css").body == b"the directory's"


def test_all_of_http_applies(serve: Serve, files: Path) -> None:
    server = serve(
        f"Static /static/ {files}",
        "CacheControl /static/* max-age=600",
        "DirectoryListing on",
        "CleanUrls on",
    )
    with Client(server) as client:
        for _ in range(3):
            whole = client.get("/static/large.bin")
            assert (len(whole.body), whole["Cache-Control"]) == (1_000_000, "max-age=600")
            part = client.get("/static/large.bin", "Range: bytes=5-14")
            assert (part.status, part.body) == (206, b"5678901234")
            same = client.get("/static/large.bin", f"If-None-Match: {whole['ETag']}")
            assert same.status == 304
            assert client.get("/static/large.bin", 'If-Match: "x"').status == 412
            assert client.get("/static/page").body == b"a page"
            assert b'href="x.txt"' in client.get("/static/list/").body
            assert client.get("/static/a.css", method="POST", body=b"x").status == 405


def test_sidecars_are_found_and_changes_seen(serve: Serve, files: Path) -> None:
    put(files, {"a.css.gz": gzip.compress(b"the directory's")})
    server = serve(f"Static /static/ {files}")
    with Client(server) as client:
        for _ in range(3):
            coded = client.get("/static/a.css", "Accept-Encoding: gzip")
            assert coded["Content-Encoding"] == "gzip"
            assert client.get("/static/page.html").body == b"a page"
        (files / "page.html").write_bytes(b"changed")
        assert client.get("/static/page.html").body == b"changed"
        settle(files / "page.html")
        assert client.get("/static/page.html").body == b"changed"
        (files / "page.html").unlink()
        assert client.get("/static/page.html").status == 404


def test_files_asked_for_the_first_time_are_filled_in(serve: Serve, side: Backend, files: Path) -> None:
    put(files, {f"{n}.js": b"x" * n for n in range(20)})
    server = serve(f"Static /static/ {files}")
    with Client(server) as client:
        for n in range(20):
            assert client.get(f"/static/{n}.js").body == b"x" * n
        for n in range(20):
            assert client.get(f"/{n}.js").status == 404
    if side.reactor.side == "compiled":
        assert sum(worker.reactor.counters().filled for worker in server._pool.workers) >= 30


def test_fallback_is_not_for_the_directory(serve: Serve, files: Path) -> None:
    server = serve(f"Static /static/ {files}", "Fallback /index.html")
    assert get(server, "/anything").body == b"index"
    assert get(server, "/static/anything").status == 404


def test_password_guards_the_directory(serve: Serve, files: Path, tmp_path: Path) -> None:
    bcrypt = pytest.importorskip("bcrypt")
    (tmp_path / "users").write_bytes(b"anna:" + bcrypt.hashpw(b"s3cret", bcrypt.gensalt(4)) + b"\n")
    server = serve(f"Static /static/ {files}", f"BasicAuth /static/deep/* {tmp_path}/users")
    assert get(server, "/static/deep/").status == 401
    assert get(server, "/static/deep/", "Authorization: Basic YW5uYTpzM2NyZXQ=").body == b"deep"
    assert get(server, "/static/a.css").status == 200


def test_password_file_inside_is_never_served(serve: Serve, files: Path, tmp_path: Path) -> None:
    pytest.importorskip("bcrypt")
    put(files, {"users": b""})
    server = serve(f"Static /static/ {files}", f"BasicAuth /private/* {files}/users")
    assert get(server, "/static/users").status == 404


# Beside applications


def test_directory_goes_before_the_application_of_a_shorter_path(serve: Serve, files: Path) -> None:
    server = serve(f"Static /app/static/ {files}", applications={"/": application, "/app": application})
    with Client(server) as client:
        for _ in range(3):
            assert client.get("/app/static/a.css").body == b"the directory's"
            assert client.get("/app/static/none.css").status == 404
            assert client.get("/app/static").body == b"GET /static"
            assert client.get("/a.css").body == b"GET /a.css"


def test_application_inside_a_directory_goes_before_it(serve: Serve, files: Path) -> None:
    server = serve(f"Static /static/ {files}", applications={"/static/deep": application})
    assert get(server, "/static/deep/").body == b"GET /"
    assert get(server, "/static/a.css").body == b"the directory's"


def test_files_first_serves_what_is_there(serve: Serve, files: Path, tmp_path: Path) -> None:
    put(tmp_path / "root", {"deep/index.html": b"deep"})
    server = serve("FilesFirst on", "DirectoryListing on", applications={"/": application})
    with Client(server) as client:
        for _ in range(3):
            assert client.get("/a.css").body == b"the root's"
            assert client.get("/").body == b"index"
            assert client.get("/deep/").body == b"deep"
            assert client.get("/deep").body == b"GET /deep"
            assert client.get("/static/").body == b"GET /static/"
            assert client.get("/none.css").body == b"GET /none.css"
            assert client.get("/a.css", method="POST", body=b"x").body == b"POST /a.css"
        (tmp_path / "root" / "a.css").unlink()
        assert client.get("/a.css").body == b"GET /a.css"


def test_files_first_is_asked_for_its_password_too(serve: Serve, files: Path, tmp_path: Path) -> None:
    bcrypt = pytest.importorskip("bcrypt")
    (tmp_path / "users").write_bytes(b"anna:" + bcrypt.hashpw(b"s3cret", bcrypt.gensalt(4)) + b"\n")
    server = serve("FilesFirst on", f"BasicAuth * {tmp_path}/users", applications={"/": application})
    right = "Authorization: Basic YW5uYTpzM2NyZXQ="
    for target, body in (("/a.css", b"the root's"), ("/x", b"GET /x")):
        assert get(server, target).status == 401
        assert get(server, target, right).body == body


# Limits by path


def test_body_limit_is_that_of_the_first_pattern(serve: Serve) -> None:
    server = serve(
        "MaxBodySize 10", "MaxBodySize 100 /up/*", "MaxBodySize 1 /up/load", applications={"/": application}
    )
    for target, most in (("/", 10), ("/up/load", 100), ("/u%70/x?y", 100), ("/upload", 10)):
        assert get(server, target, method="POST", body=b"x" * most).status == 200
        assert get(server, target, method="POST", body=b"x" * (most + 1)).status == 413
