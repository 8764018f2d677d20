"""What the configuration makes of one path: who answers it, with which fields, and how an error looks there.

``Site`` asks before it answers a request, and ``Filling`` before it answers a path in the site's place.
"""

from __future__ import annotations

import logging
import os
from enum import StrEnum

from ..application.mounts import Call, Mount, Mounts
from ..config.redirects import Redirects
from ..config.settings import Config
from ..files.variants import SIDECARS
from ..http.errors import HTTPError
from ..http.messages import Fields, Request, Response
from ..http.target import Target
from .auth import Auth
from .errorhandlers import respond_to, with_page
from .hidden import is_hidden
from .places import Places
from .policy import Policy
from .status import Status, StatusSource


class Answerer(StrEnum):
    """What answers a path. Files may be replayed; only what ``FILE`` answers is filled in without a request."""

    STATUS = "a status page, to those who may see it; to others what else answers the path"
    MOVED = "a redirect"
    HIDDEN = "nothing, whatever lies there"
    GUARDED = "a file or an application, to those who have a password"
    APPLICATION = "an application, to everybody"
    EITHER = "a file if there is one, else an application, to everybody"
    FILE = "a file, a listing or the lack of it, to everybody"


# Looked up once: that takes a member of an enum as long as a call.
STATUS, MOVED, HIDDEN, GUARDED, APPLICATION, EITHER, FILE = Answerer


class Rules:
    """The rules of one configuration. Any thread may ask.

    ``places`` hold files and the pages of errors; ``source`` knows what StatusPath shows; ``mounts`` are the
    applications. Raises ``ConfigError`` where BasicAuth cannot be had.
    """

    def __init__(
        self,
        config: Config,
        places: Places,
        logger: logging.Logger,
        source: StatusSource | None = None,
        mounts: Mounts | None = None,
    ) -> None:
        self._config = config
        self._places = places
        self._log = logger
        self._auth = Auth(config, logger, places)
        self._policy = Policy(config)
        self._redirects = Redirects(config.redirects) if config.redirects else None
        self._mounts = mounts or None  # what is not there costs nothing
        self._status = (
            None if config.status_path is None else Status(config, source, places.root.folder.variants)
        )
        self.types = config.media_types
        self.fields = self._policy.fields
        self.passing_fields = self._policy.passing_fields
        self.header_fields = self._policy.header_fields
        self.common: Fields = ()
        """The fields of every response."""
        if config.server_header != "off":
            self.common = (("Server", config.server_header),)

    # Who answers

    def answerer(self, path: str, *, shows_status: bool = True) -> Answerer:
        """Return what answers the decoded ``path``, or would if no status page were shown."""
        if self._status is not None and shows_status and self._status.covers(path):
            return STATUS
        if self._redirects is not None and self._redirects.find(path) is not None:
            return MOVED
        if "/." in path and is_hidden(path):
            return HIDDEN
        if self._auth.is_on and self._is_guarded(path):
            return GUARDED
        return FILE if self._mounts is None else self.unguarded(path)

    def unguarded(self, path: str) -> Answerer:
        """Return what answers the decoded ``path`` where nothing goes before an application or a file."""
        if self.mount(path) is None:
            return FILE
        return EITHER if self._config.files_first else APPLICATION

    def _is_guarded(self, path: str) -> bool:
        return any(map(self._auth.guards, _protected_as(path)))

    def mount(self, path: str) -> Mount | None:
        """Return the application that answers the decoded ``path`` where nothing else does, None if none does."""
        mount = None if self._mounts is None else self._mounts.find(path)
        if mount is None or len(self._places.find(path).prefix) > len(mount.prefix):
            return None
        return mount

    def lends(self, path: str) -> bool:
        """Tell whether an application answers the decoded ``path``, if need be to those who have a password."""
        answerer = FILE if self._mounts is None else self.answerer(path)
        return answerer in (APPLICATION, EITHER) or (answerer is GUARDED and self.mount(path) is not None)

    # What each of them needs

    def call(self, mount: Mount, request: Request, target: Target, user: str) -> Call:
        """Return what ``mount`` is called with for a request of ``user``, '' where anybody may ask."""
        assert self._mounts is not None
        fields = (*self.common, *self._policy.given_fields(target.path))
        return self._mounts.call(mount, request, target, user, fields)

    def status_page(self, request: Request, path: str, peer: str) -> Response | None:
        """Return the status page at the decoded ``path``, None if ``peer`` is not to see one there.

        Raises ``HTTPError`` 405.
        """
        return None if self._status is None else self._status.respond(request, path, peer)

    def redirect(self, target: Target) -> tuple[str, int]:
        """Return Location and status of a path that is moved."""
        found = None if self._redirects is None else self._redirects.find(target.path, target.query)
        assert found is not None
        return found

    def authorize(self, request: Request, path: str) -> str:
        """Return who asks for the decoded ``path``, '' where anybody may.

        Raises ``HTTPError`` 401 or 500, and ``UndecidedError``.
        """
        user = ""
        if self._auth.is_on:
            credentials = request.fields.get("authorization")
            for each in _protected_as(path):
                user = self._auth.authorize(each, credentials) or user
        return user

    # Errors

    def error(self, error: HTTPError, *paths: str) -> Response:
        """Return the response for ``error``, as configured for the decoded ``paths`` as far as they are known."""
        response = respond_to(error)
        page = self._config.error_pages.get(response.status)
        if page is not None:
            try:
                kind = self.types.known(page) or "text/html; charset=utf-8"
                response = with_page(response, kind, self._places.root.folder.page(page))
                paths = (*paths, page)
            except HTTPError as failure:
                self._log.error(
                    "the page %s for %s cannot be sent: %s", page, response.status, failure.detail
                )
        fields = (*self.common, *response.fields, *self.header_fields(*(paths or ("",))))
        return Response(response.status, fields, response.body, close=response.close, detail=response.detail)


def _protected_as(path: str) -> tuple[str, ...]:
    """Return the paths whose protection ``path`` has: a sidecar is as protected as the file it stands for."""
    stem, suffix = os.path.splitext(path)
    return (path, stem) if suffix in SIDECARS.values() else (path,)
