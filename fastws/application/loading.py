"""Applications by their names, ``module:callable`` or ``module:factory()``; their files, and when these change."""

from __future__ import annotations

import logging
import os
import sys
import threading
import traceback
import types
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any

from ..config.settings import Config
from ..config.values import parse_url_path
from ..http.errors import ConfigError, FastwsError, Problem
from .mounts import Application

_CO_VARARGS, _CO_COROUTINE = 0x04, 0x80  # as inspect has them, which takes long to import


class LoadError(FastwsError):
    """An application cannot be had; the text says why, and ``__cause__`` is what it raised."""


def load(name: str, directory: str) -> Application:
    """Return the application that ``name`` stands for; modules are looked for in ``directory`` first.

    ``name`` has the form of the directive's. Raises ``LoadError``.
    """
    if directory not in sys.path:
        sys.path.insert(0, directory)
    try:
        found = find(name)
        if name.endswith("()"):
            found = found()
    except (Exception, SystemExit) as error:
        if isinstance(error, SystemExit) and type(error) is not SystemExit:
            raise  # not by sys.exit() of the module: a signal ends the start
        reason = f"{type(error).__name__}: {error}{_place_of(error)}{_hint(name, error)}"
        raise LoadError(f"{name} cannot be loaded: {reason}") from error
    if wrong := _wrong_with(found):
        raise LoadError(f"{name} {wrong}")
    application: Application = found
    return application


def to_trace(error: LoadError) -> BaseException | None:
    """Return what was raised in a module of the application; None if ``error`` says all that there is to say."""
    cause = error.__cause__
    if cause is None or (not isinstance(cause, SyntaxError) and _last_frame(cause) is None):
        return None
    return cause


def _place_of(error: BaseException) -> str:
    """Return where an imported module raised ``error``, '' where that is said or there is no such place."""
    frame = None if isinstance(error, SyntaxError) else _last_frame(error)
    return f" ({frame.filename}, line {frame.lineno})" if frame else ""


def _last_frame(error: BaseException) -> traceback.FrameSummary | None:
    """Return where ``error`` was raised, None if that is here or in Python's import of a name."""
    frames = traceback.extract_tb(error.__traceback__)
    return None if not frames or frames[-1].filename.startswith((__file__, "<frozen")) else frames[-1]


def _hint(name: str, error: BaseException) -> str:
    module_name = name.partition(":")[0]
    if isinstance(error, ModuleNotFoundError) and module_name.endswith(".py"):
        return f"; the module of {module_name} is {module_name.removesuffix('.py')}"
    if isinstance(error, TypeError) and name.endswith("()") and "required positional argument" in str(error):
        return f"; an application that is no factory is {name.removesuffix('()')}, without ()"
    return ""


def _wrong_with(found: Any) -> str:
    """Return why ``found`` cannot be a WSGI application, '' if it may be one."""
    if not callable(found):
        return f"cannot be called: it is of type {type(found).__name__!r}"
    function = found if isinstance(found, types.FunctionType) else vars(type(found)).get("__call__")
    if isinstance(function, types.FunctionType) and function.__code__.co_flags & _CO_COROUTINE:
        return "is no WSGI application but one for ASGI, which fastws does not run"
    if isinstance(found, types.FunctionType):
        code = found.__code__
        takes_more = code.co_flags & _CO_VARARGS
        required = code.co_argcount - len(found.__defaults__ or ())
        if required > 2 or (code.co_argcount < 2 and not takes_more):
            factory = "; a factory is named with () behind it" if not required else ""
            return (
                f"does not take the two arguments of a WSGI application, environ and start_response{factory}"
            )
    return ""


def find(name: str) -> Any:
    """Return what ``name`` stands for, a factory uncalled. Raises whatever its module raises."""
    module_name, _, attribute = name.removesuffix("()").partition(":")
    __import__(module_name)
    found: Any = sys.modules[module_name]
    for part in attribute.split("."):
        found = getattr(found, part)
    return found


