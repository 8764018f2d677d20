"""The frame of the pages that the server writes itself: each stands alone, light or dark as the system is."""

from __future__ import annotations

import re

UNRESERVED = re.compile(r"[A-Za-z0-9._~-]+")
"""What needs neither percent-encoding (RFC 3986 section 2.3) nor escaping for HTML: nearly all names."""

_REFERENCES = (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ('"', "&quot;"), ("'", "&#x27;"))  # & first


def escape(text: str) -> str:
    """As ``html.escape``; an import here would fail where the page says that no file can be opened."""
    if UNRESERVED.fullmatch(text):
        return text
    for character, reference in _REFERENCES:
        text = text.replace(character, reference)
    return text


def page(title: str, style: str, body: str, head: str = "") -> bytes:
    """Return the page whose ``title`` is escaped by now, and whose ``body`` and ``head`` are HTML."""
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"{head}<title>{title}</title>\n<style>{_BASE_STYLE}{style}</style></head>\n<body>{body}</body></html>\n"
    ).encode("utf-8", "replace")  # a detail may quote a path with bytes that are not UTF-8


_BASE_STYLE = (
    ":root{color-scheme:light dark;"
    "--bg:#f7f7f5;--fg:#1d2126;--dim:#5c6470;--line:#dfe1e4;--link:#0b57b7;--seen:#6b3fa0;--on:#eceef1}"
    "@media(prefers-color-scheme:dark)"
    "{:root{--bg:#15181c;--fg:#e6e8eb;--dim:#9aa3ae;--line:#2d333b;--link:#86b7ff;--seen:#c6a6f5;--on:#20252c}}"
    "*{box-sizing:border-box}"
    "body{margin:0;background:var(--bg);color:var(--fg);font:1rem/1.5 system-ui,sans-serif}"
    "a{color:var(--link)}:focus-visible{outline:2px solid var(--link);outline-offset:2px;border-radius:3px}"
)
