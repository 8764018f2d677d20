"""The base of named tuples makes what ``typing.NamedTuple`` makes."""

from __future__ import annotations

import pickle
import typing

import pytest

from fastws.language.named_tuple import NamedTuple


class Ours(NamedTuple):
    """A point."""

    across: int
    up: float = 0.5

    @property
    def total(self) -> float:
        return self.across + self.up

    def moved(self) -> Ours:
        return self._replace(across=self.across + 1)


class Typings(typing.NamedTuple):
    """A point."""

    across: int
    up: float = 0.5


def test_fields_defaults_and_text_are_those_of_typing() -> None:
    for name in (
        "_fields",
        "_field_defaults",
        "__doc__",
        "__module__",
        "__annotations__",
        "__slots__",
        "__match_args__",
    ):
        theirs = getattr(Typings, name)
        if name == "__annotations__":
            theirs = {"across": "int", "up": "float"}
        assert getattr(Ours, name) == theirs, name
    assert repr(Ours(1)) == "Ours(across=1, up=0.5)"
    assert Ours.__qualname__ == "Ours"


def test_it_is_a_tuple_with_methods() -> None:
    assert Ours(1) == (1, 0.5) == Typings(1)
    assert isinstance(Ours(1), tuple)
    assert Ours(1).total == 1.5
    assert Ours(1).moved() == Ours(up=0.5, across=2)
    assert hash(Ours(1)) == hash((1, 0.5))
    assert pickle.loads(pickle.dumps(Ours(3))) == Ours(3)


def test_fields_are_read_only_and_have_to_be_given() -> None:
    with pytest.raises(AttributeError):
        Ours(1).across = 2  # type: ignore[misc]
    with pytest.raises(TypeError, match="across"):
        Ours()  # type: ignore[call-arg]


def test_field_without_a_default_after_one_with_a_default_is_refused() -> None:
    with pytest.raises(TypeError, match="follows one with a default"):

        class _Wrong(NamedTuple):
            first: int = 1
            second: int  # type: ignore[misc]
