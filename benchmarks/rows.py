"""What is measured: the rows of the table, their cases, and their goals."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from load import Load
from peers import PEERS
from samples import BIG_BYTES, BIG_PATH, BROWSER_FIELDS, SIZES

NGINX_BEST = "nginx + ofc + buffered log"
FIRST_CLASS = ("floor", "fastws", "h2o", "lighttpd", NGINX_BEST, "nginx + ofc", "nginx")
PYTHON = (
    "fastws pure", "granian + whitenoise", "cheroot + whitenoise", "waitress + whitenoise",
    "gunicorn gthread + whitenoise", "uvicorn + starlette", "aiohttp", "http.server",
)  # fmt: skip

OVER_TLS = ("fastws TLS", "h2o TLS", "nginx TLS", "fastws pure TLS")

BEFORE = ", before"
"""Ends the name of another fastws than the working tree's."""

NO_DEARER = 1.02
"""What noise may make of equal costs in one run."""

FILES, IDLE = 100_000, 10_000
QUICK_FILES, QUICK_IDLE = 5_000, 1_000


@dataclass(frozen=True)
class Goal:
    """``limit`` bounds ``metric`` of the case ``subject``, or with ``against`` the ratio to that case."""

    subject: str
    limit: float
    against: str = ""
    metric: str = "cost"


@dataclass(frozen=True)
class Case:
    """One server under one load; ``label`` names it within its row."""

    label: str
    peer: str
    load: Load
    server_cores: tuple[int, ...] = (0,)
    wrk_cores: tuple[int, ...] = (1,)
    floor_mode: str = ""
    cache: str = "64M"
    app: str = "hello"
    idle: int = 0  # connections held open beside the load
    warm_files: int = 0  # of the many files, fetched before the first round
    fresh: bool = False  # the server is started anew for every round


@dataclass(frozen=True)
class Row:
    """``cases`` is empty for a row that is not a load; ``special.py`` measures it under its key."""

    key: str
    title: str
    cases: tuple[Case, ...] = ()
    goals: tuple[Goal, ...] = ()
    baseline: str = "floor"
    unit: str = "us/request"
    needs_files: bool = False
    peer_by_peer: bool = False  # not all at once: their idle connections would exceed the descriptors
    length: int = 0  # body bytes, given where requests are counted by them: 1 MiB and more


def _each(peers: Iterable[str], load: Load, *, fresh: bool = False, floor_mode: str = "") -> tuple[Case, ...]:
    return tuple(Case(peer, peer, load, fresh=fresh, floor_mode=floor_mode) for peer in peers)


def _without(peers: tuple[str, ...], *names: str) -> tuple[str, ...]:
    return tuple(peer for peer in peers if peer not in names)


def _idle_cases(idle: int) -> tuple[Case, ...]:
    """Without lighttpd: it keeps half of its descriptors back, too few under a limit of 20,000."""
    load = Load("/1k.html", connections=1)
    return tuple(
        Case(f"{peer} beside idle" if count else peer, peer, load, idle=count)
        for peer in ("floor", "fastws", "fastws pure", "h2o", NGINX_BEST)
        for count in (0, idle)
    )


def _many_cases(files: int) -> tuple[Case, ...]:
    one, many = Load("/many/000/000000.html"), Load("/many/000/000000.html", mode=("random", str(files)))
    cases = []
    for peer in ("fastws", "h2o", "nginx"):
        cases.append(Case(peer, peer, one, cache="256M"))
        cases.append(Case(f"{peer}, many files", peer, many, cache="256M", warm_files=files))
    return tuple(cases)


def _worker_cases() -> tuple[Case, ...]:
    load = Load("/1k.html")
    cases = []
    for peer in ("fastws", "fastws pure"):
        cases.append(Case(peer, peer, load))
        both = f"{peer}, 2 workers"
        cases.append(Case(both, both, load, server_cores=(0, 1), wrk_cores=(0, 1)))
    return tuple(cases)


