"""The command line: arguments → ``Source`` → the running server.

Exit status 0: stopped on request, or ``--check`` found nothing wrong; 1: the server could not run, such as a
port in use; 2: the configuration or the command line is wrong, and no socket was opened.
"""

from __future__ import annotations

import errno
import os
import signal
import socket
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..config.directives import DIRECTIVES
from ..config.secure import Https
from ..config.settings import Config, Source
from ..config.values import APPLICATION
from ..http.errors import ConfigError, ListenError, Problem
from .early import EXIT_SIGNAL, end_early, flush_standard_files, open_standard_files, say, show

if TYPE_CHECKING:
    import argparse

CONFIG_FILE = "ws.conf"
UPGRADE = "upgrade"
EXIT_OK, EXIT_FAILED, EXIT_USAGE = 0, 1, 2


def main(argv: Sequence[str] | None = None) -> int:
    """Do what ``argv`` asks and return the exit status; None stands for the process's own arguments."""
    end_early()
    open_standard_files()
    try:
        status = _do(sys.argv[1:] if argv is None else argv)
    except KeyboardInterrupt:
        status = EXIT_SIGNAL + signal.SIGINT
    except SystemExit as ended:  # by a signal, or argparse has said what is wrong, or printed the help
        status = ended.code if isinstance(ended.code, int) else EXIT_OK
    return status if flush_standard_files() else max(status, EXIT_FAILED)


def _do(words: Sequence[str]) -> int:
    if not words:
        return _serve(find_source())  # without argparse, a tenth of the time to the first answer
    if words[0] == UPGRADE:
        return _upgrade(words[1:])
    parser = build_parser()
    arguments = parser.parse_args(words)
    if arguments.directory is not None and arguments.option is not None:
        parser.error("DIR is given twice: by itself and by --directory")
    arguments.directory = arguments.directory if arguments.option is None else arguments.option
    if arguments.tls_key is not None and arguments.tls_cert is None:
        parser.error("--tls-key needs --tls-cert: the certificate that the key belongs to")
    arguments.Application = None
    if arguments.option is None and is_application(arguments.directory):
        arguments.Application, arguments.directory = [f"/={arguments.directory}"], None
    if arguments.version:
        return _print_version()
    source = find_source(arguments)
    return _check(source) if arguments.check else _serve(source, is_quiet=arguments.quiet)


def _check(source: Source) -> int:
    try:
        config = source.read(needs_address=False)  # it has no sockets that a service manager will hand over
        _check_places(config)
    except ConfigError as error:
        say(str(error))
        return EXIT_USAGE
    except (OSError, MemoryError) as error:
        say(f"fastws: {_explain(error, source)}")
        return EXIT_FAILED
    _print_doubts(config)
    return EXIT_OK if _print_directives(config) else EXIT_FAILED


def _upgrade(words: Sequence[str]) -> int:
    from ..upgrade.command import upgrade  # whoever serves has no use for it

    def read(path: str | None) -> Config:
        return Source(path or CONFIG_FILE).read(needs_address=False)

    try:
        return upgrade(words, read, say)
    except ConfigError as error:
        say(str(error))
        return EXIT_USAGE


