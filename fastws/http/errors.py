"""Exceptions that say what the client, or the person at the terminal, is to be told."""

from __future__ import annotations

from collections.abc import Callable

from ..language.named_tuple import NamedTuple


class FastwsError(Exception):
    """Base of every exception that fastws raises on purpose."""


class HTTPError(FastwsError):
    """A request that ends in an error response.

    ``status`` is the status code to send, ``detail`` one sentence for the error page and the error log
    (plain text, not yet escaped for HTML), ``fields`` further response fields (such as ``Allow``), and
    ``close`` tells that the connection cannot be used after the response, because where the next
    request begins is uncertain or the client is not to be trusted with it.
    """

    def __init__(
        self, status: int, detail: str, *, fields: tuple[tuple[str, str], ...] = (), close: bool = False
    ) -> None:
        super().__init__(status, detail)
        self.status = status
        self.detail = detail
        self.fields = fields
        self.close = close

    def __str__(self) -> str:
        return f"{self.status}: {self.detail}"


class Work(NamedTuple):
    """A kind of work that a response may wait for: the name of its thread, and the three ways in which it fails.

    ``crowded`` and ``late`` are details of a 503, ``failed`` is for the log. ``is_python`` tells that the work is
    done by Python, which holds the interpreter, and not by a library that does not.
    """

    name: str
    crowded: str
    late: str
    failed: str
    is_python: bool = False


PASSWORD = Work(
    "passwords",
    "Too many passwords wait to be checked.",
    "The password could not be checked in time.",
    "a password could not be checked",
)
LISTING = Work(
    "listings",
    "Too many listings wait to be made.",
    "The listing could not be made in time.",
    "a listing could not be made",
    is_python=True,
)
CODING = Work(
    "codings",
    "Too many files wait to be compressed.",
    "The file could not be compressed in time.",
    "a file could not be compressed",
)


class UndecidedError(FastwsError):
    """A request whose response needs slow work first, of the kind ``work``.

    The caller has another thread call ``compute``, then asks again. Equal computations have the same ``key``
    and run once.
    """

    def __init__(self, key: bytes, compute: Callable[[], object], work: Work) -> None:
        super().__init__(f"a computation is needed first: {work.name}")
        self.key = key
        self.compute = compute
        self.work = work


class Problem(NamedTuple):
    """One thing that is wrong in a configuration: ``line`` is 0 for the command line or the file as a whole."""

    file: str
    line: int
    text: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.text}" if self.line else f"{self.file}: {self.text}"


class ConfigError(FastwsError):
    """A configuration that cannot be used; ``problems`` lists everything found wrong, in file order."""

    def __init__(self, problems: tuple[Problem, ...]) -> None:
        super().__init__("\n".join(map(str, problems)))
        self.problems = problems


class ListenError(FastwsError):
    """A socket cannot listen: the port is taken, the address is not local, or it is not allowed."""
