"""StatusPath: ``healthz``, ``readyz``, ``metrics`` (Prometheus text format 0.0.4), and a page that draws them.

For this machine and the addresses of StatusAllow alone; to everybody else there is nothing. What a proxy
forwards comes from this machine only in name and is refused too, unless the proxy's address is allowed. It
is known by its fields: Forwarded, Via, X-Real-IP, and all that begin with X-Forwarded-.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import accumulate
from typing import Protocol

from ..application.tally import ENDS, ApplicationStatus
from ..config.settings import Config
from ..files.variants import Variants
from ..http.errors import HTTPError
from ..http.messages import Fields, Request, Response
from ..http.vocabulary import READ_METHODS
from ..language.named_tuple import NamedTuple
from ..pages.status import STATUS_PAGE
from ..record.process_samples import process_samples
from ..record.tally import CONNECTION_STATES, STATUS_CLASSES, WorkerStatus
from ..seam import DURATION_BOUNDS_S, TLS_FAILURES

_FORWARDED = ("forwarded", "via", "x-real-ip")
_FORWARDED_PREFIX = "x-forwarded-"


class About(NamedTuple):
    """What runs, and by which configuration. Times are seconds since the epoch."""

    build: Mapping[str, str]
    """The version and which sides run, by label."""
    start_time_s: float
    """When the server began."""
    generation: int = 1
    """How many configurations there have been, the present one included."""
    configured_at_s: float = 0.0
    """When the present one was taken."""
    is_reload_good: bool = True
    """Whether the last reload succeeded; there may have been none."""


class StatusSource(Protocol):
    """Who knows how the server does."""

    @property
    def is_draining(self) -> bool:
        """Whether the server is about to end and should get no more work."""

    def about(self) -> About:
        """Return what runs, and by which configuration."""

    def listener_queues(self) -> Mapping[str, tuple[int, int]]:
        """Return how many connections wait to be accepted at each address, and how many may."""

    def worker_status(self) -> Sequence[WorkerStatus]:
        """Return the present counts of every worker thread, in their order. Called by any of them."""

    def application_status(self) -> ApplicationStatus:
        """Return the counts of applications."""

    def lost_lines(self) -> Mapping[str, int]:
        """Return how many lines each log has lost since the start, by its name."""

    def certificate_ends(self) -> Mapping[str, float]:
        """Return when each certificate that is served expires, in seconds since the epoch, by its path."""


class Status:
    """Answers requests below StatusPath."""

    def __init__(self, config: Config, source: StatusSource | None, variants: Variants) -> None:
        assert config.status_path is not None
        self._path = config.status_path
        self._allowed = config.status_allow
        self._source = source
        self._variants = variants
        self._pages = {
            "": self._live_page,
            "healthz": self._healthz,
            "readyz": self._readyz,
            "metrics": self._metrics,
        }

    def covers(self, path: str) -> bool:
        """Tell whether what the decoded ``path`` shows may depend on who asks."""
        return path.startswith(self._path)

    def respond(self, request: Request, path: str, peer: str) -> Response | None:
        """Return the response where the covered ``path`` is one of these pages and ``peer`` may see them.

        None elsewhere. Raises ``HTTPError`` 405.
        """
        page = self._pages.get(path[len(self._path) :])
        if page is None or not self._is_allowed(request, peer):
            return None
        if request.method not in READ_METHODS:
            raise HTTPError(
                405, "This page is only to be read.", fields=(("Allow", ", ".join(READ_METHODS)),)
            )
        return page()

    def _is_allowed(self, request: Request, peer: str) -> bool:
        import ipaddress  # only requests for this page need it

        is_forwarded = any(
            name in _FORWARDED or name.startswith(_FORWARDED_PREFIX) for name in request.fields
        )
        if not peer or peer.startswith("unix:"):
            return bool(peer) and not is_forwarded
        try:
            address = ipaddress.ip_address(peer.partition("%")[0])
        except ValueError:  # a client that a proxy does not name
            return False
        if isinstance(address, ipaddress.IPv6Address):
            address = address.ipv4_mapped or address
        if any(address in ipaddress.ip_network(network) for network in self._allowed):
            return True
        return address.is_loopback and not is_forwarded

    def _healthz(self) -> Response:
        return _text(200, "ok\n")

    def _readyz(self) -> Response:
        if self._source is not None and self._source.is_draining:
            return _text(503, "draining\n")
        return _text(200, "ready\n")

    def _live_page(self) -> Response:
        return _response(200, "text/html; charset=utf-8", STATUS_PAGE.encode())

    def _metrics(self) -> Response:
        workers = () if self._source is None else self._source.worker_status()
        is_draining = self._source is not None and self._source.is_draining
        store, compressor = self._variants.store, self._variants.compressor
        text = "".join(
            [
                *self._about_families(),
                *self._queue_families(),
                *_family("fastws_draining", "gauge", "1 while the server is about to end.", [("", is_draining)]),
                *_family("fastws_compressed_bytes", "gauge",
                    "Memory taken by files that were compressed in the background.",
                    [("", store.used_bytes)]),
                *_family("fastws_compression_pending", "gauge", "Files that wait to be compressed.",
                    [("", compressor.pending)]),
                *self._log_family(),
                *self._certificate_family(),
                *_worker_families(workers),
                *self._application_families(),
                *_process_families(),
            ]
        )  # fmt: skip
        return _response(200, "text/plain; version=0.0.4; charset=utf-8", text.encode())

    def _about_families(self) -> Iterator[str]:
        if self._source is not None:
            about = self._source.about()
            labels = ",".join([f'{name}="{value}"' for name, value in about.build.items()])
            meaning = "The version, and which sides run."
            yield from _family("fastws_build_info", "gauge", meaning, [(f"{{{labels}}}", 1)])
            for name, meaning, value in (
                ("start_time_seconds", "When the server began, in seconds since the epoch.", about.start_time_s),
                ("config_generation", "How many configurations there have been since the start.",
                    about.generation),
                ("config_last_reload_successful", "Whether the last reload succeeded.", about.is_reload_good),
                ("config_last_reload_success_timestamp_seconds",
                    "When the present configuration was taken, in seconds since the epoch.",
                    about.configured_at_s),
            ):  # fmt: skip
                yield from _family(f"fastws_{name}", "gauge", meaning, [("", round(value, 3))])

    def _queue_families(self) -> Iterator[str]:
        queues = {} if self._source is None else self._source.listener_queues()
        for index, name, meaning in (
            (0, "queue", "Connections that wait to be accepted."),
            (1, "queue_limit", "As many may wait; the kernel drops those that come then."),
        ):
            samples = [
                (f'{{address="{_escaped(address)}"}}', each[index]) for address, each in queues.items()
            ]
            if samples:
                yield from _family(f"fastws_listener_{name}", "gauge", meaning, samples)

    def _application_families(self) -> Iterator[str]:
        if self._source is not None:
            status = self._source.application_status()
            for name, kind, meaning, field in _APPLICATION:
                yield from _family(name, kind, meaning, [("", getattr(status, field))])
            samples = [(f'{{reason="{reason}"}}', status.ends.get(reason, 0)) for reason in ENDS]
            meaning = "Application processes that have ended, by reason."
            yield from _family("fastws_application_process_ends_total", "counter", meaning, samples)

    def _log_family(self) -> Iterator[str]:
        if self._source is not None:
            samples = [(f'{{log="{name}"}}', count) for name, count in self._source.lost_lines().items()]
            meaning = "Lines that could not be written: a full disk, a pipe or terminal that is not read."
            yield from _family("fastws_log_lines_lost_total", "counter", meaning, samples)

    def _certificate_family(self) -> Iterator[str]:
        ends = {} if self._source is None else self._source.certificate_ends()
        if ends:
            samples = [(f'{{certificate="{_escaped(path)}"}}', end) for path, end in ends.items()]
            meaning = "When each certificate that is served expires, in seconds since the epoch."
            yield from _family("fastws_tls_certificate_expiry_timestamp_seconds", "gauge", meaning, samples)


def _escaped(text: str) -> str:
    """A label's value, as the format has it."""
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


