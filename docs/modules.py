"""Write the rooms and modules of design.md, from the first line of each: ``python docs/modules.py``."""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
PAGE = REPOSITORY / "docs" / "design.md"
HEADING = "## Rooms and modules\n"

SUFFIXES = (".py", ".pyx", ".h", ".pxd")
"""Where modules share a name, the first of these speaks: a .pxd only declares what its .pyx or .h defines."""

DOOR = ("__init__", "__main__", "createfile")
"""Modules of the package's own folder that are not of the hall."""

DOOR_LINE = "What other programs import and run."
HALL_LINE = "What crosses between Python and its twins, and the pairs of twins side by side."


def first_line(path: Path) -> str:
    """Return the first line of a module's docstring or leading comment, as Markdown.

    Raises ValueError where there is none, or where it is no sentence: the table would show a torn one.
    """
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".py":
        line = (ast.get_docstring(ast.parse(text)) or "").partition("\n")[0]
    else:
        pattern = {
            ".pyx": r'^"""(.*?)(?:"""|$)',
            ".pxd": r"^# (?!cython:)(.*)$",
            ".h": r"\A/\* (.*?)(?: ?\*/|$)",
        }
        found = re.search(pattern[path.suffix], text, re.MULTILINE)
        line = found[1] if found else ""
    if not line.endswith("."):
        raise ValueError(f"{path}: the first line is no sentence: {line!r}")
    return line.replace("``", "`").replace("|", "\\|")


def modules(folder: Path) -> dict[str, Path]:
    """Return the modules of one folder by their stem, each with the file that speaks for it."""
    found: dict[str, Path] = {}
    for suffix in reversed(SUFFIXES):
        found |= {path.stem: path for path in folder.glob(f"*{suffix}")}
    return found


def table(found: dict[str, Path]) -> str:
    """Return a table with a row a module, twins side by side."""
    rows = [f"| `{path.name}` | {first_line(path)} |\n" for _, path in sorted(found.items())]
    return "".join(["\n| module | what it is for |\n|---|---|\n", *rows])


def rooms(package: Path) -> str:
    """Return the chapter: each room with its sentence and its modules."""
    own = modules(package)
    door = {stem: own.pop(stem) for stem in DOOR}
    parts = [f"\n### The door: `{package.name}/`\n\n{DOOR_LINE}\n", table(door)]
    parts += [f"\n### The hall: `{package.name}/`\n\n{HALL_LINE}\n", table(own)]
    for path in sorted(package.glob("*/__init__.py")):
        found = modules(path.parent)
        del found["__init__"]
        parts += [f"\n### `{path.parent.name}/`\n\n{first_line(path)}\n", table(found)]
    return "".join(parts)


def with_rooms(page: str) -> str:
    """Return the page with its last chapter, which is generated, renewed."""
    before, heading, _ = page.partition(HEADING)
    if not heading:
        raise ValueError(f"no chapter {HEADING!r}")
    said = "\nGenerated from the first line of each module: `python docs/modules.py`.\n"
    return before + HEADING + said + rooms(REPOSITORY / "fastws")


def main() -> int:
    """Renew the page."""
    old = PAGE.read_text(encoding="utf-8")
    new = with_rooms(old)
    if new != old:
        PAGE.write_text(new, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
