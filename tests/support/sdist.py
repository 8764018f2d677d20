"""Source archives of packages from PyPI, for tests that run what is in them."""

from __future__ import annotations

import hashlib
import io
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path


def fetch(requirement: str, sha256: str) -> tarfile.TarFile:
    """Download the source archive of ``name==version`` and open it; the caller closes it.

    Raises ``subprocess.CalledProcessError``, and ``ValueError`` if the archive has another hash.
    """
    with tempfile.TemporaryDirectory() as name:
        command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--no-binary", ":all:"]
        subprocess.run([*command, "-d", name, requirement], check=True)
        (archived,) = Path(name).glob("*.tar.gz")
        data = archived.read_bytes()
    if hashlib.sha256(data).hexdigest() != sha256:
        raise ValueError(f"the source archive of {requirement} is not what it was")
    return tarfile.open(fileobj=io.BytesIO(data))
