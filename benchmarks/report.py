"""From samples to what is printed and written: medians, ratios of one run, goals."""

from __future__ import annotations

import os
import platform
import subprocess
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

from measure import RowResult
from peers import PEERS, version_of, why_missing
from rows import Goal

FOREIGN_NOTABLE = 0.05  # a core that spent more than this on others makes a noisy figure


def ratio(result: RowResult, label: str, against: str) -> float | None:
    """Return the median over the rounds of the ratio within each round; None without samples of both."""
    if label not in result.samples or against not in result.samples:
        return None
    pairs = zip(result.costs(label), result.costs(against), strict=True)
    return median(mine / theirs for mine, theirs in pairs)


def _goal_value(result: RowResult, goal: Goal) -> float | None:
    if goal.metric != "cost":
        return result.extra.get(goal.subject, {}).get(goal.metric)
    if goal.against:
        return ratio(result, goal.subject, goal.against)
    return median(result.costs(goal.subject)) if goal.subject in result.samples else None


def judge(result: RowResult) -> list[dict[str, Any]]:
    """Return every goal of the row with the value reached (None: not measured) and whether that is enough."""
    judged = []
    for goal in result.row.goals:
        value = _goal_value(result, goal)
        unit = {"cost": result.row.unit, "idle_bytes": "bytes each"}.get(goal.metric, goal.metric)
        bound = f"{goal.limit:g} x {goal.against}" if goal.against else f"{goal.limit:g} {unit}"
        judged.append(
            {
                "goal": f"{goal.subject} <= {bound}",
                "limit": goal.limit,
                "value": value,
                "ok": None if value is None else value <= goal.limit,
            }
        )
    return judged


def row_record(result: RowResult) -> dict[str, Any]:
    """Return the row as JSON has it, every sample included."""
    cases = {}
    unlogged = {case.label for case in result.row.cases if not PEERS[case.peer].access_log}
    unlogged |= {label for label in result.samples if label in PEERS and not PEERS[label].access_log}
    for label, samples in result.samples.items():
        cases[label] = {
            "median": median(result.costs(label)),
            "ratio": ratio(result, label, result.row.baseline),
            "access_log": label not in unlogged,
            "requests_per_s": median(sample.requests_per_s for sample in samples),
            "samples": [asdict(sample) for sample in samples],
            **result.extra.get(label, {}),
        }
    return {
        "key": result.row.key, "title": result.row.title, "unit": result.row.unit,
        "baseline": result.row.baseline, "cases": cases, "skipped": result.skipped, "goals": judge(result),
    }  # fmt: skip


def print_row(record: dict[str, Any]) -> None:
    """Print one row: cheapest case first, then what was skipped, then the goals."""
    print(f"\n{record['title']} ({record['unit']})")
    baseline = record["baseline"]
    for label, case in sorted(record["cases"].items(), key=lambda item: item[1]["median"]):
        costs = [sample["cost"] for sample in case["samples"]]
        line = f"  {label:<32} {case['median']:>10.2f}  [{min(costs):.2f} .. {max(costs):.2f}]"
        if case["ratio"] is not None:
            line += f"  {case['ratio']:.2f} x {baseline}"
        if case["requests_per_s"]:
            line += f"  {case['requests_per_s']:,.0f}/s"
        if not case["access_log"] and not label.startswith("floor"):
            line += "  (writes no access log)"
        if "idle_bytes" in case:
            line += f"  {case['idle_bytes']:,.0f} bytes an idle connection"
        foreign = [sample["foreign"] for sample in case["samples"] if sample["foreign"] is not None]
        if foreign and median(foreign) > FOREIGN_NOTABLE:
            line += f"  (noisy: {median(foreign):.0%} of the core went to others)"
        print(line)
    for label, reason in record["skipped"].items():
        print(f"  {label:<32} skipped: {reason}")
    for goal in record["goals"]:
        if goal["ok"] is None:
            print(f"  goal  {goal['goal']}: not measured")
        else:
            print(f"  goal  {goal['goal']}: {goal['value']:.3g}  {'ok' if goal['ok'] else 'MISSED'}")


def _first_line(path: str, key: str) -> str:
    for line in Path(path).read_text().splitlines():
        if line.startswith(key):
            return line.partition(":")[2].strip()
    return ""


def _output(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return (done.stdout + done.stderr).strip().partition("\n")[0]


def machine() -> dict[str, Any]:
    """Return what the figures were measured on."""
    return {
        "cpu": _first_line("/proc/cpuinfo", "model name"),
        "cores": os.cpu_count(),
        "memory": _first_line("/proc/meminfo", "MemTotal"),
        "virtual": "hypervisor" in _first_line("/proc/cpuinfo", "flags").split(),
        "kernel": f"{platform.system()} {platform.release()} {platform.machine()}",
        "load_average": list(os.getloadavg()),
    }


def versions() -> dict[str, str]:
    """Return the version of every peer that is here, and of the tools."""
    found = {peer.name: version_of(peer) for peer in PEERS.values() if why_missing(peer) is None}
    tools = {
        "python": platform.python_version(),
        "wrk": _output("wrk", "-v"),
        "cc": _output("cc", "--version"),
    }
    return {name: text for name, text in {**found, **tools}.items() if text}


def now() -> str:
    """Return the time in UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")
