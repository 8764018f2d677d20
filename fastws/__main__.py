"""``python -m fastws``: the same as the console script ``fastws``."""

from __future__ import annotations

import sys

from .operation.cli import main

if __name__ == "__main__":
    sys.exit(main())
