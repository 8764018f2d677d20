"""HTTP-date, written and read (RFC 9110 section 5.6.7), independent of the locale."""

from __future__ import annotations

import functools
import re
import time

from .vocabulary import MONTHS

_DAY_NAMES = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTH_NUMBER = {name: number for number, name in enumerate(MONTHS, 1)}
_MONTH_DAYS = (31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
_DAYS_BEFORE_MONTH = tuple(sum(_MONTH_DAYS[:month]) for month in range(12))

_DAY_NAME = "(?:" + "|".join(_DAY_NAMES) + ")"
_DAY_NAME_L = "(?:Monday|Tuesday|Wednesday|Thursday|Friday|Saturday|Sunday)"
_MONTH = "(?P<month>" + "|".join(MONTHS) + ")"
_TIME = "(?P<hour>[01][0-9]|2[0-3]):(?P<minute>[0-5][0-9]):(?P<second>[0-5][0-9]|60)"
_YEAR = "(?P<year>[0-9]{4})"
_DAY = "(?P<day>[0-9]{2})"

# Text: re compiles each when it is first needed, and keeps it; a start does not pay for it.
_FORMS = (
    rf"{_DAY_NAME}, {_DAY} {_MONTH} {_YEAR} {_TIME} GMT",  # IMF-fixdate
    rf"{_DAY_NAME_L}, {_DAY}-{_MONTH}-(?P<year>[0-9]{{2}}) {_TIME} GMT",  # rfc850-date
    rf"{_DAY_NAME} {_MONTH} (?P<day>[0-9]{{2}}| [0-9]) {_TIME} {_YEAR}",  # asctime-date
)


@functools.lru_cache(maxsize=1024)
def format_http_date(seconds: int) -> str:
    """Return the IMF-fixdate of ``seconds`` since the epoch, as ``Sun, 06 Nov 1994 08:49:37 GMT``.

    Meant for the years 0 to 9999, which are all that the format can hold.
    """
    year, month, day, hour, minute, second, weekday, _, _ = time.gmtime(seconds)
    clock = f"{hour:02}:{minute:02}:{second:02}"
    return f"{_DAY_NAMES[weekday]}, {day:02} {MONTHS[month - 1]} {year:04} {clock} GMT"


def parse_http_date(value: str, now_s: float | None = None) -> int | None:
    """Return the seconds since the epoch that ``value`` names in any of the three forms; None if malformed.

    The grammar is kept to the letter (case and spaces count), and the date must exist. The day's name is
    not compared with the date: it adds nothing to it. A leap second counts as the second after it.
    ``now_s`` is the present for the two-digit year of the rfc850 form (None: ask the clock).
    """
    for form in _FORMS:
        match = re.fullmatch(form, value)
        if match is not None:
            break
    else:
        return None
    month, day = _MONTH_NUMBER[match["month"]], int(match["day"])
    clock = int(match["hour"]), int(match["minute"]), int(match["second"])
    year = int(match["year"])
    if len(match["year"]) == 2:
        year = _full_year(year, (month, day, *clock), time.time() if now_s is None else now_s)
    is_leap = year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)
    if not 1 <= day <= _MONTH_DAYS[month - 1] + (month == 2 and is_leap):
        return None
    past = year - 1
    days = 365 * past + past // 4 - past // 100 + past // 400 - _DAYS_TO_1970
    days += _DAYS_BEFORE_MONTH[month - 1] + (month > 2 and is_leap) + day - 1
    return ((days * 24 + clock[0]) * 60 + clock[1]) * 60 + clock[2]


_DAYS_TO_1970 = 365 * 1969 + 1969 // 4 - 1969 // 100 + 1969 // 400


def _full_year(two_digits: int, rest: tuple[int, ...], now_s: float) -> int:
    """Return the latest year with these last digits whose date ``rest`` is at most 50 years ahead of now."""
    now = time.gmtime(now_s)
    horizon = (now.tm_year + 50, *now[1:6])
    year = horizon[0] - (horizon[0] - two_digits) % 100
    return year if (year, *rest) <= horizon else year - 100
