"""File systems with their own ways, mounted from an image where root may do that."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

COARSE = ("mkfs.ext4", "-q", "-I", "128", "-b", "1024")
"""Times are whole seconds."""
CASELESS = ("mkfs.vfat", "-F", "32")
"""Letter case, and dots at the end of a name, do not tell files apart."""


@contextmanager
def mounted(where: Path, maker: tuple[str, ...]) -> Iterator[Path]:
    """Mount a new file system that ``maker`` makes below ``where``; skip the test where that cannot be done."""
    path = os.environ["PATH"] + ":/sbin:/usr/sbin"
    program = shutil.which(maker[0], path=path)
    if program is None or shutil.which("mount", path=path) is None:
        pytest.skip(f"needs mount and {maker[0]}")
    image, point = where / "image", where / "volume"
    with image.open("wb") as file:
        file.truncate(40 << 20)
    point.mkdir()
    subprocess.run([program, *maker[1:], str(image)], check=True, capture_output=True)
    run = subprocess.run(["mount", "-o", "loop", str(image), str(point)], capture_output=True, check=False)
    if run.returncode:
        pytest.skip(f"cannot mount what {maker[0]} makes: not root, no loop device, or unknown to the kernel")
    try:
        yield point
    finally:
        subprocess.run(["umount", "--lazy", str(point)], check=True, capture_output=True)
