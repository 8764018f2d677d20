"""Certificates that change on the disk: as certbot and Kubernetes swap them, and wrong ones."""

from __future__ import annotations

import datetime
import logging
import os
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from certificates import CA, dates_of

from fastws.tls import keeper as keeper_module
from fastws.tls.keeper import Keeper
from fastws.tls.pairs import DAY_S, read_pair
from fastws.tls.settings import CertificatePair, TLSSettings


@pytest.fixture(scope="module")
def ca(tmp_path_factory: pytest.TempPathFactory) -> CA:
    return CA(tmp_path_factory.mktemp("ca"))


class Kept:
    """A keeper of one pair, which counts its renewals and never looks by itself."""

    def __init__(self, certificate: str, key: str) -> None:
        self.paths = certificate, key
        self.renewals = 0
        self.keeper = Keeper(logging.getLogger("fastws.test"), self._renew)
        self.keeper.adopt(TLSSettings((read_pair(*self.paths),)))

    def _renew(self) -> None:
        self.renewals += 1
        self.keeper.adopt(TLSSettings((read_pair(*self.paths),)))

    def look(self) -> int:
        """Look once, and return how often there was something new so far."""
        self.keeper.look()
        return self.renewals


@pytest.fixture(autouse=True)
def _seldom(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeper_module, "LOOK_S", 3600.0)
    monkeypatch.setattr(keeper_module, "SETTLE_S", 0.0)


@pytest.fixture
def kept(ca: CA, tmp_path: Path) -> Iterator[Kept]:
    put(ca.pair("a.example"), tmp_path)
    kept = Kept(str(tmp_path / "cert.pem"), str(tmp_path / "key.pem"))
    yield kept
    kept.keeper.close()


def put(pair: CertificatePair, directory: Path) -> None:
    shutil.copy(pair.certificate, directory / "cert.pem")
    shutil.copy(pair.key, directory / "key.pem")


def test_files_that_stay_as_they_are_renew_nothing(kept: Kept) -> None:
    assert [kept.look(), kept.look()] == [0, 0]


def test_new_files_are_taken_over_once(kept: Kept, ca: CA, tmp_path: Path) -> None:
    pair = ca.pair("b.example", not_after=datetime.datetime(2090, 1, 1, tzinfo=datetime.UTC))
    put(pair, tmp_path)
    assert [kept.look(), kept.look()] == [1, 1]
    assert [expiry.names for expiry in kept.keeper.expiries] == [("b.example",)]
    assert kept.keeper.expiries[0].not_after == dates_of(pair.certificate)[1]


@pytest.mark.posix
def test_links_that_certbot_swaps_one_after_another(ca: CA, tmp_path: Path) -> None:
    for number in (1, 2):
        pair = ca.pair("a.example")
        shutil.copy(pair.certificate, tmp_path / f"fullchain{number}.pem")
        shutil.copy(pair.key, tmp_path / f"privkey{number}.pem")
    for name in ("fullchain", "privkey"):
        (tmp_path / f"{name}.pem").symlink_to(f"{name}1.pem")
    kept = Kept(str(tmp_path / "fullchain.pem"), str(tmp_path / "privkey.pem"))

    def swap(name: str) -> None:
        (tmp_path / f"{name}.pem").unlink()
        (tmp_path / f"{name}.pem").symlink_to(f"{name}2.pem")

    swap("fullchain")
    assert kept.look() == 0  # the key does not belong to it yet
    swap("privkey")
    assert [kept.look(), kept.look()] == [1, 1]
    kept.keeper.close()


@pytest.mark.posix
def test_the_one_link_that_kubernetes_swaps(ca: CA, tmp_path: Path) -> None:
    for version in ("..1", "..2"):
        (tmp_path / version).mkdir()
        put(ca.pair("a.example"), tmp_path / version)
    (tmp_path / "..data").symlink_to("..1")
    for name in ("cert.pem", "key.pem"):
        (tmp_path / name).symlink_to(f"..data/{name}")
    kept = Kept(str(tmp_path / "cert.pem"), str(tmp_path / "key.pem"))
    assert kept.look() == 0
    (tmp_path / "..data_tmp").symlink_to("..2")
    os.replace(tmp_path / "..data_tmp", tmp_path / "..data")
    assert [kept.look(), kept.look()] == [1, 1]
    kept.keeper.close()


def test_a_bad_pair_is_said_once_and_the_old_one_stays(
    kept: Kept, ca: CA, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    before = kept.keeper.expiries
    shutil.copy(ca.pair("b.example").certificate, tmp_path / "cert.pem")
    assert [kept.look(), kept.look(), kept.look()] == [0, 0, 0]
    said = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert len(said) == 1
    assert "is not used, the one before it stays: " in said[0]
    assert "is not the key of" in said[0]
    assert kept.keeper.expiries == before
    (tmp_path / "cert.pem").unlink()
    assert kept.look() == 0
    assert "No such file" in caplog.text
    put(ca.pair("c.example"), tmp_path)
    assert kept.look() == 1


def test_a_bad_file_of_authorities_keeps_the_one_before_it(
    kept: Kept, ca: CA, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    authorities = tmp_path / "authorities.pem"
    shutil.copy(ca.path, authorities)
    kept.keeper.adopt(TLSSettings((read_pair(*kept.paths),), client_ca=str(authorities)))
    assert kept.look() == 0
    authorities.write_text("nothing")
    assert kept.look() == 0
    assert "holds no certificate in PEM" in caplog.text
    shutil.copy(ca.path, authorities)
    assert kept.look() == 1


def test_its_thread_looks_by_itself(
    kept: Kept, ca: CA, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeper_module, "LOOK_S", 0.01)
    renewed = threading.Event()
    keeper = Keeper(logging.getLogger("fastws.test"), renewed.set)
    keeper.adopt(TLSSettings((read_pair(*kept.paths),)))
    put(ca.pair("b.example"), tmp_path)
    assert renewed.wait(60)
    keeper.close()


def test_a_certificate_that_expires_soon_is_warned_of_once_a_day(
    ca: CA, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    end = datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=13, hours=1)
    put(ca.pair("a.example", not_after=end), tmp_path)
    kept = Kept(str(tmp_path / "cert.pem"), str(tmp_path / "key.pem"))
    start, shift = keeper_module.time.time(), 0.0
    monkeypatch.setattr(keeper_module.time, "time", lambda: start + shift)
    counts = []
    for hours in (1, 23, 25, 30, 48, 50):
        shift = hours * 3600.0
        kept.look()
        counts.append(caplog.text.count("expires in "))
    assert counts == [0, 0, 1, 1, 1, 2]
    assert "expires in 11 days" in caplog.text
    assert end.timestamp() - kept.keeper.expiries[0].not_after < DAY_S
    kept.keeper.close()


def test_without_tls_there_is_nothing_to_look_at() -> None:
    keeper = Keeper(logging.getLogger("fastws.test"), lambda: pytest.fail("nothing was renewed"))
    keeper.adopt(None)
    keeper.look()
    assert keeper.expiries == ()
    assert "certificates" not in {thread.name for thread in threading.enumerate()}
