"""Content codings (RFC 9110 section 8.4): which form of a file a request gets.

Three sources, asked in this order, each for the codings that the client likes better than the plain file:

1. sidecars, files that lie beside the plain one (``app.js.br``, ``.zst``, ``.gz``), also where it is missing;
2. what was compressed in the background: the first request is answered with the plain file, a later one with
   the variant. An answer that a cache keeps is compressed at once, at a quick level;
3. the plain file, unless the client excludes it; then gzip is made at once, or the answer is 406. Where only a
   ``.gz`` is there, it is unpacked for a client that takes no gzip.

Only compressible media types take part; of other files there is one form, whatever Accept-Encoding says. A
request with a Range gets the plain file where it may, for a range of compressed bytes is of no use without
those before it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from ..config.settings import Config
from ..http.errors import CODING, HTTPError, UndecidedError
from ..http.mediatypes import is_compressible
from ..http.messages import ANY_CODINGS, Identity, Request
from ..http.negotiation import IDENTITY_CODING, codings_number, preferred_codings
from ..language.named_tuple import NamedTuple
from .compression import (
    NOT_WORTHWHILE,
    Compressor,
    Encode,
    Job,
    Store,
    compress_quickly,
    encoder,
    unpack_gzip,
)
from .contents import Content, Contents, entity_tag
from .representation import Representation, of_content, of_file
from .root import HiddenError, OpenFile, Root

SIDECARS = {"br": ".br", "zstd": ".zst", "gzip": ".gz"}
"""Content coding → the suffix of the file that holds it."""

LEAST_BYTES = 1024
"""Smaller files are not compressed: they fit one or two packets as they are."""

AT_ONCE_BYTES = 65536
"""What is compressed, or unpacked, by the worker itself: at most a millisecond, or 15 for what grows to 4 MiB."""

SIDECAR_TOLERANCE_NS = 2_000_000_000
"""How much older than its plain file a sidecar may be: FAT and zip archives count in two seconds."""

CACHE_SHARE = 4
"""Compressed variants take at most this part of CacheSize: a quarter."""

WORTHWHILE = 0.95
"""A variant that is not at least 5 % smaller than its plain file is not worth a client's time."""

MEMORY_BYTES = 262144
"""Files up to this size are replayed from memory, larger ones by sendfile: see ``benchmarks/README.md``."""

_LOGGED_MAX = 1024

Depends = tuple[tuple[str, Identity], ...]


class Asked(NamedTuple):
    """A request for a file, and when it began.

    ``is_kept`` tells whether a cache keeps the answer and asks for no better one; it is called only where that
    matters.
    """

    request: Request
    now_ns: int
    is_kept: Callable[[], bool]


class Choice(NamedTuple):
    """The form that was chosen, and what that depended on.

    ``depends`` are paths below the root; ``by_names`` tells that the names in the file's directory mattered
    too. ``codings`` is the number of the accepted-codings set that ``accept_encoding`` meant, or
    ``ANY_CODINGS``. ``is_final`` is false while a better form is on its way.
    """

    chosen: Representation
    depends: Depends
    by_names: bool = False
    codings: int = ANY_CODINGS
    accept_encoding: str | None = None
    is_final: bool = True


