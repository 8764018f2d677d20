"""Django's own tests of its live server, run with fastws in the place of that server.

``python tests/support/django_suite.py`` fetches Django's sources into build/. ``run`` runs the tests in a process
of its own. Those that give a server of their own, to test that one, are no tests of fastws.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import sdist

REPOSITORY = Path(__file__).resolve().parents[2]
VERSION = "5.2.19"
SHA256 = "ad03d8abc51dbff95ebf34b27123cf0c26a3b62db7ba0cd520783686362533d1"
FOLDER = REPOSITORY / "build" / f"django-{VERSION}"
SUITE_S = 200
LABELS = (
    "servers.tests",
    "servers.test_liveserverthread",
    "staticfiles_tests.test_liveserver",
    "file_storage.tests.FileLikeObjectTestCase",
)
RESULT = re.compile(r"^(\w+) \(([\w.]+)\)(?:\n[^\n]*?)? \.\.\. (ok|FAIL|ERROR|skipped)", re.MULTILINE)


def fetch() -> None:
    """Download and unpack them; raises what ``sdist.fetch`` does."""
    with sdist.fetch(f"django=={VERSION}", SHA256) as archive:
        archive.extractall(FOLDER.parent, filter="data")


def run(side: str, directory: Path) -> tuple[dict[str, str], str]:
    """Run the tests; return what became of each, ``ok`` or not, and all that was said."""
    done = subprocess.run(
        [sys.executable, __file__, side, str(directory)],
        cwd=FOLDER / "tests",
        timeout=SUITE_S,
        env=os.environ | {"PYTHONPATH": f"{FOLDER}{os.pathsep}{REPOSITORY}"},
        capture_output=True,
        text=True,
    )
    found = {
        f"{where.removesuffix('.' + name)}.{name}": end for name, where, end in RESULT.findall(done.stderr)
    }
    return found, done.stdout + done.stderr


# In that process


class LiveServer:
    """What stands for ``django.core.servers.basehttp.ThreadedWSGIServer``: as much of it as those tests use."""

    side = "compiled"
    directory = ""
    started = 0

    def __init__(
        self,
        address: tuple[str, int],
        handler: object,
        *,
        allow_reuse_address: bool = True,
        connections_override: Any = None,
    ) -> None:
        import fastws
        from fastws import backend

        self._connections = connections_override or {}
        self._is_over = threading.Event()
        self._application: Any = None
        path = Path(self.directory) / "ws.conf"
        lines = ("ListenPort 8080", "ApplicationThreads 8", "AccessLog off", f"DocumentRoot {self.directory}")
        path.write_text("\n".join((*lines, f"ErrorLog {self.directory}/errors.txt\n")))
        config = fastws.load(str(path)).with_overrides(listen_ports=(address[1],))
        chosen = backend.load(pure=self.side == "pure", required=self.side != "pure")
        self._server = fastws.Server(config, backend=chosen, applications={"/": self._call})
        self._server.start()
        LiveServer.started += 1
        self.server_address = (address[0], self._server.port)

    def _call(self, environ: Any, start_response: Any) -> Any:
        from django.db import connections

        for alias, connection in self._connections.items():
            connections[alias] = connection
        return self._application(environ, start_response)

    def set_app(self, application: Any) -> None:
        self._application = application

    def serve_forever(self) -> None:
        self._is_over.wait()

    def shutdown(self) -> None:
        self._server.stop(grace_s=0.0)
        self._is_over.set()

    def server_close(self) -> None:
        assert LiveServer.started


def main(side: str, directory: str) -> None:
    """Run Django's ``runtests.py`` with the server replaced."""
    import runpy

    from django.test import testcases

    LiveServer.side, LiveServer.directory = side, directory
    testcases.LiveServerThread.server_class = LiveServer
    sys.path.insert(0, os.getcwd())
    sys.argv[:] = ["runtests.py", "--parallel", "1", "-v", "2", *LABELS]
    runpy.run_path("runtests.py", run_name="__main__")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(*sys.argv[1:])
    else:
        fetch()
        print(FOLDER)
