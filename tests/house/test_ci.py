"""What ``.ci/run`` says of skipped tests and of branches that no test takes."""

from __future__ import annotations

import io
import json
import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

CI = Path(__file__).resolve().parents[2] / ".ci"
REPORT = """<testsuites><testsuite>
<testcase classname="tests.served.test_browser" name="test_page"><skipped message="{reason}"/></testcase>
<testcase classname="tests.http.test_ranges" name="test_one"/>
</testsuite></testsuites>"""


def skips(
    tmp_path: Path, reason: str, *required: str, **environment: str
) -> subprocess.CompletedProcess[str]:
    (tmp_path / "report.xml").write_text(REPORT.format(reason=reason))
    return subprocess.run(
        [sys.executable, str(CI / "skips.py"), str(tmp_path / "report.xml")],
        input="\n".join(required), capture_output=True, text=True, env=os.environ | environment,
    )  # fmt: skip


PAGE = "tests/served/test_browser.py::test_page"


@pytest.mark.parametrize(
    ("reason", "required", "path", "status", "said"),
    [
        ("no reason at all", [PAGE], None, 1, "SKIPPED WITHOUT NEED: "),
        ("no reason at all", [], None, 0, "skipped without need: 0"),
        ("goaccess is not installed", [PAGE], "/nonexistent", 0, "skipped: "),
        ("cc is not installed", [], "/nonexistent", 0, "missing here: "),
        ("needs cc", [], "{here}", 1, "SKIPPED WITHOUT NEED: "),  # not marked, and cc is there
    ],
)
def test_required_test_may_be_skipped_only_for_want_of_something(
    tmp_path: Path, reason: str, required: list[str], path: str | None, status: int, said: str
) -> None:
    (tmp_path / "cc").touch(mode=0o755)
    environment = {"CI": "true"}
    if path is not None:
        environment["PATH"] = path.format(here=tmp_path)
    done = skips(tmp_path, reason, *required, **environment)
    assert (done.returncode, done.stderr) == (status, "")
    assert said in done.stdout


def test_programs_that_excuse_a_skip_are_those_that_ci_installs() -> None:
    programs = set(runpy.run_path(str(CI / "skips.py"))["PROGRAMS"])
    installed = re.search(r'done <<< "(.*?)"', (CI / "run").read_text(), re.DOTALL)
    assert installed
    others = {"prlimit", "wine"}  # packages that bring setpriv and wine64 bring these
    found = {line.split()[1] for line in installed[1].splitlines()}
    assert programs - others == found - others


def test_table_at_the_head_names_every_step() -> None:
    text = (CI / "run").read_text()
    head = text.partition("set -u")[0]
    steps = re.findall(r'^(?:PATH=\S+ )?step "(.*?)"', text, re.MULTILINE)
    assert len(steps) > 8
    words = " ".join(head.replace("#", " ").split())
    for step in steps:
        assert step.split(",")[0].split(" as ")[0].removesuffix(" takes") in words, step


def test_untaken_branches_are_listed_with_their_reasons(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    summary = {"num_branches": 4, "covered_branches": 2}
    functions = {
        "known": {"missing_lines": [3], "missing_branches": [[2, 3], [3, 4]]},
        "C.unknown": {"missing_lines": [], "missing_branches": [[7, -5]]},
        "": {"missing_lines": [], "missing_branches": []},
    }
    files = {"/x/fastws/http/a.py": {"summary": summary, "functions": functions}}
    (tmp_path / "report.json").write_text(json.dumps({"files": files}))
    script = tmp_path / "uncovered.py"
    script.write_text((CI / "uncovered.py").read_text())
    (tmp_path / "uncovered.md").write_text(
        "| function | why |\n|---|---|\n| `http/a.py: known` | a reason |\n"
    )
    done = subprocess.run(
        [sys.executable, str(script), str(tmp_path / "report.json"), "http"], capture_output=True, text=True
    )
    assert io.StringIO(done.stdout).readlines() == [
        "http/: 2 of 4 branches taken\n",
        "  http/a.py: known: 3 2→3  (a reason)\n",
        "  http/a.py: C.unknown: 7→end  NOT EXPLAINED\n",
        "functions with untaken branches that .ci/uncovered.md does not explain: 1\n",
    ]
