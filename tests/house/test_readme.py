"""What the README says: its commands, examples and tables, as a reader would try them."""

from __future__ import annotations

import ast
import os
import re
import shutil
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from fastws import load
from fastws.config.directives import DIRECTIVES, reference
from fastws.site.hidden import OwnFiles

REPOSITORY = Path(__file__).resolve().parents[2]
PACKAGE = REPOSITORY / "fastws"
README = (REPOSITORY / "README.md").read_text()
TEST_COMMAND = "python3 -m venv .venv && .venv/bin/pip install -q -e '.[dev]' && .venv/bin/python -m pytest"
NOT_CLONED = shutil.ignore_patterns(
    ".git", ".venv*", ".*_cache", ".hypothesis", ".benchmarks", "build", "*.egg-info", "__pycache__", "*.so",
    "log_*.txt",
)  # fmt: skip


def blocks(language: str) -> list[str]:
    """The fenced examples in ``language``."""
    found = re.findall(r"^```(\w*)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
    return [text for name, text in found if name == language]


def section(title: str) -> str:
    """The text below the heading ``title``, up to the next one."""
    return re.split(r"^#+ ", README.split(f"# {title}\n")[1], maxsplit=1, flags=re.MULTILINE)[0]


def example(word: str, language: str) -> str:
    """The one example that holds ``word``."""
    (found,) = [block for block in blocks(language) if word in block]
    return found


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A directory with the public/ that the examples serve, and the ws.conf of the README."""
    (tmp_path / "public").mkdir()
    (tmp_path / "public" / "index.html").write_text("<p>hello</p>")
    (tmp_path / "ws.conf").write_text(example("DocumentRoot", ""))
    return tmp_path


def environment() -> dict[str, str]:
    """An environment in which the package is found from anywhere."""
    return os.environ | {"PYTHONPATH": str(REPOSITORY)}


def stop_after_the_banner(process: subprocess.Popen[str]) -> str:
    """Return the banner's URL and its index page's text, and end the server by SIGTERM, which it must obey."""
    assert process.stderr is not None
    try:
        banner = next(line for line in process.stderr if line.startswith("fastws "))
        url = banner.partition(" at ")[2].partition(" ")[0]
        with urllib.request.urlopen(url, timeout=10) as answer:
            body = answer.read().decode()
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=20) == 0
    finally:
        process.kill()
    return str(body)


def test_every_set_up_is_one_line_to_paste() -> None:
    commands = [block for block in blocks("sh") if "venv" in block and "-m venv" in block]
    assert len(commands) == 2
    assert all(command.count("\n") == 1 for command in commands)


def test_test_command_is_what_ci_runs() -> None:
    assert TEST_COMMAND + "\n" in blocks("sh")
    assert TEST_COMMAND in (REPOSITORY / ".ci" / "run").read_text()


@pytest.mark.build
@pytest.mark.timeout(600)
def test_demo_command_serves_the_demo_from_nothing(tmp_path: Path) -> None:
    clone = Path(shutil.copytree(REPOSITORY, tmp_path / "clone", ignore=NOT_CLONED))
    (command,) = [line for line in blocks("sh") if line.endswith("&& .venv/bin/python -m fastws\n")]
    # So that the signal to stop reaches the server and not the shell that waits for it.
    command = command.strip().replace("&& .venv/bin/python", "&& exec .venv/bin/python") + " --port 0"
    left_out = ("FASTWS_", "PYTHON", "PYTEST")
    clean = {name: text for name, text in os.environ.items() if not name.startswith(left_out)}
    with subprocess.Popen(
        ["sh", "-c", command], cwd=clone, env=clean, stderr=subprocess.PIPE, text=True
    ) as process:
        assert "<h1" in stop_after_the_banner(process)


def test_configuration_example_is_right(site: Path) -> None:
    config = load(str(site / "ws.conf"))
    assert (config.document_root, config.listen_ports) == (str(site / "public"), (8080,))
    assert config.cache_control[0] == ("/assets/*", "public, max-age=31536000, immutable")


def test_embedding_example_prints_200(site: Path) -> None:
    code = example("with Server", "python")
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=site, env=environment(), capture_output=True, text=True, timeout=30
    )
    assert (done.stdout, done.stderr, done.returncode) == ("200\n", "", 0)


def test_serve_example_serves_until_a_signal(site: Path) -> None:
    code = example("fastws.serve", "python").replace(
        '"ws.conf"', 'fastws.load("ws.conf").with_overrides(listen_ports=(0,))'
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], cwd=site, env=environment(), stderr=subprocess.PIPE, text=True
    ) as process:
        assert stop_after_the_banner(process) == "<p>hello</p>"


def test_short_table_of_directives_is_part_of_the_long_one() -> None:
    rows = re.findall(r"^\| `.*$", section("Configure it"), re.MULTILINE)
    assert len(rows) > 10
    page = [line.rpartition(" | `")[0] + " |" for line in reference().splitlines()]  # without names in Python
    assert [row for row in rows if row not in page] == []


def modules_of_the_server() -> set[Path]:
    """The modules that a process that serves may import, directly or by another."""
    found, waiting = set(), [PACKAGE / "operation" / "process.py"]
    while waiting:
        path = waiting.pop()
        if path not in found and path.is_file():
            found.add(path)
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.ImportFrom) and node.level:
                    place = path.parents[node.level - 1].joinpath(*(node.module or "").split("."))
                    names = [place, *(place / alias.name for alias in node.names)]
                    waiting += [name.with_suffix(".py") for name in names]
    return found


class FieldsRead(ast.NodeVisitor):
    """The names that code reads of something called config, as ``config.host`` or ``self.config.host``.

    What stands in a class that is ``left_out``, or as a statement of its own, is not read for anything.
    """

    def __init__(self, left_out: str) -> None:
        self.found: set[str] = set()
        self._left_out = left_out

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        if node.name != self._left_out:
            self.generic_visit(node)

    def visit_Expr(self, node: ast.Expr) -> None:
        if not isinstance(node.value, ast.Attribute):
            self.generic_visit(node)

    def visit_Attribute(self, node: ast.Attribute) -> None:
        of = node.value.id if isinstance(node.value, ast.Name) else getattr(node.value, "attr", "")
        if of.lstrip("_") == "config" and isinstance(node.ctx, ast.Load):
            self.found.add(node.attr)
        self.generic_visit(node)


def fields_read(code: str, left_out: str = "") -> set[str]:
    visitor = FieldsRead(left_out)
    visitor.visit(ast.parse(code))
    return visitor.found


def fields_behind(properties: set[str]) -> set[str]:
    """The fields that these properties of ``Config`` are made of."""
    tree = ast.parse((PACKAGE / "config" / "settings.py").read_text())
    made = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and node.name in properties]
    attributes = [node for one in made if one.decorator_list for node in ast.walk(one)]
    return {node.attr for node in attributes if isinstance(node, ast.Attribute)}


def test_no_directive_is_without_effect() -> None:
    # The parsers know every directive. To hide the password file from clients is not to ask for a password.
    modules = {path for path in modules_of_the_server() if path.parent.name != "config"}
    assert len(modules) > 40
    read = set[str]()
    for path in modules:
        read |= fields_read(path.read_text(), OwnFiles.__name__)
    read |= fields_behind(read)
    assert [row.name for row in DIRECTIVES if row.field not in read] == []


def test_fields_that_are_only_spoken_of_are_not_read() -> None:
    code = """
# config.one
def f(config):
    "config.two"
    config.three
    other.four, config.five = 1, 2
    return config.six + self._config.seven + self.server.config.eight
class Hidden:
    nine = config.nine
"""
    assert fields_read(code, "Hidden") == {"six", "seven", "eight"}


def test_links_lead_somewhere() -> None:
    pages = [REPOSITORY / "README.md", *REPOSITORY.glob("*.md"), *(REPOSITORY / "docs").glob("*.md")]
    for page in pages:
        for link in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
            assert (page.parent / link).exists(), f"{page.name}: {link}"
