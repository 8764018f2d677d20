"""testssl.sh looks at the server as it looks at any other on the internet."""

from __future__ import annotations

import datetime
import json
import shutil
import subprocess
from pathlib import Path

import pytest
from certificates import CA, port_of
from rawhttp import put

import fastws
from fastws import Server
from fastws.backend import Backend

TESTSSL = shutil.which("testssl")

NOT_THE_SERVERS = {
    "cert_chain_of_trust": "an authority of the test",
    "cert_revocation": "the same",
    "DNS_CAArecord": "localhost has no DNS records",
    "sessionresumption_ticket": "its client may leave before a ticket of TLS 1.3 arrives; so with nginx",
    "cipher_order": "Mozilla's intermediate profile leaves the choice to the client: all suites are good",
}
"""What testssl.sh rates below its best here, with the reason."""

# Protocols, suites, forward secrecy, defaults, preference, header fields, vulnerabilities: what is worth a word.
OPTIONS = [
    "--quiet",
    "--color",
    "0",
    "--warnings",
    "off",
    "--severity",
    "LOW",
    *["-p", "-s", "-f", "-S", "-P", "-h", "-U"],
]

pytestmark = [
    pytest.mark.peer,
    pytest.mark.posix,
    pytest.mark.skipif(TESTSSL is None, reason="testssl is not installed"),
]


@pytest.mark.timeout(600)
def test_nothing_is_found(side: Backend, tmp_path: Path) -> None:
    root = tmp_path / "root"
    put(root, {"index.html": b"page"})
    ca = CA(tmp_path)
    now, day = datetime.datetime.now(datetime.UTC), datetime.timedelta(days=1)
    dates = {"not_before": now - day, "not_after": now + 90 * day}
    pairs = [ca.pair("localhost", kind=kind, **dates) for kind in ("ecdsa", "rsa")]
    config = fastws.defaults(root).with_overrides(
        listen_ports=(),
        listen="0 tls",
        tls_certificates=[(pair.certificate, pair.key) for pair in pairs],
        strict_transport_security_s=31536000,
    )
    report = tmp_path / "report.json"
    with Server(config, backend=side) as server:
        command = [str(TESTSSL), *OPTIONS, "--jsonfile", str(report), "--ip", "127.0.0.1"]
        subprocess.run(
            [*command, f"localhost:{port_of(server, 'tls')}"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            check=False,  # it counts findings
            timeout=500,
        )
    found = {each["id"].partition(" ")[0]: each["finding"] for each in json.loads(report.read_text())}
    assert "scanProblem" not in found
    assert {name: text for name, text in found.items() if name not in NOT_THE_SERVERS} == {}
    assert "cert_chain_of_trust" in found  # it did look
