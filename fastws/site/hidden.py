"""What is never served: dotfiles, and the server's own logs, configuration and passwords, wherever they lie."""

from __future__ import annotations

import os
from operator import attrgetter

from ..config.settings import Config
from ..record.logfile import LogFile

_number = attrgetter("number")


class OwnFiles:
    """Finds those of one configuration."""

    def __init__(self, config: Config, *logs: LogFile) -> None:
        self._logs = logs
        paths = [
            config.config_path,
            config.tls_ticket_key,
            config.pid_file,
            *(path for _, path in config.basic_auth),
        ]
        paths += [path for pair in config.tls_certificates for path in pair]  # a certificate may hold its key
        self._paths = [path for path in paths if path]
        roots = (config.document_root, *config.static.values())
        self.are_inside = any(_is_below(path, root) for path in self._paths for root in roots)
        """Whether one lies in a directory that is served, by a name that a client may ask for."""

    def __call__(self) -> list[tuple[int, int] | None]:
        """Return their (device, inode) pairs as of now; None stands for a log that is no file."""
        numbers = list(map(_number, self._logs))
        for path in self._paths:
            try:
                info = os.stat(path)
            except OSError:
                continue
            numbers.append((info.st_dev, info.st_ino))
        return numbers


def _is_below(path: str, root: str) -> bool:
    pairs = (os.path.abspath(path), os.path.abspath(root)), (os.path.realpath(path), os.path.realpath(root))
    return any(each.startswith(os.path.join(above, "")) for each, above in pairs)


def is_hidden(path: str) -> bool:
    """Tell whether a segment of ``path`` is a dotfile; ``/.well-known/`` (RFC 8615) is none."""
    if "/." not in path:
        return False
    visible = path.removeprefix("/.well-known/")
    return "/." in visible or (visible != path and visible.startswith("."))
