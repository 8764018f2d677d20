"""Compressing in the background: encoders, the queue before them, and the store of results.

The only module that tries the optional packages ``brotli`` and ``backports.zstd`` (from Python 3.14 on the
standard library's ``compression.zstd``); gzip is always there.
"""

from __future__ import annotations

import logging
import sys
import zlib
from collections.abc import Callable, Hashable
from functools import cache
from typing import Any

from ..http.messages import Identity
from ..language.named_tuple import NamedTuple
from ..work.background import Background
from .bounded import Bounded
from .contents import Content

PENDING_FILES = 256
PENDING_BYTES = 16 << 20
"""Bounds of what waits to be compressed; beyond them a file is left for a later request."""

THOROUGH_BYTES = 1 << 20
"""Up to this size the highest level is tried, at a second or two of CPU for a MiB; beyond it a quicker one."""

STORED_ENTRY_BYTES = 512
"""What an entry of the store takes beside its bytes."""

Encode = Callable[[bytes], bytes]


@cache
def encoder(coding: str) -> Encode | None:
    """Return the function that compresses into the content coding ``coding``, None if there is none here.

    Imported when first asked for: a server that compresses nothing does not pay for it.
    """
    try:
        return _MAKERS[coding]()
    except ImportError:
        return None


def describe_codings() -> str:
    """Return which content codings can be made here, and how to get the others."""
    missing = [coding for coding in _MAKERS if encoder(coding) is None]
    found = ", ".join(coding for coding in _MAKERS if coding not in missing)
    more = f" (for {' and '.join(missing)}: pip install 'fastws-server[compress]')" if missing else ""
    return f"content codings: {found}{more}"


def compress_quickly(body: bytes, coding: str) -> bytes:
    """Compress into a coding that has an encoder, while a client waits: at most 15 ms for a MiB."""
    return _MAKERS[coding](is_quick=True)(body)


def unpack_gzip(body: bytes, max_bytes: int) -> bytes | None:
    """Return what all members of a gzip file unpack to, None if that is more than ``max_bytes``.

    Raises ``ValueError`` if it is malformed or ends early.
    """
    parts: list[bytes] = []
    room = max_bytes
    while body:
        unpacker = zlib.decompressobj(31)
        try:
            part = unpacker.decompress(body, room + 1)
        except zlib.error as error:
            raise ValueError(str(error)) from None
        room -= len(part)
        if room < 0:
            return None
        if not unpacker.eof:
            raise ValueError("it ends early")
        parts.append(part)
        body = unpacker.unused_data.lstrip(b"\0")  # padding, as of tapes
    return b"".join(parts)


def _make_gzip(*, is_quick: bool = False) -> Encode:
    # wbits 31 is the gzip format; its header holds no time, so that equal bytes stay equal.
    return lambda body: zlib.compress(body, 1 if is_quick else _level(body, 9, 6), 31)


def _make_brotli(*, is_quick: bool = False) -> Encode:
    import brotli

    compress: Any = brotli.compress
    return lambda body: bytes(compress(body, quality=3 if is_quick else _level(body, 11, 9)))


def _make_zstd(*, is_quick: bool = False) -> Encode:
    compress: Any
    if sys.version_info >= (3, 14):
        from compression.zstd import compress
    else:
        from backports.zstd import compress
    # Level 19 stays within the window of 8 MiB that RFC 9659 allows.
    return lambda body: bytes(compress(body, level=3 if is_quick else _level(body, 19, 9)))


_MAKERS: dict[str, Callable[..., Encode]] = {"br": _make_brotli, "zstd": _make_zstd, "gzip": _make_gzip}


def _level(body: bytes, thorough: int, quick: int) -> int:
    return thorough if len(body) <= THOROUGH_BYTES else quick


class Job(NamedTuple):
    """What is to be compressed, and who is told; ``deliver`` gets None if that failed."""

    encode: Encode
    body: bytes
    deliver: Callable[[bytes | None], None]


class Compressor(Background):
    """A bounded queue of files to compress. Any thread may call."""

    def __init__(self, logger: logging.Logger) -> None:
        super().__init__("compressor")
        self._log = logger
        self._jobs: dict[Hashable, Job] = {}  # in the order of submission; the first may be in progress
        self._bytes = 0

    @property
    def pending(self) -> int:
        """How many jobs wait or are in progress."""
        return len(self._jobs)

    def has(self, key: Hashable) -> bool:
        """Tell whether the job with this key waits or is in progress."""
        return key in self._jobs

    def submit(self, key: Hashable, job: Job) -> None:
        """Have ``job`` done unless one with its ``key`` is pending, the queue is full, or all is over."""
        with self._changed:
            if key in self._jobs or self._is_closed:
                return
            if len(self._jobs) >= PENDING_FILES or (
                self._jobs and self._bytes + len(job.body) > PENDING_BYTES
            ):
                return
            self._jobs[key] = job
            self._bytes += len(job.body)
            self._announce()

    def _has_work(self) -> bool:
        return bool(self._jobs)

    def _work(self) -> None:
        with self._changed:
            if self._is_closed:
                return
            key, job = next(iter(self._jobs.items()))
        try:
            result = job.encode(job.body)
        except Exception:
            self._log.exception("compressing failed")
            result = None
        job.deliver(result)
        with self._changed:
            # Only now: until it is delivered nobody may ask for the same again.
            self._bytes -= len(job.body)
            self._jobs.pop(key, None)

    def _drop_all(self) -> None:
        self._jobs.clear()


NOT_WORTHWHILE = Content(b"", "", Identity(0, 0, 0, 0, 0), True)
"""Stands in the store for a file that compressing does not make smaller."""


class Store:
    """Coded bytes by (identity of the file they were made from, coding), the least recently used dropped first.

    Holds at most ``max_bytes``. Any thread may call.
    """

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self._entries: Bounded[tuple[Identity, str], Content] = Bounded(max_bytes)

    @property
    def used_bytes(self) -> int:
        """What the entries take."""
        return self._entries.used

    def get(self, key: tuple[Identity, str]) -> Content | None:
        """Return what is kept for ``key``."""
        return self._entries.get(key)

    def put(self, key: tuple[Identity, str], content: Content) -> None:
        """Keep ``content``, at the cost of others if need be."""
        self._entries.put(key, content, len(content.body) + STORED_ENTRY_BYTES)

    def put_quick(self, key: tuple[Identity, str], content: Content) -> None:
        """Keep ``content`` unless something is there, which is no worse."""
        if self.get(key) is None:
            self.put(key, content)
