"""Why a request head is refused: the slow, exact diagnosis that both parsers share (RFC 9112 sections 2 to 5).

A parser accepts or does not; it never explains. What it does not accept comes here, so that the status and
the words of a refusal are the same whichever parser runs.
"""

from __future__ import annotations

import re

from ..http.errors import HTTPError
from ..http.messages import Limits
from ..http.vocabulary import TOKEN

_TOKEN = re.compile(TOKEN.encode())
_TARGET = re.compile(rb"[\x21-\x7e]+")
_VERSION = re.compile(rb"HTTP/[0-9]\.[0-9]")
_VALUE = re.compile(rb"[\t\x20-\x7e\x80-\xff]*")
# A carriage return that ends the data so far may still be followed by its line feed.
_BAD_LINE_END = re.compile(rb"(?<!\r)\n|\r(?!\n|\Z)|\x00")


SHOWN_BYTES = 256
"""The logs show at most so much of what could not be read as a request."""

# What other protocols say first: the record type of a TLS handshake (RFC 8446 section 5.1), and a proxy's
# preamble, versions 1 and 2 (https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt).
_TLS = b"\x16"
_PROXY = b"PROXY "
_PROXY_2 = b"\r\n\r\n\0\r\nQUIT\n"


def beginning(data: bytes) -> str:
    """Return the first line of what came, or as much of it as the logs show."""
    return data.removeprefix(b"\r\n")[:SHOWN_BYTES].partition(b"\r\n")[0].decode("latin-1")


def refuse_incomplete(data: bytes, start: int, scanned: int, limits: Limits) -> None:
    """Raise ``HTTPError`` if no bytes to come could make ``data[start:]`` an acceptable head, else return.

    ``scanned`` is the length of ``data`` at the last call (0 at the first); what lies before it is not looked
    at again, except for the length of the request line. Found early are a head beyond its limits (414, 431)
    and bytes that no head may contain (400); the rest waits for the end of the head.
    """
    found = _find_early(data, start, scanned, limits)
    if found:
        raise found
    if len(data) - start >= limits.head_bytes:
        raise _head_too_large(limits)


def refusal(head: bytes, limits: Limits, rest: bytes = b"") -> HTTPError:
    """Return the reason why ``head``, up to and including its empty line, is not an acceptable request head.

    Its status is the one that ``refuse_incomplete`` would have raised, had the head come byte by byte. ``rest`` is
    what came after it.
    """
    if head == b"\r\n\r\n" and (head + rest).startswith(_PROXY_2):
        return _proxied()
    found = _find_early(head, 0, 0, limits)
    if found:
        return found
    if len(head) > limits.head_bytes:
        return _head_too_large(limits)
    body = head.removeprefix(b"\r\n")
    lines = body[:-4].split(b"\r\n")[1:]
    if len(lines) > limits.field_count:
        return HTTPError(431, f"The request has more than {limits.field_count} header fields.", close=True)
    for line in lines:
        found = _refuse_field_line(line)
        if found:
            return found
    return _malformed("The request head is malformed.")


def _find_early(data: bytes, start: int, scanned: int, limits: Limits) -> HTTPError | None:
    """Return an offence that is certain before the head is complete, except for the head's size."""
    if data.startswith(_TLS, start):
        return _malformed(
            "This is a TLS handshake on a plain-text port: the URL's scheme is http here, not https."
        )
    line_start = start + 2 if data.startswith(b"\r\n", start) else start
    line_end = data.find(b"\r\n", line_start, line_start + limits.request_line_bytes + 2)
    # Bytes beyond a limit do not count: that it was passed was certain before they came.
    stop = start + limits.head_bytes if line_end >= 0 else line_start + limits.request_line_bytes + 1
    bad = _BAD_LINE_END.search(data, max(start, scanned - 1), stop)
    if bad:
        return _bad_line_end(bad.group())
    if line_end < 0:
        if data[line_start : line_start + 1] not in (b"", b"\r") and not _TOKEN.match(data, line_start):
            return _malformed("The request does not begin with a method.")
        if len(data) - line_start - data.endswith(b"\r") > limits.request_line_bytes:
            return _line_too_long(limits)
    elif line_end + 2 > scanned:
        return _refuse_request_line(data[line_start:line_end])
    return None


def _refuse_request_line(line: bytes) -> HTTPError | None:
    if not line:
        return _malformed("More than one empty line stands before the request line.")
    parts = line.split(b" ")
    if line.startswith(_PROXY):
        return _proxied()
    if len(parts) != 3:
        return _malformed(
            "The request line is not of the form: method, one space, target, one space, version."
        )
    method, target, version = parts
    if not _TOKEN.fullmatch(method):
        return _malformed("The method has a character that a token may not have.")
    if not _TARGET.fullmatch(target):
        return _malformed("The request target is empty or has a character that a URI may not have.")
    if not _VERSION.fullmatch(version):
        return _malformed("The HTTP version is not of the form HTTP/1.1.")
    return None


def _refuse_field_line(line: bytes) -> HTTPError | None:
    if line[:1] in (b" ", b"\t"):
        return _malformed("A header field is folded over several lines, which is obsolete.")
    name, colon, value = line.partition(b":")
    if not colon:
        return _malformed("A header field line has no colon.")
    if not name:
        return _malformed("A header field has an empty name.")
    if name[-1:] in (b" ", b"\t"):
        return _malformed("White space stands between a header field's name and its colon.")
    if not _TOKEN.fullmatch(name):
        return _malformed("A header field's name has a character that a token may not have.")
    if not _VALUE.fullmatch(value):
        return _malformed("A header field's value has a control character.")
    return None


def _malformed(detail: str) -> HTTPError:
    return HTTPError(400, detail, close=True)


def _proxied() -> HTTPError:
    return _malformed(
        "This is a preamble of the PROXY protocol, which is not expected on this port: `Listen PORT proxy` is."
    )


def _bad_line_end(found: bytes) -> HTTPError:
    what = {b"\n": "a line feed without carriage return", b"\r": "a carriage return without line feed"}
    return _malformed(f"The request head has {what.get(found, 'a NUL byte')}.")


def _line_too_long(limits: Limits) -> HTTPError:
    return HTTPError(414, f"The request line is longer than {limits.request_line_bytes} bytes.", close=True)


def _head_too_large(limits: Limits) -> HTTPError:
    return HTTPError(431, f"The request head is larger than {limits.head_bytes} bytes.", close=True)
