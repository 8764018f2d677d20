"""The rows that are not loads: the parser's core, and the start."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from measure import RowResult, Sample
from peers import HERE, PEERS, why_missing
from rows import Row
from samples import BROWSER_REQUEST
from servers import Server, StartError

PARSER_REPEATS = 1_000_000
START_PEERS = ("fastws", "fastws pure", "nginx", "http.server")

_PARSER_SCRIPT = """\
import sys
try:
    from fastws._parser import scan_benchmark
except ImportError as error:
    sys.exit(f"no benchmark hook: {error}")
print(scan_benchmark(sys.stdin.buffer.read(), int(sys.argv[1])))
"""


def _parser_core_us() -> float:
    """Return the time of one scan of the browser request without Python objects, in us."""
    done = subprocess.run(
        [sys.executable, "-c", _PARSER_SCRIPT, str(PARSER_REPEATS)],
        input=BROWSER_REQUEST, capture_output=True, check=False, cwd=HERE.parent,
        preexec_fn=lambda: os.sched_setaffinity(0, {0}),
    )  # fmt: skip
    if done.returncode:
        raise StartError(done.stderr.decode().strip().splitlines()[-1])
    return float(done.stdout) / PARSER_REPEATS * 1e6


def measure_parser(row: Row, root: Path, directory: Path, rounds: int) -> RowResult:
    """Measure the parser's core in us a head."""
    result = RowResult(row)
    try:
        result.samples["fastws"] = [Sample(_parser_core_us(), 0, None) for _ in range(rounds)]
    except StartError as error:
        result.skipped["fastws"] = str(error)
    return result


def _start_ms(name: str, root: Path, directory: Path) -> float:
    server = Server(PEERS[name], root, directory)
    begin = time.perf_counter()
    with server:
        return (time.perf_counter() - begin) * 1e3


def _rounds(names: Iterable[str], rounds: int, measure: Callable[[str], float], result: RowResult) -> None:
    for name in names:
        reason = why_missing(PEERS[name])
        if reason is not None:
            result.skipped[name] = reason
        else:
            result.samples[name] = []
    for _ in range(rounds):
        for name in list(result.samples):
            try:
                result.samples[name].append(Sample(measure(name), 0, None))
            except (StartError, OSError) as error:
                result.skipped[name] = str(error)
                del result.samples[name]


def measure_start(row: Row, root: Path, directory: Path, rounds: int) -> RowResult:
    """Measure the time from the start of the process to the end of its first answer, in ms."""
    result = RowResult(row)
    # Once before: the bytecode of this tree's modules is written, and all files are in memory.
    _rounds(START_PEERS, 1, lambda name: _start_ms(name, root, directory / "start"), RowResult(row))
    _rounds(START_PEERS, rounds, lambda name: _start_ms(name, root, directory / "start"), result)
    return result


SPECIAL: dict[str, Callable[[Row, Path, Path, int], RowResult]] = {
    "parser": measure_parser,
    "start": measure_start,
}
