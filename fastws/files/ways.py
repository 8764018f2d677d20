"""Ways from a path to what lies inside the document root, and to nothing else.

Where the platform opens files below an open directory, a link is met by the one call that opens: ``Beneath``.
Elsewhere names are resolved, and what was opened is compared with what they lead to: ``ByName``.
"""

from __future__ import annotations

import errno
import os
import stat
import sys
from typing import Protocol

from .. import portable
from ..backend import Opener
from ..http.messages import Identity
from ..language.named_tuple import NamedTuple
from .identity import identity_of
from .windows import final_path, is_literal

PROC_FD = "/proc/self/fd/"
"""Where the kernel tells the path of a descriptor; Linux."""

_LINK_ON_THE_WAY = (errno.ELOOP, errno.ENOTDIR)


class Found(NamedTuple):
    """A descriptor, -1 for a directory that cannot have one, its mode, and its identity.

    ``place`` is what ``os.stat`` and ``os.scandir`` take for it.
    """

    fd: int
    mode: int
    identity: Identity
    place: int | str


class Way(Protocol):
    """A root as one request finds it."""

    def open(self, relative: str) -> Found | None:
        """Return what ``relative`` (empty: the root) names and lies inside, or None. Raises ``OSError``."""

    def has(self, relative: str) -> bool:
        """Tell whether ``relative`` names anything; what, and whether it may be seen, only ``open`` tells."""

    def close(self) -> None:
        """Let go of the root."""


class Beneath:
    """The root as an open directory. Raises ``OSError`` if it cannot be opened."""

    def __init__(self, path: str, opener: Opener) -> None:
        self._path = path
        self._opener = opener
        self._fd = os.open(path, portable.ROOT_FLAGS)

    def close(self) -> None:
        """See ``Way.close``."""
        os.close(self._fd)

    def has(self, relative: str) -> bool:
        """See ``Way.has``."""
        return os.access(relative, os.F_OK, dir_fd=self._fd, follow_symlinks=False)

    def open(self, relative: str) -> Found | None:
        """See ``Way.open``. A way that follows no link cannot leave, and needs no proof."""
        if relative.count("/") >= self._opener.DEEPEST:
            fd = self._follow(relative)
        else:
            try:
                fd = self._opener.open_beneath(self._fd, relative)
            except OSError as error:
                if error.errno not in _LINK_ON_THE_WAY:
                    raise
                fd = self._follow(relative)
        if fd < 0:
            return None
        try:
            mode, identity = self._opener.look(fd)
        except BaseException:
            os.close(fd)
            raise
        return Found(fd, mode, identity, fd)

    def _follow(self, relative: str) -> int:
        """Open ``relative`` through whatever links there are, and ask where the descriptor has led.

        Where the kernel does not tell, the name is resolved, and a way to what it resolves to must be open:
        what that opens lies inside, whatever became of the names meanwhile. -1 for what lies outside.
        Raises ``OSError``.
        """
        fd = os.open(relative or ".", portable.READ_FLAGS, dir_fd=self._fd)
        real = _path_of(fd)
        root = _path_of(self._fd) or os.path.realpath(self._path)
        if real is not None and _is_inside(real, root):
            return fd
        os.close(fd)
        if real is None:
            real = os.path.realpath(os.path.join(self._path, relative))
            if _is_inside(real, root):
                return self._opener.open_beneath(self._fd, real[len(_with_separator(root)) :])
        return -1


def _path_of(fd: int) -> str | None:
    """Return the path of a descriptor as the system knows it, None where it does not tell."""
    try:
        if sys.platform == "win32":
            return final_path(fd)
        if sys.platform == "darwin":
            import fcntl  # macOS: fcntl(2), F_GETPATH fills a buffer of MAXPATHLEN

            return os.fsdecode(fcntl.fcntl(fd, fcntl.F_GETPATH, bytes(1024)).rstrip(b"\0"))
        return os.readlink(f"{PROC_FD}{fd}")
    except OSError:
        return None


class ByName:
    """The root as a name, on Windows: there, no directory can be opened as a descriptor.

    A file is found only by the spelling that the file system itself has for it, letter case included: what other
    spelling leads to it there (``A.HTML``, ``PROGRA~1``) would pass rules by path that were made for this one.
    In doubt nothing is found. Raises ``OSError`` if the root cannot be resolved.
    """

    def __init__(self, path: str, _: Opener) -> None:
        self._root = os.path.realpath(path, strict=True)
        if not os.path.isdir(self._root):
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path)

    def close(self) -> None:
        """See ``Way.close``."""

    def has(self, relative: str) -> bool:
        """See ``Way.has``."""
        name = self._name_of(relative)
        return name is not None and os.path.lexists(name)

    def _name_of(self, relative: str) -> str | None:
        """Return the path below the root in the platform's spelling, None if a segment is no name there."""
        segments = relative.rstrip("/").split("/") if relative else []
        return os.path.join(self._root, *segments) if all(map(is_literal, segments)) else None

    def open(self, relative: str) -> Found | None:
        """See ``Way.open``.

        1. every segment is looked up as it is spelled
        2. it leads to a place inside the root, and is spelled as the file system does
        3. what is opened at that place lies there, by its handle: no link put on the way can deceive that
        """
        name = self._name_of(relative)
        if name is None:
            return None
        real = os.path.realpath(name, strict=True)
        if not _is_inside(real, self._root) or not (real == name or self._is_stored_so(relative)):
            return None
        status = os.stat(real)
        if stat.S_ISDIR(status.st_mode):
            return Found(-1, status.st_mode, identity_of(status), real) if _is_settled_place(real) else None
        if not stat.S_ISREG(status.st_mode):
            return None
        fd = os.open(real, portable.READ_FLAGS)
        try:
            opened = os.fstat(fd)
            place = _path_of(fd)
            if place is not None:
                is_sure = place == real
            else:
                is_sure = os.path.samestat(opened, os.stat(real)) and _is_settled_place(real)
        except BaseException:
            os.close(fd)
            raise
        if not is_sure:
            os.close(fd)
            return None
        return Found(fd, opened.st_mode, identity_of(opened), fd)

    def _is_stored_so(self, relative: str) -> bool:
        """Tell whether each name on the way is in its directory as it is spelled; for a way through links."""
        here = self._root
        for segment in relative.rstrip("/").split("/"):
            if segment not in os.listdir(here):
                return False
            here = os.path.join(here, segment)
        return True


def _is_settled_place(real: str) -> bool:
    """Tell whether a resolved path still leads to itself."""
    return os.path.realpath(real, strict=True) == real


def _is_inside(real: str, root: str) -> bool:
    return real == root or real.startswith(_with_separator(root))


def _with_separator(root: str) -> str:
    return root if root.endswith(os.sep) else root + os.sep
