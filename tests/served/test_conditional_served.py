"""Preconditions over the wire, cold and replayed, with werkzeug and h11 as oracles."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import h11
import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rawhttp import Client, get, put, request, settle, thrice
from werkzeug.http import is_resource_modified

from fastws import Server
from fastws.http.httpdate import format_http_date

Serve = Callable[..., Server]

BODY = b"the body"
DATE = 1_700_000_000


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = put(tmp_path / "root", {"page.txt": BODY})
    os.utime(root / "page.txt", (DATE, DATE))
    settle(root / "page.txt")
    return root


TAGS = ["{tag}", "W/{tag}", '"other"', 'W/"other"', '"a", {tag}', '"a",, "b"', '"a", W/{tag}']
DATES = [format_http_date(DATE + offset) for offset in (-1, 0, 1)]


@pytest.mark.parametrize(
    ("lines", "status"),
    [
        (["If-None-Match: {tag}"], 304),
        (["If-None-Match: W/{tag}"], 304),
        (['If-None-Match: "a", {tag}'], 304),
        (["If-None-Match: *"], 304),
        (['If-None-Match: "other"'], 200),
        ([f"If-Modified-Since: {DATES[0]}"], 200),
        ([f"If-Modified-Since: {DATES[1]}"], 304),
        ([f"If-Modified-Since: {DATES[2]}"], 304),
        (["If-Modified-Since: Sunday, 06-Nov-94 08:49:37 GMT"], 200),
        # section 13.2.2: the tag decides, the date is not looked at
        (['If-None-Match: "other"', f"If-Modified-Since: {DATES[1]}"], 200),
        (["If-None-Match: {tag}", f"If-Modified-Since: {DATES[0]}"], 304),
        (["If-Match: {tag}"], 200),
        (["If-Match: W/{tag}"], 412),
        (['If-Match: "other"'], 412),
        (["If-Match: *"], 200),
        ([f"If-Unmodified-Since: {DATES[0]}"], 412),
        ([f"If-Unmodified-Since: {DATES[1]}"], 200),
        (["If-Match: {tag}", f"If-Unmodified-Since: {DATES[0]}"], 200),
        (["If-Match: {tag}", "If-None-Match: {tag}"], 304),
        (['If-Match: "other"', "If-None-Match: {tag}"], 412),
    ],
)
def test_preconditions_are_taken_in_their_order(
    serve: Serve, root: Path, lines: list[str], status: int
) -> None:
    server = serve()
    tag = thrice(server, "/page.txt")["ETag"]
    lines = [line.replace("{tag}", tag) for line in lines]
    for method in ("GET", "HEAD"):
        reply = thrice(server, "/page.txt", *lines, method=method)
        assert reply.status == status
        if status == 304:
            assert reply["ETag"] == tag
            assert reply.all("Content-Type") == reply.all("Content-Length") == []


_running: dict[int, tuple[Server, str]] = {}


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    none_match=st.none() | st.sampled_from(TAGS),
    since=st.none() | st.sampled_from(DATES),
)
def test_304_is_where_werkzeug_sees_nothing_modified(
    serve: Serve, root: Path, none_match: str | None, since: str | None
) -> None:
    if id(serve) not in _running:
        _running.clear()
        server = serve()
        _running[id(serve)] = server, get(server, "/page.txt")["ETag"]
    server, tag = _running[id(serve)]
    environ, lines = {"REQUEST_METHOD": "GET"}, []
    if none_match is not None:
        value = none_match.replace("{tag}", tag)
        environ["HTTP_IF_NONE_MATCH"] = value
        lines.append(f"If-None-Match: {value}")
    if since is not None:
        environ["HTTP_IF_MODIFIED_SINCE"] = since
        lines.append(f"If-Modified-Since: {since}")
    if none_match is not None:
        # werkzeug lets either field decide; section 13.1.3 has the date ignored beside a tag.
        environ.pop("HTTP_IF_MODIFIED_SINCE", None)
    modified = is_resource_modified(
        environ, etag=tag.strip('"'), last_modified=datetime.fromtimestamp(DATE, UTC)
    )
    assert get(server, "/page.txt", *lines).status == (200 if modified else 304)


@pytest.mark.parametrize("lines", [[], ["If-None-Match: {tag}"], ["Range: bytes=1-2"], ['If-Match: "x"']])
def test_every_answer_is_one_that_h11_reads(serve: Serve, root: Path, lines: list[str]) -> None:
    server = serve()
    tag = get(server, "/page.txt")["ETag"]
    with Client(server) as client:
        for _ in range(3):
            oracle = h11.Connection(h11.CLIENT)
            oracle.send(h11.Request(method="GET", target="/page.txt", headers=[("Host", "localhost")]))
            oracle.send(h11.EndOfMessage())
            client.send(request("/page.txt", *[line.replace("{tag}", tag) for line in lines]))
            while (event := oracle.next_event()) is not None and not isinstance(event, h11.EndOfMessage):
                if event is h11.NEED_DATA:
                    oracle.receive_data(client.sock.recv(65536))
            assert oracle.our_state is h11.DONE
            assert oracle.their_state is h11.DONE


@pytest.mark.parametrize("mtime", [0, 1, time.time() + 86400], ids=["0", "1", "tomorrow"])
def test_implausible_time_suppresses_last_modified_alone(serve: Serve, root: Path, mtime: float) -> None:
    os.utime(root / "page.txt", (mtime, mtime))
    server = serve()
    reply = thrice(server, "/page.txt")
    assert reply.all("Last-Modified") == []
    assert thrice(server, "/page.txt", f"If-None-Match: {reply['ETag']}").status == 304
    assert thrice(server, "/page.txt", f"If-Modified-Since: {format_http_date(int(mtime))}").status == 200


def test_time_within_the_present_second_is_held_back(serve: Serve, root: Path) -> None:
    server = serve()
    held_back = 0
    with Client(server) as client:
        for number in range(20):
            before = int(time.time())
            (root / "page.txt").write_bytes(b"version %d" % number)
            reply = client.get("/page.txt")
            assert reply.body == b"version %d" % number
            if int(time.time()) == before:
                held_back += 1
                assert reply.all("Last-Modified") == []
    assert held_back


def test_time_that_was_held_back_is_sent_when_it_is_past(serve: Serve, root: Path) -> None:
    server = serve()
    (root / "page.txt").write_bytes(BODY)
    second = int(os.stat(root / "page.txt").st_mtime)
    with Client(server) as client:
        while int(time.time()) <= second:
            client.get("/page.txt")  # never kept as the answer for good
        assert client.get("/page.txt")["Last-Modified"] == format_http_date(second)
        assert client.get("/page.txt")["Last-Modified"] == format_http_date(second)


def test_httpx_revalidates(serve: Serve, root: Path) -> None:
    with httpx.Client(base_url=serve().url) as client:
        first = client.get("/page.txt")
        again = client.get("/page.txt", headers={"If-None-Match": first.headers["ETag"]})
        assert (again.status_code, again.content) == (304, b"")
        assert again.headers["Cache-Control"] == first.headers["Cache-Control"] == "no-cache"
