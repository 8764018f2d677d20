"""The current time as responses and access lines write it, updated once a second."""

from __future__ import annotations

import time

from ..http.httpdate import format_http_date
from ..http.vocabulary import MONTHS


class Clock:
    """The texts of the second in which ``tick`` was called last. One thread's own.

    ``date_line`` is the Date field line with its CRLF (RFC 9110 section 6.6.1), ``log_time`` local time as the
    access log's format has it.
    """

    def __init__(self, log_format: str) -> None:
        self._second = -1
        self._log_format = log_format
        self.date_line = b""
        self.log_time = ""
        self.tick()

    def tick(self) -> None:
        """Look at the time."""
        second = int(time.time())
        if second != self._second:
            self._second = second
            self.date_line = f"Date: {format_http_date(second)}\r\n".encode()
            self.log_time = format_log_time(second, self._log_format)


def format_log_time(second: int, log_format: str) -> str:
    """Return ``second`` since the epoch as local time, independent of the locale.

    ``json``: ``2026-11-23T07:59:29+00:00`` (RFC 3339); otherwise ``23/Nov/2026:07:59:29 +0000``.
    """
    local = time.localtime(second)
    sign, offset = ("-", -local.tm_gmtoff) if local.tm_gmtoff < 0 else ("+", local.tm_gmtoff)
    hours, minutes = f"{offset // 3600:02}", f"{offset % 3600 // 60:02}"
    clock = f"{local.tm_hour:02}:{local.tm_min:02}:{local.tm_sec:02}"
    if log_format == "json":
        return f"{local.tm_year:04}-{local.tm_mon:02}-{local.tm_mday:02}T{clock}{sign}{hours}:{minutes}"
    return f"{local.tm_mday:02}/{MONTHS[local.tm_mon - 1]}/{local.tm_year:04}:{clock} {sign}{hours}{minutes}"
