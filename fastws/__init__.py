"""fastws: a fast, strict HTTP/1.1 file server.

``serve(config)`` serves until a signal arrives; ``Server`` is a context manager that serves in threads, for
tests and other programs; ``load`` and ``defaults`` make a ``Config``.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .config.settings import Config, defaults, load
    from .http.errors import ConfigError, FastwsError, HTTPError, ListenError
    from .operation.process import serve
    from .operation.server import Server
    from .version import __version__

__all__ = [
    "Config",
    "ConfigError",
    "FastwsError",
    "HTTPError",
    "ListenError",
    "Server",
    "__version__",
    "defaults",
    "load",
    "serve",
]

if not TYPE_CHECKING:

    def __dir__() -> list[str]:
        """List what the package exports, whether it was imported by now or not."""
        return sorted({*globals(), *__all__})

    def __getattr__(name: str) -> Any:
        """Import what the package exports when it is first used: its programs need no server for that."""
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from . import version
        from .config import settings as config
        from .http import errors
        from .operation import process, server

        for module in (config, errors, process, server, version):
            globals().update({each: value for each, value in vars(module).items() if each in __all__})
        return globals()[name]
