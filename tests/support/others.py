"""The servers of the README's feature tables: as they come, told what to serve and where and nothing more.

Or configured, with whatever they know of the second table switched on in the words of their manuals.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from certificates import CA, port_of
from rawhttp import wait_until

from fastws import Config, Server, defaults, load

Start = Callable[[Path, int, Path, bool], list[str]]

USER = "anna:$2b$04$22Uux2MI/Ha9JWbGGGQf5u04jIlzzYc2BmoDhVAKmDvd.YyIkp3p6"
"""A line of an htpasswd file; the password is "s3cret"."""

FASTWS = """
ListenPort       8080
DocumentRoot     "{root}"
DefaultType      text/plain
DirectoryListing on
CleanUrls        on
Fallback         /app.html
BasicAuth        /private/* users
StatusPath       /-/
Listen           {secure} tls
Listen           {proxied} proxy
TrustedProxies   127.0.0.1
TLSCertificate   cert.pem key.pem
"""

NGINX = """
gzip on; gzip_types text/css; gzip_static on;
location / {{ autoindex on; try_files $uri $uri/ $uri.html /app.html; }}
location /data/ {{ autoindex on; autoindex_format json; }}
location /private/ {{ auth_basic private; auth_basic_user_file {own}/users; }}
listen 127.0.0.1:{proxied} proxy_protocol;
listen 127.0.0.1:{secure} ssl; ssl_certificate {own}/cert.pem; ssl_certificate_key {own}/key.pem;
"""

CADDY = """
{{
    admin off
}}
http://127.0.0.1:{port} {{
    root * {root}
    encode gzip
    basicauth /private/* {{
        {user}
    }}
    handle /-/metrics {{
        metrics
    }}
    handle {{
        try_files {{path}} {{path}}/ {{path}}.html /app.html
        file_server browse {{
            precompressed gzip
        }}
    }}
}}
https://localhost:{secure} {{
    bind 127.0.0.1
    tls {own}/cert.pem {own}/key.pem
    root * {root}
    file_server
}}
"""


def _http_server(root: Path, port: int, _: Path, __: bool) -> list[str]:
    return [sys.executable, "-m", "http.server", "-b", "127.0.0.1", "-d", str(root), str(port)]


def _whitenoise(root: Path, port: int, _: Path, __: bool) -> list[str]:
    not_found = "lambda e, s: s('404 Not Found', [('Content-Length', '0')]) and [] or []"
    code = (
        f"import waitress, whitenoise; app = whitenoise.WhiteNoise({not_found}, root={str(root)!r});"
        f" waitress.serve(app, host='127.0.0.1', port={port})"
    )
    return [sys.executable, "-c", code]


def _nginx(root: Path, port: int, own: Path, is_configured: bool) -> list[str]:
    more = NGINX.format(own=own, secure=secure_port(own), proxied=proxied_port(own)) if is_configured else ""
    user = "user root;" if os.geteuid() == 0 else ""  # its workers must be able to read a test's directory
    text = (
        f"daemon off; {user} pid {own}/pid; error_log {own}/error.log; events {{}}"
        f" http {{ include /etc/nginx/mime.types; access_log off; client_body_temp_path {own}/body;"
        f" proxy_temp_path {own}/proxy; fastcgi_temp_path {own}/fastcgi; uwsgi_temp_path {own}/uwsgi;"
        f" scgi_temp_path {own}/scgi; server {{ listen 127.0.0.1:{port}; root {root}; {more} }} }}"
    )
    (own / "nginx.conf").write_text(text)
    return ["nginx", "-c", f"{own}/nginx.conf"]


def _caddy(root: Path, port: int, own: Path, is_configured: bool) -> list[str]:
    if is_configured:
        user = USER.replace(":", " ")
        text = CADDY.format(port=port, root=root, user=user, own=own, secure=secure_port(own))
        (own / "Caddyfile").write_text(text)
        return ["caddy", "run", "--config", f"{own}/Caddyfile", "--adapter", "caddyfile"]
    return ["caddy", "file-server", "--root", str(root), "--listen", f"127.0.0.1:{port}"]


SERVERS: dict[str, Start | None] = {
    "fastws": None,
    "http.server": _http_server,
    "whitenoise": _whitenoise,
    "nginx": _nginx,
    "Caddy": _caddy,
}


def missing(name: str) -> str:
    """What keeps the server called ``name`` from being started, or ''."""
    if name == "whitenoise":
        absent = [module for module in ("whitenoise", "waitress") if importlib.util.find_spec(module) is None]
    else:
        absent = [program for program in ("nginx", "caddy") if program == name.lower() and not which(program)]
    return f"not installed: {', '.join(absent)}" if absent else ""


def which(program: str) -> str | None:
    """Where ``program`` is; Debian keeps servers out of an ordinary user's path."""
    return shutil.which(program, path=f"{os.environ.get('PATH', '')}:/usr/sbin")


@contextmanager
def free_port() -> Iterator[int]:
    """A port for servers that cannot be asked which one they took; on Linux nobody else gets it in the block.

    It is bound and does not listen: connecting is refused, and who sets SO_REUSEADDR may listen on it.
    """
    with socket.socket() as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holder.bind(("127.0.0.1", 0))
        port = int(holder.getsockname()[1])
        if sys.platform != "linux":
            holder.close()
        yield port


def _fastws(root: Path, own: Path, is_configured: bool) -> Config:
    if not is_configured:
        return defaults(str(root))
    (own / "ws.conf").write_text(FASTWS.format(root=root, secure=secure_port(own), proxied=proxied_port(own)))
    return load(str(own / "ws.conf"))


@contextmanager
def serving(name: str, root: Path, own: Path, *, is_configured: bool = False) -> Iterator[int]:
    """The port on which the server called ``name`` serves ``root``; ``own`` is a directory for its files."""
    (own / "users").write_text(USER + "\n")
    pair = CA(own).pair("localhost")
    os.rename(pair.certificate, own / "cert.pem")
    os.rename(pair.key, own / "key.pem")
    with free_port() as secure, free_port() as proxied:
        (own / "secure.txt").write_text(str(secure))
        (own / "proxied.txt").write_text(str(proxied))
        with _serving(name, root, own, is_configured) as port:
            yield port


def secure_port(own: Path) -> int:
    """The port on which a configured server with its files in ``own`` speaks TLS, if it does at all."""
    return int((own / "secure.txt").read_text())


def proxied_port(own: Path) -> int:
    """The port on which such a server expects the preamble of a proxy, if it does at all."""
    return int((own / "proxied.txt").read_text())


@contextmanager
def _serving(name: str, root: Path, own: Path, is_configured: bool) -> Iterator[int]:
    start = SERVERS[name]
    if start is None:
        config = _fastws(root, own, is_configured).with_overrides(
            listen_ports=(0,), access_log=str(own / "access.txt"), error_log=str(own / "error.txt")
        )
        with Server(config) as server:
            yield port_of(server, "plain")
        return
    with free_port() as port, _running(name, start(root, port, own, is_configured), port, own):
        yield port


@contextmanager
def _running(name: str, command: list[str], port: int, own: Path) -> Iterator[None]:
    program = which(command[0]) or command[0]
    home = os.environ | {"HOME": str(own), "XDG_DATA_HOME": str(own), "XDG_CONFIG_HOME": str(own)}
    with (
        open(own / "output.txt", "wb") as output,
        subprocess.Popen([program, *command[1:]], cwd=own, env=home, stdout=output, stderr=output) as process,
    ):
        try:
            wait_until(lambda: _accepts(port) or process.poll() is not None, f"{name} listens")
            assert process.poll() is None, (own / "output.txt").read_text()
            yield
        finally:
            process.terminate()
            process.wait(timeout=20)


def _accepts(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
    except ConnectionRefusedError:
        return False
    return True
