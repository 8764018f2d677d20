"""The document root as configured: what a path leads to, in which forms it is there, and what is never found."""

from __future__ import annotations

import functools
import logging
import os

from ..backend import Opener
from ..config.settings import Config
from ..http.errors import HTTPError
from ..http.messages import Identity
from .contents import Contents
from .directory import Directories, Listing, View
from .identity import identity_of, is_made_up
from .locate import Located, Locator
from .root import Hidden, Root, not_found
from .variants import Variants


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
        self.contents = Contents(
            config.cache_max_file_bytes, opener, by_times=config.large_file_etag == "times"
        )
        self.variants = Variants(config, logger, self.contents, replays=replays)
        self.locate = Locator(config, self.variants).locate
        self.open = functools.partial(Root, path, opener, hidden)
        """Return the root as this moment finds it; raises ``HTTPError`` 500 or 503."""
        self._directories = Directories(self.open)

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
        if found is None or (not found[0] and is_made_up(self.path + path)):
            return None
        number = found[1][:2]
        if number in self._hidden():
            return None
        # One that has lost its name since it was read may have been hidden by that name until then.
        if self._hidden.are_inside and identity_of(os.stat(self.path + path))[:2] != number:
            return None
        return found

    def means_same(self, path: str, other: str) -> bool:
        """Tell whether two spellings lead to the same file, or as far as they lead to anything.

        They have the same number of segments.
        """
        while path != other:
            try:
                return os.path.samefile(self.path + path, self.path + other)
            except OSError:
                path, other = os.path.dirname(path.rstrip("/")), os.path.dirname(other.rstrip("/"))
        return False

    def is_stored(self, path: str) -> bool:
        """Tell whether the directories on the way to ``path`` have each name as it is spelled, or none at all."""
        here = self.path
        for segment in path.split("/"):
            try:
                if (
                    segment
                    and segment not in os.listdir(here)
                    and os.path.lexists(os.path.join(here, segment))
                ):
                    return False
            except OSError:
                return True
            here = os.path.join(here, segment)
        return True

    def page(self, path: str) -> bytes:
        """Return the content of the page at ``path``, which must fit into memory; raises ``HTTPError``."""
        with self.open() as root:
            file = root.open(path[1:])
            if file.is_directory:
                raise not_found()
            if not self.contents.is_small(file):
                raise HTTPError(500, "It is larger than CacheMaxFile.")
            return self.contents.load(file).body
