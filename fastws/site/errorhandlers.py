"""Errors by name: each status has a handler that makes its response (RFC 9110 section 15).

A handler decides which fields and whether the connection ends belong to its status; the page is made in
``pages.py``. ``respond_to`` is the table's entrance.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

from ..config.settings import Config
from ..files.root import Contents, Root, not_found
from ..http.errors import HTTPError
from ..http.messages import Fields, Response
from ..pages.listing import error_page

RETRY_AFTER_S = 5

Handler = Callable[[HTTPError], Response]


def _answer(error: HTTPError) -> Response:
    """The page, with the fields that the error brings; the connection ends if the error says so."""
    return _page(error, close=error.close)


def _last_answer(error: HTTPError) -> Response:
    """The page, and the end of the connection: where the request ends is not known."""
    return _page(error, close=True)


def error500(error: HTTPError) -> Response:
    """The server's own failure. The page tells nothing of its inside; the error log does."""
    page = HTTPError(500, "The server failed to answer this request. Its error log says why.")
    return _page(page, close=error.close)._replace(detail=error.detail)


def error503(error: HTTPError) -> Response:
    """Overloaded or ending: try again."""
    return _page(error, (("Retry-After", str(RETRY_AFTER_S)),), close=error.close)


error400: Handler = _answer  # malformed, or a target that leaves the root
error401: Handler = _answer  # the error's fields hold the challenge
error403: Handler = _answer  # the file is there and may not be read
error404: Handler = _answer  # not there, or not to be seen
error405: Handler = _answer  # the error's fields hold Allow
error406: Handler = _answer  # no form of the file is acceptable
error408: Handler = _last_answer  # the request took too long to arrive
error412: Handler = _answer  # a precondition failed
error413: Handler = _last_answer  # the body is too large to be read
error414: Handler = _last_answer  # the request line is too long to be read
error415: Handler = _answer  # the body is of a type that no form has
error416: Handler = _answer  # the error's fields hold Content-Range
error417: Handler = _last_answer  # nobody knows whether a body follows
error431: Handler = _last_answer  # the head is too large to be read
error501: Handler = _answer  # the method, the file's type or the transfer coding is not implemented

HANDLERS: dict[int, Handler] = {
    400: error400, 401: error401, 403: error403, 404: error404, 405: error405, 406: error406, 408: error408,
    412: error412, 413: error413, 414: error414, 415: error415, 416: error416, 417: error417, 431: error431,
    500: error500, 501: error501, 503: error503,
}  # fmt: skip


def respond_to(error: HTTPError) -> Response:
    """Return the response for ``error``; a status without a handler is a failure of the server itself."""
    return HANDLERS.get(error.status, error500)(error)


def with_page(response: Response, path: str, config: Config, contents: Contents) -> Response:
    """Return ``response`` with the configured page at ``path`` as its body.

    Raises ``HTTPError`` if that cannot be had.
    """
    body = page_body(path, config, contents)
    kind = config.media_types.known(path) or "text/html; charset=utf-8"
    own = {"Content-Type": kind, "Content-Length": str(len(body))}
    fields = tuple([(name, own.get(name, value)) for name, value in response.fields])
    return response._replace(fields=fields, body=(body,))


def page_body(path: str, config: Config, contents: Contents) -> bytes:
    """Return the content of the page at ``path``, which must fit into memory; raises ``HTTPError``."""
    with Root(config.document_root) as root:
        file = root.open(path[1:])
        if file.is_directory:
            raise not_found()
        if not contents.is_small(file):
            raise HTTPError(500, "It is larger than CacheMaxFile.")
        return contents.load(file).body


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
