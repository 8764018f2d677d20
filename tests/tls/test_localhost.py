"""The certificate that is made on the spot: its names, that it is kept, and when it is made anew."""

from __future__ import annotations

import stat
import sys
import time
from pathlib import Path

import pytest
from certificates import shake_hands

from fastws.tls import localhost
from fastws.tls.certificate import certificates_in, read_certificate
from fastws.tls.localhost import MissingMakerError, localhost_pair
from fastws.tls.pairs import DAY_S, problem_of
from fastws.tls.settings import TLSSettings, server_context


def test_it_is_for_this_machine_and_good_for_a_year(tmp_path: Path) -> None:
    pair = localhost_pair(str(tmp_path / "new" / "tls"), ("192.0.2.7", "2001:db8::1"))
    assert problem_of(pair.certificate, pair.key) == ""
    found = read_certificate(Path(pair.certificate).read_bytes())
    assert "localhost" in found.names
    assert {"127.0.0.1", "::1", "192.0.2.7", "2001:db8::1"} <= set(found.addresses)
    assert 396 * DAY_S < found.not_after - time.time() < 398 * DAY_S


@pytest.mark.posix
def test_only_its_owner_reads_it(tmp_path: Path) -> None:
    pair = localhost_pair(str(tmp_path / "tls"))
    assert stat.S_IMODE(Path(pair.key).stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "tls").stat().st_mode) == 0o700
    assert sorted(path.name for path in (tmp_path / "tls").iterdir()) == ["localhost.key", "localhost.pem"]


def test_its_file_is_all_that_a_client_must_trust(tmp_path: Path) -> None:
    import ssl

    pair = localhost_pair(str(tmp_path))
    assert len(certificates_in(Path(pair.certificate).read_bytes())) == 2
    client = ssl.create_default_context(cafile=pair.certificate)
    for name in ("localhost", "127.0.0.1", "::1"):
        shake_hands(server_context(TLSSettings((pair,)), pair), client, name)


def test_it_is_kept_and_made_anew_only_for_an_address_that_others_use(tmp_path: Path) -> None:
    def serial(*addresses: str, is_exposed: bool = False) -> bytes:
        pair = localhost_pair(str(tmp_path), addresses, is_exposed=is_exposed)
        return Path(pair.certificate).read_bytes()

    first = serial("192.0.2.7")
    assert serial() == first
    assert serial("192.0.2.8") == first
    assert serial("192.0.2.7", is_exposed=True) == first
    second = serial("192.0.2.8", is_exposed=True)
    assert second != first
    assert {"192.0.2.7", "192.0.2.8"} <= set(read_certificate(second).addresses)
    assert serial("192.0.2.7", is_exposed=True) == second  # back in the first network


def test_one_that_expires_soon_or_is_damaged_is_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(localhost, "VALID_S", 13 * DAY_S)
    first = Path(localhost_pair(str(tmp_path)).certificate).read_bytes()
    monkeypatch.setattr(localhost, "VALID_S", 30 * DAY_S)
    pair = localhost_pair(str(tmp_path))
    second = Path(pair.certificate).read_bytes()
    assert second != first
    Path(pair.key).write_text("damaged")
    localhost_pair(str(tmp_path))
    assert Path(pair.certificate).read_bytes() != second
    assert problem_of(pair.certificate, pair.key) == ""


def test_without_trustme_what_is_there_is_used_and_what_is_missing_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    localhost_pair(str(tmp_path))
    monkeypatch.setitem(sys.modules, "trustme", None)
    localhost_pair(str(tmp_path))
    with pytest.raises(
        MissingMakerError, match=r"pip install 'fastws-server\[tls\]'.*mkcert.*--tls-cert and --tls-key"
    ):
        localhost_pair(str(tmp_path / "other"))
