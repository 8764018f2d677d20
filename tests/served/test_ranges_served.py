"""Ranges over the wire: from memory and from the file, against werkzeug, by curl and in Chromium."""

from __future__ import annotations

import email
import os
import random
import re
import shutil
import subprocess
from collections.abc import Callable
from email.policy import HTTP
from pathlib import Path

import browser
import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rawhttp import Client, Reply, get, put, settle, thrice
from selenium import webdriver
from werkzeug.http import parse_range_header

from fastws import Server

Serve = Callable[..., Server]

SIZE = 3000
DATA = random.Random(1).randbytes(SIZE)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return put(tmp_path / "root", {"data.bin": DATA, "empty.bin": b""})


@pytest.fixture(params=["memory", "file"])
def server(serve: Serve, root: Path, request: pytest.FixtureRequest) -> Server:
    return serve(cache_max_file_bytes=1 << 20 if request.param == "memory" else 100)


def parts(reply: Reply) -> list[tuple[str, str, bytes]]:
    """(Content-Type, Content-Range, bytes) of each part, as the standard library's MIME parser reads them."""
    head = f"Content-Type: {reply['Content-Type']}\r\n\r\n".encode()
    message = email.message_from_bytes(head + reply.body, policy=HTTP)
    assert message.is_multipart()
    assert not message.defects
    boundary = message.get_boundary()
    bodies = re.split(rb"\r\n--%s(?:--)?\r\n" % str(boundary).encode(), reply.body)[1:-1]
    payloads = [body.partition(b"\r\n\r\n")[2] for body in bodies]
    return [
        (part["Content-Type"], part["Content-Range"], payload)
        for part, payload in zip(message.iter_parts(), payloads, strict=True)
    ]


@pytest.mark.parametrize(
    ("value", "first", "last"),
    [
        ("bytes=0-0", 0, 0),
        ("bytes=0-", 0, SIZE - 1),
        ("bytes=2999-", SIZE - 1, SIZE - 1),
        ("bytes=-1", SIZE - 1, SIZE - 1),
        ("bytes=-5000", 0, SIZE - 1),
        ("bytes=10-99999", 10, SIZE - 1),
        ("bytes=5-9,8-20", 5, 20),
        ("bytes=0-4,5-9", 0, 9),
    ],
)
def test_one_range_is_206_with_its_bytes(server: Server, value: str, first: int, last: int) -> None:
    reply = thrice(server, "/data.bin", f"Range: {value}")
    assert reply.status == 206
    assert reply["Content-Range"] == f"bytes {first}-{last}/{SIZE}"
    assert reply.body == DATA[first : last + 1]
    assert reply["ETag"] == get(server, "/data.bin")["ETag"]


def test_several_ranges_are_parts_in_the_order_asked_for(server: Server) -> None:
    with Client(server) as client:
        reply = client.get("/data.bin", "Range: bytes=2000-2009, 0-0, -3")
        assert reply.status == 206
        assert reply.all("Content-Range") == []
        assert parts(reply) == [
            ("application/octet-stream", f"bytes 2000-2009/{SIZE}", DATA[2000:2010]),
            ("application/octet-stream", f"bytes 0-0/{SIZE}", DATA[:1]),
            ("application/octet-stream", f"bytes 2997-2999/{SIZE}", DATA[-3:]),
        ]
        assert client.get("/data.bin").body == DATA  # the framing is right: the next answer is in its place


def test_a_hundred_ranges_are_served_and_one_more_is_200(server: Server) -> None:
    for count, status in ((100, 206), (101, 200)):
        ranges = ",".join(f"{first}-{first}" for first in range(0, 3 * count, 3))
        reply = get(server, "/data.bin", f"Range: bytes={ranges}")
        assert reply.status == status
        if status == 206:
            assert [body for _, _, body in parts(reply)] == [DATA[i : i + 1] for i in range(0, 300, 3)]


@pytest.mark.parametrize("value", ["bytes=3000-", "bytes=-0", "bytes=99999999999999999999999-"])
def test_unsatisfiable_range_is_416(server: Server, value: str) -> None:
    reply = get(server, "/data.bin", f"Range: {value}")
    assert (reply.status, reply["Content-Range"]) == (416, f"bytes */{SIZE}")


@pytest.mark.parametrize(
    "value", ["bytes=5-4", "bytes=a-b", "bytes=", "bytes=1-2,x", "lines=1-2", "bytes 1-2"]
)
def test_field_that_makes_no_sense_is_ignored(server: Server, value: str) -> None:
    reply = thrice(server, "/data.bin", f"Range: {value}")
    assert (reply.status, reply.body) == (200, DATA)


def test_head_and_post_know_no_ranges(server: Server) -> None:
    reply = get(server, "/data.bin", "Range: bytes=0-0", method="HEAD")
    assert (reply.status, reply["Content-Length"]) == (200, str(SIZE))


def test_if_range_decides_between_part_and_all(server: Server) -> None:
    whole = get(server, "/data.bin")
    tag, date = whole["ETag"], whole["Last-Modified"]
    cases = [
        (tag, 206),
        (date, 206),
        (f"W/{tag}", 200),
        ('"other"', 200),
        ("Sun, 06 Nov 1994 08:49:37 GMT", 200),
        ("nonsense", 200),
    ]
    for value, status in cases:
        reply = thrice(server, "/data.bin", "Range: bytes=1-3", f"If-Range: {value}")
        assert (reply.status, reply.body) == (status, DATA[1:4] if status == 206 else DATA)


