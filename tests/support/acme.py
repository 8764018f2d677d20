"""A certificate authority that speaks ACME (RFC 8555), as far as http-01 needs it; no signature is checked."""

from __future__ import annotations

import base64
import datetime
import http.server
import json
import ssl
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization


class Authority:
    """What it has been asked. Hosts are looked for at ``port`` of this machine; redirects are followed."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.fetched: list[str] = []
        self.issued = 0
        self.hosts: list[str] = []
        self.statuses = {"order": "pending", "challenge": "pending"}
        self.chain = b""
        ca = trustme.CA()
        self.pem = ca.cert_pem.bytes()
        self._key = serialization.load_pem_private_key(ca.private_key_pem.bytes(), None)
        self._own = x509.load_pem_x509_certificate(self.pem)

    def order(self, hosts: list[str]) -> None:
        """Begin an order: nothing of it is proved."""
        self.hosts = hosts
        self.statuses = {"order": "pending", "challenge": "pending"}

    def validate(self, token: str) -> None:
        """Fetch the proof for the one host, as a validation server does (section 8.3)."""
        asked = urllib.request.Request(
            f"http://127.0.0.1:{self.port}/.well-known/acme-challenge/{token}",
            headers={"Host": self.hosts[0]},
        )
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        with urllib.request.urlopen(asked, timeout=30, context=context) as answer:
            proof = answer.read().decode()
            self.fetched.append(answer.url)
        is_right = proof.startswith(f"{token}.")
        self.statuses = (
            {"order": "ready", "challenge": "valid"}
            if is_right
            else {"order": "invalid", "challenge": "invalid"}
        )

    def issue(self, csr: bytes) -> None:
        """Sign what the request asks for."""
        request = x509.load_der_x509_csr(csr)
        names = request.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        now = datetime.datetime.now(datetime.UTC)
        self.issued += 1
        made = (
            x509.CertificateBuilder()
            .subject_name(request.subject)
            .issuer_name(self._own.subject)
            .public_key(request.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(hours=1))
            .not_valid_after(now + datetime.timedelta(days=90))
            .add_extension(names, critical=False)
            .sign(self._key, hashes.SHA256())  # type: ignore[arg-type]
        )
        self.chain = made.public_bytes(serialization.Encoding.PEM) + self.pem
        self.statuses["order"] = "valid"


class _Handler(http.server.BaseHTTPRequestHandler):
    server: _Server

    def do_HEAD(self) -> None:
        self._answer(200, {})

    def do_GET(self) -> None:
        names = {"newNonce": "nonce", "newAccount": "account", "newOrder": "order", "revokeCert": "revoke"}
        self._answer(200, {name: self._url(path) for name, path in names.items()})

    def do_POST(self) -> None:
        sent = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        payload = json.loads(_decoded(sent["payload"]) or b"{}")
        authority, name = self.server.authority, self.path.strip("/")
        if name == "account":
            self._answer(201, {"status": "valid"}, "account")
        elif name == "order":
            if payload:
                authority.order([each["value"] for each in payload["identifiers"]])
            self._answer(201 if payload else 200, self._order(), "order")
        elif name == "authorization":
            self._answer(200, self._authorization())
        elif name == "challenge":
            authority.validate(TOKEN)
            self._answer(200, self._challenge())
        elif name == "finalize":
            authority.issue(_decoded(payload["csr"]))
            self._answer(200, self._order(), "order")
        else:
            self._answer(200, authority.chain)

    def _order(self) -> dict[str, Any]:
        authority = self.server.authority
        order: dict[str, Any] = {
            "status": authority.statuses["order"],
            "identifiers": [{"type": "dns", "value": host} for host in authority.hosts],
            "authorizations": [self._url("authorization")],
            "finalize": self._url("finalize"),
        }
        return order | ({"certificate": self._url("certificate")} if order["status"] == "valid" else {})

    def _authorization(self) -> dict[str, Any]:
        authority = self.server.authority
        return {
            "identifier": {"type": "dns", "value": authority.hosts[0]},
            "status": authority.statuses["challenge"],
            "challenges": [self._challenge()],
        }

    def _challenge(self) -> dict[str, str]:
        status = self.server.authority.statuses["challenge"]
        return {"type": "http-01", "url": self._url("challenge"), "token": TOKEN, "status": status}

    def _url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.server.server_address[1]}/{path}"

    def _answer(self, status: int, body: dict[str, Any] | bytes, location: str = "") -> None:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Replay-Nonce", "bm9uY2U")
        if location:
            self.send_header("Location", self._url(location))
        kind = "application/pem-certificate-chain" if isinstance(body, bytes) else "application/json"
        self.send_header("Content-Type", kind)
        self.send_header("Link", f'<{self._url("authorization")}>;rel="up"')
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        """Nothing is logged."""


TOKEN = "evaGxfADs6pSRb2LAv9IZf17Dt3juxGJ-PCt92wr-oA"  # RFC 8555 section 8.3


class _Server(http.server.ThreadingHTTPServer):
    authority: Authority


def _decoded(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


@contextmanager
def serving(port: int) -> Iterator[tuple[str, Authority]]:
    """The URL of the directory of an authority that looks for hosts at ``port``."""
    server = _Server(("127.0.0.1", 0), _Handler)
    server.authority = Authority(port)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/directory", server.authority
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)
