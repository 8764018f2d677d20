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
PYTHON = sorted(PACKAGE.rglob("*.py"))
CYTHON = sorted(path for path in PACKAGE.rglob("*") if path.suffix in (".pyx", ".pxd"))

# Who may import whom: a row names every room that a room may import from; imports for types count. The hall is the
# package's own folder but for the door, which is what other programs import and run. `language` stands in no row:
# every room may import it, as it may import Python's library.
ROOMS = {
    "language": "",
    "http": "",
    "native": "",
    "h1": "http",
    "tls": "",
    "config": "http tls",
    "work": "http",
    "hot": "native",
    "hall": "http h1 hot native tls",
    "record": "http hall",
    "files": "http config hall work",
    "pages": "http files",
    "application": "http config hall",
    "processes": "http config hall application",
    "site": "http config hall record files pages application",
    "transport": "http config hall tls",
    "engine": "http h1 tls config hall work record files application processes site transport",
    "upgrade": "http config hall transport",
    "operation": "http h1 tls config hall work record files pages application processes site transport engine"
    " upgrade",
    "client": "http h1",
    "door": "http tls config hall transport operation client",
}
DOOR = {"__init__", "__main__", "createfile"}

TWINS = {"_parser", "_parser_py", "_reactor", "_reactor_py", "_openat", "_openat_py", "_tls", "_tls_py"}

# Each optional dependency and the one module that may try to import it.
OPTIONAL = {
    "bcrypt": "site/auth.py",
    "backports": "files/compression.py",
    "brotli": "files/compression.py",
    "compression": "files/compression.py",  # of the standard library from Python 3.14 on
    "rich": "client/report.py",
    "trustme": "tls/localhost.py",
}

ROOM_MODULES = 13
"""As many modules as one takes in at a glance; a room with more has two questions."""

HEAVY = (
    "argparse", "asyncio", "calendar", "concurrent", "copy", "ctypes", "dataclasses", "datetime", "decimal",
    "difflib", "email", "fnmatch", "getpass", "gettext", "hashlib", "_hashlib", "html", "http", "inspect",
    "ipaddress", "json", "locale", "mimetypes", "multiprocessing", "pathlib", "pickle", "pprint", "queue",
    "random", "shlex", "shutil", "ssl", "subprocess", "tempfile", "urllib", "uuid", "xml",
)  # fmt: skip


class Import(NamedTuple):
    """One import: ``target`` is a file of the package, or None for ``module``, a foreign top-level name."""

    target: Path | None
    module: str
    is_lazy: bool  # inside a function
    is_for_types: bool  # inside `if TYPE_CHECKING`


def shown(path: Path) -> str:
    return str(path.relative_to(PACKAGE))


def room_of(path: Path) -> str:
    parts = path.relative_to(PACKAGE).parts
    return parts[0] if len(parts) > 1 else "door" if path.stem in DOOR else "hall"


def find_module(base: Path, dotted: str) -> Path | None:
    """Return the file of the module or package that ``dotted`` names below the folder ``base``."""
    place = base.joinpath(*dotted.split(".")) if dotted else base
    for suffix in (".py", ".pyx", ".pxd"):
        if place.with_suffix(suffix).exists() and not place.is_dir():
            return place.with_suffix(suffix)
    return place / "__init__.py" if (place / "__init__.py").exists() else None


def resolve(path: Path, level: int, module: str, names: list[str], package: Path = PACKAGE) -> Iterator[Path]:
    """Yield the files that ``from <level dots><module> import <names>`` in ``path`` reads."""
    base = path.parents[level - 1] if level else package.parent
    place = base.joinpath(*module.split(".")) if module else base
    if not place.is_dir():
        found = find_module(base, module)
        assert found, f"{path}: {module} is not there"
        yield found
        return
    for name in names:
        yield find_module(place, name) or place / "__init__.py"


