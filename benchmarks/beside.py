"""The rows of applications that are not a load: how long files wait beside a busy one, a reload, memory."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from measure import RowResult, Sample
from peers import HERE, PEERS, why_missing
from rows import Row
from servers import Server, StartError, Variables

STATIC = "/static/1k.html"
SECONDS = 3.0
RELOAD_S, RELOADING_AT_S = 6.0, 1.5
CLIENTS = 8
"""Connections of the load during a reload."""


class Crowd(NamedTuple):
    """Those who keep a server busy: what each of them does, at which path, and how many they are."""

    deed: str
    path: str
    count: int


COMPUTING = (Crowd("keep_asking", "/compute", 8),)
SLEEPING = (Crowd("keep_asking", "/sleep", 16),)
ROBBERS = (Crowd("read_nothing", "/much", 8), Crowd("upload_slowly", "/upload", 8))


def _visit(
    port: int, path: str, crowd: Sequence[Crowd] = (), *, loops: int = 0, is_kept: bool = True
) -> dict[str, float]:
    """Return what visitors found, as ``visitors.py`` prints it."""
    return _result(_visitors(port, path, crowd, SECONDS, loops=loops, is_kept=is_kept), SECONDS)


def _visitors(
    port: int, path: str, crowd: Sequence[Crowd], seconds: float, *, loops: int, is_kept: bool
) -> subprocess.Popen[str]:
    told = {
        "port": port, "path": path, "others": crowd, "seconds": seconds, "loops": loops, "is_kept": is_kept,
    }  # fmt: skip
    return subprocess.Popen(
        [sys.executable, str(HERE / "visitors.py"), json.dumps(told)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        preexec_fn=lambda: os.sched_setaffinity(0, {1}),
    )  # fmt: skip


def _result(process: subprocess.Popen[str], seconds: float) -> dict[str, float]:
    output, errors = process.communicate(timeout=seconds + 60)
    if process.returncode:
        raise StartError(f"the visitors failed: {errors.strip()[-300:]}")
    found: dict[str, float] = json.loads(output)
    return found


class _Candidate(NamedTuple):
    """A server under the eyes of visitors: each comes on a connection of its own, or they share kept ones."""

    label: str
    peer: str
    app: str
    path: str
    crowd: Sequence[Crowd]
    is_kept: bool = False


def _waits(row: Row, root: Path, directory: Path, rounds: int, candidates: Sequence[_Candidate]) -> RowResult:
    """Measure the 99th percentile of the waits in ms, each server alone, in interleaved rounds."""
    result = RowResult(row)
    halves: dict[str, list[float]] = {}
    for turn in range(rounds):
        for number, each in enumerate(candidates):
            if turn == 0 and (reason := why_missing(PEERS[each.peer])) is not None:
                result.skipped[each.label] = reason
            if each.label in result.skipped:
                continue
            place = directory / f"{row.key}-{number}"
            try:
                with Server(PEERS[each.peer], root, place, variables=Variables(app=each.app)) as server:
                    found = _visit(server.port, each.path, each.crowd, is_kept=each.is_kept)
            except (StartError, OSError, subprocess.TimeoutExpired) as error:
                result.skipped[each.label] = str(error)
                result.samples.pop(each.label, None)
                continue
            result.samples.setdefault(each.label, []).append(Sample(found["p99"], 0, None))
            halves.setdefault(each.label, []).append(found["p50"])
    for label in result.samples:
        result.extra[label] = {"p50": sorted(halves[label])[len(halves[label]) // 2]}
    return result


def _beside(crowd: Sequence[Crowd], *peers: str) -> list[_Candidate]:
    idle = _Candidate("fastws process, idle", "fastws process", "hello", STATIC, ())
    noise = {"gunicorn gthread": "noise", "waitress": "noise"}
    return [
        idle,
        *(
            _Candidate(
                f"{peer}, kept" if is_kept else peer, peer, noise.get(peer, "hello"), STATIC, crowd, is_kept
            )
            for peer in peers
            for is_kept in (False, True)
        ),
    ]


PEERS_BESIDE = ("fastws process", "fastws threads", "granian", "gunicorn gthread", "waitress")


def measure_computing(row: Row, root: Path, directory: Path, rounds: int) -> RowResult:
    """Measure a static file beside 8 clients in a view that computes for 10 ms."""
    return _waits(row, root, directory, rounds, _beside(COMPUTING, *PEERS_BESIDE))


def measure_sleeping(row: Row, root: Path, directory: Path, rounds: int) -> RowResult:
    """Measure a static file beside 16 clients in a view that sleeps for 100 ms."""
    return _waits(row, root, directory, rounds, _beside(SLEEPING, *PEERS_BESIDE))


def measure_robbers(row: Row, root: Path, directory: Path, rounds: int) -> RowResult:
    """Measure a view beside 8 clients that read nothing and 8 that send slowly."""
    idle = _Candidate("fastws process, idle", "fastws process", "hello", "/", ())
    others = [_Candidate(peer, peer, "hello", "/", ROBBERS) for peer in PEERS_BESIDE]
    return _waits(row, root, directory, rounds, [idle, *others])


def measure_reload(row: Row, root: Path, directory: Path, rounds: int) -> RowResult:
    """Measure the longest wait in ms of a load during which the application is reloaded, and what was lost."""
    result = RowResult(row)
    for turn in range(rounds):
        for name in ("fastws process", "gunicorn gthread"):
            if (reason := why_missing(PEERS[name])) is not None:
                result.skipped[name] = reason
                continue
            with Server(PEERS[name], root, directory / f"reload-{name.split()[0]}-{turn}") as server:
                process = _visitors(server.port, "/", (), RELOAD_S, loops=CLIENTS, is_kept=True)
                time.sleep(RELOADING_AT_S)
                os.kill(server.pids()[0], signal.SIGHUP)
                found = _result(process, RELOAD_S)
            result.samples.setdefault(name, []).append(Sample(found["longest"], 0, None))
            extra = result.extra.setdefault(name, {"lost": 0.0})
            extra["lost"] += found["lost"]
    return result


def measure_memory(row: Row, root: Path, directory: Path, rounds: int) -> RowResult:
    """Measure the memory in MB of four processes that were preloaded with Django; shared pages count once."""
    result = RowResult(row)
    for turn in range(rounds):
        for name in ("fastws 4 preloaded", "gunicorn 4 preloaded"):
            if (reason := why_missing(PEERS[name])) is not None:
                result.skipped[name] = reason
                continue
            place = directory / f"memory-{name.split()[0]}-{turn}"
            with Server(PEERS[name], root, place, variables=Variables(app="django")) as server:
                _visit(server.port, "/", loops=CLIENTS)
                used = sum(map(_proportional_bytes, server.pids()))
            result.samples.setdefault(name, []).append(Sample(used / 1e6, 0, None))
    return result


def _proportional_bytes(pid: int) -> int:
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    return 0


BESIDE: dict[str, Any] = {
    "app-computing": measure_computing,
    "app-sleeping": measure_sleeping,
    "app-robbers": measure_robbers,
    "app-reload": measure_reload,
    "app-memory": measure_memory,
}
