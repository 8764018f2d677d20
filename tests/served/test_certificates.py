"""Certificates over the wire: which one a client gets, what clients by other hands see, renewals, HSTS."""

from __future__ import annotations

import datetime
import http.client
import re
import shutil
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from certificates import CA, port_of
from rawhttp import get, put, wait_until

from fastws import ConfigError, Server, defaults
from fastws.client.__main__ import main as load_client
from fastws.tls.settings import CIPHERS, CIPHERSUITES, CertificatePair

Serve = Callable[..., Server]

needs_openssl = pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")


@pytest.fixture
def ca(tmp_path: Path) -> CA:
    folder = tmp_path / "ca"
    folder.mkdir()
    return CA(folder)


@pytest.fixture
def secure(serve: Serve, tmp_path: Path) -> Callable[..., Server]:
    """Return a function that serves a page with some pairs."""
    put(tmp_path / "root", {"index.html": b"page"})

    def start(*pairs: CertificatePair, lines: tuple[str, ...] = (), **overrides: Any) -> Server:
        own = {
            "listen_ports": (),
            "listen": "0 tls",
            "tls_certificates": [(pair.certificate, pair.key) for pair in pairs],
        }
        return serve(*lines, **own | overrides)

    return start


Secure = Callable[..., Server]


class Client:
    """One connection by TLS, on which requests are sent one after another."""

    def __init__(self, server: Server | int, context: ssl.SSLContext, name: str = "localhost") -> None:
        port = server if isinstance(server, int) else port_of(server, "tls")
        self.sock = context.wrap_socket(
            socket.create_connection(("127.0.0.1", port), 60), server_hostname=name
        )
        self._http = http.client.HTTPConnection("localhost", port)
        self._http.sock = self.sock

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def get(self, target: str = "/", method: str = "GET", **fields: str) -> tuple[int, Any, bytes]:
        self._http.request(method, target, headers=fields)
        response = self._http.getresponse()
        return response.status, response.headers, response.read()

    @property
    def names(self) -> set[str]:
        return {value for _, value in self.sock.getpeercert()["subjectAltName"]}


def names_for(server: Server, ca: CA, name: str, *, checks: bool = True) -> set[str]:
    with Client(server, ca.client(check_hostname=checks), name) as client:
        assert client.get()[0] == 200
        return client.names


def test_the_name_that_a_client_asks_for_decides(secure: Secure, ca: CA) -> None:
    server = secure(ca.pair("a.example"), ca.pair("b.example", "*.b.example"), ca.pair("x.b.example"))
    assert names_for(server, ca, "a.example") == {"a.example"}
    assert names_for(server, ca, "b.example") == {"b.example", "*.b.example"}
    assert names_for(server, ca, "y.b.example") == {"b.example", "*.b.example"}
    assert names_for(server, ca, "x.b.example") == {"x.b.example"}
    assert names_for(server, ca, "elsewhere.example", checks=False) == {"a.example"}


def test_one_name_with_two_kinds_of_key_serves_both_kinds_of_client(secure: Secure, ca: CA) -> None:
    server = secure(ca.pair("localhost", kind="rsa"), ca.pair("localhost", kind="ecdsa"))
    for kind in ("RSA", "ECDSA"):
        context = ca.client(ciphers=f"ECDHE-{kind}-AES256-GCM-SHA384", maximum=0x303)
        with Client(server, context) as client:
            assert client.get()[2] == b"page"
            assert client.sock.cipher()[0] == f"ECDHE-{kind}-AES256-GCM-SHA384"


def test_url_and_ca_are_what_a_client_needs(secure: Secure, ca: CA) -> None:
    pair = ca.pair("localhost", "127.0.0.1")
    server = secure(pair)
    assert server.url == f"https://127.0.0.1:{server.port}/"
    assert server.ca == pair.certificate
    context = ssl.create_default_context(cafile=server.ca)
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    with Client(server, context, "127.0.0.1") as client:
        assert client.get()[2] == b"page"


