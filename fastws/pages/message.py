"""The pages of errors and redirects."""

from __future__ import annotations

from ..http.vocabulary import reason_phrase
from .html import escape, page


def error_page(status: int, detail: str) -> bytes:
    """Return the HTML page that names an error: status, reason phrase and ``detail``, which is plain text."""
    phrase = escape(reason_phrase(status))
    return page(
        f"{status} {phrase}",
        _STYLE,
        f'<main><p class="status">{status}</p>\n<h1>{phrase}</h1>\n<p>{escape(detail)}</p>\n'
        '<p class="home"><a href="/">Go to the start page</a></p></main>',
    )


def redirect_page(status: int, location: str) -> bytes:
    """Return the HTML page that goes with a redirect to ``location``, for clients that do not follow it."""
    phrase = escape(reason_phrase(status))
    link = f'<a href="{escape(location)}">{escape(location)}</a>'
    return page(
        f"{status} {phrase}",
        _STYLE,
        f'<main><p class="status">{status}</p>\n<h1>{phrase}</h1>\n<p>This page is at {link}.</p></main>',
    )


_STYLE = (
    "body{min-height:100vh;display:grid;place-items:center;padding:1.5rem}"
    "main{width:100%;max-width:34rem;text-align:center;text-wrap:balance;overflow-wrap:anywhere}"
    ".status{margin:0;font-size:clamp(4rem,18vw,7rem);font-weight:800;line-height:1;letter-spacing:-.04em;"
    "color:var(--link)}"
    "h1{margin:.5rem 0 .25rem;font-size:1.5rem;line-height:1.25}h1+p{margin:0;color:var(--dim)}"
    ".home{margin:1.5rem 0 0}.home a{display:inline-block;padding:.5rem 0}"
)
