"""The types of what ``Config.with_overrides`` takes: for type checkers alone, nothing imports this at run time.

A value may always be the text that a file has in its place, such as ``"64M"``.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TypeAlias, TypedDict, TypeVar

from .endpoints import Endpoint

T = TypeVar("T")
Path: TypeAlias = str | os.PathLike[str]
Several: TypeAlias = tuple[T, ...] | list[T]
Number: TypeAlias = int | str
Seconds: TypeAlias = float | str
Switch: TypeAlias = bool | str
Listen: TypeAlias = Endpoint | Path | int | tuple[Path | int, str | int] | tuple[Path | int, str | int, str]


class Overrides(TypedDict, total=False):
    """One key for each field of ``Config`` that a directive sets."""

    hosts: str | Several[str]
    listen_ports: Number | Several[int]
    listen: Listen | Several[Listen]
    reuse_port: Switch
    pid_file: Path | None
    user: str | None
    trusted_proxies: str | Several[str]
    proxy_protocol: Switch
    client_header: str
    tls_certificates: Several[tuple[Path, Path]]
    tls_versions: str | Several[str]
    tls_client_ca: Path | None
    tls_ticket_key: Path | None
    strict_transport_security_s: Number | None
    document_root: Path
    static: Mapping[str, Path]
    directory_index: str | Several[str]
    content_types: Mapping[str, str]
    added_types: Mapping[str, str]
    content_codings: Mapping[str, str]
    default_type: str | None
    directory_listing: Switch
    clean_urls: Switch
    fallback: str | None
    error_pages: Mapping[int, str]
    redirects: Mapping[str, str | tuple[str, int]]
    basic_auth: Several[tuple[str, Path]]
    applications: Mapping[str, str]
    files_first: Switch
    application_processes: Number
    application_threads: Number
    application_queue: Number
    application_timeout_s: Seconds
    application_recycle: Mapping[str, Number]
    application_reload: Switch
    preload: Switch
    request_methods: str | Several[str]
    http_types: str | Several[str]
    keepalive_time_s: Seconds
    keepalive_header: Switch
    server_header: str
    headers: Several[tuple[str, str] | tuple[str, str, str]]
    cache_control: Several[tuple[str, str]]
    compression: Switch
    worker_threads: Number
    cache_size_bytes: Number
    cache_max_file_bytes: Number
    large_file_etag: str
    compress_max_file_bytes: Number
    sendfile: Switch
    max_connections: Number
    max_connections_per_address: Number
    max_body_bytes: Number | Mapping[str, Number]
    request_timeout_s: Seconds
    min_rate_bytes_s: Number
    stall_time_s: Seconds
    drain_delay_s: Seconds
    drain_timeout_s: Seconds
    access_log: Path
    access_log_format: str
    request_id: str
    error_log: Path
    error_log_format: str
    log_level: str
    status_path: str | None
    status_allow: str | Several[str]
