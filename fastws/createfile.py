"""``python -m fastws.createfile``: writes the pages that the load client fetches."""

from __future__ import annotations

import sys

from .client.createfile import main

if __name__ == "__main__":
    sys.exit(main())
