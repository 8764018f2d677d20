"""Root's rights are given up after binding, their keeping is warned of, and nothing tells versions."""

from __future__ import annotations

import os
import platform
import pwd
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from certificates import CA
from launch import Process, command, environment, running
from rawhttp import Client, get, put, request, settle, thrice, wait_until

from fastws import Server, load
from fastws.operation.privileges import LogKeeper
from fastws.version import __version__

Serve = Callable[..., Server]
PURE_ONLY = os.environ.get("FASTWS_NO_EXTENSIONS") == "1"
ACCOUNT = "nobody"
as_root = pytest.mark.skipif(
    os.geteuid() != 0 or not Path("/proc/self/status").exists(),
    reason="only root can become another, on Linux",
)


@pytest.fixture(params=["compiled", "pure"])
def process_side(request: pytest.FixtureRequest) -> str:
    if request.param == "compiled" and PURE_ONLY:
        pytest.skip("FASTWS_NO_EXTENSIONS=1: the compiled side was left out on purpose")
    return str(request.param)


@pytest.fixture
def site() -> Iterator[Path]:
    """A directory that every account can read, with a configuration; pytest's own are for one account."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        directory.chmod(0o755)
        put(directory / "root", {"a.txt": b"for everybody", "private.txt": b"for root"})
        (directory / "root" / "private.txt").chmod(0o600)
        yield directory


def configure(site: Path, *lines: str) -> None:
    """Write ``ws.conf``."""
    text = ['DocumentRoot "root"', "ListenPort 8080", "DefaultType application/octet-stream", *lines]
    (site / "ws.conf").write_text("\n".join(text) + "\n")


def identities(process: Process) -> set[tuple[str, ...]]:
    """Real, effective, saved and file-system ids, and the groups, of each of the process's threads."""
    found = set()
    for task in Path(f"/proc/{process.popen.pid}/task").iterdir():
        text = (task / "status").read_text()
        found.add(tuple(re.findall(r"^(?:Uid|Gid|Groups):\s*(.*?)\s*$", text, re.MULTILINE)))
    return found


# User


@as_root
def test_the_account_must_be_able_to_read_the_key_and_takes_over_its_renewal(
    site: Path, process_side: str, free_ports: Callable[..., tuple[int, ...]]
) -> None:
    ca, account, port = CA(site), pwd.getpwnam(ACCOUNT), free_ports(1)[0]
    pair = ca.pair("localhost")
    configure(site, f"User {ACCOUNT}", f"Listen {port} tls", f"TLSCertificate {pair.certificate} {pair.key}")
    done = subprocess.run(
        command("--port", "0"),
        cwd=site,
        env=environment(process_side, site / "state"),
        capture_output=True,
        text=True,
        timeout=60,
    )
    said = f"ws.conf:6: TLSCertificate: {pair.key!r} cannot be read: Permission denied; {ACCOUNT} (User) reads it"
    assert done.returncode == 2
    assert said in done.stderr

    def served() -> bytes | None:
        with (
            socket.create_connection(("127.0.0.1", port), 60) as sock,
            ca.client().wrap_socket(sock, server_hostname="localhost") as tls,
        ):
            return tls.getpeercert(True)

    os.chown(pair.key, account.pw_uid, -1)
    with running(site, side=process_side) as process:
        first = served()
        other = ca.pair("localhost")
        os.chown(other.key, account.pw_uid, -1)
        os.replace(other.key, pair.key)
        os.replace(other.certificate, pair.certificate)
        process.signal(signal.SIGHUP)
        wait_until(lambda: served() != first, "the new certificate")


