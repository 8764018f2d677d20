"""The servers that are measured: one table entry each, with its configuration and its start command.

Placeholders in commands and configurations: ``$port``, ``$root`` (document root), ``$dir`` (the server's
own temporary directory), ``$python``, ``$floor`` (the compiled floor), ``$body`` (the floor's body size in
bytes), ``$mode`` (the floor's mode), ``$cache`` (CacheSize of fastws), ``$apps`` (directory of ``apps.py``),
``$app`` (the application in it), ``$certificate`` and ``$key`` (PEM files, for TLS).
"""

from __future__ import annotations

import dataclasses
import importlib.util
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

HERE = Path(__file__).resolve().parent
FLOOR = HERE / "build" / "floor"
CERTIFICATE, KEY = HERE / "build" / "localhost.pem", HERE / "build" / "localhost.key"


@dataclass(frozen=True)
class Peer:
    """``program`` or ``module`` is what must be found; ``access_log`` tells whether it writes one.

    ``python`` is the interpreter of an environment in which another fastws is installed.
    """

    name: str
    command: str
    program: str = ""
    module: str = ""
    distribution: str = ""
    version_command: tuple[str, ...] = ()
    config: str = ""
    config_name: str = "peer.conf"
    environment: Mapping[str, str] = field(default_factory=dict)
    access_log: bool = True
    tls: bool = False
    python: str = ""


NGINX = """\
daemon off;
user root;
worker_processes 1;
worker_rlimit_nofile 20000;
pid $dir/nginx.pid;
error_log $dir/error.log;
events { worker_connections 12000; }
http {
    types { text/html html; }
    default_type application/octet-stream;
    access_log $dir/access.log combined%(log)s;
    sendfile on;
    tcp_nopush on;
    keepalive_timeout 300s;
    keepalive_requests 1000000000;
    client_body_temp_path $dir/body;
    proxy_temp_path $dir/proxy;
    fastcgi_temp_path $dir/fastcgi;
    uwsgi_temp_path $dir/uwsgi;
    scgi_temp_path $dir/scgi;
    %(cache)s
    server { listen 127.0.0.1:$port%(tls)s backlog=4096; root $root; }
}
"""
OPEN_FILE_CACHE = "open_file_cache max=10000 inactive=60s; open_file_cache_valid 30s;"

H2O = """\
num-threads: 1
max-connections: 12000
user: root
http1-request-timeout: 300
access-log: $dir/access.log
error-log: $dir/error.log
pid-file: $dir/h2o.pid
listen: {host: 127.0.0.1, port: $port%(tls)s}
hosts:
  default:
    paths:
      "/": {file.dir: "$root"}
"""

LIGHTTPD = """\
server.modules = ("mod_accesslog")
server.document-root = "$root"
server.bind = "127.0.0.1"
server.port = $port
server.errorlog = "$dir/error.log"
accesslog.filename = "$dir/access.log"
mimetype.assign = (".html" => "text/html")
server.max-fds = 20000
server.max-connections = 10000
server.listen-backlog = 4096
server.max-keep-alive-requests = 1000000000
server.max-keep-alive-idle = 300
"""

CADDY = """\
{
    admin off
    auto_https off
}
http://127.0.0.1:$port {
    root * $root
    file_server
    log {
        output file $dir/access.log
    }
}
"""

FASTWS = """\
Host 127.0.0.1
%(listen)s
DocumentRoot $root
DirectoryIndex index.html
ContentType .html text/html
KeepaliveTime 300
MaxConnections 12000
WorkerThreads %(workers)d
AccessLog access.log
ErrorLog error.log
CacheSize $cache
CacheMaxFile 1M
Compression off
"""


APPLICATION = """\
Static /static/ $root
Application / apps:$app
ApplicationThreads 4
ApplicationProcesses %d
ApplicationQueue 1000
MaxBodySize 100M
"""


NGINX_TLS = (
    "ssl_certificate $certificate; ssl_certificate_key $key; ssl_protocols TLSv1.2 TLSv1.3;"
    " ssl_session_tickets on;"
)
H2O_TLS = ", ssl: {certificate-file: $certificate, key-file: $key, minimum-version: TLSv1.2}"
FASTWS_TLS = "Listen $port tls\nTLSCertificate $certificate $key"


