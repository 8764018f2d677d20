"""What distinguishes one state of a file from another, and from when on it can be relied upon."""

from __future__ import annotations

import os
import time

from .. import portable
from ..http.messages import Identity

SETTLED_NS = 20_000_000
"""A file younger than this may change again within the same tick of the clock, unseen by its times."""

COARSE_NS = 2_000_000_000 + SETTLED_NS
"""The same where a file system counts in whole seconds, or in two as FAT does. ext3, HFS+, many servers of NFS and
SMB, and ext4 with inodes of 128 bytes count in whole ones."""

_SECOND_NS = 1_000_000_000


def identity_of(info: os.stat_result) -> Identity:
    """Return what distinguishes this state of the file from others."""
    return Identity(info.st_dev, info.st_ino, info.st_size, info.st_mtime_ns, info.st_ctime_ns)


def is_settled(identity: Identity, at_ns: int | None = None) -> bool:
    """Tell whether a change to the file after ``at_ns`` (None: now) is certain to change its identity too."""
    if at_ns is None:
        at_ns = time.time_ns()
    mtime_ns, ctime_ns = identity.mtime_ns, identity.ctime_ns
    # A time of modification can be set to the future, and then says nothing of when the file was written.
    is_future = mtime_ns > at_ns
    if is_future and not portable.CTIME_IS_OF_CHANGE:
        return False
    age_ns = at_ns - (ctime_ns if is_future or ctime_ns > mtime_ns else mtime_ns)
    if age_ns > COARSE_NS:
        return True
    # A time that was set may be a whole second on any file system; that of change is one in 10^9 by chance.
    is_coarse = not mtime_ns % _SECOND_NS and not ctime_ns % _SECOND_NS
    return age_ns > SETTLED_NS and not is_coarse


def is_made_up(place: int | str) -> bool:
    """Tell whether an empty file, by descriptor or path, may have content that is made up as it is read.

    That is so on a file system without blocks, such as ``/proc``, and no time tells of its changes.
    """
    try:
        return hasattr(os, "statvfs") and os.statvfs(place).f_blocks == 0
    except OSError:
        return True