class Variants:
    """Chooses among the forms of files by one configuration. Any thread may call."""

    def __init__(
        self,
        config: Config,
        logger: logging.Logger,
        contents: Contents,
        *,
        replays: bool,
    ) -> None:
        self._is_on = config.compression
        self._max_bytes = config.compress_max_file_bytes
        self._contents = contents
        self.memory_bytes = min(config.cache_max_file_bytes, MEMORY_BYTES) if replays else -1
        self._most_bytes = max(self.memory_bytes, 0)
        self._log = logger
        self._logged: set[str] = set()
        self.compressor = Compressor(logger)
        self.store = Store(config.cache_size_bytes // CACHE_SHARE)

    def are_negotiable(self, kind: str | None) -> bool:
        """Tell whether files of this media type have more than one form."""
        return self._is_on and kind is not None and is_compressible(kind)

    def has_sidecar(self, root: Root, relative: str) -> bool:
        """Tell whether a sidecar stands for the missing file ``relative``."""
        for coding, suffix in SIDECARS.items():
            if root.has(relative + suffix) and self._open_sidecar(root, relative, coding, _Trail()):
                return True
        return False

    def wants_body(self, file: OpenFile) -> bool:
        """Tell whether ``file`` is sent from memory, so that it can be replayed from there.

        One of size 0 always is: what is made up as it is read is read once.
        """
        return file.identity.size <= self._most_bytes

    def choose(self, root: Root, relative: str, plain: OpenFile | None, kind: str, asked: Asked) -> Choice:
        """Return the best form of ``relative`` for ``request``; ``plain`` is None where only sidecars exist.

        Raises ``HTTPError`` 406 if the client excludes every form that there is.
        """
        request, now_ns = asked.request, asked.now_ns
        if not self.are_negotiable(kind):
            assert plain is not None
            return self.as_stored(relative, plain, IDENTITY_CODING, now_ns)
        accept_encoding = request.fields.get("accept-encoding")
        preference = preferred_codings(accept_encoding)
        trail = _Trail()
        wanted = tuple(coding for coding in preference if coding != IDENTITY_CODING)
        in_part = False
        if plain is not None and IDENTITY_CODING in preference:
            wanted = preference[: preference.index(IDENTITY_CODING)]
            in_part = bool(wanted) and request.method == "GET" and "range" in request.fields
            if in_part:
                wanted, trail.is_final = (), False
        chosen = (
            self._sidecar(root, relative, plain, wanted, trail, now_ns)
            or self._compressed(plain, wanted, trail, asked)
            or (plain is None and self._unpacked(root, relative, preference, trail, now_ns))
            or self._plain(plain, preference, now_ns, in_part)
        )
        files = [] if plain is None else [(relative, plain.identity)]
        own = relative + (SIDECARS.get(trail.sidecar, ""))
        depends = dict([*files, *trail.ignored, (own, chosen.form.identity)])
        return Choice(
            chosen,
            tuple(depends.items()),
            by_names=bool(wanted),
            codings=codings_number(preference),
            accept_encoding=accept_encoding,
            is_final=trail.is_final,
        )

    def as_stored(self, relative: str, file: OpenFile, coding: str, now_ns: int) -> Choice:
        """Return the one form of a file that is stored in ``coding``."""
        chosen = self._of_file(file, coding, now_ns)
        return Choice(chosen, ((relative, chosen.form.identity),))

    def close(self) -> None:
        """End the background thread."""
        self.compressor.close()

    # Sidecars

    def _sidecar(
        self,
        root: Root,
        relative: str,
        plain: OpenFile | None,
        wanted: tuple[str, ...],
        trail: _Trail,
        now_ns: int,
    ) -> Representation | None:
        for coding in wanted:
            file = self._open_sidecar(root, relative, coding, trail)
            if file is None:
                continue
            if plain and file.identity.mtime_ns + SIDECAR_TOLERANCE_NS < plain.identity.mtime_ns:
                trail.ignored.append((relative + SIDECARS[coding], file.identity))
                self._warn_once(f"{relative}{SIDECARS[coding]} is ignored: it is older than {relative}")
                continue
            trail.sidecar = coding
            return self._of_file(file, coding, now_ns)
        return None

    def _open_sidecar(self, root: Root, relative: str, coding: str, trail: _Trail) -> OpenFile | None:
        # Nearly always there is none, and asking is much cheaper than an open that fails.
        if not root.has(relative + SIDECARS[coding]):
            return None
        try:
            file = root.find(relative + SIDECARS[coding])
        except HiddenError:
            file = None
        except HTTPError as error:
            if error.status >= 500:
                raise
            trail.is_final = False
            self._warn_once(f"{relative}{SIDECARS[coding]} is ignored: {error.detail}")
            return None
        if file is None:
            trail.is_final = False  # a name is there, and what it leads to may change unseen
            return None
        return None if file.is_directory else file

    def _warn_once(self, text: str) -> None:
        if text not in self._logged and len(self._logged) < _LOGGED_MAX:
            self._logged.add(text)
            self._log.warning("%s", text)

    # Compressed in the background, or on the spot

    def _compressed(
        self, plain: OpenFile | None, wanted: tuple[str, ...], trail: _Trail, asked: Asked
    ) -> Representation | None:
        if plain is None or not self.store.max_bytes:
            return None
        if not LEAST_BYTES <= plain.identity.size <= self._max_bytes:
            return None
        coding, encode = next(
            ((c, e) for c in wanted if (e := encoder(c)) is not None), (IDENTITY_CODING, None)
        )
        if encode is None:
            return None
        key = plain.identity, coding
        found = self.store.get(key)
        # Or this answer would be replayed when the better one is there.
        trail.is_final = found is not None and not self.compressor.has(key)
        if found is None:
            content = self._contents.load(plain)
            if content.is_settled:
                self._compress_soon(content, coding, encode)
                if asked.is_kept():
                    found = self._compress_now(content, coding)
        if found is None or found is NOT_WORTHWHILE:
            return None
        return of_content(found, asked.now_ns, coding)

    def _compress_now(self, content: Content, coding: str) -> Content:
        """Compress quickly; ``NOT_WORTHWHILE`` for what does not get smaller. Raises ``UndecidedError``."""
        key = content.identity, coding

        def compute() -> Content:
            body, found = compress_quickly(content.body, coding), NOT_WORTHWHILE
            if len(body) <= len(content.body) * WORTHWHILE:
                found = Content(body, entity_tag(body), content.identity, content.is_settled)
            self.store.put_quick(key, found)
            return found

        return self._at_once(key, len(content.body), compute)

    def _at_once(self, key: tuple[Identity, str], size: int, compute: Callable[[], Content]) -> Content:
        """Return what ``compute`` makes and stores; another thread does it where that takes long."""
        if size <= AT_ONCE_BYTES or size > self.store.max_bytes // 2:
            return compute()
        raise UndecidedError(b"coding %a" % (key,), compute, CODING)

    def _unpacked(
        self, root: Root, relative: str, preference: tuple[str, ...], trail: _Trail, now_ns: int
    ) -> Representation | None:
        """Return what a lone ``.gz`` holds, for a client that takes the plain form and no form that is there."""
        file = self._open_sidecar(root, relative, "gzip", trail) if IDENTITY_CODING in preference else None
        if file is None or file.identity.size > self._max_bytes:
            return None
        key = file.identity, IDENTITY_CODING
        found = self.store.get(key)
        if found is None:
            content = self._contents.load(file)

            def compute() -> Content:
                made = self._unpack(relative, content)
                if content.is_settled:
                    self.store.put(key, made)
                return made

            found = self._at_once(key, content.identity.size if content.is_settled else 0, compute)
        if found is NOT_WORTHWHILE:
            return None
        trail.sidecar = "gzip"
        return of_content(found, now_ns)

    def _unpack(self, relative: str, content: Content) -> Content:
        """Return the content of a gzip file, ``NOT_WORTHWHILE`` if there is none or too much."""
        try:
            body = unpack_gzip(content.body, self._max_bytes)
        except ValueError as error:
            self._warn_once(f"{relative}.gz cannot be unpacked: {error}")
            return NOT_WORTHWHILE
        if body is None:
            self._warn_once(f"{relative}.gz is not unpacked: its content is larger than CompressMaxFile")
            return NOT_WORTHWHILE
        return Content(body, entity_tag(body), content.identity, content.is_settled)

    def _compress_soon(self, content: Content, coding: str, encode: Encode) -> None:
        key = (content.identity, coding)

        def deliver(body: bytes | None) -> None:
            if body is None or len(body) > len(content.body) * WORTHWHILE:
                self.store.put(key, NOT_WORTHWHILE)
            else:
                self.store.put(key, Content(body, entity_tag(body), content.identity, True))

        self.compressor.submit(key, Job(encode, content.body, deliver))

    def _plain(
        self, plain: OpenFile | None, preference: tuple[str, ...], now_ns: int, in_part: bool
    ) -> Representation:
        if plain is not None and IDENTITY_CODING in preference:
            return self._of_file(plain, IDENTITY_CODING, now_ns, in_part=in_part)
        if plain is None or "gzip" not in preference or plain.identity.size > self._max_bytes:
            raise HTTPError(406, "The file is there in no coding that the request accepts.")
        key = plain.identity, "gzip"
        found = self.store.get(key)
        if found is None or found is NOT_WORTHWHILE:
            content = self._contents.load(plain)

            def compute() -> Content:
                body = compress_quickly(content.body, "gzip")
                made = Content(body, entity_tag(body), content.identity, content.is_settled)
                if content.is_settled:
                    self.store.put(key, made)
                return made

            found = self._at_once(key, content.identity.size if content.is_settled else 0, compute)
        return of_content(found, now_ns, "gzip")

    def _of_file(self, file: OpenFile, coding: str, now_ns: int, *, in_part: bool = False) -> Representation:
        # A part that is not replayed is sent from the file: reading the whole would be for nothing.
        in_memory = self.wants_body(file) and not (in_part and file.identity.size)
        return of_file(file, self._contents, in_memory=in_memory, now_ns=now_ns, coding=coding)


class _Trail:
    """What was met on the way to a choice."""

    __slots__ = ("ignored", "is_final", "sidecar")

    def __init__(self) -> None:
        self.ignored: list[tuple[str, Identity]] = []
        self.is_final = True
        self.sidecar = ""  # the coding of the one that was chosen
