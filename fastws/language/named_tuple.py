"""``typing.NamedTuple`` without its cost: that compiles the text of each annotation, an eighth of a start in all.

A class statement with annotated fields makes what ``collections.namedtuple`` makes, with the statement's defaults,
methods and docstring. Annotations stay text, as ``from __future__ import annotations`` leaves them.
"""

from __future__ import annotations

from collections import namedtuple
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from typing import NamedTuple as NamedTuple
else:

    class _Statement(type):
        def __new__(cls, name: str, bases: tuple[type, ...], namespace: dict[str, Any]) -> type:
            fields = namespace.pop("__annotations__", {})
            if not bases:
                return super().__new__(cls, name, bases, namespace)
            given = [field for field in fields if field in namespace]
            if given != list(fields)[len(fields) - len(given) :]:
                raise TypeError(
                    f"{name}: a field without a default follows one with a default ({', '.join(given)})"
                )
            defaults = [namespace.pop(field) for field in given]
            made = namedtuple(name, fields, defaults=defaults, module=namespace.pop("__module__"))
            made.__annotations__ = fields
            for key, value in namespace.items():
                setattr(made, key, value)
            return made

    class NamedTuple(metaclass=_Statement):
        """A tuple whose fields have names: the base in a class statement that lists them with their types."""
