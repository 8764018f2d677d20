"""The figures of README.md and benchmarks/README.md are those of the newest results in benchmarks/results."""

from __future__ import annotations

import json
import re
import statistics
from pathlib import Path
from typing import Any

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
RESULTS = REPOSITORY / "benchmarks" / "results"
README = (REPOSITORY / "README.md").read_text().split("## Benchmarks")[1].split("\n## ")[0]
FIGURES = (REPOSITORY / "benchmarks" / "README.md").read_text().split("## Figures")[1].split("\n## ")[0]
BEST = "nginx + ofc + buffered log"
CASES = {"nginx, cache and buffered log": BEST}
KEYS = {
    "1 KiB": "1k",
    "10 KiB": "10k",
    "100 KiB": "100k",
    "1 MiB": "1m",
    "100 MiB": "100m",
    "16 pipelined": "pipeline",
    "new connection each": "close",
    "404": "404",
    "range": "range",
    "first touch": "first",
}


def newest_rows() -> dict[str, dict[str, Any]]:
    """Every row by its key, from the newest run that measured it. Results that are kept are named by their day."""
    runs = [json.loads(path.read_text()) for path in RESULTS.glob("20*.json")]
    runs.sort(key=lambda run: str(run["begun"]))
    return {row["key"]: row for run in runs for row in run["rows"]}


if not RESULTS.is_dir():
    pytest.skip("an sdist leaves out what was measured: benchmarks/results", allow_module_level=True)
ROWS = newest_rows()


def median(key: str, case: str = "fastws") -> float:
    return float(ROWS[key]["cases"][case]["median"])


def ratio(key: str, case: str, base: str) -> float:
    """The median of the ratios within each round, as the benchmark shows it."""
    ours, theirs = (ROWS[key]["cases"][name]["samples"] for name in (case, base))
    return statistics.median(float(a["cost"]) / float(b["cost"]) for a, b in zip(ours, theirs, strict=True))


def numbers(text: str) -> list[str]:
    return re.findall(r"\d[\d,]*(?:\.\d+)?", text)


def says(figure: str, value: float) -> bool:
    """Whether ``figure`` is ``value``, rounded to as many places as are written, perhaps from a rounded one."""
    places = len(figure.partition(".")[2])
    return abs(float(figure.replace(",", "")) - value) < 0.55 / 10.0**places


def tables(text: str) -> list[list[list[str]]]:
    """The cells of each table, its head first."""
    found = re.findall(r"(?:^\|.*\|\n)+", text, re.MULTILINE)
    return [
        [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()]
        for table in found
    ]


def test_readme_says_what_was_measured() -> None:
    text = " ".join(README.split())
    floor = [ratio("1k", case, "floor") for case in ("fastws", BEST, "nginx")]
    said = [
        (r"costs ([\d.]+) times a C loop .*? nginx takes ([\d.]+) \(best mode\) to ([\d.]+) times", floor),
        (
            r"1 MiB costs ([\d.]+) and 100 MiB ([\d.]+) times what nginx's best mode takes, "
            r"a new connection for each request ([\d.]+) times, and a range ([\d.]+) times",
            [ratio(key, "fastws", BEST) for key in ("1m", "100m", "close", "range")],
        ),
        (
            r"first request costs ([\d.]+) times as much as with nginx, "
            r"a 404 ([\d.]+) times, and what needs all of Python's rules, .*? ([\d.]+) times",
            [median(key) / median(key, BEST) for key in ("first", "404", "rules")],
        ),
    ]
    for sentence, values in said:
        found = re.search(sentence, text)
        assert found is not None, sentence
        for figure, value in zip(found.groups(), values, strict=True):
            assert says(figure, value), (figure, value)


def test_readme_plots_what_was_measured() -> None:
    plot = (REPOSITORY / "docs" / "benchmark.svg").read_text()
    assert f"{median('1k'):.1f}" in plot


@pytest.mark.parametrize("line", tables(FIGURES)[0][2:], ids=lambda line: str(line[0]))
def test_table_says_what_was_measured(line: list[str]) -> None:
    head = tables(FIGURES)[0][0]
    key = KEYS[line[0]]
    for name, cell in list(zip(head, line, strict=True))[1:-1]:
        case = CASES.get(name, name)
        assert bool(cell) == (case in ROWS[key]["cases"]), name
        if cell:
            assert says(cell, median(key, case)), name
    [goal] = [goal for goal in ROWS[key]["goals"] if goal["goal"].startswith("fastws <= ")]
    value, limit = numbers(line[-1])[:2]
    assert says(value, goal["value"])
    assert says(limit, goal["limit"])
    assert line[-1].startswith("**") != goal["ok"], "what was missed is bold"


def test_table_has_every_row_in_order() -> None:
    assert [line[0] for line in tables(FIGURES)[0][2:]] == list(KEYS)


def test_second_table_says_what_was_measured() -> None:
    goals = {row["key"]: {goal["goal"]: goal["value"] for goal in row["goals"]} for row in ROWS.values()}
    idle = goals["idle"]
    expected = {
        "browser's request head, 1 KiB": [median("browser"), ratio("browser", "fastws", "floor")],
        "10,000 idle connections": [
            next(value for goal, value in idle.items() if goal.endswith("bytes each")),
            next(value for goal, value in idle.items() if goal.endswith("x fastws")),
        ],
        "100,000 files": [median("many", "fastws, many files"), *goals["many"].values()],
        "2 workers on 2 cores": [median("workers", "fastws, 2 workers"), *goals["workers"].values()],
        "10 KiB by a rule of Python's": [median("rules"), median("rules") / median("rules", BEST)],
        "parser's core, 703 bytes": [median("parser")],
        "start to first answer": [median("start")],
        "pure side, 1 KiB": [
            median("1k", "fastws pure"),
            next(value for goal, value in goals["1k"].items() if goal.startswith("fastws pure")),
            median("1k", "waitress + whitenoise"),
        ],
    }
    lines = {line[0]: line[1] for line in tables(FIGURES)[1][2:]}
    assert set(lines) == set(expected)
    for name, values in expected.items():
        found = numbers(lines[name])
        assert len(found) == len(values), name
        for figure, value in zip(found, values, strict=True):
            assert says(figure, value), (name, figure, value)


