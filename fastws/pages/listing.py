"""HTML and JSON that the server writes itself: error pages, redirects, directory listings.

Each page stands alone: no script, no external resource, light or dark as the reader's system is.
"""

from __future__ import annotations

import functools
import os
import re
import time
from collections.abc import Iterable

from ..files.directory import Entry, Listing, natural_key
from ..http.messages import Fields, Request
from ..http.negotiation import prefers_json
from ..http.vocabulary import reason_phrase

_UNRESERVED = re.compile(r"[A-Za-z0-9._~-]+")
"""What needs neither percent-encoding (RFC 3986 section 2.3) nor escaping for HTML: nearly all names."""

_REFERENCES = (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ('"', "&quot;"), ("'", "&#x27;"))  # & first

SORTS = ("name", "size", "time")
ORDERS = ("asc", "desc")

_COLUMN_LABELS = {"name": "Name", "size": "Size", "time": "Modified"}
_YEAR_1, _YEAR_9999 = -62135596800, 253402300799  # their first and last second


def error_page(status: int, detail: str) -> bytes:
    """Return the HTML page that names an error: status, reason phrase and ``detail``, which is plain text."""
    phrase = _escape(reason_phrase(status))
    return _page(
        f"{status} {phrase}",
        _MESSAGE_STYLE,
        f'<main><p class="status">{status}</p>\n<h1>{phrase}</h1>\n<p>{_escape(detail)}</p>\n'
        '<p class="home"><a href="/">Go to the start page</a></p></main>',
    )


def redirect_page(status: int, location: str) -> bytes:
    """Return the HTML page that goes with a redirect to ``location``, for clients that do not follow it."""
    phrase = _escape(reason_phrase(status))
    link = f'<a href="{_escape(location)}">{_escape(location)}</a>'
    return _page(
        f"{status} {phrase}",
        _MESSAGE_STYLE,
        f'<main><p class="status">{status}</p>\n<h1>{phrase}</h1>\n<p>This page is at {link}.</p></main>',
    )


def listing_page(
    path: str, entries: Iterable[Entry], sort: str, order: str, show_parent: bool, omitted: int = 0
) -> bytes:
    """Return the HTML page that lists the directory ``path``, decoded and with a slash at both ends.

    ``sort`` is one of ``SORTS`` and ``order`` one of ``ORDERS``; they come from the client, so anything
    else means the first. ``show_parent`` adds the link to the directory above. ``omitted`` names are told of.
    """
    sort = sort if sort in SORTS else SORTS[0]
    order = order if order in ORDERS else ORDERS[0]
    listed = sort_entries(entries, sort, order)
    rows = [_entry_row(entry) for entry in listed]
    if show_parent:
        link = '<a href="../" aria-label="parent directory">..</a>'
        rows.insert(0, f'<tr><td class="dir">{link}</td><td></td><td></td></tr>')
    headings = "".join(_column_heading(column, sort, order) for column in SORTS)
    return _page(
        f"Index of {_escape(_shown(path))}",
        _LISTING_STYLE,
        f"<main><h1>{_breadcrumbs(path)}</h1>\n<p>{_summary(listed, omitted)}</p>\n"
        f"<table><thead><tr>{headings}</tr></thead>\n<tbody>\n"
        + "\n".join(rows)
        + "\n</tbody></table></main>",
    )


def listing_json(path: str, entries: Iterable[Entry], omitted: int = 0) -> bytes:
    """Return the listing as JSON, an entry a line.

    ``{"path", "omitted", "entries": [{"name", "type", "href", "size", "modified"}]}``: ``size`` is in bytes and
    null for a directory, ``modified`` an RFC 3339 time in UTC, ``href`` relative to the directory.
    """
    import json  # half a millisecond that most servers never need

    encode = json.JSONEncoder(ensure_ascii=False).encode
    lines = [
        encode(
            {
                "name": _shown(entry.name),
                "type": "directory" if entry.is_directory else "file",
                "href": _href(entry),
                "size": None if entry.is_directory else entry.size_bytes,
                "modified": _utc(entry.mtime_s),
            }
        )
        for entry in sort_entries(entries, "name", "asc")
    ]
    head = f'{{"path": {encode(_shown(path))}, "omitted": {omitted}, "entries": ['
    return (head + "\n" * bool(lines) + ",\n".join(lines) + "\n]}\n").encode()


