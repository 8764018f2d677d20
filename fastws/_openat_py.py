"""Opening below a directory without following a link, pure: segment by segment. Twin of ``_openat.pyx``.

The contract of both is ``backend.Opener``.
"""

from __future__ import annotations

import os
import stat

from . import portable
from .http.messages import Identity

side = "pure"

DEEPEST = 4
"""Each segment above the last costs an open and a close."""

# Where these flags are missing, nothing is opened this way: ``portable.HAS_OPENAT``.
_NOFOLLOW: int = getattr(os, "O_NOFOLLOW", 0)
_OPEN_FLAGS = portable.READ_FLAGS | _NOFOLLOW
_DIRECTORY_FLAGS = portable.ROOT_FLAGS | _NOFOLLOW


def open_beneath(directory: int, path: str) -> int:
    """See ``backend.Opener.open_beneath``."""
    try:
        return _walk(directory, path)
    except FileNotFoundError:
        return -1


def _walk(directory: int, path: str) -> int:
    if "/" not in path:
        return os.open(path or ".", _OPEN_FLAGS, dir_fd=directory)
    *above, last = path.rstrip("/").split("/")
    here = directory
    try:
        for segment in above:
            below = os.open(segment, _DIRECTORY_FLAGS, dir_fd=here)
            if here != directory:
                os.close(here)
            here = below
        return os.open(last, _OPEN_FLAGS, dir_fd=here)
    finally:
        if here != directory:
            os.close(here)


def read_beneath(root: bytes, path: bytes, most: int) -> tuple[bytes, Identity] | None:
    """See ``backend.Opener.read_beneath``."""
    if path.count(b"/") >= DEEPEST or path.endswith(b"/"):
        return None
    try:
        directory = os.open(root, portable.ROOT_FLAGS)
        try:
            fd = _walk(directory, os.fsdecode(path))
        finally:
            os.close(directory)
        try:
            mode, before = look(fd)
            if not stat.S_ISREG(mode) or before.size > most:
                return None
            body = portable.read_at(fd, before.size + 1, 0)
            _, after = look(fd)
        finally:
            os.close(fd)
    except OSError:
        return None
    return (body, before) if after == before and len(body) == before.size else None


def look(fd: int) -> tuple[int, Identity]:
    """See ``backend.Opener.look``."""
    info = os.fstat(fd)
    return info.st_mode, Identity(info.st_dev, info.st_ino, info.st_size, info.st_mtime_ns, info.st_ctime_ns)
