from __future__ import annotations

import calendar
import time
from email.utils import formatdate

import pytest
from hypothesis import given
from hypothesis import strategies as st
from werkzeug.http import http_date, parse_date

from fastws.http.httpdate import format_http_date, parse_http_date

EXAMPLE = 784111777  # the moment of the RFC's examples: Sun, 06 Nov 1994 08:49:37 GMT
YEAR_9999 = 253402300799
NOW = calendar.timegm((2026, 7, 1, 12, 0, 0))


def at(*moment: int) -> int:
    return calendar.timegm(moment)


def test_the_three_forms_of_the_rfc_name_the_same_moment():
    assert parse_http_date("Sun, 06 Nov 1994 08:49:37 GMT") == EXAMPLE
    assert parse_http_date("Sunday, 06-Nov-94 08:49:37 GMT") == EXAMPLE
    assert parse_http_date("Sun Nov  6 08:49:37 1994") == EXAMPLE


def test_a_date_is_written_as_imf_fixdate():
    assert format_http_date(EXAMPLE) == "Sun, 06 Nov 1994 08:49:37 GMT"
    assert format_http_date(0) == "Thu, 01 Jan 1970 00:00:00 GMT"


@given(st.integers(0, YEAR_9999))
def test_what_is_written_is_read_back_and_is_what_others_write(seconds):
    text = format_http_date(seconds)
    assert parse_http_date(text) == seconds
    assert text == formatdate(seconds, usegmt=True) == http_date(seconds)


@given(st.integers(at(1, 1, 1, 0, 0, 0), YEAR_9999))
def test_every_date_of_the_calendar_agrees_with_werkzeug(seconds):
    text = format_http_date(seconds)
    if int(text[12:16]) >= 100:  # below, werkzeug takes the year for a two-digit one
        assert parse_date(text).timestamp() == parse_http_date(text) == seconds


@given(st.integers(at(1977, 1, 1, 0, 0, 0), at(2076, 1, 1, 0, 0, 0)))
def test_the_obsolete_forms_name_every_moment_of_their_window(seconds):
    moment = time.gmtime(seconds)
    assert parse_http_date(time.strftime("%A, %d-%b-%y %H:%M:%S GMT", moment), NOW) == seconds
    assert parse_http_date(time.asctime(moment), NOW) == seconds


@pytest.mark.parametrize(
    ("two_digits", "year"),
    [("26", 2026), ("27", 2027), ("70", 2070), ("75", 2075), ("77", 1977), ("94", 1994), ("00", 2000)],
)
def test_a_two_digit_year_is_at_most_50_years_ahead(two_digits, year):
    assert parse_http_date(f"Monday, 01-Jul-{two_digits} 12:00:00 GMT", NOW) == at(year, 7, 1, 12, 0, 0)


def test_the_50_years_are_counted_to_the_second():
    assert parse_http_date("Wednesday, 01-Jul-76 12:00:00 GMT", NOW) == at(2076, 7, 1, 12, 0, 0)
    assert parse_http_date("Wednesday, 01-Jul-76 12:00:01 GMT", NOW) == at(1976, 7, 1, 12, 0, 1)


def test_a_two_digit_year_may_belong_to_the_next_century():
    late = at(2080, 1, 1, 0, 0, 0)
    assert parse_http_date("Friday, 03-Jan-10 00:00:00 GMT", late) == at(2110, 1, 3, 0, 0, 0)


def test_without_a_present_the_clock_is_asked():
    assert parse_http_date("Thursday, 01-Jan-70 00:00:00 GMT") in (0, at(2070, 1, 1, 0, 0, 0))


def test_a_leap_second_is_the_second_after_it():
    assert parse_http_date("Sat, 31 Dec 2016 23:59:60 GMT") == at(2017, 1, 1, 0, 0, 0)


def test_the_name_of_the_day_is_not_compared():
    assert parse_http_date("Mon, 06 Nov 1994 08:49:37 GMT") == EXAMPLE


@pytest.mark.parametrize(
    ("text", "exists"),
    [
        ("Thu, 29 Feb 2024 00:00:00 GMT", True),
        ("Wed, 29 Feb 2023 00:00:00 GMT", False),
        ("Tue, 29 Feb 2000 00:00:00 GMT", True),
        ("Mon, 29 Feb 2100 00:00:00 GMT", False),
        ("Sat, 31 Apr 2022 00:00:00 GMT", False),
        ("Sat, 00 Apr 2022 00:00:00 GMT", False),
    ],
)
def test_a_date_must_exist(text, exists):
    assert (parse_http_date(text) is not None) == exists


@pytest.mark.parametrize(
    "text",
    [
        "",
        "0",
        "784111777",
        "Sun, 06 Nov 1994 08:49:37",
        "Sun, 06 Nov 1994 08:49:37 UTC",
        "Sun, 06 Nov 1994 08:49:37 +0000",
        "Sun, 06 Nov 1994 08:49:37 gmt",
        "sun, 06 Nov 1994 08:49:37 GMT",
        "Sun, 06 NOV 1994 08:49:37 GMT",
        "Sun, 6 Nov 1994 08:49:37 GMT",
        "Sun,06 Nov 1994 08:49:37 GMT",
        "Sun,  06 Nov 1994 08:49:37 GMT",
        "Sun, 06 Nov 94 08:49:37 GMT",
        "Sun, 06 Nov 1994 8:49:37 GMT",
        "Sun, 06 Nov 1994 24:00:00 GMT",
        "Sun, 06 Nov 1994 08:60:37 GMT",
        "Sun, 06 Nov 1994 08:49:61 GMT",
        "Sun, 06 Nov 1994 08:49:37 GMT ",
        "Sun, 06 Nov 1994 08:49:37 GMT\n",
        "Sun, 06 Nov 1994 08:49:37 GMT, Sun, 06 Nov 1994 08:49:37 GMT",
        "Sun, 06 Nov 1994 08:49:37 GMT; length=20",
        "06 Nov 1994 08:49:37 GMT",
        "Sun, 06-Nov-94 08:49:37 GMT",
        "Sunday, 06-Nov-1994 08:49:37 GMT",
        "Sun Nov 6 08:49:37 1994",
        "Sun Nov  6 08:49:37 94",
        "Sun Nov  6 08:49:37 1994 GMT",
        "Sun, ٠٦ Nov 1994 08:49:37 GMT",
    ],
)
def test_what_the_grammar_does_not_know_is_malformed(text):
    assert parse_http_date(text) is None


@given(st.text(max_size=40))
def test_nothing_makes_the_reader_fail(text):
    assert parse_http_date(text) is None or text.isascii()