_SIMPLE = (
    ("fastws_connections", "gauge", "Open connections.", "connections"),
    ("fastws_sent_body_bytes_total", "counter", "Bytes of response bodies that were sent.", "body_bytes"),
    ("fastws_cache_hits_total", "counter", "Requests answered by replaying an answer.", "cache_hits"),
    ("fastws_cache_misses_total", "counter", "Requests answered anew.", "cache_misses"),
    ("fastws_cache_bytes", "gauge", "Memory taken by the answers that are replayed.", "cache_bytes"),
)


_APPLICATION = (
    ("fastws_application_busy", "gauge", "Requests that an application has.", "busy"),
    ("fastws_application_waiting", "gauge", "Requests that wait for an application.", "waiting"),
    ("fastws_application_requests_total", "counter", "Requests that an application got.", "requests"),
    ("fastws_application_waiting_seconds_total", "counter", "Time for which they waited.", "waiting_s"),
    ("fastws_application_seconds_total", "counter", "Time that applications took for them.", "running_s"),
    ("fastws_application_processes", "gauge", "Application processes that serve.", "processes"),
)


def _worker_families(workers: Sequence[WorkerStatus]) -> Iterator[str]:
    for name, kind, meaning, field in _SIMPLE:
        samples = [(f'{{worker="{i}"}}', getattr(worker, field)) for i, worker in enumerate(workers)]
        yield from _family(name, kind, meaning, samples)
    by_class = [
        (f'{{worker="{i}",class="{name}"}}', count)
        for i, worker in enumerate(workers)
        for name, count in zip(STATUS_CLASSES, worker.requests, strict=True)
    ]
    yield from _family("fastws_requests_total", "counter", "Requests by class of the status.", by_class)
    by_state = [
        (f'{{state="{name}"}}', sum([worker.states[i] for worker in workers]))
        for i, name in enumerate(CONNECTION_STATES)
    ]
    yield from _family("fastws_connection_states", "gauge", "Open connections by what they do.", by_state)
    yield from _histogram(workers)
    yield from _tls_families(workers)


