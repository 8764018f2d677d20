"""``--https``, ``--tls-cert`` and ``--tls-key``: a server of a directory that browsers reach by https."""

from __future__ import annotations

import ast
import os
import shutil
import signal
import ssl
import stat
import subprocess
import urllib.request
from pathlib import Path

import pytest
from certificates import CA
from launch import command, environment, running

import fastws
from fastws.tls.certificate import read_certificate

PURE_ONLY = os.environ.get("FASTWS_NO_EXTENSIONS") == "1"


@pytest.fixture
def site(tmp_path: Path) -> Path:
    (tmp_path / "www").mkdir()
    (tmp_path / "www" / "index.html").write_text("<p>hello</p>")
    return tmp_path


def run(site: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*arguments),
        cwd=site,
        env=environment("pure", site / "state") | variables,
        capture_output=True,
        text=True,
        timeout=60,
    )


def fetch(port: int, ca: str | Path, host: str = "127.0.0.1") -> bytes:
    context = ssl.create_default_context(cafile=str(ca))
    with urllib.request.urlopen(f"https://{host}:{port}/", context=context, timeout=60) as response:
        body: bytes = response.read()
    return body


def kept(site: Path) -> Path:
    return site / "state" / "fastws" / "tls" / "localhost.pem"


@pytest.mark.parametrize("chosen", ["compiled", "pure"])
def test_https_alone_serves_with_a_certificate_that_is_kept(site: Path, chosen: str) -> None:
    if chosen == "compiled" and PURE_ONLY:
        pytest.skip("FASTWS_NO_EXTENSIONS=1: the compiled side was left out on purpose")
    with running(site, "--https", "www", side=chosen) as server:
        assert f"at https://127.0.0.1:{server.port}/ (" in server.banner
        assert fetch(server.port, kept(site)) == b"<p>hello</p>"
        assert fetch(server.port, kept(site), "localhost") == b"<p>hello</p>"
        server.signal(signal.SIGTERM)
        assert server.wait() == 0
    first = kept(site).read_bytes()
    with running(site, "--https", "www", side=chosen) as server:
        assert fetch(server.port, kept(site)) == b"<p>hello</p>"
    assert kept(site).read_bytes() == first
    if os.name == "posix":
        assert stat.S_IMODE(kept(site).with_suffix(".key").stat().st_mode) == 0o600


def test_the_banner_of_an_open_server_has_urls_that_the_certificate_is_for(site: Path) -> None:
    with running(site, "--https", "-b", "0.0.0.0", "www") as server:
        urls = [word for word in server.banner.split() if word.startswith("http")]
    assert all(url.startswith("https://") for url in urls)
    others = {url.split("/")[2].rpartition(":")[0] for url in urls[1:]}
    assert others <= set(read_certificate(kept(site).read_bytes()).addresses)


def test_a_named_pair_is_served(site: Path) -> None:
    ca = CA(site)
    pair = ca.pair("localhost")
    with running(site, "--tls-cert", pair.certificate, "--tls-key", pair.key, "www") as server:
        assert "https://" in server.banner
        assert fetch(server.port, ca.path, "localhost") == b"<p>hello</p>"
    assert not kept(site).exists()


def test_certificate_and_key_may_be_one_file(site: Path) -> None:
    ca = CA(site)
    pair = ca.pair("localhost")
    both = site / "both.pem"
    both.touch(0o600)
    both.write_bytes(Path(pair.certificate).read_bytes() + Path(pair.key).read_bytes())
    with running(site, "--tls-cert", "both.pem", "www") as server:
        assert fetch(server.port, ca.path, "localhost") == b"<p>hello</p>"