def _replayed_rows() -> tuple[Row, ...]:
    """One file over and over: what fastws replays."""
    browser = tuple(field for field in BROWSER_FIELDS if field[0] not in ("Host", "Connection", "Cookie"))
    cookie = ("Cookie", "session=" + "0123456789abcdef" * 5)
    return (
        Row(
            "1k", "1 KiB, keep-alive",
            _each((*FIRST_CLASS, "caddy", *PYTHON), Load("/1k.html")),
            (Goal("fastws", 1.15, "floor"), Goal("fastws pure", 0.5, "waitress + whitenoise")),
        ),
        Row(
            "browser", "1 KiB, a browser's request head",
            _each(FIRST_CLASS, Load("/1k.html", fields=(*browser, cookie))),
        ),
        Row("10k", "10 KiB", _each(FIRST_CLASS, Load("/10k.html")), (Goal("fastws", 1.2, "floor"),)),
        Row("100k", "100 KiB", _each(FIRST_CLASS, Load("/100k.html")), (Goal("fastws", 1.2, "floor"),)),
        Row(
            "1m", "1 MiB", _each(FIRST_CLASS, Load("/1m.html")), (Goal("fastws", 1.0, NGINX_BEST),),
            length=SIZES["/1m.html"],
        ),
        Row(
            "100m", "100 MiB by sendfile, 4 connections",
            _each(_without(FIRST_CLASS, "floor"), Load(BIG_PATH, connections=4)),
            (Goal("fastws", 1.0, NGINX_BEST),), baseline=NGINX_BEST, length=BIG_BYTES,
        ),
        Row(
            "pipeline", "1 KiB, 16 pipelined",
            _each(FIRST_CLASS, Load("/1k.html", mode=("pipeline", "16"))),
            (Goal("fastws", 1 / 8, "nginx"),),
        ),
        Row(
            "close", "1 KiB, a new connection a request",
            _each(FIRST_CLASS, Load("/1k.html", fields=(("Connection", "close"),)), floor_mode="close"),
            (Goal("fastws", 1.0, NGINX_BEST),),
        ),
    )  # fmt: skip


def _decided_rows(files: int) -> tuple[Row, ...]:
    """What Python decides, the first time or every time."""
    misses = _without(FIRST_CLASS, "floor", "nginx + ofc")
    return (
        Row(
            "404", "miss: no such file",
            _each(misses, Load("/none.html", status=404)), (Goal("fastws", 60),), baseline=NGINX_BEST,
        ),
        Row(
            "range", "100 bytes of 10 KiB by Range",
            _each(misses, Load("/10k.html", status=206, fields=(("Range", "bytes=0-99"),))),
            (Goal("fastws", 60),), baseline=NGINX_BEST,
        ),
        Row(
            "rules", "miss: 10 KiB under a condition that needs the rules",
            _each(misses, Load("/10k.html", fields=(("If-None-Match", '"a", "b"'),))), baseline=NGINX_BEST,
        ),
        Row(
            "first", "miss: first touch of many files",
            _each(misses, Load("/many/000/000000.html", mode=("sequence", str(files))), fresh=True),
            (Goal("fastws", 60),), baseline=NGINX_BEST, needs_files=True,
        ),
    )  # fmt: skip


def _scale_rows(files: int, idle: int) -> tuple[Row, ...]:
    """Many connections, many files, several workers; and two rows that are not a load."""
    return (
        Row(
            "idle", f"one busy connection beside {idle:,} idle ones", _idle_cases(idle),
            (
                Goal("fastws beside idle", 1.1, "fastws"),
                Goal("fastws beside idle", 1536, metric="idle_bytes"),
            ),
            baseline="", peer_by_peer=True,
        ),
        Row(
            "many", f"{files:,} files of 1 KiB by uniform chance", _many_cases(files),
            (Goal("fastws, many files", 1.5, "fastws"),), baseline="fastws", needs_files=True,
        ),
        Row(
            "workers", "1 KiB, 2 workers on 2 cores against 1 on 1", _worker_cases(),
            (Goal("fastws, 2 workers", 1.15, "fastws"),), baseline="fastws",
        ),
        Row("parser", "parser core, 703-byte browser request", (), (Goal("fastws", 0.40),), "", "us/head"),
        Row("start", "start to first answer", (), (Goal("fastws", 150),), "", "ms"),
    )  # fmt: skip


