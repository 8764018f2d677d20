"""Submitted forms: the fields of a POST, and the page that shows them."""

from __future__ import annotations

import re
from collections.abc import Callable

from .errors import HTTPError
from .vocabulary import TOKEN

MAX_FIELDS = 1000  # Django: DATA_UPLOAD_MAX_NUMBER_FIELDS, PHP: max_input_vars
MAX_PART_HEAD_BYTES = 8192  # as for a request line
MAX_PARAMETERS = 20  # of a field value; a form needs three

# Patterns are text: re compiles each when it is first needed, and keeps it; a start does not pay for it.
_PARAMETER = rf'[ \t]*;[ \t]*(?:({TOKEN})=({TOKEN}|"(?:[^"\\]|\\.)*"))?'
_BOUNDARY = r"[0-9A-Za-z'()+_,./:=? -]{0,69}[0-9A-Za-z'()+_,./:=?-]"  # RFC 2046 section 5.1.1
_END_OF_DELIMITER = rb"[ \t]*\r\n"

_PERCENT = rb"%(?=[0-9A-Fa-f]{2})"

_LINE_BREAKS = ("\r\n", *"\n\r\v\f\x1c\x1d\x1e\x85\u2028\u2029")
_CONTROLS = [chr(code) for code in (*range(0x09), *range(0x0E, 0x20), *range(0x7F, 0xA0))]
# Neither tags nor comments are looked for inside each other, so that a page is read once from end to end.
_PRE = rb"""<!--.*?(?:-->|\Z)|(<pre(?:\s(?:[^<>"']|"[^"<]*"|'[^'<]*')*)?>)\s*(?=</pre\s*>)"""


def check_type(content_type: str | None) -> None:
    """Raise HTTPError 415 for a type that no form has; a body without a type may still be empty."""
    if content_type is not None:
        _reader(content_type)


def parse_form(content_type: str, body: bytes) -> list[tuple[str, str]]:
    """Return the (name, value) pairs of a submitted form in their order.

    Text is UTF-8, what is not is shown as U+FFFD. The value of a file is ``filename (N bytes)``.

    Raises HTTPError 415 for other types than the two that HTML forms send, 400 for a malformed body and for
    more than ``MAX_FIELDS`` fields.
    """
    reader, parameters = _reader(content_type)
    return reader(parameters, body)


def _reader(content_type: str) -> tuple[Callable[[str, bytes], list[tuple[str, str]]], str]:
    """Return what reads a form of that type, and the parameters of the type; raises HTTPError 415."""
    media_type = re.split(r"[ \t;]", content_type, maxsplit=1)[0]
    readers = {
        "application/x-www-form-urlencoded": _read_urlencoded,
        "multipart/form-data": _read_multipart,
    }
    reader = readers.get(media_type.lower())
    if reader is None:
        raise HTTPError(415, "A form is application/x-www-form-urlencoded or multipart/form-data.")
    return reader, content_type[len(media_type) :]


def fill_pre(page: bytes, fields: list[tuple[str, str]]) -> bytes:
    """Return ``page`` with one ``name: value`` a line in its first empty ``<pre>``, escaped for HTML.

    A line break inside a name or value is shown as ``↵``, so that a field is always one line and no value
    can pass for a further field. A page without an empty ``<pre>`` outside comments is returned as it is.
    """
    from html import escape  # brings a table of 2,000 entities that most servers never need

    for match in re.finditer(_PRE, page, re.IGNORECASE | re.DOTALL):
        if match[1] is not None:
            text = "\n".join(f"{_one_line(name)}: {_one_line(value)}" for name, value in fields)
            return b"".join((page[: match.end(1)], escape(text).encode(), page[match.end() :]))
    return page


def _one_line(text: str) -> str:
    # A search for each character is quicker than one expression for all where a body consists of them.
    if not text.isprintable():
        for line_break in _LINE_BREAKS:
            text = text.replace(line_break, "↵")
    if not text.isprintable():
        for control in _CONTROLS:
            text = text.replace(control, "\ufffd")
    return text


