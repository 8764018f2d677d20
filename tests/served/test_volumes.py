"""Roots on file systems with coarse times, and on such as do not tell letter case apart."""

from __future__ import annotations

import base64
import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import bcrypt
import pytest
import volumes
from rawhttp import Client, get, wait_until

from fastws import Server

Serve = Callable[..., Server]
OLD = 1_000_000_000


@pytest.fixture
def coarse(tmp_path: Path) -> Iterator[Path]:
    with volumes.mounted(tmp_path, volumes.COARSE) as volume:
        yield volume


@pytest.fixture
def caseless(tmp_path: Path) -> Iterator[Path]:
    with volumes.mounted(tmp_path, volumes.CASELESS) as volume:
        yield volume


def begin_a_second() -> None:
    wait_until(lambda: time.time() % 1 < 0.1, "the begin of a second")


def user(name: str, password: str) -> str:
    return "Authorization: Basic " + base64.b64encode(f"{name}:{password}".encode()).decode()


def line(name: str, password: str) -> bytes:
    return b"%b:%b\n" % (name.encode(), bcrypt.hashpw(password.encode(), bcrypt.gensalt(4)))


def test_file_written_twice_in_one_second_is_the_new_one(serve: Serve, coarse: Path) -> None:
    server = serve(root=coarse)
    page = coarse / "page.txt"
    for size in (100, 300_000):  # from memory, and by sendfile
        begin_a_second()
        for content in (b"a" * size, b"b" * size):
            page.write_bytes(content)
            os.utime(page, (OLD, OLD))
            time.sleep(0.1)  # longer than where times are fine
            with Client(server) as client:
                assert [client.get("/page.txt").body == content for _ in range(3)] == [True] * 3
    assert page.stat().st_ctime_ns % 10**9 == 0


def test_tag_of_a_file_written_twice_in_one_second_is_a_new_one(serve: Serve, coarse: Path) -> None:
    server = serve(root=coarse, cache_max_file_bytes=100)
    page = coarse / "page.bin"
    for size in (100, 5000):
        begin_a_second()
        tags = []
        for content in (b"a" * size, b"b" * size):
            page.write_bytes(content)
            os.utime(page, (OLD, OLD))
            time.sleep(0.1)
            tags.append(get(server, "/page.bin")["ETag"])
        assert get(server, "/page.bin", f"If-None-Match: {tags[0]}").status == 200
        assert get(server, "/page.bin", "Range: bytes=5-9", f"If-Range: {tags[0]}").status == 200


def test_password_changed_twice_in_one_second_is_the_new_one(serve: Serve, coarse: Path) -> None:
    passwords = coarse / "passwords"
    lines = [line("anna", password) for password in ("first", "other")]
    passwords.write_bytes(lines[0])
    (coarse / "page.txt").write_bytes(b"page")
    server = serve(f"BasicAuth * {passwords}", root=coarse)
    begin_a_second()
    for content in lines:
        passwords.write_bytes(content)
        time.sleep(0.1)
        get(server, "/page.txt", user("anna", "first"))
    assert get(server, "/page.txt", user("anna", "first")).status == 401
    assert get(server, "/page.txt", user("anna", "other")).body == b"page"


@pytest.mark.parametrize(
    "target",
    [
        "/private/x.txt",
        "/PRIVATE/x.txt",
        "/Private/X.TXT",
        "/private./x.txt",
        "/pRiVaTe/",
        "/PRIVATE/none.txt",
    ],
)
def test_no_spelling_of_a_protected_path_needs_no_password(
    serve: Serve, caseless: Path, tmp_path: Path, target: str
) -> None:
    (caseless / "private").mkdir()
    (caseless / "private" / "x.txt").write_bytes(b"private")
    (caseless / "open.txt").write_bytes(b"open")
    (tmp_path / "passwords").write_bytes(line("anna", "secret"))
    server = serve(f"BasicAuth /private/* {tmp_path / 'passwords'}", root=caseless)
    assert get(server, "/OPEN.txt").body == b"open"
    for _ in range(3):
        assert get(server, target).status == 401
    assert get(server, target, user("anna", "secret")).status in (200, 404)


def test_short_name_of_a_protected_directory_needs_a_password(
    serve: Serve, caseless: Path, tmp_path: Path
) -> None:
    (caseless / "a long private name").mkdir()
    (caseless / "a long private name" / "x.txt").write_bytes(b"private")
    (tmp_path / "passwords").write_bytes(line("anna", "secret"))
    server = serve(f'BasicAuth "/a long *" {tmp_path / "passwords"}', root=caseless)
    assert (caseless / "ALONGP~1" / "x.txt").exists()
    assert get(server, "/ALONGP~1/x.txt").status == 401


def test_other_file_that_is_spelled_alike_needs_none(serve: Serve, tmp_path: Path) -> None:
    root = tmp_path / "root"
    for name in ("private", "PRIVATE"):
        (root / name).mkdir(parents=True, exist_ok=True)
        (root / name / "x.txt").write_bytes(name.encode())
    if len(os.listdir(root)) < 2:
        pytest.skip("this file system does not tell letter case apart")
    (tmp_path / "passwords").write_bytes(line("anna", "secret"))
    server = serve(f"BasicAuth /private/* {tmp_path / 'passwords'}", root=root)
    assert get(server, "/private/x.txt").status == 401
    assert get(server, "/PRIVATE/x.txt").body == b"PRIVATE"
    shutil.rmtree(root / "private")
    assert get(server, "/PRIVATE/x.txt").body == b"PRIVATE"
    assert get(server, "/Private/x.txt").status == 404