def _nginx(name: str, *, cache: str = "", log: str = "", tls: bool = False) -> Peer:
    return Peer(
        name,
        "nginx -e $dir/error.log -p $dir -c $dir/peer.conf",
        program="nginx",
        version_command=("nginx", "-v"),
        config=NGINX
        % {"cache": f"{cache} {NGINX_TLS}" if tls else cache, "log": log, "tls": " ssl" if tls else ""},
        tls=tls,
    )


def _fastws(name: str, workers: int, *, pure: bool, tls: bool = False) -> Peer:
    return Peer(
        name,
        "$python -m fastws",
        module="fastws.__main__" if pure else "fastws._parser",
        config=FASTWS % {"workers": workers, "listen": FASTWS_TLS if tls else "ListenPort $port"},
        tls=tls,
        config_name="ws.conf",
        environment={"FASTWS_NO_EXTENSIONS": "1"} if pure else {"FASTWS_REQUIRE_EXTENSIONS": "1"},
    )


def _with_application(name: str, processes: int, *, pure: bool = False, more: str = "") -> Peer:
    files = _fastws(name, 1, pure=pure)
    config = files.config.replace("DocumentRoot $root\n", APPLICATION % processes + more)
    return dataclasses.replace(files, config=config, environment={**files.environment, "PYTHONPATH": "$apps"})


def _h2o(name: str, *, tls: bool = False) -> Peer:
    return Peer(
        name,
        "h2o -c $dir/peer.conf",
        program="h2o",
        version_command=("h2o", "--version"),
        config=H2O % {"tls": H2O_TLS if tls else ""},
        tls=tls,
    )


def _python(name: str, command: str, module: str, *, access_log: bool = True) -> Peer:
    distribution = name.split()[0]
    return Peer(name, command, module=module, distribution=distribution, access_log=access_log)


_TABLE = (
    Peer("floor", "$floor $port $body $mode", program=str(FLOOR), access_log=False),
    _fastws("fastws", 1, pure=False),
    _fastws("fastws, 2 workers", 2, pure=False),
    _fastws("fastws pure", 1, pure=True),
    _fastws("fastws pure, 2 workers", 2, pure=True),
    _nginx("nginx"),
    _nginx("nginx + ofc", cache=OPEN_FILE_CACHE),
    _nginx("nginx + ofc + buffered log", cache=OPEN_FILE_CACHE, log=" buffer=64k flush=1s"),
    _h2o("h2o"),
    _fastws("fastws TLS", 1, pure=False, tls=True),
    _fastws("fastws TLS, 2 workers", 2, pure=False, tls=True),
    _fastws("fastws pure TLS", 1, pure=True, tls=True),
    _nginx("nginx TLS", cache=OPEN_FILE_CACHE, log=" buffer=64k flush=1s", tls=True),
    _h2o("h2o TLS", tls=True),
    _with_application("fastws threads", 0),
    _with_application("fastws process", 1),
    _with_application("fastws pure threads", 0, pure=True),
    _with_application("fastws pure process", 1, pure=True),
    _python(
        "gunicorn gthread",
        "$python -m gunicorn --chdir $apps -w 1 -k gthread --threads 4 --keep-alive 300 --no-control-socket"
        " --access-logfile $dir/access.log -b 127.0.0.1:$port apps:$app",
        "gunicorn",
    ),
    _with_application("fastws 4 preloaded", 4, more="Preload on\n"),
    _python(
        "gunicorn 4 preloaded",
        "$python -m gunicorn --chdir $apps -w 4 -k gthread --threads 4 --keep-alive 300 --no-control-socket"
        " --preload --access-logfile $dir/access.log -b 127.0.0.1:$port apps:$app",
        "gunicorn",
    ),
    _python(
        "waitress",
        "$python -m waitress --threads=4 --listen=127.0.0.1:$port apps:$app",
        "waitress",
        access_log=False,
    ),
    _python(
        "granian",
        "$python -m granian --interface wsgi --workers 1 --runtime-threads 1 --blocking-threads 4"
        " --static-path-route /static --static-path-mount $root"
        " --working-dir $apps --access-log --host 127.0.0.1 --port $port apps:$app",
        "granian",
    ),
    Peer(
        "lighttpd",
        "lighttpd -D -f $dir/peer.conf",
        program="lighttpd",
        version_command=("lighttpd", "-v"),
        config=LIGHTTPD,
    ),
    Peer(
        "caddy",
        "caddy run --adapter caddyfile --config $dir/peer.conf",
        program="caddy",
        version_command=("caddy", "version"),
        config=CADDY,
        environment={"GOMAXPROCS": "1", "HOME": "$dir", "XDG_DATA_HOME": "$dir", "XDG_CONFIG_HOME": "$dir"},
    ),
    _python(
        "http.server",
        "$python -m http.server $port --bind 127.0.0.1 --directory $root --protocol HTTP/1.1",
        "http.server",
    ),
    _python(
        "gunicorn gthread + whitenoise",
        "$python -m gunicorn --chdir $apps -w 1 -k gthread --threads 4 --keep-alive 300 --no-control-socket"
        " --access-logfile $dir/access.log -b 127.0.0.1:$port apps:wsgi",
        "gunicorn",
    ),
    _python(
        "waitress + whitenoise",
        "$python -m waitress --threads=4 --listen=127.0.0.1:$port apps:wsgi",
        "waitress",
        access_log=False,
    ),
    _python(
        "cheroot + whitenoise",
        "$python -m cheroot --bind 127.0.0.1:$port --threads 4 --timeout 300 apps:wsgi",
        "cheroot",
        access_log=False,
    ),
    _python(
        "uvicorn + starlette",
        "$python -m uvicorn --app-dir $apps --host 127.0.0.1 --port $port --timeout-keep-alive 300 apps:asgi",
        "uvicorn",
    ),
    _python("aiohttp", "$python $apps/apps.py $port $dir/access.log", "aiohttp"),
    _python(
        "granian + whitenoise",
        "$python -m granian --interface wsgi --workers 1 --runtime-threads 1 --blocking-threads 1"
        " --working-dir $apps --access-log --host 127.0.0.1 --port $port apps:wsgi",
        "granian",
    ),
)

