"""Other spellings of a path that a file system may take for the same: letter case, composed letters, final dots.

A rule that protects ``/private/*`` must hold for ``/PRIVATE/x`` where that is the same file (macOS, FAT, ext4 with
casefold, many network file systems), and need not where it is another.
"""

from __future__ import annotations

import re

from ..http.urlpath import glob_pattern

_FINAL = re.compile(r"[. ]+(?=/|\Z)")
_SHORT_NAME = re.compile(r"[^/]*~[0-9][^/]*")


class Spellings:
    """What could be spelled otherwise and still mean a path that ``glob`` matches."""

    def __init__(self, glob: str) -> None:
        self._parts = re.split(r"\*+", _composed(glob))
        self._loose = glob_pattern(_loose(glob))
        first, *others = map(re.escape, self._parts)
        middle = "".join([f"(?>(.*?){part})" for part in others[:-1]])  # as in glob_pattern
        last = f"(.*){others[-1]}" if others else ""
        self._respelling = re.compile(first + middle + last, re.DOTALL | re.IGNORECASE)

    def may_match(self, path: str) -> bool:
        """Tell whether some file system may take ``path`` for one that the pattern matches."""
        return self._loose.fullmatch(_loose(path)) is not None

    def respell(self, path: str) -> str | None:
        """Return ``path`` as the pattern spells it, None if that cannot be told."""
        match = self._respelling.fullmatch(_FINAL.sub("", _composed(path)))
        if match is None:
            return None
        first, *others = self._parts
        return first + "".join([found + part for found, part in zip(match.groups(), others, strict=True)])


def has_short_name(path: str) -> bool:
    """Tell whether a segment may be the short name that FAT keeps for a long one, such as ``PRIVAT~1``."""
    return "~" in path and any(map(_SHORT_NAME.fullmatch, path.split("/")))


def _loose(text: str) -> str:
    """Return the same for all spellings that some file system takes for the same."""
    if not text.isascii():
        import unicodedata  # few sites need it

        text = unicodedata.normalize("NFKC", unicodedata.normalize("NFKD", text).casefold())
        text = "".join([char for char in text if unicodedata.category(char) != "Cf"])
    return _FINAL.sub("", text.lower())


def _composed(text: str) -> str:
    if text.isascii():
        return text
    import unicodedata  # few sites need it

    return unicodedata.normalize("NFC", text)
