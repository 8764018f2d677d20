from __future__ import annotations

import ast
import errno
import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import launch
import pytest
from rawhttp import get, put, wait_until

import fastws
from fastws import Server, backend, defaults, load
from fastws.operation.cli import build_parser, find_source, main
from fastws.operation.process import _print_banner, _warn
from fastws.transport.interfaces import local_addresses

REPOSITORY = Path(__file__).resolve().parents[2]


def environment(state: Path) -> dict[str, str]:
    """The environment of a run that finds this package from anywhere and leaves the user's files alone."""
    kept = {name: value for name, value in os.environ.items() if name not in ("LISTEN_FDS", "PORT")}
    return kept | {"PYTHONPATH": str(REPOSITORY), "XDG_STATE_HOME": str(state)}


def run(directory: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run ``python -m fastws`` in ``directory`` to its end."""
    command = [sys.executable, "-m", "fastws", *arguments]
    return subprocess.run(
        command,
        cwd=directory,
        env=environment(directory / "state") | variables,
        capture_output=True,
        text=True,
        timeout=30,
    )


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A directory with a ws.conf and the root that it names."""
    (tmp_path / "www").mkdir()
    (tmp_path / "www" / "index.html").write_text("<p>hello</p>")
    (tmp_path / "ws.conf").write_text("ListenPort 8080\nDocumentRoot www\n")
    return tmp_path


def test_check_prints_the_dictionary_in_force(site: Path) -> None:
    done = run(site, "--check")
    assert (done.returncode, done.stderr) == (0, "")
    shown = ast.literal_eval(done.stdout)
    assert shown["DocumentRoot"] == str(site / "www")
    assert shown["KeepaliveTime"] == 15.0


def test_check_for_a_reader_that_has_gone_is_quiet(site: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "fastws", "--check"]
    done = subprocess.run(
        command, cwd=site, env=environment(site), stdout=writer, stderr=subprocess.PIPE, timeout=30
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, b"")


def test_flags_go_before_the_file(site: Path) -> None:
    done = run(site, "--check", "--host", "::1", "--port", "0", "--workers", "3")
    shown = ast.literal_eval(done.stdout)
    assert (shown["Host"], shown["ListenPort"], shown["WorkerThreads"]) == (("::1",), (0,), 3)


def test_directory_is_served_by_the_defaults(site: Path) -> None:
    shown = ast.literal_eval(run(site, "www", "--check").stdout)
    assert (shown["DocumentRoot"], shown["DefaultType"]) == (str(site / "www"), "application/octet-stream")
    log = Path(shown["AccessLog"])
    assert (log.name, log.parent.parent) == ("log_webserver.txt", site / "state" / "fastws")


def test_directory_goes_before_the_root_of_a_named_file(site: Path) -> None:
    (site / "other").mkdir()
    (site / "ws.conf").write_text("ListenPort 8080\nDocumentRoot www\nDefaultType off\n")
    shown = ast.literal_eval(run(site, "other", "--config", "ws.conf", "--check").stdout)
    assert (shown["DocumentRoot"], shown["DefaultType"]) == (str(site / "other"), None)


def test_nothing_named_and_no_file_serves_the_current_directory(tmp_path: Path) -> None:
    shown = ast.literal_eval(run(tmp_path, "--check").stdout)
    assert (shown["DocumentRoot"], shown["Host"], shown["ListenPort"]) == (
        str(tmp_path),
        ("127.0.0.1",),
        (8080,),
    )


def test_every_error_goes_to_standard_error_and_exits_2(site: Path) -> None:
    (site / "ws.conf").write_text("ListenPort 80\nDocumentRoot www\nKepaliveTime 5\n")
    for arguments in ([], ["--check"]):
        done = run(site, *arguments)
        assert (done.returncode, done.stdout) == (2, "")
        first, second = done.stderr.splitlines()
        assert first.startswith("ws.conf:1: ListenPort: port 80 is below 1024")
        assert second == "ws.conf:3: unknown directive 'KepaliveTime'; the nearest known one is KeepaliveTime"


def test_configuration_file_that_is_not_there_exits_2(tmp_path: Path) -> None:
    done = run(tmp_path, "--config", "no.conf")
    assert done.returncode == 2
    assert done.stderr.startswith("no.conf:1: cannot be read: No such file or directory; a text file")


def test_wrong_flag_exits_2(site: Path) -> None:
    done = run(site, "--port", "http")
    assert done.returncode == 2
    assert done.stderr.startswith("command line: --port: 'http' is not a number")


def test_unknown_flag_exits_2(site: Path) -> None:
    assert run(site, "--nonsense").returncode == 2


def test_version_names_both_sides(tmp_path: Path) -> None:
    done = run(tmp_path, "--version")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"fastws {fastws.__version__} ({backend.describe()})\n")
    assert done.stdout.splitlines()[1] == f"TLS: {backend.load().describe_tls()}"