def imports_of(path: Path, package: Path = PACKAGE) -> list[Import]:
    """Return every import in a file, wherever it stands."""
    if path.suffix != ".py":
        return cython_imports_of(path, package)
    collector = _Collector(path, package)
    collector.visit(ast.parse(path.read_text(encoding="utf-8")))
    return collector.found


class _Collector(ast.NodeVisitor):
    """Gathers the imports of one Python file, and where they stand."""

    def __init__(self, path: Path, package: Path) -> None:
        self.found: list[Import] = []
        self._path = path
        self._package = package
        self._functions = 0  # how many enclose what is visited
        self._is_for_types = False

    def _add(self, target: Path | None, module: str) -> None:
        self.found.append(Import(target, module, self._functions > 0, self._is_for_types))

    def visit_Import(self, node: ast.Import) -> None:
        for alias in node.names:
            top = alias.name.partition(".")[0]
            is_own = top == self._package.name
            self._add(find_module(self._package.parent, alias.name) if is_own else None, top)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        module = node.module or ""
        top = module.partition(".")[0]
        if not node.level and top != self._package.name:
            self._add(None, top)
            return
        for target in resolve(
            self._path, node.level, module, [each.name for each in node.names], self._package
        ):
            self._add(target, target.stem)

    def visit_If(self, node: ast.If) -> None:
        outside = self._is_for_types
        self._is_for_types |= ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING")
        for child in node.body:
            self.visit(child)
        self._is_for_types = outside
        for child in node.orelse:
            self.visit(child)

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) -> None:
        self._functions += 1
        self.generic_visit(node)
        self._functions -= 1

    visit_AsyncFunctionDef = visit_FunctionDef
    visit_Lambda = visit_FunctionDef


def cython_imports_of(path: Path, package: Path = PACKAGE) -> list[Import]:
    """Return what a .pyx or .pxd imports or cimports of the package."""
    text = re.sub(
        r"\((.*?)\)",
        lambda match: match[1].replace("\n", " "),
        path.read_text(encoding="utf-8"),
        flags=re.DOTALL,
    )
    found: list[Import] = []
    for match in re.finditer(
        r"^[ \t]*from[ \t]+(\.*)([\w.]*)[ \t]+c?import[ \t]+([\w, \t]+)", text, re.MULTILINE
    ):
        dots, module, names = match[1], match[2], re.findall(r"\w+", match[3])
        if dots or module.partition(".")[0] == package.name:
            found += [
                Import(target, target.stem, False, False)
                for target in resolve(path, len(dots), module, names, package)
            ]
    for name in re.findall(rf"^[ \t]*c?import[ \t]+({package.name}[\w.]*)", text, re.MULTILINE):
        found.append(Import(find_module(package.parent, name), name.rpartition(".")[2], False, False))
    return found


# Who may import whom


def test_the_rooms_lie_in_one_order() -> None:
    seen: set[str] = set()
    for room, below in ROOMS.items():
        assert set(below.split()) <= seen, room
        seen.add(room)
    assert {room_of(path) for path in [*PYTHON, *CYTHON]} == seen


@pytest.mark.parametrize("path", [*PYTHON, *CYTHON], ids=shown)
def test_a_module_imports_only_from_the_rooms_of_its_row(path: Path) -> None:
    assert against_the_rooms(path, imports_of(path)) == []


def against_the_rooms(path: Path, imports: list[Import]) -> list[str]:
    own = room_of(path)
    allowed = {own, "language", *ROOMS[own].split()}
    return [shown(found.target) for found in imports if found.target and room_of(found.target) not in allowed]


def test_no_files_import_each_other_in_a_circle() -> None:
    graph = {
        path: {found.target for found in imports_of(path) if found.target} for path in [*PYTHON, *CYTHON]
    }
    assert circle_in(graph) == []


