"""The functional tests of waitress, run against fastws.

``python tests/support/waitress_suite.py`` fetches waitress's sources into build/. ``run`` runs those tests in a
process of its own. What the adapter changes of them is what its docstrings say, and nothing else.
"""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import unittest
from pathlib import Path
from typing import Any

import sdist

REPOSITORY = Path(__file__).resolve().parents[2]
VERSION = "3.0.2"
SHA256 = "682aaaf2af0c44ada4abfb70ded36393f0e307f4ab9456a215ce0020baefc31f"
FOLDER = REPOSITORY / "build" / f"waitress-{VERSION}"
SUITE_S = 300


def fetch() -> None:
    """Download and unpack them; raises what ``sdist.fetch`` does."""
    with sdist.fetch(f"waitress=={VERSION}", SHA256) as archive:
        archive.extractall(FOLDER.parent, filter="data")


def run(mode: str, side: str, family: str, directory: Path) -> dict[str, str]:
    """Run the tests over ``Tcp`` or ``Unix`` with applications in ``threads`` or ``processes``.

    Returns why each test failed, '' if it did not.
    """
    report = directory / "report.json"
    subprocess.run(
        [sys.executable, __file__, mode, side, family, str(directory), str(report)],
        check=True,
        cwd=FOLDER,
        timeout=SUITE_S,
        env=os.environ | {"PYTHONPATH": f"{REPOSITORY}{os.pathsep}{FOLDER}"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    found: dict[str, str] = json.loads(report.read_text())
    return found


# In that process


class Wire(socket.socket):
    """A client's socket. Host is added to HTTP/1.1 without it, which is to be refused (RFC 9112 section 3.2)."""

    def send(self, data: Any, flags: int = 0) -> int:
        added = re.sub(rb"(?m)^([A-Z]+ \S+ HTTP/1\.1\r\n)(?!Host:)", rb"\1Host: localhost\r\n", data)
        super().sendall(added, flags)
        return len(data)


class Answer:
    """The file of an answer; a chunked body, which that client does not know, is read without its framing."""

    def __init__(self, file: Any) -> None:
        self._file = file
        self._is_chunked = False

    def readline(self) -> bytes:
        line: bytes = self._file.readline()
        self._is_chunked = self._is_chunked or line == b"Transfer-Encoding: chunked\r\n"
        return line

    def read(self, size: int = -1) -> bytes:
        if not self._is_chunked:
            found: bytes = self._file.read(size)
            return found
        body = b""
        while length := int(self._file.readline(), 16):
            while length:
                body += (piece := self._file.read(length))
                length -= len(piece)
            self._file.readline()
        self._file.readline()
        return body

    def close(self) -> None:
        self._file.close()


APPLICATION = """
from {module} import {name} as application_

def application(environ, start_response):
    # RFC 3875 section 4.1.9: a server may leave it out; these applications do not foresee it.
    environ.setdefault("REMOTE_HOST", environ["REMOTE_ADDR"])
    return application_(environ, start_response)
"""


class Adapter:
    """Puts fastws in the place of waitress."""

    def __init__(self, mode: str, side: str, directory: Path) -> None:
        self._mode, self._side, self._directory = mode, side, directory

    def start_server(self, application: Any, server: Any, queue: Any, **options: Any) -> None:
        """Serve until the process is ended; stands for the function of this name."""
        import fastws
        from fastws import backend

        (self._directory / f"wsgi_{os.getpid()}.py").write_text(
            APPLICATION.format(module=application.__module__, name=application.__name__)
        )
        path = str(self._directory / f"socket{os.getpid()}")
        lines = [
            f"Application / wsgi_{os.getpid()}:application",
            "ListenPort 8080" if server.family == socket.AF_INET else f"Listen unix:{path}",
            f"ApplicationProcesses {int(self._mode == 'processes')}",
            f"MaxBodySize {options.get('max_request_body_size', '1M')}",
            "AccessLog off",
            f"ErrorLog {self._directory}/errors.txt",
        ]
        if "trusted_proxy" in options:
            lines.append("TrustedProxies 127.0.0.0/8 unix")
        config = self._directory / f"{os.getpid()}.conf"
        config.write_text("\n".join(lines) + "\n")
        overrides = {"listen_ports": (0,)} if server.family == socket.AF_INET else {}
        chosen = backend.load(pure=self._side == "pure", required=self._side != "pure")
        running = fastws.Server(fastws.load(str(config)).with_overrides(**overrides), backend=chosen)
        with running:
            queue.put(("127.0.0.1", running.port) if server.family == socket.AF_INET else path)
            signal.pause()

    def adapt(self, module: Any) -> None:
        """Change the module of the tests: the server that is started, the socket, and how an answer is read."""
        plain_read = module.read_http

        def read_http(file: Any) -> tuple[bytes, dict[str, str], bytes]:
            line, headers, body = plain_read(Answer(file))
            if headers.get("server") == "fastws":
                headers["server"] = "waitress"
            return line, headers, body

        def assert_line(case: Any, line: bytes, status: str, reason: str, version: str) -> None:
            """An answer has the server's own version, also to HTTP/1.0 (RFC 9110 section 2.5)."""
            parts = [part.strip() for part in line.split(None, 2)]
            assert parts == [b"HTTP/1.1", status.encode(), reason.encode()]

        module.read_http = read_http
        module.start_server = self.start_server
        module.SubprocessTests.assertline = assert_line
        module.SubprocessTests.create_socket = lambda case: Wire(case.server.family, socket.SOCK_STREAM)
        module.cleanup_unix_socket = lambda path: None


class Result(unittest.TestResult):
    """Keeps why a test failed, by its name."""

    def __init__(self) -> None:
        super().__init__()
        self.found: dict[str, str] = {}

    def addSuccess(self, test: Any) -> None:
        self.found[_name_of(test)] = ""

    def addFailure(self, test: Any, error: Any) -> None:
        self.found[_name_of(test)] = self._exc_info_to_string(error, test)[-900:]

    addError = addFailure


def _name_of(test: unittest.TestCase) -> str:
    """Return class and method, without what it is spoken over."""
    return test.id().removeprefix("tests.test_functional.").removeprefix("Tcp").removeprefix("Unix")


def main(mode: str, side: str, family: str, directory: str, report: str) -> None:
    """Run the tests and write the report."""
    from tests import test_functional  # type: ignore[attr-defined]

    socket.setdefaulttimeout(3.0)
    Adapter(mode, side, Path(directory)).adapt(test_functional)
    result = Result()
    for name, case in vars(test_functional).items():
        is_wanted = name.startswith(family) or (family == "Tcp" and name == "SleepyThreadTests")
        if is_wanted and isinstance(case, type) and issubclass(case, unittest.TestCase):
            unittest.defaultTestLoader.loadTestsFromTestCase(case).run(result)
    Path(report).write_text(json.dumps(result.found, indent=1))


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(*sys.argv[1:])
    else:
        fetch()
        print(FOLDER)
