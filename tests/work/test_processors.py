from __future__ import annotations

from pathlib import Path

import pytest

from fastws.work import processors as module
from fastws.work.processors import processors


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine of eight processors whose control groups lie in the returned directory."""
    monkeypatch.delenv("PYTHON_CPU_COUNT", raising=False)
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(8)), raising=False)
    monkeypatch.setattr(module, "CGROUPS", str(tmp_path / "tree"))
    monkeypatch.setattr(module, "OWN_CGROUPS", str(tmp_path / "own"))
    return tmp_path


def write(machine: Path, own: str, files: dict[str, str]) -> None:
    (machine / "own").write_text(own + "\n")
    for name, text in files.items():
        path = machine / "tree" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")


def test_without_groups_affinity_decides(machine: Path) -> None:
    assert processors() == 8


@pytest.mark.parametrize(
    ("own", "files", "expected"),
    [
        ("0::/", {"cpu.max": "200000 100000"}, 2),
        ("0::/", {"cpu.max": "150000 100000"}, 2),
        ("0::/", {"cpu.max": "5000 100000"}, 1),
        ("0::/", {"cpu.max": "max 100000"}, 8),
        ("0::/", {"cpu.max": "garbage"}, 8),
        ("0::/a/b", {"a/cpu.max": "300000 100000", "a/b/cpu.max": "max 100000"}, 3),
        ("0::/not/seen/here", {"cpu.max": "400000 100000"}, 4),
        ("0::/../outside", {"cpu.max": "400000 100000"}, 4),
        ("4:cpu,cpuacct:/d", {"cpu/d/cpu.cfs_quota_us": "250000", "cpu/d/cpu.cfs_period_us": "100000"}, 3),
        ("4:cpu,cpuacct:/d", {"cpu,cpuacct/cpu.cfs_quota_us": "5000", "cpu,cpuacct/cpu.cfs_period_us": "5000"}, 1),
        ("4:cpu:/d\n0::/", {"cpu/d/cpu.cfs_quota_us": "-1", "cpu/d/cpu.cfs_period_us": "100000"}, 8),
        ("4:memory:/d", {"cpu/d/cpu.cfs_quota_us": "1", "cpu/d/cpu.cfs_period_us": "1"}, 8),
        ("what is this", {}, 8),
    ],
)  # fmt: skip
def test_quota_of_the_control_groups_is_heeded(
    machine: Path, own: str, files: dict[str, str], expected: int
) -> None:
    write(machine, own, files)
    assert processors() == expected


@pytest.mark.parametrize(
    ("said", "expected"), [("3", 3), ("16", 16), ("9" * 30, 256), ("default", 2), ("0", 2), ("x", 2), ("", 2)]
)
def test_variable_of_python_goes_before_both(
    machine: Path, monkeypatch: pytest.MonkeyPatch, said: str, expected: int
) -> None:
    write(machine, "0::/", {"cpu.max": "200000 100000"})
    monkeypatch.setenv("PYTHON_CPU_COUNT", said)
    assert processors() == expected
