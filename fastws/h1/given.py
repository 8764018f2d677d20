"""The head of an answer as an application gives it (PEP 3333): what of it cannot be sent, and why.

``check_given`` is also how both parsers say why: the compiled one asks it about whatever it does not take itself.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable
from typing import NoReturn

from ..http.messages import Fields, Given
from ..http.vocabulary import TOKEN, reason_phrase

_STATUS = re.compile(r"([2-5][0-9]{2})(?: ([\t\x20-\x7e\x80-\xff]*))?")
_NAME = re.compile(TOKEN)
_is_value = re.compile(r"[\t\x20-\x7e\x80-\xff]*").fullmatch
_LENGTH = re.compile(r"[0-9]{1,18}")
CONNECTIONS = frozenset(
    (
        *("connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "te", "trailer"),
        *("proxy-connection", "transfer-encoding", "upgrade"),
    )
)
"""The fields that are the server's business (PEP 3333, "Other HTTP Features"; RFC 9110 section 7.6.1)."""


def check_given(status: str, fields: Iterable[tuple[str, str]], added: Fields) -> Given:
    """See ``backend.Parser.check_given``."""
    code, line = _status_line(status) if isinstance(status, str) else _refuse_status(status)
    lines, names, length = [line], set(), None
    for name, value in fields:
        if not isinstance(name, str) or not isinstance(value, str):
            raise TypeError(f"the field {name!r} is not made of text")
        lower = _lower(name)
        if not lower or not _is_value(value):
            raise ValueError(f"the field {name!r} has a character that no field may have: {value!r}")
        if lower in CONNECTIONS:
            raise ValueError(f"the field {name} is the server's business, not the application's")
        if lower == "content-length":
            if length is not None or not _LENGTH.fullmatch(value):
                raise ValueError(f"Content-Length is not one decimal number: {value!r}")
            length = int(value)
        else:
            names.add(lower)
            text = value.strip(" \t")
            lines.append(f"{name}: {text}\r\n")
    lines += [f"{name}: {value}\r\n" for name, value in added if name.lower() not in names]
    return Given(code, "".join(lines).encode("latin-1"), length, "date" in names)


@functools.lru_cache(maxsize=256)  # an application has few
def _status_line(status: str) -> tuple[int, str]:
    match = _STATUS.fullmatch(status)
    if not match:
        return _refuse_status(status)
    code = int(match[1])
    return code, f"HTTP/1.1 {match[1]} {match[2] or reason_phrase(code)}\r\n"


def _refuse_status(status: object) -> NoReturn:
    raise ValueError(f"{status!r} is no status line: three digits from 200 to 599, a space, and a phrase")


@functools.lru_cache(maxsize=256)
def _lower(name: str) -> str:
    """Return the name of a field in lower case, '' if no field may have it."""
    return name.lower() if _NAME.fullmatch(name) else ""
