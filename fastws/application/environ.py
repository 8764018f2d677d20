"""The environ of a call: the CGI variables of RFC 3875 section 4.1 and the ``wsgi.`` ones of PEP 3333."""

from __future__ import annotations

import functools
from typing import Any

from ..http.forwarded import is_address
from ..http.target import authority_of
from ..language.named_tuple import NamedTuple
from .mounts import Call

_LEFT_OUT = frozenset(
    (
        "content-length",  # a variable of its own, for the body as the application reads it
        "content-type",
        "expect",  # answered by now
        "proxy",  # HTTP_PROXY is the proxy of programs that the application starts (CVE-2016-5385)
        "transfer-encoding",  # undone by now
    )
)


class Ends(NamedTuple):
    """The two ends of a connection: the client's address, this server's host and port, and the scheme.

    The peer of a Unix-domain socket is ``unix:``; one that a proxy does not name has no address either. The port
    of such a socket is 0.
    """

    peer: str
    host: str
    port: int
    scheme: str


class Manner(NamedTuple):
    """How applications are run: whether other threads, and other processes, may call the same one meanwhile."""

    multithread: bool
    multiprocess: bool


def build_environ(call: Call, ends: Ends, body_bytes: int, manner: Manner) -> dict[str, Any]:
    """Return the environ of ``call`` but for the streams; the body has ``body_bytes``."""
    request = call.request
    environ = _constants(ends, manner).copy()
    environ["REQUEST_METHOD"] = request.method
    environ["SCRIPT_NAME"] = call.script_name
    environ["PATH_INFO"] = call.path_info
    environ["QUERY_STRING"] = call.query
    environ["REQUEST_URI"] = request.target
    environ["SERVER_PROTOCOL"] = request.version
    fields, known = request.fields, _VARIABLES
    for name, value in fields.items():
        variable = known.get(name)
        if variable is None:
            variable = _variable(name)
        if variable:
            environ[variable] = value
    authority = authority_of(request.target)
    if authority is not None:
        environ["HTTP_HOST"] = authority
    if "content-type" in fields:
        environ["CONTENT_TYPE"] = fields["content-type"]
    if body_bytes or "content-length" in fields:
        environ["CONTENT_LENGTH"] = str(body_bytes)
    if call.user:
        environ["REMOTE_USER"], environ["AUTH_TYPE"] = call.user, "Basic"
    return environ


@functools.lru_cache(maxsize=256)
def _constants(ends: Ends, manner: Manner) -> dict[str, Any]:
    """Return what is the same for all requests of a client; it is to be copied."""
    environ = {
        "SERVER_NAME": _server_name(ends.host),
        "SERVER_PORT": str(ends.port or (443 if ends.scheme == "https" else 80)),
        "SERVER_SOFTWARE": "fastws",
        "GATEWAY_INTERFACE": "CGI/1.1",
        "REMOTE_ADDR": ends.peer if is_address(ends.peer) else "",
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": ends.scheme,
        "wsgi.multithread": manner.multithread,
        "wsgi.multiprocess": manner.multiprocess,
        "wsgi.run_once": False,
        "wsgi.input_terminated": True,
    }
    if ends.scheme == "https":
        environ["HTTPS"] = "on"
    return environ


def _server_name(host: str) -> str:
    """Return ``host`` as a URL has it (RFC 3875 section 4.1.14): IPv6 addresses in brackets."""
    if "." in host:
        return host.removeprefix("::ffff:")  # RFC 4291 section 2.5.5.2
    return f"[{host}]" if ":" in host else host


_VARIABLES: dict[str, str] = {}
"""The variable of each field, '' for one that has none."""

_VARIABLES_MOST = 512


def _variable(name: str) -> str:
    # A_B and A-B would have one name here: a client could send the one that a proxy removes of the other.
    is_left_out = "_" in name or name in _LEFT_OUT
    variable = "" if is_left_out else "HTTP_" + name.upper().replace("-", "_")
    if len(_VARIABLES) < _VARIABLES_MOST:
        _VARIABLES[name] = variable
    return variable
