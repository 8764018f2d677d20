"""The gate of instruction counts: what it compares, and what it finds wrong."""

from __future__ import annotations

import contextlib
import importlib.util
import json
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "instructions.py"


@pytest.fixture(scope="module")
def instructions() -> ModuleType:
    spec = importlib.util.spec_from_file_location("instructions", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_each_build_has_a_figure_for_each_kind(instructions: ModuleType) -> None:
    figures = json.loads(instructions.FIGURES.read_text())
    assert figures
    for build, counts in figures.items():
        assert tuple(counts) == instructions.GATE, build
        assert all(count > 1000 for count in counts.values())


def test_a_count_beyond_the_tolerance_is_named(instructions: ModuleType) -> None:
    known = {"hit": 10_000, "404": 10_000, "304": 10_000}
    assert instructions.compare({"hit": 10_149, "404": 9_851}, known) == []
    assert instructions.compare({"hit": 10_160, "404": 9_390}, known) == [
        "hit: 10,160 instructions, 10,000 known: +1.6%", "404: 9,390 instructions, 10,000 known: -6.1%",
    ]  # fmt: skip


@pytest.fixture
def alone(instructions: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ModuleType:
    """The script with figures of its own, and without files to ask for."""
    monkeypatch.setattr(instructions, "FIGURES", tmp_path / "figures.json")
    monkeypatch.setattr(instructions, "build", lambda: "this build")
    monkeypatch.setattr(instructions, "_files", contextlib.nullcontext)
    return instructions


@pytest.mark.parametrize(
    ("count", "known", "expected", "said"),
    [
        (1000, {"this build": {"hit": 1000}}, 0, "+0.0%"),
        (1016, {"this build": {"hit": 1000}}, 1, "FAILED: hit: 1,016 instructions"),
        (1016, {"another": {"hit": 1000}}, 0, "NOT COMPARED: no figures for this build"),
    ],
)
def test_gate_fails_only_for_a_build_that_is_known(
    alone: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    count: int,
    known: dict[str, dict[str, int]],
    expected: int,
    said: str,
) -> None:
    monkeypatch.setattr(alone, "gate_counts", lambda root: {"hit": count})
    alone.FIGURES.write_text(json.dumps(known))
    assert alone.gate(renew=False) == expected
    assert said in capsys.readouterr().out
    assert alone.gate(renew=True) == 0
    assert json.loads(alone.FIGURES.read_text()) == known | {"this build": {"hit": count}}
    assert alone.gate(renew=False) == 0