def test_plain_tls_and_redirect_serve_side_by_side(secure: Secure, ca: CA) -> None:
    server = secure(ca.pair("localhost"), listen_ports=(0,), listen=("0 tls", "0 redirect"))
    assert server.url.startswith("https:")
    assert server.port == port_of(server, "tls")
    assert get(port_of(server, "plain")).body == b"page"
    assert get(port_of(server, "redirect"), "/x?y")["Location"] == f"https://localhost:{server.port}/x?y"
    assert names_for(server, ca, "localhost") == {"localhost"}
    assert server.ca is not None
    assert sorted(server.listeners.schemes().values()) == ["http", "http", "https"]


# What clients by other hands see


def s_client(server: Server, *arguments: str) -> str:
    """Return what ``openssl s_client`` prints of one handshake."""
    command = [
        "openssl",
        "s_client",
        "-connect",
        f"127.0.0.1:{server.port}",
        "-servername",
        "localhost",
        *arguments,
    ]
    done = subprocess.run(command, input="", capture_output=True, text=True, timeout=60)
    return done.stdout + done.stderr


def suite_in(text: str) -> str:
    found = re.search(r"^ *(?:New, [^,]*, Cipher is|Cipher *:) (\S+)", text, re.MULTILINE)
    return "" if found is None or found[1] in ("(NONE)", "0000") else found[1]


@pytest.mark.peer
@needs_openssl
@pytest.mark.parametrize("version", ["tls1", "tls1_1", "tls1_2", "tls1_3"])
def test_openssl_speaks_1_2_and_1_3_and_nothing_older(secure: Secure, ca: CA, version: str) -> None:
    text = s_client(
        secure(ca.pair("localhost")), f"-{version}", "-cipher", "ALL:@SECLEVEL=0", "-CAfile", ca.path
    )
    if version in ("tls1", "tls1_1"):
        assert suite_in(text) == ""
        assert "alert protocol version" in text
    else:
        assert suite_in(text)
        assert "Verify return code: 0 (ok)" in text


def suites_of_openssl() -> list[str]:
    if shutil.which("openssl") is None:
        return []
    done = subprocess.run(
        ["openssl", "ciphers", "ALL:COMPLEMENTOFALL:@SECLEVEL=0"], capture_output=True, text=True
    )
    return done.stdout.strip().split(":")


@pytest.mark.peer
@needs_openssl
def test_openssl_finds_the_intermediate_suites_and_no_other(secure: Secure, ca: CA) -> None:
    server = secure(ca.pair("localhost"), ca.pair("localhost", kind="rsa"))
    accepted = []
    for version, option, level in (("-tls1_3", "-ciphersuites", ""), ("-tls1_2", "-cipher", ":@SECLEVEL=0")):
        offered = [each for each in suites_of_openssl() if each.startswith("TLS_") == (version == "-tls1_3")]
        # All are offered, then all but the one that was taken, until none is.
        while offered and (taken := suite_in(s_client(server, version, option, ":".join(offered) + level))):
            offered.remove(taken)
            accepted.append(taken)
    assert sorted(accepted) == sorted([*CIPHERS.split(":"), *CIPHERSUITES.split(":")])


@pytest.mark.peer
@needs_openssl
def test_openssl_gets_http_1_1_no_compression_and_no_renegotiation(secure: Secure, ca: CA) -> None:
    server = secure(ca.pair("localhost"))
    text = s_client(server, "-tls1_2", "-alpn", "h2,http/1.1")
    assert "ALPN protocol: http/1.1" in text
    assert "Compression: NONE" in text
    assert "Secure Renegotiation IS supported" in text  # the extension is there; asking for one is refused


