"""Directory listings, as HTML and as JSON."""

from __future__ import annotations

import functools
import os
import re
import time

from ..files.bounded import Bounded
from ..files.directory import ORDERS, PAGE_NAMES, SORTS, Entry, Listing, View
from ..http.messages import Fields, Request
from ..http.negotiation import prefers_json
from .html import UNRESERVED, escape, page

_PAGE_NUMBER = re.compile("[0-9]{1,9}")

KEPT_BYTES = 8 << 20
"""Listings that are kept: the memory of pages, and of what they were made from."""

ENTRY_BYTES = 200
"""What an entry of a listing takes beside its row."""

_NOT_INDEXED = "X-Robots-Tag", "noindex, nofollow"

_COLUMN_LABELS = {"name": "Name", "size": "Size", "time": "Modified (UTC)"}
_YEAR_1, _YEAR_9999 = -62135596800, 253402300799  # their first and last second


def parse_view(query: str | None) -> View:
    """Return what the query of a listing asks for: ``sort=name|size|time&order=asc|desc&page=NUMBER``.

    It comes from the client: anything else means the first.
    """
    wanted = dict(_parameter(part) for part in (query or "").split("&"))
    sort, order, page = wanted.get("sort"), wanted.get("order"), wanted.get("page", "")
    return View(
        sort if sort in SORTS else SORTS[0],
        order if order in ORDERS else ORDERS[0],
        max(1, int(page)) if _PAGE_NUMBER.fullmatch(page) else 1,
    )


def _parameter(text: str) -> tuple[str, str]:
    name, _, value = text.partition("=")
    return name, value


def _reference(view: View, page: int) -> str:
    """Return the reference, relative to the directory, of a page of the same listing."""
    pairs = []
    if (view.sort, view.order) != (SORTS[0], ORDERS[0]):
        pairs += [f"sort={view.sort}", f"order={view.order}"]
    if page > 1:
        pairs.append(f"page={page}")
    return "?" + "&".join(pairs) if pairs else "./"


def listing_page(path: str, found: Listing) -> bytes:
    """Return the HTML page of the directory ``path``, which is decoded and has a slash at both ends.

    Sorting is a form, which no crawler fills in; a page that is not sorted by name asks not to be indexed.
    """
    view = found.view
    rows = [_entry_row(entry) for entry in found.entries]
    if path != "/":
        link = '<a href="../" aria-label="parent directory">..</a>'
        rows.insert(0, f'<tr><td class="dir">{link}</td><td></td><td></td></tr>')
    headings = "".join(_column_heading(column, view) for column in SORTS)
    return page(
        f"Index of {escape(_shown(path))}",
        _STYLE,
        f"<main><h1>{_breadcrumbs(path)}</h1>\n<p>{_summary(found)}</p>\n{_turning(found)}"
        f"<table><thead><tr>{headings}</tr></thead>\n<tbody>\n"
        + "\n".join(rows)
        + f"\n</tbody></table>\n{_turning(found)}</main>",
        head="" if is_canonical(view) else '<meta name="robots" content="noindex,nofollow">',
    )


def is_canonical(view: View) -> bool:
    """Tell whether search engines should know this page of a listing: one is enough for each name."""
    return (view.sort, view.order) == (SORTS[0], ORDERS[0])