@as_root
@pytest.mark.parametrize("check", [False, True])
def test_what_the_account_may_not_use_is_refused_by_a_start_and_said_by_a_check(
    site: Path, free_ports: Callable[..., tuple[int, ...]], *, check: bool
) -> None:
    """Root could: read the keys, write the pid file."""
    (site / "closed").mkdir(mode=0o700)
    (site / "ticket").write_bytes(bytes(80))
    (site / "ticket").chmod(0o600)
    pair, port = CA(site).pair("localhost"), free_ports(1)[0]
    secured = f"Listen {port} tls", f"TLSCertificate {pair.certificate} {pair.key}", "TLSTicketKey ticket"
    for name in (pair.key, pair.certificate):
        os.chown(name, pwd.getpwnam(ACCOUNT).pw_uid, -1)
    for lines, said in (
        (
            ("PidFile closed/pid",),
            f"ws.conf:5: PidFile {site}/closed/pid cannot be written: Permission denied",
        ),
        (
            secured,
            f"ws.conf:7: TLSTicketKey: '{site}/ticket' cannot be read: Permission denied; {ACCOUNT} (User)",
        ),
    ):
        configure(site, f"User {ACCOUNT}", *lines)
        done = start(site, *(["--check"] if check else ["--port", "0"]))
        assert (done.returncode, said in done.stderr) == (2, True), done.stderr


@as_root
def test_check_imports_applications_with_the_rights_of_their_processes(site: Path) -> None:
    (site / "mine.py").write_text("import os\nraise SystemExit(f'as {os.geteuid()}')\n")
    configure(site, f"User {ACCOUNT}", "Application / mine:app", "ApplicationProcesses 1")
    done = start(site, "--check")
    assert done.returncode == 2
    assert f"as {pwd.getpwnam(ACCOUNT).pw_uid}" in done.stderr


@as_root
def test_check_says_which_logs_a_start_would_not_open_and_leaves_all_as_they_are(site: Path) -> None:
    (site / "home").mkdir()
    give(site / "home")
    (site / "logs").mkdir()
    for name in ("logs/there.txt", "kept.txt"):
        (site / name).touch()
    (site / "home" / "away").symlink_to(site / "logs")
    for access, is_good in (
        ("home/new.txt", True),
        ("logs/new.txt", True),
        ("home/away/there.txt", False),
        ("home/away/new.txt", False),
        ("logs/there.txt", True),  # and the start gives it to the account
    ):
        configure(site, f"User {ACCOUNT}", "ErrorLog -", f"AccessLog {access}")
        before = {path: (owner(path), path.stat().st_mtime_ns) for path in site.rglob("*")}
        done = start(site, "--check")
        said = f"ws.conf:6: AccessLog: cannot write logs at {site}/"
        assert (done.returncode, said in done.stderr) == ((0, False) if is_good else (2, True)), access
        after = {path: (owner(path), path.stat().st_mtime_ns) for path in site.rglob("*")}
        assert after == before
        with opened_by_a_start(site, access) as is_opened:
            assert is_opened == is_good, access


@contextmanager
def opened_by_a_start(site: Path, access: str) -> Iterator[bool]:
    """Tell whether a start opens the log; what it makes is removed."""
    is_there = (site / access).exists()
    try:
        os.close(LogKeeper(ACCOUNT).open(str(site / access), os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o640))
    except PermissionError:
        yield False
        return
    yield True
    if not is_there:
        (site / access).unlink()


@as_root
def test_user_is_become_after_binding_in_every_thread_and_for_ever(site: Path, process_side: str) -> None:
    account = pwd.getpwnam(ACCOUNT)
    (site / "sockets").mkdir(mode=0o700)  # nobody but root can bind there
    configure(site, f"User {ACCOUNT}", f'Listen "unix:{site}/sockets/s"', "WorkerThreads 3")
    with running(site, side=process_side) as process:
        assert get(process.port, "/a.txt").body == b"for everybody"
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(f"{site}/sockets/s")
            client.sendall(request("/a.txt"))
            assert client.recv(1 << 16).startswith(b"HTTP/1.1 200 ")
        groups = " ".join(map(str, sorted(os.getgrouplist(ACCOUNT, account.pw_gid))))
        ids = "\t".join([str(account.pw_uid)] * 4), "\t".join([str(account.pw_gid)] * 4), groups
        assert identities(process) == {ids}
        process.signal(signal.SIGTERM)
        assert process.wait() == 0