def circle_in(graph: dict[Path, set[Path]]) -> list[str]:
    """Return the first circle among files, [] if there is none; a .pyx and its own .pxd are one."""
    over: set[Path] = set()

    def visit(path: Path, way: tuple[Path, ...]) -> list[str]:
        if path in way:
            return [each.name for each in way[way.index(path) :]]
        if path in over:
            return []
        for other in sorted(graph.get(path, set())):
            if other.with_suffix("") != path.with_suffix("") and (found := visit(other, (*way, path))):
                return found
        over.add(path)
        return []

    for path in graph:
        if found := visit(path, ()):
            return found
    return []


def test_a_circle_is_noticed() -> None:
    a, b, c, d = (Path(f"{name}.py") for name in "abcd")
    assert circle_in({a: {b}, b: {c}, c: {a}, d: {a}}) == ["a.py", "b.py", "c.py"]
    assert circle_in({a: {b, c}, b: {c}, d: {a}}) == []


def test_each_way_of_importing_is_seen_and_judged(tmp_path: Path) -> None:
    package = tmp_path / "house"
    for name in (
        "site/__init__",
        "site/site",
        "http/__init__",
        "http/errors",
        "engine/__init__",
        "engine/worker",
        "_scan",
        "seam",
    ):
        (package / name).parent.mkdir(parents=True, exist_ok=True)
        (package / f"{name}.py").touch()
    source = package / "site" / "module.py"
    source.write_text(
        "from typing import TYPE_CHECKING\nimport house.seam\nfrom ..http.errors import HTTPError\n"
        "from . import site\nfrom .. import _scan\nfrom ..http import errors as e, CONSTANT\n"
        "if TYPE_CHECKING:\n    from ..engine.worker import W\n"
        "def f():\n    from house.engine import worker\n    import brotli\n"
    )
    found = [
        (
            str(item.target.relative_to(package)) if item.target else item.module,
            item.is_lazy,
            item.is_for_types,
        )
        for item in imports_of(source, package)
    ]
    assert found == [
        ("typing", False, False), ("seam.py", False, False), ("http/errors.py", False, False),
        ("site/site.py", False, False),
        ("_scan.py", False, False), ("http/errors.py", False, False), ("http/__init__.py", False, False),
        ("engine/worker.py", False, True), ("engine/worker.py", True, False), ("brotli", True, False),
    ]  # fmt: skip
    source = package / "site" / "module.pyx"
    source.write_text(
        "from .._scan cimport (\n  x, y\n)\n  from ..http.errors import y\ncimport house.seam\n"
        "from ..engine cimport worker\nfrom libc.errno cimport errno\n"
    )
    assert [item.module for item in imports_of(source, package)] == ["_scan", "errors", "worker", "seam"]
    wrong = Import(PACKAGE / "engine" / "worker.py", "worker", False, True)
    assert against_the_rooms(PACKAGE / "site" / "site.py", [wrong]) == ["engine/worker.py"]
    assert against_the_rooms(PACKAGE / "operation" / "server.py", [wrong]) == []


@pytest.mark.parametrize("room", [room for room in ROOMS if room not in ("hall", "door")])
def test_a_room_is_taken_in_at_a_glance(room: str) -> None:
    modules = {
        path.stem for path in (PACKAGE / room).iterdir() if path.suffix in (".py", ".pyx", ".pxd", ".h")
    }
    assert 0 < len(modules - {"__init__"}) <= ROOM_MODULES
    assert ast.get_docstring(ast.parse((PACKAGE / room / "__init__.py").read_text())), (
        "a room has one sentence"
    )


@pytest.mark.parametrize("path", PYTHON, ids=shown)
def test_named_tuples_are_those_that_cost_a_start_little(path: Path) -> None:
    names = [
        alias.name
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom) and node.module == "typing"
        for alias in node.names
    ]
    assert "NamedTuple" not in names or room_of(path) in ("client", "language"), "see language/named_tuple.py"


@pytest.mark.parametrize("room", [room for room in ROOMS if room not in ("hall", "door")])
def test_the_picture_has_every_room(room: str) -> None:
    picture = (PACKAGE.parent / "docs" / "house.svg").read_text(encoding="utf-8")
    assert f"{room}/" in picture


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


