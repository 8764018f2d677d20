"""The package as users get it: built from a copy of the sources, installed into environments of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import urllib.request
import venv
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

pytestmark = [pytest.mark.build, pytest.mark.timeout(600)]

REPOSITORY = Path(__file__).resolve().parents[2]
COMPILED = {
    str(path.with_suffix("").relative_to(REPOSITORY)) for path in (REPOSITORY / "fastws").rglob("*.pyx")
}
NOT_SOURCES = shutil.ignore_patterns(
    ".git", ".venv*", "venv*", ".*_cache", ".hypothesis", ".benchmarks", "build", "dist", "*.egg-info",
    "__pycache__", "*.so", "log_*.txt",
)  # fmt: skip
SCRIPTS = {"fastws", "fastws-client", "fastws-createfile"}


def environment(**changes: str) -> dict[str, str]:
    """This process's environment without what would tell a build or a server which side to take."""
    names = ("FASTWS_", "PYTHON", "PYTEST", "CC", "CFLAGS", "LISTEN_")
    return {name: text for name, text in os.environ.items() if not name.startswith(names)} | changes


def run(*command: str | Path, cwd: Path, ok: bool = True, **changes: str) -> str:
    """Run ``command`` to its end and return all of its output; ``ok`` tells whether it is to succeed."""
    done = subprocess.run(
        command,
        cwd=cwd,
        env=environment(**changes),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
    )
    assert (done.returncode == 0) == ok, done.stdout
    return done.stdout


def wheel(source: Path, out: Path, **changes: str) -> Path:
    """Build the wheel of ``source``, a directory or an sdist, the way ``pip install`` does."""
    run(sys.executable, "-m", "pip", "wheel", "--no-deps", "-w", out, source, cwd=out.parent, **changes)
    (built,) = out.glob("*.whl")
    return built


class Environment:
    """A virtual environment with ``package`` in it and nothing else."""

    def __init__(self, directory: Path, package: Path, **changes: str) -> None:
        venv.create(directory, symlinks=True)
        self.directory = directory
        self.bin = directory / "bin"
        self.python = self.bin / "python"
        pip = (sys.executable, "-m", "pip", "--python", self.python)
        run(*pip, "install", "--no-deps", package, cwd=directory, **changes)

    def version(self) -> str:
        """What ``python -m fastws --version`` prints."""
        return run(self.python, "-m", "fastws", "--version", cwd=self.directory)

    @contextmanager
    def serving(self, root: Path) -> Iterator[str]:
        """The URL of a server started by the console script, outside the source tree."""
        command = [self.bin / "fastws", root, "--port", "0"]
        state = environment(XDG_STATE_HOME=str(self.directory))
        with subprocess.Popen(
            command, cwd=self.directory, env=state, stderr=subprocess.PIPE, text=True
        ) as process:
            try:
                assert process.stderr is not None
                # A warning of root's rights may come before the banner.
                banner = next(line for line in process.stderr if " at http" in line)
                yield banner.partition(" at ")[2].partition(" ")[0]
            finally:
                process.terminate()
                process.wait(timeout=20)


def assert_serves(environment: Environment, tmp_path: Path) -> None:
    """A page comes as it is, and the status line says 200."""
    root = tmp_path / "root"
    root.mkdir()
    (root / "index.html").write_bytes(b"<p>hello</p>")
    with environment.serving(root) as url, urllib.request.urlopen(url, timeout=10) as answer:
        assert (answer.status, answer.read()) == (200, b"<p>hello</p>")


def names_in(package: Path) -> set[str]:
    """The files in a wheel, or in an sdist below its one folder."""
    if package.suffix == ".whl":
        with zipfile.ZipFile(package) as archive:
            return set(archive.namelist())
    with tarfile.open(package) as archive:
        return {member.name.partition("/")[2] for member in archive if member.isfile()}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A copy of the sources that a build may write to."""
    return Path(shutil.copytree(REPOSITORY, tmp_path / "source", ignore=NOT_SOURCES))


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sdist, made from a tree in which an in-place build has left what such a build leaves."""
    directory = tmp_path_factory.mktemp("sdist")
    tree = Path(shutil.copytree(REPOSITORY, directory / "source", ignore=NOT_SOURCES))
    run(sys.executable, "setup.py", "-q", "build_ext", "--inplace", cwd=tree)
    run(sys.executable, "-m", "build", "--sdist", "--outdir", directory, cwd=tree)
    (made,) = directory.glob("*.tar.gz")
    return made


