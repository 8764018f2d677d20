"""The recipe of docs/deployment.md: certbot gets a certificate and renews it, while fastws serves on."""

from __future__ import annotations

import re
import shutil
import socket
import ssl
import subprocess
from collections.abc import Callable
from pathlib import Path

import acme
import pytest
from certificates import port_of
from rawhttp import get, put

from fastws import Server

CERTBOT = shutil.which("certbot")
DEPLOYMENT = Path(__file__).resolve().parents[2] / "docs" / "deployment.md"

pytestmark = [
    pytest.mark.peer,
    pytest.mark.posix,
    pytest.mark.skipif(CERTBOT is None, reason="certbot is not installed"),
]


def deploy_script(target: Path) -> str:
    """The hook of the page, for files that belong to whoever runs the test."""
    blocks = re.findall(r"^```sh\n(#!/bin/sh\n.*?)^```$", DEPLOYMENT.read_text(), re.MULTILINE | re.DOTALL)
    (script,) = [block for block in blocks if "RENEWED_LINEAGE" in block]
    assert "-g fastws" in script
    return str(script).replace("-g fastws ", "").replace("/etc/fastws/tls", str(target))


def served(server: Server, name: str) -> bytes:
    """Return the certificate that a client gets who asks for ``name``."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with (
        socket.create_connection(("127.0.0.1", port_of(server, "tls")), 60) as sock,
        context.wrap_socket(sock, server_hostname=name) as tls,
    ):
        der = tls.getpeercert(binary_form=True)
    assert der is not None
    return der


def test_certbot_gets_and_renews_by_the_recipe(serve: Callable[..., Server], tmp_path: Path) -> None:
    root, live, state = tmp_path / "root", tmp_path / "live", tmp_path / "certbot"
    put(root, {"index.html": b"page"})
    live.mkdir()
    hook = tmp_path / "deploy"
    hook.write_text(deploy_script(live))
    hook.chmod(0o700)
    server = serve(listen_ports=(), listen="0 plain")
    port = server.port
    with acme.serving(port) as (directory, authority):
        common = [
            str(CERTBOT), "--non-interactive", "--config-dir", f"{state}/config", "--work-dir", f"{state}/work",
            "--logs-dir", f"{state}/logs", "--server", directory,
        ]  # fmt: skip
        first = [
            "certonly", "--webroot", "-w", str(root), "-d", "www.example.org", "--agree-tos",
            "--register-unsafely-without-email", "--deploy-hook", str(hook),
        ]  # fmt: skip
        done = subprocess.run([*common, *first], capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stdout + done.stderr
        assert authority.fetched == [f"http://127.0.0.1:{port}/.well-known/acme-challenge/{acme.TOKEN}"]
        pair = (live / "fullchain.pem", live / "privkey.pem")
        listen = server.config.listen
        server.reload(
            lambda: server.config.with_overrides(listen=(*listen, "0 tls"), tls_certificates=[pair])
        )
        before = served(server, "www.example.org")
        assert get(port, "/index.html").body == b"page"
        # Renewed while the plain address redirects.
        config = server.config.with_overrides(listen=(("0", "redirect"), ("0", "tls")))
        server.reload(lambda: config)
        authority.port = port_of(server, "redirect")
        done = subprocess.run(
            [*common, "renew", "--force-renewal", "--no-random-sleep-on-renew"],
            capture_output=True, text=True, timeout=120,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        assert authority.issued == 2
        assert served(server, "www.example.org") == before
        server._securing.keeper.look()
        assert served(server, "www.example.org") != before