@pytest.mark.peer
@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_curl_takes_the_certificate_and_the_redirect_leads_it_there(secure: Secure, ca: CA) -> None:
    server = secure(ca.pair("localhost"), listen=("0 tls", "0 redirect"))
    plain = f"http://localhost:{port_of(server, 'redirect')}/index.html"
    command = [
        "curl",
        "-sSL",
        "--noproxy",
        "*",
        "--cacert",
        ca.path,
        "-w",
        " %{http_code} %{url_effective}",
        plain,
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.stdout == f"page 200 https://localhost:{server.port}/index.html", done.stderr


def test_a_client_without_a_certificate_of_the_authority_is_not_let_in(secure: Secure, ca: CA) -> None:
    server = secure(ca.pair("localhost"), tls_client_ca=ca.path)
    own = ca.pair("client.example")
    context = ca.client()
    context.load_cert_chain(own.certificate, own.key)
    with Client(server, context) as client:
        assert client.get()[2] == b"page"
    for maximum in (0x303, 0x304):
        with (
            pytest.raises((ssl.SSLError, ConnectionError)),
            Client(server, ca.client(maximum=maximum)) as client,
        ):
            client.get()  # with TLS 1.3 the client's handshake is over before the server has looked


def test_only_the_configured_versions_are_spoken(secure: Secure, ca: CA) -> None:
    server = secure(ca.pair("localhost"), tls_versions="TLSv1.3")
    with Client(server, ca.client()) as client:
        assert client.sock.version() == "TLSv1.3"
    with pytest.raises(ssl.SSLError):
        Client(server, ca.client(maximum=0x303))


# StrictTransportSecurity


def test_hsts_is_a_field_of_every_answer_over_tls_and_of_no_other(
    secure: Secure, ca: CA, tmp_path: Path
) -> None:
    server = secure(
        ca.pair("localhost"),
        listen_ports=(0,),
        listen=("0 tls", "0 redirect"),
        strict_transport_security_s=31536000,
        lines=("WorkerThreads 1",),
    )
    put(tmp_path / "root", {"big.bin": bytes(300_000), "dir/index.html": b"x"})
    with Client(server, ca.client()) as client:
        for _ in range(3):
            for target, method, fields, status in (
                ("/index.html", "GET", {}, 200),
                ("/index.html", "HEAD", {}, 200),
                ("/index.html", "GET", {"Range": "bytes=0-1"}, 206),
                ("/index.html", "GET", {"If-None-Match": "*"}, 304),
                ("/big.bin", "GET", {}, 200),
                ("/dir", "GET", {}, 301),
                ("/nothing", "GET", {}, 404),
                ("/nothing", "BREW", {}, 501),
            ):
                found, headers, _ = client.get(target, method, **fields)
                assert found == status
                assert headers.get_all("Strict-Transport-Security") == ["max-age=31536000"], target
    for kind in ("plain", "redirect"):
        for target in ("/index.html", "/index.html", "/nothing", "/dir"):
            assert get(port_of(server, kind), target).all("Strict-Transport-Security") == []


def test_hsts_of_no_seconds_makes_browsers_forget_and_is_sent(secure: Secure, ca: CA) -> None:
    with Client(secure(ca.pair("localhost"), strict_transport_security_s=0), ca.client()) as client:
        assert client.get()[1].get_all("Strict-Transport-Security") == ["max-age=0"]


def test_without_the_directive_there_is_no_such_field(secure: Secure, ca: CA) -> None:
    with Client(secure(ca.pair("localhost")), ca.client()) as client:
        for _ in range(3):
            assert "Strict-Transport-Security" not in client.get()[1]


# Renewal and reload


def install(pair: CertificatePair, folder: Path) -> CertificatePair:
    """Copy a pair to where the server reads it."""
    folder.mkdir(exist_ok=True)
    for source, name in ((pair.key, "key.pem"), (pair.certificate, "cert.pem")):
        shutil.copy(source, folder / f"{name}.new")
        (folder / f"{name}.new").replace(folder / name)
    return CertificatePair(str(folder / "cert.pem"), str(folder / "key.pem"), pair.names)


def test_new_files_are_for_new_connections_and_old_ones_go_on(secure: Secure, ca: CA, tmp_path: Path) -> None:
    folder = tmp_path / "live"
    server = secure(install(ca.pair("localhost", "old.example"), folder))
    with Client(server, ca.client()) as old:
        assert old.get()[0] == 200
        install(ca.pair("localhost", "new.example"), folder)
        assert names_for(server, ca, "localhost") == {"localhost", "old.example"}
        server._securing.keeper.look()
        assert names_for(server, ca, "localhost") == {"localhost", "new.example"}
        assert old.get()[0] == 200
        assert old.names == {"localhost", "old.example"}
        assert names_for(server, ca, "localhost") == {"localhost", "new.example"}


def test_a_reload_takes_the_files_as_they_are(secure: Secure, ca: CA, tmp_path: Path) -> None:
    folder = tmp_path / "live"
    server = secure(install(ca.pair("localhost", "old.example"), folder))
    install(ca.pair("localhost", "new.example"), folder)
    server.reload(lambda: server.config)
    assert names_for(server, ca, "localhost") == {"localhost", "new.example"}


def test_a_bad_pair_keeps_the_old_one_and_says_so(secure: Secure, ca: CA, tmp_path: Path) -> None:
    folder, log = tmp_path / "live", tmp_path / "errors.txt"
    server = secure(install(ca.pair("localhost", "old.example"), folder), error_log=log)
    shutil.copy(ca.pair("localhost", "new.example").certificate, folder / "cert.pem")
    server._securing.keeper.look()
    assert "is not the key of" in log.read_text()
    assert names_for(server, ca, "localhost") == {"localhost", "old.example"}

    def read() -> Any:
        return server.config.with_overrides(tls_certificates=server.config.tls_certificates)

    server.reload(read)
    assert "the configuration was not reloaded" in log.read_text()
    assert names_for(server, ca, "localhost") == {"localhost", "old.example"}


def test_no_request_is_lost_while_certificates_are_renewed(secure: Secure, ca: CA, tmp_path: Path) -> None:
    folder = tmp_path / "live"
    server = secure(install(ca.pair("localhost"), folder))
    stop, failures, counts = threading.Event(), [], [0, 0]

    def ask(index: int, each: int) -> None:
        try:
            while not stop.is_set():
                with Client(server, ca.client()) as client:
                    for _ in range(each):
                        assert client.get()[2] == b"page"
                        counts[index] += 1
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=ask, args=arguments) for arguments in ((0, 1), (1, 50))]
    for thread in threads:
        thread.start()
    for _ in range(10):
        before = list(counts)
        install(ca.pair("localhost"), folder)
        server._securing.keeper.look()
        wait_until(lambda seen=before: failures or all(a > b for a, b in zip(counts, seen, strict=True)))
    stop.set()
    for thread in threads:
        thread.join(60)
    assert failures == []
    assert server._securing.keeper.expiries


