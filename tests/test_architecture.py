"""The rules of the modules: who may import whom, who may choose, what may be long, what may be loaded."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

import fastws

PACKAGE = Path(fastws.__file__).parent
PYTHON = sorted(PACKAGE.glob("*.py"))
CYTHON = sorted([*PACKAGE.glob("*.pyx"), *PACKAGE.glob("*.pxd")])

# A module imports only from rows above its own. `if TYPE_CHECKING` may look anywhere.
ROWS = (
    # vocabulary
    "errors events hashes mediatypes messages urlpath version vocabulary",
    "values",
    "redirects",
    "directives",
    "draft",
    "state_directory",
    "config",
    # rules, no I/O
    "forms grammar httpdate negotiation pages policy ranges status_page",
    "conditional framing",
    "target",
    # twins
    "_accept _line _moment _named _openat_py _scan _sendfile _stat",
    "_epoll _fields _lines _table",
    "_gathered",
    "_hit",
    "_openat _parser _parser_py _reactor _reactor_py",
    "backend",
    # resources
    "accepting accesslog background clock files listener privileges resources systemd tally timers transmit",
    "auth checks own_files compression errorhandlers listing representation",
    "variants",
    "locate status",
    "doubts filling",
    "publication",
    "site",
    # engine
    "answer states",
    "connection",
    "worker",
    # assembly
    "server",
    "process",
    "__init__",
    "cli",
    "__main__",
)
LEVEL = {module: level for level, row in enumerate(ROWS) for module in row.split()}
VOCABULARY = {module for row in ROWS[:7] for module in row.split()}

# Programs beside the server: they use the vocabulary, backend, and the rows above of their own.
APART_ROWS = ("client_connection client_report createfile", "client")
APART = {module: level for level, row in enumerate(APART_ROWS) for module in row.split()}

TWINS = {"_parser", "_parser_py", "_reactor", "_reactor_py"}

# Each optional dependency and the one module that may try to import it.
OPTIONAL = {
    "bcrypt": "auth",
    "backports": "compression",
    "brotli": "compression",
    "compression": "compression",  # of the standard library from Python 3.14 on
    "rich": "client_report",
}

PY_LINES, PYX_LINES = 400, 700

HEAVY = (
    "argparse", "asyncio", "calendar", "concurrent", "copy", "ctypes", "dataclasses", "datetime", "decimal",
    "difflib", "email", "fnmatch", "getpass", "gettext", "hashlib", "_hashlib", "html", "http", "inspect",
    "ipaddress", "json", "locale", "mimetypes", "multiprocessing", "pathlib", "pickle", "pprint", "queue",
    "random", "shlex", "shutil", "ssl", "subprocess", "tempfile", "urllib", "uuid", "xml",
)  # fmt: skip


class Import(NamedTuple):
    """One import: ``module`` is a fastws module without the package's name, or a foreign top-level name."""

    module: str
    is_own: bool
    is_lazy: bool  # inside a function
    is_for_types: bool  # inside `if TYPE_CHECKING`


def _module_of(name: str) -> str:
    """Return what ``from . import name`` imports: a module, or something that __init__ holds."""
    return (
        name
        if any((PACKAGE / f"{name}{suffix}").exists() for suffix in (".py", ".pyx", ".pxd"))
        else "__init__"
    )


def _targets(node: ast.Import | ast.ImportFrom) -> Iterator[tuple[str, bool]]:
    if isinstance(node, ast.Import):
        for alias in node.names:
            top, _, rest = alias.name.partition(".")
            yield (rest.partition(".")[0] or "__init__", True) if top == "fastws" else (top, False)
        return
    top, _, rest = (node.module or "").partition(".")
    if node.level or top == "fastws":
        module = top if node.level else rest
        yield from (
            [(module.partition(".")[0], True)] if module else [(_module_of(a.name), True) for a in node.names]
        )
    else:
        yield top, False


def imports_of(path: Path) -> list[Import]:
    """Return every import in a Python file, wherever it stands."""
    found: list[Import] = []

    def visit(node: ast.AST, is_lazy: bool, is_for_types: bool) -> None:
        if isinstance(node, ast.Import | ast.ImportFrom):
            found.extend(Import(name, is_own, is_lazy, is_for_types) for name, is_own in _targets(node))
        if isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING"):
            for child in node.body:
                visit(child, is_lazy, True)
            for child in node.orelse:
                visit(child, is_lazy, is_for_types)
            return
        is_function = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        for child in ast.iter_child_nodes(node):
            visit(child, is_lazy or is_function, is_for_types)

    visit(ast.parse(path.read_text(encoding="utf-8")), False, False)
    return found


