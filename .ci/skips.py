"""Name the required tests that were skipped: ``python .ci/skips.py REPORT.xml < IDS``.

REPORT.xml is pytest's JUnit report, IDS the output of ``pytest --collect-only -q -m 'browser or peer'``. Exit
status 1 with CI=true if such a test was skipped although its reason names no program or package that is missing
here.
"""

import importlib.util
import os
import shutil
import sys
import xml.etree.ElementTree as ET

PROGRAMS = ("chromium", "chromedriver", "nginx", "goaccess", "slowhttptest", "caddy", "faketime", "clang")
PACKAGES = ("atheris",)


def skipped(report: str) -> dict[str, str]:
    """Return the reason of each skipped test by its id."""
    cases = ET.parse(report).getroot().iter("testcase")
    return {
        f"{case.get('classname', '').replace('.', '/')}.py::{case.get('name')}": found.get("message", "")
        for case in cases
        if (found := case.find("skipped")) is not None
    }


def main() -> int:
    """Print what was skipped; return 1 if that is not to be."""
    required = {line.strip() for line in sys.stdin if "::" in line}
    path = f"{os.environ.get('PATH', '')}:/usr/sbin"
    absent = [name for name in PROGRAMS if shutil.which(name, path=path) is None]
    absent += [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    unexcused = 0
    for test, reason in sorted(skipped(sys.argv[1]).items()):
        if test in required:
            excused = any(name in reason for name in absent)
            unexcused += not excused
            print(f"{'skipped' if excused else 'SKIPPED WITHOUT NEED'}: {test}: {reason}")
    print(f"required tests skipped without need: {unexcused} of {len(required)}")
    return 1 if unexcused and os.environ.get("CI") == "true" else 0


if __name__ == "__main__":
    sys.exit(main())
