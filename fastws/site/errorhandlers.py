"""Errors by name: each status has a handler that makes its response (RFC 9110 section 15).

A handler decides which fields and whether the connection ends belong to its status; the page is made by
``pages/message.py``. ``respond_to`` is the table's entrance.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

from ..http.errors import HTTPError
from ..http.messages import Fields, Response
from ..pages.message import error_page

RETRY_AFTER_S = 5

Handler = Callable[[HTTPError], Response]


def _respond(error: HTTPError) -> Response:
    """The page, with the fields that the error brings; the connection ends if the error says so."""
    return _page(error, close=error.close)


def _respond_last(error: HTTPError) -> Response:
    """The page, and the end of the connection: where the request ends is not known."""
    return _page(error, close=True)


def error500(error: HTTPError) -> Response:
    """The server's own failure. The page tells nothing of its inside; the error log does."""
    page = HTTPError(500, "The server failed to answer this request. Its error log says why.")
    return _page(page, close=error.close)._replace(detail=error.detail)


def error507(error: HTTPError) -> Response:
    """No room on the disk: try again, and nothing of a body is read any more."""
    return _page(error, (("Retry-After", str(RETRY_AFTER_S)),), close=True)


def error503(error: HTTPError) -> Response:
    """Overloaded or ending: try again."""
    return _page(error, (("Retry-After", str(RETRY_AFTER_S)),), close=error.close)


error400: Handler = _respond  # malformed, or a target that leaves the root
error401: Handler = _respond  # the error's fields hold the challenge
error403: Handler = _respond  # the file is there and may not be read
error404: Handler = _respond  # not there, or not to be seen
error405: Handler = _respond  # the error's fields hold Allow
error406: Handler = _respond  # no form of the file is acceptable
error408: Handler = _respond_last  # the request took too long to arrive
error412: Handler = _respond  # a precondition failed
error413: Handler = _respond_last  # the body is too large to be read
error414: Handler = _respond_last  # the request line is too long to be read
error415: Handler = _respond  # the body is of a type that no form has
error416: Handler = _respond  # the error's fields hold Content-Range
error417: Handler = _respond_last  # nobody knows whether a body follows
error421: Handler = _respond  # no certificate is for the host that is to be sent to https
error431: Handler = _respond_last  # the head is too large to be read
error501: Handler = _respond  # the method, the file's type or the transfer coding is not implemented
error502: Handler = _respond  # the application's process ended
error504: Handler = _respond  # the application took too long

HANDLERS: dict[int, Handler] = {
    400: error400, 401: error401, 403: error403, 404: error404, 405: error405, 406: error406, 408: error408,
    412: error412, 413: error413, 414: error414, 415: error415, 416: error416, 417: error417, 421: error421,
    431: error431, 500: error500, 501: error501, 502: error502, 503: error503, 504: error504, 507: error507,
}  # fmt: skip


def respond_to(error: HTTPError) -> Response:
    """Return the response for ``error``; a status without a handler is a failure of the server itself."""
    return HANDLERS.get(error.status, error500)(error)


def with_page(response: Response, kind: str, body: bytes) -> Response:
    """Return ``response`` with another page, of the media type ``kind``, as its body."""
    own = {"Content-Type": kind, "Content-Length": str(len(body))}
    fields = tuple([(name, own.get(name, value)) for name, value in response.fields])
    return response._replace(fields=fields, body=(body,))


def _page(error: HTTPError, fields: Fields = (), *, close: bool = False) -> Response:
    return _response(error.status, error.detail, (*error.fields, *fields), close)


@functools.lru_cache(maxsize=256)
def _response(status: int, detail: str, fields: Fields, close: bool) -> Response:
    body = error_page(status, detail)
    own = (
        ("Content-Type", "text/html; charset=utf-8"),
        ("Content-Length", str(len(body))),
        ("Cache-Control", "no-store"),
    )
    return Response(status, (*own, *fields), (body,), close=close, detail=detail)
