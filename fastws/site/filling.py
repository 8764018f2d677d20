"""Files that are asked for the first time: published by what was decided about another of the same type.

When Python has decided about ``/a.png``, all that ``/b.png`` needs is to be opened and read, as long as nothing in
the configuration tells the two paths apart. The reactor asks for that before it reports the request. Where there
is no such file, it gets the site's 404 instead.
"""

from __future__ import annotations

import logging
import time

from ..backend import Parser, Reactor
from ..files import representation as rep
from ..files.identity import is_settled
from ..http.errors import HTTPError
from ..http.httpdate import format_http_date
from ..http.messages import ANY_CODINGS, Fields, Prepared, Publication
from ..http.urlpath import PLAIN
from ..language.named_tuple import NamedTuple
from ..seam import Filled, Published
from .places import Places
from .rules import FILE, Rules

# Looked up once: that takes a member of an enum as long as a call.
PUBLISHED = Filled.PUBLISHED
UNDECIDED = Filled.UNDECIDED

_new_tuple = tuple.__new__

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
    """Publishes answers for one site, or prepares its 404. Any thread may call."""

    def __init__(self, rules: Rules, places: Places, logger: logging.Logger) -> None:
        self._rules = rules
        self._places = places
        self._folder = None if places.only is None else places.only.folder  # where there is but one
        self._log = logger
        # By type, what the configuration adds to its files, and accepted codings.
        self._templates: dict[tuple[str | None, Fields, int], _Template] = {}
        # Paths for which nothing was published since something was learned: were they missing?
        self._vain: dict[str, bool] = {}

    def learn(self, publication: Publication, head: bytes, not_modified_head: bytes) -> None:
        """Take the heads of a published answer for a pattern of others, if it is typical of them."""
        path = publication.path
        self._vain.pop(path, None)
        if not publication.is_typical or not PLAIN.fullmatch(path):
            return  # the rules for a path are those for its decoded form, which only a plain one is
        if len(self._templates) >= MAX_TEMPLATES:
            return
        key = self._rules.types.known(path), self._rules.fields(path), publication.codings
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

    def __call__(self, parser: Parser, reactor: Reactor, path: str, codings: int) -> Filled | Prepared:
        """Publish the answer to ``path`` for these accepted codings, if nothing but its file is to be found out.

        Where there is no file, the result is the 404 itself.
        """
        try:
            is_missing = self._vain.get(path)
            if is_missing is False:
                return UNDECIDED
            answer: Filled | Prepared = UNDECIDED
            if (  # the rules for a path are those for its decoded form, which only a plain one is
                PLAIN.fullmatch(path) and self._rules.answerer(path) is FILE
            ):
                if is_missing is None and self._publish(reactor, path, codings):
                    return PUBLISHED
                answer = self._refuse(parser, path)
            if len(self._vain) >= MAX_VAIN:
                self._vain.clear()  # one step, whatever other threads are doing
            self._vain[path] = answer is not UNDECIDED
            return answer
        except Exception:
            self._log.exception("unexpected exception while filling in %s", path)
            return UNDECIDED

    def _publish(self, reactor: Reactor, path: str, codings: int) -> bool:
        rules = self._rules
        kind, coding = rules.types.describe(path)
        if coding:
            return False
        configured = rules.fields(path)
        template = self._templates.get((kind, configured, codings))
        if template is None:
            template = self._templates.get((kind, configured, ANY_CODINGS))
        if template is None:
            return False
        now_ns = time.time_ns()
        folder, inner = self._folder, path
        if folder is None:
            folder, inner = self._places.inside(path)
        found = folder.read(inner)
        if found is None:
            return False
        body, identity = found
        date = rep.last_modified(identity, now_ns)
        if date is None or not is_settled(identity, now_ns):
            return False
        content = folder.contents.of_bytes(body, identity)
        last_modified, etag = format_http_date(date), content.etag
        date_bytes, tag_bytes = last_modified.encode(), etag.encode()
        reactor.publish(
            _new_tuple(  # to have its class called would cost twice as much
                Published,
                (
                    path,
                    template.codings,
                    template.head % (len(body), date_bytes, tag_bytes),
                    template.not_modified_head % (date_bytes, tag_bytes),
                    content.body,
                    etag,
                    last_modified,
                    ((f"{folder.path}{inner}", identity),),
                    content,
                    -1,
                    True,
                ),
            )
        )
        return True

    def _refuse(self, parser: Parser, path: str) -> Filled | Prepared:
        """Return the 404 for ``path``, ``UNDECIDED`` if anything may be found there."""
        if path.endswith("/"):
            return UNDECIDED
        try:
            if self._folder is not None:
                with self._folder.open() as root:
                    self._folder.locate(root, path)
                return UNDECIDED
            place = self._places.find(path)
            with place.folder.open() as root:
                self._places.locate(root, path, place)
            return UNDECIDED
        except HTTPError as error:
            if error.status != 404:
                return UNDECIDED
            response = self._rules.error(error, path)
        head = parser.build_head(response.status, response.fields)
        (body,) = response.body
        assert isinstance(body, bytes)
        return Prepared(response.status, head, body, response.detail)


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
