from __future__ import annotations

import ast
import copy
import ipaddress
import os
import pickle
import re
import string
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from certificates import CA

from fastws.config import values
from fastws.config.directives import DIRECTIVES, reference
from fastws.config.endpoints import Endpoint
from fastws.config.overrides import Overrides
from fastws.config.secure import tls_settings
from fastws.config.settings import Config, Source, defaults, load
from fastws.h1.given import CONNECTIONS
from fastws.http.errors import ConfigError
from fastws.http.mediatypes import BUILT_IN
from fastws.transport.listener import spoken_in

REPOSITORY = Path(__file__).resolve().parents[2]
Write = Callable[..., str]


@pytest.fixture(autouse=True)
def _no_socket_activation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LISTEN_FDS", raising=False)
    monkeypatch.delenv("LISTEN_PID", raising=False)
    monkeypatch.delenv("PORT", raising=False)


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes lines to ws.conf, by default after what every file needs, and returns its path."""
    (tmp_path / "www").mkdir()
    (tmp_path / "users").write_text("")

    def write_lines(*lines: str, needed: bool = True) -> str:
        head = ["ListenPort 8080", "DocumentRoot www"] if needed else []
        path = tmp_path / "ws.conf"
        path.write_text("\n".join([*head, *lines]) + "\n")
        return str(path)

    return write_lines


def problems(path: str) -> list[str]:
    """The problems of the file at ``path``, without its directory."""
    with pytest.raises(ConfigError) as caught:
        load(path)
    return [str(problem).removeprefix(path).removeprefix(":") for problem in caught.value.problems]


# directive, values, what Config then holds; {} stands for the directory of the file
GOOD: list[tuple[str, str, Any]] = [
    ("Host", "0.0.0.0", ("0.0.0.0",)),
    ("Host", "::1", ("::1",)),
    ("Host", "[::1]", ("::1",)),
    ("Host", "LocalHost", ("127.0.0.1", "::1")),
    ("Host", "127.0.0.1, [::1] ::2", ("127.0.0.1", "::1", "::2")),
    ("ListenPort", "8081", (8081,)),
    ("ListenPort", "1024, 65535", (1024, 65535)),
    ("Listen", "unix:run.sock", (("unix:{}/run.sock", "plain", 0o666, False),)),
    ("Listen", "unix:/run/fastws.sock 0660", (("unix:/run/fastws.sock", "plain", 0o660, False),)),
    ("Listen", "unix:/run/fastws.sock 600", (("unix:/run/fastws.sock", "plain", 0o600, False),)),
    ("Listen", "80", (("80", "plain", 0o666, False),)),
    ("Listen", "192.0.2.1:8081 PLAIN", (("192.0.2.1:8081", "plain", 0o666, False),)),
    ("Listen", "[::1]:8443", (("[::1]:8443", "plain", 0o666, False),)),
    (
        "Listen",
        "localhost:8443",
        (("127.0.0.1:8443", "plain", 0o666, False), ("[::1]:8443", "plain", 0o666, False)),
    ),
    ("TLSCertificate", "cert.pem key.pem", (("{}/cert.pem", "{}/key.pem"),)),
    ("TLSVersions", "TLSv1.3", ("TLSv1.3",)),
    ("TLSVersions", "1.3, tlsv1.2", ("TLSv1.2", "TLSv1.3")),
    ("TLSClientCA", "ca.pem", "{}/ca.pem"),
    ("TLSClientCA", "off", None),
    ("TLSTicketKey", "ticket.key", "{}/ticket.key"),
    ("StrictTransportSecurity", "31536000", 31536000),
    ("StrictTransportSecurity", "0", 0),
    ("Listen", "8443 proxy", (("8443", "plain", 0o666, True),)),
    ("Listen", "192.0.2.1:8081 plain PROXY", (("192.0.2.1:8081", "plain", 0o666, True),)),
    ("Listen", "unix:/run/fastws.sock 0660 proxy", (("unix:/run/fastws.sock", "plain", 0o660, True),)),
    ("Listen", "unix:/run/fastws.sock proxy", (("unix:/run/fastws.sock", "plain", 0o666, True),)),
    ("ReusePort", "off", False),
    ("PidFile", "run/fastws.pid", "{}/run/fastws.pid"),
    ("PidFile", "off", None),
    ("User", "root", "root"),
    ("TrustedProxies", "10.0.0.0/8 UNIX, ::1", ("10.0.0.0/8", "unix", "::1/128")),
    ("ProxyProtocol", "on", True),
    ("ClientHeader", "x-forwarded-for", "X-Forwarded-For"),
    ("ClientHeader", "ANY", "any"),
    ("KeepaliveHeader", "on", True),
    ("RequestID", "answer", "answer"),
    ("DocumentRoot", "www", "{}/www"),
    ("DocumentRoot", '"www"', "{}/www"),
    ("Static", "/static/ www", {"/static/": "{}/www"}),
    ("DirectoryIndex", "index.html, index.htm  home.html", ("index.html", "index.htm", "home.html")),
    ("DirectoryIndex", '"index.html","index.htm"', ("index.html", "index.htm")),
    ("ContentType", ".HTML text/html", {".html": "text/html; charset=utf-8"}),
    ("ContentType", ".txt text/plain; charset=ascii", {".txt": "text/plain; charset=ascii"}),
    ("ContentType", ".png image/png", {".png": "image/png"}),
    ("AddType", ".USDZ model/vnd.usdz+zip", {".usdz": "model/vnd.usdz+zip"}),
    ("AddType", "/.well-known/* text/plain", {"/.well-known/*": "text/plain; charset=utf-8"}),
    ("AddEncoding", ".BR BR", {".br": "br"}),
    ("AddEncoding", "/Build/*.gz gzip", {"/Build/*.gz": "gzip"}),
    ("AddEncoding", ".svgz off", {".svgz": "off"}),
    ("DefaultType", "text/plain", "text/plain; charset=utf-8"),
    ("DefaultType", "off", None),
    ("DirectoryListing", "On", True),
    ("CleanUrls", "on", True),
    ("Fallback", "/index.html", "/index.html"),
    ("Fallback", "off", None),
    ("ErrorPage", "404 /404.html", {404: "/404.html"}),
    ("Redirect", "/old /new", {"/old": ("/new", 302)}),
    ("Redirect", '"/an old" https://a.example/?b=c#d 308', {"/an%20old": ("https://a.example/?b=c#d", 308)}),
    ("BasicAuth", "/private/* users", (("/private/*", "{}/users"),)),
    ("Application", "/ mysite.wsgi:application", {"/": "mysite.wsgi:application"}),
    ("Application", "/shop/ shop:create_app()", {"/shop": "shop:create_app()"}),
    ("FilesFirst", "on", True),
    ("ApplicationProcesses", "4", 4),
    ("ApplicationThreads", "12", 12),
    ("ApplicationQueue", "0", 0),
    ("ApplicationTimeout", "2.5", 2.5),
    ("ApplicationRecycle", "requests=10 jitter=5", {"requests": 10, "jitter": 5}),
    ("ApplicationRecycle", "memory=1M Age=60", {"memory": 1 << 20, "age": 60}),
    ("ApplicationReload", "on", True),
    ("Preload", "on", True),
    ("RequestMethods", "get POST", ("GET", "POST")),
    ("RequestMethods", "GET options", ("GET", "OPTIONS")),
    ("RequestMethods", '"GET,HEAD"', ("GET", "HEAD")),
    ("HTTPType", "HTTP/1.1", ("HTTP/1.1",)),
    ("KeepaliveTime", "2.5", 2.5),
    ("ServerHeader", "example/1.0 (test)", "example/1.0 (test)"),
    ("ServerHeader", "OFF", "off"),
    ("Header", '"X-Greeting" "say \\"hi\\""', (("X-Greeting", 'say "hi"', "*"),)),
    ("Header", "X-A b *.html", (("X-A", "b", "*.html"),)),
    ("CacheControl", "*.css public, max-age=60", (("*.css", "public, max-age=60"), ("*", "no-cache"))),
    ("Compression", "off", False),
    ("Sendfile", "off", False),
    ("WorkerThreads", "4", 4),
    ("CacheSize", "256M", 256 << 20),
    ("CacheSize", "0", 0),
    ("CacheMaxFile", "64k", 64 << 10),
    ("LargeFileETag", "times", "times"),
    ("CompressMaxFile", "64k", 64 << 10),
    ("MaxConnections", "5", 5),
    ("MaxConnectionsPerAddress", "100", 100),
    ("MaxBodySize", "1G", {"*": 1 << 30}),
    ("MaxBodySize", "0 /x*", {"*": 1 << 20, "/x*": 0}),
    ("RequestTimeout", "0.5", 0.5),
    ("MinRate", "1K", 1024),
    ("StallTime", "60", 60.0),
    ("DrainDelay", "2.5", 2.5),
    ("DrainTimeout", "0", 0.0),
    ("AccessLog", "access.txt", "{}/access.txt"),
    ("AccessLog", "-", "-"),
    ("AccessLogFormat", "JSON", "json"),
    ("ErrorLog", "off", "off"),
    ("ErrorLogFormat", "json", "json"),
    ("LogLevel", "debug", "debug"),
    ("StatusPath", "/-/", "/-/"),
    ("StatusPath", "off", None),
    ("StatusAllow", "10.0.0.0/8, ::1", ("10.0.0.0/8", "::1/128")),
]  # fmt: skip

# directive, values, part of what is said about them
BAD: list[tuple[str, str, str]] = [
    ("Host", "127.0.0.256", "not an IP address such as 127.0.0.1"),
    ("Host", "localhost ::1", "an address is listed twice"),
    ("Host", "nowhere.invalid", "nor a name that has one: "),
    ("ListenPort", "http", "'http' is not a number; ports from 1024 to 65535 are allowed"),
    ("ListenPort", "8_080", "is not a number"),
    ("ListenPort", "80", "below 1024; 1024 to 65535 are allowed, lower ports need User, --port"),
    ("ListenPort", "0", "port 0 is below 1024; --port 0 on the command line takes a free port"),
    ("ListenPort", "65536", "above 65535"),
    ("ListenPort", "9000,9000", "listed twice"),
    ("Listen", "www", "'www' is none of PORT, ADDRESS:PORT, [IPV6-ADDRESS]:PORT and unix:/PATH"),
    ("Listen", "127.0.0.1", "is none of PORT, ADDRESS:PORT"),
    ("Listen", ":8443", "is none of PORT, ADDRESS:PORT"),
    ("Listen", "::1:8443", "'::1:8443' has no brackets; [::1]:8443 is allowed"),
    ("Listen", "nowhere.invalid:8443", "nor a name that has one"),
    ("Listen", "8443 https", "'https' is none of plain, tls, redirect"),
    ("Listen", "0 tls", "port 0 is below 1024"),
    ("Listen", "65536 tls", "above 65535"),
    ("Listen", "8443 tls", "tls needs a certificate and its key; TLSCertificate names the files"),
    ("Listen", "8081 redirect", "a line such as 'Listen 8443 tls' is needed"),
    ("Listen", "127.0.0.1:8080", "127.0.0.1:8080 is listed twice"),
    ("Listen", "unix:", "not unix:/PATH"),
    ("Listen", "unix:a tls", "always plain and 'tls' no mode"),
    ("TLSCertificate", "cert.pem", "too few values; allowed is TLSCertificate CERTIFICATE KEY"),
    ("TLSCertificate", "cert.pem nowhere.pem", "cannot be read: No such file or directory"),
    ("TLSVersions", "TLSv1.1", "'TLSv1.1' is none of TLSv1.2, TLSv1.3; older versions are broken"),
    ("TLSClientCA", "key.pem", "holds no certificate in PEM"),
    ("TLSTicketKey", "cert.pem", "bytes; 80 are needed: openssl rand"),
    ("StrictTransportSecurity", "1y", "not a whole number from 0 to"),
    ("Listen", "unix:/" + "a" * 107, "at most 107 bytes"),
    ("Listen", "unix:a 0888", "'0888' is not a mode: three octal digits"),
    ("ReusePort", "yes", "neither on nor off"),
    ("PidFile", '""', "the path is empty"),
    ("User", "no-such-account", "not the name of an account"),
    ("Listen", "8443 proxy plain", "'plain' is not proxy"),
    ("Listen", "8443 plain plain", "'plain' is not proxy"),
    ("TrustedProxies", "10.0.0.1/8", "has host bits set"),
    ("TrustedProxies", "unix:/run/x", "addresses and networks such as 10.0.0.0/8"),
    ("ProxyProtocol", "v2", "neither on nor off"),
    ("ClientHeader", "X-Client", "none of any, Forwarded, X-Forwarded-For, X-Real-IP"),
    ("KeepaliveHeader", "5", "neither on nor off"),
    ("RequestID", "on", "none of off, log, answer"),
    ("ProxyProtocol", "on", "TrustedProxies names the addresses whose preambles are believed, and is missing"),
    ("Listen", "8443 proxy", "proxy: TrustedProxies names the addresses whose preambles are believed"),
    ("DocumentRoot", "nowhere", "does not exist; a readable directory is needed"),
    ("DocumentRoot", "ws.conf", "is not a directory"),
    ("DocumentRoot", '""', "the path is empty"),
    ("DocumentRoot", "my files", "too many values"),
    ("Static", "/static www", "is not a folder of its own"),
    ("Static", "/ www", "is not a folder of its own"),
    ("Static", "/static/ nowhere", "nowhere' is not a directory that can be read"),
    ("DirectoryIndex", "sub/index.html", "not a plain file name"),
    ("DirectoryIndex", ",", "the list is empty"),
    ("ContentType", "html text/html", "not one extension with its dot"),
    ("ContentType", ".tar.gz application/gzip", "not one extension"),
    ("ContentType", ".html", "too few values; allowed is ContentType .EXT TYPE/SUBTYPE"),
    ("ContentType", ".html html", "'html' is not type/subtype"),
    ("ContentType", ".html text/html;", "is not type/subtype"),
    ("AddType", "usdz model/vnd.usdz+zip", "neither an extension with its dot, such as .html, nor a pattern"),
    ("AddType", ".tar.gz application/gzip", "not one extension"),
    ("AddType", "*.usdz model", "is not type/subtype"),
    ("AddEncoding", ".br brotli", "'brotli' is none of br, gzip, zstd, off"),
    ("AddEncoding", "br br", "neither an extension"),
    ("DefaultType", "text", "is not type/subtype"),
    ("DirectoryListing", "yes", "neither on nor off"),
    ("CleanUrls", "1", "neither on nor off"),
    ("Fallback", "index.html", "not a path of this site"),
    ("Fallback", "/../secret", "not a path of this site"),
    ("ErrorPage", "200 /ok.html", "'200' is not a whole number from 400 to 599"),
    ("ErrorPage", "404", "too few values"),
    ("Redirect", "/old new", "neither a /path nor an http"),
    ("Redirect", "/old //elsewhere", "neither a /path nor an http"),
    ("Redirect", "/old /\\\\elsewhere", "neither a /path nor an http"),
    ("Redirect", '/old "/new page"', "neither a /path nor an http"),
    ("Redirect", "/old /new 304", "'304' is none of 301, 302, 303, 307, 308"),
    ("BasicAuth", "/private/* nofile", "an htpasswd file is needed"),
    ("BasicAuth", "private users", "not a pattern of paths"),
    ("Application", "shop shop:app", "not a path of this site"),
    ("Application", "/shop shop", "not module:callable"),
    ("Application", "/shop shop:app(1)", "not module:callable"),
    ("Application", "/shop shop.py:app:x", "not module:callable"),
    ("Application", "/shop", "too few values"),
    ("FilesFirst", "perhaps", "neither on nor off"),
    ("ApplicationProcesses", "-1", "not a whole number from 0 to 256"),
    ("ApplicationThreads", "0", "not a whole number from 1 to 1024"),
    ("ApplicationQueue", "many", "not a whole number from 0"),
    ("ApplicationTimeout", "0", "not a number of seconds"),
    ("ApplicationRecycle", "requests", "not a whole number from 1"),
    ("ApplicationRecycle", "days=1", "'days' is none of requests, jitter, memory, age"),
    ("ApplicationRecycle", "jitter=1", "requests, which are missing"),
    ("ApplicationRecycle", "age=1 age=2", "age is given twice"),
    ("ApplicationReload", "always", "neither on nor off"),
    ("Preload", "1", "neither on nor off"),
    ("RequestMethods", "GET,BREW", "'BREW' is none of GET, HEAD, POST, OPTIONS"),
    ("HTTPType", "HTTP/2", "'HTTP/2' is none of HTTP/1.0, HTTP/1.1"),
    ("KeepaliveTime", "-1", "not a number of seconds"),
    ("KeepaliveTime", "0", "not a number of seconds"),
    ("KeepaliveTime", "1e3", "not a number of seconds"),
    ("KeepaliveTime", "86401", "not a number of seconds from 0.001 to 86400"),
    ("ServerHeader", '""', "not a field value"),
    ("Header", '"X A" b', "not a field name"),
    ("Header", 'X-A "☃"', "not a field value"),
    ("Header", "Content-Length 5", "the server computes it"),
    *[("Header", f"{name.title()} x", "the server computes it") for name in sorted(CONNECTIONS)],
    ("Header", "Content-Type text/html", "use ContentType"),
    ("Header", "X-A b css", "not a pattern of paths"),
    ("CacheControl", "css no-store", "not a pattern of paths"),
    ("Compression", "maybe", "neither on nor off"),
    ("Sendfile", "maybe", "neither on nor off"),
    ("WorkerThreads", "two", "not a whole number from 0 to 256"),
    ("WorkerThreads", "257", "not a whole number from 0 to 256"),
    ("CacheSize", "1T", "is not a size"),
    ("CacheMaxFile", "2G", "is not a size from 0 to 1G"),
    ("LargeFileETag", "inode", "state, times"),
    ("CompressMaxFile", "2G", "is not a size from 0 to 1G"),
    ("MaxConnections", "0", "not a whole number from 1"),
    ("MaxConnectionsPerAddress", "many", "not a whole number from 0"),
    ("MaxBodySize", "1.5M", "is not a size"),
    ("MaxBodySize", "1M upload", "not a pattern of paths"),
    ("RequestTimeout", "0", "not a number of seconds"),
    ("MinRate", "-5", "is not a size"),
    ("StallTime", "0", "not a number of seconds"),
    ("DrainDelay", "-1", "not a number of seconds"),
    ("DrainTimeout", "soon", "not a number of seconds"),
    ("AccessLog", "nowhere/access.txt", "does not exist"),
    ("AccessLogFormat", "common", "'common' is none of combined, combined_time, json"),
    ("ErrorLog", "www", "is a directory"),
    ("ErrorLogFormat", "combined", "'combined' is none of text, json"),
    ("LogLevel", "verbose", "'verbose' is none of debug, info, warning, error"),
    ("StatusPath", "/", "not a folder of its own"),
    ("StatusPath", "/status", "not a folder of its own"),
    ("StatusAllow", "10.0.0.1/8", "has host bits set"),
    ("StatusAllow", "home", "addresses and networks such as 10.0.0.0/8"),
]  # fmt: skip

# What a file that gives only ListenPort 8080 and DocumentRoot www leads to; {} as above
DEFAULTS: dict[str, Any] = {
    "Host": ("127.0.0.1",),
    "ListenPort": (8080,),
    "Listen": (),
    "ReusePort": False,
    "PidFile": None,
    "User": None,
    "TrustedProxies": (),
    "ProxyProtocol": False,
    "ClientHeader": "any",
    "KeepaliveHeader": False,
    "RequestID": "off",
    "TLSCertificate": (),
    "TLSVersions": ("TLSv1.2", "TLSv1.3"),
    "TLSClientCA": None,
    "TLSTicketKey": None,
    "StrictTransportSecurity": None,
    "DocumentRoot": "{}/www",
    "Static": {},
    "DirectoryIndex": ("index.html",),
    "ContentType": dict(BUILT_IN),
    "AddType": {},
    "AddEncoding": {},
    "DefaultType": "application/octet-stream",
    "DirectoryListing": False,
    "CleanUrls": False,
    "Fallback": None,
    "ErrorPage": {},
    "Redirect": {},
    "BasicAuth": (),
    "Application": {},
    "FilesFirst": False,
    "ApplicationProcesses": 0,
    "ApplicationThreads": 4,
    "ApplicationQueue": 1024,
    "ApplicationTimeout": 30.0,
    "ApplicationRecycle": {},
    "ApplicationReload": False,
    "Preload": False,
    "RequestMethods": ("GET", "HEAD", "POST"),
    "HTTPType": ("HTTP/1.0", "HTTP/1.1"),
    "KeepaliveTime": 15.0,
    "ServerHeader": "fastws",
    "Header": (),
    "CacheControl": (("*", "no-cache"),),
    "Compression": True,
    "WorkerThreads": 0,
    "CacheSize": 64 << 20,
    "CacheMaxFile": 1 << 20,
    "LargeFileETag": "state",
    "CompressMaxFile": 4 << 20,
    "Sendfile": True,
    "MaxConnections": 20000,
    "MaxConnectionsPerAddress": 0,
    "MaxBodySize": {"*": 1 << 20},
    "RequestTimeout": 10.0,
    "MinRate": 100,
    "StallTime": 300.0,
    "DrainDelay": 0.0,
    "DrainTimeout": 10.0,
    "AccessLog": "{}/log_webserver.txt",
    "AccessLogFormat": "combined",
    "ErrorLog": "{}/log_webserver_error.txt",
    "ErrorLogFormat": "text",
    "LogLevel": "info",
    "StatusPath": None,
    "StatusAllow": (),
}


def placed(value: Any, directory: Path) -> Any:
    """``value`` with {} replaced by ``directory`` in every string."""
    if isinstance(value, str):
        return value.replace("{}", str(directory))
    if isinstance(value, tuple):
        return tuple(placed(item, directory) for item in value)
    if isinstance(value, dict):
        return {name: placed(item, directory) for name, item in value.items()}
    return value


@pytest.fixture
def tls_files(tmp_path: Path) -> None:
    """Files with which TLS could be served, beside the configuration."""
    pair = CA(tmp_path).pair("a.example")
    os.rename(pair.certificate, tmp_path / "cert.pem")
    os.rename(pair.key, tmp_path / "key.pem")
    (tmp_path / "ticket.key").touch(0o600)
    (tmp_path / "ticket.key").write_bytes(bytes(80))


@pytest.mark.usefixtures("tls_files")
@pytest.mark.parametrize(("name", "words", "expected"), GOOD)
def test_directive_is_parsed(write: Write, tmp_path: Path, name: str, words: str, expected: Any) -> None:
    others = ("ListenPort 8080", "DocumentRoot www", "TrustedProxies 127.0.0.1")
    needed = [line for line in others if not line.startswith(f"{name} ")]
    config = load(write(*needed, f"{name} {words}", needed=False))
    assert config.as_dict()[name] == placed(expected, tmp_path)


@pytest.mark.usefixtures("tls_files")
@pytest.mark.parametrize(("name", "words", "said"), BAD)
def test_bad_value_is_reported_with_its_line(write: Write, name: str, words: str, said: str) -> None:
    needed = [line for line in ("ListenPort 8080", "DocumentRoot www") if not line.startswith(f"{name} ")]
    (problem,) = problems(write(*needed, "", f"{name} {words}", needed=False))
    assert problem.startswith(f"{len(needed) + 2}: {name}: ")
    assert said in problem


@pytest.mark.parametrize("row", DIRECTIVES, ids=lambda row: row.name)
def test_directive_without_value_is_reported(write: Write, row: Any) -> None:
    needed = [line for line in ("ListenPort 8080", "DocumentRoot www") if not line.startswith(f"{row.name} ")]
    (problem,) = problems(write(row.name, *needed, needed=False))
    assert problem == f"1: {row.name}: the value is missing; allowed is {row.name} {row.syntax}"


def test_defaults_of_a_file(write: Write, tmp_path: Path) -> None:
    assert load(write()).as_dict() == {name: placed(value, tmp_path) for name, value in DEFAULTS.items()}


@pytest.mark.usefixtures("tls_files")
def test_plain_tls_and_redirect_stand_side_by_side(write: Write) -> None:
    config = load(write("Listen 443 tls", "Listen 80 redirect", "TLSCertificate cert.pem key.pem"))
    assert {address: spoken.kind for address, spoken in spoken_in(config).items()} == {
        ("127.0.0.1", 8080): "plain",
        ("127.0.0.1", 443): "tls",
        ("127.0.0.1", 80): "redirect",
    }
    assert config.speaks_tls
    settings = tls_settings(config.tls_certificates, config.tls_versions, None, None)
    assert [pair.names for pair in settings.pairs] == [("a.example",)]
    assert (settings.minimum, settings.maximum) == (0x303, 0x304)
    assert not load(write("TLSCertificate cert.pem key.pem")).speaks_tls


@pytest.mark.usefixtures("tls_files")
def test_everything_that_is_wrong_with_a_pair_is_said_in_the_line_that_names_it(
    write: Write, tmp_path: Path
) -> None:
    (tmp_path / "key.pem").chmod(0o644)
    said = problems(
        write("Listen 443 tls", "TLSCertificate cert.pem key.pem", "TLSCertificate gone.pem key.pem")
    )
    assert [text.partition(": ")[0] for text in said] == ["4", "5"]
    assert "can be read by every account of this machine; chmod o=" in said[0]
    assert "gone.pem' cannot be read" in said[1]


@pytest.mark.usefixtures("tls_files")
def test_free_ports_of_several_kinds_are_told_apart(write: Write) -> None:
    config = load(write("TLSCertificate cert.pem key.pem")).with_overrides(
        listen_ports=(0,), listen=("0 tls", "0 redirect", "127.0.0.1:8443 tls")
    )
    assert [spoken.kind for spoken in spoken_in(config).values()] == ["plain", "tls", "redirect", "tls"]


def test_every_directive_has_its_tests_and_field() -> None:
    names = {row.name for row in DIRECTIVES}
    assert {name for name, _, _ in GOOD} == {name for name, _, _ in BAD} == set(DEFAULTS) == names
    assert [*(row.field for row in DIRECTIVES), "config_path", "given", "state_problem"] == list(
        Config._fields
    )


def test_minimal_file_works_unchanged(write: Write, tmp_path: Path) -> None:
    config = load(
        write(
            "### web server configuration ###",
            "Host 127.0.0.1",
            "ListenPort 8888",
            'DocumentRoot "www"',
            "DirectoryIndex index.html index.htm",
            "ContentType .html text/html",
            "ContentType .png image/png",
            "KeepaliveTime 10",
            "RequestMethods GET,POST",
            "HTTPType HTTP/1.0,HTTP/1.1",
            needed=False,
        )
    )
    assert config.request_methods == ("GET", "POST")
    assert config.content_types == {".html": "text/html; charset=utf-8", ".png": "image/png"}
    assert config.default_type is None
    assert config.document_root == str(tmp_path / "www")
    assert config.config_path == str(tmp_path / "ws.conf")


def test_default_type_is_off_where_types_are_listed(write: Write) -> None:
    assert load(write()).default_type == "application/octet-stream"
    assert load(write("AddType .a x/a")).default_type == "application/octet-stream"
    assert load(write("ContentType .a x/a")).default_type is None
    assert load(write("ContentType .a x/a", "DefaultType x/b")).default_type == "x/b"
    assert load(write("DefaultType off")).default_type is None


def test_types_that_a_program_lists_are_a_list_as_well() -> None:
    config = defaults("/")
    assert config.default_type == "application/octet-stream"
    assert config.with_overrides(content_types={".a": "x/a"}).default_type is None
    assert config.with_overrides(content_types={".a": "x/a"}, default_type="x/b").default_type == "x/b"
    assert config.with_overrides(content_types=config.content_types).default_type == config.default_type


def test_config_can_be_hashed_pickled_and_copied(write: Write) -> None:
    config = load(write("ContentType .a x/a", "ErrorPage 404 /a", "Redirect /a /b"))
    again = load(config.config_path or "")
    assert (hash(config), config) == (hash(again), again)
    for other in (pickle.loads(pickle.dumps(config)), copy.deepcopy(config), copy.copy(config)):
        assert (other, hash(other)) == (config, hash(config))
        assert other.with_overrides(keepalive_time_s=1).content_types == config.content_types
    assert len({config, again, config.with_overrides(keepalive_time_s=1)}) == 2


def test_every_error_is_reported_in_the_order_of_the_file(write: Write) -> None:
    found = problems(
        write(
            "Host nowhere",
            "Lissten unix:/tmp/x",
            "# a comment",
            "ListenPort 80",
            "KeepaliveTime",
            'Header X-A "open',
            "MaxConnections 0",
            needed=False,
        )
    )
    assert [problem.partition(":")[0] for problem in found] == ["1", "2", "4", "5", "6", "7", "7"]
    assert found[-1] == "7: DocumentRoot is missing; the directory to serve is needed"


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("ListenPort abc, 9000 0", ["'abc' is not a number", "port 0 is below 1024"]),
        ("RequestMethods PUT GET TRACE", ["'PUT' is none of", "'TRACE' is none of"]),
        ("DirectoryIndex a/b index.html .c", ["'a/b' is not a plain", "'.c' is not a plain"]),
        ("Host 1.2.3 ::1,a.b/8", ["'1.2.3' is not an IP address", "'a.b/8' is not an IP address"]),
        ("StatusAllow here 10.0.0.0/8 there", ["'here' does not", "'there' does not"]),
        ("ContentType html text", ["'html' is not one extension", "'text' is not type/subtype"]),
        (
            'Header "A B" "" x',
            ["'A B' is not a field name", "'' is not a field value", "'x' is not a pattern"],
        ),
        ("CacheControl x \u20ac", ["'x' is not a pattern", "'\u20ac' is not a field value"]),
        ("ErrorPage 200 x", ["'200' is not a whole number", "'x' is not a path"]),
        ("Redirect a b 200", ["'a' is not a path", "'b' is neither", "'200' is none of 301"]),
        ("BasicAuth x nobody", ["'x' is not a pattern", "nobody' is not a file"]),
    ],
)
def test_every_error_of_one_line_is_reported(write: Write, line: str, said: list[str]) -> None:
    name = line.split()[0]
    found = problems(write(line))
    assert [problem.startswith(f"3: {name}: ") for problem in found] == [True] * len(said)
    assert [part in problem for part, problem in zip(said, found, strict=True)] == [True] * len(said)


def test_unknown_directive_suggests_the_nearest(write: Write) -> None:
    assert problems(write("DirectoryIndx index.html")) == [
        "3: unknown directive 'DirectoryIndx'; the nearest known one is DirectoryIndex"
    ]


@pytest.mark.parametrize("name", ["<xml>", "foo", "Alias", "x" * 200, "\u00e9"])
def test_name_that_is_like_none_gets_no_suggestion(write: Write, name: str) -> None:
    assert problems(write(f"{name} value")) == [
        f"3: unknown directive {name!r}; docs/configuration.md lists all"
    ]


@pytest.mark.parametrize(
    "lines",
    [
        ["AccessLog both.txt", "ErrorLog both.txt"],
        ["AccessLog both.txt", 'ErrorLog "../{}/both.txt"'],
        ["LogLevel info", "AccessLog log_webserver_error.txt"],
        ["LogLevel info", "ErrorLog log_webserver.txt"],
    ],
)
def test_one_file_for_both_logs_is_refused(write: Write, tmp_path: Path, lines: list[str]) -> None:
    (problem,) = problems(write(*[line.format(tmp_path.name) for line in lines]))
    assert problem.startswith(f"4: {lines[1].split()[0]}: '{tmp_path}/")
    assert problem.endswith("is the file of the other log too; each needs its own")


@pytest.mark.parametrize("log", ["-", "off", "/dev/null"])
def test_both_logs_may_go_to_what_is_no_file(write: Write, log: str) -> None:
    assert load(write(f"AccessLog {log}", f"ErrorLog {log}")).access_log == log


def test_second_line_of_a_single_directive_names_the_first(write: Write) -> None:
    assert problems(write("MinRate 1", "", "minrate 1")) == [
        "5: MinRate was given in line 3 already; once is allowed"
    ]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("ListenPort 9000", "ListenPort 9001, 9000"),
        ("Host ::1", "Host 127.0.0.1 [::1]"),
        ("ContentType .a text/html", "ContentType .A text/css"),
        ("ErrorPage 404 /a.html", "ErrorPage 404 /b.html"),
        ("Redirect /a /b", "Redirect /a /c"),
    ],
)
def test_repeated_directive_that_clashes_is_reported(write: Write, first: str, second: str) -> None:
    (problem,) = problems(write(first, second))
    assert problem.startswith("4: ")
    assert "in a line before; once is allowed" in problem


def test_repeatable_directives_add_up(write: Write) -> None:
    config = load(write("ListenPort 8081", "Header A 1", "Header A 2", "CacheControl *.js no-store"))
    assert config.listen_ports == (8080, 8081)
    assert config.headers == (("A", "1", "*"), ("A", "2", "*"))
    assert config.cache_control == (("*.js", "no-store"), ("*", "no-cache"))


def test_port_missing_in_a_file_is_an_error(write: Write) -> None:
    (problem,) = problems(write("DocumentRoot www", needed=False))
    assert problem == (
        "1: ListenPort is missing; a port from 1024 to 65535 is needed, or Listen, or socket activation"
    )


def test_wrong_port_is_not_also_called_missing(write: Write) -> None:
    assert len(problems(write("DocumentRoot www", "ListenPort x", needed=False))) == 1


def test_unix_socket_stands_in_for_the_port(write: Write) -> None:
    config = load(write("DocumentRoot www", "Listen unix:/tmp/a", needed=False))
    assert (config.listen_ports, config.listen) == ((), (("unix:/tmp/a", "plain", 0o666, False),))


def test_socket_activation_stands_in_for_the_port(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LISTEN_FDS", "1")
    assert load(write("DocumentRoot www", needed=False)).listen_ports == ()
    assert defaults().listen_ports == ()


def test_sockets_for_another_process_do_not_stand_in(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LISTEN_FDS", "1")
    monkeypatch.setenv("LISTEN_PID", str(os.getpid() + 1))
    assert len(problems(write("DocumentRoot www", needed=False))) == 1


def test_comments_and_quotes(write: Write) -> None:
    path = write(
        "###########",
        "   # indented",
        "Host ::1 # behind a value",
        'Header X-A "# not a comment" ### a comment "with quotes',
        "Redirect /a /b#part",
        "\tKEEPALIVETIME\t7",
    )
    config = load(path)
    assert (config.hosts, config.keepalive_time_s) == (("::1",), 7.0)
    assert config.headers == (("X-A", "# not a comment", "*"),)
    assert config.redirects == {"/a": ("/b#part", 302)}


@pytest.mark.parametrize("line", ['ErrorLog "off', 'ErrorLog "o"ff', 'ErrorLog "off\\"'])
def test_broken_quotes_are_reported(write: Write, line: str) -> None:
    (problem,) = problems(write(line))
    assert problem.startswith("3: a double quote is not closed")


def test_byte_order_mark_and_windows_line_ends_are_taken(tmp_path: Path) -> None:
    (tmp_path / "www").mkdir()
    path = tmp_path / "ws.conf"
    path.write_bytes(b"\xef\xbb\xbfListenPort 8080\r\nDocumentRoot www\r\n")
    assert load(str(path)).listen_ports == (8080,)


@pytest.mark.parametrize(
    ("line", "said"), [(b"Host \xff", "is not UTF-8"), (b'Header A "b\x00"', "a control character")]
)
def test_bytes_that_are_no_text_are_reported(tmp_path: Path, line: bytes, said: str) -> None:
    (tmp_path / "www").mkdir()
    path = tmp_path / "ws.conf"
    path.write_bytes(b"ListenPort 8080\n" + line + b"\nDocumentRoot www\n")
    (problem,) = problems(str(path))
    assert problem.startswith("2: ")
    assert said in problem


def test_missing_file_is_reported(tmp_path: Path) -> None:
    (problem,) = problems(str(tmp_path / "ws.conf"))
    assert problem.startswith("1: cannot be read: No such file or directory; a text file")


def test_unreadable_document_root_is_reported(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Not by chmod: the suite may run as root, who reads everything.
    monkeypatch.setattr(os, "access", lambda path, mode: path != str(tmp_path / "www"))
    (problem,) = problems(write())
    assert problem.startswith("2: DocumentRoot: ")
    assert "permission denied" in problem


def test_document_root_keeps_its_symbolic_link(write: Write, tmp_path: Path) -> None:
    (tmp_path / "current").symlink_to("www")
    config = load(write("ListenPort 8080", "DocumentRoot current", needed=False))
    assert config.document_root == str(tmp_path / "current")


def test_config_cannot_be_changed(write: Write) -> None:
    config = load(write("ContentType .a a/b", "ErrorPage 404 /a"))
    with pytest.raises(AttributeError):
        config.hosts = "::1"  # type: ignore[misc]
    with pytest.raises(TypeError):
        config.content_types[".b"] = "a/b"  # type: ignore[index]
    with pytest.raises(TypeError):
        config.error_pages[500] = "/b"  # type: ignore[index]


def test_defaults_without_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.chdir(tmp_path)
    config = defaults()
    assert (config.hosts, config.listen_ports, config.document_root) == (
        ("127.0.0.1",),
        (8080,),
        str(tmp_path),
    )
    assert config.default_type == "application/octet-stream"
    assert config.content_types == BUILT_IN
    state = tmp_path / "state/fastws" / str(tmp_path).strip("/").replace("/", "-")
    assert config.access_log == f"{state}/log_webserver.txt"
    assert config.error_log == f"{state}/log_webserver_error.txt"
    assert (config.config_path, config.state_problem) == (None, "")
    assert not state.exists()


@pytest.mark.parametrize("state", [None, "", "relative"])
def test_state_directory_without_a_usable_variable_is_in_home(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, state: str | None
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    if state is None:
        monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    else:
        monkeypatch.setenv("XDG_STATE_HOME", state)
    assert defaults("/").access_log == f"{tmp_path}/.local/state/fastws/root/log_webserver.txt"


def test_each_directory_has_logs_of_its_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    roots = [tmp_path / "one" / "public", tmp_path / "two" / "public", tmp_path / ("d" * 100) / ("e" * 200)]
    for root in roots:
        root.mkdir(parents=True)
    logs = [Path(defaults(str(root)).access_log) for root in roots]
    assert len(set(logs)) == 3
    for log in logs:
        log.parent.mkdir(parents=True)


@pytest.mark.parametrize("obstacle", ["file", "directory of a log", "no home"])
def test_state_directory_that_cannot_be_written_leaves_standard_error(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, obstacle: str
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    if obstacle == "file":
        (tmp_path / "state").write_text("")
        wrong = f"'{tmp_path}/state' is not a directory"
    elif obstacle == "directory of a log":
        (tmp_path / "state/fastws/root/log_webserver_error.txt").mkdir(parents=True)
        wrong = f"'{tmp_path}/state/fastws/root/log_webserver_error.txt' is a directory"
    else:
        monkeypatch.delenv("XDG_STATE_HOME")
        monkeypatch.setattr("os.path.expanduser", lambda path: path)
        wrong = "this account has no home directory"
    config = defaults("/")
    assert (config.access_log, config.error_log, config.state_problem) == ("off", "-", wrong)
    config = defaults("/", {"AccessLog": str(tmp_path / "a.txt")})
    assert (config.access_log, config.error_log) == (str(tmp_path / "a.txt"), "-")
    config = defaults("/", {"AccessLog": "off", "ErrorLog": "off"})
    assert (config.access_log, config.error_log, config.state_problem) == ("off", "off", "")


def test_logs_of_the_command_line_are_relative_to_the_current_directory(
    write: Write, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    for source in (Source(write()), Source(None)):
        config = source._replace(overrides={"AccessLog": "a.txt", "ErrorLog": "-"}).read()
        assert (config.access_log, config.error_log) == (str(tmp_path / "here" / "a.txt"), "-")
        with pytest.raises(ConfigError, match=r"--access-log: '.*/nowhere' does not exist; -, off or a file"):
            source._replace(overrides={"AccessLog": "nowhere/a.txt"}).read()


def test_overrides_go_before_the_file_and_survive_a_reload(write: Write, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    overrides = {"Host": "::1", "ListenPort": "0", "WorkerThreads": "3"}
    source = Source(write("Host 0.0.0.0"), str(tmp_path / "other"), overrides)
    for _ in range(2):
        config = source.read()
        assert (config.hosts, config.listen_ports, config.worker_threads) == (("::1",), (0,), 3)
        assert config.document_root == str(tmp_path / "other")
    write("KeepaliveTime 3", needed=False)
    config = source.read()
    assert (config.hosts, config.keepalive_time_s) == (("::1",), 3.0)


def test_pairs_of_the_command_line_replace_those_of_the_file(
    write: Write, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    source = Source(
        write("Static /old/ www", "Application /old a:b"),
        overrides={"Static": ["/static/=./www", "/media/=www"], "Application": ["/=a:b"]},
    )
    config = source.read()
    assert config.static == {"/static/": f"{tmp_path}/www", "/media/": f"{tmp_path}/www"}
    assert config.applications == {"/": "a:b"}
    for wrong in (["/static/"], ["/static/=nowhere"], ["/static/=www", "/static/=."]):
        with pytest.raises(ConfigError, match="--static: "):
            source._replace(overrides={"Static": wrong}).read()


def test_application_of_the_whole_site_needs_no_document_root(write: Write, tmp_path: Path) -> None:
    alone = ("ListenPort 8080", "Application / a:b")
    assert load(write(*alone, needed=False)).document_root == str(tmp_path)
    assert "DocumentRoot is missing" in problems(write(*alone, "FilesFirst on", needed=False))[0]
    assert (
        "DocumentRoot is missing" in problems(write("ListenPort 8080", "Application /a a:b", needed=False))[0]
    )


def test_one_path_is_not_both_an_application_and_a_directory(write: Write) -> None:
    (problem,) = problems(write("Application /a a:b", "Static /b/ www", "Static /a/ www"))
    assert problem == "5: Static: /a/ is the path of an application too; each needs its own"


def test_wrong_overrides_are_all_reported(tmp_path: Path) -> None:
    source = Source(
        None, str(tmp_path / "nowhere"), {"Host": "1.2", "ListenPort": "x", "WorkerThreads": "-1"}
    )
    with pytest.raises(ConfigError) as caught:
        source.read()
    texts = [str(problem) for problem in caught.value.problems]
    starts = [text.removeprefix("command line: ").partition(":")[0] for text in texts]
    assert starts == ["--host", "--port", "--workers", "DIR"]


def test_with_overrides_replaces_fields() -> None:
    config = defaults("/").with_overrides(listen_ports=(0,), keepalive_time_s=0.2)
    assert (config.listen_ports, config.keepalive_time_s, config.document_root) == ((0,), 0.2, "/")


# field, value, what is then held; {} stands for the current directory
REPLACED: list[tuple[str, Any, Any]] = [
    ("hosts", "[::1]", ("::1",)),
    ("listen_ports", (0,), (0,)),
    ("listen_ports", (0, 8081), (0, 8081)),
    ("listen_ports", 8081, (8081,)),
    ("listen_ports", 80, (80,)),
    ("listen", ("unix:/tmp/a",), (("unix:/tmp/a", "plain", 0o666, False),)),
    ("listen", "unix:b", (("unix:{}/b", "plain", 0o666, False),)),
    (
        "listen",
        [(Path("/tmp/a"), 0o640), Path("b")],
        (("unix:/tmp/a", "plain", 0o640, False), ("unix:{}/b", "plain", 0o666, False)),
    ),
    ("listen", "127.0.0.1:0 plain", (("127.0.0.1:0", "plain", 0o666, False),)),
    ("listen", [0, ("81", "plain")], (("0", "plain", 0o666, False), ("81", "plain", 0o666, False))),
    ("listen", Endpoint("unix:/tmp/a", mode=0o600), (("unix:/tmp/a", "plain", 0o600, False),)),
    ("listen", (Endpoint("[::1]:0"),), (("[::1]:0", "plain", 0o666, False),)),
    ("tls_versions", "TLSv1.2", ("TLSv1.2",)),
    ("tls_client_ca", None, None),
    ("strict_transport_security_s", 60, 60),
    ("user", None, None),
    ("document_root", "www", "{}/www"),
    ("document_root", Path("www"), "{}/www"),
    ("directory_index", ("a.html", "b.html"), ("a.html", "b.html")),
    ("static", {"/s/": Path("www"), "/t/": "www"}, {"/s/": "{}/www", "/t/": "{}/www"}),
    ("max_body_bytes", 5, {"*": 5}),
    ("max_body_bytes", {"/up/*": "5M", "*": 1}, {"*": 1, "/up/*": 5 << 20}),
    ("max_body_bytes", {"/up/*": 5}, {"*": 1 << 20, "/up/*": 5}),
    ("files_first", True, True),
    ("content_types", {".A": "text/plain"}, {".a": "text/plain; charset=utf-8"}),
    ("added_types", {".A": "text/plain", "/b/*": "x/y"}, {".a": "text/plain; charset=utf-8", "/b/*": "x/y"}),
    ("content_codings", {".br": "br", ".svgz": "off"}, {".br": "br", ".svgz": "off"}),
    ("default_type", None, None),
    ("clean_urls", True, True),
    ("fallback", None, None),
    ("error_pages", {404: "/404.html"}, {404: "/404.html"}),
    ("redirects", {"/x": "/y"}, {"/x": ("/y", 302)}),
    ("redirects", {"/x y": ("/y", 301)}, {"/x%20y": ("/y", 301)}),
    ("basic_auth", (("*", "users"),), (("*", "{}/users"),)),
    ("applications", {"/": "a:b", "/c/": "d:e()"}, {"/": "a:b", "/c": "d:e()"}),
    ("application_threads", 2, 2),
    ("application_queue", 3, 3),
    ("application_timeout_s", 4, 4.0),
    ("application_recycle", {"requests": 5, "memory": "1K"}, {"requests": 5, "memory": 1024}),
    ("keepalive_time_s", 0.2, 0.2),
    ("keepalive_time_s", 0.1 + 0.2, 0.3),
    ("keepalive_time_s", 5, 5.0),
    ("keepalive_time_s", "5", 5.0),
    ("headers", (("A", "b"),), (("A", "b", "*"),)),
    ("headers", [["A", "b", "/c*"]], (("A", "b", "/c*"),)),
    ("headers", (), ()),
    ("cache_control", (("*", "no-store"),), (("*", "no-store"),)),
    ("cache_size_bytes", 1 << 20, 1 << 20),
    ("cache_size_bytes", "64M", 64 << 20),
    ("access_log", "off", "off"),
    ("status_allow", ("10.0.0.0/8", "::1"), ("10.0.0.0/8", "::1/128")),
]  # fmt: skip

# fields, what is said of them
REFUSED: list[tuple[dict[str, Any], list[str]]] = [
    ({"worker_threads": -3}, ["worker_threads: '-3' is not a whole number from 0 to 256"]),
    ({"worker_threads": True}, ["worker_threads: 'on' is not a whole number"]),
    ({"worker_threads": 1.5}, ["worker_threads: '1.5' is not a whole number"]),
    ({"keepalive_time_s": "x"}, ["keepalive_time_s: 'x' is not a number of seconds from 0.001 to 86400"]),
    ({"keepalive_time_s": float("nan")}, ["keepalive_time_s: 'nan' is not a number of seconds"]),
    ({"keepalive_time_s": -1.0}, ["keepalive_time_s: '-1' is not a number of seconds"]),
    ({"keepalive_time_s": None}, ["keepalive_time_s: None is not a value; allowed is KeepaliveTime SECONDS"]),
    ({"document_root": "nope"}, ["document_root: '{}/nope' does not exist; a readable directory is needed"]),
    ({"document_root": None}, ["document_root: is missing; the directory to serve is needed"]),
    ({"document_root": "www\0"}, ["document_root: 'www\\x00' holds a control character"]),
    ({"headers": (("A", "b\r\nC: d", "*"),)}, ["headers: 'b\\r\\nC: d' holds a control character"]),
    ({"headers": (("A", "\u20ac"),)}, ["headers: '\u20ac' is not a field value"]),
    ({"headers": (("A",),)}, ["headers: too few values; allowed is Header "]),
    ({"headers": ("A", "b", "*")}, ["headers: too few values"]),
    ({"headers": {("A", "b")}}, ["headers: {{('A', 'b')}} is not a value"]),
    ({"server_header": "a\nb"}, ["server_header: 'a\\nb' holds a control character"]),
    ({"redirects": {"/x": ("/y", 200)}}, ["redirects: '200' is none of 301"]),
    ({"redirects": {"/x": "/x"}}, ["redirects: /x leads round in a circle"]),
    ({"listen_ports": ()}, ["listen_ports: ListenPort is missing; a port from 1024 to 65535 is needed"]),
    ({"listen_ports": (0, 0)}, ["listen_ports: the same value was given"]),
    ({"directory_index": ()}, ["directory_index: the value is missing"]),
    ({"basic_auth": (("*", "nofile"),)}, ["basic_auth: '{}/nofile' is not a file that can be read"]),
    ({"access_log": "nowhere/log"}, ["access_log: '{}/nowhere' does not exist; -, off or a file"]),
    ({"access_log": "log", "error_log": "log"}, ["log: '{}/log' is the file of the other log too"]),
    ({"hosts": "1", "log_level": "y"}, ["hosts: '1' is not an IP address", "log_level: 'y' is none of"]),
]  # fmt: skip


@pytest.mark.parametrize(("field", "value", "expected"), REPLACED)
def test_with_overrides_holds_what_a_file_would(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, field: str, value: Any, expected: Any
) -> None:
    config = load(write())
    monkeypatch.chdir(tmp_path)
    changed = config.with_overrides(**{field: value})
    assert getattr(changed, field) == placed(expected, tmp_path)
    for row in DIRECTIVES:
        if row.field != field and (field, row.field) != ("content_types", "default_type"):
            assert getattr(changed, row.field) == getattr(config, row.field)
    assert changed.config_path == config.config_path
    assert changed.with_overrides(**{field: getattr(changed, field)}) == changed


@pytest.mark.parametrize(("fields", "said"), REFUSED)
def test_with_overrides_refuses_what_a_file_would(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fields: dict[str, Any], said: list[str]
) -> None:
    config = load(write())
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError) as caught:
        config.with_overrides(**fields)
    found = [str(problem) for problem in caught.value.problems]
    assert all(problem.startswith("with_overrides: ") for problem in found)
    assert [part.format(tmp_path) in problem for part, problem in zip(said, found, strict=True)] == [
        True
    ] * len(said)


@pytest.mark.parametrize("row", DIRECTIVES, ids=lambda row: row.name)
def test_every_field_takes_back_what_it_holds(write: Write, row: Any) -> None:
    config = load(write("ContentType .a text/plain", "ErrorPage 404 /a", "Redirect /a /b", "Header A b"))
    assert (
        config.with_overrides(**{row.field: getattr(config, row.field)})._replace(given=config.given)
        == config
    )


@pytest.mark.parametrize("field", ["listen_port", "given", "config_path"])
def test_with_overrides_refuses_what_no_directive_sets(field: str) -> None:
    with pytest.raises(TypeError, match=f"'{field}' is not a field of Config that a directive sets"):
        defaults("/").with_overrides(**{field: None})  # type: ignore[misc]


def test_with_overrides_suggests_the_nearest_field() -> None:
    with pytest.raises(TypeError, match=r"; the nearest one is 'listen_ports'$"):
        defaults("/").with_overrides(port=0, listen_port=0)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match=r"; docs/configuration.md lists them$"):
        defaults("/").with_overrides(qq=0)  # type: ignore[call-arg]


def test_types_of_with_overrides_name_every_field() -> None:
    assert list(Overrides.__annotations__) == [row.field for row in DIRECTIVES]


def test_paths_may_be_objects(write: Write, tmp_path: Path) -> None:
    path = Path(write())
    assert load(path) == load(str(path))
    assert load(path, tmp_path).document_root == str(tmp_path)
    assert defaults(tmp_path) == defaults(str(tmp_path))
    assert Source(path, tmp_path).read() == load(path, tmp_path)


@pytest.mark.parametrize(
    "lines", [["ListenPort 80", "User root"], ["User root", "ListenPort 8080", "ListenPort 443"]]
)
def test_low_port_is_the_kernels_to_refuse_where_root_is_to_be_given_up(
    write: Write, lines: list[str]
) -> None:
    assert min(load(write("DocumentRoot www", *lines, needed=False)).listen_ports) < 1024


def test_low_port_is_reported_where_it_stands(write: Write) -> None:
    path = write("DocumentRoot www", "ListenPort 8080", "ListenPort 443", needed=False)
    (problem,) = problems(path)
    assert problem.startswith("3: ListenPort: port 443 is below 1024")
    assert load(path, None, {"ListenPort": "80"}).listen_ports == (80,)


def test_port_of_the_environment_stands_in_where_no_other_is_given(
    write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PORT", "9000")
    assert defaults("/").listen_ports == (9000,)
    assert defaults("/", {"ListenPort": "9001"}).listen_ports == (9001,)
    assert load(write()).listen_ports == (8080,)
    path = write("DocumentRoot www", needed=False)
    assert load(path).listen_ports == (9000,)
    monkeypatch.setenv("PORT", "80")
    assert load(path).listen_ports == (80,)
    monkeypatch.setenv("PORT", "http")
    with pytest.raises(ConfigError, match=r"^environment: PORT: 'http' is not a number"):
        defaults("/")
    assert load(write()).listen_ports == (8080,)


def test_directory_that_looks_like_a_port_gets_a_hint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=r"DIR: .*9000' does not exist.*; a port is given by --port 9000$"):
        defaults("9000")
    (tmp_path / "9000").mkdir()
    assert defaults("9000").document_root == str(tmp_path / "9000")


def test_with_overrides_needs_no_state_directory_yet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    config = defaults(str(tmp_path)).with_overrides(error_log="off")
    assert os.path.dirname(config.access_log).startswith(str(tmp_path / "state/fastws"))
    assert not (tmp_path / "state").exists()


def test_dictionary_survives_being_printed(write: Write) -> None:
    shown = load(write()).as_dict()
    assert ast.literal_eval(repr(shown)) == shown


def test_configuration_of_the_repository_is_right() -> None:
    config = load(str(REPOSITORY / "ws.conf"))
    assert config.document_root == str(REPOSITORY / "webroot")
    assert (config.hosts, config.listen_ports, config.default_type) == (("127.0.0.1",), (8080,), None)
    page = {".html", ".css", ".js", ".mjs", ".json", ".map", ".txt", ".xml", ".wasm", ".pdf", ".woff2"}
    media = {".png", ".jpg", ".jpeg", ".gif", ".webp", ".svg", ".ico", ".mp4", ".webm"}
    assert set(config.content_types) == page | media
    assert {e: t for e, t in config.content_types.items() if BUILT_IN[e] != t} == {}


def test_reference_page_is_printed_and_nothing_else() -> None:
    command = [sys.executable, "-W", "error", "-m", "fastws.config.directives"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=REPOSITORY)
    assert (done.returncode, done.stderr, done.stdout) == (0, "", reference())


def test_reference_page_is_made_from_the_table() -> None:
    page = (REPOSITORY / "docs" / "configuration.md").read_text()
    assert page == reference(), "run: python -m fastws.config.directives > docs/configuration.md"
    assert [row.name for row in DIRECTIVES if f"| `{row.name} " not in page] == []


def test_import_stays_cheap() -> None:
    heavy = [
        "argparse",
        "asyncio",
        "dataclasses",
        "difflib",
        "email",
        "inspect",
        "ipaddress",
        "pprint",
    ]
    # What the start of the interpreter has loaded, such as the finder of an editable install, is not ours.
    code = (
        "import sys; before = set(sys.modules); import fastws.config.settings;"
        f"print([m for m in {heavy} if m in sys.modules and m not in before])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=REPOSITORY, check=True
    )
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    "text",
    ["127.0.0.1", "0.0.0.0",
     "255.255.255.255", "256.0.0.1", "1.2.3", "1.2.3.4.5", "01.2.3.4", "1.2.3.+4", "1..3.4",
     "", "1.2.3.4 ", "1.2.3.\u0664", "1.2.3.4/8", "0x1.2.3.4"],
)  # fmt: skip
def test_a_host_is_what_ipaddress_takes_for_one(text: str) -> None:
    try:
        known = str(ipaddress.ip_address(text))
    except ValueError:
        with pytest.raises(ValueError, match="is not an IP address"):
            values.hosts_of(text)
    else:
        assert values.hosts_of(text) == (known,)


def test_a_quoted_parameter_holds_any_printable_ascii_but_quote_and_backslash() -> None:
    allowed = {c for c in map(chr, range(0x180)) if re.fullmatch(values._MEDIA_TYPE, f'a/b; c="{c}"')}
    assert allowed == set(string.printable[:95]) - set('"\\')
    assert not re.fullmatch(values._MEDIA_TYPE, 'a/b; c="\U0010ffff"')
