"""Confined path → open file with its validators.

Whether a file lies inside the document root is decided on the descriptor that was opened, never on a name
that was looked at before: a name may mean another file a microsecond later.
"""

from __future__ import annotations

import errno
import os
import stat
import time
import weakref
from typing import NamedTuple

from .. import _openat_py, portable
from ..backend import Opener
from ..http.errors import HTTPError
from ..http.messages import Identity
from ..http.messages import OpenFile as Readable
from .hashes import blake2b
from .ways import Beneath, ByName
from .ways import identity_of as identity_of  # part of what others know of a file

SETTLED_NS = 20_000_000
"""A file younger than this may change again within the same tick of the clock, unseen by its times."""

MEMO_SIZE = 16384
"""Files whose entity tag and content, if somebody holds it, are remembered; about 6 MB."""

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


def is_settled(identity: Identity, at_ns: int | None = None) -> bool:
    """Tell whether a change to the file after ``at_ns`` (None: now) is certain to change its identity too."""
    if at_ns is None:
        at_ns = time.time_ns()
    # A time of modification can be set to the future, and then says nothing of when the file was written.
    if identity.mtime_ns > at_ns and not portable.CTIME_IS_OF_CHANGE:
        return False
    newest = identity.ctime_ns if identity.mtime_ns > at_ns else max(identity.mtime_ns, identity.ctime_ns)
    return at_ns - newest > SETTLED_NS


way_into = Beneath if portable.HAS_OPENAT else ByName
"""How a root is entered on this platform."""


class Root:
    """The document root as one request finds it: a symbolic link may be swapped before the next.

    A context manager that closes the files it opened, but for those that were to be kept; raises
    ``HTTPError`` 500 if the root is gone or unreadable, 503 without a free descriptor.
    """

    def __init__(self, path: str, opener: Opener = _openat_py) -> None:
        self.path = path
        self._opened: list[Readable] = []
        try:
            self._way = way_into(path, opener)
        except OSError as error:
            raise _root_error(error) from None

    def __enter__(self) -> Root:
        return self

    def __exit__(self, *_: object) -> None:
        self._way.close()
        for file in self._opened:
            file.close()

    def keep(self, file: Readable) -> None:
        """Leave ``file``, which was opened here, open: somebody else closes it."""
        self._opened.remove(file)

    def find(self, relative: str) -> OpenFile | None:
        """Open what ``relative`` (without a slash at its start; empty: the root) names.

        None for nothing there, what is neither file nor directory, and what lies outside the root. Raises
        ``HTTPError`` 403 for what may not be read.
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
        return file

    def open(self, relative: str) -> OpenFile:
        """Open what ``find`` finds; raises ``HTTPError`` 404 instead of returning None."""
        file = self.find(relative)
        if file is None:
            raise not_found()
        return file

    def has(self, relative: str) -> bool:
        """Tell whether ``relative`` names anything; what, and whether it may be seen, only ``open`` tells."""
        return self._way.has(relative)

    def _is_readable(self) -> bool:
        effective = os.access in os.supports_effective_ids
        return os.access(self.path, os.R_OK | os.X_OK, effective_ids=effective)


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

    def __init__(self, max_file_bytes: int, opener: Opener = _openat_py) -> None:
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
        if len(self._known) >= MEMO_SIZE:
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
