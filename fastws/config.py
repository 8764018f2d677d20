"""``ws.conf`` and command line → one frozen ``Config``, or a ``ConfigError`` with everything found wrong.

``Config`` is a named tuple: as frozen as a dataclass, without the 10 ms that importing ``dataclasses`` takes.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from .directives import BY_NAME, DIRECTIVES, Directive
from .errors import ConfigError, Problem

COMMAND_LINE = "command line"
LONGEST_NAME_BYTES = 200  # Linux: 255 for a name in a directory
_NO_OVERRIDES: Mapping[str, str] = MappingProxyType({})
_WORD = r'\s*(?:(#.*)|"((?:[^"\\]|\\.)*)"(?=[\s,]|$)|([^\s"]\S*))'
_CONTROL = r"[\x00-\x08\x0a-\x1f\x7f]"


class Config(NamedTuple):
    """Every directive in force. docs/configuration.md says what each means; names carry the units."""

    hosts: tuple[str, ...]
    listen_ports: tuple[int, ...]
    listen_unix: tuple[str, ...]
    user: str | None
    document_root: str
    directory_index: tuple[str, ...]
    content_types: Mapping[str, str]
    default_type: str | None
    directory_listing: bool
    clean_urls: bool
    fallback: str | None
    error_pages: Mapping[int, str]
    redirects: Mapping[str, tuple[str, int]]
    basic_auth: tuple[tuple[str, str], ...]
    request_methods: tuple[str, ...]
    http_types: tuple[str, ...]
    keepalive_time_s: float
    server_header: str
    headers: tuple[tuple[str, str, str], ...]
    cache_control: tuple[tuple[str, str], ...]
    compression: bool
    worker_threads: int
    cache_size_bytes: int
    cache_max_file_bytes: int
    max_connections: int
    max_connections_per_address: int
    max_body_bytes: int
    request_timeout_s: float
    min_rate_bytes_s: int
    drain_timeout_s: float
    access_log: str
    access_log_format: str
    error_log: str
    log_level: str
    status_path: str | None
    status_allow: tuple[str, ...]
    config_path: str | None
    given: Mapping[str, tuple[str, int]]  # directive name → the file and line that first gave it
    state_problem: str  # why the logs of the built-in defaults are in no file; '' where they are

    def with_overrides(self, **fields: Any) -> Config:
        """A copy with ``fields`` replaced by values that need no parsing, such as ``listen_ports=(0,)``."""
        return self._replace(**fields)

    def as_dict(self) -> dict[str, Any]:
        """Directive name → value in force, in the order of the table; mappings are plain dictionaries."""
        values = {row.name: getattr(self, row.field) for row in DIRECTIVES}
        return {name: dict(value) if isinstance(value, Mapping) else value for name, value in values.items()}


class Source(NamedTuple):
    """Where a configuration comes from, so that a reload is one call of ``read``.

    ``path`` is the file (None: built-in defaults), ``directory`` what is served instead of DocumentRoot,
    ``overrides`` maps directive names to the text that the command line gave for them.
    """

    path: str | None = None
    directory: str | None = None
    overrides: Mapping[str, str] = _NO_OVERRIDES

    def read(self) -> Config:
        """Read the configuration anew; raises ``ConfigError``."""
        if self.path is None:
            return defaults(self.directory or ".", self.overrides)
        return load(self.path, self.directory, self.overrides)


def load(path: str, directory: str | None = None, overrides: Mapping[str, str] = _NO_OVERRIDES) -> Config:
    """Read the file at ``path``; ``directory`` and ``overrides`` go before what it says.

    Raises ``ConfigError`` with a problem for each error in the file and on the command line.
    """
    try:
        with open(path, "rb") as file:
            data = file.read()
    except OSError as error:
        text = f"cannot be read: {error.strerror}; a text file with one directive a line is needed"
        raise ConfigError((Problem(path, 1, text),)) from None
    config_path = os.path.abspath(path)
    draft = _Draft(path, os.path.dirname(config_path))
    lines = data.removeprefix(b"\xef\xbb\xbf").rstrip().split(b"\n")
    for number, line in enumerate(lines, 1):
        draft.read_line(number, line)
    draft.override(directory, overrides)
    if not draft.has("ListenPort", "Listen") and not is_socket_activated():
        allowed = "a port from 1024 to 65535 is needed, or Listen unix:PATH, or socket activation"
        draft.report(len(lines), f"ListenPort is missing; {allowed}")
    if not draft.has("DocumentRoot"):
        draft.report(len(lines), "DocumentRoot is missing; the directory to serve is needed")
    return draft.finish(config_path)


def defaults(directory: str = ".", overrides: Mapping[str, str] = _NO_OVERRIDES) -> Config:
    """The configuration without a file: ``directory`` on 127.0.0.1:8080, logs in the user's state directory.

    The state directory is named, not made; it is one of its own for each ``directory``. Where nothing can be
    written there, the error log is standard error and there is no access log. Raises ``ConfigError`` where
    ``directory`` or an override is wrong.
    """
    state = _state_directory(os.path.abspath(directory))
    draft = _Draft(COMMAND_LINE, state)
    draft.values["default_type"] = "application/octet-stream"
    draft.override(directory, overrides)
    if not (draft.has("AccessLog") and draft.has("ErrorLog")) and (wrong := _state_problem(state)):
        draft.state_problem = wrong
        draft.values = {"access_log": "off", "error_log": "-"} | draft.values
    if not draft.has("ListenPort") and not is_socket_activated():
        draft.values["listen_ports"] = (8080,)
    return draft.finish(None)


class _Draft:
    """A configuration being read: the values given so far, where each was first given, and what was wrong."""

    def __init__(self, file: str, base: str) -> None:
        self.file = file
        self.base = base
        self.values: dict[str, Any] = {}
        self.given: dict[str, tuple[str, int]] = {}  # directive name → file and line, wrong values included
        self.problems: list[Problem] = []
        self.state_problem = ""

    def has(self, *names: str) -> bool:
        """Tell whether one of the directives was given, rightly or wrongly."""
        return any(name in self.given for name in names)

    def report(self, line: int, text: str) -> None:
        """Note a problem of the file."""
        self.problems.append(Problem(self.file, line, text))

    def read_line(self, number: int, line: bytes) -> None:
        """Take one line of the file."""
        try:
            words = split_words(line)
            if not words:
                return
            row = _find(words[0])
            first = self.given.setdefault(row.name, (self.file, number))[1]
            if first != number and not row.repeatable:
                raise ValueError(f"{row.name} was given in line {first} already; once is allowed")
            self._add(row, words[1:])
        except ValueError as error:
            for text in error.args:
                self.report(number, text)

    def _add(self, row: Directive, words: list[str]) -> None:
        try:
            value = parse(row, words, self.base)
            before = self.values.get(row.field)
            self.values[row.field] = value if before is None else _joined(before, value)
        except ValueError as error:
            raise ValueError(*[f"{row.name}: {text}" for text in error.args]) from None

    def override(self, directory: str | None, overrides: Mapping[str, str]) -> None:
        """Let the command line replace what the file said."""
        if directory is not None:
            self.values["document_root"] = os.path.abspath(directory)
            self.given["DocumentRoot"] = (COMMAND_LINE, 0)
        for name, text in overrides.items():
            row = BY_NAME[name.lower()]
            self.given[row.name] = (COMMAND_LINE, 0)
            try:
                # Port 0 lets the kernel choose; in a file nobody would know where the server listens.
                is_any_port = row.name == "ListenPort" and text == "0"
                self.values[row.field] = (0,) if is_any_port else parse(row, [text], os.getcwd())
            except ValueError as error:
                for wrong in error.args:
                    self.problems.append(Problem(COMMAND_LINE, 0, f"{row.flag or row.name}: {wrong}"))

    def finish(self, config_path: str | None) -> Config:
        """Fill in the defaults, look at the paths, and make the Config or raise."""
        cache_control = BY_NAME["cachecontrol"]
        always = parse(cache_control, cache_control.default.split(), self.base)
        self.values["cache_control"] = self.values.get("cache_control", ()) + always
        for row in DIRECTIVES:
            if row.field not in self.values:
                self.values[row.field] = (
                    parse(row, row.default.split(), self.base) if row.default else row.unset
                )
        self._check_paths()
        if self.problems:
            raise ConfigError(
                tuple(sorted(self.problems, key=lambda problem: (not problem.line, problem.line)))
            )
        frozen: dict[str, Any] = {
            k: MappingProxyType(v) if isinstance(v, dict) else v for k, v in self.values.items()
        }
        given = MappingProxyType(self.given)
        return Config(config_path=config_path, given=given, state_problem=self.state_problem, **frozen)

    def _check_paths(self) -> None:
        """Report a root that cannot be served and a log that cannot be written."""
        root = self.values["document_root"]
        if root is not None and (wrong := _directory_problem(root, os.R_OK | os.X_OK)):
            file, line = self.given["DocumentRoot"]
            name = "DIR" if file == COMMAND_LINE else "DocumentRoot"
            self.problems.append(Problem(file, line, f"{name}: {wrong}; a readable directory is needed"))
        for name, path in (("AccessLog", self.values["access_log"]), ("ErrorLog", self.values["error_log"])):
            if name not in self.given and self.file == COMMAND_LINE:
                continue  # the state directory is made when the server starts
            file, line = self.given.get(name, (self.file, 0))
            if path not in ("-", "off") and (wrong := _log_problem(path)):
                shown = BY_NAME[name.lower()].flag if file == COMMAND_LINE else name
                text = f"{shown}: {wrong}; -, off or a file that can be written is needed"
                self.problems.append(Problem(file, line, text))


def split_words(line: bytes) -> list[str]:
    """The words of one line without its comment; raises ``ValueError`` for a line without a clear reading."""
    try:
        text = line.decode().rstrip()
    except UnicodeDecodeError:
        raise ValueError("the line is not UTF-8; the file must be saved as UTF-8 text") from None
    if re.search(_CONTROL, text):
        raise ValueError("the line holds a control character; printable text is allowed")
    words: list[str] = []
    word = re.compile(_WORD)
    position = 0
    while position < len(text):
        match = word.match(text, position)
        if match is None:
            raise ValueError('a double quote is not closed, or text follows it; "a value" is allowed')
        comment, quoted, plain = match.groups()
        if comment is not None:
            break
        words.append(plain if quoted is None else re.sub(r'\\(["\\])', r"\1", quoted))
        position = match.end()
    return words


def parse(row: Directive, words: list[str], base: str) -> Any:
    """The value of ``row`` for ``words``; raises ``ValueError`` with a text for each thing that is wrong."""
    if not words:
        raise ValueError(f"the value is missing; allowed is {row.name} {row.syntax}")
    if not row.least <= len(words) <= row.most:
        hint = "; a value with spaces stands in double quotes" if len(words) > row.most else ""
        count = "too many" if len(words) > row.most else "too few"
        raise ValueError(f"{count} values; allowed is {row.name} {row.syntax}{hint}")
    return row.parse(words, base)


def _find(name: str) -> Directive:
    """The row of a directive's name in any case; raises ``ValueError`` that suggests the nearest one."""
    if row := BY_NAME.get(name.lower()):
        return row
    import difflib  # only a mistake pays for it

    near = difflib.get_close_matches(name.lower(), BY_NAME, n=1, cutoff=0.0)
    raise ValueError(f"unknown directive {name!r}; the nearest known one is {BY_NAME[near[0]].name}")


