"""What is probably not meant: warnings at a start, at a reload and by ``--check``.

Mistakes in a valid configuration; what a reload leaves as it was; and pure Python on a machine that could have the
compiled modules. Two installs leave those out without a word: one from a wheel without them that pip had kept from
a time or a machine without a compiler, and one by ``--no-build-isolation`` where Cython is missing.
"""

from __future__ import annotations

import logging
import os
import re
import time
from collections.abc import Iterator

from .. import backend as backends
from ..backend import Opener
from ..config.endpoints import is_socket_activated
from ..config.settings import NO_ADDRESS, Config
from ..files.folder import Folder
from ..files.root import Nothing, not_found
from ..files.variants import SIDECARS
from ..http.errors import HTTPError, Problem
from ..http.forwarded import ANY
from ..http.mediatypes import extension_of
from ..http.urlpath import glob_pattern, globs_meet
from ..processes.takers import needs_processes
from ..site.policy import is_long_lived, is_shared

NAME = "fastws-server"
"""The distribution, as pip knows it."""

_FIXED_AT_START = {
    "WorkerThreads": "worker_threads",
    "User": "user",
    "PidFile": "pid_file",
    "ReusePort": "reuse_port",
}
"""The directives that a reload leaves as they were, and their fields."""


_ENCODED = re.compile(r"%[0-9A-Fa-f]{2}|[?#]")


def doubts_of(config: Config, opener: Opener) -> list[Problem]:
    """Return the probable mistakes in ``config``; files missing now may be created later."""
    file = config.config_path or "configuration"
    found = []
    if not config.listen_ports and not config.listen and not is_socket_activated():
        found.append(Problem(file, 0, f"ListenPort is missing; to start, {NO_ADDRESS}"))
    folder = Folder(
        config.document_root,
        config,
        logging.getLogger("fastws"),
        opener=opener,
        replays=False,
        hidden=Nothing(),
    )
    for status, page in config.error_pages.items():
        try:
            folder.page(page)
        except HTTPError as error:
            text = f"ErrorPage: {_path(config, page)!r} for {status} cannot be sent: {error.detail}"
            found.append(Problem(file, 0, text))
    if config.fallback is not None:
        try:
            _open_fallback(config, folder)
        except HTTPError as error:
            text = f"Fallback: {_path(config, config.fallback)!r} cannot be sent: {error.detail}"
            found.append(Problem(file, 0, text))
        found.extend(_lifetimes(config, file))
    if config.tls_certificates or config.strict_transport_security_s is not None:
        found.extend(_tls_doubts(config))
    found.extend(_proxy_doubts(config, file))
    found.extend(_path_doubts(config, file))
    found.extend(_shared_doubts(config))
    if not needs_processes(config):
        for name, value in (("ApplicationRecycle", config.application_recycle), ("Preload", config.preload)):
            if value:
                text = f"{name}: there are no application processes; ApplicationProcesses says how many"
                found.append(Problem(file, 0, text))
    return found


def _path_doubts(config: Config, file: str) -> Iterator[Problem]:
    """Yield the paths that look as in a URL, where requests are compared with them decoded."""
    for name, paths in (("Application", config.applications), ("Static", config.static)):
        for path in paths:
            if _ENCODED.search(path):
                text = f"{name}: {path!r} is compared with decoded paths; write it as text, without a query"
                yield Problem(file, 0, text)


def _proxy_doubts(config: Config, file: str) -> Iterator[Problem]:
    """Yield what is doubtful about whom to believe."""
    for network in config.trusted_proxies:
        if network.endswith("/0"):
            text = f"TrustedProxies: {network} are all addresses; everybody is believed to be whom they say"
            yield Problem(*config.given.get("TrustedProxies", (file, 0)), text)
    if config.client_header != ANY and not config.trusted_proxies:
        text = "ClientHeader: no field is believed without TrustedProxies"
        yield Problem(*config.given.get("ClientHeader", (file, 0)), text)


