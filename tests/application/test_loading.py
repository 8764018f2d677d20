"""Applications by their names: what is found, and one clear line for what is not."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from fastws.application import loading
from fastws.application.loading import LoadError, checked, files_of, load, note_imports, to_trace, watch
from fastws.http.errors import ConfigError

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


def test_what_a_program_gives_is_checked() -> None:
    def application(environ: object, start_response: object) -> list[bytes]:
        return []

    async def asynchronous(scope: object, receive: object, send: object) -> None:
        pass

    given = {"/": application, "/shop": application, "/api/": application}
    assert checked(given) == given
    with pytest.raises(ConfigError) as caught:
        checked({"": application, "shop": application, "/a//b": application, "/": 5, "/x": asynchronous})  # type: ignore[dict-item]
    assert [problem.text.partition(": ")[2] for problem in caught.value.problems] == [
        *(
            f"{path!r} is not a path of this site such as /shop, or / for all of it"
            for path in ("", "shop", "/a//b")
        ),
        "what is given for '/' cannot be called: it is of type 'int'",
        "what is given for '/x' is no WSGI application but one for ASGI, which fastws does not run",
    ]


@pytest.mark.parametrize(
    ("name", "is_traced"),
    [
        ("absent:application", False),
        ("plain.absent:application", False),
        ("plain:absent", False),
        ("plain:number", False),
        ("plain:fail()", True),
        ("importing:application", True),
        ("broken:application", True),
    ],
)
def test_traceback_is_for_what_modules_raise(directory: str, name: str, is_traced: bool) -> None:
    write(directory, "plain", MODULE)
    write(directory, "importing", "import absent")
    write(directory, "broken", "def f(:")
    with pytest.raises(LoadError) as caught:
        load(name, directory)
    assert (to_trace(caught.value) is not None) is is_traced


# Watching


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading, "LOOK_S", 0.01)


def told_by(path: str) -> threading.Event:
    told = threading.Event()
    watch(told.set, [path])
    return told


def test_file_that_changes_is_told(directory: str, looks: None) -> None:
    write(directory, "watched", "a = 1")
    told = told_by(f"{directory}/watched.py")
    assert not told.wait(0.1)
    write(directory, "watched", "a = 1000")
    assert told.wait(10)


def test_file_that_is_gone_for_good_is_told(directory: str, looks: None) -> None:
    write(directory, "watched", "a = 1")
    told = told_by(f"{directory}/watched.py")
    os.unlink(f"{directory}/watched.py")
    assert told.wait(10)


def test_file_that_is_gone_for_a_moment_is_not_told(directory: str, monkeypatch: pytest.MonkeyPatch) -> None:
    present, gone, looked = {"a": (1, 1)}, dict[str, tuple[int, int]](), threading.Event()
    states = iter((present, present, gone, present, gone, present))

    def state(others: object) -> dict[str, tuple[int, int]]:
        found = next(states, None)
        if found is None:
            looked.set()
        return present if found is None else found

    monkeypatch.setattr(loading, "LOOK_S", 0.001)
    monkeypatch.setattr(loading, "_states", state)
    told = told_by("a")
    assert looked.wait(10)
    assert not told.is_set()


@pytest.mark.parametrize("missing", ["absent", "package.absent"])
def test_module_that_was_missing_is_told_when_it_appears(directory: str, looks: None, missing: str) -> None:
    (Path(directory) / "package").mkdir()
    (Path(directory) / "package" / "__init__.py").touch()
    write(directory, "package/views", f"import {missing}")
    with pytest.raises(LoadError) as caught:
        load("package.views:application", directory)
    told = threading.Event()
    assert caught.value.__cause__ is not None
    watch(told.set, files_of(caught.value.__cause__))
    assert not told.wait(0.1)
    write(directory, missing.replace(".", "/"), "application = print")
    assert told.wait(10)


@pytest.fixture
def noted(monkeypatch: pytest.MonkeyPatch) -> dict[str, tuple[int, int]]:
    monkeypatch.setattr(sys, "meta_path", list(sys.meta_path))
    return note_imports()


SAVED = "from pathlib import Path\nPath({path!r}).write_text('a = 1000')\n{more}\napplication = print\n"
"""A module during whose import another is saved."""


def test_file_saved_after_it_was_read_and_before_the_first_look_is_told(
    directory: str, looks: None, noted: dict[str, tuple[int, int]]
) -> None:
    write(directory, "read_before", "a = 1")
    saved = f"{directory}/read_before.py"
    write(directory, "long_import", "import read_before\n" + SAVED.format(path=saved, more=""))
    load("long_import:application", directory)
    told = threading.Event()
    watch(told.set, noted=noted)
    assert told.wait(10)


def test_file_saved_while_the_import_failed_is_told(
    directory: str, looks: None, noted: dict[str, tuple[int, int]]
) -> None:
    write(directory, "broken_import", SAVED.format(path=f"{directory}/broken_import.py", more="1 / 0"))
    with pytest.raises(LoadError) as caught:
        load("broken_import:application", directory)
    told = threading.Event()
    assert caught.value.__cause__ is not None
    watch(told.set, files_of(caught.value.__cause__), noted)
    assert told.wait(10)


def test_file_that_a_module_makes_and_then_imports_is_not_told(
    directory: str, looks: None, noted: dict[str, tuple[int, int]]
) -> None:
    """Or else it would be for ever: the next import makes it again. Nor is one that was only looked for."""
    more = "import importlib.util, made_first; importlib.util.find_spec('never_read')"
    write(directory, "never_read", "a = 1")
    write(directory, "maker", SAVED.format(path=f"{directory}/made_first.py", more=more))
    load("maker:application", directory)
    told = threading.Event()
    watch(told.set, noted=noted)
    assert not told.wait(0.2)


def test_module_imported_later_is_as_it_was_read(
    directory: str, monkeypatch: pytest.MonkeyPatch, noted: dict[str, tuple[int, int]]
) -> None:
    told, looked = threading.Event(), threading.Event()
    states = loading._states

    def look(others: set[str]) -> dict[str, tuple[int, int]]:
        looked.wait(10)
        return states(others)

    write(directory, "read_later", "a = 1")
    watch(told.set, noted=noted)
    monkeypatch.setattr(loading, "LOOK_S", 0.01)
    monkeypatch.setattr(loading, "_states", look)
    sys.path.insert(0, directory)
    __import__("read_later")
    write(directory, "read_later", "a = 1000")
    looked.set()
    assert told.wait(10)
