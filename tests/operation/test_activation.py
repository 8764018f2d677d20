"""Started by a service manager: sockets handed over (sd_listen_fds(3)), and what it is told (sd_notify(3))."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import launch
import pytest
from hammer import hammering
from rawhttp import get, put, request, wait_until

from fastws.operation.systemd import watchdog_interval_s

# Puts the sockets where sd_listen_fds(3) has them, and becomes the server, whose process this then is.
LAUNCHER = """
import os, sys
count = int(sys.argv[1])
saved = [os.dup(int(fd)) for fd in sys.argv[2:2 + count]]
kept = [os.dup2(fd, 50 + n) for n, fd in enumerate(saved)]
for n, fd in enumerate(kept):
    os.dup2(fd, 3 + n)
os.environ["LISTEN_FDS"] = str(count)
os.environ["LISTEN_PID"] = str(os.getpid() + int(os.environ.pop("PID_OFFSET", "0")))
os.execv(sys.executable, [sys.executable, *sys.argv[2 + count:]])
"""


@pytest.fixture(params=["compiled", "pure"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def site(tmp_path: Path) -> Path:
    put(tmp_path / "root", {"page.txt": b"x" * 1000})
    (tmp_path / "ws.conf").write_text("DocumentRoot root\nDefaultType text/plain\nWorkerThreads 2\n")
    return tmp_path


def start(
    directory: Path, kind: str, sockets: Sequence[socket.socket], *arguments: str, **variables: str
) -> subprocess.Popen[str]:
    """Start the server with ``sockets`` handed over."""
    fds = [sock.fileno() for sock in sockets]
    server = launch.command(*arguments, patient=True)[1:]
    return subprocess.Popen(
        [sys.executable, "-c", LAUNCHER, str(len(fds)), *map(str, fds), *server],
        cwd=directory,
        env=launch.environment(kind, directory / "state") | variables,
        stderr=subprocess.PIPE,
        text=True,
        pass_fds=fds,
    )


@contextmanager
def activated(
    directory: Path, kind: str, sockets: Sequence[socket.socket], *arguments: str, **variables: str
) -> Iterator[launch.Process]:
    """Run the server with ``sockets`` handed over until the block ends; a SIGTERM must end it with 0."""
    popen = start(directory, kind, sockets, *arguments, **variables)
    assert popen.stderr is not None
    try:
        banner = next((line for line in popen.stderr if " serves " in line), "")
        assert banner
        yield launch.Process(popen, banner)
        popen.send_signal(signal.SIGTERM)
        assert popen.wait(launch.END_S) == 0
    finally:
        popen.kill()
        popen.wait(launch.END_S)
        popen.stderr.close()


def failure(popen: subprocess.Popen[str]) -> tuple[int, str]:
    """The exit status and what was printed, of a server that does not start."""
    _, printed = popen.communicate(timeout=launch.END_S)
    return popen.returncode, printed


def log_of(directory: Path) -> str:
    return (directory / "log_webserver_error.txt").read_text()


# Sockets handed over


def test_socket_stands_in_for_listen_port(site: Path, kind: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with activated(site, kind, [listener]) as server:
            assert server.port == port
            for _ in range(3):
                assert get(port, "/page.txt").status == 200


def test_tcp_and_unix_and_configured_ports_are_all_served(site: Path, kind: str) -> None:
    path = site / "activated"
    with socket.create_server(("127.0.0.1", 0)) as tcp, socket.socket(socket.AF_UNIX) as unix:
        unix.bind(str(path))
        unix.listen()
        with activated(site, kind, [tcp, unix], "--port", "0"):
            (addresses,) = re.findall("listening on (.*)", log_of(site))
            first, second, third = addresses.split(", ")
            assert first == f"127.0.0.1:{tcp.getsockname()[1]}"
            assert second == f"unix:{path}"
            for port in (int(first.split(":")[1]), int(third.split(":")[1])):
                assert get(port, "/page.txt").status == 200
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(str(path))
                client.sendall(request("/page.txt", "Connection: close"))
                assert client.makefile("rb").read().endswith(b"x" * 1000)
        # The file is the service manager's.
        assert path.exists()


def test_ipv4_clients_of_a_socket_for_both_kinds_are_logged_as_such(site: Path, kind: str) -> None:
    with socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True) as listener:
        port = listener.getsockname()[1]
        with activated(site, kind, [listener], "--access-log", "access.txt"):
            for host in ("127.0.0.1", "::1"):
                with socket.create_connection((host, port)) as client:
                    client.sendall(request("/page.txt", "Connection: close"))
                    assert b" 200 " in client.makefile("rb").read()
    peers = [line.split()[0] for line in (site / "access.txt").read_text().splitlines()]
    assert sorted(peers) == ["127.0.0.1", "::1"]


def test_sockets_handed_over_outlive_a_reload(site: Path, kind: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with activated(site, kind, [listener]) as server, hammering(port, "/page.txt"):
            with (site / "ws.conf").open("a") as file:
                file.write("ServerHeader changed\n")
            server.signal(signal.SIGHUP)
            wait_until(lambda: get(port, "/page.txt")["Server"] == "changed")


def test_restart_under_load_fails_not_one_request(site: Path, kind: str) -> None:
    # The service manager keeps the socket, where clients wait meanwhile.
    with ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=128))
        port = listener.getsockname()[1]
        with activated(site, kind, [listener]):
            hammer = stack.enter_context(hammering(port, "/page.txt", count=16))
        with activated(site, kind, [listener]):
            hammer.more()
            hammer.end()
        assert hammer.refused == 0


def test_port_below_1024_comes_by_activation_only(site: Path, kind: str) -> None:
    (site / "low.conf").write_text("DocumentRoot root\nListenPort 81\n")
    code, printed = failure(start(site, kind, [], "--config", "low.conf"))
    assert (code, "low.conf:2: " in printed, "1024" in printed) == (2, True, True)
    for port in range(1023, 600, -1):
        try:
            listener = socket.create_server(("127.0.0.1", port))
            break
        except PermissionError:
            pytest.skip("this user may not bind to a port below 1024")
        except OSError:
            continue
    with listener, activated(site, kind, [listener]):
        assert get(port, "/page.txt").status == 200


# What is not handed over


def test_sockets_of_another_process_are_not_taken(site: Path, kind: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        code, printed = failure(start(site, kind, [listener], PID_OFFSET="1"))
    assert code == 2
    assert "ListenPort is missing" in printed


def test_what_is_no_listening_stream_socket_is_refused(site: Path, kind: str) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagram, socket.socket() as unbound:
        for sock in (datagram, unbound):
            code, printed = failure(start(site, kind, [sock]))
            assert code == 1
            assert "descriptor 3 of LISTEN_FDS is not a listening stream socket" in printed


def test_number_that_is_none_is_refused(site: Path, kind: str) -> None:
    own = {"LISTEN_FDS": "many"}
    done = subprocess.run(
        launch.command(),
        cwd=site,
        env=launch.environment(kind, site / "state") | own,
        capture_output=True,
        text=True,
        timeout=launch.END_S,
    )
    assert done.returncode == 1
    assert "LISTEN_FDS is 'many'" in done.stderr


# What the manager is told


@pytest.mark.parametrize("is_abstract", [False, True])
def test_manager_is_told_of_every_change(site: Path, kind: str, is_abstract: bool) -> None:
    name = f"@fastws-test-{os.getpid()}-{kind}" if is_abstract else str(site / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind("\0" + name[1:] if is_abstract else name)
        manager.settimeout(launch.END_S)
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]
            with activated(site, kind, [listener], NOTIFY_SOCKET=name) as server:
                assert manager.recv(1000) == b"READY=1"
                assert get(port, "/page.txt").status == 200
                for broken in ("", "Nonsense\n"):
                    with (site / "ws.conf").open("a") as file:
                        file.write(broken)
                    server.signal(signal.SIGHUP)
                    assert re.fullmatch(rb"RELOADING=1\nMONOTONIC_USEC=[0-9]+", manager.recv(1000))
                    assert manager.recv(1000) == b"READY=1"
            assert manager.recv(1000) == b"STOPPING=1"


def test_manager_that_has_gone_or_reads_nothing_does_not_matter(site: Path, kind: str) -> None:
    path = str(site / "notify")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with activated(site, kind, [listener], NOTIFY_SOCKET=path):
            assert get(port, "/page.txt").status == 200
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
            manager.bind(path)
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
                other.setblocking(False)
                with suppress(BlockingIOError):
                    while True:
                        other.sendto(b"full", path)
                with activated(site, kind, [listener], NOTIFY_SOCKET=path):
                    assert get(port, "/page.txt").status == 200


# The watchdog


def test_watchdog_is_answered_while_a_worker_does_its_work(site: Path, kind: str) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(site / "notify"))
        manager.settimeout(launch.END_S)
        variables = {"NOTIFY_SOCKET": str(site / "notify"), "WATCHDOG_USEC": "200000"}
        server = start(site, kind, [], "--port", "0", **variables)
        try:
            told = [manager.recv(1000) for _ in range(4)]
            server.send_signal(signal.SIGTERM)
            while told[-1] != b"STOPPING=1":
                told.append(manager.recv(1000))
            assert server.wait(launch.END_S) == 0
        finally:
            server.kill()
            server.communicate()
    assert told[:4] == [b"READY=1", *[b"WATCHDOG=1"] * 3]


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "3000000"}, 1.5),
        ({"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": str(os.getpid())}, 1.5),
        ({"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "-5"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
    ],
)
def test_watchdog_is_answered_where_the_manager_wants_it(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], expected: float | None
) -> None:
    for name in ("WATCHDOG_USEC", "WATCHDOG_PID"):
        monkeypatch.delenv(name, raising=False)
    for name, text in variables.items():
        monkeypatch.setenv(name, text)
    assert watchdog_interval_s() == expected
