"""The parser by itself: every corpus case whole, byte by byte and with trailing data; limits; response heads."""

from __future__ import annotations

import json
import re

import pytest
from corpus import (
    LIMITS,
    Case,
    Refusal,
    bytewise,
    invalid_cases,
    judge,
    outcome,
    read_body,
    read_head,
    valid_cases,
)

from fastws import backend
from fastws.h1.given import CONNECTIONS
from fastws.http.errors import HTTPError
from fastws.http.messages import Fields, Limits, Request
from fastws.seam import AccessLine

HOST = b"Host: a.example\r\n"
TRAILING = b"GET /next HTTP/1.1\r\nHost: b.example\r\n\r\n"


def head_of(case: Case) -> bytes:
    """Return the case without its body."""
    end = case.data.find(b"\r\n\r\n", 2)
    return case.data[: end + 4]


BODIES = {
    "chunked_two_chunks": b"abcde0123456789",
    "chunked_upper_case_coding": b"a",
    "chunked_coding_after_tab": b"a",
    "chunked_sizes_in_either_case_with_zeros": b"01234567890123456789\n",
    "chunked_extensions": b"xy",
    "chunked_extensions_quoted": b"x",
    "chunked_body_that_looks_like_chunks": b"0\r\n\r\n",
    "chunked_trailers": b"a",
    "chunked_empty": b"",
}


def body_of(case: Case) -> bytes:
    return BODIES[case.name] if "chunked" in case.name else case.data[len(head_of(case)) :]


def request_line_of(size: int) -> bytes:
    line = b"GET /%s HTTP/1.1"
    return line.replace(b"%s", b"a" * (size - len(line) + 2))


def head_of_size(size: int) -> bytes:
    head = b"GET / HTTP/1.1\r\n" + HOST + b"X: %s\r\n\r\n"
    return head.replace(b"%s", b"a" * (size - len(head) + 2))


def head_with_fields(count: int) -> bytes:
    lines = b"".join(b"X-%d: %d\r\n" % (i, i) for i in range(count - 1))
    return b"GET / HTTP/1.1\r\n" + HOST + lines + b"\r\n"


def status_of(parser: backend.Parser, pieces: list[bytes], limits: Limits = LIMITS) -> int:
    """Return the status of the refusal; 0: accepted, -1: the head stays open."""
    found = outcome(parser, pieces, limits)
    if found is None:
        return -1
    return found.status if isinstance(found, Refusal) else 0


# The corpus


@pytest.mark.parametrize("case", valid_cases(), ids=str)
def test_valid_case_is_accepted_whole_and_bytewise(side: backend.Backend, case: Case) -> None:
    assert judge(side.parser, [case.data]) == 0
    assert judge(side.parser, bytewise(case.data)) == 0


@pytest.mark.parametrize("case", valid_cases(), ids=str)
def test_a_valid_case_leaves_what_follows_it_alone(side: backend.Backend, case: Case) -> None:
    for pieces in ([case.data + TRAILING], bytewise(case.data + TRAILING)):
        stream = iter(pieces)
        found = read_head(side.parser, stream)
        assert found is not None
        assert read_body(found[0], [found[1], *stream]) == (body_of(case), TRAILING)


@pytest.mark.parametrize("case", valid_cases(), ids=str)
def test_head_is_the_same_whole_bytewise_and_with_trailing_data(side: backend.Backend, case: Case) -> None:
    head = head_of(case)
    request = outcome(side.parser, [head])
    assert isinstance(request, Request)
    assert request.size == len(head)
    assert outcome(side.parser, bytewise(head)) == request
    assert read_head(side.parser, [head + TRAILING]) == (request, TRAILING)
    assert read_head(side.parser, [head + b"\x00\xff\n\r"]) == (request, b"\x00\xff\n\r")


