"""Passwords as clients meet them: BasicAuth with htpasswd files."""

from __future__ import annotations

import base64
import logging
import os
import sys
from collections.abc import Callable
from pathlib import Path

import bcrypt
import pytest
from rawhttp import Client, get, put, wait_until

from fastws import ConfigError, Server, load
from fastws.files.identity import SETTLED_NS, identity_of, is_settled
from fastws.http.errors import HTTPError, UndecidedError
from fastws.http.messages import Identity
from fastws.operation.cli import main
from fastws.site import auth

Serve = Callable[..., Server]


def hashed(password: str, prefix: bytes = b"2y") -> bytes:
    """A bcrypt hash as htpasswd -B writes it, of the least cost."""
    made = bcrypt.hashpw(password.encode()[:72], bcrypt.gensalt(4))
    return made.replace(b"$2b$", b"$" + prefix + b"$", 1)


def credentials(name: str, password: str) -> str:
    return "Authorization: Basic " + base64.b64encode(f"{name}:{password}".encode()).decode()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    files = {
        "open.html": b"open",
        "secret.html": b"secret",
        "secret.html.gz": b"\x1f\x8bno matter",
        "private/index.html": b"<pre></pre>",
        "private/page.html": b"private page",
        "both/page.html": b"both",
    }
    return put(tmp_path / "root", files)


@pytest.fixture
def htpasswd(tmp_path: Path) -> Path:
    path = tmp_path / "htpasswd"
    path.write_bytes(b"# people\n\nanna:%s\nbert:%s\n" % (hashed("s3cret"), hashed("grün", b"2b")))
    return path


@pytest.fixture
def server(serve: Serve, root: Path, htpasswd: Path, tmp_path: Path) -> Server:
    return serve(
        f"BasicAuth /private/* {htpasswd}",
        f"BasicAuth /secret.html {htpasswd}",
        "CleanUrls on",
        "DirectoryListing on",
        "StatusPath /-/",
        access_log=str(tmp_path / "access.txt"),
    )


def test_without_a_password_it_is_401_with_a_challenge(server: Server) -> None:
    for target in ("/private/", "/private/page.html", "/private/missing.html"):
        reply = get(server, target)
        assert reply.status == 401
        assert reply["WWW-Authenticate"] == 'Basic realm="/private/*", charset="UTF-8"'
        assert b"private page" not in reply.body
    assert get(server, "/private/page.html", method="HEAD").status == 401
    assert get(server, "/private/", method="POST", body=b"a=b").status == 401


def test_right_password_opens(server: Server) -> None:
    for who in (("anna", "s3cret"), ("bert", "grün")):
        assert get(server, "/private/page.html", credentials(*who)).body == b"private page"
    assert get(server, "/private/missing.html", credentials("anna", "s3cret")).status == 404
    form = "Content-Type: application/x-www-form-urlencoded"
    filled = get(server, "/private/", credentials("anna", "s3cret"), form, method="POST", body=b"a=b")
    assert b"a: b" in filled.body


@pytest.mark.parametrize(
    "line",
    [
        credentials("anna", "S3cret"),
        credentials("anna", ""),
        credentials("bert", "s3cret"),
        credentials("nobody", "s3cret"),
        credentials("", "s3cret"),
        credentials("anna", "s3cret\0"),
        "Authorization: Basic",
        "Authorization: Basic " + base64.b64encode(b"anna").decode(),
        "Authorization: Basic !!!!",
        "Authorization: Basic YW5uYTpzM2NyZXQ",
        "Authorization: Bearer YW5uYTpzM2NyZXQ=",
        "Authorization: Basic YW5uYTpzM2NyZXQ=, Basic YW5uYTpzM2NyZXQ=",
    ],
)
def test_wrong_or_malformed_credentials_are_401(server: Server, line: str) -> None:
    # What was right before must not make what is wrong right.
    assert get(server, "/private/page.html", credentials("anna", "s3cret")).status == 200
    assert get(server, "/private/page.html", line).status == 401


def test_scheme_is_named_in_any_case(server: Server) -> None:
    line = credentials("anna", "s3cret").replace("Basic", "bAsIC ")
    assert get(server, "/private/page.html", line).status == 200


@pytest.mark.parametrize(
    "target",
    [
        "/secret.html",
        "/secret",
        "/secret.html?x",
        "/%73ecret.html",
        "//secret.html",
        "/x/../secret.html",
        "/secret.html.gz",
        "/private/./page",
        "http://localhost/secret.html",
    ],
)
def test_no_other_spelling_leads_past_the_password(server: Server, target: str) -> None:
    assert get(server, target).status == 401
    assert get(server, target, credentials("anna", "s3cret")).status == 200


