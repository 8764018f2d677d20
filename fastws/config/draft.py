"""A configuration being read: the values so far, where each was given, and everything found wrong."""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Collection, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from ..http.errors import ConfigError, Problem
from ..http.urlpath import encode_path
from . import secure
from .directives import BY_NAME, DIRECTIVES, Directive
from .endpoints import TLS, Endpoint, parse_listen, tcp_endpoints, words_of
from .frozen import FrozenDict
from .redirects import Redirects
from .secure import Https
from .values import HIGHEST_PORT, LOWEST_PORT, port

DEFAULT_BODY_SIZE = {"*": 1 << 20}

OCTETS = "application/octet-stream"
COMMAND_LINE = "command line"
ENVIRONMENT = "environment"
PROGRAM = "with_overrides"
"""What a problem names in the place of a file where a program gave the value."""

Given = str | Sequence[str]
"""What the command line gave for one directive: a text, or one for each time that the option was there."""

_FLAGS = {"DocumentRoot": "DIR", "TLSCertificate": "--tls-cert"}
"""How the command line spells directives that are no option of the table."""

_WORD = r'\s*(?:(#.*)|"((?:[^"\\]|\\.)*)"(?=[\s,]|$)|([^\s"]\S*))'
_CONTROL = r"[\x00-\x08\x0a-\x1f\x7f]"


