"""The C scanner reads no byte outside its buffer, and finds the same with vector instructions as without."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from corpus import HERE as CORPUS
from corpus import all_cases, outcome

from fastws import backend
from fastws.http.messages import Request

HEADERS = Path(backend.__file__).parent / "native"
SOURCE = Path(__file__).with_name("guard_pages.c")
FILES = sorted((CORPUS / "valid").iterdir()) + sorted((CORPUS / "invalid").iterdir())
BUILDS = {
    "vector": [],
    "scalar": ["-DFASTWS_SCALAR"],
    "sanitized": ["-fsanitize=undefined", "-fsanitize-undefined-trap-on-error"],
}


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """What the program prints for the whole corpus, by build."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler (cc) was found")
    folder = tmp_path_factory.mktemp("guard_pages")
    printed = {}
    for build, flags in BUILDS.items():
        program = folder / build
        options = ["-std=c11", "-O2", "-g", *flags, f"-I{HEADERS}"]
        subprocess.run([compiler, *options, "-o", str(program), str(SOURCE)], check=True)
        run = subprocess.run([str(program), *map(str, FILES)], capture_output=True, text=True, timeout=100)
        assert run.returncode == 0, (build, run.returncode, run.stderr, run.stdout[-200:])
        printed[build] = run.stdout.splitlines()
    return printed


def test_no_build_reads_outside_the_buffer_at_any_truncation(outputs: dict[str, list[str]]) -> None:
    truncations = sum(path.stat().st_size + 1 for path in FILES)
    assert {build: len(lines) for build, lines in outputs.items()} == dict.fromkeys(BUILDS, truncations)


def test_vector_and_portable_code_find_the_same(outputs: dict[str, list[str]]) -> None:
    assert outputs["vector"] == outputs["scalar"]
    assert outputs["vector"] == outputs["sanitized"]


def test_a_result_does_not_depend_on_where_the_buffer_lies(outputs: dict[str, list[str]]) -> None:
    for line in outputs["vector"]:
        _, _, at_begin, at_end, *_ = line.split()
        assert at_begin == at_end


def test_the_scanner_accepts_exactly_the_heads_that_the_parser_accepts(outputs: dict[str, list[str]]) -> None:
    parser = backend.load(pure=True).parser
    lengths = {}
    for line in outputs["vector"]:
        number, truncated, result, *_ = line.split()
        lengths[int(number), int(truncated)] = int(result.partition(":")[0])
    for number, case in enumerate(all_cases(), 1):
        found = outcome(parser, [case.data])
        length = lengths[number, len(case.data)]
        assert (length if length > 0 else None) == (found.size if isinstance(found, Request) else None), (
            case.name
        )
