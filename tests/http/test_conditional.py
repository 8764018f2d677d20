from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from werkzeug.http import is_resource_modified, parse_etags

from fastws.http.conditional import evaluate, if_range_holds, plausible_last_modified
from fastws.http.httpdate import format_http_date

PROCEED, NOT_MODIFIED, FAILED = None, 304, 412
ETAG = '"abc"'
MODIFIED = 1_700_000_000
NOW = MODIFIED + 1_000_000
BEFORE, SAME, AFTER = (format_http_date(MODIFIED + offset) for offset in (-1, 0, 1))


def outcome(
    method: str = "GET", *, etag: str = ETAG, modified: int | None = MODIFIED, **fields: str
) -> int | None:
    lines = {name.replace("_", "-"): value for name, value in fields.items()}
    return evaluate(method, lines, etag, modified, NOW)


def test_without_preconditions_the_answer_proceeds():
    assert outcome() is PROCEED


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ('"abc"', PROCEED),
        ("*", PROCEED),
        ('"x", "abc"', PROCEED),
        (', ,"x" ,,\t"abc",', PROCEED),
        ('"x"', FAILED),
        ('W/"abc"', FAILED),  # a strong comparison
        ("", FAILED),
        ("abc", FAILED),  # malformed: a guard that cannot be read does not hold
        ('"abc" "x"', FAILED),
        ('*, "abc"', FAILED),
        ('"abc', FAILED),
    ],
)
@pytest.mark.parametrize("method", ["GET", "HEAD", "POST"])
def test_if_match_compares_strongly_and_fails_when_malformed(method, value, expected):
    assert outcome(method, if_match=value) == expected


@pytest.mark.parametrize(
    ("value", "matches"),
    [
        ('"abc"', True),
        ('W/"abc"', True),  # a weak comparison
        ("*", True),
        ('"x", W/"abc"', True),
        ('"x,y" , "abc"', True),  # a comma inside a tag separates nothing
        ('"x"', False),
        ('"abc,"', False),
        ('"ABC"', False),
        ('w/"abc"', False),  # malformed from here on: never a 304
        ('"abc", garbage', False),
        ('"abc" garbage', False),
        ('garbage, "abc"', False),
        ('"abc""x"', False),
        ('"a b", "abc"', False),
        ("abc", False),
        ('*, "abc"', False),
        ('"abc', False),
        ("", False),
    ],
)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_if_none_match_compares_weakly_and_proceeds_when_malformed(method, value, matches):
    assert outcome(method, if_none_match=value) == (NOT_MODIFIED if matches else PROCEED)


@pytest.mark.parametrize("value", ['"abc"', "*", "garbage", 'W/"abc"'])
def test_if_none_match_of_another_method_prevents_with_412(value):
    assert outcome("POST", if_none_match=value) == FAILED
    assert outcome("POST", if_none_match='"x"') is PROCEED


@pytest.mark.parametrize(
    ("date", "expected"), [(BEFORE, PROCEED), (SAME, NOT_MODIFIED), (AFTER, NOT_MODIFIED)]
)
def test_if_modified_since_is_304_from_the_date_of_the_change_on(date, expected):
    assert outcome(if_modified_since=date) == expected
    assert outcome("HEAD", if_modified_since=date) == expected


def test_if_modified_since_is_for_get_and_head_only():
    assert outcome("POST", if_modified_since=SAME) is PROCEED


@pytest.mark.parametrize("tags", ['"x"', "garbage", ""])
def test_if_modified_since_is_ignored_beside_if_none_match(tags):
    assert outcome(if_none_match=tags, if_modified_since=AFTER) is PROCEED


def test_a_matching_if_none_match_needs_no_date():
    assert outcome(if_none_match=ETAG, if_modified_since=BEFORE) == NOT_MODIFIED


@pytest.mark.parametrize("value", ["garbage", "", f"{SAME}, {SAME}", str(MODIFIED)])
def test_malformed_dates_are_ignored(value):
    assert outcome(if_modified_since=value) is PROCEED
    assert outcome(if_unmodified_since=value) is PROCEED


def test_dates_are_ignored_where_no_modification_date_is_known():
    assert outcome(modified=None, if_modified_since=AFTER) is PROCEED
    assert outcome(modified=None, if_unmodified_since=BEFORE) is PROCEED


def test_if_modified_since_ahead_of_the_clock_is_ignored():
    assert outcome(if_modified_since=format_http_date(NOW)) == NOT_MODIFIED
    assert outcome(if_modified_since=format_http_date(NOW + 1)) is PROCEED


@pytest.mark.parametrize(("date", "expected"), [(BEFORE, FAILED), (SAME, PROCEED), (AFTER, PROCEED)])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_if_unmodified_since_is_412_after_a_change(method, date, expected):
    assert outcome(method, if_unmodified_since=date) == expected


