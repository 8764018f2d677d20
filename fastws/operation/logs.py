"""The two logs of one server: opened with its rights, opened anew after a rotation or a reload."""

from __future__ import annotations

import os
from collections.abc import Iterator

from ..config.settings import Config
from ..http.errors import Problem
from ..record.logfile import OFF, STANDARD_ERROR, ErrorLog, LogFile
from .rights import log_opener


def log_problems(config: Config) -> Iterator[Problem]:
    """Yield the logs that a start as ``User`` could not open, which are left as they are."""
    opener = log_opener(config.user)
    for name, path in (("AccessLog", config.access_log), ("ErrorLog", config.error_log)):
        if path not in (STANDARD_ERROR, OFF):
            try:
                opener.check(path)
            except OSError as error:
                text = f"{name}: cannot write logs at {error.filename or path}: {error.strerror}"
                yield Problem(*config.place_of(name), text)


class Logs:
    """The access log and the error log. Raises ``OSError`` if one of them cannot be opened."""

    def __init__(self, config: Config) -> None:
        opener = log_opener(config.user)
        for path in {config.access_log, config.error_log} - {STANDARD_ERROR, OFF}:
            opener.make_directory(os.path.dirname(path))
        self.error = ErrorLog(config.error_log, config.log_level, config.error_log_format, opener.open)
        try:
            self.access = LogFile(config.access_log, self.error.logger.error, opener.open)
        except BaseException:
            self.error.close()
            raise

    def adopt(self, config: Config, previous: Config) -> None:
        """Use another configuration: its files, if they are others, its level and format."""
        if (config.access_log, config.error_log) != (previous.access_log, previous.error_log):
            self.reopen(config)
        self.error.configure(config.log_level, config.error_log_format)

    def reopen(self, config: Config) -> None:
        """Close the logs, and open those that ``config`` names."""
        self.access.reopen(config.access_log)
        self.error.file.reopen(config.error_log)

    def lost_lines(self) -> dict[str, int]:
        """Return how many lines each has lost since the start."""
        return {"access": self.access.lost, "error": self.error.file.lost}

    def close(self) -> None:
        """Write out what waits, and close both."""
        self.access.close()
        self.error.close()
