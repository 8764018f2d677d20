from __future__ import annotations

from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from werkzeug.datastructures import Accept, MIMEAccept
from werkzeug.http import parse_accept_header

from fastws.http.negotiation import CODINGS, codings_number, preferred_codings, prefers_json

IDENTITY = ("identity",)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, "identity gzip br zstd"),
        ("", "identity"),
        ("gzip", "gzip identity"),
        ("GZip", "gzip identity"),
        ("gzip, deflate, br, zstd", "br zstd gzip identity"),  # Chromium
        ("gzip, deflate, br", "br gzip identity"),  # Safari
        ("gzip;q=1.0, br;q=0.5", "gzip br identity"),
        ("gzip;q=0.001, br;q=0.002", "br gzip identity"),
        ("br ; q=0.5 ,\tgzip ;q=0.9", "gzip br identity"),
        ("gzip;Q=0.5", "gzip identity"),
        ("gzip;q=0", "identity"),
        ("gzip;q=0.000", "identity"),
        ("*", "br zstd gzip identity"),
        ("*;q=0", ""),
        ("identity;q=0", ""),
        ("identity;q=0, gzip", "gzip"),
        ("gzip, *;q=0", "gzip"),
        ("identity, *;q=0", "identity"),
        ("br;q=0, *", "zstd gzip identity"),
        ("gzip;q=0.5, *;q=0.1", "gzip br zstd identity"),
        ("identity;q=1, gzip;q=0.5", "identity gzip"),
        ("identity;q=0.5, gzip;q=0.2, br", "br identity gzip"),
        ("identity, gzip", "gzip identity"),  # equal weights: the server's choice
        ("x-gzip", "gzip identity"),
        ("x-gzip;q=0, *", "br zstd identity"),
        ("gzip, gzip;q=0", "identity"),  # of two weights the lower
        ("compress, deflate, snappy", "identity"),
        (",, gzip,,", "gzip identity"),
    ],
)
def test_codings_are_ordered_by_weight_then_by_the_server(value, expected):
    assert preferred_codings(value) == tuple(expected.split())


@pytest.mark.parametrize(
    "value",
    [
        "gzip;q=2",
        "gzip;q=1.001",
        "gzip;q=-1",
        "gzip;q=.5",
        "gzip;q=0.1234",
        "gzip;q=",
        "gzip;q",
        "gzip;level=9",
        "gzip;q=1;q=1",
        "gzip;q = 1",
        "gzip br",
        "gzip; br",
        'gzip, "br"',
        "gzip, br/2",
        "gzip, ü",
        "gzip;",
        "gzip;q=٠",
    ],
)
def test_a_malformed_field_means_identity(value):
    assert preferred_codings(value) == IDENTITY


WEIGHT = st.sampled_from(["", ";q=0", ";q=0.001", ";q=0.5", ";q=0.5 ", " ; q=0.9", ";q=1", ";q=1.000"])
MEMBER = st.tuples(st.sampled_from([*CODINGS, "*", "deflate"]), WEIGHT)
FIELD = st.lists(MEMBER, max_size=6, unique_by=lambda member: member[0]).map(
    lambda members: ", ".join(name + weight for name, weight in members)
)


@given(FIELD)
def test_the_best_coding_agrees_with_werkzeug(field):
    preference = preferred_codings(field)
    oracle = parse_accept_header(field, Accept)
    named = [coding for coding in CODINGS if coding != "identity"]
    # Identity that the field does not mention is a matter of the RFC that werkzeug leaves to its caller.
    assert {coding for coding in preference if coding != "identity"} == {
        coding for coding in named if oracle.quality(coding) > 0
    }
    weights = [oracle.quality(coding) for coding in preference]
    if "identity" in oracle:
        assert weights == sorted(weights, reverse=True)
    excluded = "identity" in field or "*" in field
    assert ("identity" in preference) == (not excluded or oracle.quality("identity") > 0)


@given(FIELD)
def test_every_preference_has_its_own_number(field):
    preference = preferred_codings(field)
    assert 0 <= codings_number(preference) <= 64


def test_numbers_tell_all_preferences_apart():
    preferences = [order for length in range(5) for order in permutations(CODINGS, length)]
    assert sorted(map(codings_number, preferences)) == list(range(65))


@given(st.text(max_size=40))
def test_nothing_makes_the_reader_fail(text):
    assert codings_number(preferred_codings(text)) >= 0
    assert prefers_json(text) in (True, False)


CHROMIUM = (
    "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8,application/x-v;v=b3;q=0.7"
)


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        (None, False),
        ("", False),
        ("*/*", False),
        (CHROMIUM, False),
        ("application/json", True),
        ("Application/JSON", True),
        ("application/json, text/plain, */*", True),  # axios
        ("application/*", True),
        ("application/json, text/html", False),
        ("application/json, text/html;q=0.9", True),
        ("application/json;q=0.9, text/html", False),
        ("application/json;q=0.5, */*", False),
        ("application/json;q=0", False),
        ("text/html;q=0, application/json;q=0.1", True),
        ("text/*, application/json", True),
        ("application/json;charset=utf-8", True),
        ('application/json;profile="a,b;q=0";q=0.5, text/html;q=0.4', True),
        ("application/json;q=2", False),
        ("application/json, /", False),
        ("json", False),
    ],
)
def test_json_is_for_those_who_ask_for_it(accept, expected):
    assert prefers_json(accept) is expected


RANGES = st.sampled_from(["application/json", "text/html", "*/*", "text/*", "application/*", "image/png"])
WEIGHTS = st.sampled_from(["", ";q=0", ";q=0.3", ";q=0.6"])


@given(st.lists(st.tuples(RANGES, WEIGHTS), unique_by=lambda member: member[0], max_size=5))
def test_json_agrees_with_werkzeug_where_the_weights_differ(members):
    field = ", ".join(name + weight for name, weight in members)
    oracle = parse_accept_header(field, MIMEAccept)
    json, html = oracle.quality("application/json"), oracle.quality("text/html")
    if json != html:
        assert prefers_json(field) == (json > html)


@pytest.mark.timeout(20)  # backtracking would take minutes
def test_long_malformed_fields_are_refused_at_once():
    for field in ("a/b" + ";  " * 5000 + "!", "a/b" + ';x="' * 4000, 'a/b;x="' + '\\"' * 8000):
        assert not prefers_json(field)
    for field in ("gzip" + " " * 16000 + "!", " ," * 8000 + "!"):
        assert preferred_codings(field) == IDENTITY
