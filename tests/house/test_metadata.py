"""What a package index shows: made by setup.py out of pyproject.toml and README.md."""

from __future__ import annotations

import email.message
import email.parser
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("setuptools")

REPOSITORY = Path(__file__).resolve().parents[2]
HOME, FILES = "https://git.invalid/fastws", "https://git.invalid/fastws/blob/main/"
LINK = re.compile(r"(!?)\[([^]]*)\]\(([^)\s]+)\)")


def metadata(folder: Path, home: str = "", files: str = "") -> email.message.Message:
    """What a build of this repository writes, published where ``home`` and ``files`` say."""
    for name in ("setup.py", "README.md", "LICENSE"):
        shutil.copy(REPOSITORY / name, folder)
    text = (REPOSITORY / "pyproject.toml").read_text()
    text = text.replace('home = ""', f'home = "{home}"').replace('files = ""', f'files = "{files}"')
    (folder / "pyproject.toml").write_text(text)
    (folder / "fastws").mkdir()
    for name in ("__init__.py", "version.py"):
        shutil.copy(REPOSITORY / "fastws" / name, folder / "fastws")
    environment = {name: text for name, text in os.environ.items() if not name.startswith("FASTWS_")}
    done = subprocess.run(
        [sys.executable, "setup.py", "-q", "egg_info"],
        cwd=folder,
        env=environment | {"FASTWS_NO_EXTENSIONS": "1"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return email.parser.Parser().parsestr((folder / "fastws_server.egg-info" / "PKG-INFO").read_text())


def test_author_licence_and_readme_are_there(tmp_path: Path) -> None:
    found = metadata(tmp_path)
    assert found["Author"] == "The fastws authors"
    assert found["License-Expression"] == "MIT"
    assert found["Description-Content-Type"] == "text/markdown"
    assert str(found.get_payload()).startswith("# fastws\n")


def test_nothing_that_is_published_nowhere_has_an_address(tmp_path: Path) -> None:
    """A relative link would lead to a page of the index that is not there."""
    found = metadata(tmp_path)
    assert found.get_all("Project-URL", []) == []
    targets = [target for _, _, target in LINK.findall(str(found.get_payload()))]
    assert all(re.match("https?:", target) for target in targets), targets
    assert "Operating it" in str(found.get_payload())
    for picture in "docs/benchmark.svg", "docs/beside.svg":
        assert picture not in str(found.get_payload())


def test_links_and_pictures_of_a_published_one_are_absolute(tmp_path: Path) -> None:
    found = metadata(tmp_path, HOME, FILES)
    assert dict(line.split(", ") for line in found.get_all("Project-URL", [])) == {
        "Homepage": HOME,
        "Documentation": f"{FILES}docs/operations.md",
        "Changelog": f"{FILES}CHANGELOG.md",
    }
    shown = LINK.findall(str(found.get_payload()))
    assert all(re.match("https?:", target) for _, _, target in shown)
    pictures = [f"{FILES}docs/{name}.svg?raw=true" for name in ("benchmark", "beside")]
    assert [target for mark, _, target in shown if mark] == pictures
    for _, _, target in LINK.findall((REPOSITORY / "README.md").read_text()):
        if not re.match("[a-z]+:|#", target):
            assert (REPOSITORY / target.partition("#")[0]).exists()