def _tls_doubts(config: Config) -> Iterator[Problem]:
    """Yield what is doubtful about the certificates, each where the first of them was given."""
    from ..tls.pairs import addresses_of, expiry_of, expiry_warning, read_pair

    file, line = config.given.get("TLSCertificate", (config.config_path or "configuration", 0))
    if not config.speaks_tls:
        name = "TLSCertificate" if config.tls_certificates else "StrictTransportSecurity"
        text = f"{name}: TLS is spoken nowhere; a line such as 'Listen 8443 tls' is missing"
        yield Problem(*config.given.get(name, (file, line)), text)
        return
    if config.strict_transport_security_s is not None and "strict-transport-security" in [
        name.lower() for name, _, _ in config.headers
    ]:
        text = "StrictTransportSecurity: a Header line sends the field too; browsers heed the first alone"
        yield Problem(*config.given.get("StrictTransportSecurity", (file, 0)), text)
    for paths in config.tls_certificates:
        try:
            pair = read_pair(*paths)
            text = expiry_warning(expiry_of(pair), time.time())
        except ValueError:
            continue  # it has changed since it was read
        if text:
            yield Problem(file, line, f"TLSCertificate: {text}")
        if not pair.names and not addresses_of(pair):
            text = f"{pair.certificate!r} names no host in subjectAltName; browsers take it for none"
            yield Problem(file, line, f"TLSCertificate: {text}")


def _lifetimes(config: Config, file: str) -> Iterator[Problem]:
    """Yield a doubt for each long lifetime that would apply to the Fallback, or to what it is sent instead of."""
    for glob, value in config.cache_control:
        if not value or not is_long_lived(value):
            continue
        if glob_pattern(glob).fullmatch(config.fallback or ""):
            reason = f"the page {config.fallback} changes, and browsers would keep it that long"
        elif glob.endswith("*") or not extension_of(glob):
            reason = "a missing page there is answered by the Fallback, which is sent with no-cache"
        else:
            continue
        yield Problem(file, 0, f"CacheControl {glob} {value!r}: {reason}")


def _shared_doubts(config: Config) -> Iterator[Problem]:
    """Yield a doubt for each CacheControl line by which caches may give away what BasicAuth protects.

    A line decides nothing where one before it has all of its paths, or all that are protected.
    """
    for position, (glob, value) in enumerate(config.cache_control):
        before = [glob_pattern(earlier) for earlier, _ in config.cache_control[:position]]
        if not is_shared(value) or any(pattern.fullmatch(glob) for pattern in before):
            continue
        for protected, _ in config.basic_auth:
            if globs_meet(glob, protected) and not any(pattern.fullmatch(protected) for pattern in before):
                place = config.place_of("CacheControl", f"{glob} {value}")
                text = f"by {value!r} caches on the way give to anybody what BasicAuth {protected} protects"
                remedy = f"a line 'CacheControl {protected} private' before it keeps it from them"
                yield Problem(*place, f"CacheControl {glob}: {text}; {remedy}")
                break


def _open_fallback(config: Config, folder: Folder) -> None:
    assert config.fallback is not None
    relative = config.fallback[1:]
    with folder.open() as root:
        if config.compression and any(root.has(relative + suffix) for suffix in SIDECARS.values()):
            return  # a sidecar alone may stand for it
        if root.open(relative).is_directory:
            raise not_found()


def _path(config: Config, page: str) -> str:
    return os.path.join(config.document_root, page[1:])


def unheeded(config: Config, at_start: Config) -> list[str]:
    """Return what a reload of ``config`` does not change in a server that was started with another one."""
    late = "takes effect at the next start"
    found = [
        f"{name} was changed; that {late}"
        for name, field in _FIXED_AT_START.items()
        if getattr(config, field) != getattr(at_start, field)
    ]
    if config.applications and needs_processes(config) != needs_processes(at_start):
        found.append(f"ApplicationProcesses was changed from or to 0; that {late}")
    return found


def unused_compiler(backend: backends.Backend) -> str:
    """Return a sentence where ``backend`` fell back to the pure parser though a C compiler is here, else ''."""
    if backend.parser.side != "pure" or os.environ.get(backends.PURE) == "1" or os.name != "posix":
        return ""
    compiler = _compiler()
    if not compiler:
        return ""
    return f"pure Python runs although a C compiler is here ({compiler}): {_remedy()} builds the compiled modules"


def _compiler() -> str:
    """Return the C compiler that would be used, '' if there is none."""
    import shutil  # only a server without the compiled modules asks
    import sysconfig

    built_with = str(sysconfig.get_config_var("CC") or "cc").split()[0]
    for name in (os.environ.get("CC", "").partition(" ")[0], built_with, "cc", "gcc", "clang"):
        if name and shutil.which(name):
            return name
    return ""


def _remedy() -> str:
    import sysconfig

    include = sysconfig.get_path("include")
    headers = (
        "" if os.path.exists(os.path.join(include, "Python.h")) else "with Python's headers (python3-dev), "
    )
    here = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    if os.path.exists(os.path.join(here, "setup.py")):
        return f"{headers}pip install -e . in {here}"
    return f"{headers}pip install --force-reinstall --no-cache-dir --no-binary {NAME} {NAME}"