def test_with_a_file_its_port_speaks_tls_and_its_certificate_gives_way(site: Path) -> None:
    ca = CA(site)
    first, second = ca.pair("first.example"), ca.pair("localhost")
    (site / "ws.conf").write_text(
        f"ListenPort 8080\nDocumentRoot www\nTLSCertificate {first.certificate} {first.key}\n"
    )
    done = run(site, "--check", "--tls-cert", second.certificate, "--tls-key", second.key)
    shown = ast.literal_eval(done.stdout)
    assert shown["ListenPort"] == ()
    assert shown["Listen"] == (("8080", "tls", 0o666, False),)
    assert shown["TLSCertificate"] == ((second.certificate, second.key),)
    assert (done.returncode, done.stderr) == (0, "")


def test_with_a_file_that_speaks_tls_its_ports_stay(site: Path) -> None:
    pair = CA(site).pair("localhost")
    (site / "ws.conf").write_text("ListenPort 8080\nListen 8443 tls\nDocumentRoot www\n")
    done = run(site, "--check", "--tls-cert", pair.certificate, "--tls-key", pair.key)
    shown = ast.literal_eval(done.stdout)
    assert (shown["ListenPort"], shown["Listen"]) == ((8080,), (("8443", "tls", 0o666, False),))


def test_without_a_file_it_is_port_8443(site: Path) -> None:
    shown = ast.literal_eval(run(site, "--check", "--https", "www").stdout.partition("\n")[2])
    assert shown["Listen"] == (("8443", "tls", 0o666, False),)
    shown = ast.literal_eval(run(site, "--check", "--https", "-p", "9000", "www").stdout.partition("\n")[2])
    assert shown["Listen"] == (("9000", "tls", 0o666, False),)


def test_without_trustme_the_error_names_the_extra_and_mkcert(site: Path) -> None:
    (site / "lacking").mkdir()
    (site / "lacking" / "trustme.py").write_text("raise ImportError")
    path = os.pathsep.join([str(site / "lacking"), environment("pure", site)["PYTHONPATH"]])
    done = run(site, "--https", "www", PYTHONPATH=path)
    assert done.returncode == 2
    assert done.stderr.startswith("command line: --https: a certificate for this machine is made by")
    assert "pip install 'fastws-server[tls]'" in done.stderr
    assert "mkcert" in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.posix
def test_a_state_directory_that_cannot_be_written_is_named(site: Path) -> None:
    (site / "state").write_text("a file is in the way")
    done = run(site, "--https", "www")
    assert done.returncode == 2
    assert f"--https: a certificate cannot be kept in '{site}/state/fastws/tls'" in done.stderr


def test_wrong_files_are_one_line_each(site: Path) -> None:
    ca = CA(site)
    one, other = ca.pair("localhost"), ca.pair("localhost")
    done = run(site, "--tls-cert", one.certificate, "--tls-key", other.key, "www")
    expected = f"command line: --tls-cert: {other.key!r} is not the key of {one.certificate!r}\n"
    assert (done.returncode, done.stderr) == (2, expected)
    done = run(site, "--tls-key", other.key, "www")
    assert done.returncode == 2
    assert "--tls-key needs --tls-cert" in done.stderr


def test_a_program_asks_for_https_by_one_word(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(site / "state"))
    config = fastws.defaults(
        str(site / "www"), {"ListenPort": "0", "AccessLog": "off", "ErrorLog": "off"}, https=True
    )
    with fastws.Server(config) as server:
        assert server.url == f"https://127.0.0.1:{server.port}/"
        assert server.ca == str(kept(site))
        assert fetch(server.port, server.ca) == b"<p>hello</p>"
    assert fastws.defaults(str(site / "www"), https=False).listen == ()


