"""The pid file: whole at any time, and removed by nobody but the process that it names."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import launch
import pytest
from rawhttp import put

from fastws.upgrade import pidfile


def test_it_names_this_process_until_it_is_removed(tmp_path: Path) -> None:
    path = tmp_path / "pid"
    path.write_text("1\n")
    pidfile.write(str(path))
    assert path.read_text() == f"{os.getpid()}\n"
    assert pidfile.read(str(path)) == os.getpid()
    assert os.listdir(tmp_path) == ["pid"]
    pidfile.remove(str(path))
    assert not path.exists()
    pidfile.remove(str(path))


def test_file_of_another_process_stays(tmp_path: Path) -> None:
    (tmp_path / "pid").write_text("1\n")
    pidfile.remove(str(tmp_path / "pid"))
    assert (tmp_path / "pid").exists()


@pytest.mark.parametrize("text", ["", "soon\n", "-5\n", "0\n"])
def test_what_is_no_number_is_an_error(tmp_path: Path, text: str) -> None:
    (tmp_path / "pid").write_text(text)
    with pytest.raises(ValueError, match="no process number"):
        pidfile.read(str(tmp_path / "pid"))


@pytest.mark.parametrize("arguments", [("--port", "0"), ("--check",)])
@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("nowhere/pid", "No such file or directory"),
        ("root", "Is a directory"),
        ("root/a/pid", "Not a directory"),
    ],
)
def test_server_without_a_place_for_it_does_not_start_and_a_check_says_so(
    tmp_path: Path, arguments: tuple[str, ...], path: str, reason: str
) -> None:
    lines = f"DocumentRoot root\nListenPort 8080\nPidFile {path}\n"
    put(tmp_path, {"root/a": b"", "ws.conf": lines.encode()})
    done = subprocess.run(
        launch.command(*arguments),
        cwd=tmp_path,
        env=launch.environment("pure", tmp_path / "state"),
        capture_output=True,
        text=True,
        timeout=launch.END_S,
        check=False,
    )
    assert done.returncode == 2
    assert (
        f"ws.conf:3: PidFile {tmp_path / path} cannot be written: {reason}; the server needs" in done.stderr
    )
    assert sorted(os.listdir(tmp_path / "root")) == ["a"]


def test_place_where_it_can_be_written_has_no_obstacle(tmp_path: Path) -> None:
    (tmp_path / "pid").write_text("1\n")  # of a server that runs, or has died
    for name in ("pid", "other"):
        assert pidfile.obstacle(str(tmp_path / name)) == ""