def test_if_unmodified_since_is_ignored_beside_if_match():
    assert outcome(if_match=ETAG, if_unmodified_since=BEFORE) is PROCEED
    assert outcome(if_match='"x"', if_unmodified_since=AFTER) == FAILED


def test_if_match_comes_before_if_none_match():
    assert outcome(if_match='"x"', if_none_match=ETAG) == FAILED
    assert outcome(if_match=ETAG, if_none_match=ETAG) == NOT_MODIFIED
    assert outcome(if_unmodified_since=BEFORE, if_none_match=ETAG) == FAILED
    assert outcome(if_unmodified_since=AFTER, if_none_match=ETAG) == NOT_MODIFIED


@pytest.mark.parametrize(
    ("value", "holds"),
    [
        (ETAG, True),
        ('W/"abc"', False),
        ('"x"', False),
        ('"abc", "x"', False),
        ("*", False),
        ("abc", False),
        ("", False),
        ('"', False),
        (SAME, True),
        (BEFORE, False),
        (AFTER, False),
        ("Tuesday, 14-Nov-23 22:13:20 GMT", True),
    ],
)
def test_if_range_holds_for_the_same_validator_alone(value, holds):
    assert if_range_holds(value, ETAG, MODIFIED) is holds


def test_if_range_with_a_date_fails_where_no_modification_date_is_known():
    assert not if_range_holds(SAME, ETAG, None)
    assert not if_range_holds("garbage", ETAG, None)


@pytest.mark.parametrize(
    ("mtime_s", "expected"),
    [
        (0, None),
        (1, None),
        (-5, None),
        (2, None),
        (315532800, None),  # 1980-01-01: FAT, zip
        (315532800 + 14 * 3600, None),  # in another time zone
        (318211200, None),  # 1980-02-01: Gradle
        (499162500, None),  # 1985-10-26: npm
        (946684800, None),  # 2000-01-01: Bazel
        (1262304000, None),  # 2010-01-01: Bazel
        (946684801, 946684801),
        (631152000, 631152000),
        (MODIFIED, MODIFIED),
        (NOW, NOW),
        (NOW + 1, None),
        (0.5, None),
    ],
)
def test_times_that_are_no_dates_of_a_change_are_not_sent(mtime_s, expected):
    assert plausible_last_modified(mtime_s, NOW) == expected


def test_a_fraction_of_the_present_second_is_not_the_future():
    assert plausible_last_modified(NOW + 0.9, NOW + 0.1) == NOW


TAGS = st.from_regex(r'(W/)?"[a-c]{0,2}"', fullmatch=True)


@given(st.lists(TAGS, min_size=1, max_size=5))
def test_lists_of_tags_agree_with_werkzeug(tags):
    value = ", ".join(tags)
    known = parse_etags(value)
    assert (
        (outcome(if_none_match=value) == NOT_MODIFIED)
        == known.contains_weak("abc")
        == any(tag.removeprefix("W/") == ETAG for tag in tags)
    )
    assert (outcome(if_match=value, etag='"ab"') is PROCEED) == known.is_strong("ab")


DATES = st.integers(MODIFIED - 2, MODIFIED + 2).map(format_http_date)
FIELDS = {"if-none-match": st.lists(TAGS, min_size=1, max_size=3).map(", ".join), "if-modified-since": DATES}


@given(st.fixed_dictionaries({}, optional=FIELDS))
def test_304_agrees_with_werkzeug_on_well_formed_fields(fields):
    environ = {"REQUEST_METHOD": "GET"}
    environ |= {f"HTTP_{name.upper().replace('-', '_')}": value for name, value in fields.items()}
    modified = is_resource_modified(environ, etag="abc", last_modified=format_http_date(MODIFIED))
    assert (evaluate("GET", fields, ETAG, MODIFIED, NOW) == NOT_MODIFIED) == (not modified)


@pytest.mark.parametrize("value", ["abc", 'garbage", "abc"', '"x", abc'])
def test_unlike_werkzeug_a_malformed_list_matches_nothing(value):
    assert parse_etags(value).contains_weak("abc")
    assert outcome(if_none_match=value) is PROCEED


def test_unlike_werkzeug_a_date_ahead_of_the_clock_says_nothing():
    ahead = format_http_date(NOW + 1)
    environ = {"REQUEST_METHOD": "GET", "HTTP_IF_MODIFIED_SINCE": ahead}
    assert not is_resource_modified(environ, last_modified=format_http_date(MODIFIED))
    assert outcome(if_modified_since=ahead) is PROCEED


@given(
    st.dictionaries(
        st.sampled_from(["if-match", "if-none-match", "if-range", "if-modified-since"]), st.text()
    )
)
def test_no_field_makes_evaluation_fail(fields):
    assert evaluate("GET", fields, ETAG, MODIFIED, NOW) in (PROCEED, NOT_MODIFIED, FAILED)
