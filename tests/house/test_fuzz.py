"""Short runs of the fuzzers in ``fuzz/``, and what their long runs found worth keeping."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from corpus import HERE as CORPUS
from corpus import bytewise
from fuzz_differential import compare

from fastws import backend

FUZZ = Path(__file__).resolve().parents[2] / "fuzz"
FILES = [str(path) for path in sorted(CORPUS.glob("*valid/*"))]
KEPT = sorted((FUZZ / "corpus").iterdir())
SANITIZE = ("-O2", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")
SECONDS = 10
"""How long a coverage-guided run lasts here."""
OPTIONS = (f"-max_total_time={SECONDS}", "-max_len=2048", "-rss_limit_mb=0")
"""Of libFuzzer. No limit of memory, for a process inherits the peak of the one that it was forked from."""

# A sanitized program brings its own runtime library, must be the first to load one, and says here what it finds.
FOREIGN = ("LD_PRELOAD", "ASAN_OPTIONS", "LSAN_OPTIONS", "UBSAN_OPTIONS")
ENVIRONMENT = {name: value for name, value in os.environ.items() if name not in FOREIGN}


def build(folder: Path, kind: str, *flags: str) -> Path:
    compiler = "cc" if kind == "loop" else "clang"
    if shutil.which(compiler) is None:
        pytest.skip(f"no {compiler} was found")
    if kind == "libfuzzer" and not has_libfuzzer():
        pytest.skip("clang was found without its runtime libraries (Debian: libclang-rt-*-dev)")
    program = folder / kind
    command = [str(FUZZ / "build"), str(program), kind, *flags]
    done = subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT)
    assert done.returncode == 0, done.stderr
    return program


def has_libfuzzer() -> bool:
    """Whether clang links a sanitized fuzzer; Debian has the libraries for that in a package of their own."""
    command = ["clang", "-x", "c", "-", "-o", os.devnull, "-fsanitize=fuzzer,address,undefined"]
    source = "int LLVMFuzzerTestOneInput(const char *data, unsigned long size) { return 0; }"
    return subprocess.run(command, input=source, text=True, capture_output=True).returncode == 0


def run(*command: object, timeout_s: float = 100) -> str:
    words = [str(word) for word in command]
    done = subprocess.run(words, capture_output=True, text=True, env=ENVIRONMENT, timeout=timeout_s)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout + done.stderr


def check_loop(folder: Path, count: int, seed: int, timeout_s: float) -> None:
    output = run(build(folder, "loop", *SANITIZE), count, seed, *FILES, timeout_s=timeout_s)
    accepted, still_open, refused = map(int, re.findall("[0-9]+", output))
    assert accepted + still_open + refused == count
    assert min(accepted, refused) > count // 10
    assert still_open > count // 100


def test_scanner_holds_on_mutants(tmp_path: Path) -> None:
    check_loop(tmp_path, 100_000, 1, 100)


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_scanner_holds_on_ten_million_mutants(tmp_path: Path) -> None:
    count = 300_000 if os.environ.get("FASTWS_BOUNDED") else 10_000_000
    check_loop(tmp_path, count, int.from_bytes(os.urandom(4), "big"), 3500)


def test_a_planted_read_beyond_the_end_is_found(tmp_path: Path) -> None:
    """The harness can fail: with a bound left out of the scanner, it does."""
    if shutil.which("cc") is None:
        pytest.skip("no cc was found")
    package = tmp_path / "fastws" / "native"
    shutil.copytree(FUZZ, tmp_path / "fuzz")
    package.mkdir(parents=True)
    for header in (Path(backend.__file__).parent / "native").glob("*.h"):
        text = header.read_text()
        changed = text.replace("end - p >= 16; p += 16", "end - p >= 15; p += 16")
        (package / header.name).write_text(changed)
        assert (changed != text) == (header.name == "scan.h")
    program = tmp_path / "loop"
    subprocess.run(
        [str(tmp_path / "fuzz" / "build"), str(program), "loop", "-O2"], check=True, env=ENVIRONMENT
    )
    done = subprocess.run([str(program), "20000", "1", *FILES], capture_output=True, env=ENVIRONMENT)
    assert done.returncode != 0


@pytest.mark.peer
def test_coverage_guides_a_short_run_of_the_scanner(tmp_path: Path) -> None:
    found = tmp_path / "found"
    found.mkdir()
    program = build(tmp_path, "libfuzzer", *SANITIZE)
    output = run(
        program,
        *OPTIONS,
        f"-artifact_prefix={tmp_path}/",
        found,
        FUZZ / "corpus",
        CORPUS / "valid",
        CORPUS / "invalid",
    )
    assert re.search(r"Done [1-9][0-9]{2,} runs", output), output[-1000:]


@pytest.mark.peer
def test_coverage_guides_a_short_differential_run(tmp_path: Path) -> None:
    if importlib.util.find_spec("atheris") is None:
        pytest.skip("atheris is not installed")
    found = tmp_path / "found"
    found.mkdir()
    folders = (found, FUZZ / "corpus", CORPUS / "valid", CORPUS / "invalid")
    output = run(
        sys.executable, FUZZ / "differential.py", *OPTIONS, f"-artifact_prefix={tmp_path}/", *folders
    )
    assert re.search(r"Done [1-9][0-9]+ runs", output), output[-1000:]


def test_parsers_agree_on_what_the_fuzzers_kept() -> None:
    if os.environ.get("FASTWS_NO_EXTENSIONS") == "1":
        pytest.skip("FASTWS_NO_EXTENSIONS=1: there is only one side")
    compiled, pure = backend.load(pure=False, required=True).parser, backend.load(pure=True).parser
    assert len(KEPT) > 100
    for path in KEPT:
        data = path.read_bytes()
        compare(compiled, pure, data, [bytewise(data)] if len(data) < 500 else [])
