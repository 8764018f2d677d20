"""List the branches that no test takes: ``python .ci/uncovered.py REPORT.json ROOM...``.

REPORT.json is what ``coverage json`` writes. A branch whose function stands in ``.ci/uncovered.md`` is shown with
the reason that is given there. Nothing fails: what a share of 100 % would prove is not worth tests made for it.
"""

import json
import re
import sys
from pathlib import Path
from typing import Any

REASONS = Path(__file__).with_name("uncovered.md")


def reasons(page: str) -> dict[str, str]:
    """Return the reason of each ``file: function`` in the page's table."""
    return dict(re.findall(r"^\| `(.*?)` \| (.*) \|$", page, re.MULTILINE))


def missing(regions: dict[str, Any]) -> list[tuple[str, str]]:
    """Return each function of a file with what of it was not taken: lines, and branches between covered lines."""
    found = []
    for function, region in regions.items():
        lines = region["missing_lines"]
        branches = [f"{a}→{'end' if b < 0 else b}" for a, b in region["missing_branches"] if a not in lines]
        if lines or branches:
            found.append((function or "the module", " ".join([*map(str, lines), *branches])))
    return found


def main() -> int:
    """Print what is missing, room by room."""
    report = json.loads(Path(sys.argv[1]).read_text())
    known = reasons(REASONS.read_text())
    unexplained = 0
    for room in sys.argv[2:]:
        files = {name: data for name, data in report["files"].items() if f"fastws/{room}/" in name}
        branches = sum(data["summary"]["num_branches"] for data in files.values())
        taken = sum(data["summary"]["covered_branches"] for data in files.values())
        print(f"{room}/: {taken} of {branches} branches taken")
        for name, data in sorted(files.items()):
            short = name.partition("fastws/")[2]
            for function, what in missing(data["functions"]):
                reason = known.get(f"{short}: {function}")
                unexplained += reason is None
                print(f"  {short}: {function}: {what}{f'  ({reason})' if reason else '  NOT EXPLAINED'}")
    print(f"functions with untaken branches that .ci/uncovered.md does not explain: {unexplained}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