@pytest.mark.posix  # names with other signs of patterns
def test_only_the_star_of_a_pattern_is_special(serve: Serve, root: Path, htpasswd: Path) -> None:
    put(root, {"team[a]/s.txt": b"secret", "team?/s.txt": b"secret", "teama/s.txt": b"open"})
    server = serve(f"BasicAuth /team[a]/* {htpasswd}", f"BasicAuth /team?/* {htpasswd}")
    for target in ("/team[a]/s.txt", "/team%5Ba%5D/s.txt", "/team%3F/s.txt"):
        assert get(server, target).status == 401
        assert get(server, target, credentials("anna", "s3cret")).body == b"secret"
    assert get(server, "/teama/s.txt").body == b"open"


def test_file_is_protected_under_each_of_its_urls(serve: Serve, root: Path, htpasswd: Path) -> None:
    server = serve(
        f"BasicAuth /secret.html {htpasswd}", "Fallback /secret.html", "DirectoryIndex secret.html"
    )
    for target in ("/secret.html", "/", "/missing"):
        for _ in range(3):
            assert get(server, target).status == 401
            assert get(server, target, credentials("anna", "s3cret")).body == b"secret"


def test_page_of_an_error_is_sent_to_who_has_no_password(serve: Serve, root: Path, htpasswd: Path) -> None:
    server = serve(f"BasicAuth * {htpasswd}", "ErrorPage 401 /open.html")
    reply = get(server, "/secret.html")
    assert (reply.status, reply.body) == (401, b"open")
    assert get(server, "/open.html").status == 401


def test_other_paths_and_the_status_pages_need_none(server: Server) -> None:
    assert get(server, "/open.html").body == b"open"
    assert get(server, "/-/healthz").status == 200


def test_protected_page_is_never_replayed_to_who_has_no_password(server: Server) -> None:
    with Client(server) as client:
        for _ in range(5):
            assert client.get("/private/page.html", credentials("anna", "s3cret")).body == b"private page"
            assert client.get("/private/page.html").status == 401


def test_user_is_in_the_access_log(server: Server, tmp_path: Path) -> None:
    with Client(server) as client:  # one connection, for each worker writes its lines for itself
        client.get("/private/page.html", credentials("anna", "s3cret"))
        client.get("/private/page.html", credentials("eve", "s3cret"))
    server.stop()
    lines = (tmp_path / "access.txt").read_text().splitlines()
    assert [line.split()[2] for line in lines] == ["anna", "-"]