def test_a_reload_adds_and_removes_tls(
    secure: Secure, ca: CA, free_ports: Callable[..., tuple[int, ...]]
) -> None:
    port = free_ports(1)[0]
    pair = ca.pair("localhost")
    server = secure(pair, listen=f"{port} plain")
    assert get(port).body == b"page"
    assert server.ca is None
    server.reload(lambda: server.config.with_overrides(listen=f"{port} tls"))
    assert server.url == f"https://127.0.0.1:{port}/"
    assert names_for(server, ca, "localhost") == {"localhost"}
    server.reload(lambda: server.config.with_overrides(listen=f"{port} plain"))
    assert get(port).body == b"page"


# Start, log, metrics


def test_a_pair_that_is_wrong_by_the_start_is_an_error_and_nothing_listens(
    secure: Secure, ca: CA, tmp_path: Path, free_ports: Callable[..., tuple[int, ...]]
) -> None:
    port = free_ports(1)[0]
    pair = install(ca.pair("localhost"), tmp_path / "live")
    server = secure(pair)
    config = server.config.with_overrides(listen=f"{port} tls")
    Path(pair.certificate).unlink()
    with pytest.raises(ConfigError, match=r"TLSCertificate: .*cert\.pem' cannot be read"):
        Server(config).start()
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", port))


def test_expiry_is_logged_at_the_start_and_a_metric(secure: Secure, ca: CA, tmp_path: Path) -> None:
    end = datetime.datetime.now(datetime.UTC).replace(microsecond=0) + datetime.timedelta(days=3, hours=1)
    log = tmp_path / "errors.txt"
    pair = ca.pair("localhost", not_after=end)
    server = secure(pair, error_log=log, status_path="/-/")
    assert re.search(
        r"warning .*TLSCertificate: the certificate '.*' expires in 3 days, on ", log.read_text()
    )
    assert f"listening on 127.0.0.1:{server.port} (tls)" in log.read_text()
    assert re.search(r" TLS: (compiled|pure), OpenSSL ", log.read_text())
    with Client(server, ca.client()) as client:
        text = client.get("/-/metrics")[2].decode()
    line = f'fastws_tls_certificate_expiry_timestamp_seconds{{certificate="{pair.certificate}"}} {end.timestamp()}'
    assert line in text.splitlines()


