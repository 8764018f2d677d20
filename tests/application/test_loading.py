"""Applications by their names: what is found, and one clear line for what is not."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from fastws.application.loading import LoadError, load

MODULE = """
class Application:
    def __call__(self, environ, start_response):
        return []

class Asynchronous:
    async def __call__(self, scope, receive, send):
        pass

async def asynchronous(scope, receive, send):
    pass

def application(environ, start_response):
    return []

def defaulted(environ, start_response=None, more=None):
    return []

def any_number(*arguments):
    return application

def create(config=None):
    return application

def create_none():
    return None

def three(one, two, three):
    pass

def fail():
    raise RuntimeError("why")

instance, other, number, method = Application(), Asynchronous(), 5, Application().__call__
"""


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)
    yield str(tmp_path)
    for name in set(sys.modules) - before:
        del sys.modules[name]


def write(directory: str, name: str, text: str) -> None:
    (Path(directory) / f"{name}.py").write_text(text)


@pytest.mark.parametrize(
    "name", ["application", "instance", "defaulted", "any_number", "any_number()", "create()", "method"]
)
def test_callable_of_two_arguments_is_an_application(directory: str, name: str) -> None:
    write(directory, "loaded_well", MODULE)
    assert callable(load(f"loaded_well:{name}", directory))


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("number", "cannot be called: it is of type 'int'"),
        ("create_none()", "cannot be called: it is of type 'NoneType'"),
        ("nothing", "AttributeError: module 'loaded_badly' has no attribute 'nothing'"),
        ("create", "environ and start_response; a factory is named with () behind it"),
        ("three", "does not take the two arguments of a WSGI application, environ and start_response"),
        ("other", "is no WSGI application but one for ASGI"),
        ("asynchronous", "is no WSGI application but one for ASGI"),
        ("application()", "an application that is no factory is loaded_badly:application, without ()"),
        ("fail()", "RuntimeError: why ("),
    ],
)
def test_what_is_no_application_is_named_with_its_reason(directory: str, name: str, reason: str) -> None:
    write(directory, "loaded_badly", MODULE)
    with pytest.raises(LoadError) as caught:
        load(f"loaded_badly:{name}", directory)
    assert str(caught.value).startswith(f"loaded_badly:{name} ")
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("\nmissing_name\n", "NameError: name 'missing_name' is not defined ({}, line 2)"),
        ("import no_such_module\n", "ModuleNotFoundError: No module named 'no_such_module' ({}, line 1)"),
        ("def (\n", "SyntaxError: invalid syntax (imported_badly.py, line 1)"),
        ("import sys\nsys.exit(3)\n", "SystemExit: 3 ({}, line 2)"),
    ],
)
def test_error_of_an_import_says_where(directory: str, text: str, reason: str) -> None:
    write(directory, "imported_badly", text)
    with pytest.raises(LoadError) as caught:
        load("imported_badly:application", directory)
    path = Path(directory) / "imported_badly.py"
    assert str(caught.value) == f"imported_badly:application cannot be loaded: {reason.format(path)}"


def test_missing_module_has_no_place_and_a_file_is_not_its_name(directory: str) -> None:
    with pytest.raises(LoadError, match=r"No module named 'nowhere_at_all'$"):
        load("nowhere_at_all:application", directory)
    write(directory, "loaded_file", MODULE)
    with pytest.raises(LoadError, match=r"; the module of loaded_file\.py is loaded_file$"):
        load("loaded_file.py:application", directory)
