"""The application: ``respond(request) -> Response``. Everything about an answer is decided here, once.

A site belongs to one configuration and knows no socket. All workers share it.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Collection
from typing import NamedTuple

from . import conditional, errorhandlers, forms, pages, ranges
from .config import Config
from .errors import HTTPError
from .files import Contents, OpenFile, Root, identity_of, is_settled, not_found
from .framing import check_host
from .httpdate import format_http_date
from .mediatypes import content_type
from .messages import ANY_CODINGS, Fields, FileSlice, Identity, Publication, Request, Response
from .policy import Policy, is_hidden
from .target import Target, encode_path, parse_target

_READ_METHODS = ("GET", "HEAD")
_NOT_IN_304 = frozenset({"Content-Type", "Content-Length", "Accept-Ranges"})


class Located(NamedTuple):
    """The file that a path leads to. ``directory`` is the one whose names decided it, empty if none did."""

    file: OpenFile
    relative: str
    directory: str = ""


class Representation(NamedTuple):
    """What could be sent of a file: its validators and its bytes, in memory or in the file."""

    body: bytes | None
    size: int
    etag: str
    identity: Identity
    last_modified: int | None
    content: object


class Site:
    """Answers requests by one configuration.

    ``keeps_bodies`` tells that answers are replayed, so that small files are worth being read into memory;
    ``hidden`` returns the (device, inode) pairs of files that are never served.
    """

    def __init__(
        self,
        config: Config,
        logger: logging.Logger,
        *,
        keeps_bodies: bool,
        hidden: Callable[[], Collection[tuple[int, int]]],
    ) -> None:
        self.config = config
        self._log = logger
        self._keeps_bodies = keeps_bodies
        self._hidden = hidden
        self._policy = Policy(config)
        self._contents = Contents(config.cache_max_file_bytes)
        nosniff = ("X-Content-Type-Options", "nosniff")
        self._common: Fields = (nosniff,)
        if config.server_header != "off":
            self._common = (("Server", config.server_header), nosniff)

    def respond(self, request: Request, body: bytes = b"", peer: str = "") -> Response:
        """Return the answer to ``request``; never raises.

        1. the version, the method and the Host field are acceptable (400, 501)
        2. the target is a path inside the root (400)
        3. the configuration does not send it elsewhere (3xx)
        4. the path is not hidden (404)
        5. the path leads to a file (301 to a directory's slash; 403, 404, 500)
        6. the file has a content type (501) and the method suits it (405); a form is filled in
        7. the preconditions hold (304, 412)
        8. the range, if any, is satisfiable (206, 416)
        9. all of the file (200)
        """
        try:
            self._check(request)
            target = parse_target(request.target)
            response = self._redirect(target)
            if response is None:
                if is_hidden(target.path):
                    raise not_found()
                response = self._serve(request, target, body)
        except HTTPError as error:
            response = self.error(error)
        except Exception:
            self._log.exception("unexpected exception while answering %s %s", request.method, request.target)
            response = self.error(HTTPError(500, "unexpected exception"))
        return response._replace(body=()) if request.method == "HEAD" else response

    def error(self, error: HTTPError) -> Response:
        """Return the response for ``error``, as configured."""
        response = errorhandlers.respond_to(error)
        fields = (*self._common, *response.fields)
        path = self.config.error_pages.get(response.status)
        if path is None:
            return response._replace(fields=fields)
        return self._error_page(response, fields, path)

    def _error_page(self, response: Response, fields: Fields, path: str) -> Response:
        """Put the configured page in the place of the built-in one, if it can be had."""
        try:
            with Root(self.config.document_root) as root:
                file = root.open(path[1:])
            try:
                if file.is_directory or not self._contents.is_small(file):
                    raise not_found()
                body = self._contents.load(file).body
            finally:
                file.close()
        except HTTPError as error:
            self._log.error("the page %s for %s cannot be sent: %s", path, response.status, error.detail)
            return response._replace(fields=fields)
        kind = content_type(path, self.config.content_types, None) or "text/html; charset=utf-8"
        own = {"Content-Type": kind, "Content-Length": str(len(body))}
        return response._replace(
            fields=tuple((name, own.get(name, value)) for name, value in fields), body=(body,)
        )

    def _check(self, request: Request) -> None:
        if request.version not in self.config.http_types:
            raise HTTPError(400, f"{request.version} is not spoken here.", close=True)
        if request.method not in self.config.request_methods:
            raise HTTPError(501, f"The method {request.method} is not implemented.")
        check_host(request)

    def _redirect(self, target: Target) -> Response | None:
        found = self._policy.redirect(target.path)
        if found is None:
            return None
        location, status = found
        return self._moved(status, location)

    def _moved(self, status: int, location: str) -> Response:
        body = pages.redirect_page(status, location)
        fields = (
            *self._common,
            ("Location", location),
            ("Content-Type", "text/html; charset=utf-8"),
            ("Content-Length", str(len(body))),
        )
        return Response(status, fields, (body,))

    def _serve(self, request: Request, target: Target, body: bytes) -> Response:
        with Root(self.config.document_root) as root:
            located = self._locate(root, target.path)
            if located is None:
                location = encode_path(target.path + "/")
                return self._moved(301, location if target.query is None else f"{location}?{target.query}")
            response = self._answer(request, target, body, located)
            if response.file is not None:
                root.keep(response.file)
            return response

    def _locate(self, root: Root, path: str) -> Located | None:
        """Return the file that ``path`` leads to, None for a directory without its slash."""
        relative = path[1:]
        if path.endswith("/"):
            return self._locate_index(root, relative)
        try:
            file = root.open(relative)
        except HTTPError as error:
            located = self._locate_instead(root, path, error)
        else:
            if file.is_directory:
                file.close()
                return None
            located = Located(file, relative)
        return self._check_visible(located)

    def _locate_index(self, root: Root, relative: str) -> Located:
        for position, name in enumerate(self.config.directory_index):
            try:
                file = root.open(relative + name)
            except HTTPError as error:
                if error.status != 404:
                    raise
                continue
            if not file.is_directory:
                # The first name decides by itself; a later one, because those before it are missing.
                return self._check_visible(
                    Located(file, relative + name, relative or "." if position else "")
                )
            file.close()
        return self._locate_instead(root, "/" + relative, not_found())

    def _locate_instead(self, root: Root, path: str, error: HTTPError) -> Located:
        """Return what the configuration serves where nothing is found; else raise ``error``."""
        if error.status != 404:
            raise error
        relative = path[1:]
        if self.config.clean_urls and relative and not relative.endswith("/"):
            try:
                file = root.open(relative + ".html")
            except HTTPError:
                pass
            else:
                if not file.is_directory:
                    return Located(file, relative + ".html", os.path.dirname(relative) or ".")
                file.close()
        if self.config.fallback:
            file = root.open(self.config.fallback[1:])
            if not file.is_directory:
                return Located(file, self.config.fallback[1:], "?")
            file.close()
        raise error

    def _check_visible(self, located: Located) -> Located:
        identity = located.file.identity
        if (identity.device, identity.inode) in self._hidden():
            located.file.close()
            raise not_found()
        return located

    def _answer(self, request: Request, target: Target, body: bytes, located: Located) -> Response:
        kind = content_type(located.relative, self.config.content_types, self.config.default_type)
        if kind is None:
            extension = os.path.splitext(located.relative)[1]
            raise HTTPError(501, f"The server knows no content type for {extension or 'such'} files.")
        if request.method not in _READ_METHODS:
            return self._submit(request, kind, body, located)
        whole = self._represent(located.file)
        now = time.time()
        whole = whole._replace(
            last_modified=conditional.plausible_last_modified(whole.identity.mtime_ns / 1e9, now)
        )
        fields = self._fields(target.path, kind, whole)
        outcome = conditional.evaluate(request.method, request.fields, whole.etag, whole.last_modified, now)
        if outcome is conditional.Outcome.NOT_MODIFIED:
            return Response(304, _without_content(fields))
        if outcome is conditional.Outcome.PRECONDITION_FAILED:
            raise HTTPError(412, "The file is not in the state that the request asks for.")
        if request.method == "GET" and "range" in request.fields:
            partial = self._partial(request, kind, fields, whole, located.file)
            if partial is not None:
                return partial
        return self._whole(request, target, fields, whole, located)

    def _represent(self, file: OpenFile) -> Representation:
        if self._keeps_bodies and self._contents.is_small(file):
            content = self._contents.load(file)
            return Representation(
                content.body, len(content.body), content.etag, content.identity, None, content
            )
        etag, identity = self._contents.tag(file)
        return Representation(None, identity.size, etag, identity, None, None)

    def _fields(self, path: str, kind: str, whole: Representation) -> Fields:
        date = whole.last_modified
        modified = () if date is None else (("Last-Modified", format_http_date(date)),)
        return (
            *self._common,
            ("Content-Type", kind),
            ("Content-Length", str(whole.size)),
            *modified,
            ("ETag", whole.etag),
            ("Accept-Ranges", "bytes"),
            *self._policy.fields(path),
        )

    def _whole(
        self, request: Request, target: Target, fields: Fields, whole: Representation, located: Located
    ) -> Response:
        if whole.body is None:
            piece = FileSlice(located.file, 0, whole.size)
            return Response(200, fields, (piece,) if request.method == "GET" else (), located.file)
        publication = None
        if request.method == "GET" and target.is_canonical:
            publication = self._publication(target, fields, whole, located)
        return Response(200, fields, (whole.body,), publication=publication)

    def _publication(
        self, target: Target, fields: Fields, whole: Representation, located: Located
    ) -> Publication | None:
        """Return what the answer depended on, None if that may change unseen."""
        if not is_settled(whole.identity) or located.directory == "?":
            return None
        root = self.config.document_root
        depends = [(os.path.join(root, located.relative), whole.identity)]
        if located.directory:
            directory = os.path.join(root, located.directory)
            identity = identity_of(os.stat(directory))
            if not is_settled(identity):
                return None
            depends.append((directory, identity))
        date = whole.last_modified
        return Publication(
            path=target.path if target.path.isascii() else encode_path(target.path),
            codings=ANY_CODINGS,
            accept_encoding=None,
            depends=tuple(depends),
            not_modified=_without_content(fields),
            etag=whole.etag,
            last_modified="" if date is None else format_http_date(date),
            content=whole.content,
        )

    def _partial(
        self, request: Request, kind: str, fields: Fields, whole: Representation, file: OpenFile
    ) -> Response | None:
        """Return the answer to a Range field (RFC 9110 section 14.2), None where all is to be sent."""
        condition = request.fields.get("if-range")
        if condition is not None and not conditional.if_range_holds(
            condition, whole.etag, whole.last_modified
        ):
            return None
        parts = ranges.parse_ranges(request.fields["range"], whole.size)
        if parts is None:
            return None
        if len(parts) == 1:
            size = parts[0].length
            fields = (*fields, ("Content-Range", ranges.content_range(parts[0], whole.size)))
            pieces = [_slice(whole, file, parts[0])]
        else:
            boundary = ranges.new_boundary()
            size = ranges.multipart_length(boundary, kind, parts, whole.size)
            pieces = [
                piece
                for part in parts
                for piece in (
                    ranges.part_head(boundary, kind, part, whole.size),
                    _slice(whole, file, part),
                )
            ]
            pieces.append(ranges.closing_delimiter(boundary))
            kind = ranges.multipart_type(boundary)
        values = {"Content-Length": str(size), "Content-Type": kind}
        fields = tuple((name, values.get(name, value)) for name, value in fields)
        return Response(206, fields, tuple(pieces), file if whole.body is None else None)

    def _submit(self, request: Request, kind: str, body: bytes, located: Located) -> Response:
        """Answer a POST: the page with the submitted fields in it."""
        if request.method != "POST" or not kind.startswith("text/html"):
            allowed = [name for name in _READ_METHODS if name in self.config.request_methods]
            raise HTTPError(405, "Only HTML pages take a form.", fields=(("Allow", ", ".join(allowed)),))
        fields: Fields = (*self._common, ("Content-Type", kind))
        if not self._contents.is_small(located.file):
            piece = FileSlice(located.file, 0, located.file.identity.size)
            size = ("Content-Length", str(piece.length))
            return Response(200, (*fields, size), (piece,), located.file)
        submitted = forms.parse_form(request.fields.get("content-type", ""), body) if body else []
        page = forms.fill_pre(self._contents.load(located.file).body, submitted)
        fields = (*fields, ("Content-Length", str(len(page))), ("Cache-Control", "no-store"))
        return Response(200, fields, (page,))


def _slice(whole: Representation, file: OpenFile, part: ranges.ByteRange) -> bytes | FileSlice:
    if whole.body is None:
        return FileSlice(file, part.first, part.length)
    return whole.body[part.first : part.first + part.length]


def _without_content(fields: Fields) -> Fields:
    """Return the fields that a 304 repeats (RFC 9110 section 15.4.5)."""
    return tuple([pair for pair in fields if pair[0] not in _NOT_IN_304])
