"""What is wrong with a pair of files, said in one line; when it expires; that its files have changed."""

from __future__ import annotations

import datetime
import os
import time
from pathlib import Path

import pytest
from certificates import CA, dates_of
from cryptography.hazmat.primitives import serialization

from fastws.tls import pairs
from fastws.tls.pairs import DAY_S, Expiry, expiry_of, expiry_warning, problem_of, read_pair, state_of


@pytest.fixture(scope="module")
def ca(tmp_path_factory: pytest.TempPathFactory) -> CA:
    return CA(tmp_path_factory.mktemp("ca"))


@pytest.mark.parametrize("kind", ["ecdsa", "rsa"])
def test_a_pair_that_belongs_together_has_no_problem_and_its_names(ca: CA, kind: str) -> None:
    pair = ca.pair("a.example", "*.b.example", kind=kind)
    assert problem_of(pair.certificate, pair.key) == ""
    assert set(read_pair(pair.certificate, pair.key).names) == {"a.example", "*.b.example"}
    assert expiry_of(pair).not_after == dates_of(pair.certificate)[1]


def test_a_missing_file_is_named(ca: CA, tmp_path: Path) -> None:
    pair = ca.pair("a.example")
    gone = str(tmp_path / "gone.pem")
    assert problem_of(gone, pair.key) == f"{gone!r} cannot be read: No such file or directory"
    assert problem_of(pair.certificate, gone) == f"{gone!r} cannot be read: No such file or directory"
    assert problem_of(str(tmp_path), pair.key) == f"{str(tmp_path)!r} cannot be read: Is a directory"


@pytest.mark.posix
@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root reads everything")
def test_an_unreadable_file_is_named(ca: CA) -> None:
    pair = ca.pair("a.example")
    Path(pair.key).chmod(0)
    assert problem_of(pair.certificate, pair.key) == f"{pair.key!r} cannot be read: Permission denied"


def test_files_that_are_not_pem_are_named(ca: CA, tmp_path: Path) -> None:
    pair = ca.pair("a.example")
    other = tmp_path / "other"
    other.write_bytes(b"\x30\x82\x01")
    assert "holds no certificate in PEM" in problem_of(str(other), pair.key)
    assert "holds no private key in PEM" in problem_of(pair.certificate, str(other))
    assert "holds no private key in PEM" in problem_of(pair.certificate, pair.certificate)
    other.write_bytes(b"x" * (pairs.LARGEST_BYTES + 1))
    assert "more than 1 MiB" in problem_of(str(other), pair.key)


def test_a_certificate_outside_its_dates_is_refused_with_the_day(ca: CA) -> None:
    day = datetime.datetime(2021, 5, 6, 7, 8, tzinfo=datetime.UTC)
    old = ca.pair("a.example", not_before=day - datetime.timedelta(9), not_after=day)
    assert problem_of(old.certificate, old.key) == f"{old.certificate!r} expired on 2021-05-06 07:08 UTC"
    now = day.timestamp() - 1
    assert problem_of(old.certificate, old.key, now) == ""
    early = problem_of(old.certificate, old.key, now - 10 * DAY_S)
    assert early.startswith(f"{old.certificate!r} is not valid before 2021-04-27 07:08 UTC")


@pytest.mark.parametrize("kinds", [("ecdsa", "ecdsa"), ("rsa", "rsa"), ("rsa", "ecdsa"), ("ecdsa", "rsa")])
def test_a_key_of_another_certificate_is_refused(ca: CA, kinds: tuple[str, str]) -> None:
    one, other = (ca.pair("a.example", kind=kind) for kind in kinds)
    assert problem_of(one.certificate, other.key) == f"{other.key!r} is not the key of {one.certificate!r}"


@pytest.mark.parametrize(
    "form", [serialization.PrivateFormat.PKCS8, serialization.PrivateFormat.TraditionalOpenSSL]
)
def test_an_encrypted_key_is_refused_without_asking_for_its_password(
    ca: CA, tmp_path: Path, form: serialization.PrivateFormat
) -> None:
    pair = ca.pair("a.example", kind="rsa")
    key = serialization.load_pem_private_key(Path(pair.key).read_bytes(), None)
    path = tmp_path / "key"
    path.touch(0o600)
    protection = serialization.BestAvailableEncryption(b"secret")
    path.write_bytes(key.private_bytes(serialization.Encoding.PEM, form, protection))
    assert problem_of(pair.certificate, str(path)).startswith(f"{str(path)!r} is encrypted; a key without")


@pytest.mark.posix
@pytest.mark.parametrize(
    ("mode", "is_refused"), [(0o600, False), (0o640, False), (0o604, True), (0o644, True)]
)
def test_a_key_that_everybody_can_read_is_refused(ca: CA, mode: int, is_refused: bool) -> None:
    pair = ca.pair("a.example")
    Path(pair.key).chmod(mode)
    assert ("can be read by every account" in problem_of(pair.certificate, pair.key)) == is_refused


@pytest.mark.parametrize(
    ("left_s", "expected"),
    [
        (15 * DAY_S, ""),
        (14 * DAY_S + 1, ""),
        (14 * DAY_S, "expires in 14 days, on 2026-01-15 00:00 UTC"),
        (2 * DAY_S - 1, "expires in 1 day, on"),
        (60, "expires in less than a day, on"),
        (0, "has expired on 2026-01-01 00:00 UTC"),
        (-DAY_S, "has expired on"),
    ],
)
def test_a_certificate_is_warned_of_in_its_last_14_days(left_s: float, expected: str) -> None:
    now = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC).timestamp()
    text = expiry_warning(Expiry("/c.pem", ("a.example",), now + left_s), now)
    assert expected in text
    assert bool(text) == bool(expected)


def test_a_written_file_a_swapped_link_and_a_missing_file_are_changes(tmp_path: Path) -> None:
    file, link = tmp_path / "file", tmp_path / "link"
    file.write_text("1")
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    for name in "ab":
        (tmp_path / name / "c").write_text("1")
    link.symlink_to("a")
    paths = [str(file), str(link / "c")]
    seen = [state_of(paths)]
    assert state_of(paths) == seen[0]
    os.utime(file, (time.time(), 1))
    seen.append(state_of(paths))
    os.symlink("b", tmp_path / "new")
    os.replace(tmp_path / "new", link)  # as Kubernetes swaps ..data
    seen.append(state_of(paths))
    file.unlink()
    seen.append(state_of(paths))
    assert len(set(seen)) == 4
