"""Path → file: the file itself, a directory's index, a clean URL, or the fallback."""

from __future__ import annotations

import os

from ..config.settings import Config
from ..http.mediatypes import extension_of
from .root import HiddenError, OpenFile, Root, not_found
from .variants import Variants

PAGES = (".html", ".htm", ".xhtml")
PAGE_TYPES = ("text/html", "application/xhtml+xml")
"""Name extensions and media types of what a browser navigates to in an application of one page."""


class Located:
    """What a path leads to; the root owns ``file``. ``is_fallback`` tells that it is what Fallback names.

    ``relative`` is the file's path below the root. ``file`` is None if there are only sidecars for it, and a
    directory if ``is_directory``: that is to be listed. ``by_names`` is True if the names in its directory decided
    the result. ``by_names_anywhere`` is True if files outside that directory may have decided the result, such as
    the missing target of a link that was skipped.
    """

    __slots__ = ("by_names", "by_names_anywhere", "file", "is_directory", "is_fallback", "relative")

    def __init__(
        self, file: OpenFile | None, relative: str, *, by_names: bool = False, by_names_anywhere: bool = False
    ) -> None:
        self.file = file
        self.relative = relative
        self.is_directory = file is not None and file.is_directory
        self.is_fallback = False
        self.by_names = by_names
        self.by_names_anywhere = by_names_anywhere

    @property
    def directory(self) -> str:
        """The path below the root of the directory that the file lies in."""
        return os.path.dirname(self.relative) or "."


class Locator:
    """Finds files by one configuration."""

    def __init__(self, config: Config, variants: Variants) -> None:
        self._config = config
        self._types = config.media_types
        self._variants = variants

    def locate(self, root: Root, path: str) -> Located | str:
        """Return what the decoded ``path`` leads to, or the path to go to instead, which has a file.

        1. the file of that name
        2. CleanUrls: the page of that name, ``/blog`` from ``blog.html``; a directory beside it has no index
        3. a directory without its slash: go to the slash
        4. with its slash: its index, or its listing
        5. CleanUrls: ``/blog/`` without one of these goes to ``/blog`` if that is a page
        6. the Fallback, unless the path has the extension of something that is no page

        Raises ``HTTPError`` 403, 404, 500 or 503.
        """
        relative = path[1:]
        found: Located | str | None
        if not relative or path.endswith("/"):
            found = self._index(root, relative) or self._without_slash(root, relative)
        else:
            found = self._file(root, relative)
            if found is None:
                found = self._clean(root, relative)
            elif found.is_directory:
                found = self._page_beside(root, relative) or path + "/"
        fallback = self._config.fallback
        if found is None and fallback:
            found = self._fall_back(root, relative, fallback)
        if found is None:
            raise not_found()
        return found

    def _file(self, root: Root, relative: str) -> Located | None:
        """Open ``relative``, or find that a sidecar stands for it; None for what may not be seen."""
        try:
            file = root.find(relative)
        except HiddenError:
            return None
        if file is None:
            if self._config.compression and self._has_sidecar(root, relative):
                return Located(None, relative, by_names=True, by_names_anywhere=root.has(relative))
            return None
        return Located(file, relative)

    def _has_sidecar(self, root: Root, relative: str) -> bool:
        kind, coding = self._types.describe(relative)
        if coding:
            return False
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

    def _clean(self, root: Root, relative: str) -> Located | None:
        """Return the page that a clean URL stands for."""
        if not self._config.clean_urls or not relative or relative.endswith("/"):
            return None
        found = self._try(root, relative + ".html")
        if found is not None:
            found.by_names = True
            found.by_names_anywhere = found.by_names_anywhere or root.has(relative)
        return found

    def _page_beside(self, root: Root, relative: str) -> Located | None:
        """Return the page that goes before the directory ``relative``, which has no index of its own."""
        page = self._clean(root, relative)
        has_index = page is not None and any(
            self._try(root, f"{relative}/{name}") for name in self._config.directory_index
        )
        return None if has_index else page

    def _without_slash(self, root: Root, relative: str) -> str | None:
        return "/" + relative[:-1] if self._clean(root, relative[:-1]) is not None else None

    def _fall_back(self, root: Root, relative: str, fallback: str) -> Located | None:
        if not self._may_be_page(relative, fallback):
            return None
        found = self._try(root, fallback[1:])
        if found is not None:
            found.by_names_anywhere = found.is_fallback = True
        return found

    def _may_be_page(self, relative: str, fallback: str) -> bool:
        """Tell whether a missing path may be a page of an application: what has another extension is a file."""
        extension = extension_of(relative)
        if not any(map(str.isalpha, extension)):
            return True  # none, or a number such as that of a version
        if extension in (*PAGES, extension_of(fallback)):
            return True
        return (self._types.known(relative) or "").partition(";")[0] in PAGE_TYPES