@as_root
def test_everything_is_served_to_a_user_who_may_not_read_the_interpreter(
    site: Path, process_side: str
) -> None:
    """As where Python lies in root's home: what is imported later is imported before the change."""
    put(site / "root", {"index.html": b"<pre></pre>", "d/x.txt": b"x"})
    configure(site, f"User {ACCOUNT}", "DirectoryListing on", "StatusPath /-/", "StatusAllow 192.0.2.0/24")
    form = "Content-Type: application/x-www-form-urlencoded"
    with running(site, side=process_side) as process:
        assert b"a&amp;b" in get(process.port, "/", form, method="POST", body=b"x=a%26b").body
        assert b"x.txt" in get(process.port, "/d/").body
        assert b"x.txt" in get(process.port, "/d/", "Accept: application/json").body
        for page in ("healthz", "readyz", "metrics", ""):
            assert get(process.port, f"/-/{page}").status == 200
        assert get(process.port, "/a.txt", "Range: bytes=1-2").status == 206
        process.signal(signal.SIGHUP)
        assert get(process.port, "/nowhere").status == 404
        process.signal(signal.SIGTERM)
        assert process.wait() == 0
    log = (site / "log_webserver_error.txt").read_text()
    assert "Traceback" not in log
    assert "Error:" not in log


@as_root
def test_what_the_user_may_not_read_is_403(site: Path, process_side: str) -> None:
    configure(site, f"User {ACCOUNT}")
    with running(site, side=process_side) as process:
        assert get(process.port, "/private.txt").status == 403
        assert get(process.port, "/a.txt").status == 200
    configure(site)
    with running(site, side=process_side) as process:
        assert get(process.port, "/private.txt").body == b"for root"


@as_root
def test_logs_opened_as_root_go_on_after_the_change_and_a_reload(site: Path, process_side: str) -> None:
    configure(site, f"User {ACCOUNT}")
    with running(site, side=process_side) as process:
        assert get(process.port, "/a.txt").status == 200
        process.signal(signal.SIGHUP)
        assert get(process.port, "/a.txt").status == 200
        process.signal(signal.SIGTERM)
        assert process.wait() == 0
    assert (site / "log_webserver.txt").read_text().count('"GET /a.txt HTTP/1.1" 200') == 2
    assert "fastws stopped" in (site / "log_webserver_error.txt").read_text()


def owner(path: Path) -> str:
    """The account that ``path`` itself, not what it may lead to, belongs to."""
    return pwd.getpwuid(path.lstat().st_uid).pw_name


def give(path: Path) -> None:
    """Make ``path`` the account's."""
    account = pwd.getpwnam(ACCOUNT)
    os.chown(path, account.pw_uid, account.pw_gid, follow_symlinks=False)


@as_root
def test_logs_are_the_users_and_opened_anew_after_a_rotation(site: Path, process_side: str) -> None:
    """In a directory of the account's, and in one of root's where logrotate creates the file."""
    (site / "logs").mkdir()
    give(site / "logs")
    configure(site, f"User {ACCOUNT}", "AccessLog logs/access.txt", "ErrorLog errors.txt")
    access, errors = site / "logs" / "access.txt", site / "errors.txt"
    with running(site, side=process_side) as process:
        assert {owner(access), owner(errors)} == {ACCOUNT}
        assert get(process.port, "/a.txt?first").status == 200
        for path in (access, errors):
            path.rename(path.with_suffix(".1"))
        errors.touch()
        give(errors)
        process.signal(signal.SIGHUP)
        wait_until(lambda: "configuration reloaded" in errors.read_text())
        assert get(process.port, "/a.txt?second").status == 200
        process.signal(signal.SIGTERM)
        assert process.wait() == 0
    assert "could not be reopened" not in errors.read_text() + errors.with_suffix(".1").read_text()
    assert "second" in access.read_text()
    assert owner(access) == ACCOUNT


FLAGS = os.O_WRONLY | os.O_APPEND | os.O_CREAT


def keep(path: Path) -> str:
    """Open ``path`` as a log, write to it, and return whose it is then."""
    before = os.geteuid(), os.getegid(), os.getgroups()
    try:
        fd = LogKeeper(ACCOUNT).open(str(path), FLAGS, 0o640)
    finally:
        assert (os.geteuid(), os.getegid(), os.getgroups()) == before
    os.write(fd, b"line\n")
    os.close(fd)
    return owner(path.resolve())