def build_parser() -> argparse.ArgumentParser:
    """The options, those that override a directive taken from the table."""
    import argparse  # 10 ms that the library does not need

    parser = argparse.ArgumentParser(
        prog="fastws",
        description="Serve files over HTTP/1.1.",
        epilog=f"Without DIR and --config the server reads ./{CONFIG_FILE}; where there is none, it serves"
        " the current directory on 127.0.0.1:8080. --port 0 takes a free port; the line at the start names it."
        f" 'fastws {UPGRADE}' replaces a running server by a new process: see 'fastws {UPGRADE} --help'.",
    )
    parser.add_argument(
        "directory",
        nargs="?",
        metavar="DIR|MODULE:CALLABLE",
        help="directory to serve, or WSGI application for the whole site, such as mysite.wsgi:application",
    )
    parser.add_argument("-d", "--directory", dest="option", metavar="DIR", help="the same")
    parser.add_argument("--config", metavar="FILE", help="configuration file, one directive a line")
    for row in DIRECTIVES:
        if row.flag:
            names = [*row.aliases, row.flag]
            meaning = row.help.partition(". ")[0].rstrip(".").replace("`", "")
            if meaning[1].islower():
                meaning = meaning[0].lower() + meaning[1:]
            text = f"{meaning} (in place of {row.name} in the file)"
            if row.flag_value:
                parser.add_argument(
                    *names, dest=row.name, action="store_const", const=row.flag_value, help=text
                )
            elif row.joint:
                metavar = row.syntax.replace(" ", row.joint)
                parser.add_argument(*names, dest=row.name, metavar=metavar, help=text, action="append")
            else:
                metavar = row.syntax if "|" in row.syntax else row.flag.removeprefix("--").upper()
                parser.add_argument(*names, dest=row.name, metavar=metavar, help=text)
    _add_tls(parser)
    parser.add_argument(
        "-q",
        "--quiet",
        action="store_true",
        help="show no requests on the terminal, as is done without a file",
    )
    parser.add_argument("--check", action="store_true", help="print every directive in force and exit")
    parser.add_argument(
        "--version", action="store_true", help="print the version and which side runs, and exit"
    )
    return parser


def is_application(text: str | None) -> bool:
    """Tell whether the one argument is the name of an application, and of no directory."""
    import re

    return text is not None and re.fullmatch(APPLICATION, text) is not None and not os.path.exists(text)


def _add_tls(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--https",
        action="store_true",
        help="speak TLS on the port, without a file 8443; without --tls-cert with a certificate for this machine,"
        " made on the spot (needs the extra tls) and kept, so that a browser asks once",
    )
    parser.add_argument(
        "--tls-cert",
        metavar="FILE",
        help="speak TLS with this certificate and its chain, such as mkcert's localhost.pem (in place of"
        " TLSCertificate in the file)",
    )
    parser.add_argument(
        "--tls-key", metavar="FILE", help="its private key, if it is in another file: localhost-key.pem"
    )


def _https_of(given: Mapping[str, Any]) -> Https | None:
    """Return what the command line says of TLS, None for nothing."""
    if given.get("tls_cert") is not None:
        return Https(given["tls_cert"], given["tls_key"] or "")
    if not given.get("https"):
        return None
    from ..transport.interfaces import local_addresses

    families = (socket.AF_INET, socket.AF_INET6)
    return Https(addresses=tuple([each for family in families for each in local_addresses(family)]))


def find_source(arguments: argparse.Namespace | None = None) -> Source:
    """Where the configuration is: ``--config``, or ./ws.conf unless a directory is named, or defaults."""
    given = {} if arguments is None else vars(arguments)
    path, directory = given.get("config"), given.get("directory")
    if path is None and directory is None and os.path.exists(CONFIG_FILE):
        path = CONFIG_FILE
    flags = [row.name for row in DIRECTIVES if row.flag or row.joint]
    overrides = {name: given[name] for name in flags if given.get(name) is not None}
    if path is None and overrides.get("ApplicationReload"):
        overrides.setdefault("ErrorLog", "-")  # whoever develops looks for tracebacks on the terminal
    return Source(path, directory, overrides, _https_of(given))


def _print_version() -> int:
    from .. import backend  # loads the compiled modules, which --check has no use for
    from ..files.compression import describe_codings
    from ..version import __version__

    try:
        sides = f"{backend.describe()})\nTLS: {backend.load().describe_tls()}"
        text = f"fastws {__version__} ({sides}\n{describe_codings()}"
        if not show(text + "\n"):
            return EXIT_FAILED
    except ImportError as error:
        say(f"fastws: {error}")
        return EXIT_FAILED
    return EXIT_OK


