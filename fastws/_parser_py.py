"""The pure parser: bytes → ``Request``, and the bytes of response heads and access lines.

Twin of ``_parser.pyx``; the contract of both is ``backend.Parser``. One pattern proves the whole head, then
string methods, which are faster than groups, take it apart.
"""

from __future__ import annotations

import functools
import re
import sys
from collections.abc import Iterable

from .h1 import given
from .h1.grammar import refusal, refuse_incomplete
from .http.messages import Fields, Given, Limits, Request
from .http.vocabulary import REASON_PHRASES, TOKEN_CHARACTER
from .seam import AccessLine

side = "pure"

_HEAD = re.compile(
    rf"(?:\r\n)?+({TOKEN_CHARACTER}++) ([\x21-\x7e]++) (HTTP/[0-9]\.[0-9])\r\n"
    rf"((?:{TOKEN_CHARACTER}++:[\t\x20-\x7e\x80-\xff]*+\r\n)*+)\r\n"
)
_STATUS_LINES = {status: f"HTTP/1.1 {status} {phrase}\r\n" for status, phrase in REASON_PHRASES.items()}
_UNSAFE_FIELD = re.compile(r"[^\t\x20-\x7e\x80-\xff]")
_COMBINED = '%s - %s [%s] "%s" %s %s "%s" "%s"'
_JSON = (
    '{"time":"%s","peer":"%s","user":"%s","host":"%s","request":"%s","status":%s,"bytes":%s,"duration":%d.%06d,'
    '"referer":"%s","agent":"%s","tls_version":"%s","tls_cipher":"%s"}\n'
)
_IDS = ',"request_id":"%s","traceparent":"%s","tracestate":"%s"}\n'
REQUEST_LOG_BYTES, FIELD_LOG_BYTES = 2000, 900  # longest texts of a combined line, see native/access_line.h
_UNSAFE_LOG = re.compile(r'[\x00-\x1f"\\\x7f-\xff]')


def parse_request(data: bytes, start: int, scanned: int, limits: Limits) -> Request | None:
    """See ``backend.Parser.parse_request``."""
    if not 0 <= start <= len(data):
        raise IndexError("start lies outside data")
    end = data.find(b"\r\n\r\n", max(start, scanned - 3))
    # An empty line right at the start is the one tolerated before the request line, not the head's end.
    if end == start:
        raise refusal(data[start : start + 4], limits, data[start + 4 : start + 16])
    if end < 0:
        refuse_incomplete(data, start, scanned, limits)
        return None
    size = end + 4 - start
    match = _HEAD.fullmatch(str(data[start : end + 4], "latin-1")) if size <= limits.head_bytes else None
    if match is None:
        raise refusal(data[start : end + 4], limits)
    method, target, version, lines = match.groups()
    if match.end(3) - match.start(1) > limits.request_line_bytes:
        raise refusal(data[start : end + 4], limits)
    fields: dict[str, str] = {}
    if lines:
        pairs = lines[:-2].split("\r\n")
        if len(pairs) > limits.field_count:
            raise refusal(data[start : end + 4], limits)
        for line in pairs:
            name, _, value = line.partition(":")
            fields[name.lower()] = value.strip(" \t")
        if len(fields) != len(pairs):
            fields = _join_repeated(pairs)
    return Request(method, target, version, fields, size)


def _join_repeated(lines: list[str]) -> dict[str, str]:
    fields: dict[str, str] = {}
    for line in lines:
        name, _, value = line.partition(":")
        name, value = name.lower(), value.strip(" \t")
        separator = "; " if name == "cookie" else ", "
        fields[name] = f"{fields[name]}{separator}{value}" if name in fields else value
    return fields


@functools.lru_cache(maxsize=512)  # the same files are sent again and again
def build_head(status: int, fields: Fields) -> bytes:
    """See ``backend.Parser.build_head``."""
    head = _STATUS_LINES[status] + "".join([f"{name}: {value}\r\n" for name, value in fields])
    if head.count("\r\n") != len(fields) + 1 or _UNSAFE_FIELD.search(head.replace("\r\n", "")):
        raise ValueError("a response field has a control character or one beyond ISO 8859-1")
    return head.encode("latin-1")


def check_given(status: str, fields: Iterable[tuple[str, str]], added: Fields) -> Given:
    """See ``backend.Parser.check_given``."""
    return given.check_given(status, fields, added)


def format_access_line(log_format: str, line: AccessLine) -> bytes:
    """See ``backend.Parser.format_access_line``."""
    peer, user, time, request_line, status, size, referer, agent, host, duration_us, *others = line
    secured, (request_id, trace_parent, trace_state) = others[:2], others[2:]
    # The same few agents, pages and files come with nearly all requests, so that the escapes are remembered.
    if log_format == "json":
        user, host, request_line, referer, agent = map(
            _escape_json, (user, host, request_line, referer, agent)
        )
        duration = divmod(duration_us, 1_000_000)
        text = _JSON % (
            time,
            peer,
            user,
            host,
            request_line,
            status,
            size,
            *duration,
            referer,
            agent,
            *secured,
        )
        if request_id:
            ids = map(_escape_json, (request_id, trace_parent, trace_state))
            text = text.removesuffix("}\n") + _IDS % tuple(ids)
    else:
        request_line = _escape(request_line, REQUEST_LOG_BYTES)
        referer, agent = _escape(referer, FIELD_LOG_BYTES), _escape(agent, FIELD_LOG_BYTES)
        user = _escape(user, sys.maxsize)
        text = _COMBINED % (peer, user, time, request_line, status, size, referer, agent)
        if log_format == "combined_time":
            seconds, microseconds = divmod(duration_us, 1_000_000)
            text += f" {seconds}.{microseconds:06}"
        if request_id:
            text += f' "{_escape(request_id, sys.maxsize)}"'
        text += "\n"
    return text.encode("latin-1")


@functools.lru_cache(maxsize=256)  # of at most 16 KiB each
def _escape(text: str, limit: int) -> str:
    escaped = _UNSAFE_LOG.sub(_escape_character, text) or "-"
    if len(escaped) > limit:
        cut = escaped.find("\\", limit - 3, limit)  # an escape is not cut in two
        escaped = escaped[: limit if cut < 0 else cut]
    return escaped


def _escape_character(match: re.Match[str]) -> str:
    return f"\\x{ord(match.group()):02X}"


@functools.lru_cache(maxsize=256)
def _escape_json(text: str) -> str:
    return _UNSAFE_LOG.sub(_escape_json_character, text)


def _escape_json_character(match: re.Match[str]) -> str:
    character = match.group()
    return "\\" + character if character in '"\\' else f"\\u{ord(character):04X}"
