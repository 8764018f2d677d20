"""The applications that the Python servers run, and static files in the way of each peer, from ``BENCH_ROOT``."""

from __future__ import annotations

import functools
import os
import sys
import time
from collections.abc import Callable, Iterable
from typing import Any

ROOT = os.environ.get("BENCH_ROOT", ".")


def _not_found(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    start_response("404 Not Found", [("Content-Length", "0")])
    return [b""]


Start = Callable[..., Any]

HELLO = b"Hello, world!\n"
COMPUTING_S, SLEEPING_S = 0.010, 0.100
RECORDS = [{"number": number, "name": f"record {number}", "flags": [True, None]} for number in range(167)]
"""10 KiB as Flask writes them in JSON."""


def hello(environ: dict[str, Any], start_response: Start) -> Iterable[bytes]:
    """Answer 14 bytes, or what the path asks for: compute, sleep, take a body, or give one."""
    return _VIEWS.get(environ["PATH_INFO"], _hello)(environ, start_response)


def _give(start_response: Start, body: bytes) -> list[bytes]:
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]


def _hello(environ: dict[str, Any], start_response: Start) -> Iterable[bytes]:
    return _give(start_response, HELLO)


def _compute(environ: dict[str, Any], start_response: Start) -> Iterable[bytes]:
    """Keep the interpreter for ``COMPUTING_S`` of its own time."""
    end = time.thread_time() + COMPUTING_S
    while time.thread_time() < end:
        sum(range(1000))
    return _give(start_response, HELLO)


def _sleep(environ: dict[str, Any], start_response: Start) -> Iterable[bytes]:
    time.sleep(SLEEPING_S)
    return _give(start_response, HELLO)


def _upload(environ: dict[str, Any], start_response: Start) -> Iterable[bytes]:
    return _give(start_response, b"%d" % len(environ["wsgi.input"].read()))


def _much(environ: dict[str, Any], start_response: Start) -> Iterable[bytes]:
    return _give(start_response, b"x" * (64 << 20))


_VIEWS = {"/compute": _compute, "/sleep": _sleep, "/upload": _upload, "/much": _much}


def _flask() -> Any:
    import flask

    application = flask.Flask(__name__)

    @application.get("/")
    def records() -> Any:
        return flask.jsonify(RECORDS)

    return application


@functools.cache  # Django is configured once
def _django() -> Any:
    import django
    from django.conf import settings
    from django.core.handlers.wsgi import WSGIHandler
    from django.http import HttpRequest, HttpResponse
    from django.urls import path

    def page(request: HttpRequest) -> HttpResponse:
        return HttpResponse(HELLO)

    urls = type("urls", (), {"urlpatterns": [path("", page)]})
    names = ("security.SecurityMiddleware", "common.CommonMiddleware")
    middleware = [f"django.middleware.{name}" for name in names]
    settings.configure(
        SECRET_KEY="for measuring", ALLOWED_HOSTS=["*"], ROOT_URLCONF=urls, MIDDLEWARE=middleware
    )
    django.setup(set_prefix=False)
    return WSGIHandler()


def __getattr__(name: str) -> Any:
    """Build the application that was asked for, so that no peer pays for another's imports."""
    if name == "flask":
        return _flask()
    if name == "django":
        return _django()
    if name == "noise":
        from whitenoise import WhiteNoise

        return WhiteNoise(hello, root=ROOT, prefix="static/")
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