@pytest.mark.parametrize("path", [path for path in PYTHON if path.stem != "backend"], ids=shown)
def test_only_backend_names_or_chooses_a_twin(path: Path) -> None:
    assert not TWINS & {found.module for found in imports_of(path)}
    for text in _literals(path):
        assert not re.search(
            r"\b_(parser|reactor|openat|tls)(_py)?\b|FASTWS_(NO|REQUIRE)_EXTENSIONS", text
        ), text
    called = {node.attr for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Attribute)}
    assert not called & {"import_module", "find_spec"}


def test_backend_does_name_the_twins() -> None:
    literals = _literals(PACKAGE / "backend.py")
    assert {"_parser", "_reactor", "FASTWS_NO_EXTENSIONS", "FASTWS_REQUIRE_EXTENSIONS"} <= literals


# What may be imported from elsewhere


@pytest.mark.parametrize("path", PYTHON, ids=shown)
def test_an_optional_dependency_is_tried_in_its_one_module_and_lazily(path: Path) -> None:
    for found in imports_of(path):
        if found.target:
            continue
        if found.module in OPTIONAL:
            assert shown(path) == OPTIONAL[found.module], found
            assert found.is_lazy or found.is_for_types, found
        else:
            assert found.module in sys.stdlib_module_names, found


def test_every_optional_dependency_is_still_tried() -> None:
    foreign = {
        (found.module, shown(path)) for path in PYTHON for found in imports_of(path) if not found.target
    }
    assert set(OPTIONAL.items()) <= foreign


_START = """
import socket, sys
from fastws.operation.cli import find_source
from fastws.operation.process import Server
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
    environment.pop("FASTWS_REQUIRE_EXTENSIONS", None)  # set by the run under sanitizers
    run = subprocess.run(
        [sys.executable, "-S", "-c", _START], capture_output=True, text=True, env=environment, cwd=tmp_path
    )
    assert run.returncode == 0, run.stderr
    loaded = set(run.stdout.split())
    assert "fastws.engine.worker" in loaded
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
    factory = _signatures(_class_of("backend.py", "ReactorFactory"))  # which is the class
    contract |= {name: signature.replace("(self)", "()") for name, signature in factory.items()}
    for name in ("side", "replays", "send_small"):  # which one of them has as attributes; mypy compares these
        del contract[name]
    inherited = _signatures(_class_of("replays_nothing.py", "ReplaysNothing")) if file.endswith(".py") else {}
    found = inherited | _signatures(_class_of(file, "Reactor"))
    assert {name: found[name] for name in found if name != "send_small"} == contract


# What may be used


@pytest.mark.parametrize("path", CYTHON, ids=shown)
def test_nothing_of_cythons_own_is_used(path: Path) -> None:
    """Its next version may lack it, and where a module cannot be compiled the pure one is installed instead."""
    assert "__Pyx" not in path.read_text(encoding="utf-8")


# What is found without running it


def test_import_statements_of_the_program_lead_to_every_twin_and_compiled_module() -> None:
    # PyInstaller and the like look no further, and find nothing in what is compiled.
    found, waiting = set[Path](), [PACKAGE / "operation" / "cli.py"]
    while waiting:
        path = waiting.pop()
        if path not in found:
            found.add(path)
            if path.suffix == ".py":
                waiting += [each.target for each in imports_of(path) if each.target is not None]
    wanted = {path for path in CYTHON if path.suffix == ".pyx"} | {
        PACKAGE / f"{n}.py" for n in TWINS if "_py" in n
    }
    assert sorted(map(shown, wanted - found)) == []


def test_each_file_of_tests_has_a_name_of_its_own() -> None:
    """pytest imports them by it: of two with one name, a run of the whole suite collects one."""
    names = [path.name for path in Path(__file__).parents[1].rglob("test_*.py")]
    assert sorted({name for name in names if names.count(name) > 1}) == []
