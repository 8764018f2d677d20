"""What would keep a server from listening, found without listening: what a start refuses and ``--check`` says."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Iterator

from ..config.draft import directory_problem
from ..config.endpoints import tcp_endpoints
from ..config.names import is_of_this_machine
from ..config.settings import Config
from ..http.errors import Problem

_WHOLE_FAMILIES = ("0.0.0.0", "::")


def listen_problems(config: Config, *, checks_rights: bool = True) -> Iterator[Problem]:
    """Yield the addresses of ``config`` at which no server can listen, whatever else runs on the machine.

    A port that another program has is none of them: it may be the server whose configuration is looked at.
    Without ``checks_rights``, another account makes the sockets, and it may be allowed to.
    """
    rights = os.W_OK | os.X_OK if checks_rights else os.F_OK
    for endpoint in config.listen:
        path = endpoint.address.removeprefix("unix:")
        if endpoint.is_unix and (wrong := _unix_problem(path, rights)):
            yield Problem(*config.place_of("Listen", endpoint.address), f"Listen: {wrong}")
    yield from _host_problems(config)


def _unix_problem(path: str, rights: int) -> str:
    wrong = directory_problem(os.path.dirname(path), rights)
    if wrong:
        return f"{wrong}; a directory in which the server may make the socket is needed"
    try:
        is_socket = stat.S_ISSOCK(os.lstat(path).st_mode)
    except OSError:
        return ""
    return "" if is_socket else f"{path!r} exists and is no socket; another path is needed"


def _host_problems(config: Config) -> Iterator[Problem]:
    found = [
        (host, port) for host, port, _ in tcp_endpoints(config.hosts, config.listen_ports, config.listen)
    ]
    for host, port in found:
        shown = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        name = "Listen" if shown in [each.address for each in config.listen] else "Host"
        place = config.place_of(name, shown)
        if not is_of_this_machine(host):
            yield Problem(*place, f"{name}: this machine does not have the address {host}")
        whole = _WHOLE_FAMILIES[":" in host]
        # Elsewhere the kernel tells the two apart; with ReusePort Linux does too.
        if sys.platform == "linux" and port and host != whole and (whole, port) in found:
            if not config.reuse_port:
                text = f"{shown} is part of {shown.replace(host, whole)}; one of the two can be listened on"
                yield Problem(*place, f"{name}: {text}")