def load_all(config: Config, logger: logging.Logger) -> dict[str, Application]:
    """Return the applications of ``config`` by path; a module that was imported before is the same.

    Raises ``ConfigError`` with a problem for each that cannot be had; ``logger`` gets the tracebacks.
    """
    if not config.applications:
        return {}  # and none needs a directory
    directory = os.getcwd() if config.config_path is None else os.path.dirname(config.config_path)
    found, problems = {}, []
    for prefix, name in config.applications.items():
        try:
            found[prefix] = load(name, directory)
        except LoadError as error:
            if cause := to_trace(error):
                logger.error("application %s: %s", prefix, error, exc_info=cause)
            file, line = config.given.get("Application", (config.config_path or "configuration", 0))
            problems.append(Problem(file, line, f"Application: {prefix} {error}"))
    if problems:
        raise ConfigError(tuple(problems))
    return found


def checked(applications: Mapping[str, Application]) -> dict[str, Application]:
    """Return ``applications`` by path, as a program gave them. Raises ``ConfigError`` for each that is none."""
    texts = []
    for prefix, application in applications.items():
        try:
            parse_url_path([prefix], "")
        except (TypeError, ValueError, AttributeError):
            texts.append(f"{prefix!r} is not a path of this site such as /shop, or / for all of it")
        if wrong := _wrong_with(application):
            texts.append(f"what is given for {prefix!r} {wrong}")
    if texts:
        raise ConfigError(tuple(Problem("Server", 0, f"applications: {text}") for text in texts))
    return dict(applications)


# For development

LOOK_S = 0.3
"""How often is looked."""


State = tuple[int, int]
"""Size and time of modification of a file."""


def note_imports() -> dict[str, State]:
    """Return a dictionary that gets the state of each module's file before it is read, from now on."""
    noted: dict[str, State] = {}
    sys.meta_path.insert(0, _Noting(noted))
    return noted


class _Noting:
    """A finder that has the others find modules, and notes the states of their files."""

    def __init__(self, noted: dict[str, State]) -> None:
        self._noted = noted

    def find_spec(self, *asked: Any) -> Any:
        """See ``importlib.abc.MetaPathFinder.find_spec``."""
        for finder in list(sys.meta_path):
            find_spec = getattr(finder, "find_spec", None)
            spec = None if finder is self or find_spec is None else find_spec(*asked)
            if spec is not None:
                if spec.has_location and (state := _state_of(spec.origin)):
                    self._noted.setdefault(spec.origin, state)
                return spec
        return None


def watch(
    tell: Callable[[], None], others: Iterable[str] = (), noted: Mapping[str, State] = MappingProxyType({})
) -> None:
    """Call ``tell`` once, in a thread, when an imported module's file, or one of the ``others``, has changed.

    It has changed too if it is not as ``note_imports`` has ``noted`` it: it was saved while others were imported.
    A file that is gone has changed if it still is when it is looked at again: editors replace files.
    """
    others = set(others)
    before = {**_states(others), **noted}

    def look() -> None:
        gone: set[str] = set()
        while True:
            threading.Event().wait(LOOK_S)
            now = _states(others | set(noted))
            missing = before.keys() - now.keys()
            changed = [
                path
                for path, state in now.items()
                if before.setdefault(path, noted.get(path, state)) != state
            ]
            if changed or gone & missing:
                tell()
                return
            gone = missing

    threading.Thread(target=look, name="changes", daemon=True).start()


def _states(others: set[str]) -> dict[str, State]:
    """Return the states of modules' files and the ``others`` by path; one that is not there is left out."""
    files = {getattr(module, "__file__", None) for module in list(sys.modules.values())} | others
    found = {path: _state_of(path) for path in files if path}
    return {path: state for path, state in found.items() if state is not None}


def _state_of(path: str) -> State | None:
    """Return the state of a file, None where there is none."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_size, status.st_mtime_ns


def files_of(error: BaseException) -> set[str]:
    """Return the files in which ``error`` came about, and where a module that is missing may appear."""
    found = {frame.filename for frame in traceback.extract_tb(error.__traceback__)}
    if isinstance(error, SyntaxError) and error.filename:
        found.add(error.filename)
    if isinstance(error, ImportError):
        found |= {os.path.dirname(path) for path in found} | set(sys.path[:1])
    return found


def explain(error: BaseException) -> Callable[..., list[bytes]]:
    """Return an application that answers every request with the traceback of ``error``."""
    text = "".join(traceback.format_exception(error)).encode("utf-8", "backslashreplace")

    def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        start_response("500 Internal Server Error", [("Content-Type", "text/plain; charset=utf-8")])
        return [b"The application cannot be imported. It is tried again when a file changes.\n\n", text]

    return application