@pytest.mark.parametrize("case", valid_cases(), ids=str)
def test_every_proper_prefix_of_a_valid_head_needs_more(side: backend.Backend, case: Case) -> None:
    head = head_of(case)
    step = max(1, len(head) // 500)
    assert all(outcome(side.parser, [head[:size]]) is None for size in range(0, len(head), step))
    assert outcome(side.parser, [head[:-1]]) is None


@pytest.mark.parametrize("case", valid_cases(), ids=str)
def test_head_is_found_anywhere_in_the_buffer(side: backend.Backend, case: Case) -> None:
    head = head_of(case)
    whole = side.parser.parse_request(head, 0, 0, LIMITS)
    for before in (b"x", b"\r", b"\r\n\r\n", b"\n" * 33):
        data = before + head + TRAILING
        assert side.parser.parse_request(data, len(before), 0, LIMITS) == whole
        assert side.parser.parse_request(data, len(before), len(before) + 1, LIMITS) == whole


@pytest.mark.parametrize("case", invalid_cases(), ids=str)
def test_invalid_case_is_refused_with_its_status(side: backend.Backend, case: Case) -> None:
    assert judge(side.parser, [case.data]) == case.status


@pytest.mark.parametrize("case", invalid_cases(), ids=str)
def test_invalid_case_is_refused_with_the_same_status_bytewise(side: backend.Backend, case: Case) -> None:
    assert judge(side.parser, bytewise(case.data)) == case.status


@pytest.mark.parametrize("case", invalid_cases(), ids=str)
def test_what_follows_a_refused_head_does_not_change_its_status(side: backend.Backend, case: Case) -> None:
    found = outcome(side.parser, [case.data])
    if isinstance(found, Refusal):
        trailing = outcome(side.parser, [case.data + TRAILING])
        assert isinstance(trailing, Refusal)
        assert trailing.status == found.status


@pytest.mark.parametrize("case", invalid_cases(), ids=str)
def test_a_refusal_of_the_parser_closes_the_connection(side: backend.Backend, case: Case) -> None:
    found = outcome(side.parser, [case.data])
    assert not isinstance(found, Refusal) or found.close


# What a request becomes


def test_request_has_method_target_version_fields_and_size(side: backend.Backend) -> None:
    data = b"POST /a?b HTTP/1.0\r\nHost:  a.example \r\nX-Empty:\r\nx-Name:\tv \t w\t\r\n\r\nbody"
    request = side.parser.parse_request(data, 0, 0, LIMITS)
    assert request == Request(
        "POST", "/a?b", "HTTP/1.0", {"host": "a.example", "x-empty": "", "x-name": "v \t w"}, len(data) - 4
    )


def test_size_counts_the_empty_line_before_the_request(side: backend.Backend) -> None:
    request = side.parser.parse_request(b"\r\nGET / HTTP/1.0\r\n\r\n", 0, 0, LIMITS)
    assert request is not None
    assert (request.method, request.size) == ("GET", 20)


def test_repeated_fields_are_joined_in_order_at_the_first_ones_place(side: backend.Backend) -> None:
    data = b"GET / HTTP/1.1\r\nA: 1\r\nB: x\r\na: 2\r\nC: y\r\nA:\r\nA: 4\r\n\r\n"
    request = side.parser.parse_request(data, 0, 0, LIMITS)
    assert request is not None
    assert list(request.fields.items()) == [("a", "1, 2, , 4"), ("b", "x"), ("c", "y")]


def test_values_are_decoded_as_iso_8859_1(side: backend.Backend) -> None:
    octets = bytes([9, *range(0x21, 0x7F), *range(0x80, 0x100)])
    request = side.parser.parse_request(b"GET / HTTP/1.1\r\nX: .%b.\r\n\r\n" % octets, 0, 0, LIMITS)
    assert request is not None
    assert request.fields["x"] == f".{octets.decode('latin-1')}."


@pytest.mark.parametrize("length", range(70))
def test_values_of_every_length_survive_the_vector_loop(side: backend.Backend, length: int) -> None:
    for last in (b"", b"\xe9", b"~"):
        value = (b"0123456789" * 8)[:length] + last
        data = b"GET /%b HTTP/1.1\r\nX: %b\r\n\r\n" % (value.replace(b"\xe9", b"e"), value)
        request = side.parser.parse_request(data, 0, 0, LIMITS)
        assert request is not None
        assert request.target == "/" + value.decode("latin-1").replace("\xe9", "e")
        assert request.fields == {"x": value.decode("latin-1")}


def _accepted(side: backend.Backend, template: bytes) -> set[int]:
    """Return the octets that the parser accepts in the place of ``%c``."""
    return {
        octet
        for octet in range(256)
        if status_of(side.parser, [template.replace(b"%c", bytes((octet,)))]) == 0
    }


TOKEN_OCTETS = set(b"!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz")


@pytest.mark.parametrize("before", [0, 1, 14, 15, 16, 17, 31])
def test_octets_accepted_in_each_place_are_the_grammars(side: backend.Backend, before: int) -> None:
    pad = b"p" * before
    assert _accepted(side, b"M%c / HTTP/1.1\r\n\r\n") == TOKEN_OCTETS
    assert _accepted(side, b"GET /" + pad + b"%cxx HTTP/1.1\r\n\r\n") == set(range(0x21, 0x7F))
    assert _accepted(side, b"GET / HTTP/1.1\r\n" + pad + b"n%cn: v\r\n\r\n") == TOKEN_OCTETS | {ord(":")}
    values = {9, *range(0x20, 0x7F), *range(0x80, 0x100)}
    assert _accepted(side, b"GET / HTTP/1.1\r\nN: " + pad + b"%cv\r\n\r\n") == values
    assert _accepted(side, b"GET / HTTP/%c.1\r\n\r\n") == set(b"0123456789")
    assert _accepted(side, b"GET / HTTP/1.%c\r\n\r\n") == set(b"0123456789")


# Limits

LIMIT_ROWS = [
    (request_line_of(8192) + b"\r\n" + HOST + b"\r\n", 0),
    (request_line_of(8193) + b"\r\n" + HOST + b"\r\n", 414),
    (b"\r\n" + request_line_of(8192) + b"\r\n" + HOST + b"\r\n", 0),
    (b"\r\n" + request_line_of(8193) + b"\r\n" + HOST + b"\r\n", 414),
    (head_of_size(16384), 0),
    (head_of_size(16385), 431),
    (b"\r\n" + head_of_size(16382), 0),
    (b"\r\n" + head_of_size(16383), 431),
    (head_with_fields(100), 0),
    (head_with_fields(101), 431),
]


@pytest.mark.parametrize(("data", "status"), LIMIT_ROWS)
def test_limits_hold_exactly_whole_and_bytewise(side: backend.Backend, data: bytes, status: int) -> None:
    assert status_of(side.parser, [data]) == status
    assert status_of(side.parser, bytewise(data)) == status
    assert status_of(side.parser, [data + TRAILING]) == status
    assert status_of(side.parser, [data[:-1], data[-1:]]) == status


def test_a_request_line_is_refused_as_soon_as_it_is_too_long(side: backend.Backend) -> None:
    line = request_line_of(9000)
    assert status_of(side.parser, [line[:8192]]) == -1
    assert status_of(side.parser, [line[:8192] + b"\r"]) == -1
    assert status_of(side.parser, [line[:8193]]) == 414
    assert status_of(side.parser, [line[:8192], line[8192:8193]]) == 414


def test_a_head_is_refused_as_soon_as_it_is_too_large(side: backend.Backend) -> None:
    head = head_of_size(20000)
    assert status_of(side.parser, [head[:16383]]) == -1
    assert status_of(side.parser, [head[:16384]]) == 431
    assert status_of(side.parser, [head[:16383], head[16383:16384]]) == 431


@pytest.mark.parametrize(
    ("limits", "data", "status"),
    [
        (Limits(request_line_bytes=14), b"GET / HTTP/1.0\r\n\r\n", 0),
        (Limits(request_line_bytes=13), b"GET / HTTP/1.0\r\n\r\n", 414),
        (Limits(head_bytes=24, request_line_bytes=14), b"GET / HTTP/1.0\r\nX: 1\r\n\r\n", 0),
        (Limits(head_bytes=23, request_line_bytes=14), b"GET / HTTP/1.0\r\nX: 1\r\n\r\n", 431),
        (Limits(field_count=1), b"GET / HTTP/1.0\r\nX: 1\r\n\r\n", 0),
        (Limits(field_count=0), b"GET / HTTP/1.0\r\nX: 1\r\n\r\n", 431),
        (Limits(field_count=0), b"GET / HTTP/1.0\r\n\r\n", 0),
    ],
)
def test_limits_are_the_callers(side: backend.Backend, limits: Limits, data: bytes, status: int) -> None:
    assert status_of(side.parser, [data], limits) == status
    assert status_of(side.parser, bytewise(data), limits) == status


def test_a_trickling_head_is_not_searched_again_and_again(side: backend.Backend) -> None:
    """The head's end is looked for only in what is new: what was scanned before is not read as one."""
    data = b"GET / HTTP/1.1\r\nX: 1\r\n\r\n"
    assert side.parser.parse_request(data + b"y", 0, len(data) + 1, LIMITS) is None


# Response heads

HEADS: list[tuple[int, Fields, bytes]] = [
    (200, (), b"HTTP/1.1 200 OK\r\n"),
    (206, (("A", "b"),), b"HTTP/1.1 206 Partial Content\r\nA: b\r\n"),
    (404, (("A", ""), ("A", "b\tc d")), b"HTTP/1.1 404 Not Found\r\nA: \r\nA: b\tc d\r\n"),
    (200, (("X", "\x80\xe9\xff"),), b"HTTP/1.1 200 OK\r\nX: \x80\xe9\xff\r\n"),
]


@pytest.mark.parametrize(("status", "fields", "head"), HEADS)
def test_head_is_status_line_and_field_lines(
    side: backend.Backend, status: int, fields: Fields, head: bytes
) -> None:
    assert side.parser.build_head(status, fields) == head


@pytest.mark.parametrize("status", [0, 99, 199, 299, 600, 999, -1])
def test_an_unknown_status_is_a_key_error(side: backend.Backend, status: int) -> None:
    with pytest.raises(KeyError):
        side.parser.build_head(status, ())


SERVER = (("Server", "s"), ("X-A", "ours"))
START, OURS = b"HTTP/1.1 200 OK\r\n", b"Server: s\r\nX-A: ours\r\n"
GIVEN = [
    ("200 OK", [], (200, START + OURS, None, False)),
    ("200", [("x-a", " b ")], (200, START + b"x-a: b\r\nServer: s\r\n", None, False)),
    (
        "599 \xe9",
        [("SERVER", ""), ("X-A", "")],
        (599, b"HTTP/1.1 599 \xe9\r\nSERVER: \r\nX-A: \r\n", None, False),
    ),
    (
        "404 Not",
        [*SERVER, ("cONTENT-lENGTH", "012"), ("X-a", "c")],
        (404, b"HTTP/1.1 404 Not\r\n" + OURS + b"X-a: c\r\n", 12, False),
    ),
    ("200 OK", [("Date", "d"), *SERVER], (200, START + b"Date: d\r\n" + OURS, None, True)),
    ("200 OK", [list(pair) for pair in SERVER], (200, START + OURS, None, False)),
    ("200 OK", [("A", "b")] * 100 + [*SERVER], (200, START + b"A: b\r\n" * 100 + OURS, None, False)),
]


@pytest.mark.parametrize("number", range(len(GIVEN)))
def test_given_head_becomes_lines_with_what_it_lacks(side: backend.Backend, number: int) -> None:
    status, fields, expected = GIVEN[number]
    assert side.parser.check_given(status, fields, SERVER) == expected  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("status", "fields", "error"),
    [
        ("OK", [], "status line"),
        ("199 X", [], "status line"),
        ("600 X", [], "status line"),
        ("200OK", [], "status line"),
        (200, [], "status line"),
        (b"200 OK", [], "status line"),
        ("200 O\nK", [], "status line"),
        ("200 \u20ac", [], "status line"),
        ("200 OK", [("A", "b\r\nc")], "a character that no field may have"),
        ("200 OK", [("A:", "b")], "a character that no field may have"),
        ("200 OK", [("", "b")], "a character that no field may have"),
        ("200 OK", [("A", "\u0100")], "a character that no field may have"),
        *[("200 OK", [(name.title(), "b")], "server's business") for name in sorted(CONNECTIONS)],
        ("200 OK", [("Content-Length", "1"), ("content-length", "1")], "one decimal number"),
        ("200 OK", [("Content-Length", "x")], "one decimal number"),
        ("200 OK", [(b"A", "b")], "not made of text"),
        ("200 OK", [("A", 1)], "not made of text"),
    ],
)
def test_what_cannot_be_sent_of_a_given_head_is_an_error(
    side: backend.Backend, status: str, fields: list[tuple[str, str]], error: str
) -> None:
    with pytest.raises((ValueError, TypeError), match=error):
        side.parser.check_given(status, fields, SERVER)