def cython_imports_of(path: Path) -> set[str]:
    """Return the fastws modules that a .pyx or .pxd imports or cimports."""
    text = path.read_text(encoding="utf-8")
    named = re.findall(r"^\s*from\s+(?:\.|fastws\.)(\w+)\s+c?import\b", text, re.MULTILINE)
    named += re.findall(r"^\s*c?import\s+fastws\.(\w+)", text, re.MULTILINE)
    for names in re.findall(r"^\s*from\s+(?:\.|fastws)\s+c?import\s+([\w, ]+)", text, re.MULTILINE):
        named += [_module_of(name.strip()) for name in names.split(",")]
    return set(named)


# Who may import whom


def test_every_module_has_its_row() -> None:
    assert {path.stem for path in [*PYTHON, *CYTHON]} == LEVEL.keys() | APART.keys()


@pytest.mark.parametrize("path", PYTHON, ids=lambda path: path.stem)
def test_a_module_imports_only_from_rows_above(path: Path) -> None:
    imported = {found.module for found in imports_of(path) if found.is_own and not found.is_for_types}
    assert _not_above(path.stem, imported) == set()


@pytest.mark.parametrize("path", CYTHON, ids=lambda path: path.name)
def test_a_cython_module_imports_only_from_rows_above(path: Path) -> None:
    # A module may see its own declarations.
    assert _not_above(path.stem, cython_imports_of(path) - {path.stem}) == set()


def _not_above(module: str, imported: set[str]) -> set[str]:
    if module in APART:
        return {
            name
            for name in imported
            if name not in VOCABULARY | {"backend"} and APART.get(name, len(APART)) >= APART[module]
        }
    return {name for name in imported if LEVEL.get(name, len(ROWS)) >= LEVEL[module]}


def test_an_import_from_below_or_beside_is_noticed() -> None:
    assert _not_above("grammar", {"errors", "messages"}) == set()
    assert _not_above("grammar", {"framing", "httpdate", "client", "nowhere"}) == {
        "framing", "httpdate", "client", "nowhere",
    }  # fmt: skip
    assert _not_above("client", {"server", "grammar", "client", "errors", "backend", "createfile"}) == {
        "server", "grammar", "client",
    }  # fmt: skip


def test_each_way_of_importing_is_seen(tmp_path: Path) -> None:
    source = tmp_path / "module.py"
    source.write_text(
        "from typing import TYPE_CHECKING\nimport fastws\nimport fastws.site\nfrom fastws import target\n"
        "from . import framing, serve\nfrom .errors import HTTPError\n"
        "if TYPE_CHECKING:\n    from .worker import W\n"
        "def f():\n    from .grammar import TOKEN\n    import brotli\n"
    )
    found = imports_of(source)
    assert {item.module for item in found if item.is_own and not item.is_for_types} == {
        "__init__", "site", "target", "framing", "errors", "grammar",
    }  # fmt: skip
    assert [item.module for item in found if item.is_for_types] == ["worker"]
    assert [item.module for item in found if item.is_lazy] == ["grammar", "brotli"]
    source.write_text(
        "from ._scan cimport (\n  x)\n  from .grammar import y\ncimport fastws._table\nfrom . cimport _line\n"
    )
    assert cython_imports_of(source) == {"_scan", "grammar", "_table", "_line"}


# Who may choose


