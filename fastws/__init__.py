"""fastws: a fast, strict HTTP/1.1 file server.

``serve(config)`` serves until a signal comes; ``Server`` is a context manager that serves in threads, for
other people's tests; ``load`` and ``defaults`` make a ``Config``.
"""

from .config import Config, defaults, load
from .errors import ConfigError, FastwsError, HTTPError, ListenError
from .process import serve
from .server import Server
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