def test_preconditions_go_before_ranges(server: Server) -> None:
    tag = get(server, "/data.bin")["ETag"]
    assert get(server, "/data.bin", "Range: bytes=0-0", f"If-None-Match: {tag}").status == 304
    assert get(server, "/data.bin", "Range: bytes=9999-", 'If-Match: "other"').status == 412


@pytest.mark.parametrize("value", ["bytes=0-", "bytes=0-0", "bytes=0-1048575", "bytes=-1", "bytes=0-0,2-3"])
def test_range_of_an_empty_file_is_all_of_it(server: Server, value: str) -> None:
    reply = thrice(server, "/empty.bin", f"Range: {value}")
    assert (reply.status, reply.body, reply["Content-Length"]) == (200, b"", "0")


BOUND = st.one_of(st.just(""), st.integers(0, SIZE + 50).map(str))
SPEC = st.tuples(BOUND, BOUND).map("-".join)
_servers: dict[int, Server] = {}


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(specs=st.lists(SPEC, min_size=1, max_size=4))
def test_bytes_are_those_that_werkzeug_reads_in_the_field(serve: Serve, root: Path, specs: list[str]) -> None:
    if id(serve) not in _servers:
        _servers.clear()
        _servers[id(serve)] = serve()
    value = "bytes=" + ",".join(specs)
    reply = get(_servers[id(serve)], "/data.bin", f"Range: {value}")
    oracle = parse_range_header(value)
    if oracle is None:
        # werkzeug refuses, beside what is malformed, ranges that go backwards or follow a suffix.
        assert reply.status in (200, 206, 416)
        return
    wanted: set[int] = set()
    for first, stop in oracle.ranges:
        begin = max(SIZE + first, 0) if first < 0 else first
        wanted.update(range(begin, min(SIZE, SIZE if stop is None else stop)))
    if not wanted:
        assert reply.status == 416
        return
    assert reply.status == 206
    served: dict[int, int] = {}
    pieces = (
        parts(reply)
        if reply["Content-Type"].startswith("multipart")
        else [("", reply["Content-Range"], reply.body)]
    )
    for _, content_range, body in pieces:
        match = re.fullmatch(rf"bytes (\d+)-(\d+)/{SIZE}", content_range)
        assert match
        assert len(body) == int(match[2]) - int(match[1]) + 1
        for position, byte in enumerate(body, int(match[1])):
            assert position not in served  # no byte is sent twice
            served[position] = byte
    assert served == {position: DATA[position] for position in wanted}


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
@pytest.mark.plain
def test_curl_resumes_a_download(server: Server, tmp_path: Path) -> None:
    half = tmp_path / "half.bin"
    half.write_bytes(DATA[:1234])
    command = ["curl", "-sS", "--fail", "-C", "-", "-o", str(half), f"{server.url}data.bin"]
    subprocess.run(command, check=True, timeout=20)
    assert half.read_bytes() == DATA


@pytest.mark.plain
def test_httpx_reads_a_range(server: Server) -> None:
    with httpx.Client() as client:
        answer = client.get(f"{server.url}data.bin", headers={"Range": "bytes=100-199"})
        assert (answer.status_code, answer.content) == (206, DATA[100:200])


def test_range_of_a_huge_file_is_read_where_it_lies(serve: Serve, root: Path) -> None:
    offset = 5 << 30
    with (root / "huge.bin").open("wb") as file:
        os.truncate(file.fileno(), offset + 100)
        os.pwrite(file.fileno(), b"needle", offset)
    os.utime(root / "huge.bin", (1_600_000_000, 1_600_000_000))  # Last-Modified holds back the present second
    settle(root / "huge.bin")
    reply = thrice(serve(), "/huge.bin", f"Range: bytes={offset}-{offset + 5}")
    assert reply.body == b"needle"
    assert reply["Content-Range"] == f"bytes {offset}-{offset + 5}/{offset + 100}"


def _wave(seconds: int) -> bytes:
    """A WAV file: 8-bit mono at 8000 Hz, silence."""
    rate = 8000
    size = rate * seconds
    numbers = [(16, 4), (1, 2), (1, 2), (rate, 4), (rate, 4), (1, 2), (8, 2)]
    form = b"".join(number.to_bytes(width, "little") for number, width in numbers)
    return (
        b"".join(
            (
                b"RIFF",
                (36 + size).to_bytes(4, "little"),
                b"WAVEfmt ",
                form,
                b"data",
                size.to_bytes(4, "little"),
            )
        )
        + b"\x80" * size
    )


@pytest.mark.browser
@pytest.mark.plain
def test_chromium_seeks_in_a_media_file(
    serve: Serve, root: Path, driver: webdriver.Chrome, tmp_path: Path
) -> None:
    put(
        root,
        {
            "long.wav": _wave(3600),
            "player.html": b"<!DOCTYPE html><audio src=long.wav preload=metadata></audio>",
        },
    )
    access_log = tmp_path / "access.txt"
    server = serve("ContentType .wav audio/wav", "ContentType .html text/html", access_log=str(access_log))
    browser.open_page(driver, f"{server.url}player.html")
    browser.wait_for(driver, "document.querySelector('audio').readyState >= 1")
    driver.execute_script(
        "const a = document.querySelector('audio'); a.onseeked = () => { window.sought = a.currentTime };"
        "a.currentTime = 3000"
    )
    browser.wait_for(driver, "window.sought === 3000")
    assert driver.execute_script("return document.querySelector('audio').duration") == 3600
    driver.get("about:blank")
    server.stop()
    statuses = re.findall(r'"GET /long\.wav HTTP/1\.1" (\d+)', access_log.read_text())
    assert statuses.count("206") >= 2, statuses
