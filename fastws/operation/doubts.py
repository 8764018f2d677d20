"""Probable mistakes in a valid configuration: warnings at startup and by ``--check``."""

from __future__ import annotations

import os

from ..config.settings import NO_ADDRESS, Config, is_socket_activated
from ..files.root import Contents, Root, not_found
from ..files.variants import SIDECARS
from ..http.errors import HTTPError, Problem
from ..site.errorhandlers import page_body


def doubts_of(config: Config) -> list[Problem]:
    """Return the probable mistakes in ``config``; files missing now may be created later."""
    file = config.config_path or "configuration"
    found = []
    if not config.listen_ports and not config.listen_unix and not is_socket_activated():
        found.append(Problem(file, 0, f"ListenPort is missing; to start, {NO_ADDRESS}"))
    contents = Contents(config.cache_max_file_bytes)
    for status, page in config.error_pages.items():
        try:
            page_body(page, config, contents)
        except HTTPError as error:
            text = f"ErrorPage: {_path(config, page)!r} for {status} cannot be sent: {error.detail}"
            found.append(Problem(file, 0, text))
    if config.fallback is not None:
        try:
            _open_fallback(config, config.fallback[1:])
        except HTTPError as error:
            text = f"Fallback: {_path(config, config.fallback)!r} cannot be sent: {error.detail}"
            found.append(Problem(file, 0, text))
    return found


def _open_fallback(config: Config, relative: str) -> None:
    with Root(config.document_root) as root:
        if config.compression and any(root.has(relative + suffix) for suffix in SIDECARS.values()):
            return  # a sidecar alone may stand for it
        if root.open(relative).is_directory:
            raise not_found()


def _path(config: Config, page: str) -> str:
    return os.path.join(config.document_root, page[1:])
