"""Draw a plot of the README from a results file: CPU time a request at 1 KiB, keep-alive; or, where the results
have that, how long a file waits beside a busy application.

``python benchmarks/plot.py [results/latest.json] [--out benchmarks/results/latest.svg]``
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("svg")
import matplotlib.pyplot as plt
from matplotlib.axes import Axes

HERE = Path(__file__).resolve().parent
OURS, FLOOR, THEIRS, TEXT = "#d9822b", "#5a9e6f", "#8a94a6", "#7d8590"  # readable on white and on black
ROW = "1k"
PYTHON_MARKS = ("whitenoise", "starlette", "aiohttp", "http.server", "fastws pure")


def _is_python(label: str) -> bool:
    return any(mark in label for mark in PYTHON_MARKS)


def _colour(label: str) -> str:
    return OURS if label.startswith("fastws") else FLOOR if label == "floor" else THEIRS


def _bars(axes: Axes, title: str, cases: dict[str, dict[str, Any]]) -> None:
    """Draw one group, cheapest at the top; whiskers span the rounds."""
    ordered = sorted(cases.items(), key=lambda item: -item[1]["median"])
    labels = [label for label, _ in ordered]
    medians = [case["median"] for _, case in ordered]
    costs = [[sample["cost"] for sample in case["samples"]] for _, case in ordered]
    spread = [
        [middle - min(cost) for middle, cost in zip(medians, costs, strict=True)],
        [max(cost) - middle for middle, cost in zip(medians, costs, strict=True)],
    ]
    axes.barh(labels, medians, color=[_colour(label) for label in labels], height=0.62)
    axes.errorbar(medians, labels, xerr=spread, fmt="none", ecolor=TEXT, elinewidth=1, capsize=2)
    widest = max(max(cost) for cost in costs)
    for place, (middle, cost) in enumerate(zip(medians, costs, strict=True)):
        figure = f"{middle:.1f}" if middle < 100 else f"{middle:.0f}"
        axes.text(max(cost) + widest * 0.015, place, figure, va="center", color=TEXT, fontsize=9)
    axes.set_xlim(0, widest * 1.12)
    axes.set_title(title, loc="left", color=TEXT, fontsize=10)
    axes.tick_params(colors=TEXT, labelsize=9, length=0)
    axes.xaxis.set_visible(False)
    for spine in axes.spines.values():
        spine.set_visible(False)


def draw(document: dict[str, Any], out: Path) -> None:
    """Write the SVG; raise LookupError when the results lack the row."""
    rows = {row["key"]: row for row in document["rows"]}
    if ROW not in rows or not rows[ROW]["cases"]:
        raise LookupError(f"the results have no figures for the row {ROW}")
    cases = rows[ROW]["cases"]
    groups = {
        "compiled servers": {label: case for label, case in cases.items() if not _is_python(label)},
        "Python servers": {label: case for label, case in cases.items() if _is_python(label)},
    }
    groups = {title: group for title, group in groups.items() if group}
    plt.rcParams.update({"svg.fonttype": "none", "font.family": "sans-serif"})
    figure, axes = plt.subplots(
        len(groups), 1, squeeze=False, figsize=(7.6, 0.9 + 0.3 * len(cases)), layout="constrained",
        gridspec_kw={"height_ratios": [len(group) + 1 for group in groups.values()]},
    )  # fmt: skip
    for (title, group), panel in zip(groups.items(), axes[:, 0], strict=True):
        _bars(panel, f"{title}: CPU time in µs a request, 1 KiB, keep-alive (less is better)", group)
    machine = document["machine"]
    note = (
        f"{machine['cpu']}, {machine['kernel']}, {document['ended'][:10]}; bars: medians, lines: all rounds"
    )
    figure.supxlabel(note, color=TEXT, fontsize=8)
    figure.savefig(out, format="svg", transparent=True)


BESIDE = {
    "app-computing": "8 clients in a view that computes for 10 ms",
    "app-sleeping": "16 clients in a view that sleeps for 100 ms",
}
NAMES = {
    "fastws process": "fastws, processes",
    "fastws threads": "fastws, threads",
    "gunicorn gthread": "gunicorn + whitenoise",
    "waitress": "waitress + whitenoise",
    "granian": "granian, its static mount",
}


def _spans(axes: Axes, title: str, cases: dict[str, dict[str, Any]]) -> None:
    """Draw one group, quickest at the top: from the half of the requests to the 99th of a hundred."""
    ordered = sorted(cases.items(), key=lambda item: -item[1]["median"])
    for place, (label, case) in enumerate(ordered):
        colour = OURS if label.startswith("fastws") else THEIRS
        half, late = case["p50"], case["median"]
        axes.plot([half, late], [place, place], color=colour, linewidth=5, solid_capstyle="round")
        axes.plot([late], [place], "o", color=colour, markersize=8)
        figure = f"{late:.1f}" if late < 100 else f"{late:,.0f}"
        axes.text(late * 1.25, place, f"{figure} ms", va="center", color=TEXT, fontsize=9)
    axes.set_yticks(range(len(ordered)), [NAMES.get(label, label) for label, _ in ordered])
    axes.set_ylim(-0.6, len(ordered) - 0.4)
    axes.set_xscale("log")
    axes.set_xlim(0.1, 100_000)
    axes.set_title(title, loc="left", color=TEXT, fontsize=10)
    axes.tick_params(colors=TEXT, labelsize=9, length=0)
    axes.grid(axis="x", color=TEXT, alpha=0.25, linewidth=0.5)
    for spine in axes.spines.values():
        spine.set_visible(False)


def draw_beside(document: dict[str, Any], out: Path) -> None:
    """Write the SVG of the waits beside a busy application."""
    rows = {row["key"]: row["cases"] for row in document["rows"]}
    plt.rcParams.update({"svg.fonttype": "none", "font.family": "sans-serif"})
    figure, axes = plt.subplots(len(BESIDE), 1, squeeze=False, figsize=(7.6, 4.6), layout="constrained")
    for (key, crowd), panel in zip(BESIDE.items(), axes[:, 0], strict=True):
        cases = {label: case for label, case in rows[key].items() if label in NAMES}
        _spans(panel, f"1 KiB beside {crowd}: ms, 50 to 99 %", cases)
    machine = document["machine"]
    note = f"{machine['cpu']}, {machine['kernel']}, {document['ended'][:10]}; logarithmic (less is better)"
    figure.supxlabel(note, color=TEXT, fontsize=8)
    figure.savefig(out, format="svg", transparent=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("results", nargs="?", type=Path, default=HERE / "results" / "latest.json")
    parser.add_argument("--out", type=Path, help="the SVG to write (default: beside the results)")
    arguments = parser.parse_args()
    document = json.loads(arguments.results.read_text())
    has_beside = {row["key"] for row in document["rows"]}.issuperset(BESIDE)
    (draw_beside if has_beside else draw)(document, arguments.out or arguments.results.with_suffix(".svg"))


if __name__ == "__main__":
    main()