@as_root
def test_log_in_roots_directory_is_given_to_the_user_unless_it_has_another_name(site: Path) -> None:
    assert keep(site / "new.txt") == ACCOUNT
    (site / "old.txt").write_bytes(b"")
    assert keep(site / "old.txt") == ACCOUNT
    (site / "linked.txt").write_bytes(b"")
    os.link(site / "linked.txt", site / "other.txt")
    assert keep(site / "linked.txt") == "root"
    (site / "target.txt").write_bytes(b"")
    (site / "link.txt").symlink_to("target.txt")  # the administrator's, who may have as he likes
    assert keep(site / "link.txt") == "root"
    assert (site / "target.txt").read_bytes() == b"line\n"
    shutil.chown(site / "target.txt", "daemon")
    assert keep(site / "target.txt") == "daemon"


@as_root
def test_log_in_the_users_directory_leads_root_nowhere(site: Path) -> None:
    """Who was the account once may have put a link there, or moved a file of root's."""
    logs = site / "logs"
    logs.mkdir()
    give(logs)
    assert keep(logs / "new.txt") == ACCOUNT
    (site / "secret").write_bytes(b"of root")
    (site / "secret").chmod(0o600)
    for target in (site / "secret", site / "not-there"):
        (logs / "log.txt").symlink_to(target)
        with pytest.raises(PermissionError, match="may have made"):
            keep(logs / "log.txt")
        (logs / "log.txt").unlink()
    assert (site / "secret").read_bytes() == b"of root"
    assert not (site / "not-there").exists()
    (site / "secret").rename(logs / "log.txt")
    with pytest.raises(PermissionError, match="may have made"):
        keep(logs / "log.txt")
    assert (logs / "log.txt").read_bytes() == b"of root"
    assert owner(logs / "log.txt") == "root"


@pytest.fixture
def vault(site: Path) -> Path:
    """A directory of root's with a log that is no business of the account's, and a home of the account's."""
    put(site / "vault", {"access.log": b"of root"})
    (site / "vault" / "access.log").chmod(0o600)
    (site / "home").mkdir()
    give(site / "home")
    return site / "vault"


def check_untouched(vault: Path) -> None:
    assert [path.name for path in vault.iterdir()] == ["access.log"]
    assert (vault / "access.log").read_bytes() == b"of root"
    assert owner(vault / "access.log") == "root"


def make_and_keep(path: Path) -> None:
    LogKeeper(ACCOUNT).make_directory(str(path.parent))
    keep(path)


@as_root
@pytest.mark.parametrize("name", ["access.log", "new.log", "d/new.log"])
@pytest.mark.parametrize("way", ["link", "link/..", "link/back", "roots link"])
def test_directory_of_the_users_on_the_way_leads_root_nowhere(
    site: Path, vault: Path, way: str, name: str
) -> None:
    """The account may have made of any name in its home a link into a directory of root's."""
    link = site / "home" / "link"
    if way == "link":
        link.symlink_to(vault)
        give(link)
        path = link / name
    elif way == "link/..":
        (vault / "in").mkdir()
        link.symlink_to(vault / "in")
        path = Path(f"{link}/../{name}")
    elif way == "link/back":
        (site / "home" / "link").mkdir()  # root's, but in a directory in which the account may replace it
        path = link / name
    else:
        (site / "roots").symlink_to(site / "home" / "link")
        link.symlink_to(vault)
        path = site / "roots" / name
    with pytest.raises(PermissionError, match="may have made"):
        make_and_keep(path)
    if (vault / "in").exists():
        (vault / "in").rmdir()
    check_untouched(vault)


@as_root
def test_link_to_a_directory_in_the_users_home_ends_the_start_with_1(site: Path, vault: Path) -> None:
    (site / "home" / "logs").symlink_to(vault)
    configure(site, f"User {ACCOUNT}", "AccessLog home/logs/access.log")
    done = start(site)
    assert done.returncode == 1
    assert "home/logs" in done.stderr
    assert "Traceback" not in done.stderr
    check_untouched(vault)