def _tls_rows(idle: int) -> tuple[Row, ...]:
    """The same over TLS, where nginx is the baseline. Of the idle connections, only the memory counts."""
    one = Load("/1k.html", tls=True)
    closing = Load("/1k.html", tls=True, connections=16, fields=(("Connection", "close"),))
    beside = Load("/1k.html", tls=True, connections=1)
    both = "fastws TLS, 2 workers"
    return (
        Row(
            "tls-1k", "TLS: 1 KiB, keep-alive", _each(OVER_TLS, one),
            (Goal("fastws TLS", 0.8, "nginx TLS"), Goal("fastws pure TLS", 5, "nginx TLS")), baseline="nginx TLS",
        ),
        Row(
            "tls-100k", "TLS: 100 KiB", _each(OVER_TLS, Load("/100k.html", tls=True)),
            (Goal("fastws TLS", 0.7, "nginx TLS"),), baseline="nginx TLS",
        ),
        Row(
            "tls-100m", "TLS: 100 MiB, 1 connection", _each(OVER_TLS, Load(BIG_PATH, connections=1, tls=True)),
            (Goal("fastws TLS", 0.95, "nginx TLS"),), baseline="nginx TLS", length=BIG_BYTES,
        ),
        Row(
            "tls-handshake", "TLS: 1 KiB, a full handshake a request", _each(OVER_TLS, closing),
            (Goal("fastws TLS", 1.0, "nginx TLS"),), baseline="nginx TLS",
        ),
        Row(
            "tls-resumed", "TLS: 1 KiB, a resumed session a request", (),
            (Goal("fastws TLS", 1.05, "nginx TLS"),), baseline="nginx TLS",
        ),
        Row(
            "tls-idle", f"TLS: one busy connection beside {idle:,} idle ones",
            tuple(Case(f"{peer} beside idle", peer, beside, idle=idle) for peer in OVER_TLS),
            (Goal("fastws TLS beside idle", 16384, metric="idle_bytes"),), baseline="", peer_by_peer=True,
        ),
        Row(
            "tls-workers", "TLS: 1 KiB, 2 workers on 2 cores against 1 on 1",
            (
                Case("fastws TLS", "fastws TLS", one),
                Case(both, both, one, server_cores=(0, 1), wrk_cores=(0, 1)),
            ),
            (Goal(both, 1.15, "fastws TLS"),), baseline="fastws TLS",
        ),
    )  # fmt: skip


APPLICATIONS = (
    "fastws threads",
    "fastws process",
    "fastws pure threads",
    "granian",
    "waitress",
    "gunicorn gthread",
)


def _application_cases(peers: Iterable[str], path: str, app: str) -> tuple[Case, ...]:
    return tuple(Case(peer, peer, Load(path), app=app) for peer in peers)


