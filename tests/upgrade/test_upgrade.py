"""A new process takes the place of one that serves: no request is lost, and a start that fails changes nothing."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import launch
import pytest
from certificates import CA
from hammer import hammering
from rawhttp import Client, get, put, request, wait_until
from tlsclient import SECURED

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="process numbers and abstract sockets are Linux's"
)

IMPATIENT = """
import sys
import tempfile
from fastws.operation import cli
from fastws.upgrade import attempt
attempt.READY_S = 0.5
sys.exit(cli.main())
"""

APPLICATION = """
import os, time
while os.path.exists("gate"):
    time.sleep(0.01)
def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"%d" % os.getppid()]
"""


def is_alive(pid: int) -> bool:
    """Whether the process runs; one that has ended may wait for its parent."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


class Lineage:
    """A server and its successors; ``pid`` is the one that the pid file names."""

    def __init__(self, directory: Path, kind: str, variables: dict[str, str]) -> None:
        self.directory = directory
        self.environment = launch.environment(kind, directory / "state") | variables
        self.pids: list[int] = []
        self.port = 0

    def start(self, words: list[str]) -> None:
        """Start the first one."""
        self.popen = subprocess.Popen(
            words,
            cwd=self.directory,
            env=self.environment,
            stderr=(self.directory / "stderr").open("wb"),
            start_new_session=True,
        )
        self.pids.append(self.popen.pid)
        wait_until(lambda: (self.directory / "pid").exists() or self.popen.poll() is not None)
        assert (self.directory / "pid").exists(), self.printed
        found = re.search(r"listening on [^ ]*?:([0-9]+)", self.log)
        self.port = int(found[1]) if found else 0

    @property
    def pid(self) -> int:
        return int((self.directory / "pid").read_text())

    @property
    def log(self) -> str:
        return (self.directory / "error.txt").read_text()

    @property
    def printed(self) -> str:
        return (self.directory / "stderr").read_text()

    def configure(self, *lines: str) -> None:
        """Write the configuration."""
        usual = ["DocumentRoot root", "DefaultType text/plain", "WorkerThreads 2", "PidFile pid"]
        logs = ["ErrorLog error.txt", "AccessLog access.txt", "DrainTimeout 5", "StatusPath /-/"]
        (self.directory / "ws.conf").write_text("\n".join([*usual, *logs, *lines]) + "\n")

    def ask(self, *words: str) -> subprocess.Popen[str]:
        """Begin ``fastws upgrade``."""
        return subprocess.Popen(
            launch.command("upgrade", *words),
            cwd=self.directory,
            env=self.environment,
            stderr=subprocess.PIPE,
            text=True,
        )

    def upgrade(self, *words: str) -> tuple[int, str]:
        """Have ``fastws upgrade`` run; return its exit status and what it said."""
        _, said = (asked := self.ask(*words)).communicate(timeout=launch.END_S)
        with suppress(OSError):
            self.pids.append(self.pid)
        return asked.returncode, said

    def succeed(self) -> None:
        """Upgrade, and see the new one in place of the old one."""
        before = self.pid
        status, said = self.upgrade()
        assert status == 0, said + self.log
        assert self.pid != before
        assert said == f"fastws: process {self.pid} has replaced {before}, which finishes what it has begun\n"

    def fail(self) -> str:
        """Upgrade in vain, see the old one serve, and return what was said."""
        before = self.pid
        had = set(children(before))
        status, said = self.upgrade(str(before))
        assert status == 1, said
        assert said.count("\n") == 1
        beginning = f"fastws: the upgrade failed, and process {before} goes on serving: "
        assert said.startswith(beginning)
        assert self.pid == before
        assert is_alive(before)
        wait_until(lambda: set(children(before)) <= had)
        reason = said.removeprefix(beginning).strip()
        assert f"the upgrade failed, and this process goes on: {reason.splitlines()[0]}" in self.log
        return reason

    def signal_end(self) -> None:
        """Begin to end it; the next signal does so at once, whatever the DrainDelay."""
        os.kill(self.pid, signal.SIGTERM)
        wait_until(lambda: get(self.port, "/-/readyz").status == 503)

    def end(self) -> None:
        """End whatever runs."""
        with suppress(OSError, ValueError):
            os.kill(self.pid, signal.SIGTERM)
            ending = self.pid
            wait_until(lambda: not is_alive(ending))
        for pid in self.pids:
            if is_alive(pid):
                os.kill(pid, signal.SIGKILL)
        self.popen.wait(launch.END_S)


