"""HTTP's own words, each spelled once: tokens, methods, months, reason phrases."""

from __future__ import annotations

TOKEN_CHARACTER = r"[!#$%&'*+.^_`|~0-9A-Za-z-]"
"""What a token is made of, as a regular expression (RFC 9110 section 5.6.2)."""

TOKEN = TOKEN_CHARACTER + "+"

QUOTED_STRING = r'"(?:[\t !#-\[\]-~\x80-\xff]|\\[\t -~\x80-\xff])*"'
"""A quoted string with its quotes, as a regular expression (RFC 9110 section 5.6.4)."""

NO_TRAILERS = frozenset(
    (
        # message framing, and what concerns this connection alone
        *("connection", "content-length", "keep-alive", "proxy-connection", "te", "trailer"),
        *("transfer-encoding", "upgrade"),
        # routing
        *("host", "max-forwards"),
        # authentication
        *("authorization", "cookie", "proxy-authenticate", "proxy-authorization", "set-cookie"),
        "www-authenticate",
        # what modifies the request: controls, conditions, negotiation
        *("accept", "accept-charset", "accept-encoding", "accept-language", "cache-control", "expect"),
        *("if-match", "if-modified-since", "if-none-match", "if-range", "if-unmodified-since"),
        *("pragma", "range"),
        # what controls the response
        *("age", "date", "expires", "location", "retry-after", "vary", "warning"),
        # what the content is
        *("content-encoding", "content-range", "content-type"),
    )
)
"""The fields, in lower case, that must be known before the content, so that a trailer section may not have them.

RFC 9110 section 6.5.1 names the kinds, RFC 7230 section 4.1.2 the fields."""

READ_METHODS = ("GET", "HEAD")
"""The methods by which a resource is only read."""

MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
"""The months as an HTTP-date (RFC 9110 section 5.6.7) and the common log format spell them."""

REASON_PHRASES = {
    100: "Continue",
    200: "OK",
    204: "No Content",
    206: "Partial Content",
    301: "Moved Permanently",
    302: "Found",
    303: "See Other",
    304: "Not Modified",
    307: "Temporary Redirect",
    308: "Permanent Redirect",
    400: "Bad Request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    406: "Not Acceptable",
    408: "Request Timeout",
    409: "Conflict",
    410: "Gone",
    411: "Length Required",
    412: "Precondition Failed",
    413: "Content Too Large",
    414: "URI Too Long",
    415: "Unsupported Media Type",
    416: "Range Not Satisfiable",
    417: "Expectation Failed",
    421: "Misdirected Request",
    422: "Unprocessable Content",
    426: "Upgrade Required",
    428: "Precondition Required",
    429: "Too Many Requests",
    431: "Request Header Fields Too Large",
    451: "Unavailable For Legal Reasons",
    500: "Internal Server Error",
    501: "Not Implemented",
    502: "Bad Gateway",
    503: "Service Unavailable",
    504: "Gateway Timeout",
    505: "HTTP Version Not Supported",
    507: "Insufficient Storage",
}
"""Status code → reason phrase; those of ``http.HTTPStatus`` depend on the version of Python."""


def reason_phrase(status: int) -> str:
    """Return the reason phrase of ``status`` (RFC 9110 section 15, RFC 6585), empty if it has none here."""
    return REASON_PHRASES.get(status, "")
