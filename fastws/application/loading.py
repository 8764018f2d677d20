"""Finding applications by their names: ``module:callable``, or ``module:factory()``."""

from __future__ import annotations

import logging
import os
import sys
from typing import Any

from ..config.settings import Config
from ..http.errors import ConfigError, FastwsError, Problem
from .mounts import Application


class LoadError(FastwsError):
    """An application cannot be had; the text says why, and ``__cause__`` is what it raised."""


def load(name: str, directory: str) -> Application:
    """Return the application that ``name`` stands for; modules are looked for in ``directory`` first.

    ``name`` has the form of the directive's. Raises ``LoadError``.
    """
    module_name, _, attribute = name.removesuffix("()").partition(":")
    if directory not in sys.path:
        sys.path.insert(0, directory)
    try:
        __import__(module_name)
        found: Any = sys.modules[module_name]
        for part in attribute.split("."):
            found = getattr(found, part)
        if name.endswith("()"):
            found = found()
    except (Exception, SystemExit) as error:
        raise LoadError(f"{name} cannot be loaded: {type(error).__name__}: {error}") from error
    if not callable(found):
        raise LoadError(f"{name} cannot be called: it is of type {type(found).__name__!r}")
    application: Application = found
    return application


def load_all(config: Config, logger: logging.Logger) -> dict[str, Application]:
    """Return the applications of ``config`` by path; a module that was imported before is the same.

    Raises ``ConfigError`` with a problem for each that cannot be had; ``logger`` gets the tracebacks.
    """
    directory = os.getcwd() if config.config_path is None else os.path.dirname(config.config_path)
    found, problems = {}, []
    for prefix, name in config.applications.items():
        try:
            found[prefix] = load(name, directory)
        except LoadError as error:
            if error.__cause__ is not None:
                logger.error("application %s: %s", prefix, error, exc_info=error.__cause__)
            file, line = config.given.get("Application", (config.config_path or "configuration", 0))
            problems.append(Problem(file, line, f"Application: {prefix} {error}"))
    if problems:
        raise ConfigError(tuple(problems))
    return found
