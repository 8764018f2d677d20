"""``ws.conf`` and command line → one frozen ``Config``, or a ``ConfigError`` with everything found wrong.

``Config`` is a named tuple: as frozen as a dataclass, without the 10 ms that importing ``dataclasses`` takes.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from ..http.errors import ConfigError, Problem
from ..http.mediatypes import MediaTypes
from ..language.named_tuple import NamedTuple
from .directives import DIRECTIVES
from .draft import COMMAND_LINE, PROGRAM, Draft, Given
from .endpoints import TLS, Endpoint, activated_kinds, is_socket_activated
from .secure import HTTPS_PORT, Https
from .surroundings import certificate_directory, state_directory, state_problem

if TYPE_CHECKING:
    from typing import Unpack

    from .overrides import Overrides

_NO_OVERRIDES: Mapping[str, Given] = MappingProxyType({})

NO_ADDRESS = "a port from 1024 to 65535 is needed, or Listen, or socket activation"


class Config(NamedTuple):
    """Every directive in force. docs/configuration.md says what each means; names carry the units."""

    hosts: tuple[str, ...]
    listen_ports: tuple[int, ...]
    listen: tuple[Endpoint, ...]
    reuse_port: bool
    pid_file: str | None
    user: str | None
    trusted_proxies: tuple[str, ...]
    proxy_protocol: bool
    client_header: str
    tls_certificates: tuple[tuple[str, str], ...]
    tls_versions: tuple[str, ...]
    tls_client_ca: str | None
    tls_ticket_key: str | None
    strict_transport_security_s: int | None
    document_root: str
    static: Mapping[str, str]
    directory_index: tuple[str, ...]
    content_types: Mapping[str, str]
    added_types: Mapping[str, str]
    content_codings: Mapping[str, str]
    default_type: str | None
    directory_listing: bool
    clean_urls: bool
    fallback: str | None
    error_pages: Mapping[int, str]
    redirects: Mapping[str, tuple[str, int]]
    basic_auth: tuple[tuple[str, str], ...]
    applications: Mapping[str, str]
    files_first: bool
    application_processes: int
    application_threads: int
    application_queue: int
    application_timeout_s: float
    application_recycle: Mapping[str, int]
    application_reload: bool
    preload: bool
    request_methods: tuple[str, ...]
    http_types: tuple[str, ...]
    keepalive_time_s: float
    keepalive_header: bool
    server_header: str
    headers: tuple[tuple[str, str, str], ...]
    cache_control: tuple[tuple[str, str], ...]
    compression: bool
    worker_threads: int
    cache_size_bytes: int
    cache_max_file_bytes: int
    large_file_etag: str
    compress_max_file_bytes: int
    sendfile: bool
    max_connections: int
    max_connections_per_address: int
    max_body_bytes: Mapping[str, int]
    request_timeout_s: float
    min_rate_bytes_s: int
    stall_time_s: float
    drain_delay_s: float
    drain_timeout_s: float
    access_log: str
    access_log_format: str
    request_id: str
    error_log: str
    error_log_format: str
    log_level: str
    status_path: str | None
    status_allow: tuple[str, ...]
    config_path: str | None
    given: Mapping[
        str, tuple[str, int]
    ]  # directive name → the file and line that first gave it; see ``place_of``
    state_problem: str  # why the logs of the built-in defaults are in no file; '' where they are

    def with_overrides(self, **fields: Unpack[Overrides]) -> Config:
        """A copy with ``fields`` replaced, such as ``listen_ports=(0,)`` for a free port.

        Each value is checked as in a file, and may be text as in a file (``"64M"``). Relative paths start from
        the current directory. Raises ``ConfigError`` with every error, ``TypeError`` for a field that no directive
        sets.
        """
        values = {row.field: getattr(self, row.field) for row in DIRECTIVES}
        draft = Draft(PROGRAM, "", values, self.given)
        draft.replace(fields)
        if not draft.problems:
            draft.check(fields)
            is_listening = draft.values["listen_ports"] or draft.values["listen"]
            if not is_listening and not is_socket_activated():
                draft.report(0, f"listen_ports: ListenPort is missing; {NO_ADDRESS}")
        return Config(config_path=self.config_path, state_problem=self.state_problem, **draft.finish())

    def place_of(self, name: str, value: str = "") -> tuple[str, int]:
        """Return the file and line that gave the directive ``name``.

        Several lines of Listen or CacheControl are told apart by ``value``: the address, or pattern and value.
        """
        first = self.given.get(name, (self.config_path or "configuration", 0))
        line = self.given.get(f"{name} {value}", first)
        return line if line[0] == first[0] else first  # what a program or the command line has replaced

    @property
    def media_types(self) -> MediaTypes:
        """What the directives say together of the content of files."""
        with_names = "ContentType" not in self.given
        return _media_types(
            self.content_types,
            self.added_types,
            self.content_codings,
            self.default_type,
            with_names=with_names,
        )

    @property
    def what_is_served(self) -> str:
        """The document root, or the name of the application that has all of it."""
        return self.document_root if self.files_first else self.applications.get("/", self.document_root)

    @property
    def speaks_tls(self) -> bool:
        """Whether TLS is spoken at one of the addresses."""
        return any(endpoint.kind == TLS for endpoint in self.listen) or TLS in activated_kinds()

    def as_dict(self) -> dict[str, Any]:
        """Directive name → value in force, in the order of the table, in plain dictionaries and tuples."""
        values = {row.name: getattr(self, row.field) for row in DIRECTIVES}
        values["Listen"] = tuple(map(tuple, self.listen))
        return {name: dict(value) if isinstance(value, Mapping) else value for name, value in values.items()}


_media_types = lru_cache(maxsize=8)(MediaTypes.of)


class Source(NamedTuple):
    """Where a configuration comes from, so that a reload is one call of ``read``.

    ``path`` is the file (None: built-in defaults), ``directory`` what is served instead of DocumentRoot,
    ``overrides`` maps directive names to the text that the command line gave for them, ``https`` is what it says
    of TLS.
    """

    path: str | os.PathLike[str] | None = None
    directory: str | os.PathLike[str] | None = None
    overrides: Mapping[str, Given] = _NO_OVERRIDES
    https: Https | None = None

    def read(self, *, needs_address: bool = True) -> Config:
        """Read the configuration anew; raises ``ConfigError``. ``needs_address`` is that of ``load``."""
        if self.path is None:
            return defaults(self.directory or ".", self.overrides, https=self.https)
        return load(self.path, self.directory, self.overrides, needs_address=needs_address, https=self.https)


def load(
    path: str | os.PathLike[str],
    directory: str | os.PathLike[str] | None = None,
    overrides: Mapping[str, Given] = _NO_OVERRIDES,
    *,
    needs_address: bool = True,
    https: Https | None = None,
) -> Config:
    """Read the file at ``path``; ``directory``, ``overrides`` and ``https`` take precedence over it.

    Without ``needs_address``, a configuration that listens nowhere is not an error by itself.
    Raises ``ConfigError`` with a problem for each error in the file and on the command line.
    """
    path, directory = os.fspath(path), None if directory is None else os.fspath(directory)
    try:
        with open(path, "rb") as file:
            data = file.read()
    except OSError as error:
        text = f"cannot be read: {error.strerror}; a text file with one directive a line is needed"
        raise ConfigError((Problem(path, 1, text),)) from None
    config_path = os.path.abspath(path)
    draft = Draft(path, os.path.dirname(config_path))
    lines = data.removeprefix(b"\xef\xbb\xbf").rstrip().split(b"\n")
    for number, line in enumerate(lines, 1):
        draft.read_line(number, line)
    draft.override(directory, overrides)
    if not is_socket_activated():
        draft.take_port_of(os.environ)
    if https is not None:
        draft.speak_https(https, certificate_directory())
    if not draft.has("DocumentRoot"):
        if draft.is_application_alone:
            draft.values["document_root"] = os.path.dirname(config_path)  # nothing of it is served
        else:
            draft.report(len(lines), "DocumentRoot is missing; the directory to serve is needed")
    draft.fill_in()
    draft.check()
    lacks_address = not draft.has("ListenPort", "Listen") and not is_socket_activated()
    if lacks_address and (needs_address or draft.problems):
        draft.report(len(lines), f"ListenPort is missing; {NO_ADDRESS}")
    return Config(config_path=config_path, state_problem="", **draft.finish())


def defaults(
    directory: str | os.PathLike[str] = ".",
    overrides: Mapping[str, Given] = _NO_OVERRIDES,
    *,
    https: Https | bool | None = None,
) -> Config:
    """The configuration without a file: ``directory`` on 127.0.0.1:8080, logs in the user's state directory.

    With ``https`` it is port 8443, which speaks TLS. True stands for a certificate that the package trustme makes
    on the spot, kept for all servers of this account.

    Each ``directory`` has its own state directory, which is not created here. If that is not writable, the error
    log is standard error and there is no access log. Raises ``ConfigError`` if ``directory`` or an override is
    wrong.
    """
    directory = os.fspath(directory)
    state = state_directory(os.path.abspath(directory))
    draft = Draft(COMMAND_LINE, state)
    draft.override(directory, overrides)
    problem = "" if draft.has("AccessLog") and draft.has("ErrorLog") else state_problem(state)
    if problem:
        draft.values = {"access_log": "off", "error_log": "-"} | draft.values
    if not draft.has("ListenPort") and not is_socket_activated() and not draft.take_port_of(os.environ):
        draft.values["listen_ports"] = (HTTPS_PORT if https else 8080,)
    if https is not None and https is not False:
        draft.speak_https(Https() if https is True else https, certificate_directory())
    draft.fill_in()
    draft.check()
    return Config(config_path=None, state_problem=problem, **draft.finish())
