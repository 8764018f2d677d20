from __future__ import annotations

from email import message_from_bytes
from email.policy import HTTP

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from werkzeug.http import parse_range_header

from fastws.http.errors import HTTPError
from fastws.http.ranges import (
    MAX_RANGES,
    ByteRange,
    closing_delimiter,
    content_range,
    multipart_length,
    multipart_type,
    new_boundary,
    parse_ranges,
    part_head,
)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("bytes=0-499", (0, 500)),
        ("bytes=500-999", (500, 500)),
        ("bytes=0-0", (0, 1)),
        ("bytes=999-999", (999, 1)),
        ("bytes=-1", (999, 1)),
        ("bytes=-500", (500, 500)),
        ("bytes=-2000", (0, 1000)),
        ("bytes=950-", (950, 50)),
        ("bytes=0-", (0, 1000)),
        ("bytes=990-5000", (990, 10)),
        ("bytes=0-99999999999999999999999999", (0, 1000)),
        ("bytes=-99999999999999999999999999", (0, 1000)),
        ("bytes=000000000000000000000000000007-8", (7, 2)),
        ("Bytes=0-1", (0, 2)),
        ("bytes= \t0-1 ,", (0, 2)),
        ("bytes=,,0-1,", (0, 2)),
    ],
)
def test_one_range_selects_its_bytes(value, expected):
    assert parse_ranges(value, 1000) == (ByteRange(*expected),)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("bytes=0-0,-1", ((0, 1), (999, 1))),
        ("bytes=-1, 0-0", ((999, 1), (0, 1))),  # in the order of the field
        ("bytes=0-9,20-29,40-49", ((0, 10), (20, 10), (40, 10))),
        ("bytes=0-9,5-14", ((0, 15),)),  # overlapping
        ("bytes=0-9,10-19", ((0, 20),)),  # adjacent
        ("bytes=0-9,11-19", ((0, 10), (11, 9))),  # neither
        ("bytes=100-199,500-599,150-249,0-9", ((100, 150), (500, 100), (0, 10))),
        ("bytes=500-,0-9,-600", ((400, 600), (0, 10))),
        ("bytes=0-99,10-19,30-39", ((0, 100),)),  # contained
        ("bytes=0-9,0-9,0-9", ((0, 10),)),
        ("bytes=0-9,1000-1100", ((0, 10),)),  # what cannot be satisfied is left out
        ("bytes=-0,5-6", ((5, 2),)),
    ],
)
def test_several_ranges_are_coalesced_and_keep_their_order(value, expected):
    assert parse_ranges(value, 1000) == tuple(ByteRange(*part) for part in expected)


@pytest.mark.parametrize(
    "value",
    [
        "",
        "bytes",
        "bytes=",
        "bytes=,",
        "bytes=-",
        "bytes=5-4",
        "bytes=0-1,5-4",
        "items=0-1",
        "bytes 0-1",
        "bytes=0",
        "bytes=a-b",
        "bytes=0-1;2-3",
        "bytes=0 -1",
        "bytes=0- 1",
        "bytes =0-1",
        " bytes=0-1",
        "bytes=--1",
        "bytes=+0-1",
        "bytes=0-+1",
        "bytes=0x0-1",
        "bytes=1_0-20",
        "bytes=0-1-2",
        "bytes=0.0-1",
        "bytes=٠-١",
        "bytes=2000-,x",
    ],
)
def test_a_malformed_field_is_ignored(value):
    assert parse_ranges(value, 1000) is None


@pytest.mark.parametrize("value", ["bytes=1000-", "bytes=1000-1000", "bytes=-0", "bytes=9999-,2000-3000,-0"])
def test_an_unsatisfiable_set_is_416_with_the_size(value):
    with pytest.raises(HTTPError) as caught:
        parse_ranges(value, 1000)
    assert caught.value.status == 416
    assert caught.value.fields == (("Content-Range", "bytes */1000"),)
    assert not caught.value.close


@pytest.mark.parametrize("value", ["bytes=0-", "bytes=0-1048575", "bytes=-0", "bytes=-5", "bytes=7-,8-9"])
def test_an_empty_representation_is_sent_whole(value):
    assert parse_ranges(value, 0) is None


def test_a_hundred_ranges_are_answered_and_one_more_is_not():
    specs = [f"{2 * number}-{2 * number}" for number in range(MAX_RANGES + 1)]
    assert len(parse_ranges("bytes=" + ",".join(specs[:-1]), 1000)) == MAX_RANGES
    assert parse_ranges("bytes=" + ",".join(specs), 1000) is None


def test_many_overlapping_ranges_never_add_up_to_more_than_the_file():
    ranges = parse_ranges("bytes=" + ",".join(["0-"] * MAX_RANGES), 1000)
    assert ranges == (ByteRange(0, 1000),)


def test_thousands_of_digits_are_a_number():
    assert parse_ranges("bytes=0-" + "9" * 8000, 10) == (ByteRange(0, 10),)
    with pytest.raises(HTTPError):
        parse_ranges("bytes=" + "9" * 8000 + "-", 10)


