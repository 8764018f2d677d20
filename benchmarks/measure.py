"""Measuring one row: all its servers started, checked and warmed, then rounds in turn."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from load import IdleConnections, LoadError, run_wrk, verify, warm_many
from peers import PEERS
from rows import Case, Row
from samples import BIG_BYTES, BIG_PATH, SIZES, body, many_body
from servers import Server, StartError, Variables, cpu_ns

TICK_NS = 10_000_000  # the resolution of /proc/stat
WARM_S = 1


@dataclass
class Sample:
    """One wrk run: CPU time a request in us, requests a second, and the core's share spent on others."""

    cost: float
    requests_per_s: float
    foreign: float | None


@dataclass
class RowResult:
    """All samples of a row by case, and why the others have none. ``extra`` holds further metrics."""

    row: Row
    samples: dict[str, list[Sample]] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    extra: dict[str, dict[str, float]] = field(default_factory=dict)

    def costs(self, label: str) -> list[float]:
        """Return the case's cost in each round."""
        return [sample.cost for sample in self.samples[label]]


def _core_busy_ns(core: int) -> int:
    for line in Path("/proc/stat").read_text().splitlines():
        name, *ticks = line.split()
        if name == f"cpu{core}":
            user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, ticks[:8])
            return (user + nice + system + irq + softirq + steal) * TICK_NS
    raise LookupError(f"no core {core}")


def _expected_body(case: Case) -> bytes | None:
    if case.load.path == "/":
        return None  # an application's
    if case.load.path.startswith("/static/"):
        return body(SIZES[case.load.path.removeprefix("/static")])
    if case.peer == "floor" or case.load.path in SIZES:
        whole = body(SIZES[case.load.path])
    elif case.load.path == BIG_PATH:
        whole = body(BIG_BYTES)
    elif case.load.status == 200:
        whole = many_body(0)
    else:
        return None
    return whole[:100] if case.load.status == 206 else whole


class Contestant:
    """One case with its running server."""

    def __init__(self, case: Case, root: Path, directory: Path, length: int) -> None:
        self.case = case
        self._root = root
        self._directory = directory
        self._length = length
        self._server: Server | None = None
        self._idle: IdleConnections | None = None
        self.idle_bytes: float | None = None

    def start(self) -> None:
        """Start the server, check its answer, warm it, and open the idle connections."""
        case = self.case
        server = Server(
            PEERS[case.peer], self._root, self._directory, cores=case.server_cores,
            variables=Variables(SIZES.get(case.load.path, 0), case.floor_mode, case.cache, case.app),
        )  # fmt: skip
        self._server = server.__enter__()
        verify(server.port, case.load, case.load.status, _expected_body(case))
        if case.fresh:
            return
        if case.warm_files:
            warm_many(server.port, case.warm_files)
        run_wrk(server.port, case.load, WARM_S, case.wrk_cores)
        if case.idle:
            before = server.private_bytes()
            self._idle = IdleConnections(server.port, case.idle, case.load)
            self._idle.check()
            self.idle_bytes = (server.private_bytes() - before) / case.idle

    def stop(self) -> None:
        """Close the idle connections and stop the server."""
        if self._idle is not None:
            self._idle.close()
            self._idle = None
        if self._server is not None:
            self._server.stop()
            self._server = None

    def run(self, seconds: int) -> Sample:
        """Measure once."""
        if self.case.fresh:
            self.stop()
            self.start()
        assert self._server is not None
        pids = self._server.pids()
        cores = self.case.server_cores
        core_before, before = _core_busy_ns(cores[0]), cpu_ns(pids)
        figures = run_wrk(self._server.port, self.case.load, seconds, self.case.wrk_cores)
        spent, core_spent = cpu_ns(pids) - before, _core_busy_ns(cores[0]) - core_before
        if self._idle is not None:
            self._idle.check()
        requests = figures["bytes"] / self._length if self._length else figures["requests"]
        duration_s = figures["duration_us"] / 1e6
        alone = cores != self.case.wrk_cores
        foreign = max(0.0, (core_spent - spent) / 1e9 / duration_s) if alone else None
        return Sample(spent / 1e3 / requests, requests / duration_s, foreign)


def measure_row(
    row: Row,
    cases: list[Case],
    root: Path,
    directory: Path,
    *,
    rounds: int,
    seconds: int,
    say: Callable[[str], None],
) -> RowResult:
    """Measure ``cases`` in ``rounds`` rounds, A B C, A B C; a case that fails is left out with the reason."""
    result = RowResult(row)
    contestants = [
        Contestant(case, root, directory / f"{row.key}-{number}", row.length)
        for number, case in enumerate(cases)
    ]
    with contextlib.ExitStack() as stack:
        for contestant in contestants:
            stack.callback(contestant.stop)
            label = contestant.case.label
            say(f"{row.key}: starting {label}")
            try:
                contestant.start()
            except (StartError, LoadError, OSError) as error:
                result.skipped[label] = str(error)
            else:
                result.samples[label] = []
                if contestant.idle_bytes is not None:
                    result.extra[label] = {"idle_bytes": contestant.idle_bytes}
        for turn in range(rounds):
            for contestant in contestants:
                label = contestant.case.label
                if label in result.skipped:
                    continue
                say(f"{row.key}: round {turn + 1} of {rounds}, {label}")
                try:
                    result.samples[label].append(contestant.run(seconds))
                except (StartError, LoadError, OSError) as error:
                    result.skipped[label] = str(error)
                    del result.samples[label]
    return result
