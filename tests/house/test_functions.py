"""How long, wide and branched a function may be; ruff says the same of Python, but for its length."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]

FUNCTION_LINES = 60
"""As many as one screen shows; ruff counts statements, of which one may take many lines."""
FUNCTION_ARGUMENTS = 7
FUNCTION_COMPLEXITY = 12


class Function(NamedTuple):
    """Arguments without ``self``; ``complexity`` is 0 where ruff counts it."""

    name: str
    lines: int
    arguments: int = 0
    complexity: int = 0


def sources() -> list[Path]:
    found: list[Path] = []
    for folder in ("fastws", "tests", "benchmarks", "fuzz", ".ci", "docs"):
        for suffix in (".py", ".pyx", ".pxd", ".h", ".c"):
            found += (REPOSITORY / folder).rglob(f"*{suffix}")
    return [path for path in found if "build" not in path.parts]


def functions(path: Path) -> Iterator[Function]:
    """Yield every function of a file, inner ones too."""
    text = path.read_text(encoding="utf-8")
    return {".py": of_python, ".pyx": of_cython, ".pxd": of_cython}.get(path.suffix, of_c)(text)


def of_python(text: str) -> Iterator[Function]:
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield Function(node.name, (node.end_lineno or 0) - node.lineno + 1)


CYTHON_HEAD = re.compile(r"( *)(?:def|c(?:p?)def) [^=\n(]*?(\w+)\(([^)]*)\)[^=\n]*:\n", re.MULTILINE)
BRANCH = re.compile(r" *(?:if|elif|for|while|except|case)\b")


def of_cython(text: str) -> Iterator[Function]:
    """A function ends before the next line that is indented no deeper than its head."""
    for head in CYTHON_HEAD.finditer(text):
        body: list[str] = []
        for line in text[head.end() :].split("\n"):
            if line.strip() and not line.startswith(head[1] + " "):
                break
            body.append(line)
        while body and not body[-1].strip():
            body.pop()
        arguments = [each.strip() for each in head[3].split(",") if each.strip()]
        yield Function(
            head[2],
            head[0].count("\n") + len(body),
            len([each for each in arguments if each not in ("self", "*", "/")]),
            1 + sum(BRANCH.match(line) is not None for line in body),
        )


C_FUNCTION = re.compile(r"^\w[^;{}=#]*?(\w+)\(([^;{}]*)\)\s*\{\n.*?^\}", re.MULTILINE | re.DOTALL)


def of_c(text: str) -> Iterator[Function]:
    """A function ends with a brace in the first column."""
    for found in C_FUNCTION.finditer(text):
        branches = re.findall(r"\b(?:if|for|while|case)\b", found[0])
        arguments = [each for each in found[2].split(",") if each.strip() != "void"]
        yield Function(found[1], found[0].count("\n") + 1, len(arguments), 1 + len(branches))


def excess(function: Function) -> str:
    """Return what exceeds its bound, "" if nothing does."""
    return ", ".join(
        f"{number} {what}, {bound} allowed"
        for number, what, bound in (
            (function.lines, "lines", FUNCTION_LINES),
            (function.arguments, "arguments", FUNCTION_ARGUMENTS),
            (function.complexity, "branches", FUNCTION_COMPLEXITY),
        )
        if number > bound
    )


def test_every_function_is_taken_in_at_a_glance() -> None:
    found = {
        f"{path.relative_to(REPOSITORY)}: {function.name}": said
        for path in sources()
        for function in functions(path)
        if (said := excess(function))
    }
    assert found == {}


@pytest.mark.parametrize(
    ("suffix", "text", "expected"),
    [
        (
            ".py",
            "class C:\n    def f(self, a):\n        if a:\n            return 1\n\nX = 1\n",
            Function("f", 3),
        ),
        (
            ".pyx",
            "cdef class C:\n    cdef inline int *f(self, const char *a,\n          int b) except -1:\n"
            "        cdef int x = 1\n\n        if x:\n            return 1\n\n    x = g(1)\n",
            Function("f", 6, 2, 2),
        ),
        (
            ".c",
            "#define X 1\nstatic int f(int a, char *b)\n{\n    if (a) {\n        return 1;\n    }\n}\n"
            "int g(void);\n",
            Function("f", 6, 2, 2),
        ),
    ],
)
def test_functions_are_found_and_counted(suffix: str, text: str, expected: Function, tmp_path: Path) -> None:
    path = tmp_path / f"source{suffix}"
    path.write_text(text)
    assert list(functions(path)) == [expected]


def test_every_kind_of_source_has_functions() -> None:
    """A folder that has moved, or a pattern that no longer fits, would pass for ever."""
    suffixes = {path.suffix for path in sources() if any(functions(path))}
    assert suffixes >= {".py", ".pyx", ".h", ".c"}
    defined = sum(
        len(re.findall(r"^ *(?:def|cp?def)\b[^=\n]*\(", path.read_text(), re.MULTILINE))
        for path in sources()
        if path.suffix == ".pyx"
    )
    assert sum(len(list(functions(path))) for path in sources() if path.suffix == ".pyx") >= 0.9 * defined


def test_what_exceeds_a_bound_is_named() -> None:
    assert excess(Function("f", 60, 7, 12)) == ""
    assert (
        excess(Function("f", 61, 8, 13))
        == "61 lines, 60 allowed, 8 arguments, 7 allowed, 13 branches, 12 allowed"
    )