class Draft:
    """``file`` is where the values come from, ``base`` the directory that relative paths start from.

    ``values`` maps the fields of ``Config`` to what was given, ``given`` the names of directives to the file and
    line that gave them first, wrong values included.
    """

    def __init__(
        self,
        file: str,
        base: str,
        values: Mapping[str, Any] = MappingProxyType({}),
        given: Mapping[str, tuple[str, int]] = MappingProxyType({}),
    ) -> None:
        self.file = file
        self.base = base
        self.values = dict(values)
        self.given = dict(given)
        self.problems: list[Problem] = []
        self._directory = ""  # as the command line names it
        self._lines: dict[tuple[str, object], int] = {}  # of what a repeatable directive's mapping holds

    def has(self, *names: str) -> bool:
        """Tell whether one of the directives was given, rightly or wrongly."""
        return any(name in self.given for name in names)

    @property
    def is_application_alone(self) -> bool:
        """Whether no file of DocumentRoot answers anything: an application has the whole site."""
        return "/" in self.values.get("applications", ()) and not self.values.get("files_first")

    def report(self, line: int, text: str) -> None:
        """Note a problem of the file."""
        self.problems.append(Problem(self.file, line, text))

    # What is given

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
            self._add(row, words[1:], number)
        except ValueError as error:
            for text in error.args:
                self.report(number, text)

    def _add(self, row: Directive, words: list[str], number: int) -> None:
        try:
            value = parse(row, words, self.base)
            if isinstance(value, Mapping | tuple):
                self._lines.update({(row.name, key): number for key in value})
            before = self.values.get(row.field)
            self.values[row.field] = value if before is None else _joined(before, value)
        except ValueError as error:
            raise ValueError(*[f"{row.name}: {text}" for text in error.args]) from None

    def override(self, directory: str | None, overrides: Mapping[str, Given]) -> None:
        """Let the command line replace what the file said."""
        if directory is not None:
            self.values["document_root"] = os.path.abspath(directory)
            self._directory = directory
            self.given["DocumentRoot"] = (COMMAND_LINE, 0)
        for name, given in overrides.items():
            row = BY_NAME[name.lower()]
            self.given[row.name] = (COMMAND_LINE, 0)
            texts = [given] if isinstance(given, str) else given
            try:
                lines = [_split_joint(row, text) if row.joint else [text] for text in texts]
                parts = [parse(row, words, "", is_from_file=False) for words in lines]
                self.values[row.field] = functools.reduce(_joined, parts)
            except ValueError as error:
                for wrong in error.args:
                    self.problems.append(Problem(COMMAND_LINE, 0, f"{row.flag or row.name}: {wrong}"))

    def take_port_of(self, environment: Mapping[str, str]) -> bool:
        """Let the variable PORT name the port where nothing else does, as platforms that run programs do."""
        text = environment.get("PORT", "")
        if not text or self.has("ListenPort", "Listen"):
            return False
        self.given["ListenPort"] = (ENVIRONMENT, 0)
        try:
            self.values["listen_ports"] = (port(text),)
        except ValueError as error:
            self.problems.append(Problem(ENVIRONMENT, 0, f"PORT: {error}"))
        return True

    def speak_https(self, https: Https, directory: str) -> None:
        """Serve with the pair of the command line, on the ports of ListenPort unless a Listen line has tls.

        A certificate made on the spot is kept in ``directory``.
        """
        hosts = self.values.get("hosts", ("127.0.0.1",))
        is_exposed = not all(host == "::1" or host.startswith("127.") for host in hosts)
        self.given["TLSCertificate"] = (COMMAND_LINE, 0)
        try:
            self.values["tls_certificates"] = (https.pair(directory, is_exposed=is_exposed),)
        except ValueError as error:
            self.problems.append(Problem(COMMAND_LINE, 0, f"--https: {error}"))
        listen = self.values.get("listen", ())
        if not any(endpoint.kind == TLS for endpoint in listen):
            ports = self.values.pop("listen_ports", ())
            self.values["listen"] = (*listen, *[Endpoint(str(number), TLS) for number in ports])
            self.given.setdefault("Listen", self.given.get("ListenPort", (COMMAND_LINE, 0)))

    def replace(self, fields: Mapping[str, Any]) -> None:
        """Let a program replace ``fields`` of ``Config``; raises ``TypeError`` for one that no directive has."""
        rows = {row.field: row for row in DIRECTIVES}
        before = self.values["content_types"]
        for field, value in fields.items():
            if field not in rows:
                raise TypeError(_unknown_field(field, rows))
            row = rows[field]
            self.given[row.name] = (PROGRAM, 0)
            try:
                self.values[field] = self._value(row, value)
            except ValueError as error:
                for wrong in error.args:
                    self.report(0, f"{field}: {wrong}")
        if self.values["content_types"] != before:
            self._choose_default_type()

    def _value(self, row: Directive, value: Any) -> Any:
        """``value`` as the file's words for it would give it."""
        is_optional = row.unset is None and row.default in ("", "off") and not row.repeatable
        if value is None and is_optional:
            return None
        result: Any = None
        for words in _lines_of(row, value):
            part = parse(row, words, self.base, is_from_file=False)
            result = part if result is None else _joined(result, part)
        if result is None:  # no line at all
            return {} if isinstance(row.unset, Mapping) else ()
        return result

    # What is made of it

    def fill_in(self) -> None:
        """Take the default of whatever was not given."""
        cache_control = BY_NAME["cachecontrol"]
        always = parse(cache_control, cache_control.default.split(), self.base)
        self.values["cache_control"] = self.values.get("cache_control", ()) + always
        for row in DIRECTIVES:
            if row.field not in self.values:
                self.values[row.field] = (
                    parse(row, row.default.split(), self.base) if row.default else row.unset
                )
        self._choose_default_type()

    def _choose_default_type(self) -> None:
        """Whoever lists types lists all that may be sent; without a list, nothing is refused for its type."""
        if not self.has("DefaultType"):
            self.values["default_type"] = None if self.has("ContentType") else OCTETS

    def check(self, changed: Collection[str] | None = None) -> None:
        """Report values that are wrong together, or because of what is on the disk.

        Only what depends on the fields ``changed`` is looked at; None means all of them.
        """
        for fields, look in (
            (("document_root",), self._check_root),
            (("listen_ports",), self._check_ports),
            (("access_log", "error_log"), self._check_logs),
            (("redirects",), self._check_redirects),
            (("applications", "static"), self._check_prefixes),
            (("hosts", "listen_ports", "listen"), self._check_listen),
            (("listen", "proxy_protocol", "trusted_proxies"), self._check_proxies),
            (secure.FIELDS, self._check_tls),
            (("application_recycle",), self._check_recycle),
        ):
            if changed is None or any(field in changed for field in fields):
                look()

    def finish(self) -> dict[str, Any]:
        """Return the fields of ``Config``, immutable; raises ``ConfigError`` if anything was wrong."""
        if self.problems:
            raise ConfigError(
                tuple(sorted(self.problems, key=lambda problem: (not problem.line, problem.line)))
            )
        self.values["max_body_bytes"] = DEFAULT_BODY_SIZE | dict(self.values["max_body_bytes"])
        frozen = {k: FrozenDict(x) if isinstance(x, Mapping) else x for k, x in self.values.items()}
        named = [("Listen", each, each.address) for each in self.values["listen"]]
        named += [("CacheControl", each, " ".join(each)) for each in self.values["cache_control"]]
        places = {
            f"{name} {text}": (self.file, self._lines[name, value])
            for name, value, text in named
            if (name, value) in self._lines
        }
        return frozen | {"given": FrozenDict(self.given | places)}

    def _check_root(self) -> None:
        """Report a root that cannot be served."""
        root = self.values["document_root"]
        if root is None and self.file == PROGRAM:
            self._report_of("DocumentRoot", "is missing; the directory to serve is needed")
        if root is not None and (wrong := directory_problem(root, os.R_OK | os.X_OK)):
            hint = ""
            if re.fullmatch(r"[0-9]{1,5}", self._directory):
                hint = f"; a port is given by --port {self._directory}"
            elif os.path.isfile(self._directory):
                hint = f"; a configuration file is given by --config {self._directory}"
            elif named := re.fullmatch(r"([\w.]+):[^/]*", self._directory):
                hint = f"; an application is given as MODULE:CALLABLE, such as {named[1]}:application"
            elif os.path.isfile(f"{self._directory.removesuffix('()').replace('.', '/')}.py"):
                hint = f"; an application is given as MODULE:CALLABLE, such as {self._directory}:application"
            self._report_of("DocumentRoot", f"{wrong}; a readable directory is needed{hint}")

    def _check_ports(self) -> None:
        """Report a port of the file that needs a privilege which nothing there is about.

        ``--port``, the variable PORT and a program say what they mean; for them the kernel decides.
        """
        if self.given.get("ListenPort", (COMMAND_LINE, 0))[0] != self.file or self.has("User"):
            return
        if self.file in (COMMAND_LINE, PROGRAM):
            return
        for number in self.values["listen_ports"]:
            if number < LOWEST_PORT:
                text = (
                    f"port {number} is below {LOWEST_PORT}; {LOWEST_PORT} to {HIGHEST_PORT} are allowed, lower"
                    " ports need User, --port, or socket activation (systemd, LISTEN_FDS)"
                )
                self._report_of("ListenPort", text, self._lines.get(("ListenPort", number)))

    def _check_logs(self) -> None:
        """Report a log that cannot be written, and one file for both."""
        logs = {"AccessLog": self.values["access_log"], "ErrorLog": self.values["error_log"]}
        files = {name: path for name, path in logs.items() if path not in ("-", "off")}
        for name, path in files.items():
            # The state directory of the built-in defaults is made when the server starts.
            is_default = name not in self.given and self.file in (COMMAND_LINE, PROGRAM)
            if not is_default and (wrong := log_problem(path)):
                self._report_of(name, f"{wrong}; -, off or a file that can be written is needed")
        # A device, such as /dev/null, keeps nothing that could be mixed up.
        is_kept = all(os.path.isfile(path) or not os.path.exists(path) for path in files.values())
        if len(files) == 2 and is_kept and len({os.path.realpath(path) for path in files.values()}) == 1:
            name = max(files, key=lambda name: self.given.get(name, ("", 0))[1])
            self._report_of(name, f"{files[name]!r} is the file of the other log too; each needs its own")

    def _check_listen(self) -> None:
        """Report an address that is there twice."""
        values = self.values
        found = tcp_endpoints(values["hosts"], values["listen_ports"], values["listen"])
        taken = [(host, number) for host, number, _ in found if number]
        twice = [
            f"{host}:{number}" for host, number in dict.fromkeys(taken) if taken.count((host, number)) > 1
        ]
        if twice:
            self._report_of("Listen", f"{', '.join(twice)} is listed twice; each address may be listed once")

    def _check_proxies(self) -> None:
        """Report preambles that would be believed of nobody."""
        if self.values["trusted_proxies"] or self.has("TrustedProxies"):
            return
        needed = "TrustedProxies names the addresses whose preambles are believed, and is missing"
        if self.values["proxy_protocol"]:
            self._report_of("ProxyProtocol", needed)
        for endpoint in self.values["listen"]:
            if endpoint.has_preamble:
                self._report_of("Listen", f"proxy: {needed}", self._lines.get(("Listen", endpoint)))

    def _check_tls(self) -> None:
        """Report files that cannot be served with, and addresses that lack what they need."""
        has_certificate = bool(self.values["tls_certificates"]) or self.has("TLSCertificate")
        for name, value, text in secure.problems(self.values, has_certificate=has_certificate):
            self._report_of(name, text, self._lines.get((name, value)))

    def _check_redirects(self) -> None:
        """Report each redirect that never arrives anywhere."""
        redirects = Redirects(self.values["redirects"])
        for source in self.values["redirects"]:
            if chain := redirects.loop_from(source):
                shown = " > ".join(map(encode_path, chain[:4])) + (" > ..." if len(chain) > 4 else "")
                line = self._lines.get(("Redirect", source))
                self._report_of("Redirect", f"{source} leads round in a circle or on for ever: {shown}", line)

    def _check_recycle(self) -> None:
        recycle = self.values["application_recycle"]
        if "jitter" in recycle and "requests" not in recycle:
            self._report_of("ApplicationRecycle", "jitter is added to requests, which are missing")

    def _check_prefixes(self) -> None:
        """Report a path that is given to an application and to a directory."""
        for prefix in self.values["static"]:
            if prefix[:-1] in self.values["applications"]:
                text = f"{prefix} is the path of an application too; each needs its own"
                self._report_of("Static", text, self._lines.get(("Static", prefix)))

    def _report_of(self, name: str, text: str, line: int | None = None) -> None:
        """Report what is wrong with a directive where it was given."""
        file, first = self.given.get(name, (self.file, 0))
        if file == PROGRAM:
            label = BY_NAME[name.lower()].field
        else:
            label = name
            if file == COMMAND_LINE:
                label = _FLAGS.get(name) or BY_NAME[name.lower()].flag or name
        self.problems.append(Problem(file, first if line is None else line, f"{label}: {text}"))


