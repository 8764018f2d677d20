"""What the pytest-benchmark suites share: the marker of the ratio tests, and both sides of the parser."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, cast

import pytest

if TYPE_CHECKING:
    from fastws import backend

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # the working tree's fastws is measured

TWINS = {"compiled": "fastws._parser", "pure": "fastws._parser_py"}


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Measure in one process, with nothing beside it."""
    return 0


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "ratio: asserts a ratio of two times of one interleaved run")


@pytest.fixture(params=TWINS)
def parser(request: pytest.FixtureRequest) -> backend.Parser:
    return side(request.param)


def side(name: str) -> backend.Parser:
    """Return the ``compiled`` or the ``pure`` parser; a missing compiled one is an error, not a skip."""
    return cast("backend.Parser", importlib.import_module(TWINS[name]))
