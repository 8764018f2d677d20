"""The fields that the configuration gives a path, and files that are never served."""

from __future__ import annotations

import os
from pathlib import Path

from fastws.config.settings import defaults
from fastws.site.hidden import OwnFiles
from fastws.site.policy import Policy


def test_path_of_no_pattern_has_no_cache_control(tmp_path: Path) -> None:
    policy = Policy(defaults(str(tmp_path)).with_overrides(cache_control=(("/assets/*", "max-age=60"),)))
    assert dict(policy.fields("/assets/a.css"))["Cache-Control"] == "max-age=60"
    assert "Cache-Control" not in dict(policy.fields("/index.html"))


def test_own_file_that_is_gone_hides_nothing(tmp_path: Path) -> None:
    there, gone = tmp_path / "there", tmp_path / "gone"
    there.touch()
    gone.touch()
    config = defaults(str(tmp_path)).with_overrides(basic_auth=(("/a/*", str(there)), ("/b/*", str(gone))))
    numbers = [(info.st_dev, info.st_ino) for info in map(os.stat, (there, gone))]
    assert OwnFiles(config)() == numbers
    gone.unlink()
    assert OwnFiles(config)() == numbers[:1]
