"""One fixture that runs a test on both sides of the seam, and fails when the compiled side is missing."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from fastws import Server, backend, load

PURE_ONLY = os.environ.get("FASTWS_NO_EXTENSIONS") == "1"


@pytest.fixture(params=["compiled", "pure"])
def side(request: pytest.FixtureRequest) -> backend.Backend:
    """Each backend in turn; a missing compiled side is a failure unless the environment says it was meant."""
    if request.param == "pure":
        return backend.load(pure=True)
    if PURE_ONLY:
        pytest.skip("FASTWS_NO_EXTENSIONS=1: the compiled side was left out on purpose")
    return backend.load(pure=False, required=True)


@pytest.fixture
def serve(side: backend.Backend, tmp_path: Path) -> Iterator[Callable[..., Server]]:
    """Return a function that starts a server on a free port, by ``ws.conf`` text and a document root."""
    with ExitStack() as stack:

        def start(*lines: str, root: Path | None = None, **overrides: Any) -> Server:
            root = root or tmp_path / "root"
            root.mkdir(exist_ok=True)
            path = tmp_path / "ws.conf"
            text = [
                f'DocumentRoot "{root}"',
                "ListenPort 8080",
                "DefaultType application/octet-stream",
                *lines,
            ]
            path.write_text("\n".join(text) + "\n")
            config = load(str(path)).with_overrides(listen_ports=(0,), **overrides)
            return stack.enter_context(Server(config, backend=side))

        yield start
