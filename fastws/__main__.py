"""``python -m fastws`` and the console script ``fastws``."""

from __future__ import annotations

import gc
import sys

from .operation.early import end_early


def main() -> int:
    """Run the command line; a signal is obeyed while it is still being imported."""
    end_early()
    gc.disable()  # there is nothing to find while modules are loaded; operation.process switches it on
    from .operation import cli

    return cli.main()


if __name__ == "__main__":
    sys.exit(main())
