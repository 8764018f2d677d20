"""Directory → what of it a client could ask for."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Collection
from typing import NamedTuple

from ..http.errors import HTTPError
from .root import OpenFile, Root, error_from_errno

LISTED_MAX = 10_000
"""Names in a listing, each of which takes a worker about 10 µs; S3 lists 1000 at a time."""


_NUMBER = re.compile("[0-9]+")


class Entry(NamedTuple):
    """One name in a directory, as ``os.listdir`` gives it; ``mtime_s`` in seconds since the epoch."""

    name: str
    is_directory: bool
    size_bytes: int
    mtime_s: int


class Listing(NamedTuple):
    """What is shown of a directory; ``omitted`` is the number of names that were too many."""

    entries: list[Entry]
    omitted: int = 0


def list_directory(
    root: Root, relative: str, directory: OpenFile, hidden: Collection[tuple[int, int] | None]
) -> Listing:
    """Return what of ``directory``, at ``relative`` below the root, a client could ask for.

    Left out are dotfiles, the files ``hidden`` by (device, inode), whatever is neither file nor directory,
    and symbolic links that lead nowhere or out of the root. Of more than ``LISTED_MAX`` names only the first
    are looked at, directories before files. Raises ``HTTPError`` if it cannot be read.
    """
    entries = []
    try:
        with os.scandir(directory.place) as found:
            names = [entry for entry in found if not entry.name.startswith(".")]
        omitted = max(0, len(names) - LISTED_MAX)
        if omitted:
            names = sorted(names, key=_rank)[:LISTED_MAX]
        for entry in names:
            info = _look(root, relative, directory, entry.name)
            if info is None or (info.st_dev, info.st_ino) in hidden:
                continue
            is_directory = stat.S_ISDIR(info.st_mode)
            if is_directory or stat.S_ISREG(info.st_mode):
                mtime_s = info.st_mtime_ns // 1_000_000_000
                entries.append(Entry(entry.name, is_directory, info.st_size, mtime_s))
    except OSError as error:
        raise error_from_errno(error, "scandir") from None
    return Listing(entries, omitted)


def _rank(entry: os.DirEntry[str]) -> tuple[bool, tuple[str, str]]:
    return not entry.is_dir(follow_symlinks=False), natural_key(entry.name)


def _look(root: Root, relative: str, directory: OpenFile, name: str) -> os.stat_result | None:
    """Return what ``name`` leads to, None if that is nothing or outside."""
    try:
        info = directory.status_of(name)
        # On Windows, a junction is a link too, and only its tag tells.
        if not stat.S_ISLNK(info.st_mode) and not getattr(info, "st_reparse_tag", 0):
            return info
        file = root.open(relative + name)
        try:
            return file.status()
        finally:
            file.close()
    except (OSError, HTTPError):
        return None


def natural_key(name: str) -> tuple[str, str]:
    """Return what to sort names by: without regard to case, and numbers by their size."""
    return _NUMBER.sub(_number_key, name.casefold()), name


def _number_key(number: re.Match[str]) -> str:
    """Digits such that text order is the order of the numbers, and before any character of a name."""
    digits = number[0].lstrip("0")
    return f"\0{chr(len(digits))}{digits}"