def _split_joint(row: Directive, text: str) -> list[str]:
    """Return both words of an option such as ``/PATH/=DIR``; raises ``ValueError`` where one is missing."""
    words = text.split(row.joint, 1)
    if not all(words) or len(words) < 2:
        raise ValueError(f"{text!r} is not of the form {row.syntax.replace(' ', row.joint)}")
    return words


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


def parse(row: Directive, words: list[str], base: str, *, is_from_file: bool = True) -> Any:
    """The value of ``row`` for ``words``; raises ``ValueError`` with a text for each thing that is wrong."""
    if not words:
        raise ValueError(f"the value is missing; allowed is {row.name} {row.syntax}")
    if not row.least <= len(words) <= row.most:
        hint = "; a value with spaces stands in double quotes" if len(words) > row.most else ""
        count = "too many" if len(words) > row.most else "too few"
        raise ValueError(f"{count} values; allowed is {row.name} {row.syntax}{hint}")
    # Port 0 lets the kernel choose; in a file nobody would know where the server listens.
    if not is_from_file and row.name == "ListenPort" and words == ["0"]:
        return (0,)
    if not is_from_file and row.name == "Listen":
        return parse_listen(words, base, lowest=0)
    return row.parse(words, base)


def _find(name: str) -> Directive:
    """The row of a directive's name in any case; raises ``ValueError`` that suggests one that is near."""
    if row := BY_NAME.get(name.lower()):
        return row
    import difflib  # only a mistake pays for it

    near = difflib.get_close_matches(name.lower(), BY_NAME, n=1, cutoff=0.6)
    hint = f"the nearest known one is {BY_NAME[near[0]].name}" if near else "docs/configuration.md lists all"
    raise ValueError(f"unknown directive {name!r}; {hint}")


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


