"""The C that reads what proxies say of clients: random values, under the sanitizers."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from fastws import backend

HEADERS = Path(backend.__file__).parent / "native"
SOURCE = Path(__file__).with_name("forwarded.c")


@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler (cc) was found")
def test_random_values_name_addresses_and_stay_within_their_bytes(tmp_path: Path) -> None:
    program = tmp_path / "forwarded"
    options = ["-std=c11", "-D_GNU_SOURCE", "-O1", "-g", "-Wall", "-Wextra", "-Werror", f"-I{HEADERS}"]
    sanitize = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
    subprocess.run(["cc", *options, *sanitize, "-o", str(program), str(SOURCE)], check=True)
    run = subprocess.run([str(program), "300000", "1"], capture_output=True, text=True, timeout=100)
    assert run.returncode == 0, run.stdout + run.stderr
    lists, elements = map(int, run.stdout.split())
    assert lists > 3_000
    assert elements > 1_000
