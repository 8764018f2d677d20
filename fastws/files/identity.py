"""What distinguishes one state of a file from another, and from when on it can be relied upon."""

from __future__ import annotations

import os
import time

from .. import portable
from ..http.messages import Identity

SETTLED_NS = 20_000_000
"""A file younger than this may change again within the same tick of the clock, unseen by its times."""


def identity_of(info: os.stat_result) -> Identity:
    """Return what distinguishes this state of the file from others."""
    return Identity(info.st_dev, info.st_ino, info.st_size, info.st_mtime_ns, info.st_ctime_ns)


def is_settled(identity: Identity, at_ns: int | None = None) -> bool:
    """Tell whether a change to the file after ``at_ns`` (None: now) is certain to change its identity too."""
    if at_ns is None:
        at_ns = time.time_ns()
    # A time of modification can be set to the future, and then says nothing of when the file was written.
    if identity.mtime_ns > at_ns and not portable.CTIME_IS_OF_CHANGE:
        return False
    newest = identity.ctime_ns if identity.mtime_ns > at_ns else max(identity.mtime_ns, identity.ctime_ns)
    return at_ns - newest > SETTLED_NS
