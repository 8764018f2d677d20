"""Where the logs of a server without a configuration file go: the state directory of XDG Base Directory."""

from __future__ import annotations

import os

from .directives import BY_NAME
from .draft import directory_problem, log_problem

LONGEST_NAME_BYTES = 200  # Linux: 255 for a name in a directory


def state_directory(root: str) -> str:
    """Return the directory for logs of a server of ``root``, one for each; '' where this account has no home."""
    home = os.environ.get("XDG_STATE_HOME", "")
    state = home if os.path.isabs(home) else os.path.expanduser("~/.local/state")
    name = os.fsencode(root.strip("/").replace("/", "-") or "root")[-LONGEST_NAME_BYTES:]
    return os.path.join(state, "fastws", os.fsdecode(name)) if os.path.isabs(state) else ""


def state_problem(state: str) -> str:
    """Return what keeps logs from being written in ``state``, which is made if it is not there; or ''."""
    if not state:
        return "this account has no home directory"
    there = state
    while not os.path.lexists(there):
        there = os.path.dirname(there)
    wrong = [directory_problem(there, os.W_OK | os.X_OK)]
    if there == state:
        logs = [os.path.join(state, BY_NAME[name].default) for name in ("accesslog", "errorlog")]
        wrong += map(log_problem, logs)
    return next(filter(None, wrong), "")
