"""What the command believes, and when it gives up."""

from __future__ import annotations

import os
import socket
import subprocess
import sys

import pytest

from fastws.upgrade.answering import DONE, Waiting, _name, _sign, answer, is_server, show_sign
from fastws.upgrade.upgrading import Upgrading

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="abstract sockets are Linux's")


def test_answer_of_the_process_is_taken() -> None:
    waiting = Waiting(os.getpid())
    try:
        answer(DONE, "all is well")
        assert waiting.wait(10) == (DONE, "all is well")
    finally:
        waiting.close()


def test_answer_of_another_process_is_not() -> None:
    program = (
        "import socket\n"
        "sender = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)\n"
        f"sender.sendto(b'done lies', {_name(os.getpid())!r})\n"
    )
    waiting = Waiting(os.getpid())
    try:
        subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
        assert waiting.wait(0.2) is None
        with pytest.raises(OSError, match="in use"):
            Waiting(os.getpid())
    finally:
        waiting.close()


def test_nobody_is_waited_for_who_is_gone() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as other:
        os.waitid(os.P_PID, other.pid, os.WEXITED | os.WNOWAIT)
        waiting = Waiting(other.pid)
        assert waiting.wait(60) is None
        waiting.close()


def test_sign_is_there_while_it_is_open() -> None:
    assert not is_server(os.getpid())
    sign = show_sign()
    assert sign is not None
    assert is_server(os.getpid())
    sign.close()
    assert not is_server(os.getpid())


def test_first_process_of_a_container_refuses(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    import logging

    from fastws.config.settings import defaults
    from fastws.transport.listeners import Listeners
    from fastws.upgrade import upgrading as module

    monkeypatch.setattr(module, "FIRST_PROCESS", os.getpid())
    upgrading = Upgrading(Listeners(defaults(".")), logging.getLogger("test"), print, lambda: None, ".")
    waiting = Waiting(os.getpid())
    try:
        upgrading.begin(None)
        assert not upgrading.is_going_on
        kind, text = waiting.wait(10) or ("", "")
    finally:
        waiting.close()
        upgrading.cancel()
    assert kind == "failed"
    assert "the first of its container" in text
    assert "the first of its container" in caplog.text


def test_name_that_is_taken_does_not_matter() -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
        other.bind(_sign(os.getpid()))
        sign = show_sign()
        assert sign is not None
        sign.close()