def _tls_families(workers: Sequence[WorkerStatus]) -> Iterator[str]:
    handshakes, resumed, failures = (
        list[tuple[str, float]](),
        list[tuple[str, float]](),
        list[tuple[str, float]](),
    )
    for i, worker in enumerate(workers):
        tls = worker.tls
        handshakes.append((f'{{worker="{i}",version="1.2"}}', tls.version_1_2))
        handshakes.append((f'{{worker="{i}",version="1.3"}}', tls.version_1_3))
        resumed.append((f'{{worker="{i}"}}', tls.resumed))
        for reason, count in zip(TLS_FAILURES, tls.failures, strict=True):
            failures.append((f'{{worker="{i}",reason="{reason}"}}', count))
    yield from _family("fastws_tls_handshakes_total", "counter", "TLS handshakes, by version.", handshakes)
    meaning = "TLS handshakes that resumed a session."
    yield from _family("fastws_tls_resumptions_total", "counter", meaning, resumed)
    meaning = "TLS connections that failed, nearly all in the handshake."
    yield from _family("fastws_tls_failures_total", "counter", meaning, failures)


def _process_families() -> Iterator[str]:
    for name, kind, meaning, value in process_samples():
        yield from _family(name, kind, meaning, [("", value)])


def _histogram(workers: Sequence[WorkerStatus]) -> Iterator[str]:
    name = "fastws_request_duration_seconds"
    yield f"# HELP {name} Time from a complete request head to the last byte sent.\n# TYPE {name} histogram\n"
    bounds = [*map(str, DURATION_BOUNDS_S), "+Inf"]
    for i, worker in enumerate(workers):
        counts = list(accumulate(worker.durations))
        for bound, count in zip(bounds, counts, strict=True):
            yield f'{name}_bucket{{worker="{i}",le="{bound}"}} {count}\n'
        yield f'{name}_sum{{worker="{i}"}} {worker.duration_s:.9g}\n'
        yield f'{name}_count{{worker="{i}"}} {counts[-1]}\n'


def _family(name: str, kind: str, meaning: str, samples: Iterable[tuple[str, float]]) -> Iterator[str]:
    yield f"# HELP {name} {meaning}\n# TYPE {name} {kind}\n"
    for labels, value in samples:
        yield f"{name}{labels} {value if isinstance(value, float) else int(value)}\n"


def _text(status: int, text: str) -> Response:
    return _response(status, "text/plain; charset=utf-8", text.encode())


def _response(status: int, kind: str, body: bytes) -> Response:
    fields: Fields = (
        ("Content-Type", kind),
        ("Content-Length", str(len(body))),
        ("Cache-Control", "no-store"),
    )
    return Response(status, fields, (body,))
