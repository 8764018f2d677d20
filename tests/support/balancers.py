"""HAProxy, nginx and Caddy in front of a server, as their manuals have it."""

from __future__ import annotations

import csv
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from rawhttp import wait_until

PATH = f"{os.environ.get('PATH', '')}:/usr/sbin"

_HAPROXY = """
global
    stats socket {own}/stats
defaults
    mode http
    timeout connect 5s
    timeout client 60s
    timeout server 60s
    timeout check 5s
frontend front
    bind 127.0.0.1:{port}
    default_backend back
backend back
    {lines}
"""

_NGINX = """
daemon off; {user} pid {own}/pid; error_log {own}/errors.txt; worker_processes 1;
events {{ }}
http {{
    access_log off;
    client_body_temp_path {own}/body; proxy_temp_path {own}/proxy; fastcgi_temp_path {own}/f;
    uwsgi_temp_path {own}/u; scgi_temp_path {own}/s;
    server {{ listen 127.0.0.1:{port}; {lines} }}
}}
"""

_CADDY = """
{{
    admin off
    auto_https off
}}
http://:{port} {{
    bind 127.0.0.1
    {lines}
}}
"""


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@contextmanager
def _running(name: str, arguments: list[str], port: int, own: Path) -> Iterator[None]:
    """Run a program until the block ends; the test is skipped where it is not installed."""
    program = shutil.which(name, path=PATH)
    if program is None:
        pytest.skip(f"{name} is not installed")
    with (own / "output.txt").open("wb") as output:
        process = subprocess.Popen(
            [program, *arguments],
            stdout=output,
            stderr=output,
            stdin=subprocess.DEVNULL,
            env=os.environ | {"XDG_DATA_HOME": str(own), "XDG_CONFIG_HOME": str(own), "HOME": str(own)},
        )
        try:
            wait_until(lambda: _answers(port) or process.poll() is not None)
            assert process.poll() is None, (own / "output.txt").read_text()
            yield
        finally:
            process.terminate()
            process.wait(20)


@contextmanager
def haproxy(port: int, own: Path, *lines: str) -> Iterator[None]:
    """Run HAProxy on ``port`` with these lines in its one backend."""
    own.mkdir()
    path = own / "haproxy.cfg"
    path.write_text(_HAPROXY.format(own=own, port=port, lines="\n    ".join(lines)))
    with _running("haproxy", ["-db", "-f", str(path)], port, own):
        yield


def state_in_haproxy(own: Path) -> tuple[str, str]:
    """Return the status of the backend's one server, and that of its last check."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(20)
        try:
            sock.connect(str(own / "stats"))
        except (FileNotFoundError, ConnectionRefusedError):  # it comes a moment after the port
            return "", ""
        sock.sendall(b"show stat\n")
        text = sock.makefile().read()
    for row in csv.DictReader(text.removeprefix("# ").splitlines()):
        if row["pxname"] == "back" and row["svname"] == "node":
            return row["status"], row["check_status"]
    raise AssertionError(text)


@contextmanager
def nginx(port: int, own: Path, *lines: str) -> Iterator[None]:
    """Run nginx on ``port`` with these lines in its one server."""
    own.mkdir()
    path = own / "nginx.conf"
    user = "user root;" if os.geteuid() == 0 else ""  # its worker must be able to use a test's directory
    path.write_text(_NGINX.format(own=own, port=port, user=user, lines="\n".join(lines)))
    with _running("nginx", ["-c", str(path), "-e", f"{own}/errors.txt"], port, own):
        yield


@contextmanager
def caddy(port: int, own: Path, *lines: str) -> Iterator[None]:
    """Run Caddy on ``port`` with these lines in its one site."""
    own.mkdir()
    path = own / "Caddyfile"
    path.write_text(_CADDY.format(port=port, lines="\n    ".join(lines)))
    with _running("caddy", ["run", "--config", str(path), "--adapter", "caddyfile"], port, own):
        yield
