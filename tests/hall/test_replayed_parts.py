"""Ranges and conditions of a published answer: what the compiled reactor replays is what Python answers."""

from __future__ import annotations

import dataclasses
import os
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from rawhttp import Client, Reply, put, request, wait_until
from test_reactor import BIG, BODY, DATE, ETAG, HEAD_304, PURE_ONLY, H, Rig, get, without_date

from fastws import Server, backend
from fastws.engine.answer import continue_answer
from fastws.files.identity import identity_of
from fastws.http import conditional, ranges
from fastws.http.errors import HTTPError
from fastws.http.messages import FileSlice
from fastws.seam import DONE, PARTIAL, READ, PartialSend

Serve = Callable[..., Server]

HEAD = b"HTTP/1.1 200 OK\r\nServer: s\r\nContent-Length: %d\r\nX-Length: Content-Length: 7\r\n"


def head_of_part(first: int, last: int, size: int) -> bytes:
    head = HEAD.replace(b"200 OK", b"206 Partial Content") % (last - first + 1)
    return head + b"Content-Range: bytes %d-%d/%d\r\n" % (first, last, size)


@pytest.fixture(scope="module")
def compiled() -> backend.Backend:
    if PURE_ONLY:
        pytest.skip("FASTWS_NO_EXTENSIONS=1: the compiled side was left out on purpose")
    return backend.load(pure=False, required=True)


@pytest.fixture
def hot(compiled: backend.Backend, tmp_path: Path) -> Iterator[Rig]:
    """A rig with one answer in memory, and one that is read from a file, /big."""
    made, path = Rig(compiled), tmp_path / "big"
    path.write_bytes(BIG)
    made.publish(head=HEAD % len(BODY), ranges=True)
    known = ((str(path), identity_of(os.stat(path))),)
    made.publish("/big", b"", head=HEAD % len(BIG), depends=known, body_file=0, ranges=True)
    yield made
    made.close()


SIZE = len(BODY)
PARTS = {
    "bytes=0-0": (0, 0),
    "bytes=1-3": (1, 3),
    "bytes=2-": (2, SIZE - 1),
    "bytes=-2": (SIZE - 2, SIZE - 1),
    f"bytes={SIZE - 1}-": (SIZE - 1, SIZE - 1),
    "bytes=0-999999999999999999": (0, SIZE - 1),
    "bytes=-999999999999999999": (0, SIZE - 1),
    "bytes=000000000000000001-0003": (1, 3),
}


@pytest.mark.parametrize("value", PARTS)
def test_range_is_answered_without_python(hot: Rig, value: str) -> None:
    first, last = PARTS[value]
    for lines in ((), (f"If-Range: {ETAG}",), (f"If-Range: {DATE}",)):
        assert hot.ask(get(H, f"range: {value}", *lines)) == []
        expected = head_of_part(first, last, SIZE) + b"\r\n" + BODY[first : last + 1]
        assert without_date(hot.received()) == expected
    counters = hot.reactor.counters()
    assert (counters.hits, counters.not_modified, counters.body_bytes) == (3, 0, 3 * (last - first + 1))
    line = f'"GET /page.txt HTTP/1.1" 206 {last - first + 1} '.encode()
    assert hot.reactor.take_log().count(line) == 3


@pytest.mark.parametrize(
    "value",
    [
        *(
            "bytes=",
            "bytes=-",
            "bytes=--1",
            "bytes=-0",
            "bytes=2-1",
            f"bytes={SIZE}-",
            f"bytes={SIZE}-{SIZE}",
        ),
        *(
            "bytes=0-0,2-2",
            "bytes=0-0,",
            " bytes=,0-0",
            "bytes=0 -1",
            "bytes= 0-1",
            "bytes=0-1 x",
            "bytes 0-1",
        ),
        *("Bytes=0-0", "lines=0-0", "byte=0-0", "bytes=a-b", "bytes=0-b", "bytes=+1-2", "bytes=1_0-", "0-1"),
        *(
            "bytes=0-9999999999999999999",
            "bytes=0000000000000000000-0",
            "bytes=-0000000000000000001",
            "bytes",
        ),
    ],
)
def test_range_that_needs_the_rules_is_left_to_python(hot: Rig, value: str) -> None:
    data = get(H, f"Range: {value}")
    assert hot.ask(data) == [(hot.owner, READ, data)]
    assert hot.received() == b""