INJECTIONS = [
    "a\r\nX: b",
    "a\rb",
    "a\nb",
    "\r",
    "\n",
    "\r\n",
    "a\r\n",
    "\n\r",
    "\x00",
    "a\x7f",
    "\x1b[0m",
    "\u20ac",
    "\u010a",
    "\U0001f600",
]


@pytest.mark.parametrize("text", INJECTIONS)
def test_a_field_cannot_inject_a_line(side: backend.Backend, text: str) -> None:
    for fields in (
        (("X", text),),
        ((text, "x"),),
        (("A", "b"), ("X", text), ("C", "d")),
        (("X", text), ("Y", text)),
        (("X", "a\r"), (text, "x")),
    ):
        with pytest.raises(ValueError, match="control character"):
            side.parser.build_head(200, fields)


# Access lines

TIME = "23/Nov/2026:08:00:00 +0000"


LINE = AccessLine("127.0.0.1", "", TIME, "", 200, 1234, "", "", "", 0)


def access_line(
    side: backend.Backend,
    log_format: str = "combined",
    *,
    request: str = "GET / HTTP/1.1",
    **parts: str | int,
) -> bytes:
    """The line of one answer, with these of its parts instead."""
    line = LINE._replace(request_line=request, **parts)  # type: ignore[arg-type]
    return side.parser.format_access_line(log_format, line)