def test_day_of_the_figures_is_that_of_the_runs() -> None:
    [day] = set(re.findall(r"Taken on (\d{4}-\d\d-\d\d)", FIGURES))
    assert f"results/{day}-*.json" in FIGURES
    paths = [path for path in RESULTS.glob("20*.json") if not re.search("tls|applications", path.name)]
    assert max(json.loads(path.read_text())["begun"] for path in paths).startswith(day)


def test_figures_over_tls_are_those_of_their_runs() -> None:
    [day] = set(re.findall(r"OpenSSL [0-9.]+\), taken on (\d{4}-\d\d-\d\d)", FIGURES))
    paths = list(RESULTS.glob("20*-tls*.json"))
    assert max(json.loads(path.read_text())["begun"] for path in paths).startswith(day)
    keys = {"1 KiB": "tls-1k", "100 KiB": "tls-100k", "100 MiB, one connection": "tls-100m",
        "full handshake": "tls-handshake", "resumed session": "tls-resumed"}  # fmt: skip
    lines = {line[0]: line[1:] for line in tables(FIGURES)[2][2:]}
    for name, key in keys.items():
        *cells, goal = lines[name]
        cases = ("fastws TLS", "nginx TLS", "h2o TLS", "fastws pure TLS")
        for cell, case in zip(cells, cases, strict=True):
            assert says(numbers(cell)[0], median(key, case)), (name, case)
        assert says(numbers(goal)[0], ratio(key, "fastws TLS", "nginx TLS")), name
    cells = lines["private memory of an idle connection, KiB"]
    for cell, case in zip(cells, ("fastws TLS", "nginx TLS", "h2o TLS", "fastws pure TLS"), strict=False):
        found = ROWS["tls-idle"]["cases"][f"{case} beside idle"]["idle_bytes"]
        assert says(numbers(cell)[0], found / 1024), case


APPLICATIONS = {
    "hello": "app-hello", "Flask, 10 KiB of JSON": "app-flask", "Django": "app-django",
    "file beside it": "app-static",
    "p99 beside 8 that compute, ms": "app-computing", "p99 beside 16 that sleep, ms": "app-sleeping",
    "p99 beside robbers, ms": "app-robbers", "longest wait in a reload, ms": "app-reload",
    "4 processes with Django, MB": "app-memory",
}  # fmt: skip
SERVERS = {
    "threads": "fastws threads", "one process": "fastws process", "pure side, threads": "fastws pure threads",
    "granian": "granian", "waitress": "waitress", "gunicorn": "gunicorn gthread",
}  # fmt: skip


@pytest.mark.parametrize("line", tables(FIGURES)[3][2:], ids=lambda line: str(line[0]))
def test_figures_of_applications_are_those_of_their_run(line: list[str]) -> None:
    cases = ROWS[APPLICATIONS[line[0]]]["cases"]
    for name, cell in list(zip(tables(FIGURES)[3][0], line, strict=True))[1:-1]:
        case = SERVERS[name]
        if line[0].startswith("4 processes"):
            case = {"one process": "fastws 4 preloaded", "gunicorn": "gunicorn 4 preloaded"}.get(name, "")
        assert bool(cell) == (case in cases), name
        if cell:
            assert says(cell, cases[case]["median"]), name
    goals = ROWS[APPLICATIONS[line[0]]]["goals"]
    said = [(figure, part.startswith("**")) for part in line[-1].split("; ") for figure in numbers(part)[:1]]
    assert len(said) == len(goals)
    for (figure, is_missed), goal in zip(said, goals, strict=True):
        assert says(figure, goal["value"]), goal
        assert is_missed != goal["ok"], "what was missed is bold"


def test_day_of_the_figures_of_applications_is_that_of_their_runs() -> None:
    [day] = set(re.findall(r"whitenoise, taken on (\d{4}-\d\d-\d\d)", FIGURES))
    assert f"`results/{day}-applications*.json`" in FIGURES
    paths = list(RESULTS.glob("20*-applications*.json"))
    assert max(json.loads(path.read_text())["begun"] for path in paths).startswith(day)


def test_readme_says_and_plots_what_was_measured_beside_an_application() -> None:
    plot = (REPOSITORY / "docs" / "beside.svg").read_text()
    for key in ("app-computing", "app-sleeping"):
        for case in ("fastws process", "fastws threads", "granian", "gunicorn gthread", "waitress"):
            late = median(key, case)
            assert f"{late:.1f} ms" in plot or f"{late:,.0f} ms" in plot, (key, case)
    sentence = (
        r"wait in a view that sleeps, 99 of 100 files take at most ([\d.]+) ms; "
        r"with gunicorn and whitenoise it is ([\d,.]+) ms"
    )
    found = re.search(sentence, " ".join(README.split()))
    assert found is not None
    cases = ("fastws process", "gunicorn gthread")
    for figure, case in zip(found.groups(), cases, strict=True):
        assert says(figure, median("app-sleeping", case)), case