def _print_doubts(config: Config) -> None:
    from ..backend import load
    from .doubts import doubts_of  # a server tells its own

    for doubt in doubts_of(config, load().opener):
        say(f"fastws: warning: {doubt}")


def _check_places(config: Config) -> None:
    """Find the addresses and files that a start would refuse; raises ``ConfigError``.

    Nothing is listened on and no file is made. What follows is done with the rights that the server would have.
    """
    import pprint  # noqa: F401  what the account may not be able to read

    from ..processes.takers import needs_processes
    from ..transport.unavailable import listen_problems
    from ..upgrade import pidfile
    from . import doubts, securing  # noqa: F401
    from .logs import log_problems
    from .rights import drop_to, is_root

    is_started_by_another = config.user is not None and not is_root()
    found = [*listen_problems(config, checks_rights=not is_started_by_another), *log_problems(config)]
    _check_passwords(config)
    if not needs_processes(config):
        _check_applications(config)
    if config.user is not None and not is_started_by_another:
        drop_to(config.user)
        securing.check_pairs(config, config.user)
    if config.pid_file is not None and (wrong := pidfile.obstacle(config.pid_file)):
        found.append(Problem(*config.place_of("PidFile"), pidfile.refusal(config.pid_file, wrong)))
    if found:
        raise ConfigError(tuple(sorted(dict.fromkeys(found), key=lambda problem: problem.line)))
    if needs_processes(config):
        _check_applications(config)


def _check_passwords(config: Config) -> None:
    """Find what would keep the server from asking for passwords; raises ``ConfigError``."""
    import logging

    from ..site.auth import Auth  # a server makes its own

    Auth(config, logging.getLogger("fastws"))


def _check_applications(config: Config) -> None:
    """Import the applications; raises ``ConfigError``. The traceback goes to standard error."""
    import logging

    from ..application.loading import load_all  # a server imports its own

    load_all(config, logging.getLogger("fastws"))


def _print_directives(config: Config) -> bool:
    """Print the dictionary of every directive in force, as Python would read it, below what the machine adds.

    False if that cannot be done.
    """
    import pprint  # for this one listing

    from ..files.compression import describe_codings

    codings = f"# {describe_codings()}\n" if config.compression else ""
    return show(codings + pprint.pformat(config.as_dict(), width=100, sort_dicts=False) + "\n")


def _serve(source: Source, *, is_quiet: bool = False) -> int:
    from .process import run  # --check needs none of it

    try:
        return run(source, shows_requests=source.path is None and not is_quiet)
    except ConfigError as error:
        say(str(error))
        return EXIT_USAGE
    except (ListenError, ImportError) as error:
        say(f"fastws: {error}")
    except (OSError, MemoryError) as error:
        say(f"fastws: {_explain(error, source)}")
    except RuntimeError as error:  # as threading calls it when the system grants no thread
        if "thread" not in str(error):
            raise
        say(
            f"fastws: {error}; the limits of processes (ulimit -u) and of memory decide how many there may be"
        )
    return EXIT_FAILED


def _explain(error: OSError | MemoryError, source: Source) -> str:
    """Return what to do about a resource that is missing, or about a log, the one file that a start writes."""
    if isinstance(error, MemoryError):
        return "the memory that the system grants is not enough (ulimit -v)"
    if error.errno in (errno.EMFILE, errno.ENFILE):
        return f"{error.strerror}; the limit must be raised (ulimit -n, LimitNOFILE)"
    if error.errno == errno.ENOENT and error.filename is None:
        return "the current directory does not exist any more; another one is needed, or absolute paths"
    if error.filename is None:
        return str(error)
    means = "AccessLog and ErrorLog" if source.path else "XDG_STATE_HOME, or --access-log and --error-log,"
    return f"cannot write logs at {error.filename}: {error.strerror}; {means} name another place"