def test_check_warns_of_a_certificate_that_expires_and_of_tls_that_nobody_speaks(site: Path) -> None:
    import datetime

    end = datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=2, hours=1)
    pair = CA(site).pair("localhost", not_after=end)
    line = f"TLSCertificate {pair.certificate} {pair.key}"
    (site / "ws.conf").write_text(f"Listen 8443 tls\nDocumentRoot www\n{line}\n")
    done = run(site, "--check")
    assert done.returncode == 0
    said = f"ws.conf:3: TLSCertificate: the certificate {pair.certificate!r} expires in 2 days, on "
    assert done.stderr.startswith(f"fastws: warning: {said}")
    (site / "ws.conf").write_text(f"ListenPort 8080\nDocumentRoot www\n{line}\n")
    assert (
        "ws.conf:3: TLSCertificate: TLS is spoken nowhere; a line such as 'Listen 8443 tls'"
        in run(site, "--check").stderr
    )
    (site / "ws.conf").write_text("ListenPort 8080\nDocumentRoot www\nStrictTransportSecurity 60\n")
    assert "ws.conf:3: StrictTransportSecurity: TLS is spoken nowhere" in run(site, "--check").stderr


def test_check_warns_of_a_field_that_is_sent_twice_and_of_a_certificate_without_names(site: Path) -> None:
    pair = CA(site).pair("localhost")
    (site / "ws.conf").write_text(
        "Listen 8443 tls\nDocumentRoot www\nStrictTransportSecurity 60\n"
        'Header strict-transport-security "max-age=1"\n'
        f"TLSCertificate {pair.certificate} {pair.key}\n"
    )
    assert (
        "ws.conf:3: StrictTransportSecurity: a Header line sends the field too" in run(site, "--check").stderr
    )
    if shutil.which("openssl") is None:
        return
    made = (
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 90 -subj /CN=localhost"
        " -keyout nameless.key -out nameless.pem"
    )
    subprocess.run(made.split(), cwd=site, check=True, capture_output=True, timeout=60)
    (site / "nameless.key").chmod(0o600)
    (site / "ws.conf").write_text(
        "Listen 8443 tls\nDocumentRoot www\nTLSCertificate nameless.pem nameless.key\n"
    )
    assert (
        "nameless.pem' names no host in subjectAltName; browsers take it for none"
        in run(site, "--check").stderr
    )


def test_sockets_that_are_handed_over_by_name_speak_what_it_says(site: Path) -> None:
    import socket

    ca = CA(site)
    pair = ca.pair("localhost")
    (site / "ws.conf").write_text(f"DocumentRoot www\nTLSCertificate {pair.certificate} {pair.key}\n")
    listeners = [socket.create_server(("127.0.0.1", 0)) for _ in range(3)]
    ports = [listener.getsockname()[1] for listener in listeners]
    for listener in listeners:
        listener.set_inheritable(True)
    script = (
        "import os, sys\n"
        f"for n, fd in enumerate({[each.fileno() for each in listeners]}): os.dup2(fd, 40 + n)\n"
        "for n in range(3): os.dup2(40 + n, 3 + n)\n"
        "os.environ.update(LISTEN_FDS='3', LISTEN_PID=str(os.getpid()), LISTEN_FDNAMES='tls:redirect:web')\n"
        "from fastws.operation import cli; sys.exit(cli.main())\n"
    )
    import sys

    popen = subprocess.Popen(
        [sys.executable, "-c", script], cwd=site, env=environment("pure", site / "state"), close_fds=False,
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert popen.stderr is not None
        next(line for line in popen.stderr if "://" in line)
        assert fetch(ports[0], ca.path, "localhost") == b"<p>hello</p>"
        with urllib.request.urlopen(f"http://127.0.0.1:{ports[2]}/", timeout=60) as response:
            assert response.read() == b"<p>hello</p>"
        with socket.create_connection(("127.0.0.1", ports[1]), 60) as sock:
            sock.sendall(b"GET /x HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            answer = sock.recv(65536)
        assert answer.startswith(b"HTTP/1.1 308 ")
        assert f"Location: https://localhost:{ports[0]}/x\r\n".encode() in answer
    finally:
        popen.kill()
        popen.wait(60)
        popen.stderr.close()
        for listener in listeners:
            listener.close()