def test_access_line_is_ncsa_combined(side: backend.Backend) -> None:
    assert access_line(side, user="ann", referer="http://a/", agent="curl/8") == (
        b'127.0.0.1 - ann [23/Nov/2026:08:00:00 +0000] "GET / HTTP/1.1" 200 1234 "http://a/" "curl/8"\n'
    )


def test_access_line_has_a_dash_for_what_is_missing(side: backend.Backend) -> None:
    assert access_line(side, request="") == (
        b'127.0.0.1 - - [23/Nov/2026:08:00:00 +0000] "-" 200 1234 "-" "-"\n'
    )


def test_access_line_in_json_is_an_object(side: backend.Backend) -> None:
    everything = "".join(map(chr, range(256)))
    line = access_line(
        side,
        "json",
        user=everything,
        request=everything,
        agent='\xe9"\\\n',
        host=everything,
        duration_us=12,
        tls_version="TLSv1.3",
        tls_cipher="TLS_AES_128_GCM_SHA256",
    )
    assert line.isascii()
    assert line.endswith(b"}\n")
    assert json.loads(line) == {
        "time": TIME,
        "peer": "127.0.0.1",
        "user": everything,
        "host": everything,
        "request": everything,
        "status": 200,
        "bytes": 1234,
        "duration": 0.000012,
        "referer": "",
        "agent": '\xe9"\\\n',
        "tls_version": "TLSv1.3",
        "tls_cipher": "TLS_AES_128_GCM_SHA256",
    }


