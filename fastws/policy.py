"""What the configuration says about paths, made ready for quick answers: fields, redirects, hidden names."""

from __future__ import annotations

import fnmatch
import re

from .config import Config
from .messages import Fields

_NOSNIFF: Fields = (("X-Content-Type-Options", "nosniff"),)


class Policy:
    """The rules of one configuration that depend on the path alone. Any thread may ask."""

    def __init__(self, config: Config) -> None:
        self._headers = [((name, value), glob_pattern(glob)) for name, value, glob in config.headers]
        self._cache_control = [(glob_pattern(glob), value) for glob, value in config.cache_control]
        self._redirects = config.redirects

    def fields(self, path: str) -> Fields:
        """Return Cache-Control and the configured fields for the decoded ``path``."""
        return (*self._cache_fields(path), *self.header_fields(path))

    def _cache_fields(self, path: str) -> Fields:
        value = next((value for pattern, value in self._cache_control if pattern.fullmatch(path)), "")
        return (("Cache-Control", value),) if value else ()

    def header_fields(self, path: str) -> Fields:
        """Return the configured fields without Cache-Control, for answers that set their own.

        ``path`` is '' where it is not known. Browsers are told not to guess types unless a line says otherwise.
        """
        if not self._headers:
            return _NOSNIFF
        fields = tuple([field for field, pattern in self._headers if pattern.fullmatch(path)])
        is_set = any(name.lower() == "x-content-type-options" for name, _ in fields)
        return fields if is_set else (*_NOSNIFF, *fields)

    def redirect(self, path: str) -> tuple[str, int] | None:
        """Return where the configuration sends ``path``, and with which status."""
        return self._redirects.get(path)


def is_hidden(path: str) -> bool:
    """Tell whether a segment of ``path`` is a dotfile; ``/.well-known/`` (RFC 8615) is none."""
    if "/." not in path:
        return False
    visible = path.removeprefix("/.well-known/")
    return "/." in visible or (visible != path and visible.startswith("."))


def glob_pattern(glob: str) -> re.Pattern[str]:
    """Return the pattern of whole decoded paths that ``glob`` stands for; ``*`` matches a slash too."""
    return re.compile(fnmatch.translate(glob))
