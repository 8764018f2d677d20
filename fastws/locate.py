"""Path → file: the file itself, a directory's index, a clean URL, or the fallback."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection
from typing import NamedTuple

from .config import Config
from .errors import HTTPError
from .files import OpenFile, Root, not_found
from .mediatypes import content_type
from .variants import Variants


class Located(NamedTuple):
    """What a path leads to; the root owns ``file``.

    ``relative`` is the file's path below the root. ``file`` is None if there are only sidecars for it, and a
    directory if that is to be listed. ``by_names`` is True if the names in its directory decided the result.
    ``by_names_anywhere`` is True if files outside that directory may have decided the result, such as the missing
    target of a link that was skipped.
    """

    file: OpenFile | None
    relative: str
    by_names: bool = False
    by_names_anywhere: bool = False

    @property
    def directory(self) -> str:
        """The path below the root of the directory that the file lies in."""
        return os.path.dirname(self.relative) or "."

    @property
    def is_directory(self) -> bool:
        """Whether this is a directory to be listed."""
        return self.file is not None and self.file.is_directory


class Locator:
    """Finds files by one configuration; ``hidden`` returns the (device, inode) pairs that are never found."""

    def __init__(
        self, config: Config, variants: Variants, hidden: Callable[[], Collection[tuple[int, int] | None]]
    ) -> None:
        self._config = config
        self._variants = variants
        self._hidden = hidden

    def locate(self, root: Root, path: str) -> Located | None:
        """Return what the decoded ``path`` leads to, None for a directory that lacks its slash.

        Raises ``HTTPError`` 403, 404, 500 or 503.
        """
        relative = path[1:]
        try:
            if not relative or path.endswith("/"):
                return self._index(root, relative)
            found = self._file(root, relative)
            return None if found.is_directory else found
        except HTTPError as error:
            # Raised anew from here: an error that a called function raised from a variable of its own would be
            # held by its own traceback, and left to the garbage collector.
            if error.status != 404 or (instead := self._instead(root, relative)) is None:
                raise
            return instead

    def _file(self, root: Root, relative: str) -> Located:
        """Open ``relative``, or find that a sidecar stands for it; raises 404 for what may not be seen."""
        try:
            file = root.open(relative)
        except HTTPError as error:
            if error.status == 404 and self._has_sidecar(root, relative):
                return Located(None, relative, by_names=True, by_names_anywhere=root.has(relative))
            raise
        if file.identity[:2] in self._hidden():
            raise not_found()
        return Located(file, relative)

    def _has_sidecar(self, root: Root, relative: str) -> bool:
        if not self._config.compression:
            return False
        kind = content_type(relative, self._config.content_types, None)
        return self._variants.are_negotiable(kind) and self._variants.has_sidecar(root, relative)

    def _index(self, root: Root, relative: str) -> Located:
        is_unsure = False
        for position, name in enumerate(self._config.directory_index):
            found = self._try(root, relative + name)
            if found is not None:
                # The first name decides by itself; a later one, because those before it are missing.
                return found._replace(
                    by_names=found.by_names or position > 0,
                    by_names_anywhere=found.by_names_anywhere or is_unsure,
                )
            is_unsure = is_unsure or root.has(relative + name)
        if self._config.directory_listing:
            directory = root.open(relative)
            if directory.is_directory:
                return Located(directory, relative)
        raise not_found()

    def _try(self, root: Root, relative: str) -> Located | None:
        """Return the file ``relative``, None where there is none."""
        try:
            found = self._file(root, relative)
        except HTTPError as error:
            if error.status != 404:
                raise
            return None
        return None if found.is_directory else found

    def _instead(self, root: Root, relative: str) -> Located | None:
        """Return what the configuration serves where nothing is found, None where that is nothing."""
        if self._config.clean_urls and relative and not relative.endswith("/"):
            found = self._try(root, relative + ".html")
            if found is not None:
                return found._replace(
                    by_names=True, by_names_anywhere=found.by_names_anywhere or root.has(relative)
                )
        if self._config.fallback:
            found = self._try(root, self._config.fallback[1:])
            if found is not None:
                return found._replace(by_names_anywhere=True)
        return None
