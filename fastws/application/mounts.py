"""Mounts: which application answers a path, and the path as that application sees it."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any

from ..http.messages import Fields, Request
from ..http.target import Target
from ..http.urlpath import decode_path
from ..language.named_tuple import NamedTuple

Application = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]
"""A WSGI application (PEP 3333)."""

NONE: Mapping[str, str] = MappingProxyType({})

_AUTHORITY = re.compile(r"[A-Za-z]+://[^/?#]*")  # of an absolute-form target, which is checked by now
_DOT_SEGMENT = re.compile(r"(?:^|/)\.{1,2}(?=/|$)")


class Mount(NamedTuple):
    """An application and where it is: ``prefix`` is '' for the whole site, else such as ``/shop``.

    ``name`` is that by which application processes know it, '' for one that runs in this process.
    """

    prefix: str
    application: Application
    name: str = ""

    def __str__(self) -> str:
        return self.prefix or "/"


class Call(NamedTuple):
    """One request for an application.

    ``script_name`` and ``path_info`` are percent-decoded, each byte one character (PEP 3333, "Unicode Issues").
    ``user`` is who was authenticated by the server, '' where nobody had to be; ``fields`` are added to the answer
    where the application has none of these names.
    """

    mount: Mount
    request: Request
    script_name: str
    path_info: str
    query: str
    user: str
    fields: Fields


class Mounts:
    """The mounts of one site; the longest prefix that a path has decides. Any thread may ask."""

    def __init__(self, applications: Mapping[str, Application], elsewhere: Mapping[str, str] = NONE) -> None:
        """``applications`` are by prefix: ``/`` is the whole site, ``/shop`` is ``/shop`` and all below it.

        ``elsewhere`` are the names of those that run in other processes.
        """
        mounts = [Mount(prefix.rstrip("/"), application) for prefix, application in applications.items()]
        for prefix, name in elsewhere.items():
            if prefix not in applications:
                mounts.append(Mount(prefix.rstrip("/"), _is_elsewhere, name))
        self._mounts = sorted(mounts, key=lambda mount: -len(mount.prefix))
        self._patterns = {mount.prefix: _pattern_of(mount.prefix) for mount in mounts}

    def __bool__(self) -> bool:
        return bool(self._mounts)

    def find(self, path: str) -> Mount | None:
        """Return what answers the decoded, normal ``path``, None if no application does."""
        for mount in self._mounts:
            prefix = mount.prefix
            if path.startswith(prefix) and (len(path) == len(prefix) or path[len(prefix)] == "/"):
                return mount
        return None

    def call(self, mount: Mount, request: Request, target: Target, user: str, fields: Fields) -> Call:
        """Return the call of ``mount`` for a request with this target."""
        script_name, path_info = "", _latin(target.path)
        if not target.is_canonical:
            path_info = self._as_sent(request.target, path_info)
        match = self._patterns[mount.prefix].match(path_info)
        if match is not None:
            script_name, path_info = _latin(mount.prefix), path_info[match.end() :]
        return Call(mount, request, script_name, path_info, target.query or "", user, fields)

    def _as_sent(self, target: str, normal: str) -> str:
        """Return the path as it was sent, decoded, with its empty segments.

        Where it has dot segments it is ``normal``: what was decided about the path must hold for what is called.
        """
        raw = target.partition("?")[0]
        if not raw.startswith("/"):
            raw = _AUTHORITY.sub("", raw, count=1) or "/"
        decoded = _latin(decode_path(raw.encode("latin-1")))
        return normal if _DOT_SEGMENT.search(decoded) else decoded


def _is_elsewhere(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    raise NotImplementedError("this application runs in a process of its own")


def _pattern_of(prefix: str) -> re.Pattern[str]:
    segments = _latin(prefix).split("/")[1:]
    return re.compile("".join([f"/+{re.escape(segment)}" for segment in segments]) + "(?=/|$)")


def _latin(path: str) -> str:
    """Return a decoded path with a character for each of its bytes."""
    return path if path.isascii() else os.fsencode(path).decode("latin-1")