def _read_urlencoded(parameters: str, body: bytes) -> list[tuple[str, str]]:
    """Read as browsers do: WHATWG URL, section 5.1, which leaves no body malformed."""
    if body.count(b"&") >= MAX_FIELDS:
        raise HTTPError(400, f"The form has more than {MAX_FIELDS} fields.")

    pairs = (member.partition(b"=") for member in body.split(b"&") if member)
    return [(_decode(name), _decode(value)) for name, _, value in pairs]


def _decode(text: bytes) -> str:
    text = text.replace(b"+", b" ")
    if b"%" in text:
        # As Python's own escapes, so that the codec decodes them all at once: a body may be nothing else.
        escaped = re.sub(_PERCENT, rb"\\x", text.replace(b"\\", rb"\\"))
        text = escaped.decode("unicode_escape").encode("latin-1")
    return text.decode("utf-8", "replace")


def _read_multipart(parameters: str, body: bytes) -> list[tuple[str, str]]:
    """Read the parts of RFC 7578, delimited as in RFC 2046 section 5.1.1."""
    boundary = (_parse_parameters(parameters) or {}).get("boundary", "")
    if not re.fullmatch(_BOUNDARY, boundary):
        raise HTTPError(400, "The form's Content-Type names no valid boundary.")
    delimiter = b"\r\n--" + boundary.encode("ascii")
    content = b"\r\n" + body  # the first delimiter may begin the body
    fields: list[tuple[str, str]] = []
    start = content.find(delimiter)
    while start >= 0:
        start += len(delimiter)
        if content.startswith(b"--", start):
            return fields
        opened = re.compile(_END_OF_DELIMITER).match(content, start)
        end = content.find(delimiter, start)
        if opened is None or end < 0:
            break
        if len(fields) == MAX_FIELDS:
            raise HTTPError(400, f"The form has more than {MAX_FIELDS} fields.")
        fields.append(_read_part(content[opened.end() : end]))
        start = end
    raise HTTPError(400, "The form's parts are not delimited as its boundary says.")


def _read_part(part: bytes) -> tuple[str, str]:
    head, separator, content = part.partition(b"\r\n\r\n")
    if not separator or len(head) > MAX_PART_HEAD_BYTES:
        raise HTTPError(400, "A part of the form has no proper head.")
    disposition = _parse_disposition(head.decode("utf-8", "replace"))
    name = disposition.get("name")
    if name is None:
        raise HTTPError(400, "A part of the form has no name.")
    filename = disposition.get("filename")
    if filename is None:
        return name, content.decode("utf-8", "replace")
    if not filename and not content:
        return name, ""  # what browsers send for a file input that nobody used
    return name, f"{filename} ({len(content)} byte{'s' * (len(content) != 1)})"


def _parse_disposition(head: str) -> dict[str, str]:
    """Return the parameters of the part's Content-Disposition (RFC 7578 section 4.2)."""
    for line in head.split("\r\n"):
        field_name, _, value = line.partition(":")
        if field_name.lower() == "content-disposition":
            value = value.strip(" \t")
            if value[:9].lower() == "form-data":
                parameters = _parse_parameters(value[9:])
                if parameters is not None:
                    return parameters
    raise HTTPError(400, "A part of the form has no valid Content-Disposition.")


def _parse_parameters(text: str) -> dict[str, str] | None:
    """Return ``; name=value`` parameters by lower-case name, the first of each; None if malformed or too many."""
    parameters: dict[str, str] = {}
    position = 0
    for _ in range(MAX_PARAMETERS):
        match = re.compile(_PARAMETER, re.DOTALL).match(text, position)
        if match is None:
            break
        position = match.end()
        if match[1] is not None:
            value = match[2]
            if value.startswith('"'):
                value = re.sub(r'\\(["\\])', r"\1", value[1:-1])
            parameters.setdefault(match[1].lower(), value)
    return parameters if not text[position:].strip(" \t") else None
