"""Former names of parameters, which still work in files, in the environment and in code.

The key ``aliases`` of a field's ``metadata`` lists its former names.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any, TypeVar

T = TypeVar("T")


def aliases_of(field: dataclasses.Field[Any]) -> tuple[str, ...]:
    """Return the former names of a field."""
    return tuple(field.metadata.get("aliases", ()))


def accept_aliases(kind: type[T]) -> type[T]:
    """Let code construct and read a dataclass by the former names of its fields, too.

    Use it as a decorator above ``@dataclass``.
    """
    names = {
        alias: field.name
        for field in dataclasses.fields(kind)  # type: ignore[arg-type]
        for alias in aliases_of(field)
    }
    made = kind.__init__

    @functools.wraps(made)
    def init(self: T, *args: Any, **given: Any) -> None:
        for alias in names.keys() & given.keys():
            if names[alias] in given:
                raise TypeError(f"{alias} is a former name of {names[alias]}: set only one of them")
            given[names[alias]] = given.pop(alias)
        made(self, *args, **given)

    replaced = {"__init__": init} | {alias: _as(name) for alias, name in names.items()}
    for attribute, value in replaced.items():
        setattr(kind, attribute, value)
    return kind


def _as(name: str) -> property:
    """Return a property that reads another attribute."""
    return property(
        lambda self: getattr(self, name), lambda self, value: setattr(self, name, value)
    )
