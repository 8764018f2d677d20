"""The document root: what is found below it, and what is nothing."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from rawhttp import put

from fastws import backend
from fastws.files.root import Nothing, Root
from fastws.http.errors import HTTPError


@pytest.mark.parametrize("name", ["none", "none/below", "page.txt/below", "x" * 256, "out", "fifo"])
def test_what_is_not_there_or_not_to_be_seen_is_found_to_be_nothing(
    side: backend.Backend, tmp_path: Path, name: str
) -> None:
    put(tmp_path / "root", {"page.txt": b"inside"})
    put(tmp_path, {"outside.txt": b"outside"})
    (tmp_path / "root" / "out").symlink_to("../outside.txt")
    os.mkfifo(tmp_path / "root" / "fifo")
    with Root(str(tmp_path / "root"), side.opener, Nothing()) as root:
        assert root.find(name) is None
        with pytest.raises(HTTPError, match="404: There is no such file"):
            root.open(name)
        assert root.find("page.txt") is not None