def _joined(before: Any, value: Any) -> Any:
    """The values of a repeatable directive's lines together; raises ``ValueError`` where they clash."""
    if isinstance(value, tuple):
        if set(before) & set(value):
            raise ValueError("the same value was given in a line before; once is allowed")
        return before + value
    for key, text in value.items():
        if before.get(key, text) != text:
            raise ValueError(f"{key} was given as {before[key]!r} in a line before; once is allowed")
    return before | value


def _directory_problem(path: str, mode: int) -> str:
    """What keeps ``path`` from being used as a directory, or ''."""
    if not os.path.exists(path):
        return f"{path!r} does not exist"
    if not os.path.isdir(path):
        return f"{path!r} is not a directory"
    return "" if os.access(path, mode) else f"{path!r} may not be used: permission denied"


def _log_problem(path: str) -> str:
    """What keeps ``path`` from being appended to, or ''."""
    if os.path.isdir(path):
        return f"{path!r} is a directory"
    if os.path.exists(path):
        return "" if os.access(path, os.W_OK) else f"{path!r} may not be written"
    return _directory_problem(os.path.dirname(path), os.W_OK | os.X_OK)


def _state_directory(root: str) -> str:
    """The directory for logs of a server of ``root`` without a file: XDG Base Directory Specification.

    '' where this account has no home.
    """
    home = os.environ.get("XDG_STATE_HOME", "")
    state = home if os.path.isabs(home) else os.path.expanduser("~/.local/state")
    name = os.fsencode(root.strip("/").replace("/", "-") or "root")[-LONGEST_NAME_BYTES:]
    return os.path.join(state, "fastws", os.fsdecode(name)) if os.path.isabs(state) else ""


def _state_problem(state: str) -> str:
    """What keeps logs from being written in ``state``, which is made if it is not there; or ''."""
    if not state:
        return "this account has no home directory"
    there = state
    while not os.path.lexists(there):
        there = os.path.dirname(there)
    wrong = [_directory_problem(there, os.W_OK | os.X_OK)]
    if there == state:
        wrong += [
            _log_problem(os.path.join(state, BY_NAME[name].default)) for name in ("accesslog", "errorlog")
        ]
    return next(filter(None, wrong), "")


def is_socket_activated() -> bool:
    """Tell whether systemd (or the like) hands listening sockets to this process: sd_listen_fds(3)."""
    own = str(os.getpid())
    # A shell that tries --check sets no LISTEN_PID; one that belongs to another process means: not for us.
    return os.environ.get("LISTEN_FDS", "0") not in ("", "0") and os.environ.get("LISTEN_PID", own) == own
