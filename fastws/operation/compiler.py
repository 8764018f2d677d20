"""Why pure Python runs on a machine that could have the compiled modules, and what to do about it.

Two installs leave them out without a word: one from a wheel without them that pip had kept from a time or a
machine without a compiler, and one by ``--no-build-isolation`` where Cython is missing.
"""

from __future__ import annotations

import os

from .. import backend as backends

NAME = "fastws-server"
"""The distribution, as pip knows it."""


def unused_compiler(backend: backends.Backend) -> str:
    """Return a sentence where ``backend`` fell back to the pure parser though a C compiler is here, else ''."""
    if backend.parser.side != "pure" or os.environ.get(backends.PURE) == "1" or os.name != "posix":
        return ""
    compiler = _compiler()
    if not compiler:
        return ""
    return f"pure Python runs although a C compiler is here ({compiler}): {_remedy()} builds the compiled modules"


def _compiler() -> str:
    """Return the C compiler that would be used, '' if there is none."""
    import shutil  # only a server without the compiled modules asks
    import sysconfig

    built_with = str(sysconfig.get_config_var("CC") or "cc").split()[0]
    for name in (os.environ.get("CC", "").partition(" ")[0], built_with, "cc", "gcc", "clang"):
        if name and shutil.which(name):
            return name
    return ""


def _remedy() -> str:
    import sysconfig

    include = sysconfig.get_path("include")
    headers = (
        "" if os.path.exists(os.path.join(include, "Python.h")) else "with Python's headers (python3-dev), "
    )
    here = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    if os.path.exists(os.path.join(here, "setup.py")):
        return f"{headers}pip install -e . in {here}"
    return f"{headers}pip install --force-reinstall --no-cache-dir --no-binary {NAME} {NAME}"