@pytest.mark.parametrize(
    "line",
    ['If-Range: "another"', f"If-Range: W/{ETAG}", "If-Range: Sun, 06 Nov 1994 08:49:38 GMT", "If-Range:"],
)
def test_condition_that_is_not_the_answers_own_is_left_to_python(hot: Rig, line: str) -> None:
    data = get(H, "Range: bytes=0-1", line)
    assert hot.ask(data) == [(hot.owner, READ, data)]


def test_empty_condition_does_not_hold_where_there_is_no_date(hot: Rig) -> None:
    hot.publish("/undated", head=HEAD % SIZE, last_modified="", ranges=True)
    data = get(H, "Range: bytes=0-1", "If-Range:", target="/undated")
    assert hot.ask(data) == [(hot.owner, READ, data)]
    assert hot.ask(get(H, "Range: bytes=0-1", f"If-Range: {ETAG}", target="/undated")) == []


def test_conditions_of_another_kind_go_before_the_range(hot: Rig) -> None:
    assert hot.ask(get(H, "Range: bytes=0-1", f"If-None-Match: {ETAG}")) == []
    assert without_date(hot.received()) == HEAD_304 + b"\r\n"
    assert hot.ask(get(H, "Range: bytes=0-1", 'If-None-Match: "another"')) == []
    assert without_date(hot.received()) == head_of_part(0, 1, SIZE) + b"\r\n" + BODY[:2]
    data = get(H, "Range: bytes=0-1", "If-None-Match: *")
    assert hot.ask(data) == [(hot.owner, READ, data)]


def test_head_without_a_length_has_no_parts(hot: Rig) -> None:
    hot.publish("/odd", head=b"HTTP/1.1 200 OK\r\nX-Length: 8\r\n", ranges=True)
    data = get(H, "Range: bytes=0-1", target="/odd")
    assert hot.ask(data) == [(hot.owner, READ, data)]
    assert hot.ask(get(H, target="/odd")) == []


def test_two_ranges_fields_or_conditions_are_left_to_python(hot: Rig) -> None:
    for lines in (("Range: bytes=0-1",) * 2, ("Range: bytes=0-1", *(f"If-Range: {ETAG}",) * 2)):
        data = get(H, *lines)
        assert hot.ask(data) == [(hot.owner, READ, data)]


def test_parts_leave_in_their_order_with_whole_answers_between_them(hot: Rig) -> None:
    whole = HEAD % SIZE + b"\r\n" + BODY
    data, expected = b"", b""
    for number in range(100):
        first = number % SIZE
        data += get(H, f"Range: bytes={first}-{first}") + get(H)
        expected += head_of_part(first, first, SIZE) + b"\r\n" + BODY[first : first + 1] + whole
    assert hot.ask(data + get(H, "Range: bytes=0-0", "Connection: close")) == [(hot.owner, DONE, b"")]
    answers = re.sub(rb"Date: [^\r]*\r\n", b"", hot.received())
    assert answers == expected + head_of_part(0, 0, SIZE) + b"Connection: close\r\n\r\n" + BODY[:1]


def test_part_of_a_file_is_sent_from_it(hot: Rig) -> None:
    data = get(H, "Range: bytes=1000-1099", target="/big")
    assert hot.ask(data * 2 + get(H)) == []
    part = head_of_part(1000, 1099, len(BIG)) + b"\r\n" + BIG[1000:1100]
    answers = re.sub(rb"Date: [^\r]*\r\n", b"", hot.received())
    assert answers == part * 2 + HEAD % SIZE + b"\r\n" + BODY
    assert hot.reactor.counters().file_bytes == 200


def rest_of(hot: Rig, partial: PartialSend) -> bytes:
    """What Python would still send of the body."""
    answer = continue_answer(None, partial)
    (piece,) = answer.response.body
    rest = (
        os.pread(piece.file.fd, piece.length, piece.offset) if isinstance(piece, FileSlice) else bytes(piece)
    )
    answer.close()
    return rest