def listing_json(path: str, found: Listing) -> bytes:
    """Return the listing as JSON, an entry a line.

    ``{"path", "sort", "order", "page", "pages", "total", "next", "previous", "omitted", "entries": [{"name",
    "type", "href", "size", "modified"}]}``: ``size`` is in bytes, null for a directory, ``modified`` an RFC
    3339 time in UTC, ``href`` relative to the directory; ``next`` and ``previous`` are too, or null.
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
        for entry in found.entries
    ]
    view = found.view
    about = {
        "path": _shown(path),
        "sort": view.sort,
        "order": view.order,
        "page": view.page,
        "pages": found.pages,
        "total": found.total,
        "next": _reference(view, view.page + 1) if view.page < found.pages else None,
        "previous": _reference(view, view.page - 1) if view.page > 1 else None,
        "omitted": found.omitted,
    }
    head = encode(about)[:-1] + ', "entries": ['
    return (head + "\n" * bool(lines) + ",\n".join(lines) + "\n]}\n").encode()


class Listings:
    """Makes the pages and keeps the last ones: all answers with one share its bytes. Any thread may ask."""

    def __init__(self) -> None:
        self._made: Bounded[tuple[str, bool, View], tuple[Listing, bytes]] = Bounded(KEPT_BYTES)

    def render(self, request: Request, path: str, found: Listing) -> tuple[Fields, bytes]:
        """Return fields and body of the listing ``found`` of ``path``, in the form that ``request`` asks for."""
        as_json = prefers_json(request.fields.get("accept"))
        key = path, as_json, found.view
        known = self._made.get(key)
        if known is not None and known[0] == found:
            body = known[1]
        else:
            body = listing_json(path, found) if as_json else listing_page(path, found)
            self._made.put(key, (found, body), len(body) + ENTRY_BYTES * len(found.entries))
        kind = "application/json" if as_json else "text/html; charset=utf-8"
        fields: Fields = (("Content-Type", kind), ("Content-Length", str(len(body))), ("Vary", "Accept"))
        return fields if is_canonical(found.view) else (*fields, _NOT_INDEXED), body


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
    name = escape(_shown(entry.name))
    href = escape(_href(entry))
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


def _column_heading(column: str, view: View) -> str:
    """A button that sorts by ``column``, and the other way round where the listing is sorted by it already."""
    state, other, arrow, more = "", "asc", "", ""
    if column == view.sort:
        state, other, arrow = {
            "asc": ("ascending", "desc", "▲"),
            "desc": ("descending", "asc", "▼"),
        }[view.order]
        more, arrow = f' aria-sort="{state}"', f'<span aria-hidden="true"> {arrow}</span>'
    return (
        f'<th scope="col"{more}><form><input type="hidden" name="order" value="{other}">'
        f'<button name="sort" value="{column}">{_COLUMN_LABELS[column]}{arrow}</button></form></th>'
    )


def _turning(found: Listing) -> str:
    """The links to the other pages, '' where there is one page."""
    if found.pages == 1:
        return ""
    view, pages = found.view, found.pages
    near = [number for number in range(view.page - 2, view.page + 3) if 1 <= number <= pages]
    numbers = sorted({1, *near, pages})
    links = []
    for before, number in zip([0, *numbers], numbers, strict=False):
        if number > before + 1:
            links.append("<span>…</span>")
        links.append(_page_link(view, number, str(number)))
    previous = _page_link(view, view.page - 1, "Previous", "prev") if view.page > 1 else ""
    following = _page_link(view, view.page + 1, "Next", "next") if view.page < pages else ""
    return f'<nav aria-label="Pages">{previous}{"".join(links)}{following}</nav>\n'


def _page_link(view: View, page: int, text: str, relation: str = "") -> str:
    current = ' aria-current="page"' if page == view.page else ""
    relations = [relation] * bool(relation) + ["nofollow"] * (not is_canonical(view))
    rel = f' rel="{" ".join(relations)}"' if relations else ""
    return f'<a href="{escape(_reference(view, page))}"{rel}{current}>{text}</a>'


def _breadcrumbs(path: str) -> str:
    """The path with each directory above as a link; absolute, and never with two slashes at the start."""
    names = [name for name in path.split("/") if name]
    href = "/"
    links = [f'<a href="{href}">root</a>']
    for name in names:
        href += f"{_quote(name)}/"
        links.append(f'<a href="{href}">{escape(_shown(name))}</a>')
    return '<span aria-hidden="true"> / </span>'.join(links)


def _summary(found: Listing) -> str:
    omitted = f" {found.omitted:,} more are not listed." if found.omitted else ""
    if found.pages > 1:
        first = (found.view.page - 1) * PAGE_NAMES
        last = min(first + PAGE_NAMES, found.total)
        return f"Names {first + 1:,} to {last:,} of {found.total:,}.{omitted}"
    if not found.entries:
        return "This directory is empty."
    sizes = [entry.size_bytes for entry in found.entries if not entry.is_directory]
    directories = len(found.entries) - len(sizes)
    counts = (
        (directories, f"{directories} director{'y' if directories == 1 else 'ies'}"),
        (len(sizes), f"{len(sizes)} file{'' if len(sizes) == 1 else 's'}, {human_size(sum(sizes))}"),
    )
    return " · ".join(text for count, text in counts if count) + omitted


def _href(entry: Entry) -> str:
    return _quote(entry.name) + "/" * entry.is_directory


def _quote(name: str) -> str:
    if UNRESERVED.fullmatch(name):
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


_STYLE = (
    "main{max-width:60rem;margin:0 auto;padding:clamp(1rem,4vw,3rem)}"
    "h1{margin:0;font-size:1.4rem;line-height:1.4;overflow-wrap:anywhere}"
    "h1 a{text-decoration:none}h1 a:hover{text-decoration:underline}h1 a:last-child{color:var(--fg)}"
    "h1 span,h1+p{color:var(--dim)}h1+p{margin:.25rem 0 1.25rem;font-size:.9rem}"
    "table{width:calc(100% + 1.5rem);margin:0 -.75rem;border-collapse:collapse}"
    "th,td{padding:0;text-align:right;white-space:nowrap;border-bottom:1px solid var(--line)}"
    "th{font-size:.85rem;font-weight:600}"
    "th button{width:100%;padding:.5rem .75rem;border:0;background:none;color:var(--dim);font:inherit;"
    "text-align:inherit;white-space:nowrap;cursor:pointer}th button:hover{text-decoration:underline}"
    "th button:hover,th[aria-sort] button{color:var(--fg)}"
    "td{padding:0 .75rem;color:var(--dim);font-size:.9rem;font-variant-numeric:tabular-nums}"
    "th:first-child,td:first-child{width:100%;text-align:left}"
    "td:first-child{padding:0;font-size:1rem;white-space:normal;overflow-wrap:anywhere}"
    "td a{display:block;padding:.5rem .75rem;text-decoration:none}td a:hover{text-decoration:underline}"
    ".dir a{font-weight:600}td a:visited{color:var(--seen)}"
    "nav{display:flex;flex-wrap:wrap;gap:.25rem;margin:0 0 1rem -.6rem}nav:last-child{margin-top:1rem}"
    "nav>*{padding:.35rem .6rem;border-radius:6px;text-decoration:none;font-variant-numeric:tabular-nums}"
    "nav a:hover{background:var(--on)}nav [aria-current]{background:var(--on);color:var(--fg);font-weight:600}"
    "tbody tr:hover,tbody tr:focus-within{background:var(--on)}"
    "@media(max-width:34rem){time span{display:none}td,td a,th button{padding-left:.4rem;padding-right:.4rem}"
    "td{font-size:.8rem}table{width:calc(100% + .8rem);margin:0 -.4rem}}"
)
