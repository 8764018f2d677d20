"""Name the required tests that were skipped: ``python .ci/skips.py REPORT.xml < IDS``.

REPORT.xml is pytest's JUnit report, IDS the output of ``pytest --collect-only -q -m 'browser or peer'``. Required
are these, and each test that was skipped for want of a program which ``.ci/run`` installs. Exit status 1 with
CI=true if such a test was skipped although nothing that its reason names is missing here.
"""

import glob
import importlib.util
import os
import re
import shutil
import sys
import xml.etree.ElementTree as ET

PROGRAMS = (
    "chromium", "chromedriver", "nginx", "haproxy", "goaccess", "slowhttptest", "caddy",
    "faketime", "clang", "wrk", "curl",
    "setpriv", "prlimit", "cc", "valgrind", "wine64", "musl-gcc", "certbot",
    "prometheus",
    "haproxy", "varnishd", "ip", "bindfs", "testssl",
)  # fmt: skip
PACKAGES = ("atheris", "django", "flask", "whitenoise")


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
    path = f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/lib/wine"
    absent = [name for name in PROGRAMS if shutil.which(name, path=path) is None]
    absent += [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if os.geteuid() != 0:
        absent.append("root")
    if not os.path.exists("build/windows-python/python.exe"):
        absent.append("CPython for Windows")
    for folder, name in (("waitress", "sources of waitress"), ("django", "sources of Django")):
        if not glob.glob(f"build/{folder}-*/tests"):
            absent.append(name)
    unexcused = 0
    for test, reason in sorted(skipped(sys.argv[1]).items()):
        if test in required or set(re.findall(r"\w+", reason)) & {*PROGRAMS, *PACKAGES}:
            excused = any(name in reason for name in absent)
            unexcused += not excused
            print(f"{'skipped' if excused else 'SKIPPED WITHOUT NEED'}: {test}: {reason}")
    if absent:
        print(f"missing here: {', '.join(absent)}")
    print(f"required tests skipped without need: {unexcused}")
    return 1 if unexcused and os.environ.get("CI") == "true" else 0


if __name__ == "__main__":
    sys.exit(main())
