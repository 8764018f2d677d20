"""What other platforms lack is not needed to import the server, nor used behind the back of ``portable``."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import windows

PACKAGE = Path(__file__).resolve().parents[2] / "fastws"
ONLY_POSIX = {"fastws.operation.privileges"}

IMPORT_ALL = """
import sys
import os, select, selectors, signal, socket

for module, names in {lacking!r}.items():
    for name in names.split():
        if hasattr(sys.modules[module], name):
            delattr(sys.modules[module], name)
del selectors.EpollSelector, selectors.PollSelector
selectors.DefaultSelector = selectors.SelectSelector
os.supports_dir_fd = os.supports_fd = os.supports_effective_ids = set()
for name in {modules!r}:
    sys.modules[name] = None
import importlib

for name in {names!r}:
    importlib.import_module(name)
from fastws import portable
from fastws.files.root import way_into
from fastws.transport import plain

print(portable.HAS_OPENAT, portable.AF_UNIX, way_into.__name__, plain._send_file.__name__)
"""


def test_every_module_is_imported_without_what_windows_lacks() -> None:
    names = []
    for path in sorted(PACKAGE.rglob("*.py")):
        name = ".".join(("fastws", *path.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(
            ".__init__"
        )
        if name not in ONLY_POSIX and path.stem != "__main__":
            names.append(name)
    assert len(names) > 80
    code = IMPORT_ALL.format(lacking=windows.LACKING, modules=windows.MODULES_LACKING, names=names)
    environment = {"PYTHONPATH": str(PACKAGE.parent), "FASTWS_NO_EXTENSIONS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=100
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["False", "None", "ByName", "_read_and_send"]
