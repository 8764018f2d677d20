"""Fixtures that run a test on both sides of the seam, and fail when the compiled side is missing.

A test that serves runs once more on the pure side with epoll, sendfile and /proc hidden (``bare``), as on a
platform that has none of them. Those that a platform could change run again on Windows, as far as this machine can
play it (``windows``).
"""

from __future__ import annotations

import gc
import os
import selectors
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import launch
import pytest
from certificates import CA
from hypothesis import HealthCheck, settings
from tlsclient import SECURED
from windows import become_windows

from fastws import Config, Server, backend, load
from fastws.files import ways
from fastws.operation import server as server_module
from fastws.record import process_samples
from fastws.seam import PLAIN, TLS
from fastws.tls.settings import CertificatePair, TLSSettings
from fastws.transport import listener, plain

PURE_ONLY = os.environ.get("FASTWS_NO_EXTENSIONS") == "1"
# How long an example takes is the machine's business.
# CI judges every change by the same examples; new ones are found by whoever runs the suite elsewhere.
settings.register_profile(
    "suite",
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    derandomize=os.environ.get("CI") == "true",
)
settings.load_profile("suite")

MOST_PROCESSES = 8
"""More are no quicker, for some files take long by themselves."""

LONGEST_FIRST = (
    *(
        "build",
        "readme",
        "faults",
        "lifecycle",
        "browser",
        "attacks",
        "persistence",
        "leaks",
        "freshness",
        "soak",
    ),
    *("files_served", "confinement", "limits", "codings", "drain", "listing", "fuzz", "errors"),
)
"""Files that take long, in the order in which processes are handed them: one at the end would be waited for."""


ON_WINDOWS = {
    *(
        "auth",
        "codings",
        "confinement",
        "drain",
        "files_served",
        "limits",
        "listing",
        "logs",
        "ranges_served",
    ),
    *("serving", "workers"),
}
"""Files whose tests run on ``windows`` too: those about files, sockets, threads and logs."""


OVER_TLS = {
    *("applications", "drain", "expectations", "hot_path", "last_answers", "limits", "logs", "persistence"),
    *("preambles", "ranges_served", "serving", "slow_clients", "trusted_proxies", "application_processes"),
}
"""Files whose tests run over TLS too: those about how bytes come and go, and what is said of it."""


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Return how many processes share the tests: two for each processor, as each waits half of the time.

    One, where files are named on the command line, where what is printed is to be seen (``-s``), and for the long
    tests, some of which measure.
    """
    is_named = config.args_source is not pytest.Config.ArgsSource.TESTPATHS
    if is_named or config.option.capture == "no" or config.option.markexpr == "long":
        return 0
    processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(2 * processors, MOST_PROCESSES)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "side" in metafunc.fixturenames:
        sides = ["compiled", "pure"]
        if "serve" in metafunc.fixturenames:
            name = metafunc.module.__name__.rpartition("test_")[2]
            is_played = name in ON_WINDOWS and not _is_posix(metafunc.definition)
            sides += ["bare", "windows"] if is_played else ["bare"]
            if name in OVER_TLS and not _is_plain(metafunc.definition):
                sides += ["compiled-tls", "pure-tls"]
                if not name.startswith("application"):  # what bare platforms lack is what files need
                    sides.append("bare-tls")
            elif name == "tls":
                sides = ["compiled-tls", "pure-tls", "bare-tls"]
        metafunc.parametrize("side", sides, indirect=True)


def _is_posix(item: pytest.Item) -> bool:
    return item.get_closest_marker("posix") is not None


def _is_plain(item: pytest.Item) -> bool:
    return item.get_closest_marker("plain") is not None


@pytest.fixture
def side(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> backend.Backend:
    """Each backend in turn; a missing compiled side is a failure unless the environment says it was meant."""
    name = request.param.removesuffix("-tls")
    if name == "bare":
        _hide_the_platform(monkeypatch)
    if name == "windows":
        if _is_posix(request.node):  # this case of the test
            pytest.skip("Windows has nothing of the kind")
        become_windows(monkeypatch)
    if name != "compiled":
        return backend.load(pure=True)
    if PURE_ONLY:
        pytest.skip("FASTWS_NO_EXTENSIONS=1: the compiled side was left out on purpose")
    return backend.load(pure=False, required=True)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if hasattr(config, "workerinput"):  # one process of several
        ranks = {f"test_{name}": rank for rank, name in enumerate(LONGEST_FIRST)}
        items.sort(key=lambda item: ranks.get(item.path.stem, len(ranks)))


def pytest_collection_finish() -> None:
    """Have the collector pass over what stays for all tests: to look at it takes 0.2 s each time."""
    gc.collect()
    gc.freeze()


def _hide_the_platform(monkeypatch: pytest.MonkeyPatch) -> None:
    # poll rather than select, which knows no descriptor above 1023, and these tests open more.
    selector = getattr(selectors, "PollSelector", selectors.SelectSelector)
    monkeypatch.setattr(selectors, "DefaultSelector", selector)
    monkeypatch.setattr(plain, "_send_file", plain._read_and_send)
    monkeypatch.setattr(ways, "PROC_FD", "/nonexistent/")
    monkeypatch.setattr(process_samples, "PROC", "/nonexistent")


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that stops gives an idle connection longer than a busy machine keeps a client from asking."""
    monkeypatch.setattr(server_module, "GRACE_S", launch.GRACE_S)


