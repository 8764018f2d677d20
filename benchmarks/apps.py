"""The applications that the Python peers run: static files in the way of each, from ``BENCH_ROOT``."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable
from typing import Any

ROOT = os.environ.get("BENCH_ROOT", ".")


def _not_found(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    start_response("404 Not Found", [("Content-Length", "0")])
    return [b""]


def __getattr__(name: str) -> Any:
    """Build the application that was asked for, so that no peer pays for another's imports."""
    if name == "wsgi":
        from whitenoise import WhiteNoise  # type: ignore[import-untyped]

        return WhiteNoise(_not_found, root=ROOT)
    if name == "asgi":
        from starlette.applications import Starlette
        from starlette.routing import Mount
        from starlette.staticfiles import StaticFiles

        return Starlette(routes=[Mount("/", StaticFiles(directory=ROOT))])
    raise AttributeError(name)


def _run_aiohttp(port: int, access_log: str) -> None:
    import logging

    from aiohttp import web

    application = web.Application()
    application.router.add_static("/", ROOT)
    logging.basicConfig(filename=access_log, level=logging.INFO, format="%(message)s")
    web.run_app(application, host="127.0.0.1", port=port, keepalive_timeout=300, print=None)


if __name__ == "__main__":
    _run_aiohttp(int(sys.argv[1]), sys.argv[2])
