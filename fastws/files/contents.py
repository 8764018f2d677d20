"""Where an entity tag comes from, and the bytes of small files while somebody holds them."""

from __future__ import annotations

import time
import weakref

from .. import portable
from ..backend import Opener
from ..http.errors import HTTPError
from ..http.messages import Identity
from ..language.named_tuple import NamedTuple
from .hashes import blake2b
from .identity import is_made_up, is_settled
from .root import OpenFile, error_from_errno

KNOWN_TAGS = 16384
"""Files whose entity tag and content, if somebody holds it, are remembered; about 6 MB."""


MADE_UP_BYTES = 16 << 20
"""As much is sent of a file that says its size is 0 and has content all the same, as files of ``/proc`` do."""

MADE_UP_PIECE_BYTES = 1 << 16


class Content:
    """The bytes of a small file and their entity tag, shared by everyone who holds them."""

    __slots__ = ("__weakref__", "body", "etag", "identity", "is_settled")

    def __init__(self, body: bytes, etag: str, identity: Identity, settled: bool) -> None:
        self.body = body
        self.etag = etag
        self.identity = identity
        self.is_settled = settled


class Tagged(NamedTuple):
    """An entity tag and the identity of the file state that it was made from.

    ``is_settled`` tells that both are true as long as the identity is the same.
    """

    etag: str
    identity: Identity
    is_settled: bool


class Contents:
    """Entity tags of files, and the bytes of small ones while somebody holds them.

    A strong tag: for files of up to ``max_file_bytes`` a hash of the content, so that it is the same on
    every machine that serves the same bytes. For larger ones it stands for the state of the file on this machine,
    or with ``by_times`` for its size and time of modification: see docs/decisions/.
    """

    def __init__(self, max_file_bytes: int, opener: Opener, *, by_times: bool = False) -> None:
        self._opener = opener
        self.max_file_bytes = max_file_bytes
        self._by_times = by_times
        self._known: dict[Identity, tuple[str, weakref.ref[Content]]] = {}

    def is_small(self, file: OpenFile) -> bool:
        """Whether the file's tag is made from its content."""
        return file.identity.size <= self.max_file_bytes

    def tag(self, file: OpenFile) -> Tagged:
        """Return the entity tag of ``file``; reads it at most once as long as it does not change."""
        identity = file.identity
        if not self.is_small(file):
            return self._tag_state(identity)
        known = self._known.get(identity)
        if known is not None:
            return Tagged(known[0], identity, True)
        content = self.load(file)
        return Tagged(content.etag, content.identity, content.is_settled)

    def _tag_state(self, identity: Identity) -> Tagged:
        """Return a tag that costs no look into the file."""
        now_ns = time.time_ns()
        settled = is_settled(identity, now_ns)
        if self._by_times and settled:
            return Tagged(f'"{identity.size:x}-{identity.mtime_ns:x}"', identity, True)
        # What may change without a trace has a tag of the moment, which nothing will match.
        state = *identity, 0 if settled else now_ns
        return Tagged(f'"{identity.size:x}-{entity_tag(repr(state).encode())[1:]}', identity, settled)

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
    after = file.identity
    try:
        for _ in range(attempts):
            identity, begun_ns = after, time.time_ns()
            body = portable.read_at(file.fd, identity.size + 1, 0)
            _, after = opener.look(file.fd)
            if after == identity:
                if len(body) == identity.size:
                    settled = is_settled(identity, begun_ns) and not (not body and is_made_up(file.fd))
                    return Content(body, entity_tag(body), identity, settled)
                break  # no size and no time tells of its content
        body = body[: identity.size] if identity.size else _read_to_end(file.fd)
    except OSError as error:
        raise error_from_errno(error, "read") from None
    # It is made up as it is read, or is being written all the time. What it was at one moment is not kept.
    return Content(body, entity_tag(body), after._replace(size=len(body)), False)


def _read_to_end(fd: int) -> bytes:
    """Return all of a file whose size is 0, whatever it says. Raises ``HTTPError`` where that has no end."""
    pieces, size = [], 0
    while piece := portable.read_at(fd, MADE_UP_PIECE_BYTES, size):
        pieces.append(piece)
        size += len(piece)
        if size > MADE_UP_BYTES:
            raise HTTPError(500, f"It has more than {MADE_UP_BYTES >> 20} MiB, and does not say how much.")
    return b"".join(pieces)


def entity_tag(body: bytes) -> str:
    """Return the strong entity tag of these bytes, with its quotes: a hash, the same on every machine."""
    return f'"{blake2b(body, digest_size=12).hexdigest()}"'
