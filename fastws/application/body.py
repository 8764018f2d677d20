"""The body of a request for an application: kept while it arrives, and read by ``wsgi.input``."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import IO

from ..http.errors import HTTPError

MEMORY_BYTES = 65536
"""A body up to this size is kept in memory, a larger one in a temporary file that has no name."""


class Spool:
    """Bytes that arrive in pieces, added by ``+=``; ``close`` gives the file back."""

    __slots__ = ("_file", "_memory", "size")

    def __init__(self) -> None:
        self._memory = bytearray()
        self._file: IO[bytes] | None = None
        self.size = 0
        """How many bytes there are."""

    def __iadd__(self, data: bytes | bytearray) -> Spool:
        """Add ``data``. Raises ``HTTPError`` 507 if there is no room for it on the disk."""
        self.size += len(data)
        try:
            if self._file is None:
                self._memory += data
                if self.size <= MEMORY_BYTES:
                    return self
                import tempfile  # most bodies need none

                self._file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115
                data, self._memory = bytes(self._memory), bytearray()
            view = memoryview(data)
            while view:
                view = view[self._file.write(view) :]
        except OSError as error:
            self.close()
            raise HTTPError(
                507, f"The body cannot be stored: {error.strerror or error}.", close=True
            ) from error
        return self

    def adopt(self, fd: int, size: int) -> None:
        """Take over a file that has all of the body."""
        self._file, self.size = open(fd, "r+b", buffering=0), size  # noqa: SIM115

    def fileno(self) -> int:
        """Return the descriptor of the file, -1 if all of it is in memory."""
        return -1 if self._file is None else self._file.fileno()

    def take_file(self) -> IO[bytes] | None:
        """Return the file, which is the caller's from now on; None if all of the body is in memory."""
        file, self._file = self._file, None
        return file

    def read_memory(self) -> bytes:
        """Return what is in memory, which is all of it or nothing."""
        return bytes(self._memory)

    def open(self) -> IO[bytes]:
        """Return all of it to be read from the start; nothing is added any more."""
        if self._file is None:
            return io.BytesIO(self._memory)
        self._file.seek(0)
        return io.BufferedReader(self._file)  # type: ignore[arg-type,type-var,unused-ignore]

    def close(self) -> None:
        """Let go of the file; a second call does nothing."""
        if self._file is not None:
            self._file.close()
            self._file = None


NO_BODY = Spool()
"""For all requests that have none: nothing is ever added."""


class Input:
    """``wsgi.input``: what PEP 3333 lets an application call, and nothing else; at the end it returns b""."""

    __slots__ = ("_file",)

    def __init__(self, body: Spool) -> None:
        self._file = body.open()

    def read(self, size: int | None = -1) -> bytes:
        """Return up to ``size`` bytes; all that are left if it is negative or None."""
        return self._file.read(-1 if size is None else size)

    def readline(self, size: int | None = -1) -> bytes:
        """Return bytes up to the end of a line, at most ``size`` of them."""
        return self._file.readline(-1 if size is None else size)

    def readlines(self, hint: int | None = -1) -> list[bytes]:
        """Return the lines that are left, about ``hint`` bytes of them if that is positive."""
        return self._file.readlines(-1 if hint is None else hint)

    def __iter__(self) -> Iterator[bytes]:
        """Iterate over the lines that are left."""
        yield from self._file  # the file itself is not for the application, which could close it


NO_INPUT = Input(NO_BODY)
"""For all requests without a body: no call changes it."""
