"""Where files come from: the document root, and the directories that Static puts below a path of their own."""

from __future__ import annotations

import logging
from collections.abc import Iterator

from ..backend import Opener
from ..config.settings import Config
from ..files.folder import Folder
from ..files.locate import Located
from ..files.root import Hidden, Root
from ..http.errors import HTTPError
from ..language.named_tuple import NamedTuple


class Place(NamedTuple):
    """A folder and where it is: ``prefix`` is '' for the document root, else such as ``/static``."""

    prefix: str
    folder: Folder


class Places:
    """The folders of one site. Any thread may ask."""

    def __init__(
        self, config: Config, logger: logging.Logger, *, opener: Opener, replays: bool, hidden: Hidden
    ) -> None:
        def place(prefix: str, path: str, config: Config) -> Place:
            folder = Folder(path, config, logger, opener=opener, replays=replays, hidden=hidden)
            return Place(prefix, folder)

        self.root = place("", config.document_root, config)
        """The document root."""
        alone = config._replace(fallback=None)  # which is a page of the document root
        others = [place(prefix[:-1], path, alone) for prefix, path in config.static.items()]
        self._others = sorted(others, key=lambda each: -len(each.prefix))
        self._prefixes = frozenset([each.prefix for each in others])
        self.only = None if others else self.root
        """The document root if there is nothing else; asked before ``find`` where every step counts."""

    def __iter__(self) -> Iterator[Place]:
        yield self.root
        yield from self._others

    def find(self, path: str) -> Place:
        """Return where the file of the decoded ``path`` is, if there is one: the longest prefix decides."""
        for place in self._others:
            if path.startswith(place.prefix) and path[len(place.prefix) :].startswith("/"):
                return place
        return self.root

    def inside(self, path: str) -> tuple[Folder, str]:
        """Return the folder that ``find`` finds, and the path in it."""
        prefix, folder = self.find(path)
        return folder, path[len(prefix) :]

    def locate(self, root: Root, path: str, place: Place) -> Located | str:
        """Return what the decoded ``path`` leads to in ``place``, or the path to go to instead.

        ``root`` is that of ``place``. A directory of Static is one where it is mounted: what lies there under its
        name goes before it, and the Fallback does not. Raises what ``Locator.locate`` raises.
        """
        inner = path[len(place.prefix) :] if place.prefix else path
        try:
            located = place.folder.locate(root, inner)
        except HTTPError as error:
            if error.status == 404 and path in self._prefixes:
                return f"{path}/"
            raise
        if isinstance(located, str):
            return place.prefix + located
        return f"{path}/" if located.is_fallback and path in self._prefixes else located

    def close(self) -> None:
        """End the background work of all folders."""
        for place in self:
            place.folder.close()

    def means_same(self, path: str, other: str) -> bool:
        """See ``Folder.means_same``."""
        place = self.find(path)
        inner = len(place.prefix)
        return self.find(other) is place and place.folder.means_same(path[inner:], other[inner:])

    def is_stored(self, path: str) -> bool:
        """See ``Folder.is_stored``."""
        place = self.find(path)
        return place.folder.is_stored(path[len(place.prefix) :])
