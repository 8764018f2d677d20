"""Path → file: the file itself, a directory's index, a clean URL, or the fallback."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection

from ..config.settings import Config
from .root import OpenFile, Root, not_found
from .variants import Variants


class Located:
    """What a path leads to; the root owns ``file``.

    ``relative`` is the file's path below the root. ``file`` is None if there are only sidecars for it, and a
    directory if ``is_directory``: that is to be listed. ``by_names`` is True if the names in its directory decided
    the result. ``by_names_anywhere`` is True if files outside that directory may have decided the result, such as
    the missing target of a link that was skipped.
    """

    __slots__ = ("by_names", "by_names_anywhere", "file", "is_directory", "relative")

    def __init__(
        self, file: OpenFile | None, relative: str, *, by_names: bool = False, by_names_anywhere: bool = False
    ) -> None:
        self.file = file
        self.relative = relative
        self.is_directory = file is not None and file.is_directory
        self.by_names = by_names
        self.by_names_anywhere = by_names_anywhere

    @property
    def directory(self) -> str:
        """The path below the root of the directory that the file lies in."""
        return os.path.dirname(self.relative) or "."


class Locator:
    """Finds files by one configuration; ``hidden`` returns the (device, inode) pairs that are never found."""

    def __init__(
        self, config: Config, variants: Variants, hidden: Callable[[], Collection[tuple[int, int] | None]]
    ) -> None:
        self._config = config
        self._types = config.media_types
        self._variants = variants
        self._hidden = hidden

    def locate(self, root: Root, path: str) -> Located | None:
        """Return what the decoded ``path`` leads to, None for a directory that lacks its slash.

        Raises ``HTTPError`` 403, 404, 500 or 503.
        """
        relative = path[1:]
        if not relative or path.endswith("/"):
            found = self._index(root, relative)
        else:
            found = self._file(root, relative)
            if found is not None and found.is_directory:
                return None
        found = found or self._instead(root, relative)
        if found is None:
            raise not_found()
        return found

    def _file(self, root: Root, relative: str) -> Located | None:
        """Open ``relative``, or find that a sidecar stands for it; None for what may not be seen."""
        file = root.find(relative)
        if file is None:
            if self._has_sidecar(root, relative):
                return Located(None, relative, by_names=True, by_names_anywhere=root.has(relative))
            return None
        return None if file.identity[:2] in self._hidden() else Located(file, relative)

    def _has_sidecar(self, root: Root, relative: str) -> bool:
        if not self._config.compression:
            return False
        if self._types.coding(relative):
            return False
        kind = self._types.known(relative)
        return self._variants.are_negotiable(kind) and self._variants.has_sidecar(root, relative)

    def _index(self, root: Root, relative: str) -> Located | None:
        is_unsure = False
        for position, name in enumerate(self._config.directory_index):
            found = self._try(root, relative + name)
            if found is not None:
                # The first name decides by itself; a later one, because those before it are missing.
                found.by_names = found.by_names or position > 0
                found.by_names_anywhere = found.by_names_anywhere or is_unsure
                return found
            is_unsure = is_unsure or root.has(relative + name)
        directory = root.find(relative) if self._config.directory_listing else None
        return Located(directory, relative) if directory is not None and directory.is_directory else None

    def _try(self, root: Root, relative: str) -> Located | None:
        """Return the file ``relative``, None where there is none."""
        found = self._file(root, relative)
        return None if found is None or found.is_directory else found

    def _instead(self, root: Root, relative: str) -> Located | None:
        """Return what the configuration serves where nothing is found, None where that is nothing."""
        if self._config.clean_urls and relative and not relative.endswith("/"):
            found = self._try(root, relative + ".html")
            if found is not None:
                found.by_names = True
                found.by_names_anywhere = found.by_names_anywhere or root.has(relative)
                return found
        if self._config.fallback:
            found = self._try(root, self._config.fallback[1:])
            if found is not None:
                found.by_names_anywhere = True
                return found
        return None
