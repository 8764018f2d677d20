"""The server's own files, which are never served, wherever they lie: logs, configuration, passwords."""

from __future__ import annotations

import os

from .accesslog import LogFile
from .config import Config


class OwnFiles:
    """Finds those of one configuration."""

    def __init__(self, config: Config, *logs: LogFile) -> None:
        self._logs = logs
        paths = [config.config_path, *(path for _, path in config.basic_auth)]
        self._paths = [path for path in paths if path]

    def __call__(self) -> list[tuple[int, int] | None]:
        """Return their (device, inode) pairs as of now; None stands for a log that is no file."""
        numbers = [log.number for log in self._logs]
        for path in self._paths:
            try:
                info = os.stat(path)
            except OSError:
                continue
            numbers.append((info.st_dev, info.st_ino))
        return numbers