@pytest.mark.parametrize("target", ["/memory", "/big"])
def test_part_that_does_not_fit_the_socket_is_finished_by_python(
    hot: Rig, target: str, tmp_path: Path
) -> None:
    body = os.urandom(8 << 20)
    if target == "/memory":
        hot.publish(target, body=body, head=HEAD % len(body), ranges=True)
    else:
        (tmp_path / "big").write_bytes(body)
        known = ((str(tmp_path / "big"), identity_of(os.stat(tmp_path / "big"))),)
        hot.publish(target, b"", head=HEAD % len(body), depends=known, body_file=0, ranges=True)
    first, last = 1001, len(body) - 1002
    ask = get(H, f"Range: bytes={first}-{last}", target=target)
    ((owner, kind, partial),) = hot.ask(ask + get(H))
    assert (owner, kind) == (hot.owner, PARTIAL)
    assert (partial.request, partial.status, partial.rest, partial.head) == (ask, 206, get(H), b"")
    assert (partial.begin, partial.length) == (first, last - first + 1)
    sent = b""
    while piece := hot.received():
        sent += piece
    head, _, begun = sent.partition(b"\r\n\r\n")
    assert without_date(head + b"\r\n") == head_of_part(first, last, len(body))
    assert 0 < len(begun) == partial.offset < partial.length
    assert begun + rest_of(hot, partial) == body[first : last + 1]


def test_head_of_a_part_that_does_not_fit_is_finished_by_python(compiled: backend.Backend) -> None:
    """The pieces of such a head, which lie in many places, come as one."""
    hot = Rig(compiled)
    padding = b"X-Padding: " + b"x" * (1 << 20) + b"\r\n"
    head = HEAD.replace(b"X-Length", padding + b"X-Length") % SIZE
    hot.publish(head=head, ranges=True)
    expected = head.replace(b"200 OK", b"206 Partial Content").replace(
        b"Length: %d\r\n" % SIZE, b"Length: 3\r\n"
    )
    expected += b"Content-Range: bytes 1-3/%d\r\n" % SIZE
    ((_, kind, partial),) = hot.ask(get(H, "Range: bytes=1-3"))
    assert (kind, partial.offset) == (PARTIAL, 0)
    sent = b""
    while piece := hot.received():
        sent += piece
    assert without_date(sent + partial.head) == expected + b"\r\n"
    assert rest_of(hot, partial) == BODY[1:4]
    hot.close()


_NUMBERS = st.one_of(st.integers(0, 30), st.integers(0, 10**21)).map(str) | st.sampled_from(["", "007", "+1"])
_VALUES = st.builds("bytes={}-{}".format, _NUMBERS, _NUMBERS) | st.text("bytes=-,0129 \t", max_size=12)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=500, deadline=None)
@given(_VALUES, st.integers(0, 30))
@example("bytes=-1", 0)
@example("bytes=0-", 0)
@example("bytes=0-18446744073709551615", 20)
def test_what_is_replayed_is_what_the_rules_say(compiled: backend.Backend, value: str, size: int) -> None:
    body = bytes(range(size))
    hot = Rig(compiled)
    hot.publish(body=body, head=HEAD % size, ranges=True)
    found = hot.ask(get(H, f"Range: {value}"))
    answer = hot.received()
    hot.close()
    try:
        parts = ranges.parse_ranges(value.strip(" \t"), size)
    except HTTPError:
        parts = None
    if found:
        # Nothing that clients write is left to Python.
        assert not parts or len(parts) > 1 or not re.fullmatch("bytes=[0-9]{0,18}-[0-9]{0,18}", value)
        return
    assert parts is not None
    (part,) = parts
    last = part.first + part.length - 1
    assert (
        without_date(answer) == head_of_part(part.first, last, size) + b"\r\n" + body[part.first : last + 1]
    )