PEERS = {peer.name: peer for peer in _TABLE}


def why_missing(peer: Peer) -> str | None:
    """Tell why ``peer`` cannot be measured here; None: it can."""
    if peer.program and shutil.which(peer.program) is None:
        return f"{peer.program} is not installed"
    if peer.module:
        try:
            found = importlib.util.find_spec(peer.module)
        except ImportError:
            found = None
        if found is None:
            return f"no module {peer.module} for {sys.executable}"
        if (
            peer.name.startswith("fastws")
            and "pure" not in peer.name
            and not str(found.origin).endswith(".so")
        ):
            return f"{peer.module} is not compiled"
    return None


def version_of(peer: Peer) -> str:
    """Return the version as the server itself or its distribution says it; "" where it has none."""
    if peer.version_command:
        done = subprocess.run(peer.version_command, capture_output=True, text=True, timeout=10, check=False)
        return (done.stdout + done.stderr).strip().splitlines()[0]
    if peer.distribution == "http.server":
        return f"Python {sys.version.split()[0]}"
    return version(peer.distribution) if peer.distribution else ""


def make_certificate() -> None:
    """Make a certificate for this machine, with a P-256 key, if there is none yet."""
    CERTIFICATE.parent.mkdir(exist_ok=True)
    if not CERTIFICATE.exists():
        command = (
            "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 3650 -subj /CN=localhost"
        )
        names = ["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
        files = ["-keyout", str(KEY), "-out", str(CERTIFICATE)]
        subprocess.run(["openssl", *command.split(), *names, *files], check=True, capture_output=True)
        KEY.chmod(0o600)


def build_floor() -> str | None:
    """Compile ``floor.c``; return why that failed, or None."""
    FLOOR.parent.mkdir(exist_ok=True)
    try:
        done = subprocess.run(
            ["cc", "-O2", "-Wall", "-Wextra", "-o", str(FLOOR), str(HERE / "floor.c")],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
    except OSError as error:
        return f"no C compiler: {error}"
    return None if done.returncode == 0 else done.stderr.strip()
