"""What the load client shows: progress while it runs, and both phases side by side at the end.

The one module that tries to import ``rich``; without it, or where the output is no terminal, plain lines.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from types import TracebackType
from typing import TYPE_CHECKING, NamedTuple, Protocol, Self, TextIO

if TYPE_CHECKING:
    from rich.progress import TaskID


class Outcome(NamedTuple):
    """One request: what came back, and ``error`` saying what was not as expected (empty: all was).

    ``latency_ms`` runs from the first send to the last byte of the body and is None where that last byte
    never came. ``status`` is None where there was no status line.
    """

    path: str
    status: int | None
    body_bytes: int
    latency_ms: float | None
    error: str = ""

    def __str__(self) -> str:
        """Return the end of the request's line in the log."""
        status = "-" if self.status is None else self.status
        latency = "-" if self.latency_ms is None else f"{self.latency_ms:.3f}"
        text = f"{self.path} {status} {self.body_bytes} bytes {latency} ms"
        return f"{text} error: {self.error}" if self.error else text


class Phase(NamedTuple):
    """One finished phase. ``problems`` are errors that belong to a connection and not to one request."""

    title: str
    planned: int
    outcomes: tuple[Outcome, ...]
    problems: tuple[str, ...]
    reconnects: int
    elapsed_s: float

    def errors(self) -> tuple[str, ...]:
        """Return one line for everything that was not as expected, requests never made included."""
        failed = tuple(f"{outcome.path}: {outcome.error}" for outcome in self.outcomes if outcome.error)
        lost = self.planned - len(self.outcomes)
        return failed + self.problems + ((f"{lost} of {self.planned} requests not made",) if lost else ())


class Report(Protocol):
    """Where a run is shown; a context manager, so that a terminal is left as it was found."""

    def __enter__(self) -> Self:
        """Begin."""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """End, whatever happened."""

    def start(self, title: str, planned: int) -> None:
        """Tell that a phase of ``planned`` requests begins."""

    def progress(self, done: int) -> None:
        """Tell how many requests of the phase are done."""

    def close(self, phases: Sequence[Phase]) -> None:
        """Show the results of all phases."""


def choose_report(out: TextIO) -> Report:
    """Return bars and a table where ``rich`` is installed and ``out`` is a terminal, else plain lines."""
    if out.isatty():
        try:
            return _RichReport(out)
        except ImportError:
            pass
    return _PlainReport(out)


def percentile(ordered: Sequence[float], percent: int) -> float:
    """Return the nearest-rank percentile of ascending values: one that was measured, none in between."""
    return ordered[max(math.ceil(len(ordered) * percent / 100), 1) - 1]


def table(phases: Sequence[Phase]) -> list[tuple[str, ...]]:
    """Return the rows of the closing table: a label, then one cell a phase."""
    columns = [_cells(phase) for phase in phases]
    return [(label, *(column[label] for column in columns)) for label in columns[0]]


def _cells(phase: Phase) -> dict[str, str]:
    latencies = sorted(outcome.latency_ms for outcome in phase.outcomes if outcome.latency_ms is not None)
    shown = {"p50": 50, "p90": 90, "p99": 99, "max": 100}
    return {
        "requests": str(len(phase.outcomes)),
        "errors": str(len(phase.errors())),
        "reconnects": str(phase.reconnects),
        "body bytes": str(sum(outcome.body_bytes for outcome in phase.outcomes)),
        "elapsed s": f"{phase.elapsed_s:.2f}",
        **{f"{k} ms": f"{percentile(latencies, v):.2f}" if latencies else "-" for k, v in shown.items()},
    }


class _PlainReport:
    def __init__(self, out: TextIO) -> None:
        self._out = out

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        pass

    def start(self, title: str, planned: int) -> None:
        print(f"{title}: {planned} requests", file=self._out, flush=True)

    def progress(self, done: int) -> None:
        pass

    def close(self, phases: Sequence[Phase]) -> None:
        rows = [("", *(phase.title for phase in phases)), *table(phases)]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        for label, *cells in rows:
            line = [label.ljust(widths[0]), *(c.rjust(w) for c, w in zip(cells, widths[1:], strict=True))]
            print("  ".join(line), file=self._out)


class _RichReport:
    def __init__(self, out: TextIO) -> None:
        from rich import progress
        from rich.console import Console

        self._console = Console(file=out)
        # Without a refreshing thread of its own: that one would take the GIL from the requests being timed.
        self._progress = progress.Progress(
            progress.TextColumn("{task.description}"),
            progress.BarColumn(),
            progress.MofNCompleteColumn(),
            progress.TimeElapsedColumn(),
            console=self._console,
            auto_refresh=False,
        )
        self._task: TaskID | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._progress.stop()

    def start(self, title: str, planned: int) -> None:
        self._progress.start()
        self._task = self._progress.add_task(title, total=planned)
        self._progress.refresh()

    def progress(self, done: int) -> None:
        if self._task is not None:
            self._progress.update(self._task, completed=done, refresh=True)

    def close(self, phases: Sequence[Phase]) -> None:
        from rich.table import Table

        self._progress.stop()
        shown = Table(title_justify="left")
        shown.add_column("")
        for phase in phases:
            shown.add_column(phase.title, justify="right")
        for label, *cells in table(phases):
            bad = label == "errors" and any(cell != "0" for cell in cells)
            shown.add_row(label, *cells, style="bold red" if bad else None)
        self._console.print(shown)