def test_help_says_what_each_flag_means(site: Path) -> None:
    shown = " ".join(run(site, "--help").stdout.split())
    # Before Python 3.13 each name of a flag has its value behind it.
    shown = shown.replace("-b HOST, --bind HOST,", "-b, --bind,").replace("-p PORT,", "-p,")
    assert "-b, --bind, --host HOST IPv4 and IPv6 addresses to listen on," in shown
    assert "-p, --port PORT TCP ports" in shown
    assert "--list list a directory that has no index" in shown
    assert "--access-log FILE|-|off A line a request" in shown
    assert "--workers WORKERS threads that serve; 0 chooses" in shown
    assert "(in place of ListenPort in the file)" in shown


def test_banner_names_logs_that_are_no_files(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    config = defaults(str(tmp_path)).with_overrides(listen_ports=(0,), access_log="-", error_log="off")
    with Server(config) as server:
        _print_banner(server)
    assert "(access log: standard error, error log: off; Ctrl-C stops)" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("hosts", "is_open"),
    [(("127.0.0.1", "::1"), False), (("0.0.0.0",), True), (("::",), True), (("127.0.0.1", "::"), True)],
)
def test_banner_says_who_can_reach_it(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], hosts: tuple[str, ...], is_open: bool
) -> None:
    config = defaults(str(tmp_path)).with_overrides(
        hosts=hosts, listen_ports=(0,), access_log="off", error_log="off"
    )
    with Server(config) as server:
        _print_banner(server)
    assert (", open to other machines" in capfd.readouterr().err) == is_open


def test_banner_names_what_others_may_type(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "fastws.transport.interfaces.local_addresses",
        lambda family: ["192.0.2.7", "10.0.0.7"] if family == socket.AF_INET else ["2001:db8::7"],
    )
    config = defaults(tmp_path).with_overrides(
        hosts=("0.0.0.0", "::"), listen_ports=(0,), access_log="off", error_log="off"
    )
    with Server(config) as server:
        _print_banner(server)
        first, second = [address.rpartition(":")[2] for address in server.addresses]
    urls = f"http://192.0.2.7:{first}/ http://10.0.0.7:{first}/ http://[2001:db8::7]:{second}/"
    assert f", open to other machines at {urls} (access log" in capfd.readouterr().err


def test_local_addresses_can_be_bound_and_are_no_loopback() -> None:
    for family in (socket.AF_INET, socket.AF_INET6):
        for address in local_addresses(family):
            with socket.socket(family) as sock:
                sock.bind((address, 0))
            assert address != "::1"
            assert not address.startswith("127.")


@pytest.mark.parametrize("arguments", [["-d", "www"], ["--directory", "www"], ["--directory=www"]])
def test_directory_may_be_given_as_for_http_server(site: Path, arguments: list[str]) -> None:
    assert ast.literal_eval(run(site, "--check", *arguments).stdout)["DocumentRoot"] == str(site / "www")


def test_directory_given_twice_exits_2(site: Path) -> None:
    done = run(site, "www", "-d", "www")
    assert done.returncode == 2
    assert "DIR is given twice: by itself and by --directory" in done.stderr


def test_configuration_in_place_of_the_directory_gets_a_hint(site: Path) -> None:
    (site / "my.conf").write_text("DocumentRoot www\n")
    done = run(site, "my.conf")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.endswith("; a configuration file is given by --config my.conf\n")


def test_port_in_place_of_the_directory_gets_a_hint(site: Path) -> None:
    done = run(site, "9000")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.endswith("; a port is given by --port 9000\n")