DURATIONS = [(0, b"0.000000"), (1, b"0.000001"), (999_999, b"0.999999"), (1_000_000, b"1.000000"),
    (12_345_678_901, b"12345.678901"), (2**63 - 1, b"9223372036854.775807")]  # fmt: skip


@pytest.mark.parametrize(("duration_us", "spelled"), DURATIONS)
def test_duration_in_json_is_in_seconds(side: backend.Backend, duration_us: int, spelled: bytes) -> None:
    assert b'"duration":%b,' % spelled in access_line(side, "json", duration_us=duration_us)


@pytest.mark.parametrize(("duration_us", "spelled"), DURATIONS)
def test_combined_time_is_combined_with_the_seconds_behind_it(
    side: backend.Backend, duration_us: int, spelled: bytes
) -> None:
    line = access_line(side, "combined_time", duration_us=duration_us, agent="a" * 5000, referer='"' * 5000)
    assert line == access_line(side, agent="a" * 5000, referer='"' * 5000)[:-1] + b" %b\n" % spelled
    assert len(line) < 4096


def test_combined_line_has_neither_host_nor_duration(side: backend.Backend) -> None:
    assert access_line(side) == access_line(side, host="\u20ac", duration_us=5)


FORGERIES = [
    'GET / HTTP/1.1" 200 0 "-" "-"\n1.2.3.4 - - [',
    "a\r\nb",
    "a\tb\x00c\x7fd\x1b[31m",
    "\\x22\\",
    '"' * 40,
    "0123456789abcde\n",
    "0123456789abcdef\n",
    "".join(map(chr, range(256))),
]


@pytest.mark.parametrize("text", FORGERIES)
@pytest.mark.parametrize("place", ["user", "request", "referer", "agent"])
def test_a_client_cannot_forge_an_access_line(side: backend.Backend, place: str, text: str) -> None:
    line = access_line(side, **{place: text})
    assert line.count(b"\n") == 1
    assert line.endswith(b"\n")
    assert not re.search(rb"[^\x20-\x7e]", line[:-1])
    escaped = "".join(c if " " <= c <= "~" and c not in '"\\' else f"\\x{ord(c):02X}" for c in text).encode()
    assert line == access_line(side, **{place: "@@"}).replace(b"@@", escaped)
    for member in (place, "host"):
        assert json.loads(access_line(side, "json", **{member: text}))[member] == text


@pytest.mark.parametrize("log_format", ["combined", "combined_time", "json"])
@pytest.mark.parametrize("place", ["peer", "user", "time", "request", "referer", "agent"])
def test_an_access_line_beyond_iso_8859_1_is_a_value_error(
    side: backend.Backend, place: str, log_format: str
) -> None:
    with pytest.raises(ValueError, match=r"8859-1|latin-1"):
        access_line(side, log_format, **{place: "\u20ac"})


def test_refusals_are_http_errors_with_a_sentence(side: backend.Backend) -> None:
    with pytest.raises(HTTPError, match=r"^400: The request head has a NUL byte\.$") as caught:
        side.parser.parse_request(b"GET /\x00", 0, 0, LIMITS)
    assert caught.value.close
