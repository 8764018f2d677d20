"""Names of Windows: those that it takes for another file than the one they spell, and that of an open file.

Naming Files, Paths, and Namespaces (Microsoft Learn); NTFS streams; the device names of ``RtlIsDosDeviceName_U``.
"""

from __future__ import annotations

import re
import sys

# Patterns are text: re compiles each when it is first needed, and keeps it; a start does not pay for it.
_UNSAFE = r'[\x00-\x1f"*/:<>?\\|]'
"""A drive or a stream (``a.txt::$DATA``), another separator, wildcards, which some calls expand, and controls."""

_DEVICE = r"(?is)(?:con|prn|aux|nul|conin\$|conout\$|clock\$|(?:com|lpt)[0-9¹²³]) *(?:\..*)?"
"""A device in every directory, with whatever extension: ``nul.txt``, ``com1 .tar.gz``."""


def is_literal(name: str) -> bool:
    """Tell whether ``name``, one segment of a path, is looked up as it is spelled.

    That leaves other letter case and the short names of 8.3 (``PROGRA~1``): only the file system knows those.
    """
    if not name or name.endswith((".", " ")):  # which are dropped
        return False
    return not re.search(_UNSAFE, name) and not re.fullmatch(_DEVICE, name)


if sys.platform == "win32":

    def final_path(file: int) -> str | None:
        """Return the path of an open file, spelled as ``os.path.realpath`` does; None where the system has none.

        GetFinalPathNameByHandleW (fileapi.h); a file on some RAM disks has none.
        """
        import ctypes  # Python has the same call for names only
        import msvcrt

        name = ctypes.create_unicode_buffer(32768)
        handle = ctypes.c_void_p(msvcrt.get_osfhandle(file))
        size = ctypes.windll.kernel32.GetFinalPathNameByHandleW(handle, name, len(name), 0)
        if not 0 < size < len(name):
            return None
        path = name.value.removeprefix("\\\\?\\")
        return "\\\\" + path.removeprefix("UNC\\") if path.startswith("UNC\\") else path

else:

    def final_path(_: int) -> str | None:
        """Return None: other systems have other ways."""
        return None
