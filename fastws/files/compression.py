"""Compressing in the background: encoders, the queue before them, and the store of results.

The only module that tries the optional packages ``brotli`` and ``backports.zstd`` (from Python 3.14 on the
standard library's ``compression.zstd``); gzip is always there.
"""

from __future__ import annotations

import logging
import sys
import threading
import zlib
from collections.abc import Callable, Hashable
from functools import cache
from typing import Any, NamedTuple

from ..http.messages import Identity
from ..work.background import Background
from .root import Content

QUEUE_JOBS = 256
QUEUE_BYTES = 16 << 20
"""Bounds of what waits to be compressed; beyond them a file is left for a later request."""

THOROUGH_BYTES = 1 << 20
"""Up to this size the highest level is tried, at a second or two of CPU for a MiB; beyond it a quicker one."""

ENTRY_BYTES = 512
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


def gzip_quickly(body: bytes) -> bytes:
    """Compress while a client waits."""
    return zlib.compress(body, 1, 31)


def _make_gzip() -> Encode:
    # wbits 31 is the gzip format; its header holds no time, so that equal bytes stay equal.
    return lambda body: zlib.compress(body, _level(body, 9, 6), 31)


def _make_brotli() -> Encode:
    import brotli

    compress: Any = brotli.compress
    return lambda body: bytes(compress(body, quality=_level(body, 11, 9)))


def _make_zstd() -> Encode:
    compress: Any
    if sys.version_info >= (3, 14):
        from compression.zstd import compress
    else:
        from backports.zstd import compress
    # Level 19 stays within the window of 8 MiB that RFC 9659 allows.
    return lambda body: bytes(compress(body, level=_level(body, 19, 9)))


_MAKERS: dict[str, Callable[[], Encode]] = {"br": _make_brotli, "zstd": _make_zstd, "gzip": _make_gzip}


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

    def submit(self, key: Hashable, job: Job) -> None:
        """Have ``job`` done unless one with its ``key`` is pending, the queue is full, or all is over."""
        with self._changed:
            if key in self._jobs or self._is_closed:
                return
            if len(self._jobs) >= QUEUE_JOBS or (self._jobs and self._bytes + len(job.body) > QUEUE_BYTES):
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
    """Compressed bytes by (identity of the plain file, coding), the least recently used dropped first.

    Holds at most ``max_bytes``. Any thread may call.
    """

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.used_bytes = 0
        self._lock = threading.Lock()
        self._entries: dict[tuple[Identity, str], Content] = {}  # the least recently used first

    def get(self, key: tuple[Identity, str]) -> Content | None:
        """Return what is kept for ``key``."""
        with self._lock:
            content = self._entries.pop(key, None)
            if content is not None:
                self._entries[key] = content
            return content

    def put(self, key: tuple[Identity, str], content: Content) -> None:
        """Keep ``content``, at the cost of others if need be."""
        with self._lock:
            self._drop(key)
            self._entries[key] = content
            self.used_bytes += len(content.body) + ENTRY_BYTES
            while self.used_bytes > self.max_bytes:
                self._drop(next(iter(self._entries)))

    def _drop(self, key: tuple[Identity, str]) -> None:
        content = self._entries.pop(key, None)
        if content is not None:
            self.used_bytes -= len(content.body) + ENTRY_BYTES
