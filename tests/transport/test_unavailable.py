"""Addresses at which no server can listen are found without listening, in the lines that name them."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from fastws import Server, load
from fastws.config.settings import Config
from fastws.http.errors import ListenError
from fastws.transport.listener import listen_unix
from fastws.transport.unavailable import listen_problems

on_linux = pytest.mark.skipif(sys.platform != "linux", reason="what a kernel tells apart is its own business")
NOWHERE = "192.0.2.1"  # RFC 5737: for documentation


def config_of(tmp_path: Path, *lines: str) -> Config:
    (tmp_path / "ws.conf").write_text(
        "\n".join((f"DocumentRoot {tmp_path}", "AccessLog off", "ErrorLog -", *lines))
    )
    return load(str(tmp_path / "ws.conf"))


def found_in(config: Config) -> list[str]:
    return [str(problem).replace(f"{config.config_path}:", "") for problem in listen_problems(config)]


def refuses_to_start(config: Config) -> bool:
    server = Server(config)
    try:
        server.start()
    except ListenError:
        return True
    server.stop()
    return False


@on_linux
def test_each_is_said_in_the_line_that_names_it_and_refused_by_a_start(
    tmp_path: Path, free_ports: Callable[..., tuple[int, ...]]
) -> None:
    (tmp_path / "plain").touch()
    first, second, third = free_ports(3)
    for lines, said in (
        (("Listen unix:good",), []),
        ((f"Listen {first}", "Listen unix:nowhere/s"),
         [f"5: Listen: '{tmp_path}/nowhere' does not exist; a directory in which the server may make the socket"
          " is needed"]),
        (("Listen unix:plain",),
         [f"4: Listen: '{tmp_path}/plain' exists and is no socket; another path is needed"]),
        ((f"Listen {first}", f"Listen {NOWHERE}:{second}"),
         [f"5: Listen: this machine does not have the address {NOWHERE}"]),
        ((f"ListenPort {first}", f"Host 127.0.0.1 {NOWHERE}"),
         [f"5: Host: this machine does not have the address {NOWHERE}"]),
        ((f"ListenPort {first}", "Host 127.0.0.1 0.0.0.0"),
         [f"5: Host: 127.0.0.1:{first} is part of 0.0.0.0:{first}; one of the two can be listened on"]),
        ((f"Listen 0.0.0.0:{third}", f"Listen 127.0.0.1:{third}"),
         [f"5: Listen: 127.0.0.1:{third} is part of 0.0.0.0:{third}; one of the two can be listened on"]),
        ((f"Listen 0.0.0.0:{third}", f"Listen 127.0.0.1:{second}"), []),
    ):  # fmt: skip
        config = config_of(tmp_path, *lines)
        assert found_in(config) == said, lines
        assert refuses_to_start(config) == bool(said), lines


@on_linux
def test_with_reuse_port_an_address_may_be_listed_beside_all_of_its_family(tmp_path: Path) -> None:
    lines = "Listen 0.0.0.0:8081", "Listen 127.0.0.1:8081"
    assert len(found_in(config_of(tmp_path, *lines))) == 1
    assert found_in(config_of(tmp_path, "ReusePort on", *lines)) == []


@pytest.mark.posix
def test_what_a_running_server_has_is_no_problem(tmp_path: Path) -> None:
    """It may be the server whose configuration is checked."""
    with socket.create_server(("127.0.0.1", 0)) as running:
        path = str(tmp_path / "s")
        listener = listen_unix(path)
        try:
            port = running.getsockname()[1]
            assert found_in(config_of(tmp_path, f"ListenPort {port}", f"Listen unix:{path}")) == []
        finally:
            listener.close()
        assert found_in(config_of(tmp_path, f"Listen unix:{path}")) == []  # a start replaces what is left


@pytest.mark.posix
@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write anywhere")
def test_directory_that_may_not_be_written_is_one(tmp_path: Path) -> None:
    (tmp_path / "shut").mkdir(mode=0o555)
    config = config_of(tmp_path, "Listen unix:shut/s")
    assert "may not be used: permission denied" in found_in(config)[0]
    assert list(listen_problems(config, checks_rights=False)) == []


def test_line_of_an_address_that_a_program_replaced_is_the_programs(tmp_path: Path) -> None:
    config = config_of(tmp_path, f"Listen {NOWHERE}:8081", f"Listen {NOWHERE}:8082")
    assert [problem.line for problem in listen_problems(config)] == [4, 5]
    changed = config.with_overrides(listen=(f"{NOWHERE}:8082",))
    assert [problem.line for problem in listen_problems(changed)] == [0]
