"""Files that are asked for the first time: published by what was decided about another of the same type.

When Python has decided about ``/a.png``, all that ``/b.png`` needs is to be opened and read, as long as nothing in
the configuration tells the two paths apart. The reactor asks for that before it reports the request. Where there
is no such file, it gets the site's 404 instead.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Collection
from typing import NamedTuple

from ..backend import Opener, Parser, Reactor
from ..config.redirects import Redirects
from ..config.settings import Config
from ..files import representation as rep
from ..files.locate import Locator
from ..files.root import Contents, Root, is_settled
from ..http.errors import HTTPError
from ..http.httpdate import format_http_date
from ..http.messages import ANY_CODINGS, Fields, Prepared, Publication, Response
from ..http.urlpath import PLAIN
from .auth import Auth
from .policy import Policy
from .status import Status

MAX_TEMPLATES = 1024

MAX_VAIN = 1024
"""Paths for which there was nothing to publish."""


class _Template(NamedTuple):
    """What the answers for all files of one type have in common.

    The heads lack length, date and entity tag, the second one the length anyway, and take them by ``%``.
    """

    head: bytes
    not_modified_head: bytes
    codings: int


class Filling:
    """Publishes answers for one site, or prepares its 404. Any thread may call; ``most`` bytes are kept in memory.

    ``hidden`` returns the (device, inode) pairs of files that are never served; ``error`` is the site's response
    for an error and a path.
    """

    def __init__(
        self,
        config: Config,
        logger: logging.Logger,
        opener: Opener,
        contents: Contents,
        most: int,
        *,
        auth: Auth,
        policy: Policy,
        redirects: Redirects | None,
        status: Status | None,
        locator: Locator,
        error: Callable[[HTTPError, str], Response],
        hidden: Callable[[], Collection[tuple[int, int] | None]],
    ) -> None:
        self._log = logger
        self._types = config.media_types
        self._root = config.document_root
        self._root_bytes = os.fsencode(config.document_root)
        self._opener = opener
        self._contents = contents
        self._most = most
        self._auth = auth
        self._policy = policy
        self._redirects = redirects
        self._status = status
        self._locator = locator
        self._error = error
        self._hidden = hidden
        # By type, what the configuration adds to its files, and accepted codings.
        self._templates: dict[tuple[str, Fields, int], _Template] = {}
        # Paths for which nothing was published since something was learned: were they missing?
        self._vain: dict[str, bool] = {}

    def learn(self, publication: Publication, head: bytes, not_modified_head: bytes) -> None:
        """Take the heads of a published answer for a pattern of others, if it is typical of them."""
        path = publication.path
        self._vain.pop(path, None)
        if not publication.is_typical or self._auth.is_on or not PLAIN.fullmatch(path):
            return  # the rules for a path are those for its decoded form, which only a plain one is
        if len(self._templates) >= MAX_TEMPLATES:
            return
        key = self._types.find(path) or "", self._policy.fields(path), publication.codings
        if key in self._templates:
            return
        length = b"Content-Length: %d\r\n" % publication.depends[0][1].size
        date = f"Last-Modified: {publication.last_modified}\r\n".encode("latin-1")
        tag = f"ETag: {publication.etag}\r\n".encode("latin-1")
        general = _generalise(head, length, date, tag)
        general_not_modified = _generalise(not_modified_head, date, tag)
        if general and general_not_modified:
            self._templates[key] = _Template(general, general_not_modified, publication.codings)
            self._vain.clear()

    def __call__(self, parser: Parser, reactor: Reactor, path: str, codings: int) -> Prepared | bool:
        """Publish the answer to ``path`` for these accepted codings, if nothing but its file is to be found out.

        True if that is done. The 404 itself where there is no file; False where ``Site.respond`` must decide.
        """
        try:
            is_missing = self._vain.get(path)
            if is_missing is None and self._publish(reactor, path, codings):
                return True
            answer = False if is_missing is False else self._refuse(parser, path)
            if len(self._vain) >= MAX_VAIN:
                self._vain.clear()  # one step, whatever other threads are doing
            self._vain[path] = answer is not False
            return answer
        except Exception:
            self._log.exception("unexpected exception while filling in %s", path)
            return False

    def _publish(self, reactor: Reactor, path: str, codings: int) -> bool:
        if self._types.coding(path):
            return False
        kind, configured = self._types.find(path) or "", self._policy.fields(path)
        template = self._templates.get((kind, configured, codings))
        if template is None:
            template = self._templates.get((kind, configured, ANY_CODINGS))
        if template is None or not PLAIN.fullmatch(path) or self._is_answered_otherwise(path):
            return False
        now_ns = time.time_ns()
        found = self._opener.read_beneath(self._root_bytes, path[1:].encode(), self._most)
        if found is None:
            return False
        body, identity = found
        date = rep.last_modified(identity, now_ns)
        if date is None or not is_settled(identity, now_ns) or identity[:2] in self._hidden():
            return False
        content = self._contents.of_bytes(body, identity)
        last_modified, etag = format_http_date(date), content.etag
        date_bytes, tag_bytes = last_modified.encode(), etag.encode()
        reactor.publish(
            path=path,
            codings=template.codings,
            head=template.head % (len(body), date_bytes, tag_bytes),
            not_modified_head=template.not_modified_head % (date_bytes, tag_bytes),
            body=content.body,
            etag=etag,
            last_modified=last_modified,
            depends=((f"{self._root}{path}", identity),),
            content=content,
            ranges=True,
        )
        return True

    def _refuse(self, parser: Parser, path: str) -> Prepared | bool:
        """Return the 404 for ``path``, False if anything may be found there."""
        if (
            self._auth.is_on
            or path.endswith("/")
            or not PLAIN.fullmatch(path)
            or self._is_answered_otherwise(path)
        ):
            return False
        if os.access(self._root + path, os.F_OK, follow_symlinks=False):
            return False  # nearly always; the rest is to be sure
        try:
            with Root(self._root, self._opener) as root:
                self._locator.locate(root, path)
        except HTTPError as error:
            if error.status != 404:
                return False
            response = self._error(error, path)
        else:
            return False
        head = parser.build_head(response.status, response.fields)
        (body,) = response.body
        assert isinstance(body, bytes)
        return Prepared(response.status, head, body, response.detail)

    def _is_answered_otherwise(self, path: str) -> bool:
        """Tell whether ``path`` is redirected, or one of the server's own pages."""
        if self._status is not None and self._status.covers(path):
            return True
        return self._redirects is not None and self._redirects.find(path) is not None


def _generalise(head: bytes, *lines: bytes) -> bytes | None:
    """Return ``head`` with its values of these field lines left out, to be filled in by ``%``.

    None unless they are there, once each and in this order.
    """
    rest, pieces = head.replace(b"%", b"%%"), []
    for line in lines:
        before, found, rest = rest.partition(line)
        if not found or line in rest:
            return None
        name = line.partition(b" ")[0]
        pieces.append(before + name + (b" %d\r\n" if name == b"Content-Length:" else b" %b\r\n"))
    return b"".join(pieces) + rest
