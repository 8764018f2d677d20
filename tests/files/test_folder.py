"""The root as configured: two spellings of one file, and names that are not stored as they are spelled."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import pytest
from rawhttp import put

from fastws import backend
from fastws.config.settings import defaults
from fastws.files.folder import Folder
from fastws.files.root import Nothing


@pytest.fixture
def folder(side: backend.Backend, tmp_path: Path) -> Folder:
    put(tmp_path / "root", {"private/a.txt": b"a", "other/a.txt": b"b"})
    (tmp_path / "root" / "PRIVATE").symlink_to("private")
    config = defaults(str(tmp_path / "root"))
    logger = logging.getLogger("test")
    return Folder(config.document_root, config, logger, opener=side.opener, replays=False, hidden=Nothing())


@pytest.mark.parametrize(
    ("path", "other", "expected"),
    [
        ("/PRIVATE/a.txt", "/private/a.txt", True),
        ("/PRIVATE/", "/private/", True),
        ("/PRIVATE/none/none", "/private/none/none", True),
        ("/other/a.txt", "/private/a.txt", False),
        ("/other/none", "/private/none", False),
        ("/Private/a.txt", "/private/a.txt", False),  # leads nowhere
        ("/private/A.txt", "/private/a.txt", False),
        ("/private/a.txt", "/private/a.txt", False),  # no other spelling
    ],
)
def test_spellings_mean_the_same_as_far_as_they_lead_to_anything(
    folder: Folder, path: str, other: str, expected: bool
) -> None:
    assert folder.means_same(path, other) is expected


def test_name_that_leads_somewhere_and_is_in_no_directory_is_not_stored(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    for path in ("/private/a.txt", "/private/", "/none~1/x", "/private/a.txt/below", "/"):
        assert folder.is_stored(path), path
    monkeypatch.setattr(os.path, "lexists", lambda path: True)  # as the short names of FAT are
    assert not folder.is_stored("/PRIVAT~1/a.txt")
    assert not folder.is_stored("/private/A~1.TXT")
    assert folder.is_stored("/private/a.txt")