@pytest.mark.parametrize(
    ("given", "hint"), [("hello", "hello"), ("my.hello", "my.hello"), ("hello:", "hello")]
)
def test_half_a_name_of_an_application_in_place_of_the_directory_gets_a_hint(
    site: Path, given: str, hint: str
) -> None:
    (site / "my").mkdir()
    for module in ("hello.py", "my/hello.py"):
        (site / module).touch()
    done = run(site, given)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.endswith(f"; an application is given as MODULE:CALLABLE, such as {hint}:application\n")


def test_errors_are_on_the_terminal_for_development_without_a_file(site: Path) -> None:
    def error_log(*arguments: str) -> str:
        done = run(site, *arguments, "--check")
        return str(ast.literal_eval(done.stdout)["ErrorLog"])

    (site / "hello.py").write_text("def application(environ, start_response): return []\n")
    (site / "ws.conf").unlink()
    assert error_log("hello:application", "--reload") == "-"
    assert error_log("hello:application", "--reload", "--error-log", "mine.txt").endswith("mine.txt")
    assert error_log("hello:application").endswith("log_webserver_error.txt")
    (site / "ws.conf").write_text("Application / hello:application\nErrorLog file.txt\n")
    assert error_log("--reload").endswith("file.txt")


def test_spa_falls_back_to_the_index(site: Path) -> None:
    assert ast.literal_eval(run(site, "www", "--spa", "--check").stdout)["Fallback"] == "/index.html"


def test_name_of_this_machine_is_both_its_addresses(site: Path) -> None:
    shown = ast.literal_eval(run(site, "www", "-b", "localhost", "--check").stdout)
    assert shown["Host"] == ("127.0.0.1", "::1")


def test_familiar_names_of_flags(site: Path) -> None:
    for arguments in (["-b", "::1,0.0.0.0", "-p", "9000"], ["--bind", "::1,0.0.0.0", "--port", "9000"]):
        shown = ast.literal_eval(run(site, "--check", *arguments).stdout)
        assert (shown["Host"], shown["ListenPort"]) == (("::1", "0.0.0.0"), (9000,))


def test_list_and_logs_on_the_command_line(site: Path) -> None:
    shown = ast.literal_eval(
        run(site, "--check", "--list", "--access-log", "-", "--error-log", "e.txt").stdout
    )
    assert (shown["DirectoryListing"], shown["AccessLog"]) == (True, "-")
    assert shown["ErrorLog"] == str(site / "e.txt")
    assert ast.literal_eval(run(site, "--check").stdout)["DirectoryListing"] is False