@as_root
def test_sticky_directory_leads_root_through_what_is_roots_alone(site: Path, vault: Path) -> None:
    shared = site / "shared"
    put(shared, {"roots/old.txt": b"", "of-another/old.txt": b""})
    shared.chmod(0o1777)
    shutil.chown(shared / "of-another", "daemon")
    (shared / "link").symlink_to(vault)
    assert keep(shared / "roots" / "old.txt") == ACCOUNT
    assert keep(shared / "new.txt") == ACCOUNT
    for path in (shared / "of-another" / "old.txt", shared / "link" / "access.log"):
        with pytest.raises(PermissionError, match="may have made"):
            keep(path)
    check_untouched(vault)


@as_root
def test_links_of_roots_in_roots_directories_are_followed_those_of_others_are_not(site: Path) -> None:
    put(site, {"data/logs/old.txt": b""})
    (site / "logs").symlink_to("data/logs")
    (site / "again").symlink_to(site / "data" / ".." / "logs")
    assert keep(site / "again" / "new.txt") == ACCOUNT
    assert keep(site / "again" / "old.txt") == ACCOUNT
    (site / "stranger").symlink_to("data/logs")
    shutil.chown(site / "data", "daemon")
    os.chown(site / "stranger", 1, 1, follow_symlinks=False)
    assert keep(site / "logs" / "new.txt") == ACCOUNT
    (site / "data" / "logs").chmod(0o700)
    with pytest.raises(PermissionError, match="may have made"):
        keep(site / "stranger" / "newer.txt")
    (site / "a").symlink_to("b")
    (site / "b").symlink_to("a")
    with pytest.raises(OSError, match="Too many levels"):
        LogKeeper(ACCOUNT)._enter(pwd.getpwnam(ACCOUNT), str(site / "a"))


@as_root
def test_missing_directories_of_logs_are_made_by_the_user_or_else_by_root(site: Path) -> None:
    (site / "home").mkdir()
    give(site / "home")
    configure(site, f"User {ACCOUNT}")
    access, errors = "home/d/e/access.txt", "logs/f/errors.txt"
    logs = {"access_log": str(site / access), "error_log": str(site / errors)}
    Server(load(str(site / "ws.conf"))._replace(**logs))._close()
    made = ["home/d", "home/d/e", access, "logs", "logs/f", errors]
    assert [owner(site / name) for name in made] == [ACCOUNT, ACCOUNT, ACCOUNT, "root", "root", ACCOUNT]


