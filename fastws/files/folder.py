"""The document root as configured: what a path leads to, in which forms it is there, and what is never found."""

from __future__ import annotations

import functools
import logging
import os
from collections.abc import Callable, Collection

from ..backend import Opener
from ..config.settings import Config
from ..http.errors import HTTPError
from ..http.messages import Identity
from .contents import Contents
from .directory import Directories, Listing, View
from .locate import Located, Locator
from .root import Root, not_found
from .variants import Variants

Hidden = Callable[[], Collection[tuple[int, int] | None]]
"""Returns the (device, inode) pairs of files that are never found."""


class Folder:
    """A directory that is served by one configuration, with what is remembered of its files. Any thread may call.

    ``replays`` tells that answers are replayed, so that small files are worth being held in memory.
    """

    def __init__(
        self,
        path: str,
        config: Config,
        logger: logging.Logger,
        *,
        opener: Opener,
        replays: bool,
        hidden: Hidden,
    ) -> None:
        self.path = path
        self._path_bytes = os.fsencode(path)
        self._opener = opener
        self._hidden = hidden
        self.contents = Contents(config.cache_max_file_bytes, opener)
        self.variants = Variants(config, logger, self.contents, replays=replays, hidden=hidden)
        self._directories = Directories(path, opener)
        self.locate = Locator(config, self.variants, hidden).locate
        self.open = functools.partial(Root, path, opener)
        """Return the root as this moment finds it; raises ``HTTPError`` 500 or 503."""

    def close(self) -> None:
        """End the background work; what is asked for is still found."""
        self.variants.close()

    def list(self, root: Root, located: Located, view: View) -> Listing:
        """Return a page of the directory that was ``located``, as ``Directories.page``."""
        assert located.file is not None
        return self._directories.page(root, located.relative, located.file, view, self._hidden())

    def read(self, path: str) -> tuple[bytes, Identity] | None:
        """Return all bytes and the identity of the file at the plain ``path``, if it goes into memory.

        None where that takes more than opening and reading: behind a link, for a large file, after a change
        meanwhile, and for nothing at all.
        """
        found = self._opener.read_beneath(self._path_bytes, path[1:].encode(), self.variants.memory_bytes)
        return None if found is None or found[1][:2] in self._hidden() else found

    def has(self, path: str) -> bool:
        """Tell whether ``path`` names anything; what, and whether it may be seen, only ``locate`` tells."""
        return os.access(self.path + path, os.F_OK, follow_symlinks=False)

    def page(self, path: str) -> bytes:
        """Return the content of the page at ``path``, which must fit into memory; raises ``HTTPError``."""
        with self.open() as root:
            file = root.open(path[1:])
            if file.is_directory:
                raise not_found()
            if not self.contents.is_small(file):
                raise HTTPError(500, "It is larger than CacheMaxFile.")
            return self.contents.load(file).body
