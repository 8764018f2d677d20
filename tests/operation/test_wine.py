"""The server on CPython for Windows, which Wine runs: ``python -m fastws DIR`` as a user there starts it.

It needs Debian's wine64, and CPython for Windows: ``tests/support/windows_python.py`` fetches it into build/.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from rawhttp import get, put, wait_until
from windows_python import PYTHON, REPOSITORY

pytestmark = [pytest.mark.peer, pytest.mark.timeout(600)]

WINE = shutil.which("wine64", path=f"{os.environ.get('PATH', '')}:/usr/lib/wine")
LINES = b"one\r\ntwo\n\x1a three\n"  # what a text file would be changed to, or end at
BIG = b"0123456789abcdef" * 40_000
START = "import sys; sys.path.insert(0, {0!r}); sys.argv[0] = 'fastws'; import fastws.operation.cli as c; c.main()"


def drive(path: Path) -> str:
    """``path`` as Wine's drive Z: has it."""
    return "Z:" + str(path).replace("/", "\\")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    files = {
        "Lines.txt": LINES,
        "big.bin": BIG,
        "Sub Dir/Page One.html": b"page",
        "Sub Dir/.hidden": b"hidden",
    }
    root = put(tmp_path_factory.mktemp("wine") / "root", files)
    put(root.parent / "outside", {"secret.txt": b"SECRET"})
    (root / "out").symlink_to("../outside")
    (root / "in").symlink_to("Sub Dir")
    return root


@pytest.fixture(scope="module")
def environment(root: Path) -> Iterator[dict[str, str]]:
    """What Wine needs; its processes end with the tests."""
    if WINE is None:
        pytest.skip("wine64 was not found")
    if not PYTHON.exists():
        pytest.skip(
            f"no CPython for Windows (wine64 runs it) at {PYTHON}: python tests/support/windows_python.py"
        )
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("XDG", "FASTWS"))}
    environment = kept | {"WINEDEBUG": "-all", "WINEPREFIX": str(root.parent / "prefix")}
    yield environment
    subprocess.run(
        [str(WINE).replace("wine64", "wineserver"), "-k", "-w"], env=environment, timeout=60, check=False
    )


def command(*arguments: str) -> list[str]:
    """The command line of the server."""
    return [str(WINE), str(PYTHON), "-c", START.format(drive(REPOSITORY)), *arguments]


@pytest.fixture(scope="module")
def port(environment: dict[str, str], root: Path) -> Iterator[int]:
    process = subprocess.Popen(
        command(drive(root), "--port", "0", "--list"),
        # Pipes: others that Wine is handed are no handles for Python.
        env=environment, cwd=root.parent, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        said, found = b"", None
        for line in process.stdout:
            said += line
            if found := re.search(rb"http://127\.0\.0\.1:([0-9]+)/", line):
                break
        assert found, said.decode()
        yield int(found[1])
    finally:
        process.kill()
        process.wait(60)


def test_files_are_sent_byte_by_byte(port: int) -> None:
    assert get(port, "/Lines.txt").body == LINES
    assert get(port, "/big.bin").body == BIG
    part = get(port, "/big.bin", "Range: bytes=300000-300099")
    assert (part.status, part.body) == (206, BIG[300000:300100])
    assert get(port, "/Sub%20Dir/Page%20One.html").body == b"page"
    assert get(port, "/in/Page%20One.html").body == b"page"
    assert b"Page%20One.html" in get(port, "/Sub%20Dir/").body


@pytest.mark.parametrize(
    "target",
    ["/lines.txt", "/LINES.TXT", "/Lines.txt.", "/Lines.txt%20", "/Lines.txt::$DATA", "/sub%20dir/", "/SUBDIR~1/",
     "/nul", "/CON", "/com1.txt", "/Sub%20Dir%5CPage%20One.html", "/C:/windows/win.ini", "/out/secret.txt",
     "/Sub%20Dir/.hidden", "/nowhere", "/IN/Page%20One.html"],
)  # fmt: skip
def test_other_spellings_and_the_outside_are_404(port: int, target: str) -> None:
    reply = get(port, target)
    assert (reply.status, b"SECRET" in reply.body) == (404, False)


def test_logs_are_in_the_accounts_directory_and_their_lines_end_as_everywhere(port: int, root: Path) -> None:
    assert get(port, "/Lines.txt?logged").status == 200

    def lines() -> list[bytes]:
        found = list((root.parent / "prefix").rglob("AppData/Local/fastws/*/log_webserver.txt"))
        return found[0].read_bytes().split(b"\n") if found else []

    wait_until(lambda: any(b"/Lines.txt?logged" in line for line in lines()))
    assert not any(line.endswith(b"\r") for line in lines())


def test_configuration_may_have_drives_and_backslashes(environment: dict[str, str], root: Path) -> None:
    lines = [f'DocumentRoot "{drive(root)}"', "ListenPort 8080", "User nobody", "Listen unix:/tmp/x"]
    (root.parent / "wrong.conf").write_text("\r\n".join(lines))
    (root.parent / "right.conf").write_text("\r\n".join(lines[:2]))

    def check(name: str) -> str:
        arguments = command("--check", "--config", drive(root.parent / name))
        done = subprocess.run(
            arguments,
            env=environment,
            input=b"",
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=300,
        )
        return done.stdout.decode()

    assert repr(drive(root)) in check("right.conf")
    said = check("wrong.conf")
    assert "Traceback" not in said
    assert re.search("3: User: this platform has no accounts", said), said
    assert re.search("4: Listen: Python has no Unix-domain sockets", said), said