def children(pid: int) -> list[int]:
    """The processes that were started by any thread of one and have not ended."""
    found = []
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(OSError):
            found += [int(each) for each in path.read_text().split()]
    return [each for each in found if is_alive(each)]


@pytest.fixture(params=["compiled", "pure"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


Begin = Callable[..., Lineage]
FreePorts = Callable[..., tuple[int, ...]]


@pytest.fixture
def begin(tmp_path: Path, kind: str) -> Iterator[Begin]:
    """Return a function that starts a server by the lines of its configuration."""
    put(tmp_path / "root", {"page.txt": b"x" * 1000})
    yield from beginning(tmp_path, kind)


@pytest.fixture
def begin_there(tree: Path, kind: str) -> Iterator[Begin]:
    """The same, in ``tree``."""
    yield from beginning(tree, kind)


def beginning(directory: Path, kind: str) -> Iterator[Begin]:
    """Yield the function."""
    with ExitStack() as stack:

        def start(
            *lines: str, words: list[str] | None = None, options: tuple[str, ...] = (), **variables: str
        ) -> Lineage:
            lineage = Lineage(directory, kind, variables)
            lineage.configure(*lines)
            stack.callback(lineage.end)
            lineage.start(words or launch.command("--port", "0", *options, patient=True))
            return lineage

        yield start


def ask_unix(path: Path) -> bytes:
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(launch.END_S)
        client.connect(str(path))
        client.sendall(request("/page.txt", "Connection: close"))
        return client.makefile("rb").read()


# What goes well


def test_five_upgrades_under_load_lose_no_request(begin: Begin) -> None:
    lineage = begin()
    with hammering(lineage.port, "/page.txt", count=16) as hammer:
        for _ in range(5):
            lineage.succeed()
            hammer.more()
    assert hammer.refused == 0
    assert len(set(lineage.pids)) == 6
    wait_until(lambda: not any(map(is_alive, set(lineage.pids) - {lineage.pid})), "the end of the old ones")


def test_tls_listener_is_handed_over(begin: Begin, authority: CA, free_ports: FreePorts) -> None:
    pair = authority.pair("localhost", "127.0.0.1")
    lineage = begin(
        f"Listen 127.0.0.1:{free_ports(1)[0]} tls",
        f"TLSCertificate {pair[0]} {pair[1]}",
        words=launch.command(),
    )
    SECURED[lineage.port] = authority.client()
    try:
        with hammering(lineage.port, "/page.txt", count=4) as hammer:
            for _ in range(2):
                lineage.succeed()
                hammer.more(5)
        assert hammer.refused == 0
    finally:
        del SECURED[lineage.port]


def test_socket_file_stays_until_the_last_one_ends(begin: Begin, tmp_path: Path) -> None:
    lineage = begin("Listen unix:socket 0600")
    before = (tmp_path / "socket").lstat()
    for _ in range(2):
        old = lineage.pid
        lineage.succeed()
        wait_until(lambda old=old: not is_alive(old))
        assert (tmp_path / "socket").lstat().st_ino == before.st_ino
        assert ask_unix(tmp_path / "socket").endswith(b"x" * 1000)
    lineage.end()
    assert not (tmp_path / "socket").exists()
    assert not (tmp_path / "pid").exists()


def test_listen_lines_that_have_changed_are_opened_and_closed(
    begin: Begin, tmp_path: Path, free_ports: FreePorts
) -> None:
    gone, come = free_ports(2)
    lineage = begin(f"Listen {gone}", "Listen unix:first")
    assert get(gone, "/page.txt").status == 200
    lineage.configure(f"Listen {come}", "Listen unix:second")
    lineage.succeed()
    assert get(come, "/page.txt").status == 200
    assert get(lineage.port, "/page.txt").status == 200
    assert ask_unix(tmp_path / "second").endswith(b"x" * 1000)
    wait_until(lambda: not launch.answers(gone))
    wait_until(lambda: not (tmp_path / "first").exists())


def test_download_in_progress_is_finished_by_the_old_one(begin: Begin, tmp_path: Path) -> None:
    put(tmp_path / "root", {"large.bin": bytes(8 << 20)})
    lineage = begin()
    old = lineage.pid
    with socket.create_connection(("127.0.0.1", lineage.port), timeout=launch.END_S) as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        client.sendall(request("/large.bin", "Connection: close"))
        start = client.recv(1000)
        lineage.succeed()
        assert is_alive(old)
        whole = start + client.makefile("rb").read()
    assert len(whole.partition(b"\r\n\r\n")[2]) == 8 << 20
    wait_until(lambda: not is_alive(old))


def test_application_processes_of_the_old_one_end_and_no_request_is_lost(
    begin: Begin, tmp_path: Path
) -> None:
    (tmp_path / "slow.py").write_text(APPLICATION)
    lineage = begin("Application /app slow:application", "ApplicationProcesses 1")
    spawner = int(get(lineage.port, "/app").body)
    old = lineage.pid
    with hammering(lineage.port, "/app", "/page.txt", count=4) as hammer:
        lineage.succeed()
        hammer.more(5)
    assert hammer.refused == 0
    assert int(get(lineage.port, "/app").body) != spawner
    wait_until(lambda: not is_alive(spawner) and not is_alive(old))


def test_link_to_the_directory_is_entered_again(begin: Begin, tmp_path: Path) -> None:
    for name in ("one", "two"):
        put(tmp_path / name, {"root/page.txt": name.encode()})
    (tmp_path / "current").symlink_to("one")
    lineage = begin()
    lineage.end()
    for name in ("one", "two"):
        lineage.directory = tmp_path / name
        lineage.configure()
    lineage.directory = tmp_path / "one"
    pid, log = tmp_path / "pid", tmp_path / "error.txt"
    for name in ("one", "two"):
        text = (tmp_path / name / "ws.conf").read_text()
        text = text.replace("PidFile pid", f"PidFile {pid}").replace("error.txt", str(log))
        (tmp_path / name / "ws.conf").write_text(text)
    log.unlink()
    lineage.directory = tmp_path
    lineage.environment["PWD"] = str(tmp_path / "current")
    lineage.directory = tmp_path / "current"
    (tmp_path / "current" / "pid").symlink_to(pid)
    (tmp_path / "current" / "error.txt").symlink_to(log)
    lineage.start(launch.command("--port", "0"))
    lineage.directory = tmp_path
    assert get(lineage.port, "/page.txt").body == b"one"
    (tmp_path / "current").unlink()
    (tmp_path / "current").symlink_to("two")
    status, said = lineage.upgrade(str(lineage.pid))
    assert status == 0, said
    assert get(lineage.port, "/page.txt").body == b"two"


def test_reload_and_rotation_during_an_upgrade_reach_the_new_one(begin: Begin, tmp_path: Path) -> None:
    (tmp_path / "slow.py").write_text(APPLICATION)
    lineage = begin("Application /app slow:application")
    (tmp_path / "gate").touch()
    old = lineage.pid
    with lineage.ask() as asked:
        wait_until(lambda: "is started" in lineage.log)
        lineage.configure("Application /app slow:application", "ServerHeader changed")
        os.kill(old, signal.SIGHUP)
        os.kill(old, signal.SIGUSR1)
        wait_until(lambda: "logs reopened" in lineage.log)
        assert get(lineage.port, "/page.txt").status == 200
        (tmp_path / "gate").unlink()
        assert asked.wait(launch.END_S) == 0
    lineage.pids.append(lineage.pid)
    wait_until(lambda: "configuration reloaded" in lineage.log)
    wait_until(lambda: get(lineage.port, "/page.txt")["Server"] == "changed")


# Sockets of a service manager, and what it is told


def test_service_manager_learns_which_process_counts(begin: Begin, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(launch.END_S)
        lineage = begin(NOTIFY_SOCKET=str(tmp_path / "notify"), WATCHDOG_PID="1")
        assert manager.recv(1000) == b"READY=1"
        old = lineage.pid
        lineage.succeed()
        assert manager.recv(1000) == b"MAINPID=%d" % lineage.pid
        assert manager.recv(1000) == b"READY=1"
        wait_until(lambda: not is_alive(old))
        os.kill(lineage.pid, signal.SIGTERM)
        assert manager.recv(1000) == b"STOPPING=1"


def test_sockets_of_the_service_manager_are_served_by_each(begin: Begin, tmp_path: Path, kind: str) -> None:
    launcher = (
        "import os, sys\n"
        "os.dup2(int(sys.argv[1]), 3)\n"
        "os.environ |= {'LISTEN_FDS': '1', 'LISTEN_PID': str(os.getpid())}\n"
        "os.execv(sys.executable, [sys.executable, '-m', 'fastws'])\n"
    )
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        listener.set_inheritable(True)
        words = ["sh", "-c", 'exec "$0" -c "$1" 9 9<&0', sys.executable, launcher]
        lineage = Lineage(tmp_path, kind, {})
        lineage.configure()
        try:
            lineage.popen = subprocess.Popen(
                words, cwd=tmp_path, env=lineage.environment, stdin=listener.fileno(), start_new_session=True
            )
            lineage.pids.append(lineage.popen.pid)
            wait_until(lambda: (tmp_path / "pid").exists())
            with hammering(port, "/page.txt", count=4) as hammer:
                for _ in range(2):
                    status, said = lineage.upgrade(str(lineage.pid))
                    assert status == 0, said
                    hammer.more(5)
            assert hammer.refused == 0
        finally:
            lineage.end()
        assert launch.answers(port)  # it is still the manager's, who listens


# What goes wrong


def test_configuration_with_errors_leaves_the_old_one(begin: Begin) -> None:
    lineage = begin()
    lineage.configure("Nonsense", "Another")
    reason = lineage.fail()
    assert "ws.conf:9: unknown directive 'Nonsense'" in reason
    assert reason.endswith("(and 1 more in the error log)")
    assert "unknown directive 'Another'" in lineage.log
    assert get(lineage.port, "/page.txt").status == 200
    # The command reads it too, where it has to find the process.
    assert lineage.upgrade()[0] == 2
    lineage.configure()
    lineage.succeed()


@pytest.mark.parametrize("processes", [0, 1])
def test_application_that_cannot_be_imported_leaves_the_old_one(
    begin: Begin, tmp_path: Path, processes: int
) -> None:
    (tmp_path / "slow.py").write_text(APPLICATION)
    lineage = begin("Application /app slow:application", f"ApplicationProcesses {processes}")
    spawner = get(lineage.port, "/app").body
    (tmp_path / "slow.py").write_text("import missing\n")
    with hammering(lineage.port, "/page.txt", "/app", count=4) as hammer:
        assert "No module named 'missing'" in lineage.fail()
        hammer.more(5)
    assert hammer.refused == 0
    assert get(lineage.port, "/app").body == spawner


def test_code_that_cannot_be_imported_leaves_the_old_one(begin: Begin, tmp_path: Path) -> None:
    (tmp_path / "code").mkdir()
    lineage = begin(
        words=[
            sys.executable,
            "-c",
            "import sys; sys.path.insert(0, 'code')\n" + launch.PATIENT,
            "--port",
            "0",
        ]
    )
    put(tmp_path / "code" / "fastws", {"__init__.py": b"import nothing_of_that_name\n"})
    reason = lineage.fail()
    assert reason == "it ended with status 1: ModuleNotFoundError: No module named 'nothing_of_that_name'"
    assert "Traceback" in lineage.log
    assert "Traceback" in lineage.printed
    assert get(lineage.port, "/page.txt").status == 200


def test_process_that_is_killed_or_never_ready_leaves_the_old_one(begin: Begin, tmp_path: Path) -> None:
    (tmp_path / "slow.py").write_text(APPLICATION)
    lineage = begin(
        "Application /app slow:application",
        "Listen unix:socket",
        words=[sys.executable, "-c", IMPATIENT, "--port", "0"],
    )
    (tmp_path / "gate").touch()
    assert lineage.fail() == "it did not serve within 0.5 s"
    old = lineage.pid
    with lineage.ask() as asked:
        wait_until(lambda: children(old))
        os.kill(children(old)[0], signal.SIGSEGV)
        assert asked.wait(launch.END_S) == 1
        assert "it was ended by SIGSEGV" in asked.stderr.read()  # type: ignore[union-attr]
    assert get(lineage.port, "/page.txt").status == 200
    assert ask_unix(tmp_path / "socket").endswith(b"x" * 1000)
    (tmp_path / "gate").unlink()
    assert get(lineage.port, "/app").status == 200


def test_interpreter_that_is_gone_leaves_the_old_one(begin: Begin, tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python").symlink_to(sys.executable)
    (tmp_path / "bin" / "pyvenv.cfg").write_text("")
    words = [str(tmp_path / "bin" / "python"), *launch.command("--port", "0")[1:]]
    lineage = begin(words=words, PYTHONPATH=str(launch.REPOSITORY))
    (tmp_path / "bin" / "python").unlink()
    assert lineage.fail() == f"cannot start {tmp_path / 'bin' / 'python'}: No such file or directory"
    assert get(lineage.port, "/page.txt").status == 200


def test_port_that_another_program_has_leaves_the_old_one(begin: Begin) -> None:
    lineage = begin()
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        lineage.configure(f"Listen {port}", "Listen unix:socket")
        assert lineage.fail() == f"cannot listen on 127.0.0.1:{port}: the port is in use by another program"
    assert get(lineage.port, "/page.txt").status == 200


def test_old_one_that_is_killed_leaves_the_new_one(begin: Begin, tmp_path: Path) -> None:
    (tmp_path / "slow.py").write_text(APPLICATION)
    lineage = begin("Application /app slow:application", "Listen unix:socket")
    (tmp_path / "gate").touch()
    old = lineage.pid
    with lineage.ask() as asked:
        wait_until(lambda: children(old))
        lineage.pids.append(children(old)[0])
        os.kill(old, signal.SIGKILL)
        lineage.popen.wait(launch.END_S)
        (tmp_path / "gate").unlink()
        assert asked.wait(launch.END_S) == 1
    wait_until(lambda: lineage.pid == lineage.pids[-1])
    assert get(lineage.port, "/page.txt").status == 200
    assert ask_unix(tmp_path / "socket").endswith(b"x" * 1000)
    lineage.succeed()


def test_second_signal_waits_for_the_first_upgrade(begin: Begin, tmp_path: Path) -> None:
    (tmp_path / "slow.py").write_text(APPLICATION)
    lineage = begin("Application /app slow:application")
    (tmp_path / "gate").touch()
    old = lineage.pid
    with lineage.ask() as asked:
        wait_until(lambda: "is started" in lineage.log)
        os.kill(old, signal.SIGUSR2)
        wait_until(lambda: "SIGUSR2 while a new process starts already" in lineage.log)
        status, said = lineage.upgrade()
        assert (status, "is being replaced by another command" in said) == (1, True)
        (tmp_path / "gate").unlink()
        assert asked.wait(launch.END_S) == 0
    lineage.pids.append(lineage.pid)
    assert lineage.log.count("has taken over") == 1
    assert lineage.log.count("is started") == 1
    lineage.succeed()


def test_end_during_an_upgrade_ends_both(begin: Begin, tmp_path: Path) -> None:
    (tmp_path / "slow.py").write_text(APPLICATION)
    lineage = begin("Application /app slow:application")
    (tmp_path / "gate").touch()
    old = lineage.pid
    with lineage.ask() as asked:
        wait_until(lambda: children(old))
        fresh = children(old)[0]
        os.kill(old, signal.SIGTERM)
        assert asked.wait(launch.END_S) == 1
        assert "this process was told to stop" in asked.stderr.read()  # type: ignore[union-attr]
    assert lineage.popen.wait(launch.END_S) == 0
    assert not is_alive(fresh)
    assert not (tmp_path / "pid").exists()


def test_other_programs_are_left_alone(begin: Begin) -> None:
    lineage = begin()
    with subprocess.Popen(["sleep", "60"]) as other:
        status, said = lineage.upgrade(str(other.pid))
        assert status == 1
        assert f"process {other.pid} is no server that can be replaced" in said
        assert other.poll() is None
        other.kill()


# After root's rights are gone


needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give up its rights")


def readable_python() -> str:
    """The interpreter of this one's version that every account may read, as it may this package."""
    of_system = f"/usr/bin/python{sys.version_info[0]}.{sys.version_info[1]}"
    for path in (sys.executable, of_system):
        with suppress(OSError):
            done = subprocess.run(
                [path, "-c", "import subprocess, fastws.operation.cli"],
                env=launch.environment("pure", Path("/nonexistent")),
                cwd="/",
                capture_output=True,
                timeout=60,
                check=False,
                user="nobody",
                group="nogroup",
                extra_groups=[],
            )
            if done.returncode == 0:
                return path
    pytest.skip("this Python or this package is for its owner alone to read")


@pytest.fixture
def tree(kind: str) -> Iterator[Path]:
    """A directory that belongs to the account; pytest's own are for one account."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        put(directory / "root", {"page.txt": b"x" * 1000})
        for path in (directory, directory / "root"):
            shutil.chown(path, "nobody", "nogroup")
        directory.chmod(0o755)
        yield directory


@needs_root
def test_privileged_port_is_served_by_an_account_without_rights(begin_there: Begin, tree: Path) -> None:
    port = next(port for port in range(1023, 600, -1) if not launch.answers(port))
    words = [readable_python(), *launch.command()[1:]]
    lineage = begin_there(f"ListenPort {port}", "User nobody", words=words)
    assert Path(f"/proc/{lineage.pid}").stat().st_uid != 0
    for _ in range(2):
        lineage.succeed()
        assert get(port, "/page.txt").status == 200
    lineage.configure(f"ListenPort {port}", f"ListenPort {port - 1}", "User nobody")
    (tree / "ws.conf").write_text(
        (tree / "ws.conf").read_text().replace(f"\nListenPort {port - 1}", f" {port - 1}")
    )
    assert lineage.fail() == f"cannot listen on 127.0.0.1:{port - 1}: binding to it is not permitted"
    assert get(port, "/page.txt").status == 200


@needs_root
def test_what_the_account_cannot_read_is_said(
    begin_there: Begin, tree: Path, authority: CA, free_ports: FreePorts
) -> None:
    pair = authority.pair("localhost", "127.0.0.1")
    key = (
        put(tree, {"key.pem": Path(pair[1]).read_bytes(), "cert.pem": Path(pair[0]).read_bytes()}) / "key.pem"
    )
    key.chmod(0o600)
    shutil.chown(key, "nobody")
    (tree / "bin").mkdir()
    (tree / "bin" / "python").symlink_to(readable_python())
    words = [str(tree / "bin" / "python"), *launch.command("--port", "0")[1:]]
    lineage = begin_there(
        f"Listen 127.0.0.1:{free_ports(1)[0]} tls",
        "TLSCertificate cert.pem key.pem",
        "User nobody",
        words=words,
    )
    os.chown(key, 0, 0)
    assert "key.pem" in lineage.fail()
    os.chown(key, Path(tree / "root").stat().st_uid, -1)
    os.chown(tree / "bin", 0, 0)
    (tree / "bin").chmod(0o700)
    reason = lineage.fail()
    assert reason == (
        f"cannot start {tree / 'bin' / 'python'}: Permission denied"
        " (it runs as nobody, by User, which must be able to read what is installed)"
    )
    (tree / "bin").chmod(0o755)
    lineage.succeed()


def test_program_that_calls_serve_is_started_again(
    begin: Begin, tmp_path: Path, free_ports: FreePorts
) -> None:
    (tmp_path / "program.py").write_text("import fastws\nfastws.serve('ws.conf')\n")
    lineage = begin(f"ListenPort {free_ports(1)[0]}", words=[sys.executable, "program.py"])
    with hammering(lineage.port, "/page.txt", count=4) as hammer:
        lineage.succeed()
        hammer.more(5)
    assert hammer.refused == 0
    (tmp_path / "program.py").write_text("import fastws\nraise SystemExit('not today')\n")
    assert lineage.fail() == "it ended with status 1: not today"
    assert get(lineage.port, "/page.txt").status == 200


def test_terminal_of_the_old_one_may_go_with_it(tmp_path: Path, kind: str) -> None:
    put(tmp_path, {"root/page.txt": b"x", "ws.conf": b"DocumentRoot root\nPidFile pid\nErrorLog error.txt\n"})
    # The server leads the session of the terminal, as in a window that was opened for it.
    terminal = launch.Terminal(tmp_path, "--port", "0", side=kind)
    fresh = 0
    try:
        port = int(terminal.read_until(r"http://127\.0\.0\.1:([0-9]+)/")[1])
        done = subprocess.run(
            launch.command("upgrade"),
            cwd=tmp_path,
            env=launch.environment(kind, tmp_path / "state"),
            capture_output=True,
            timeout=launch.END_S,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        fresh = int((tmp_path / "pid").read_text())
        assert terminal.popen.wait(launch.END_S) == 0
        terminal.hang_up()
        assert get(port, "/page.txt").status == 200
        os.kill(fresh, signal.SIGTERM)
        wait_until(lambda: not is_alive(fresh))
        assert not (tmp_path / "pid").exists()
    finally:
        terminal.close()
        if fresh and is_alive(fresh):
            os.kill(fresh, signal.SIGKILL)


def test_tls_session_is_resumed_by_the_new_one_that_has_the_same_ticket_key(
    tmp_path: Path, authority: CA, free_ports: FreePorts
) -> None:
    pair = authority.pair("localhost", "127.0.0.1")
    put(tmp_path, {"root/page.txt": b"x", "ticket.key": bytes(range(80))})
    (tmp_path / "ticket.key").chmod(0o600)
    lines = (
        f"Listen 127.0.0.1:{free_ports(1)[0]} tls",
        f"TLSCertificate {pair[0]} {pair[1]}",
        "TLSTicketKey ticket.key",
    )
    context = ssl.create_default_context(cafile=authority.path)
    context.maximum_version = ssl.TLSVersion.TLSv1_2  # in which Python's client has its session at once

    def reused(port: int, session: ssl.SSLSession | None) -> tuple[bool, ssl.SSLSession | None]:
        with (
            socket.create_connection(("127.0.0.1", port), timeout=launch.END_S) as plain,
            context.wrap_socket(plain, server_hostname="localhost", session=session) as secured,
        ):
            secured.sendall(request("/page.txt", "Connection: close"))
            assert secured.recv(65536).startswith(b"HTTP/1.1 200")
            return bool(secured.session_reused), secured.session

    lineage = Lineage(tmp_path, "compiled", {})
    lineage.configure(*lines)
    try:
        lineage.start(launch.command())
        _, session = reused(lineage.port, None)
        lineage.succeed()
        assert reused(lineage.port, session)[0]
        lineage.configure(*lines[:2])
        lineage.succeed()
        assert not reused(lineage.port, session)[0]
    finally:
        lineage.end()


def test_idle_connection_has_a_last_answer_of_the_old_one_which_is_still_ready(begin: Begin) -> None:
    # Nobody has to learn that the old one ends: the address is served on.
    lineage = begin("DrainDelay 60")
    old = lineage.pid
    with Client(lineage.port) as idle, Client(lineage.port) as another:
        for client in (idle, another):
            assert client.get("/page.txt").all("Connection") == []
        lineage.succeed()
        last = idle.get("/-/readyz")
        assert (last.status, last["Connection"]) == (200, "close")
        assert another.get("/page.txt")["Connection"] == "close"
    wait_until(lambda: not is_alive(old), "the end of the old one, without its DrainDelay")
    assert get(lineage.port, "/-/readyz").status == 200
    lineage.signal_end()