_TAGS = st.sampled_from(
    [ETAG, '"a"', 'W/"a"', f"W/{ETAG}", '""', "*", "a", '"', "W/", 'w/"a"', '"a b"', '"\xe9"', ""]
)
_LISTS = st.lists(_TAGS | st.text('W/"a*, ', max_size=5), min_size=1, max_size=2).map(", ".join)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=500, deadline=None)
@given(_LISTS)
def test_condition_is_decided_as_the_rules_say(compiled: backend.Backend, value: str) -> None:
    hot = Rig(compiled)
    hot.publish()
    found = hot.ask(get(H, f"If-None-Match: {value}"))
    status = hot.received()[9:12].decode()
    hot.close()
    expected = conditional.evaluate("GET", {"if-none-match": value.strip(" \t")}, ETAG, None, 0) or 200
    if found:
        # Nothing that clients write is left to Python.
        assert "," in value or not re.fullmatch(r'(W/)?"[a-z-]*"', value)
    else:
        assert status == str(expected)


# Over the wire


def replies(server: Server, target: str, *lines: str, times: int = 3) -> list[Reply]:
    """The answers to one request again and again, without their dates."""
    found = []
    with Client(server) as client:
        for _ in range(times):
            reply = client.get(target, *lines)
            fields = tuple(pair for pair in reply.fields if pair[0] != "Date")
            found.append(dataclasses.replace(reply, fields=fields))
    return found


@pytest.mark.parametrize("name", ["small.bin", "small.html", "large.bin", "large.html"])
def test_range_of_a_file_is_replayed_from_its_second_time_on(serve: Serve, tmp_path: Path, name: str) -> None:
    body = os.urandom(50_000 if name.startswith("small") else 300_000)
    root = put(tmp_path / "root", {name: body})
    os.utime(root / name, (1_000_000_000,) * 2)
    time.sleep(0.03)
    server = serve("WorkerThreads 1", root=root)
    lines = ("Range: bytes=40000-49000", "Accept-Encoding: identity;q=1, *;q=0")  # as Chromium asks for media
    found = replies(server, f"/{name}", *lines)
    assert (found[0].status, found[0].body) == (206, body[40_000:49_001])
    assert found == found[:1] * 3
    expected = (2, 1) if server._pool.workers[0].reactor.replays else (0, 3)
    wait_until(
        lambda: [(each.cache_hits, each.cache_misses) for each in server.worker_status()] == [expected]
    )
    whole = replies(server, f"/{name}", lines[1])[0]
    assert (whole.status, whole.body) == (200, body)
    assert {pair for pair in whole.fields if pair[0] not in ("Content-Length", "Content-Range")} == {
        pair for pair in found[0].fields if pair[0] not in ("Content-Length", "Content-Range")
    }


def test_range_of_what_is_published_compressed_is_one_of_the_plain_file(serve: Serve, tmp_path: Path) -> None:
    body = b"compressible " * 1000
    root = put(tmp_path / "root", {"page.html": body})
    os.utime(root / "page.html", (1_000_000_000,) * 2)
    time.sleep(0.03)
    server = serve("WorkerThreads 1", root=root)
    coded = "Accept-Encoding: gzip"
    with Client(server) as client:
        wait_until(lambda: client.get("/page.html", coded).all("Content-Encoding") == ["gzip"])
        for _ in range(3):
            reply = client.get("/page.html", coded, "Range: bytes=3-9")
            assert (reply.status, reply.body, reply.all("Content-Encoding")) == (206, body[3:10], [])


def test_slow_reader_gets_all_of_a_replayed_part(serve: Serve, tmp_path: Path) -> None:
    size = 8 << 20
    body = os.urandom(size)
    server = serve("CacheMaxFile 16M", "WorkerThreads 1", root=put(tmp_path / "root", {"big.bin": body}))
    for _ in range(3):
        with Client(server, receive_buffer=4096) as client:
            client.send(
                request("/big.bin", f"Range: bytes=7-{size - 8}", "User-Agent: slow") + request("/missing")
            )
            reply = client.reply()
            assert (reply.status, reply.body) == (206, body[7:-7])
            assert client.reply().status == 404
    server.stop()
    lines = Path(server.config.access_log).read_text().splitlines()
    ends = [line.split('"', 2)[2] for line in lines if "big.bin" in line]
    assert ends == [f' 206 {size - 14} "-" "slow"'] * 3
