"""Starts and checks in odd surroundings: each ends well, or with one line that names the cause."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from launch import END_S, command, environment, running
from rawhttp import get, put, wait_until

import fastws
from fastws import defaults
from fastws.operation import early
from fastws.operation.cli import main

Prepare = Callable[[], Any]


@pytest.fixture
def site(tmp_path: Path) -> Path:
    put(tmp_path / "www", {"a.txt": b"text of a"})
    (tmp_path / "ws.conf").write_text("ListenPort 8080\nDocumentRoot www\n")
    return tmp_path


def run(
    site: Path,
    *arguments: str,
    prepare: Prepare | None = None,
    options: tuple[str, ...] = (),
    **variables: str,
) -> subprocess.CompletedProcess[str]:
    """Run the command line to its end, after ``prepare`` in its process."""
    return subprocess.run(
        [sys.executable, *options, "-m", "fastws", *arguments],
        cwd=site,
        env=environment("pure", site / "state") | variables,
        preexec_fn=prepare,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=END_S,
    )


def closing(*fds: int) -> Prepare:
    return lambda: [os.close(fd) for fd in fds]


def full(fd: int) -> Prepare:
    return lambda: os.dup2(os.open("/dev/full", os.O_WRONLY), fd)


def in_no_directory(site: Path) -> Prepare:
    def enter() -> None:
        (site / "gone").mkdir()
        os.chdir(site / "gone")
        (site / "gone").rmdir()

    return enter


def memory(mib: int) -> Prepare:
    return lambda: resource.setrlimit(resource.RLIMIT_AS, (mib << 20, mib << 20))


def files(count: int) -> Prepare:
    return lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (count, count))


def said_in_one_line(done: subprocess.CompletedProcess[str]) -> str:
    assert (done.returncode, done.stderr.count("\n")) == (1, 1), done.stderr
    assert done.stderr.startswith("fastws: ")
    return done.stderr


@pytest.mark.parametrize("fds", [(0,), (2,), (0, 2), (1,), (1, 2), (0, 1, 2)])
def test_check_needs_no_open_standard_files(site: Path, fds: tuple[int, ...]) -> None:
    done = run(site, "--check", prepare=closing(*fds))
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("arguments", [["--check"], ["--version"], ["--help"]])
def test_full_standard_output_is_said_in_one_line(site: Path, arguments: list[str]) -> None:
    said = "fastws: standard output cannot be written: No space left on device\n"
    assert said_in_one_line(run(site, *arguments, prepare=full(1), PYTHONUNBUFFERED="")) == said
    if arguments != ["--help"]:  # which is argparse's
        assert said_in_one_line(run(site, *arguments, prepare=full(1), PYTHONUNBUFFERED="1")) == said


def test_full_standard_error_changes_no_exit_status(site: Path) -> None:
    (site / "ws.conf").write_text("ListenPort 80\nDocumentRoot www\n")
    assert run(site, "--check", prepare=full(2)).returncode == 2


def test_no_file_takes_the_place_of_a_closed_standard_error(site: Path) -> None:
    program = f"""
import os, sys
os.close(2)
from fastws.operation.cli import open_standard_files
open_standard_files()
sys.exit(open({str(site / "ws.conf")!r}).fileno() == 2)
"""
    done = subprocess.run([sys.executable, "-c", program], env=environment("pure", site), timeout=END_S)
    assert done.returncode == 0


@pytest.mark.parametrize("arguments", [["--check"], ["www", "--check"], ["www", "--port", "0"]])
def test_current_directory_that_is_gone_is_said_in_one_line(site: Path, arguments: list[str]) -> None:
    done = run(site, *arguments, prepare=in_no_directory(site))
    assert "the current directory does not exist any more" in said_in_one_line(done)


def test_absolute_paths_need_no_current_directory(site: Path) -> None:
    done = run(
        site, str(site / "www"), "--port", "0", "--access-log", str(site / "log"), "--check",
        prepare=in_no_directory(site),
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")


def test_too_few_descriptors_are_said_in_one_line(site: Path) -> None:
    assert "the limit must be raised (ulimit -n" in said_in_one_line(
        run(site, "www", "--port", "0", prepare=files(7))
    )


def test_no_thread_is_said_in_one_line(
    site: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setenv("XDG_STATE_HOME", str(site / "state"))
    monkeypatch.setattr(threading.Thread, "start", refuse)
    assert main([str(site / "www"), "--port", "0"]) == 1
    assert "fastws: can't start new thread; the limits of processes (ulimit -u)" in capsys.readouterr().err


def test_no_memory_is_said_in_one_line(
    site: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise MemoryError

    monkeypatch.setattr("fastws.operation.process.run", refuse)
    assert main([str(site / "www")]) == 1
    assert capsys.readouterr().err == "fastws: the memory that the system grants is not enough (ulimit -v)\n"


@pytest.mark.parametrize("options", [("-W", "error"), ("-bb",), ("-OO",), ("-S",), ("-X", "dev")])
def test_options_of_python_change_nothing(site: Path, options: tuple[str, ...]) -> None:
    done = run(site, "--check", options=options)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    "variables",
    [
        {"LISTEN_FDS": "x"}, {"LISTEN_FDS": "-1"}, {"NOTIFY_SOCKET": "/" + "x" * 300}, {"NOTIFY_SOCKET": "@"},
        {"WATCHDOG_USEC": "x"}, {"WATCHDOG_USEC": "9" * 30}, {"TMPDIR": "/nowhere"},
        {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}, {"PYTHONIOENCODING": "ascii:strict"},
        {"HOME": "relative"}, {"HOME": "", "XDG_STATE_HOME": ""}, {"TERM": "\udcff"},
        *([{"PYTHON_CPU_COUNT": "x"}] if sys.version_info < (3, 13) else []),  # later ones refuse to start
    ],
)  # fmt: skip
def test_variables_that_make_no_sense_end_no_check(site: Path, variables: dict[str, str]) -> None:
    assert run(site, "--check", **variables).returncode == 0
    done = run(site, "www", "--check", **variables)
    assert (done.returncode, done.stderr) == (0, "")


# Signals


def test_no_signal_is_lost_behind_others(site: Path) -> None:
    (site / "ws.conf").write_text("ListenPort 8080\nDocumentRoot www\nErrorLog errors.txt\n")
    with running(site) as server:
        server.signal(signal.SIGSTOP)
        for _ in range(300):
            server.signal(signal.SIGHUP)
        server.signal(signal.SIGCONT)
        for _ in range(300):
            server.signal(signal.SIGHUP)
        server.signal(signal.SIGTERM)
        assert server.wait() == 0


def test_sigterm_is_not_lost_when_the_byte_has_no_room(site: Path) -> None:
    # A reload that takes long, while more signals arrive than the socket between handler and loop holds.
    program = f"""
