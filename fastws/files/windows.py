"""Names that Windows takes for another file than the one they spell: every one of them is no name here.

Naming Files, Paths, and Namespaces (Microsoft Learn); NTFS streams; the device names of ``RtlIsDosDeviceName_U``.
"""

from __future__ import annotations

import re

_UNSAFE = re.compile(r'[\x00-\x1f"*/:<>?\\|]')
"""A drive or a stream (``a.txt::$DATA``), another separator, wildcards, which some calls expand, and controls."""

_DEVICE = re.compile(
    r"(?:con|prn|aux|nul|conin\$|conout\$|clock\$|(?:com|lpt)[0-9¹²³]) *(?:\..*)?", re.IGNORECASE | re.DOTALL
)
"""A device in every directory, with whatever extension: ``nul.txt``, ``com1 .tar.gz``."""


def is_literal(name: str) -> bool:
    """Tell whether ``name``, one segment of a path, is looked up as it is spelled.

    That leaves other letter case and the short names of 8.3 (``PROGRA~1``): only the file system knows those.
    """
    if not name or name.endswith((".", " ")):  # which are dropped
        return False
    return not _UNSAFE.search(name) and not _DEVICE.fullmatch(name)
