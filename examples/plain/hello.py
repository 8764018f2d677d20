"""An application without a framework: it greets, and counts down as a stream of events."""

import time


def application(environ, start_response):
    name = environ["PATH_INFO"].strip("/") or "you"
    if name == "countdown":
        start_response("200 OK", [("Content-Type", "text/event-stream"), ("Cache-Control", "no-store")])
        return countdown(3)
    start_response("200 OK", [("Content-Type", "text/plain; charset=utf-8")])
    return [f"Hello, {name.encode('latin-1').decode()}!\n".encode()]


def countdown(seconds):
    for left in range(seconds, 0, -1):
        yield f"data: {left}\n\n".encode()
        time.sleep(0.1)
    yield b"data: done\n\n"
