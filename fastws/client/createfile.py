"""Write the numbered pages that the load client requests: ``python -m fastws.createfile``.

The same number and count give the same bytes on every machine and Python version, so that nodes which
generate their own copies serve the same entity tags.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import sys
from collections.abc import Sequence

from .output import OutputError, output

INTERRUPTED = 130
"""What shells report for a program ended by SIGINT."""

DEFAULT_COUNT = 100
MAX_COUNT = 1_000_000  # some 3 GB; more is a slip of the pen
DEFAULT_OUT = "webroot/files"

_PLACES = (
    "the north pier", "the customs house", "the old dry dock", "the fish market", "the signal mast",
    "the rope walk", "the breakwater", "the ferry landing", "the grain store", "the pilot station",
    "the chandler's yard", "the lighthouse stairs",
)  # fmt: skip
_ACTORS = (
    "the harbour master", "a crew of four", "the night watch", "a retired pilot", "the lock keeper",
    "two apprentices", "the crane driver", "a visiting painter", "the tide clerk", "the baker's daughter",
)  # fmt: skip
_DEEDS = (
    "counted the crates twice and found one too many", "repainted the mooring rings in white",
    "waited for the fog to lift", "wrote down the height of the water", "mended a net by lamplight",
    "rang the bell for the late boat", "traded three lemons for a map", "oiled the hinges of the sluice",
    "sketched every mast between here and the bridge", "found a letter wedged behind the barometer",
)  # fmt: skip
_OPENINGS = (
    "Before sunrise,", "When the tide turned,", "Shortly after noon,", "In a light drizzle,", "As agreed,",
    "Against all advice,", "For the third day running,", "With the last of the daylight,", "Unasked,",
)  # fmt: skip
_CLOSINGS = (
    "Nothing was lost.", "The log keeps the exact hour.", "Nobody remarked on it until the evening.",
    "The gulls took no interest.", "It is the kind of work that shows only when it is left undone.",
    "A second entry in another hand confirms it.", "The wind had backed to the south by then.",
)  # fmt: skip

_PAGE = """\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Harbour log, page {number} of {count}</title>
<link rel="icon" href="data:,">
<style>
:root {{ color-scheme: light dark; --accent: hsl({hue} 60% 42%); }}
body {{ max-width: 38rem; margin: 0 auto; padding: 2rem 1.25rem; font: 1.05rem/1.65 Georgia, serif; }}
h1 {{ border-bottom: .3rem solid var(--accent); padding-bottom: .5rem; line-height: 1.2; }}
nav {{ display: flex; justify-content: space-between; margin-top: 2.5rem; font-family: sans-serif; }}
</style>
</head>
<body>
<main>
<h1>Harbour log, page {number}</h1>
{paragraphs}
</main>
<nav aria-label="Pages">
{previous}
<span>{number} of {count}</span>
{next}
</nav>
</body>
</html>
"""


def file_name(number: int) -> str:
    """Return the name of the page with this number, counted from 1."""
    return f"file{number}.html"


def build_page(number: int, count: int) -> str:
    """Return the HTML of page ``number`` out of ``count``, linked to its neighbours."""
    return _PAGE.format(
        number=number,
        count=count,
        hue=number * 47 % 360,
        paragraphs="\n".join(f"<p>{text}</p>" for text in _paragraphs(number)),
        previous=_link(number - 1, "prev", "&larr; Previous") if number > 1 else "<span>First page</span>",
        next=_link(number + 1, "next", "Next &rarr;") if number < count else "<span>Last page</span>",
    )


def write_files(count: int, out: str) -> None:
    """Write ``count`` pages into the folder ``out``, made if it is not there; raises ``OSError``."""
    os.makedirs(out, exist_ok=True)
    for number in range(1, count + 1):
        with open(os.path.join(out, file_name(number)), "w", encoding="utf-8", newline="\n") as file:
            file.write(build_page(number, count))


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return 0, or 1 where a file cannot be written (a wrong argument exits with 2)."""
    parser = argparse.ArgumentParser(
        prog="fastws-createfile", description="Write file1.html, file2.html ... for the load client."
    )
    parser.add_argument(
        "--count", type=_count, default=DEFAULT_COUNT, help="number of files (default %(default)s)"
    )
    parser.add_argument("--out", default=DEFAULT_OUT, help="folder to write to (default %(default)s)")
    options = parser.parse_args(argv)
    try:
        write_files(options.count, options.out)
        with output() as out:
            last = file_name(options.count)
            print(f"wrote {options.count} files to {options.out}: {file_name(1)} ... {last}", file=out)
        return 0
    except OSError as error:
        where = error.filename or options.out
        problem, status = f"cannot write {where}: {error.strerror or error}", 1
    except OutputError as error:
        problem, status = str(error), 1
    except KeyboardInterrupt:
        problem, status = "interrupted; some files are not written", INTERRUPTED
    with contextlib.suppress(OSError, ValueError):  # standard error is closed too
        if sys.stderr is not None:
            print(f"fastws-createfile: {problem}", file=sys.stderr)
    return status


def _paragraphs(number: int) -> list[str]:
    # Of the random module only random() is promised to give the same sequence in every version.
    draw = random.Random(number).random

    def pick(words: Sequence[str]) -> str:
        return words[int(draw() * len(words))]

    def sentence() -> str:
        return f"{pick(_OPENINGS)} {pick(_ACTORS)} at {pick(_PLACES)} {pick(_DEEDS)}."

    texts = [f"Entry {number} begins at {pick(_PLACES)}. {sentence()} {pick(_CLOSINGS)}"]
    for _ in range(2 + int(draw() * 6)):
        texts.append(" ".join([*(sentence() for _ in range(2 + int(draw() * 3))), pick(_CLOSINGS)]))
    return texts


def _link(number: int, relation: str, text: str) -> str:
    return f'<a rel="{relation}" href="{file_name(number)}">{text}</a>'


def _count(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 18 and 0 < int(text) <= MAX_COUNT):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1 to {MAX_COUNT}")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
