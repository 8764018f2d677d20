"""The TLS of one server: what the workers' handshakes use, kept current, and the hosts that are sent to https."""

from __future__ import annotations

import logging
from collections.abc import Callable

from ..config.secure import FILES, file_problems, tls_settings
from ..config.settings import Config
from ..engine.pool import Pool
from ..http.errors import ConfigError, Problem
from ..site.tohttps import Hosts
from ..tls.keeper import Keeper
from ..tls.settings import TLSSettings


class Securing:
    """``renew`` is called, by another thread, when certificates have changed: see ``Keeper``."""

    def __init__(self, logger: logging.Logger, pool: Pool, renew: Callable[[], None]) -> None:
        self._pool = pool
        self.keeper = Keeper(logger, renew)

    def adopt(self, config: Config) -> None:
        """Have the workers make handshakes as in ``config``, from their next start or change on.

        Raises ``ConfigError`` if a file cannot be read any more; then nothing has changed.
        """
        settings = _settings_of(config)
        if settings is None and self.keeper.settings is None:
            return
        try:
            self._pool.secure(settings)
        except (OSError, ImportError) as error:
            raise _wrong_certificate(config, error) from None
        self.keeper.adopt(settings)

    def hosts(self, port: int) -> Hosts:
        """Return the hosts of the certificates, which are those whose requests are sent on to ``port``."""
        from ..tls.pairs import addresses_of  # where there is no TLS nothing of it is needed

        pairs = () if self.keeper.settings is None else self.keeper.settings.pairs
        names = frozenset([name for pair in pairs for name in pair.names])
        return Hosts(names, frozenset([each for pair in pairs for each in addresses_of(pair)]), port)

    def close(self) -> None:
        """Look at the files no more."""
        self.keeper.close()


def check_pairs(config: Config, user: str) -> None:
    """Raise ``ConfigError`` where ``user``, which this process has become, cannot read what root could."""
    values = config._asdict()
    if not any(values[field] for field in FILES):
        return
    found = [
        Problem(*config.place_of(name), f"{name}: {wrong}; {user} (User) reads it, now and at every renewal")
        for name, _, wrong in file_problems(values)
    ]
    if found:
        raise ConfigError(tuple(found))


def _settings_of(config: Config) -> TLSSettings | None:
    """Return what ``config`` says of TLS, with the certificates' names as they are now; raises ``ConfigError``."""
    if not config.speaks_tls:
        return None
    try:
        return tls_settings(
            config.tls_certificates, config.tls_versions, config.tls_client_ca, config.tls_ticket_key
        )
    except ValueError as error:
        raise _wrong_certificate(config, error) from None


def _wrong_certificate(config: Config, error: Exception) -> ConfigError:
    place = config.given.get("TLSCertificate", (config.config_path or "configuration", 0))
    return ConfigError((Problem(*place, f"TLSCertificate: {error}"),))