@pytest.fixture
def free_ports() -> Iterator[Callable[..., tuple[int, ...]]]:
    """Return a function that finds ports on which nobody listens, and keeps others from taking them.

    On Linux they are bound and do not listen, so that the kernel gives them to nobody, connecting is refused,
    and whoever sets SO_REUSEADDR may listen on them, as servers do. Elsewhere they were free a moment ago.
    """
    with ExitStack() as stack:

        def find(count: int, host: str = "127.0.0.1") -> tuple[int, ...]:
            family = socket.AF_INET6 if ":" in host else socket.AF_INET
            found = [stack.enter_context(socket.socket(family)) for _ in range(count)]
            for sock in found:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                sock.bind((host, 0))
            ports = tuple(int(sock.getsockname()[1]) for sock in found)
            if sys.platform != "linux":
                stack.close()
            return ports

        yield find


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> CA:
    """An authority, whose certificates the clients of the tests trust."""
    return CA(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="session")
def pair(authority: CA) -> CertificatePair:
    """A certificate for this machine."""
    return authority.pair("localhost", "127.0.0.1")


@pytest.fixture
def serve(
    side: backend.Backend,
    tmp_path: Path,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Callable[..., Server]]:
    """Return a function that starts a server on a free port, by ``ws.conf`` text and a document root."""
    is_secured = request.node.callspec.params["side"].endswith("-tls")
    if is_secured:
        monkeypatch.setattr(listener, "manner_of", _by_tls)
    with ExitStack() as stack:

        def start(
            *lines: str,
            root: Path | None = None,
            applications: Any = None,
            settings: TLSSettings | None = None,
            **overrides: Any,
        ) -> Server:
            root = root or tmp_path / "root"
            root.mkdir(exist_ok=True)
            path = tmp_path / "ws.conf"
            text = [
                f'DocumentRoot "{root}"',
                "ListenPort 8080",
                "DefaultType application/octet-stream",
                *lines,
            ]
            path.write_text("\n".join(text) + "\n")
            config = load(str(path)).with_overrides(**{"listen_ports": (0,)} | overrides)
            server = Server(config, backend=side, applications=applications)
            if is_secured:
                server._pool.secure(settings or TLSSettings((request.getfixturevalue("pair"),)))
            stack.enter_context(server)
            if is_secured:
                tcp = [each for each in server.addresses if not each.startswith("unix:")]
                for port in [int(each.rpartition(":")[2]) for each in tcp]:
                    SECURED[port] = request.getfixturevalue("authority").client()
                    stack.callback(SECURED.pop, port)
            return server

        yield start


def _by_tls(_: Config, address: listener.Address) -> int:
    return PLAIN if address[0].startswith("unix:") else TLS


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A running Chromium, one for the tests of a module; a test without it is skipped where there is none."""
    import browser  # and with it selenium, which most tests need not load

    if browser.missing():
        pytest.skip(browser.missing())
    with browser.chromium(str(tmp_path_factory.mktemp("profile"))) as running:
        yield running