def _literals(path: Path) -> set[str]:
    """Return the string constants of a module but for its docstrings."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    statements = (node.value for node in ast.walk(tree) if isinstance(node, ast.Expr))
    docstrings = {id(value) for value in statements if isinstance(value, ast.Constant)}
    return {
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings
    }


@pytest.mark.parametrize(
    "path", [path for path in PYTHON if path.stem != "backend"], ids=lambda path: path.stem
)
def test_only_backend_names_or_chooses_a_twin(path: Path) -> None:
    assert not TWINS & {found.module for found in imports_of(path)}
    for text in _literals(path):
        assert not re.search(r"\b_(parser|reactor)(_py)?\b|FASTWS_(NO|REQUIRE)_EXTENSIONS", text), text
    called = {node.attr for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Attribute)}
    assert not called & {"import_module", "find_spec"}


def test_backend_does_name_the_twins() -> None:
    literals = _literals(PACKAGE / "backend.py")
    assert {"_parser", "_reactor", "FASTWS_NO_EXTENSIONS", "FASTWS_REQUIRE_EXTENSIONS"} <= literals


# What may be imported from elsewhere


@pytest.mark.parametrize("path", PYTHON, ids=lambda path: path.stem)
def test_an_optional_dependency_is_tried_in_its_one_module_and_lazily(path: Path) -> None:
    for found in imports_of(path):
        if found.is_own:
            continue
        if found.module in OPTIONAL:
            assert path.stem == OPTIONAL[found.module], found
            assert found.is_lazy or found.is_for_types, found
        else:
            assert found.module in sys.stdlib_module_names, found


def test_every_optional_dependency_is_still_tried() -> None:
    foreign = {(found.module, path.stem) for path in PYTHON for found in imports_of(path) if not found.is_own}
    assert set(OPTIONAL.items()) <= foreign


_START = """
import socket, sys
from fastws.cli import find_source
from fastws.process import Server
with Server(find_source().read().with_overrides(listen_ports=(0,), worker_threads=1)) as server:
    with socket.create_connection(("127.0.0.1", server.port)) as client:
        client.sendall(b"GET / HTTP/1.1\\r\\nHost: x\\r\\nAccept-Encoding: gzip\\r\\n\\r\\n")
        assert client.recv(100).startswith(b"HTTP/1.1 200 "), "no answer"
    print(*sys.modules)
"""


@pytest.mark.parametrize("pure", ["0", "1"])
def test_a_start_and_a_first_answer_load_no_heavy_module(pure: str, tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text("here")
    environment = os.environ | {
        "FASTWS_NO_EXTENSIONS": pure, "PYTHONPATH": str(PACKAGE.parent), "XDG_STATE_HOME": str(tmp_path / "state")
    }  # fmt: skip
    run = subprocess.run(
        [sys.executable, "-S", "-c", _START], capture_output=True, text=True, env=environment, cwd=tmp_path
    )
    assert run.returncode == 0, run.stderr
    loaded = set(run.stdout.split())
    assert "fastws.worker" in loaded
    found = [name for name in HEAVY if name in loaded]
    assert not found, (
        f"a plain start loads {', '.join(found)}: each costs milliseconds of the time to the first answer. Import"
        " it in the function that needs it, or do without; python -X importtime -m fastws tells who loads it"
    )


# The twins' contract


def _signatures(tree: ast.AST) -> dict[str, str]:
    """Return the parameters and results of the public functions in a module's or class's body."""
    return {
        node.name: f"({ast.unparse(node.args)}) -> {node.returns and ast.unparse(node.returns)}"
        for node in ast.iter_child_nodes(tree)
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_")
    }


def _class_of(file: str, name: str) -> ast.ClassDef:
    tree = ast.parse((PACKAGE / file).read_text(encoding="utf-8"))
    return next(node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == name)


@pytest.mark.parametrize("file", ["_parser_py.py", "_parser.pyi"])
def test_parsers_have_the_contracts_signatures(file: str) -> None:
    contract = _signatures(_class_of("backend.py", "Parser"))
    del contract["side"]
    found = _signatures(ast.parse((PACKAGE / file).read_text(encoding="utf-8")))
    assert {name: found[name] for name in contract} == {
        name: signature.replace("(self, ", "(") for name, signature in contract.items()
    }


@pytest.mark.parametrize("file", ["_reactor_py.py", "_reactor.pyi"])
def test_reactors_have_the_contracts_signatures(file: str) -> None:
    contract = _signatures(_class_of("backend.py", "Reactor"))
    for name in ("side", "replays"):
        del contract[name]
    assert _signatures(_class_of(file, "Reactor")) == contract


# What may be long


@pytest.mark.parametrize("path", [*PYTHON, *CYTHON], ids=lambda path: path.name)
def test_no_module_is_too_long(path: Path) -> None:
    lines = len(path.read_text(encoding="utf-8").splitlines())
    assert lines <= (PY_LINES if path.suffix == ".py" else PYX_LINES)


@pytest.mark.parametrize("path", CYTHON, ids=lambda path: path.name)
def test_nothing_of_cythons_own_is_used(path: Path) -> None:
    """Its next version may lack it, and where a module cannot be compiled the pure one is installed instead."""
    assert "__Pyx" not in path.read_text(encoding="utf-8")