@pytest.mark.timeout(20)  # backtracking would take minutes
def test_long_malformed_fields_are_ignored_at_once():
    for field in ("bytes=" + " " * 16000 + "x", "bytes=" + "," * 16000, "bytes=" + "0" * 16000):
        assert parse_ranges(field, 10) is None


SPECS = st.one_of(
    st.tuples(st.integers(0, 60), st.integers(0, 60)).map(lambda pair: f"{min(pair)}-{max(pair)}"),
    st.integers(0, 60).map(lambda first: f"{first}-"),
    st.integers(0, 60).map(lambda length: f"-{length}"),
)


def selected(value: str, size: int) -> list[set[int]]:
    """The positions that each spec selects, by the definition."""
    chosen = []
    for spec in value.removeprefix("bytes=").split(","):
        first, _, last = spec.partition("-")
        if first:
            chosen.append(set(range(int(first), min(int(last or size), size - 1) + 1)))
        else:
            chosen.append(set(range(max(size - int(last), 0), size)))
    return chosen


@given(st.lists(SPECS, min_size=1, max_size=8), st.integers(1, 50))
def test_the_ranges_cover_exactly_what_was_asked_for(specs, size):
    value = "bytes=" + ",".join(specs)
    wanted = selected(value, size)
    try:
        ranges = parse_ranges(value, size)
    except HTTPError:
        assert not any(wanted)
        return
    covered = [set(range(first, first + length)) for first, length in ranges]
    assert set().union(*covered) == set().union(*wanted)
    assert sum(map(len, covered)) == len(set().union(*covered))  # disjoint
    for one in covered:
        assert one
        assert not any(max(one) + 1 == min(other) for other in covered)  # nor adjacent
    places = [next(place for place, part in enumerate(wanted) if part and part <= one) for one in covered]
    assert places == sorted(places)


@given(SPECS, st.integers(1, 50))
def test_one_range_agrees_with_werkzeug(spec, size):
    is_suffix = spec.startswith("-")
    assume(not is_suffix or 0 < int(spec[1:]) <= size)
    oracle = parse_range_header(f"bytes={spec}").range_for_length(size)
    if oracle is None:
        with pytest.raises(HTTPError):
            parse_ranges(f"bytes={spec}", size)
    else:
        assert parse_ranges(f"bytes={spec}", size) == (ByteRange(oracle[0], oracle[1] - oracle[0]),)


def test_unlike_werkzeug_a_suffix_longer_than_the_file_is_the_file():
    assert parse_range_header("bytes=-2").range_for_length(1) is None
    assert parse_ranges("bytes=-2", 1) == (ByteRange(0, 1),)


def test_unlike_werkzeug_ranges_may_come_in_any_order_and_with_empty_members():
    assert parse_range_header("bytes=5-6,0-1") is None
    assert parse_range_header("bytes=0-1,,") is None
    assert parse_ranges("bytes=5-6,0-1,,", 10) == (ByteRange(5, 2), ByteRange(0, 2))


@given(st.text(alphabet="0123456789-, =bytes\t", max_size=30), st.integers(1, 100))
def test_what_werkzeug_finds_malformed_is_ignored(text, size):
    if parse_range_header("bytes=" + text) is None and not is_ignored("bytes=" + text, size):
        # Werkzeug wants the specs sorted and apart, and no empty members; the RFC does not.
        assert "," in text or "-0" in text
        members = [member for part in text.split(",") if (member := part.strip(" \t"))]
        assert all(parse_range_header("bytes=" + member) or "-0" in member for member in members)


def is_ignored(value, size):
    try:
        return parse_ranges(value, size) is None
    except HTTPError:  # which takes a set that is well-formed
        return False


@given(st.text(max_size=40), st.integers(0, 100))
def test_no_field_leads_to_anything_but_ranges_whole_or_416(text, size):
    for value in (text, "bytes=" + text):
        try:
            ranges = parse_ranges(value, size)
        except HTTPError:
            continue
        assert ranges is None or all(0 <= first < first + length <= size for first, length in ranges)


def test_a_multipart_body_is_what_a_mime_reader_expects():
    content = bytes(range(256)) * 4
    parts = parse_ranges("bytes=0-9,-5,100-299", len(content))
    boundary = new_boundary()
    body = b"".join(
        part_head(boundary, "image/png", part, len(content)) + content[part.first : part.first + part.length]
        for part in parts
    ) + closing_delimiter(boundary)
    assert len(body) == multipart_length(boundary, "image/png", parts, len(content))
    head = f"Content-Type: {multipart_type(boundary)}\r\n\r\n".encode()
    message = message_from_bytes(head + body, policy=HTTP)
    assert message.get_content_type() == "multipart/byteranges"
    assert not message.defects
    received = list(message.iter_parts())
    assert [part["Content-Range"] for part in received] == [
        content_range(part, len(content)) for part in parts
    ]
    assert [part["Content-Range"] for part in received] == [
        "bytes 0-9/1024",
        "bytes 1019-1023/1024",
        "bytes 100-299/1024",
    ]
    assert {part.get_content_type() for part in received} == {"image/png"}


def test_boundaries_are_valid_and_never_repeated():
    boundaries = {new_boundary() for _ in range(1000)}
    assert len(boundaries) == 1000
    assert all(len(boundary) <= 70 and boundary.isalnum() for boundary in boundaries)