def render(request: Request, path: str, query: str | None, found: Listing) -> tuple[Fields, bytes]:
    """Return Content-Type, Content-Length and Vary, and the body, of the listing that ``request`` asks for.

    The query of a page says how it is sorted: ``sort=name|size|time&order=asc|desc``.
    """
    if prefers_json(request.fields.get("accept")):
        kind, body = "application/json", listing_json(path, *found)
    else:
        wanted = dict(_parameter(part) for part in (query or "").split("&"))
        kind = "text/html; charset=utf-8"
        body = listing_page(
            path,
            found.entries,
            wanted.get("sort", ""),
            wanted.get("order", ""),
            show_parent=path != "/",
            omitted=found.omitted,
        )
    fields = (("Content-Type", kind), ("Content-Length", str(len(body))), ("Vary", "Accept"))
    return fields, body


def _parameter(text: str) -> tuple[str, str]:
    name, _, value = text.partition("=")
    return name, value


def sort_entries(entries: Iterable[Entry], sort: str, order: str) -> list[Entry]:
    """Return ``entries`` sorted, directories first; numbers in names count as numbers (file2, file10).

    Equal sizes and times are told apart by name, and so are directories when sorted by size.
    """
    backwards = order == "desc"
    by_name = sorted(entries, key=lambda entry: natural_key(entry.name), reverse=backwards and sort == "name")
    if sort == "size":
        by_name.sort(key=lambda entry: 0 if entry.is_directory else entry.size_bytes, reverse=backwards)
    elif sort == "time":
        by_name.sort(key=lambda entry: entry.mtime_s, reverse=backwards)
    return sorted(by_name, key=lambda entry: not entry.is_directory)


def human_size(size_bytes: int) -> str:
    """Return ``size_bytes`` as people read it: ``512 B``, ``1.5 KiB``, ``20 MiB``."""
    if size_bytes < 1024:
        return f"{size_bytes} B"
    size = float(size_bytes)
    for unit in ("KiB", "MiB", "GiB", "TiB", "PiB", "EiB"):
        size /= 1024
        if size < 1023.5 or unit == "EiB":
            break
    return f"{size:.1f} {unit}" if size < 9.95 else f"{size:.0f} {unit}"


def _entry_row(entry: Entry) -> str:
    name = _escape(_shown(entry.name))
    href = _escape(_href(entry))
    kind, slash = ("dir", "/") if entry.is_directory else ("file", "")
    size = (
        "<td></td>"
        if entry.is_directory
        else f'<td title="{entry.size_bytes:,} bytes">{human_size(entry.size_bytes)}</td>'
    )
    machine = _utc(entry.mtime_s)
    day, clock = machine[:10], machine[11:16]
    return (
        f'<tr><td class="{kind}"><a href="{href}">{name}{slash}</a></td>{size}'
        f'<td><time datetime="{machine}" title="{machine}">{day}<span> {clock}</span></time></td></tr>'
    )


def _column_heading(column: str, sort: str, order: str) -> str:
    """A link that sorts by ``column``, and the other way round where the listing is sorted by it already."""
    label = _COLUMN_LABELS[column]
    if column != sort:
        return f'<th scope="col"><a href="?sort={column}&amp;order=asc">{label}</a></th>'
    state, other, arrow = {
        "asc": ("ascending", "desc", "▲"),
        "desc": ("descending", "asc", "▼"),
    }[order]
    return (
        f'<th scope="col" aria-sort="{state}"><a href="?sort={column}&amp;order={other}">{label}'
        f'<span aria-hidden="true"> {arrow}</span></a></th>'
    )


def _breadcrumbs(path: str) -> str:
    """The path with each directory above as a link; absolute, and never with two slashes at the start."""
    names = [name for name in path.split("/") if name]
    href = "/"
    links = [f'<a href="{href}">root</a>']
    for name in names:
        href += f"{_quote(name)}/"
        links.append(f'<a href="{href}">{_escape(_shown(name))}</a>')
    return '<span aria-hidden="true"> / </span>'.join(links)


def _summary(entries: list[Entry], omitted: int) -> str:
    if omitted:
        return f"The first {len(entries):,} of {len(entries) + omitted:,} names."
    if not entries:
        return "This directory is empty."
    sizes = [entry.size_bytes for entry in entries if not entry.is_directory]
    directories = len(entries) - len(sizes)
    counts = (
        (directories, f"{directories} director{'y' if directories == 1 else 'ies'}"),
        (len(sizes), f"{len(sizes)} file{'' if len(sizes) == 1 else 's'}, {human_size(sum(sizes))}"),
    )
    return " · ".join(text for count, text in counts if count)


def _href(entry: Entry) -> str:
    return _quote(entry.name) + "/" * entry.is_directory


