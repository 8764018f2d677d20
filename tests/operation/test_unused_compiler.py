"""What a server says that could have been compiled."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from launch import environment

from fastws import backend
from fastws.operation.doubts import unused_compiler

PURE = backend.load(pure=True)

WITHOUT_EXTENSIONS = """
import importlib.abc, sys
class Missing(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name in ("fastws._parser", "fastws._reactor", "fastws._openat"):
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Missing())
from fastws.operation import cli
sys.exit(cli.main())
"""
"""A server as an install without the compiled modules runs it."""


@pytest.fixture
def compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory of programs with a compiler and nothing else."""
    program = tmp_path / "bin" / "cc"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent))
    monkeypatch.delenv("FASTWS_NO_EXTENSIONS", raising=False)
    monkeypatch.delenv("CC", raising=False)
    return program


def test_pure_parser_beside_a_compiler_is_told_with_the_remedy(compiler: Path) -> None:
    said = unused_compiler(PURE)
    assert said.startswith("pure Python runs although a C compiler is here (")
    assert "pip install " in said


def test_compiler_named_by_cc_counts(compiler: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compiler.rename(compiler.with_name("my-cc"))
    assert unused_compiler(PURE) == ""
    monkeypatch.setenv("CC", "my-cc -m64")
    assert "(my-cc)" in unused_compiler(PURE)


def test_nothing_is_said_without_a_compiler(compiler: Path) -> None:
    compiler.unlink()
    assert unused_compiler(PURE) == ""


def test_nothing_is_said_where_pure_was_meant(compiler: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FASTWS_NO_EXTENSIONS", "1")
    assert unused_compiler(PURE) == ""


def test_nothing_is_said_where_the_parser_is_compiled(compiler: Path) -> None:
    compiled = PURE._replace(parser=SimpleNamespace(side="compiled"))  # type: ignore[arg-type]
    assert unused_compiler(compiled) == ""


def test_start_says_it_on_the_terminal_and_in_the_error_log(tmp_path: Path, compiler: Path) -> None:
    (tmp_path / "root").mkdir()
    found = environment("compiled", tmp_path / "state") | {"PATH": str(compiler.parent)}
    words = ["root", "--port", "0", "--error-log", "errors.txt", "--access-log", "off"]
    popen = subprocess.Popen(
        [sys.executable, "-c", WITHOUT_EXTENSIONS, *words],
        cwd=tmp_path,
        env=found | {"FASTWS_NO_EXTENSIONS": "0"},
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert popen.stderr
        lines: list[str] = []
        while "http://" not in "".join(lines):
            lines.append(popen.stderr.readline())
            assert lines[-1]
        popen.terminate()
        assert popen.wait(30) == 0
        lines += popen.stderr
    finally:
        popen.kill()
        popen.wait()
        popen.stderr.close()
    told = "pure Python runs although a C compiler is here"
    assert sum(told in line for line in lines) == 1
    assert sum(told in line for line in (tmp_path / "errors.txt").read_text().splitlines()) == 1