def test_password_is_computed_once_for_many_files(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    files = [rule.file for rule in server._site._rules._auth._rules]
    computed: list[bytes] = []

    def check(password: bytes, expected: bytes) -> bool:
        computed.append(password)
        return bcrypt.checkpw(password, expected)

    for file in files:
        monkeypatch.setattr(file, "_checkpw", check)
    with Client(server) as client:
        for _ in range(50):
            assert client.get("/private/page.html", credentials("anna", "s3cret")).status == 200
    assert computed == [b"s3cret"]
    get(server, "/private/page.html", credentials("nobody", "s3cret"))
    assert len(computed) == 2  # an unknown name takes as long


def admits(file: auth.Htpasswd, name: bytes, password: bytes) -> bool:
    """What ``file`` says once it has computed what it had to."""
    try:
        return file.admits(name, password)
    except UndecidedError as undecided:
        undecided.compute()
        return file.admits(name, password)


def test_unknown_name_is_undecided_as_a_wrong_password_is(htpasswd: Path) -> None:
    file = auth.Htpasswd(str(htpasswd), bcrypt.checkpw, logging.getLogger("test"))
    keys = set()
    for guess in ((b"anna", b"s3cret"), (b"anna", b"guess"), (b"nobody", b"s3cret"), (b"nobody", b"guess")):
        for _ in range(2):
            with pytest.raises(UndecidedError) as caught:
                file.admits(*guess)
            keys.add(caught.value.key)
    assert len(keys) == 4


def test_same_wrong_password_is_computed_once(htpasswd: Path) -> None:
    computed: list[bytes] = []

    def check(password: bytes, expected: bytes) -> bool:
        computed.append(password)
        return bcrypt.checkpw(password, expected)

    file = auth.Htpasswd(str(htpasswd), check, logging.getLogger("test"))
    # "nobody" is compared with anna's hash, and must not make her password a wrong one, nor his a right one.
    guesses = [(b"anna", b"guess"), (b"nobody", b"s3cret"), (b"anna", b"nul\0")]
    for _ in range(3):
        assert [admits(file, *guess) for guess in guesses] == [False, False, False]
    assert computed == [password for _, password in guesses]
    assert admits(file, b"anna", b"s3cret")
    assert not admits(file, b"nobody", b"s3cret")
    htpasswd.write_bytes(b"anna:%s\n" % hashed("guess"))
    assert admits(file, b"anna", b"guess")


def test_memo_is_bounded_and_guesses_leave_the_right_ones_in_it(
    htpasswd: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(auth, "KNOWN_PASSWORDS", 1)
    file = auth.Htpasswd(str(htpasswd), bcrypt.checkpw, logging.getLogger("test"))
    for _ in range(2):
        assert admits(file, b"anna", b"s3cret")
        assert admits(file, b"bert", "grün".encode())
        known = list(file._right)
        for guess in (b"one", b"two"):
            assert not admits(file, b"anna", guess)
        assert (list(file._right), len(known), len(file._wrong)) == (known, 1, 1)


def test_password_beyond_72_bytes_is_cut_as_htpasswd_does(server: Server, htpasswd: Path) -> None:
    htpasswd.write_bytes(b"long:%s\n" % hashed("x" * 80))
    assert get(server, "/private/page.html", credentials("long", "x" * 80)).status == 200
    assert get(server, "/private/page.html", credentials("long", "x" * 71)).status == 401


def test_changed_file_counts_at_once(server: Server, htpasswd: Path) -> None:
    who = credentials("anna", "s3cret")
    assert get(server, "/private/page.html", who).status == 200
    for password, status in (("other", 401), ("s3cret", 200), ("third", 401)):
        htpasswd.write_bytes(b"anna:%s\n" % hashed(password))
        assert get(server, "/private/page.html", who).status == status
    wait_until(lambda: is_settled(identity_of(os.stat(htpasswd))))
    assert get(server, "/private/page.html", credentials("anna", "third")).status == 200


@pytest.mark.parametrize("names", [b"clara", b"bert"])
def test_user_who_is_renamed_or_removed_is_let_in_no_more(
    server: Server, htpasswd: Path, names: bytes
) -> None:
    first, second = htpasswd.read_bytes().splitlines()[2:]
    who = credentials("anna", "s3cret")
    assert get(server, "/private/page.html", who).status == 200
    htpasswd.write_bytes(first.replace(b"anna", names) + b"\n" + second + b"\n")
    for _ in range(3):
        assert get(server, "/private/page.html", who).status == 401
    assert get(server, "/private/page.html", credentials(names.decode(), "s3cret")).status == 200
    htpasswd.write_bytes(first + b"\n")
    assert get(server, "/private/page.html", who).status == 200


def test_file_that_is_written_while_it_is_read_is_read_again(
    htpasswd: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only what was settled before it was read is as it was read."""
    now_ns = [htpasswd.stat().st_ctime_ns]
    monkeypatch.setattr(auth.time, "time_ns", lambda: now_ns[0])
    read = identity_of

    def read_slowly(info: os.stat_result) -> Identity:
        now_ns[0] += 9 * SETTLED_NS
        return read(info)

    with monkeypatch.context() as slow:
        slow.setattr(auth, "identity_of", read_slowly)
        file = auth.Htpasswd(str(htpasswd), bcrypt.checkpw, logging.getLogger("test"))
    assert file._state[0] is None


# Other spellings of the same file


@pytest.mark.parametrize(
    "target", ["/PRIVATE/page.html", "/Private/index.html", "/PRIVATE/", "/PRIVATE/none"]
)
def test_other_spelling_of_the_same_directory_needs_the_password(
    server: Server, root: Path, target: str
) -> None:
    """A link has it lead to the same files, as all do on a file system without letter case."""
    for name in ("PRIVATE", "Private"):
        if not (root / name).exists():
            (root / name).symlink_to("private")
    for _ in range(3):
        assert get(server, target).status == 401
    assert get(server, target, credentials("anna", "s3cret")).status in (200, 404)


def test_other_spelling_of_the_same_file_needs_the_password(server: Server, root: Path) -> None:
    os.link(root / "secret.html", root / "SECRET.html")
    assert get(server, "/SECRET.html").status == 401
    put(root, {"Secret.html": b"another file"})
    assert [get(server, "/Secret.html").body for _ in range(3)] == [b"another file"] * 3


def test_short_name_of_a_file_needs_the_password(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    assert get(server, "/PRIVAT~1/page.html").status == 404
    monkeypatch.setattr(os.path, "lexists", lambda path: True)  # as FAT has them
    assert get(server, "/PRIVAT~1/page.html").status == 401


def test_file_that_is_spelled_alike_but_another_needs_none(server: Server, root: Path) -> None:
    put(root, {"PRIVATE/page.html": b"public page"})
    assert get(server, "/PRIVATE/page.html").body == b"public page"
    assert get(server, "/Private/page.html").status == 404


def test_file_that_is_gone_lets_nobody_in(server: Server, htpasswd: Path) -> None:
    htpasswd.unlink()
    assert get(server, "/private/page.html", credentials("anna", "s3cret")).status == 500
    htpasswd.write_bytes(b"")
    assert get(server, "/private/page.html", credentials("anna", "s3cret")).status == 401


def test_htpasswd_file_inside_the_root_is_not_served(serve: Serve, root: Path) -> None:
    put(root, {"passwords.txt": b"anna:" + hashed("x")})
    assert get(serve(f"BasicAuth /private/* {root}/passwords.txt"), "/passwords.txt").status == 404


def _start(tmp_path: Path, htpasswd: Path) -> None:
    path = tmp_path / "ws.conf"
    path.write_text(f"ListenPort 8080\nDocumentRoot .\nBasicAuth * {htpasswd}\n")
    with Server(load(str(path)).with_overrides(listen_ports=(0,))):
        pass


@pytest.mark.parametrize(
    "line", ["anna:{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=", "anna:plain", "anna", "anna:$apr1$x$y", ":$2y$04$"]
)
def test_hash_that_is_not_bcrypt_is_refused_at_the_start(tmp_path: Path, htpasswd: Path, line: str) -> None:
    htpasswd.write_text(f"# first\n{line}\n")
    with pytest.raises(ConfigError, match=r"htpasswd:2: .*bcrypt"):
        _start(tmp_path, htpasswd)


def test_check_says_what_the_start_would_say(
    tmp_path: Path, htpasswd: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "ws.conf"
    path.write_text(f"ListenPort 8080\nDocumentRoot .\nBasicAuth * {htpasswd}\n")
    assert main(["--config", str(path), "--check"]) == 0
    htpasswd.write_text("anna:plain\n")
    assert main(["--config", str(path), "--check"]) == 2
    assert f"{htpasswd}:1: is not NAME:HASH" in capsys.readouterr().err


def test_reload_with_a_broken_htpasswd_file_keeps_the_old_site(
    server: Server, htpasswd: Path, tmp_path: Path
) -> None:
    broken = tmp_path / "broken"
    broken.write_text("anna:plain\n")
    server.reload(lambda: server.config.with_overrides(basic_auth=(("*", str(broken)),)))
    assert get(server, "/open.html").body == b"open"
    assert get(server, "/private/page.html").status == 401


def test_missing_bcrypt_is_a_clear_error_at_the_start(
    tmp_path: Path, htpasswd: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "bcrypt", None)
    with pytest.raises(
        ConfigError,
        match=r"ws\.conf:[1-9]\d*: BasicAuth: the package bcrypt is needed: pip install 'fastws-server\[auth\]'$",
    ):
        _start(tmp_path, htpasswd)


def test_without_basic_auth_bcrypt_is_not_even_tried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "bcrypt", None)
    path = tmp_path / "ws.conf"
    path.write_text("ListenPort 8080\nDocumentRoot .\n")
    with Server(load(str(path)).with_overrides(listen_ports=(0,))) as server:
        assert get(server, "/missing").status == 404


# A password file by itself


def test_password_that_bcrypt_does_not_take_is_wrong(htpasswd: Path) -> None:
    file = auth.Htpasswd(str(htpasswd), bcrypt.checkpw, logging.getLogger("test"))
    with pytest.raises(UndecidedError) as undecided:
        file.admits(b"anna", b"with a \0")
    undecided.value.compute()
    assert file.admits(b"anna", b"with a \0") is False


def test_password_that_the_check_refuses_to_read_is_wrong(htpasswd: Path) -> None:
    def refuse(password: bytes, _: bytes) -> bool:
        raise ValueError("such as one beyond 72 bytes, with some versions of bcrypt")

    file = auth.Htpasswd(str(htpasswd), refuse, logging.getLogger("test"))
    with pytest.raises(UndecidedError) as undecided:
        file.admits(b"anna", b"secret")
    undecided.value.compute()
    assert file.admits(b"anna", b"secret") is False


def test_file_that_cannot_be_read_is_a_problem_and_500(
    htpasswd: Path, caplog: pytest.LogCaptureFixture
) -> None:
    gone = htpasswd.with_name("gone")
    file = auth.Htpasswd(str(gone), bcrypt.checkpw, logging.getLogger("test"))
    assert [problem.text for problem in file.problems] == ["cannot be read: No such file or directory"]
    with pytest.raises(HTTPError) as raised:
        file.admits(b"anna", b"s3cret")
    assert raised.value.status == 500
    gone.write_bytes(b"no colon\n")  # a file that appears is read, and what is wrong in it is said
    assert file.admits(b"anna", b"s3cret") is False
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    assert str(gone) in caplog.text