def _quote(name: str) -> str:
    if _UNRESERVED.fullmatch(name):
        return name
    from urllib.parse import quote  # only listings need it

    # A colon is quoted too: a file may be called "javascript:...", and that must stay a relative path.
    return quote(os.fsencode(name), safe="")


def _shown(name: str) -> str:
    """Return a file's name as text, with U+FFFD for bytes that are not UTF-8."""
    if name.isascii():
        return name
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


@functools.lru_cache(maxsize=1024)
def _utc(seconds: int) -> str:
    """Return the RFC 3339 time; beyond the calendar (years 1 to 9999), which file systems allow, its end."""
    year, month, day, hour, minute, second = time.gmtime(min(max(seconds, _YEAR_1), _YEAR_9999))[:6]
    return f"{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z"


def _escape(text: str) -> str:
    """As ``html.escape``; an import here would fail where the page says that no file can be opened."""
    if _UNRESERVED.fullmatch(text):
        return text
    for character, reference in _REFERENCES:
        text = text.replace(character, reference)
    return text


def _page(title: str, style: str, body: str) -> bytes:
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{title}</title>\n<style>{_BASE_STYLE}{style}</style></head>\n<body>{body}</body></html>\n"
    ).encode("utf-8", "replace")  # a detail may quote a path with bytes that are not UTF-8


_BASE_STYLE = (
    ":root{color-scheme:light dark;"
    "--bg:#f7f7f5;--fg:#1d2126;--dim:#5c6470;--line:#dfe1e4;--link:#0b57b7;--on:#eceef1}"
    "@media(prefers-color-scheme:dark)"
    "{:root{--bg:#15181c;--fg:#e6e8eb;--dim:#9aa3ae;--line:#2d333b;--link:#86b7ff;--on:#20252c}}"
    "*{box-sizing:border-box}"
    "body{margin:0;background:var(--bg);color:var(--fg);font:1rem/1.5 system-ui,sans-serif}"
    "a{color:var(--link)}a:focus-visible{outline:2px solid var(--link);outline-offset:2px;border-radius:3px}"
)

_MESSAGE_STYLE = (
    "body{min-height:100vh;display:grid;place-items:center;padding:1.5rem}"
    "main{width:100%;max-width:34rem;text-align:center;text-wrap:balance;overflow-wrap:anywhere}"
    ".status{margin:0;font-size:clamp(4rem,18vw,7rem);font-weight:800;line-height:1;letter-spacing:-.04em;"
    "color:var(--link)}"
    "h1{margin:.5rem 0 .25rem;font-size:1.5rem;line-height:1.25}h1+p{margin:0;color:var(--dim)}"
    ".home{margin:1.5rem 0 0}.home a{display:inline-block;padding:.5rem 0}"
)

_LISTING_STYLE = (
    "main{max-width:60rem;margin:0 auto;padding:clamp(1rem,4vw,3rem)}"
    "h1{margin:0;font-size:1.4rem;line-height:1.4;overflow-wrap:anywhere}"
    "h1 a{text-decoration:none}h1 a:hover{text-decoration:underline}h1 a:last-child{color:var(--fg)}"
    "h1 span,h1+p{color:var(--dim)}h1+p{margin:.25rem 0 1.25rem;font-size:.9rem}"
    "table{width:calc(100% + 1.5rem);margin:0 -.75rem;border-collapse:collapse}"
    "th,td{padding:0;text-align:right;white-space:nowrap;border-bottom:1px solid var(--line)}"
    "th{font-size:.85rem;font-weight:600}"
    "th a{display:block;padding:.5rem .75rem;color:var(--dim);text-decoration:none}"
    "th a:hover,th[aria-sort] a{color:var(--fg)}"
    "td{padding:0 .75rem;color:var(--dim);font-size:.9rem;font-variant-numeric:tabular-nums}"
    "th:first-child,td:first-child{width:100%;text-align:left}"
    "td:first-child{padding:0;font-size:1rem;white-space:normal;overflow-wrap:anywhere}"
    "td a{display:block;padding:.5rem .75rem;text-decoration:none}td a:hover{text-decoration:underline}"
    ".dir a{font-weight:600}.file a{color:var(--fg)}"
    "tbody tr:hover,tbody tr:focus-within{background:var(--on)}"
    "@media(max-width:34rem){time span{display:none}td,td a,th a{padding-left:.4rem;padding-right:.4rem}"
    "td{font-size:.8rem}table{width:calc(100% + .8rem);margin:0 -.4rem}}"
)