@pytest.fixture(scope="module")
def compiled(sdist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel made from the sdist by a compiler."""
    return wheel(sdist, tmp_path_factory.mktemp("compiled") / "out", FASTWS_REQUIRE_EXTENSIONS="1")


def test_install_without_compiler_serves_on_the_pure_side(source: Path, tmp_path: Path) -> None:
    installed = Environment(tmp_path / "venv", source, CC="/bin/false")
    assert "(parser pure, reactor pure, opener pure)\n" in installed.version()
    assert_serves(installed, tmp_path)


def test_wheel_without_extensions_is_for_every_platform_and_serves(source: Path, tmp_path: Path) -> None:
    built = wheel(source, tmp_path / "out", FASTWS_NO_EXTENSIONS="1")
    assert built.name.endswith("-py3-none-any.whl")
    assert [name for name in names_in(built) if name.endswith(".so")] == []
    installed = Environment(tmp_path / "venv", built)
    assert "(parser pure, reactor pure, opener pure)\n" in installed.version()
    assert_serves(installed, tmp_path)


def test_required_extensions_fail_without_compiler(source: Path) -> None:
    pip = (sys.executable, "-m", "pip", "wheel", "--no-deps", ".")
    said = run(*pip, cwd=source, ok=False, CC="/bin/false", FASTWS_REQUIRE_EXTENSIONS="1")
    assert "/bin/false" in said


def test_required_and_no_extensions_exclude_each_other(source: Path) -> None:
    both = {"FASTWS_REQUIRE_EXTENSIONS": "1", "FASTWS_NO_EXTENSIONS": "1"}
    said = run(sys.executable, "setup.py", "--version", cwd=source, ok=False, **both)
    assert "exclude each other" in said


def test_wheel_of_the_sdist_is_compiled_and_serves_outside_the_tree(compiled: Path, tmp_path: Path) -> None:
    installed = Environment(tmp_path / "venv", compiled)
    sides = {
        name: "compiled" if f"fastws/_{name}" in COMPILED else "pure"
        for name in ("parser", "reactor", "openat")
    }
    said = installed.version()
    assert f"(parser {sides['parser']}, reactor {sides['reactor']}, opener {sides['openat']})\n" in said
    where = run(installed.python, "-c", "import fastws; print(fastws.__file__)", cwd=tmp_path)
    assert where.startswith(str(tmp_path / "venv"))
    assert_serves(installed, tmp_path)


def test_console_scripts_are_there_and_run(compiled: Path, tmp_path: Path) -> None:
    installed = Environment(tmp_path / "venv", compiled)
    assert {path.name for path in installed.bin.glob("fastws*")} == SCRIPTS
    for name in SCRIPTS:
        assert f"usage: {name} " in run(installed.bin / name, "--help", cwd=tmp_path)


def test_wheel_holds_code_and_types_and_nothing_else(compiled: Path) -> None:
    names = names_in(compiled)
    own = {name for name in names if not name.split("/")[0].endswith(".dist-info")}
    modules = {
        str(path.relative_to(REPOSITORY))
        for path in (REPOSITORY / "fastws").rglob("*.py*")
        if path.suffix in (".py", ".pyi")
    }
    binaries = {name for name in own if name.endswith(".so")}
    assert own - binaries == modules | {"fastws/py.typed"}
    assert {name.partition(".")[0] for name in binaries} == COMPILED


def test_sdist_holds_the_sources_and_nothing_that_was_built(sdist: Path) -> None:
    names = names_in(sdist)
    sources = {
        str(path.relative_to(REPOSITORY))
        for path in (REPOSITORY / "fastws").rglob("*")
        if path.suffix in (".py", ".pyx", ".pxd", ".h", ".pyi")
    }
    assert len(sources) > 100
    assert sources <= names
    needed = {
        "setup.py",
        "pyproject.toml",
        "README.md",
        "LICENSE",
        "ws.conf",
        ".ci/run",
        "docs/configuration.md",
    }
    assert needed | {"tests/conftest.py", "webroot/index.html", "benchmarks/floor.c"} <= names
    built = [name for name in names if name.endswith((".so", ".o", ".pyc")) or name.startswith("build/")]
    assert built == []
    assert [name for name in names if name.endswith(".c") and name.startswith("fastws/")] == []
