"""Directory → what of it a client could ask for, one page of it at a time.

The names of a directory are read and sorted once for each state of it. What the names of a page lead to is looked
at for every answer, because a file changes without its directory. What takes longer than a page of names is left
to another thread, which ``UndecidedError`` asks for.
"""

from __future__ import annotations

import heapq
import itertools
import os
import re
import stat
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import Any, TypeVar

from ..http.errors import LISTING, HTTPError, UndecidedError
from ..http.messages import Identity
from ..language.named_tuple import NamedTuple
from .bounded import Bounded
from .identity import SETTLED_NS, identity_of, is_settled
from .root import OpenFile, Root, error_from_errno

SORTS = ("name", "size", "time")
ORDERS = ("asc", "desc")

PAGE_NAMES = 1000
"""Names on a page, each of which takes a worker about 10 µs; S3 lists 1000 at a time."""

LISTED_MAX = 250_000
"""Names of one directory that are listed, on all its pages together: the first ones. They take about 25 MB."""

KEPT_NAMES = 2 * LISTED_MAX
"""Names that are remembered, of all directories and in all orders together."""

ORDER_S = 10.0
"""How long an order by size or time of more names than a page has is used: each file may change it any moment."""

BRIEFLY_S = 1.0
"""How long the names of a directory that changed while they were read are used, unless reading took longer."""

_NATURAL = SORTS[0], ORDERS[0]

_RUN = 1024
_BREATH = 256
_PAUSE_S = 0.0001  # work in the background pauses so often that no worker waits long for the interpreter

_NUMBER = re.compile("[0-9]+")

T = TypeVar("T")


class Entry(NamedTuple):
    """One name in a directory, as ``os.listdir`` gives it; ``mtime_s`` in seconds since the epoch."""

    name: str
    is_directory: bool
    size_bytes: int
    mtime_s: int


class View(NamedTuple):
    """What a client wants to see: sorted by one of ``SORTS`` in one of ``ORDERS``; pages count from 1."""

    sort: str = SORTS[0]
    order: str = ORDERS[0]
    page: int = 1


class Listing(NamedTuple):
    """One page of a directory.

    ``view`` is what is shown, ``pages`` how many there are; ``total`` counts the names on all of them, and
    ``omitted`` those that were too many.
    """

    entries: list[Entry]
    view: View
    pages: int
    total: int
    omitted: int = 0


class Names(NamedTuple):
    """The names of one state of a directory in some order, the first ``directories`` those of directories.

    Without dotfiles and what is neither file, directory nor symbolic link. ``serial`` is another for each reading.
    """

    names: tuple[str, ...]
    directories: int
    omitted: int
    serial: int


_Order = tuple[int, str, str]


