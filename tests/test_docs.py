"""The documents and what they are about: the modules, the limits, the examples of configuration."""

from __future__ import annotations

import re
from pathlib import Path

from fastws import accepting, load
from fastws.framing import CHUNK_LINE_BYTES
from fastws.messages import Limits
from fastws.ranges import MAX_RANGES

REPOSITORY = Path(__file__).resolve().parent.parent
PACKAGE = REPOSITORY / "fastws"
DESIGN = (REPOSITORY / "docs" / "design.md").read_text()
DEPLOYMENT = (REPOSITORY / "docs" / "deployment.md").read_text()
MODULES = re.findall(r"^\|[^|]*\| `(\w+\.pyx?)` \|", DESIGN, re.MULTILINE)


def test_every_module_has_its_row() -> None:
    assert sorted(MODULES) == sorted(
        path.name for path in PACKAGE.iterdir() if path.suffix in (".py", ".pyx")
    )


def test_limits_are_as_the_page_says() -> None:
    limits = Limits()
    bounds = dict(
        re.findall(r"^\| ([^|]+) \| ([^|]+) \| [^|]+ \|$", DESIGN.split("## Limits")[1], re.MULTILINE)
    )
    assert bounds["request line"] == f"{limits.request_line_bytes >> 10} KiB"
    assert bounds["request head"] == f"{limits.head_bytes >> 10} KiB, {limits.field_count} fields"
    assert bounds["line of a chunked body"] == f"{CHUNK_LINE_BYTES} bytes"
    assert bounds["ranges in a request"] == f"{MAX_RANGES}"
    assert f"rests for {accepting.PAUSE_S} s" in DESIGN


def test_deployment_example_is_a_right_configuration(tmp_path: Path) -> None:
    blocks = re.findall(r"^```\w*\n(.*?)^```$", DEPLOYMENT, re.MULTILINE | re.DOTALL)
    (example,) = [block for block in blocks if "ListenPort" in block]
    for directory in ("/srv/www", "/var/log/fastws"):
        (tmp_path / directory[1:]).mkdir(parents=True)
        example = example.replace(directory, f"{tmp_path}{directory}")
    (tmp_path / "ws.conf").write_text(example)
    assert load(str(tmp_path / "ws.conf")).listen_ports == (8080,)
