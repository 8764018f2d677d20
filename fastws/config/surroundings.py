"""Where the logs of a server without a configuration file go: where this platform keeps an account's."""

from __future__ import annotations

import ntpath
import os
import re
import sys
from collections.abc import Mapping

from .directives import BY_NAME
from .draft import directory_problem, log_problem

LONGEST_NAME_BYTES = 200  # Linux: 255 for a name in a directory, and Windows 260 for a whole path


def state_directory(root: str) -> str:
    """Return the directory for logs of a server of ``root``, one for each; '' where this account has no home."""
    state = account_state(sys.platform, os.environ, os.path.expanduser("~"))
    return os.path.join(state, "fastws", state_name(root)) if os.path.isabs(state) else ""


def certificate_directory() -> str:
    """Return the directory for certificates made on the spot, one for each account; '' where it has no home."""
    state = account_state(sys.platform, os.environ, os.path.expanduser("~"))
    return os.path.join(state, "fastws", "tls") if os.path.isabs(state) else ""


def account_state(platform: str, environment: Mapping[str, str], home: str) -> str:
    """Return the directory in which ``platform`` keeps the logs of an account's programs.

    It is not absolute where there is none. XDG Base Directory, which goes first everywhere; macOS: File System
    Programming Guide; Windows: FOLDERID_LocalAppData.
    """
    named = environment.get("XDG_STATE_HOME", "")
    if os.path.isabs(named):
        return named
    if platform == "win32":
        return environment.get("LOCALAPPDATA", "") or ntpath.join(home, "AppData", "Local")
    return os.path.join(home, "Library/Logs" if platform == "darwin" else ".local/state")


def state_name(root: str, platform: str = sys.platform) -> str:
    """Return one name for the path ``root``: ``srv-www``, on Windows ``C-Users-me-site``."""
    separators = "\\/:" if platform == "win32" else "/"
    plain = re.sub(f"[{re.escape(separators)}]+" if platform == "win32" else "/", "-", root.strip(separators))
    name = os.fsencode(plain or "root")[-LONGEST_NAME_BYTES:]
    return os.fsdecode(name)


def state_problem(state: str) -> str:
    """Return what keeps logs from being written in ``state``, which is made if it is not there; or ''."""
    if not state:
        return "this account has no home directory"
    there = state
    while not os.path.lexists(there) and there != os.path.dirname(there):  # a drive may be missing too
        there = os.path.dirname(there)
    wrong = [directory_problem(there, os.W_OK | os.X_OK)]
    if there == state:
        logs = [os.path.join(state, BY_NAME[name].default) for name in ("accesslog", "errorlog")]
        wrong += map(log_problem, logs)
    return next(filter(None, wrong), "")