def directory_problem(path: str, mode: int) -> str:
    """What keeps ``path`` from being used as a directory, or ''."""
    if not os.path.exists(path):
        return f"{path!r} does not exist"
    if not os.path.isdir(path):
        return f"{path!r} is not a directory"
    return "" if os.access(path, mode) else f"{path!r} may not be used: permission denied"


def log_problem(path: str) -> str:
    """What keeps ``path`` from being appended to, or ''."""
    if os.path.isdir(path):
        return f"{path!r} is a directory"
    if os.path.exists(path):
        return "" if os.access(path, os.W_OK) else f"{path!r} may not be written"
    return directory_problem(os.path.dirname(path), os.W_OK | os.X_OK)


def _lines_of(row: Directive, value: Any) -> list[list[str]]:
    """The words of the lines that say ``value`` in a file; raises ``ValueError`` for what no file can say."""
    lines: Sequence[Sequence[Any]]
    if row.name == "Listen":
        lines = words_of(value)
    elif isinstance(value, Mapping):
        lines = [(key, *_several(item)) for key, item in value.items()]
    elif row.repeatable and isinstance(value, tuple | list):
        lines = [_several(item) for item in value]
    else:
        lines = [_several(value)]
    return [[_word_of(row, word) for word in line] for line in lines]


def _unknown_field(field: str, rows: Collection[str]) -> str:
    import difflib  # only a mistake pays for it

    near = difflib.get_close_matches(field, rows, n=1, cutoff=0.6) or [row for row in rows if field in row]
    hint = f"the nearest one is {near[0]!r}" if near else "docs/configuration.md lists them"
    return f"{field!r} is not a field of Config that a directive sets; {hint}"


def _several(value: Any) -> tuple[Any, ...]:
    return tuple(value) if isinstance(value, tuple | list) else (value,)


def _word_of(row: Directive, value: Any) -> str:
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, float):
        return f"{value:.9f}".rstrip("0").rstrip(".")
    if not isinstance(value, str | int):
        raise ValueError(f"{value!r} is not a value; allowed is {row.name} {row.syntax}")
    if re.search(_CONTROL, text := str(value)):
        raise ValueError(f"{text!r} holds a control character; printable text is allowed")
    return text