def _application_rows() -> tuple[Row, ...]:
    """WSGI applications, and the files beside them."""
    return (
        Row(
            "app-hello", "application: hello, 14 bytes", _application_cases(APPLICATIONS, "/", "hello"),
            (
                Goal("fastws threads", 0.8, "granian"), Goal("fastws threads", 0.15, "gunicorn gthread"),
                Goal("fastws process", 0.25, "gunicorn gthread"), Goal("fastws process", 0.4, "waitress"),
                Goal("fastws pure threads", 0.6, "waitress"),
            ),
            baseline="gunicorn gthread",
        ),
        Row(
            "app-flask", "application: Flask, 10 KiB of JSON", _application_cases(APPLICATIONS, "/", "flask"),
            (Goal("fastws threads", 0.75, "gunicorn gthread"), Goal("fastws process", 0.75, "gunicorn gthread")),
            baseline="gunicorn gthread",
        ),
        Row(
            "app-django", "application: Django, 14 bytes", _application_cases(APPLICATIONS, "/", "django"),
            (Goal("fastws threads", 0.5, "gunicorn gthread"), Goal("fastws process", 0.5, "gunicorn gthread")),
            baseline="gunicorn gthread",
        ),
        Row(
            "app-static", "application: a file of 1 KiB beside it",
            (
                Case("fastws, no application", "fastws", Load("/1k.html")),
                *_application_cases(("fastws threads", "fastws process", "granian"), "/static/1k.html", "hello"),
                *_application_cases(("gunicorn gthread", "waitress"), "/static/1k.html", "noise"),
            ),
            (
                Goal("fastws threads", 1.05, "fastws, no application"),
                Goal("fastws process", 1.05, "fastws, no application"),
                Goal("fastws process", 0.2, "granian"),
            ),
            baseline="fastws, no application",
        ),
    )  # fmt: skip


def _beside_rows() -> tuple[Row, ...]:
    """What happens beside a busy application; ``beside.py`` measures it."""
    return (
        Row(
            "app-computing", "static file, p99, 8 clients in a view that computes 10 ms", (),
            (
                Goal("fastws process", 1.2, "granian"), Goal("fastws process", 0.01, "gunicorn gthread"),
            ),
            baseline="fastws process, idle", unit="ms",
        ),
        Row(
            "app-sleeping", "static file, p99, 16 clients in a view that sleeps 100 ms", (),
            (Goal("fastws process", 2, "fastws process, idle"),), baseline="fastws process, idle", unit="ms",
        ),
        Row(
            "app-robbers", "view, p99, 8 readers that read nothing and 8 slow uploads", (),
            (Goal("fastws process", 2, "fastws process, idle"),), baseline="fastws process, idle", unit="ms",
        ),
        Row(
            "app-reload", "the longest wait during a reload under load", (),
            (Goal("fastws process", 0, metric="lost"), Goal("fastws process", 0.3, "gunicorn gthread")),
            baseline="gunicorn gthread", unit="ms",
        ),
        Row(
            "app-memory", "4 processes preloaded with Django", (),
            (Goal("fastws 4 preloaded", 1.1, "gunicorn 4 preloaded"),), baseline="gunicorn 4 preloaded", unit="MB",
        ),
    )  # fmt: skip


def with_before(row: Row, python: str) -> Row:
    """Return the row with a second case of each fastws, by another ``python``; the goal is to be no dearer."""
    cases, goals = list(row.cases), list(row.goals)
    for case in row.cases:
        peer = PEERS[case.peer]
        if peer.name.startswith("fastws"):
            before = replace(peer, name=f"{peer.name}{BEFORE}", python=python)
            PEERS[before.name] = before
            cases.append(replace(case, label=f"{case.label}{BEFORE}", peer=before.name))
            goals.append(Goal(case.label, NO_DEARER, f"{case.label}{BEFORE}"))
    return replace(row, cases=tuple(cases), goals=tuple(goals))


def table(*, quick: bool = False) -> dict[str, Row]:
    """Return every row by its key; ``quick`` makes the expensive ones smaller."""
    files, idle = (QUICK_FILES, QUICK_IDLE) if quick else (FILES, IDLE)
    rows = (
        *_replayed_rows(),
        *_decided_rows(files),
        *_scale_rows(files, idle),
        *_tls_rows(idle // 10),
        *_application_rows(),
        *_beside_rows(),
    )
    return {row.key: row for row in rows}
