"""A server inside another program: forked children, a program that ends without stopping it, green threads."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from launch import END_S, answers, environment, running
from rawhttp import get, put

from fastws import Server, backend, defaults

SIDES = pytest.mark.parametrize("kind", ["compiled", "pure"])
Serve = Callable[..., Server]

STARTED = """
import os, sys, urllib.request, fastws
config = fastws.defaults("www").with_overrides(
    listen_ports=(0,), listen=("unix:socket",), access_log="access.txt", error_log="errors.txt"
)
server = fastws.Server(config)
server.start()
def ask():
    return urllib.request.urlopen(f"http://127.0.0.1:{port}/a.txt", timeout=30).read()
port = server.port
"""
"""A program that has started a server in its directory."""


@pytest.fixture
def site(tmp_path: Path) -> Path:
    put(tmp_path / "www", {"a.txt": b"text of a"})
    return tmp_path


def run(site: Path, kind: str, program: str) -> subprocess.CompletedProcess[str]:
    """Run ``program`` after ``STARTED``."""
    return subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", STARTED + program],  # 3.12 warns of fork
        cwd=site, env=environment(kind, site / "state"), capture_output=True, text=True, timeout=END_S,
    )  # fmt: skip


@SIDES
@pytest.mark.parametrize(
    "child",
    [
        "sys.exit()",
        "server.stop(); os._exit(0)",
        "raise SystemExit(0)",
        "server.__exit__(); sys.exit(0)",
    ],
)
def test_child_that_ends_leaves_the_server_alone(site: Path, kind: str, child: str) -> None:
    done = run(
        site,
        kind,
        f"""
child = os.fork()
if not child:
    {child}
os.waitpid(child, 0)
assert os.path.exists("socket")
for _ in range(3):
    assert ask() == b"text of a"
server.stop()
print("served")
""",
    )
    assert (done.stdout, done.stderr, done.returncode) == ("served\n", "", 0)
    lines = (site / "errors.txt").read_text().splitlines()
    assert sum("fastws stopped" in line for line in lines) == 1
    assert len((site / "access.txt").read_text().splitlines()) == 3


@SIDES
def test_child_that_lives_on_keeps_no_port(site: Path, kind: str) -> None:
    done = run(
        site,
        kind,
        """
import signal, socket
child = os.fork()
if not child:
    signal.pause()
try:
    assert ask() == b"text of a"
    server.stop()
    with socket.socket() as probe:
        probe.settimeout(30)
        print(probe.connect_ex(("127.0.0.1", port)) != 0)
finally:
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
""",
    )
    assert (done.stdout, done.stderr, done.returncode) == ("True\n", "", 0)


@SIDES
def test_program_that_ends_without_stopping_loses_no_line(site: Path, kind: str) -> None:
    done = run(site, kind, "assert ask() == b'text of a'\n")
    assert (done.stderr, done.returncode) == ("", 0)
    assert '"GET /a.txt HTTP/1.1" 200' in (site / "access.txt").read_text()
    assert "fastws stopped" in (site / "errors.txt").read_text()
    assert not (site / "socket").exists()


def test_child_knows_that_it_has_no_server(serve: Serve, site: Path) -> None:
    server = serve(root=site / "www")
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        os.write(writer, repr((server.addresses, server.is_draining)).encode())
        os._exit(0)
    os.waitpid(child, 0)
    os.close(writer)
    with os.fdopen(reader) as said:
        assert said.read() == "([], True)"
    assert get(server, "/a.txt").body == b"text of a"


PATCHED = {
    "gevent": ("gevent.monkey", SimpleNamespace(is_module_patched=lambda name: name == "threading")),
    "eventlet": ("eventlet.patcher", SimpleNamespace(is_monkey_patched=lambda name: name == "thread")),
}


@pytest.mark.parametrize("name", PATCHED)
def test_green_threads_are_refused_with_a_sentence(
    side: backend.Backend, site: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    module, patcher = PATCHED[name]
    monkeypatch.setitem(sys.modules, module, patcher)  # type: ignore[arg-type]
    config = defaults(site / "www").with_overrides(listen_ports=(0,), access_log="off", error_log="off")
    server = Server(config, backend=side)
    with pytest.raises(
        RuntimeError, match=rf"{name} has replaced the threads .*patch(_all)?\(thread=False\)"
    ):
        server.start()
    for library in ("gevent.monkey", "eventlet.patcher"):
        unpatched = SimpleNamespace(is_module_patched=lambda _: False, is_monkey_patched=lambda _: False)
        monkeypatch.setitem(sys.modules, library, unpatched)  # type: ignore[arg-type]
    with Server(config, backend=side) as running:
        assert answers(running.port)


@SIDES
def test_what_an_application_forks_ends_by_the_signals_by_which_any_program_does(
    site: Path, kind: str
) -> None:
    (site / "forking.py").write_text("from wsgi_programs import probe as application\n")
    support = str(Path(__file__).parent.parent / "support")
    with running(site, "forking:application", side=kind, PYTHONPATH=support) as server:
        assert get(server.port, "/fork-end").body == b"-15 -15 -1 -1 -10 -10"
        assert get(server.port, "/pid").body == b"%d" % server.popen.pid
        server.signal(signal.SIGTERM)
        assert server.wait() == 0