def test_the_account_that_serves_must_be_able_to_read_the_key(
    secure: Secure, ca: CA, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fastws.operation import server as module

    pair = ca.pair("localhost")
    config = secure(pair).config._replace(user="nobody", listen=secure(pair).config.listen)
    monkeypatch.setattr(
        module, "drop_to", lambda _: Path(pair.key).unlink()
    )  # what it may not read is not there
    with pytest.raises(
        ConfigError, match=r"cannot be read: .*; nobody \(User\) reads it, now and at every renewal"
    ):
        Server(config).start()


def test_keys_in_the_document_root_are_not_served(secure: Secure, ca: CA, tmp_path: Path) -> None:
    root = tmp_path / "root"
    server = secure(install(ca.pair("localhost"), root), tls_ticket_key=None)
    with Client(server, ca.client()) as client:
        for _ in range(2):
            assert client.get("/index.html")[0] == 200
            assert client.get("/key.pem")[0] == 404
            assert client.get("/cert.pem")[0] == 404  # it may hold its key
            install(ca.pair("localhost"), root)


def test_an_application_is_told_that_it_is_asked_by_https(secure: Secure, ca: CA) -> None:
    def application(environ: dict[str, Any], start: Callable[..., Any]) -> list[bytes]:
        start("200 OK", [("Content-Type", "text/plain")])
        return [f"{environ['wsgi.url_scheme']} {environ.get('HTTPS')} {environ['SERVER_PORT']}".encode()]

    server = secure(
        ca.pair("localhost"),
        listen_ports=(0,),
        strict_transport_security_s=60,
        applications={"/app": application},
    )
    with Client(server, ca.client()) as client:
        for _ in range(2):
            _, headers, body = client.get("/app")
            assert body == f"https on {port_of(server, 'tls')}".encode()
            assert headers["Strict-Transport-Security"] == "max-age=60"
    plain = port_of(server, "plain")
    reply = get(plain, "/app")
    assert reply.body == f"http None {plain}".encode()
    assert reply.all("Strict-Transport-Security") == []


def test_the_load_client_fetches_and_compares_by_https(
    secure: Secure, ca: CA, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "root"
    server = secure(ca.pair("127.0.0.1"))
    put(root, {f"files/file{number}.html": b"%d" % number * 5000 for number in range(1, 21)})
    options = [
        "--port",
        str(server.port),
        "--count",
        "20",
        "--root",
        str(root),
        "--log",
        str(tmp_path / "log"),
    ]
    assert load_client([*options, "--ca", ca.path]) == 0
    assert load_client([*options, "--https"]) == 1
    assert "unable to get local issuer certificate" in capsys.readouterr().err
    assert load_client([*options, "--insecure"]) == 0


def resumes(
    session: ssl.SSLSession | None, server: Server, context: ssl.SSLContext
) -> tuple[bool, ssl.SSLSession]:
    """Whether ``server`` resumes a session, and one of its own: of TLS 1.2, whose handshake brings a ticket."""
    with (
        socket.create_connection(("127.0.0.1", port_of(server, "tls")), 60) as sock,
        context.wrap_socket(sock, server_hostname="localhost", session=session) as tls,
    ):
        found = tls.session
        assert found is not None
        return bool(tls.session_reused), found


def test_servers_with_one_ticket_key_resume_each_others_sessions_on_the_compiled_side(
    side: Any, ca: CA, tmp_path: Path
) -> None:
    pair, root = ca.pair("localhost"), put(tmp_path / "root", {"index.html": b"page"})
    key = tmp_path / "ticket.key"
    key.touch(0o600)
    key.write_bytes(bytes(range(80)))
    off = {"AccessLog": "off", "ErrorLog": "off"}
    config = defaults(str(root), off).with_overrides(
        listen_ports=(),
        listen="0 tls",
        tls_certificates=[(pair.certificate, pair.key)],
        tls_ticket_key=key,
    )
    alone = config.with_overrides(tls_ticket_key=None)
    context = ca.client(maximum=0x303)
    with (
        Server(config, backend=side) as one,
        Server(config, backend=side) as two,
        Server(alone, backend=side) as third,
    ):
        _, session = resumes(None, one, context)
        assert resumes(session, one, context)[0]
        assert resumes(session, two, context)[0] is (side.tls().side == "compiled")
        assert not resumes(session, third, context)[0]
        two.reload(lambda: two.config)
        assert resumes(session, two, context)[0] is (side.tls().side == "compiled")