def test_source_can_be_read_again(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(site)
    source = find_source(build_parser().parse_args(["--workers", "2"]))
    assert source.read() == source.read()
    assert source.read().worker_threads == 2


def test_port_in_use_exits_1_and_says_so(site: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = run(site, "--port", str(port))
    assert done.returncode == 1
    assert str(port) in done.stderr
    assert "Traceback" not in done.stderr


def test_log_that_cannot_be_opened_exits_1_and_says_what_helps(
    site: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def refuse(path: str, **_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", path)

    monkeypatch.setenv("XDG_STATE_HOME", str(site / "state"))
    monkeypatch.setattr("os.makedirs", refuse)
    assert main([str(site / "www"), "--port", "0"]) == 1
    said = capfd.readouterr().err
    assert said.startswith(f"fastws: cannot write logs at {site}/state/fastws/")
    assert said.endswith(
        ": No space left on device; XDG_STATE_HOME, or --access-log and --error-log, name another place\n"
    )


def test_check_without_a_port_warns_and_the_start_fails(site: Path) -> None:
    (site / "ws.conf").write_text("DocumentRoot www\n")
    sentence = "a port from 1024 to 65535 is needed, or Listen, or socket activation\n"
    done = run(site, "--check")
    assert (done.returncode, ast.literal_eval(done.stdout)["ListenPort"]) == (0, ())
    assert done.stderr == f"fastws: warning: {site}/ws.conf: ListenPort is missing; to start, {sentence}"
    done = run(site)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"ws.conf:1: ListenPort is missing; {sentence}"


def test_check_of_a_file_with_errors_names_the_missing_port_too(site: Path) -> None:
    (site / "ws.conf").write_text("DocumentRoot www\nHost nowhere\n")
    done = run(site, "--check")
    assert done.returncode == 2
    assert [line.partition(": ")[0] for line in done.stderr.splitlines()] == ["ws.conf:2", "ws.conf:2"]
    assert "ListenPort is missing" in done.stderr


DOUBTFUL = "ErrorPage 404 /404.html\nErrorPage 500 /index.html\nErrorPage 403 /folder\nFallback /app.html\n"


def doubts(site: Path) -> list[str]:
    """What is said of the lines above, once the root holds a directory and no such files."""
    (site / "www" / "folder").mkdir(exist_ok=True)
    start = f"{site}/ws.conf: "
    return [
        f"{start}ErrorPage: '{site}/www/404.html' for 404 cannot be sent: There is no such file.",
        f"{start}ErrorPage: '{site}/www/folder' for 403 cannot be sent: There is no such file.",
        f"{start}Fallback: '{site}/www/app.html' cannot be sent: There is no such file.",
    ]


def test_version_and_check_tell_which_codings_there_are(site: Path) -> None:
    (site / "ws.conf").write_text("ListenPort 8080\nDocumentRoot www\n")
    line = "content codings: br, zstd, gzip"
    found = run(site, "--version").stdout.splitlines()
    assert re.fullmatch(r"TLS: (compiled|pure), OpenSSL [0-9.]+[a-z]* .*", found[1])
    assert found[2] == line
    assert run(site, "--check").stdout.splitlines()[0] == f"# {line}"
    (site / "brotli.py").write_text("raise ImportError")
    done = run(site, "--version", PYTHONPATH=str(site))
    expected = "content codings: zstd, gzip (for br: pip install 'fastws-server[compress]')"
    assert done.stdout.splitlines()[2] == expected
    (site / "ws.conf").write_text("ListenPort 8080\nDocumentRoot www\nCompression off\n")
    assert run(site, "--check").stdout.startswith("{")


def test_check_warns_of_a_long_lifetime_for_the_fallback(site: Path) -> None:
    (site / "www" / "app.html").write_text("app")
    lines = (
        "/assets/* max-age=31536000,immutable",
        "*.js max-age=86400",
        "/app.html max-age=604800",
        "* max-age=60",
    )
    text = "ListenPort 8080\nDocumentRoot www\nFallback /app.html\n"
    (site / "ws.conf").write_text(text + "".join(f"CacheControl {line}\n" for line in lines))
    done = run(site, "--check")
    assert done.returncode == 0
    seen = [line.partition("CacheControl ")[2] for line in done.stderr.splitlines()]
    assert [line.partition(" ")[0] for line in seen] == ["/assets/*", "/app.html"]
    assert "no-cache" in seen[0]
    assert "changes" in seen[1]


def test_check_warns_of_proxies_that_are_everybody_or_nobody(site: Path) -> None:
    (site / "ws.conf").write_text("ListenPort 8080\nDocumentRoot www\nTrustedProxies 10.0.0.0/8 ::/0\n")
    done = run(site, "--check")
    assert done.returncode == 0
    assert "fastws: warning: ws.conf:3: TrustedProxies: ::/0 are all addresses" in done.stderr
    (site / "ws.conf").write_text("ListenPort 8080\nDocumentRoot www\nClientHeader X-Real-IP\n")
    text = "ClientHeader: no field is believed without TrustedProxies"
    assert run(site, "--check").stderr == f"fastws: warning: ws.conf:3: {text}\n"


def test_check_warns_of_pages_that_are_not_there(site: Path) -> None:
    (site / "ws.conf").write_text("ListenPort 8080\nDocumentRoot www\n" + DOUBTFUL)
    expected = doubts(site)
    done = run(site, "--check")
    assert done.returncode == 0
    assert done.stderr.splitlines() == [f"fastws: warning: {text}" for text in expected]
    (site / "www" / "404.html").write_text("404")
    (site / "www" / "index.html").write_bytes(b"x" * (1 << 20) + b"x")
    assert (
        "index.html' for 500 cannot be sent: It is larger than CacheMaxFile.\n" in run(site, "--check").stderr
    )
    (site / "www" / "index.html").write_text("500")
    (site / "www" / "app.html.gz").write_text("a sidecar stands for it")
    (site / "www" / "folder").rmdir()
    (site / "www" / "folder").write_text("403")
    assert run(site, "--check").stderr == ""


def test_start_and_reload_warn_of_pages_that_are_not_there(
    site: Path, side: backend.Backend, capfd: pytest.CaptureFixture[str]
) -> None:
    (site / "ws.conf").write_text("ListenPort 8080\nDocumentRoot www\nErrorLog error.txt\n" + DOUBTFUL)
    expected = doubts(site)
    config = load(str(site / "ws.conf")).with_overrides(listen_ports=(0,))
    with Server(config, backend=side) as server:
        _warn(server, config.max_connections)
        lines = (site / "error.txt").read_text().splitlines()
        server.reload(lambda: config)
        again = (site / "error.txt").read_text().splitlines()[len(lines) :]
    printed = capfd.readouterr().err
    for text in expected:
        assert f"fastws: warning: {text}\n" in printed
        assert sum(line.endswith(text) and "WARNING" in line.upper() for line in lines) == 1
        assert sum(line.endswith(text) for line in again) == 1


def test_extensions_both_required_and_refused_is_one_line(site: Path) -> None:
    both = {"FASTWS_REQUIRE_EXTENSIONS": "1", "FASTWS_NO_EXTENSIONS": "1"}
    for arguments in (["--version"], ["--port", "0"]):
        done = run(site, *arguments, **both)
        assert (done.returncode, done.stdout) == (1, "")
        assert (
            done.stderr
            == "fastws: FASTWS_REQUIRE_EXTENSIONS=1 and FASTWS_NO_EXTENSIONS=1 exclude each other\n"
        )


def test_extensions_required_and_missing_is_one_line(
    site: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FASTWS_REQUIRE_EXTENSIONS", "1")
    monkeypatch.setenv("FASTWS_NO_EXTENSIONS", "0")
    monkeypatch.setitem(sys.modules, "fastws._parser", None)
    monkeypatch.chdir(site)
    for arguments in (["--version"], ["--port", "0"]):
        assert main(arguments) == 1
        printed = capfd.readouterr().err
        assert printed.startswith(
            "fastws: FASTWS_REQUIRE_EXTENSIONS=1, and the compiled module fastws._parser "
        )
        assert printed.count("\n") == 1


def test_server_names_its_port_answers_and_stops_with_0(site: Path) -> None:
    command = [sys.executable, "-u", "-m", "fastws", "--port", "0"]
    with subprocess.Popen(
        command, cwd=site, env=environment(site), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as server:
        try:
            assert server.stdout is not None
            banner = next(line for line in server.stdout if "http://127.0.0.1:" in line)
            port = int(banner.split("http://127.0.0.1:")[1].split("/")[0])
            with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
                client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
                answer = client.makefile("rb").read()
            assert answer.startswith(b"HTTP/1.1 200 ")
            assert answer.endswith(b"<p>hello</p>")
            server.send_signal(signal.SIGTERM)
            assert server.wait(timeout=20) == 0
        finally:
            server.kill()


@pytest.mark.parametrize("given", ["/static/", "=files", "/static/=", "files"])
def test_static_without_both_halves_says_its_form(tmp_path: Path, given: str) -> None:
    done = run(tmp_path, "--static", given, "--check")
    assert done.returncode == 2
    assert f"command line: --static: {given!r} is not of the form /PATH/=DIR\n" in done.stderr


def test_paths_that_are_spelled_as_in_a_url_are_doubted(site: Path) -> None:
    (site / "shop.py").write_text("def app(environ, start):\n    return []\n")
    lines = "ListenPort 8080", "DocumentRoot www", "Application /caf%C3%A9 shop:app", "Static /a?b/ www"
    (site / "ws.conf").write_text("\n".join((*lines, "Application /50% shop:app")))
    done = run(site, "--check")
    assert done.returncode == 0
    wrong = [line.partition("ws.conf: ")[2] for line in done.stderr.splitlines() if "decoded" in line]
    assert wrong == [
        "Application: '/caf%C3%A9' is compared with decoded paths; write it as text, without a query",
        "Static: '/a?b/' is compared with decoded paths; write it as text, without a query",
    ]


APPLICATION = """
def application(environ, start):
    start("200 OK", [("Content-Type", "text/plain")])
    return [b"the application's " + environ["PATH_INFO"].encode()]

def create():
    return application
"""


@pytest.mark.parametrize("name", ["mine.site:application", "mine.site:create()"])
def test_application_and_its_files_are_started_by_one_line(tmp_path: Path, name: str) -> None:
    put(tmp_path, {"mine/site.py": APPLICATION.encode(), "files/a.css": b"a file"})
    arguments = (name, "--static", "/static/=files", "--static", "/more/=./files", "--threads", "2")
    with launch.running(tmp_path, *arguments) as server:
        assert f"serves {name} at" in server.banner
        assert get(server.port, "/x").body == b"the application's /x"
        assert get(server.port, "/mine/site.py").body == b"the application's /mine/site.py"
        assert get(server.port, "/static/a.css").body == get(server.port, "/more/a.css").body == b"a file"
        server.signal(signal.SIGTERM)
        assert server.wait() == 0


INTERVAL = """
import sys

def application(environ, start):
    start("200 OK", [("Content-Type", "text/plain")])
    return [b"%g" % sys.getswitchinterval()]
"""


def test_thread_that_computes_lets_others_in_after_a_millisecond(tmp_path: Path) -> None:
    put(tmp_path, {"interval.py": INTERVAL.encode()})
    with launch.running(tmp_path, "interval:application") as server:
        assert get(server.port, "/").body == b"0.001"
        server.signal(signal.SIGTERM)
        assert server.wait() == 0


@pytest.mark.parametrize(
    ("name", "said"),
    [
        (
            "missing:application",
            "missing:application cannot be loaded: ModuleNotFoundError: No module named 'missing'",
        ),
        ("mine.site:other", "AttributeError: module 'mine.site' has no attribute 'other'"),
        ("mine.site:__name__", "cannot be called: it is of type 'str'"),
        ("broken:application", "SyntaxError"),
        ("leaves:application", "SystemExit: 3"),
    ],
)
@pytest.mark.parametrize("check", [[], ["--check"]])
def test_application_that_cannot_be_loaded_exits_2(
    tmp_path: Path, name: str, said: str, check: list[str]
) -> None:
    files = {"mine/site.py": APPLICATION, "broken.py": "def (", "leaves.py": "raise SystemExit(3)"}
    put(tmp_path, {path: text.encode() for path, text in files.items()})
    done = run(tmp_path, name, "-p", "0", *check)
    assert done.returncode == 2
    assert "Application: / " in done.stderr
    assert said in done.stderr


def test_name_that_is_a_directory_is_one(tmp_path: Path) -> None:
    (tmp_path / "a:b").mkdir()
    done = run(tmp_path, "a:b", "--check")
    assert (done.returncode, ast.literal_eval(done.stdout.partition("\n")[2])["Application"]) == (0, {})


def test_application_goes_before_those_of_the_file(site: Path) -> None:
    put(site, {"mine/site.py": APPLICATION.encode()})
    with open(site / "ws.conf", "a") as file:
        file.write("Application /old nowhere:app\nMaxBodySize 2M\n")
    shown = ast.literal_eval(run(site, "mine.site:application", "--check").stdout.partition("\n")[2])
    assert (shown["Application"], shown["MaxBodySize"]) == ({"/": "mine.site:application"}, {"*": 2 << 20})


def test_reload_with_an_application_that_cannot_be_loaded_changes_nothing(site: Path) -> None:
    put(site, {"mine/site.py": APPLICATION.encode()})
    (site / "ws.conf").write_text(
        "ListenPort 8080\nApplication / mine.site:application\nErrorLog errors.txt\n"
    )
    with launch.running(site) as server:
        (site / "ws.conf").write_text(
            "ListenPort 8080\nApplication / gone:application\nErrorLog errors.txt\n"
        )
        server.signal(signal.SIGHUP)
        wait_until(lambda: "No module named 'gone'" in (site / "errors.txt").read_text())
        assert get(server.port, "/x").body == b"the application's /x"
        text = "ListenPort 8080\nApplication /new mine.site:create()\nDocumentRoot www\nErrorLog errors.txt\n"
        (site / "ws.conf").write_text(text)
        server.signal(signal.SIGHUP)
        wait_until(lambda: get(server.port, "/new/x").body == b"the application's /x")
        assert get(server.port, "/index.html").body == b"<p>hello</p>"
