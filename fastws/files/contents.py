"""Where an entity tag comes from, and the bytes of small files while somebody holds them."""

from __future__ import annotations

import time
import weakref
from typing import NamedTuple

from .. import portable
from ..backend import Opener
from ..http.messages import Identity
from .hashes import blake2b
from .identity import is_settled
from .root import OpenFile, error_from_errno

KNOWN_TAGS = 16384
"""Files whose entity tag and content, if somebody holds it, are remembered; about 6 MB."""


class Content:
    """The bytes of a small file and their entity tag, shared by everyone who holds them."""

    __slots__ = ("__weakref__", "body", "etag", "identity", "is_settled")

    def __init__(self, body: bytes, etag: str, identity: Identity, settled: bool) -> None:
        self.body = body
        self.etag = etag
        self.identity = identity
        self.is_settled = settled


class Tagged(NamedTuple):
    """An entity tag and the identity of the file state that it was made from."""

    etag: str
    identity: Identity


class Contents:
    """Entity tags of files, and the bytes of small ones while somebody holds them.

    A strong tag: for files of up to ``max_file_bytes`` a hash of the content, so that it is the same on
    every machine that serves the same bytes; for larger ones size and time of modification in ns.
    """

    def __init__(self, max_file_bytes: int, opener: Opener) -> None:
        self._opener = opener
        self.max_file_bytes = max_file_bytes
        self._known: dict[Identity, tuple[str, weakref.ref[Content]]] = {}

    def is_small(self, file: OpenFile) -> bool:
        """Whether the file's tag is made from its content."""
        return file.identity.size <= self.max_file_bytes

    def tag(self, file: OpenFile) -> Tagged:
        """Return the entity tag of ``file``; reads it at most once as long as it does not change."""
        identity = file.identity
        if not self.is_small(file):
            return Tagged(f'"{identity.size:x}-{identity.mtime_ns:x}"', identity)
        known = self._known.get(identity)
        if known is not None:
            return Tagged(known[0], identity)
        content = self.load(file)
        return Tagged(content.etag, content.identity)

    def load(self, file: OpenFile) -> Content:
        """Return the content of a small ``file``, consistent in itself. Raises ``HTTPError``."""
        known = self._known.get(file.identity)
        held = None if known is None else known[1]()
        if held is not None:
            return held
        content = _read(file, self._opener)
        if content.is_settled:
            self._remember(content)
        return content

    def of_bytes(self, body: bytes, identity: Identity) -> Content:
        """Return the content of a small settled file, whose bytes are ``body``."""
        known = self._known.get(identity)
        if known is None:
            etag, held = entity_tag(body), None
        else:
            etag, held = known[0], known[1]()
        if held is None:
            held = Content(body, etag, identity, True)
            self._remember(held)
        return held

    def _remember(self, content: Content) -> None:
        if len(self._known) >= KNOWN_TAGS:
            self._known.clear()  # one step, whatever other threads are doing
        self._known[content.identity] = content.etag, weakref.ref(content)


def _read(file: OpenFile, opener: Opener, attempts: int = 3) -> Content:
    """Read between two looks at the file's times, again if it changed meanwhile."""
    identity = file.identity
    for _ in range(attempts):
        begun_ns = time.time_ns()
        try:
            body = portable.read_at(file.fd, identity.size + 1, 0)
            _, after = opener.look(file.fd)
        except OSError as error:
            raise error_from_errno(error, "read") from None
        if after == identity and len(body) == identity.size:
            return Content(body, entity_tag(body), identity, is_settled(identity, begun_ns))
        identity = after
    # It is being written all the time: these bytes are right for now, and are not kept.
    return Content(body, entity_tag(body), identity._replace(size=len(body)), False)


def entity_tag(body: bytes) -> str:
    """Return the strong entity tag of these bytes, with its quotes: a hash, the same on every machine."""
    return f'"{blake2b(body, digest_size=12).hexdigest()}"'