@as_root
def test_log_of_the_user_goes_to_standard_output(site: Path) -> None:
    """/dev/stdout is a link to a link to a descriptor, and only root may open a pipe of root's by it."""
    configure(site, f"User {ACCOUNT}", "AccessLog off", "ErrorLog /dev/stdout")
    with subprocess.Popen(
        command("--port", "0"),
        cwd=site,
        env=environment("pure", site / "state"),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        assert process.stdout
        assert any("listening on" in line for line in iter(process.stdout.readline, ""))
        process.terminate()


@as_root
def test_log_that_is_a_link_in_the_users_directory_ends_the_start_with_1(site: Path) -> None:
    (site / "logs").mkdir()
    give(site / "logs")
    (site / "logs" / "access.txt").symlink_to(site / "not-there")
    configure(site, f"User {ACCOUNT}", "AccessLog logs/access.txt")
    done = start(site)
    assert done.returncode == 1
    assert "access.txt" in done.stderr
    assert not (site / "not-there").exists()


def test_unknown_user_ends_the_start_with_2_and_names_the_account(site: Path) -> None:
    configure(site, "User no-such-account-here")
    done = start(site)
    assert done.returncode == 2
    assert "no-such-account-here" in done.stderr
    assert "Traceback" not in done.stderr


AS_ACCOUNT = ["setpriv", "--reuid", ACCOUNT, "--clear-groups"]


@pytest.fixture
def as_account() -> list[str]:
    """What makes a command one of the account's."""
    if not shutil.which("setpriv"):
        pytest.skip("needs util-linux")
    if subprocess.run([*AS_ACCOUNT, sys.executable, "-c", ""], capture_output=True).returncode:
        pytest.skip(f"{ACCOUNT} may not run {sys.executable}")
    return AS_ACCOUNT


@as_root
def test_user_that_cannot_be_become_ends_the_start(site: Path, as_account: list[str]) -> None:
    site.chmod(0o777)
    configure(site, "User root")
    done = start(site, prefix=as_account)
    assert done.returncode == 2
    assert "cannot become 'root'" in done.stderr
    assert "Traceback" not in done.stderr


def start(site: Path, *arguments: str, prefix: list[str] | None = None) -> subprocess.CompletedProcess[str]:
    """Try to start a server that is expected to refuse, or to do what ``arguments`` say."""
    return subprocess.run(
        [*(prefix or []), *command(*(arguments or ("--port", "0")))],
        cwd=site,
        env=environment("pure", site / "state", is_measured=not prefix),  # others may not write here
        capture_output=True,
        text=True,
        timeout=30,
    )


# The warning


@as_root
def test_running_as_root_is_warned_of_at_start(site: Path) -> None:
    configure(site)
    with running(site) as process:
        assert get(process.port, "/a.txt").status == 200
        process.signal(signal.SIGTERM)
        process.wait()
    log = (site / "log_webserver_error.txt").read_text()
    assert re.search(r" warning .*runs as root; .*\bUser\b", log)


@as_root
@pytest.mark.parametrize("line", ["User root", ""])
def test_the_warning_reaches_the_terminal(site: Path, line: str) -> None:
    configure(site, line)
    with subprocess.Popen(
        command("--port", "0"),
        cwd=site,
        env=environment("pure", site / "state"),
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr
        lines = []
        for text in process.stderr:
            lines.append(text)
            if "http://" in text:
                break
        process.terminate()
    assert any("warning: fastws runs as root" in text for text in lines)


@as_root
@pytest.mark.parametrize("how", ["User", "started by another"])
def test_nobody_else_is_warned(site: Path, how: str, request: pytest.FixtureRequest) -> None:
    site.chmod(0o777)
    configure(site, *([f"User {ACCOUNT}"] if how == "User" else []))
    prefix = request.getfixturevalue("as_account") if how != "User" else []
    with running(site, prefix=prefix) as process:
        assert get(process.port, "/a.txt").status == 200
        process.signal(signal.SIGTERM)
        process.wait()
    assert "runs as root" not in (site / "log_webserver_error.txt").read_text()


# What answers tell of the server


@pytest.mark.parametrize(
    ("line", "expected"), [("", ["fastws"]), ("ServerHeader off", []), ("ServerHeader me/7", ["me/7"])]
)
def test_answers_tell_no_version_unless_server_header_does(
    serve: Serve, tmp_path: Path, line: str, expected: list[str]
) -> None:
    root = put(tmp_path / "root", {"a.txt": b"a file", "index.html": b"<pre></pre>", "d/x.txt": b"x"})
    settle(root)
    server = serve(line, "DirectoryListing on", "Redirect /old /new", "RequestMethods GET HEAD POST")
    secrets = re.compile(
        rf"{re.escape(__version__)}|python|{re.escape(platform.python_version())}|cython", re.I
    )
    answers = [
        thrice(server, "/a.txt"),
        thrice(server, "/a.txt", method="HEAD"),
        thrice(server, "/d/"),
        thrice(server, "/old"),
        thrice(server, "/none"),
        get(server, "/a.txt", "Range: bytes=1-2"),
        get(server, "/a.txt", "Range: bytes=100-"),
        get(server, "/", method="POST"),
        get(server, "/", method="DELETE"),
        get(server, "/%00"),
    ]
    etag = answers[0]["ETag"]
    answers += [thrice(server, "/a.txt", f"If-None-Match: {etag}"), get(server, "/a.txt", 'If-Match: "x"')]
    with Client(server) as client:
        client.send(b"GET / HTTP/9.9\r\n\r\n")
        answers.append(client.reply())
    assert {answer.status for answer in answers} >= {200, 206, 302, 304, 400, 404, 412, 416, 501}
    for answer in answers:
        assert answer.all("Server") == expected, answer
        others = " ".join(
            f"{name}: {value}" for name, value in answer.without("Server", "ETag", "Last-Modified")
        )
        assert not secrets.search(others), answer
        assert not secrets.search(answer.body.decode("latin-1")), answer
        assert sys.executable not in answer.body.decode("latin-1")
        assert str(tmp_path) not in answer.body.decode("latin-1")