class Directories:
    """Lists directories below the root that ``enter`` opens. Any thread may call."""

    def __init__(self, enter: Callable[[], Root]) -> None:
        self._enter = enter
        self._serials = itertools.count()
        self._names: Bounded[Identity, Names] = Bounded(KEPT_NAMES)
        self._orders: Bounded[_Order, tuple[float, Names]] = Bounded(KEPT_NAMES)  # with the time of their end
        # By device and inode, what was no state of a directory, for those that wait; with the time of its end.
        self._passing: Bounded[tuple[int, int], tuple[float, Names | HTTPError]] = Bounded(KEPT_NAMES)

    def page(
        self,
        root: Root,
        relative: str,
        directory: OpenFile,
        view: View,
        hidden: Collection[tuple[int, int] | None],
    ) -> Listing:
        """Return the page of ``directory``, at ``relative`` below the root, that ``view`` asks for, or the last.

        Left out are dotfiles, the files ``hidden`` by (device, inode), whatever is neither file nor directory,
        and symbolic links that lead nowhere or out of the root. Raises ``HTTPError`` if it cannot be read, and
        ``UndecidedError`` where that takes long.
        """
        names = self._find_names(root, relative, directory)
        total = len(names.names)
        pages = max(1, -(-total // PAGE_NAMES))
        view = view._replace(page=min(view.page, pages))
        if pages == 1:
            entries = arrange(_look_at(names.names, root, relative, directory, hidden), view.sort, view.order)
            return Listing(entries, view, 1, len(entries), names.omitted)
        ordered = self._find_order(names, relative, view)
        shown = ordered.names[(view.page - 1) * PAGE_NAMES : view.page * PAGE_NAMES]
        entries = _look_at(shown, root, relative, directory, hidden)
        entries.sort(key=lambda entry: not entry.is_directory)  # a link may lead elsewhere by now
        return Listing(entries, view, pages, total, names.omitted)

    # Names

    def _find_names(self, root: Root, relative: str, directory: OpenFile) -> Names:
        names = self._names.get(directory.identity) or self._find_passing(directory.identity)
        if names is not None:
            return names
        began_ns = time.time_ns()
        found = _read_names(root, relative, directory, PAGE_NAMES)
        if found is None:
            key = b"names %a" % (directory.identity,)
            raise UndecidedError(key, lambda: self._learn_names(relative), LISTING)
        names = self._names_of(found)
        if is_settled(directory.identity, began_ns) and _is_still(directory):
            self._names.put(directory.identity, names, len(names.names))
        return names

    def _find_passing(self, identity: Identity) -> Names | None:
        until, found = self._passing.get(identity[:2]) or (0.0, None)
        if time.monotonic() > until:
            return None
        if isinstance(found, HTTPError):
            raise found
        return found

    def _names_of(self, found: list[tuple[bool, str]]) -> Names:
        kept = found[:LISTED_MAX]
        directories = sum([is_directory for is_directory, _ in kept])
        names = tuple([name for _, name in kept])
        return Names(names, directories, len(found) - len(kept), next(self._serials))

    def _learn_names(self, relative: str) -> None:
        """Read the names of a directory in the background, for those that will ask for them again."""
        with self._enter() as root:
            directory = root.open(relative)
            if not is_settled(directory.identity):
                time.sleep(SETTLED_NS / 1e9)  # by then most have come to rest
                directory = root.open(relative)
            began_ns, began = time.time_ns(), time.monotonic()
            found: Names | HTTPError
            try:
                found = self._names_of(_read_names(root, relative, directory) or [])
            except HTTPError as error:
                found = HTTPError(error.status, error.detail)
            if isinstance(found, Names) and is_settled(directory.identity, began_ns) and _is_still(directory):
                self._names.put(directory.identity, found, len(found.names))
                return
            now = time.monotonic()
            until = now + max(BRIEFLY_S, now - began)
            weight = len(found.names) if isinstance(found, Names) else 1
            self._passing.put(directory.identity[:2], (until, found), weight)

    # Orders

    def _find_order(self, names: Names, relative: str, view: View) -> Names:
        if (view.sort, view.order) == _NATURAL:
            return names
        if view.sort == SORTS[0]:
            first, rest = names.names[: names.directories], names.names[names.directories :]
            return names._replace(names=first[::-1] + rest[::-1])
        until, ordered = self._orders.get((names.serial, view.sort, view.order)) or (0.0, None)
        if ordered is None or time.monotonic() > until:
            key = b"order %a" % ((names.serial, view.sort, view.order),)
            raise UndecidedError(key, lambda: self._learn_order(names, relative, view), LISTING)
        return ordered

    def _learn_order(self, names: Names, relative: str, view: View) -> None:
        """Sort ``names`` by what they lead to, in the background."""
        with self._enter() as root:
            directory = root.open(relative)
            found = _look_at(_gently(names.names), root, relative, directory, ())
        rows = [(*_rank(entry, view), number) for number, entry in enumerate(_gently(found))]
        ordered = tuple([found[row[-1]].name for row in _sort_gently(rows)])
        value = time.monotonic() + ORDER_S, names._replace(names=ordered)
        self._orders.put((names.serial, view.sort, view.order), value, len(ordered))


def _is_still(directory: OpenFile) -> bool:
    return identity_of(directory.status()) == directory.identity


def _read_names(
    root: Root, relative: str, directory: OpenFile, most: int | None = None
) -> list[tuple[bool, str]] | None:
    """Return (is it a directory, name) of all names in their natural order, directories first.

    None if there are more than ``most``; without that bound it takes its time. Raises ``HTTPError``.
    """
    keys: list[tuple[bool, str, str]] = []
    try:
        with os.scandir(directory.place) as found:
            for entry in found if most is not None else _gently(found):
                if entry.name.startswith("."):
                    continue
                is_directory = _is_directory(entry, root, relative, directory)
                if is_directory is None:
                    continue
                if len(keys) == most:
                    return None
                keys.append((not is_directory, *natural_key(entry.name)))
    except OSError as error:
        raise error_from_errno(error, "scandir") from None
    ordered = sorted(keys) if most is not None else _sort_gently(keys)
    return [(not is_file, name) for is_file, _, name in ordered]


def _is_directory(entry: os.DirEntry[str], root: Root, relative: str, directory: OpenFile) -> bool | None:
    """Tell whether ``entry`` is, or leads to, a directory; None if it is nothing that is listed."""
    try:
        if entry.is_symlink():
            info = _look(root, relative, directory, entry.name)
            # What leads nowhere now may lead somewhere when its page is asked for.
            return info is not None and stat.S_ISDIR(info.st_mode)
        is_directory = entry.is_dir(follow_symlinks=False)
        return is_directory if is_directory or entry.is_file(follow_symlinks=False) else None
    except OSError:
        return None


def _look_at(
    names: Iterable[str],
    root: Root,
    relative: str,
    directory: OpenFile,
    hidden: Collection[tuple[int, int] | None],
) -> list[Entry]:
    """Return an entry for each name that leads to what a client could ask for, in the same order."""
    entries = []
    for name in names:
        info = _look(root, relative, directory, name)
        if info is None or (info.st_dev, info.st_ino) in hidden:
            continue
        is_directory = stat.S_ISDIR(info.st_mode)
        if is_directory or stat.S_ISREG(info.st_mode):
            entries.append(Entry(name, is_directory, info.st_size, info.st_mtime_ns // 1_000_000_000))
    return entries


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


def arrange(by_name: Sequence[Entry], sort: str, order: str) -> list[Entry]:
    """Return entries that are in their natural order sorted as asked, directories first.

    Equal sizes and times are told apart by name, and so are directories when sorted by size.
    """
    backwards = order == "desc"
    entries = list(by_name)
    if sort == "size":
        entries.sort(key=lambda entry: 0 if entry.is_directory else entry.size_bytes, reverse=backwards)
    elif sort == "time":
        entries.sort(key=lambda entry: entry.mtime_s, reverse=backwards)
    elif backwards:
        entries.reverse()
    return sorted(entries, key=lambda entry: not entry.is_directory)


def _rank(entry: Entry, view: View) -> tuple[bool, int]:
    """Return what ``arrange`` sorts by, for names that are too many for it."""
    value = entry.mtime_s if view.sort == "time" else 0 if entry.is_directory else entry.size_bytes
    return not entry.is_directory, -value if view.order == "desc" else value


def _sort_gently(rows: list[Any]) -> Iterator[Any]:
    """Sort without holding the interpreter for long: short runs, and their merging in Python."""
    runs = [sorted(rows[first : first + _RUN]) for first in _gently(range(0, len(rows), _RUN), 1)]
    return _gently(heapq.merge(*runs))


def _gently(items: Iterable[T], every: int = _BREATH) -> Iterator[T]:
    """Yield ``items``, and let others have the interpreter after each ``every`` of them."""
    for number, item in enumerate(items):
        if number % every == 0:
            time.sleep(_PAUSE_S)
        yield item


def natural_key(name: str) -> tuple[str, str]:
    """Return what to sort names by: without regard to case, and numbers by their size."""
    return _NUMBER.sub(_number_key, name.casefold()), name


def _number_key(number: re.Match[str]) -> str:
    """Digits such that text order is the order of the numbers, and before any character of a name."""
    digits = number[0].lstrip("0")
    return f"\0{chr(len(digits))}{digits}"
