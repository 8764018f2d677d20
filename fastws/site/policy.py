"""What the configuration says about paths, made ready for quick answers: fields.

A pattern matches an answer by its paths: the decoded path of the URL and, where that led to a file under another
name (an index, a clean URL, the fallback, the page of an error), the path of the file that is sent. One match is
enough.
"""

from __future__ import annotations

import functools
import re

from ..config.settings import Config
from ..http.messages import Fields
from ..http.urlpath import glob_pattern

LONG_S = 86400
"""A lifetime of a day or more is long: who has a wrong answer does not see the right one today."""

_LIFETIME = re.compile(r"(?<![a-z-])(?:max-age|s-maxage) *= *\"?([0-9]+)")

_DIRECTIVE = re.compile(r"([a-z][a-z-]*)(?: *= *\"?([0-9]+))?")

_NOSNIFF: Fields = (("X-Content-Type-Options", "nosniff"),)


class Policy:
    """The rules of one configuration that depend on paths alone. Any thread may ask."""

    def __init__(self, config: Config) -> None:
        self._headers = [((name, value), glob_pattern(glob)) for name, value, glob in config.headers]
        self._cache_control: list[tuple[re.Pattern[str], Fields]] = [
            (glob_pattern(glob), (("Cache-Control", value),) if value else ())
            for glob, value in config.cache_control
        ]
        globs = [*(glob for _, _, glob in config.headers), *(glob for glob, _ in config.cache_control)]
        self._everywhere = self._fields(("",)) if all(glob == "*" for glob in globs) else None

    def fields(self, *paths: str) -> Fields:
        """Return Cache-Control and the configured fields for an answer with these ``paths``."""
        return self._fields(paths) if self._everywhere is None else self._everywhere

    def passing_fields(self, *paths: str) -> Fields:
        """Return the same for what is right only while a file is missing: a fallback, a redirect of a slash.

        Cache-Control is that of the last path, which is the file's that is sent, and no long lifetime.
        """
        cache = self._cache_fields(paths[-1:])
        if cache and is_long_lived(cache[0][1]):
            cache = (("Cache-Control", "no-cache"),)
        return (*cache, *self.header_fields(*paths))

    def _fields(self, paths: tuple[str, ...]) -> Fields:
        return (*self._cache_fields(paths), *self.header_fields(*paths))

    def _cache_fields(self, paths: tuple[str, ...]) -> Fields:
        for pattern, fields in self._cache_control:
            if _matches(pattern, paths):
                return fields
        return ()

    def header_fields(self, *paths: str) -> Fields:
        """Return the configured fields without Cache-Control, for answers that set their own.

        A path that is not known is ''. Browsers are told not to guess types unless a line says otherwise.
        """
        if not self._headers:
            return _NOSNIFF
        fields = self.given_fields(*paths)
        is_set = any(name.lower() == "x-content-type-options" for name, _ in fields)
        return fields if is_set else (*_NOSNIFF, *fields)

    def given_fields(self, *paths: str) -> Fields:
        """Return the fields of the Header lines alone, for answers that are not the server's own."""
        return tuple([field for field, pattern in self._headers if _matches(pattern, paths)])


@functools.lru_cache(maxsize=64)
def is_long_lived(value: str) -> bool:
    """Tell whether a Cache-Control value lets a cache keep the answer for a day or more without asking."""
    lifetimes = [int(seconds[:9]) for seconds in _LIFETIME.findall(value.lower())]
    return "immutable" in value.lower() or any(seconds >= LONG_S for seconds in lifetimes)


def is_shared(value: str) -> bool:
    """Tell whether a Cache-Control value lets a cache give what was sent to one with a password to others.

    Three directives do (RFC 9111 section 3.5). What a cache may not store, or is to ask about every time, is given
    to nobody without the server's word.
    """
    directives = dict(_DIRECTIVE.findall(value.lower()))
    if not directives.keys() & {"public", "s-maxage", "must-revalidate"}:
        return False
    if not directives.keys().isdisjoint(("private", "no-store", "no-cache")):
        return False
    lifetime = directives.get("s-maxage") or directives.get("max-age")
    return lifetime is None or lifetime.strip("0") != ""


def _matches(pattern: re.Pattern[str], paths: tuple[str, ...]) -> bool:
    return any(map(pattern.fullmatch, paths))
