"""Directory → listing, as a page or as JSON. It depends on more than the path, so that it is never published."""

from __future__ import annotations

import os
import stat
from collections.abc import Collection

from . import pages
from .errors import HTTPError
from .files import OpenFile, Root, error_from_errno
from .messages import Fields, Request
from .negotiation import prefers_json

LISTED_MAX = 10_000
"""Names in a listing, each of which takes a worker about 10 µs; S3 lists 1000 at a time."""


def list_directory(
    root: Root, relative: str, directory: OpenFile, hidden: Collection[tuple[int, int] | None]
) -> pages.Listing:
    """Return what of ``directory``, at ``relative`` below the root, a client could ask for.

    Left out are dotfiles, the files ``hidden`` by (device, inode), whatever is neither file nor directory,
    and symbolic links that lead nowhere or out of the root. Of more than ``LISTED_MAX`` names only the first
    are looked at, directories before files. Raises ``HTTPError`` if it cannot be read.
    """
    entries = []
    try:
        with os.scandir(directory.fd) as found:
            names = [entry for entry in found if not entry.name.startswith(".")]
        omitted = max(0, len(names) - LISTED_MAX)
        if omitted:
            names = sorted(names, key=_rank)[:LISTED_MAX]
        for entry in names:
            info = _look(root, relative, entry)
            if info is None or (info.st_dev, info.st_ino) in hidden:
                continue
            is_directory = stat.S_ISDIR(info.st_mode)
            if is_directory or stat.S_ISREG(info.st_mode):
                mtime_s = info.st_mtime_ns // 1_000_000_000
                entries.append(pages.Entry(entry.name, is_directory, info.st_size, mtime_s))
    except OSError as error:
        raise error_from_errno(error, "scandir") from None
    return pages.Listing(entries, omitted)


def _rank(entry: os.DirEntry[str]) -> tuple[bool, tuple[str, str]]:
    return not entry.is_dir(follow_symlinks=False), pages.natural_key(entry.name)


def _look(root: Root, relative: str, entry: os.DirEntry[str]) -> os.stat_result | None:
    """Return what ``entry`` leads to, None if that is nothing or outside."""
    try:
        if not entry.is_symlink():
            return entry.stat(follow_symlinks=False)
        file = root.open(relative + entry.name)
        try:
            return os.fstat(file.fd)
        finally:
            file.close()
    except (OSError, HTTPError):
        return None


def render(request: Request, path: str, query: str | None, found: pages.Listing) -> tuple[Fields, bytes]:
    """Return Content-Type, Content-Length and Vary, and the body, of the listing that ``request`` asks for.

    The query of a page says how it is sorted: ``sort=name|size|time&order=asc|desc``.
    """
    if prefers_json(request.fields.get("accept")):
        kind, body = "application/json", pages.listing_json(path, *found)
    else:
        wanted = dict(_parameter(part) for part in (query or "").split("&"))
        kind = "text/html; charset=utf-8"
        body = pages.listing_page(
            path,
            found.entries,
            wanted.get("sort", ""),
            wanted.get("order", ""),
            show_parent=path != "/",
            omitted=found.omitted,
        )
    fields = (("Content-Type", kind), ("Content-Length", str(len(body))), ("Vary", "Accept"))
    return fields, body


def _parameter(text: str) -> tuple[str, str]:
    name, _, value = text.partition("=")
    return name, value
