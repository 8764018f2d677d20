"""What may be replayed, and for how long: the reactor gets each response with its dependencies."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Protocol

from ..application.mounts import Call
from ..backend import Parser, Reactor
from ..files.identity import identity_of, is_settled
from ..files.locate import Located
from ..files.representation import not_modified_fields
from ..files.variants import Choice
from ..http.httpdate import format_http_date
from ..http.messages import Fields, Publication, Request, Response
from ..http.target import Target
from ..http.urlpath import encode_path
from ..language.named_tuple import NamedTuple
from ..seam import Published
from .filling import Filling
from .places import Place

MAX_DEPENDS = 4
"""Paths that the reactor looks at for one published answer."""


class Decision(NamedTuple):
    """The response to one request, and the permission to replay it, None if there is none.

    Where there is a ``call``, an application makes the response, and ``response`` is none of it.
    """

    response: Response
    publication: Publication | None = None
    call: Call | None = None


class Answering(Protocol):
    """What decides about requests: a ``Site``, or what stands in its place."""

    error: Callable[..., Response]
    """Return the response for an ``HTTPError``, and for the decoded paths as far as they are known."""

    def respond(self, request: Request, body: bytes = b"", peer: str = "") -> Decision:
        """Return the response to ``request``; raises only ``UndecidedError``."""

    def call_again(self, request: Request) -> Call | None:
        """Return the call for what is known to be an application's; None where ``respond`` tells."""

    def lends(self, request: Request) -> bool:
        """Tell whether an application answers ``request``. Raises ``HTTPError`` 400."""

    def refuse(self, request: Request, peer: str = "") -> Response | None:
        """Return what answers ``request`` whatever its body is, None if the body matters."""


def build(
    place: Place, target: Target, located: Located, choice: Choice, fields: Fields, now_ns: int
) -> Publication | None:
    """Return what a 200 with ``fields``, or a part of it, depended on, None if that may change unseen.

    The file was ``located`` in ``place``.
    The answer must be one to GET that depended on method, version, path, Accept-Encoding and Range alone, and the
    file of the chosen form be settled. ``now_ns`` is when the request began: what changed since then may have been
    looked at before it changed.
    """
    chosen, form = choice.chosen, choice.chosen.form
    if not choice.is_final or not target.is_canonical or located.by_names_anywhere:
        return None
    folder = place.folder.path
    depends = [(f"{folder}/{path}", identity) for path, identity in choice.depends]
    if located.by_names or choice.by_names:
        directory = os.path.join(folder, located.directory)
        try:
            depends.append((directory, identity_of(os.stat(directory))))
        except OSError:
            return None  # gone since then
    if len(depends) > MAX_DEPENDS:
        return None
    for _, identity in depends:
        if identity is not form.identity and not is_settled(identity, now_ns):
            return None
    date, is_coded = form.last_modified, form.is_coded
    is_own_name = f"{place.prefix}/{located.relative}" == target.path
    is_plain = is_own_name and not is_coded and chosen.body is not None
    return Publication(
        path=encode_path(target.path),
        codings=choice.codings,
        accept_encoding=choice.accept_encoding,
        depends=tuple(depends),
        fields=fields,
        etag=form.etag,
        last_modified="" if date is None else format_http_date(date),
        body=chosen.body or b"",
        content=chosen.content,
        body_file=-1 if chosen.body is not None else [known for _, known in depends].index(form.identity),
        ranges=not is_coded,
        is_typical=is_plain and len(depends) == 1 and date is not None,
    )


def publish(published: Publication, reactor: Reactor, parser: Parser, filling: Filling) -> bool:
    """Have the reactor replay ``published``, and ``filling`` learn from it. False if a field is invalid."""
    if published.accept_encoding is not None:
        reactor.learn_codings(published.accept_encoding, published.codings)
    if reactor.has(published.path, published.codings, published.depends, published.content):
        return True
    try:
        head = parser.build_head(200, published.fields)
        not_modified_head = parser.build_head(304, not_modified_fields(published.fields))
    except ValueError:
        return False
    filling.learn(published, head, not_modified_head)
    reactor.publish(
        Published(
            path=published.path,
            codings=published.codings,
            head=head,
            not_modified_head=not_modified_head,
            body=published.body,
            etag=published.etag,
            last_modified=published.last_modified,
            depends=published.depends,
            content=published.content,
            body_file=published.body_file,
            ranges=published.ranges,
        )
    )
    return True