import os, signal, sys
from fastws.config.settings import Source
from fastws.operation import process
def read(source=Source({str(site / "ws.conf")!r}, None, {{"ListenPort": "0"}})):
    global count
    count += 1
    if count > 1:
        for _ in range(2000):
            os.kill(os.getpid(), signal.SIGHUP)
        os.kill(os.getpid(), signal.SIGTERM)
    return source.read()
count = 0
server = process.Server(read())
def started(*_):
    os.kill(os.getpid(), signal.SIGHUP)
process._print_banner = started
sys.exit(process._run_until_signal(server, read))
"""
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=site, env=environment("pure", site), timeout=END_S
    )
    assert done.returncode == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_during_the_imports_ends_the_start_in_silence(site: Path, number: signal.Signals) -> None:
    program = f"""
import os, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in a shell's background ignores it
class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == "fastws.operation.cli":
            os.kill(os.getpid(), {int(number)})
sys.meta_path.insert(0, Finder())
from fastws.__main__ import main
sys.exit(main())
"""
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=site, env=environment("pure", site, is_measured=False),
        capture_output=True, text=True, timeout=END_S,
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (128 + number, "", "")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_while_an_application_is_imported_ends_the_start_in_silence(
    site: Path, number: signal.Signals
) -> None:
    (site / "ending.py").write_text(f"import os\nos.kill(os.getpid(), {int(number)})\n")
    program = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in a shell's background ignores it
from fastws.__main__ import main
sys.exit(main())
"""
    done = subprocess.run(
        [sys.executable, "-c", program, "ending:application", "--port", "0"],
        cwd=site, env=environment("pure", site, is_measured=False), capture_output=True, text=True, timeout=END_S,
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (128 + number, "", "")


def test_first_process_of_a_container_obeys_sigterm_from_the_first_import_on() -> None:
    # Its kernel ignores signals that have the default disposition.
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        early.end_early()
        assert signal.getsignal(signal.SIGTERM) is early._end
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        early.end_early()
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def test_serve_in_another_thread_says_what_to_use_instead(tmp_path: Path) -> None:
    said: list[str] = []

    def serve() -> None:
        try:
            fastws.serve(defaults(tmp_path))
        except RuntimeError as error:
            said.append(str(error))

    thread = threading.Thread(target=serve)
    thread.start()
    thread.join(END_S)
    assert "with fastws.Server(config) as server:" in said[0]


def test_names_of_the_package_are_listed_before_they_are_used() -> None:
    program = "import fastws; print(set(fastws.__all__) - set(dir(fastws)))"
    done = subprocess.run([*command()[:1], "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


def test_server_whose_standard_error_is_gone_serves_and_drains(site: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    popen = subprocess.Popen(
        command("www", "--port", "0", "--error-log", "errors.txt"),
        cwd=site,
        env=environment("pure", site / "state"),
        stderr=writer,
    )
    os.close(writer)
    try:
        log = site / "errors.txt"
        wait_until(lambda: log.exists() and "listening on " in log.read_text(), "the start")
        port = int(log.read_text().split("listening on 127.0.0.1:")[1].split()[0])
        assert get(port, "/a.txt").status == 200
        popen.send_signal(signal.SIGINT)
        assert popen.wait(END_S) == 0
    finally:
        popen.kill()
