"""Confined path → open file with its validators.

Whether a file lies inside the document root is decided on the descriptor that was opened, never on a name
that was looked at before: a name may mean another file a microsecond later.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Collection
from typing import Protocol

from .. import portable
from ..backend import Opener
from ..http.errors import HTTPError
from ..http.messages import Identity, Readable
from .ways import Beneath, ByName

ATTEMPTS = 8
"""How often a name is looked up that means another file each time."""

_NO_SUCH_FILE = "There is no such file."
_ABSENT = (
    errno.ENOENT,
    errno.ENOTDIR,
    errno.ELOOP,
    errno.ENAMETOOLONG,
    errno.ENXIO,  # a socket, or a device without its driver
    errno.EINVAL,
)
_STATUS_BY_ERRNO = {
    **dict.fromkeys(_ABSENT, (404, _NO_SUCH_FILE)),
    errno.EACCES: (403, "The file may not be read."),
    errno.EPERM: (403, "The file may not be read."),
    errno.EMFILE: (503, "The server has too many files open."),
    errno.ENFILE: (503, "The server has too many files open."),
    errno.ENOMEM: (503, "The server is out of memory."),
}


def not_found() -> HTTPError:
    """Return the error for a name that leads nowhere, or nowhere that may be seen."""
    return HTTPError(404, _NO_SUCH_FILE)


def error_from_errno(error: OSError, call: str) -> HTTPError:
    """Return what a failed system call means to the client; 500 names the call, for the error log."""
    status, detail = _STATUS_BY_ERRNO.get(error.errno or 0, (500, f"{call} failed: {error.strerror}"))
    return HTTPError(status, detail)


def _root_error(error: OSError) -> HTTPError:
    """Return 500 for a root that cannot be used, 503 where only the moment is wrong."""
    if _STATUS_BY_ERRNO.get(error.errno or 0, (500,))[0] == 503:
        return error_from_errno(error, "open")
    return HTTPError(500, f"The document root cannot be opened: {error.strerror}.")


class Descriptor:
    """A bare descriptor without metadata. Its owner closes it."""

    __slots__ = ("fd",)

    def __init__(self, fd: int) -> None:
        self.fd = fd

    def close(self) -> None:
        """Close the descriptor; a second call does nothing."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


class OpenFile(Descriptor):
    """An open regular file or directory; ``place`` is what ``os.stat`` and ``os.scandir`` take for it."""

    __slots__ = ("identity", "is_directory", "place")

    def __init__(
        self, fd: int, identity: Identity, *, is_directory: bool, place: int | str | None = None
    ) -> None:
        self.fd = fd
        self.place = fd if place is None else place
        self.identity = identity
        self.is_directory = is_directory

    def status(self) -> os.stat_result:
        """Return what the system says of it now. Raises ``OSError``."""
        return os.stat(self.place)

    def status_of(self, name: str) -> os.stat_result:
        """Return what the system says of ``name`` in this directory, a link itself. Raises ``OSError``."""
        if isinstance(self.place, int):
            return os.stat(name, dir_fd=self.place, follow_symlinks=False)
        return os.stat(os.path.join(self.place, name), follow_symlinks=False)


def _has_name(file: OpenFile) -> bool:
    try:
        return file.status().st_nlink > 0
    except OSError as error:
        raise error_from_errno(error, "stat") from None


way_into = Beneath if portable.HAS_OPENAT else ByName
"""How a root is entered on this platform."""


class Hidden(Protocol):
    """Knows files that are never found."""

    @property
    def are_inside(self) -> bool:
        """Whether a root may hold one of them by a name of its own, at which another may take its place."""

    def __call__(self) -> Collection[tuple[int, int] | None]:
        """Return their (device, inode) pairs as of now."""


class Nothing:
    """Hides nothing."""

    are_inside = False

    def __call__(self) -> Collection[tuple[int, int] | None]:
        """See ``Hidden``."""
        return ()


class HiddenError(HTTPError):
    """404 for a file that is there and never found."""

    def __init__(self) -> None:
        super().__init__(404, _NO_SUCH_FILE)


class Root:
    """The document root as one request finds it: a symbolic link may be swapped before the next.

    A context manager that closes the files it opened, but for those that were to be kept; raises
    ``HTTPError`` 500 if the root is gone or unreadable, 503 without a free descriptor.
    """

    def __init__(self, path: str, opener: Opener, hidden: Hidden) -> None:
        self.path = path
        self._hidden = hidden
        self._opened: list[Readable] = []
        try:
            self._way = way_into(path, opener)
        except OSError as error:
            raise _root_error(error) from None
        self.has = self._way.has

    def __enter__(self) -> Root:
        return self

    def __exit__(self, *_: object) -> None:
        self._way.close()
        for file in self._opened:
            file.close()

    def keep(self, file: Readable) -> None:
        """Leave ``file``, which was opened here, open: somebody else closes it."""
        self._opened.remove(file)

    def find(self, relative: str, unnamed: tuple[tuple[int, int], ...] = ()) -> OpenFile | None:
        """Open what ``relative`` (without a slash at its start; empty: the root) names.

        None for nothing there, what is neither file nor directory, and what lies outside the root. ``unnamed`` are
        the (device, inode) pairs of files that were found there and had lost the name. Raises ``HTTPError`` 403
        for what may not be read, and ``HiddenError``.
        """
        try:
            found = self._way.open(relative)
        except OSError as error:
            if error.errno == errno.EACCES and not self._is_readable():
                raise _root_error(error) from None
            if error.errno in _ABSENT:
                return None
            raise error_from_errno(error, "open") from None
        if found is None:
            return None
        is_directory = stat.S_ISDIR(found.mode)
        if not is_directory and not stat.S_ISREG(found.mode):
            os.close(found.fd)
            return None
        file = OpenFile(found.fd, found.identity, is_directory=is_directory, place=found.place)
        self._opened.append(file)
        if is_directory:
            return file
        number = found.identity[:2]
        if number in self._hidden():
            raise HiddenError
        # One that has lost its name since it was opened may have been hidden by that name until then.
        if self._hidden.are_inside and number not in unnamed and not _has_name(file):
            if len(unnamed) == ATTEMPTS:
                raise HiddenError
            return self.find(relative, (*unnamed, number))
        return file

    def open(self, relative: str) -> OpenFile:
        """Open what ``find`` finds; raises ``HTTPError`` 404 instead of returning None."""
        file = self.find(relative)
        if file is None:
            raise not_found()
        return file

    def _is_readable(self) -> bool:
        effective = os.access in os.supports_effective_ids
        return os.access(self.path, os.R_OK | os.X_OK, effective_ids=effective)
