"""Former names of parameters, which go on working in files, in the environment and in code.

A field's former names stand in its ``metadata`` as ``aliases``.
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
    """Let objects of a dataclass be made, and read, by the former names of its fields as well.

    For use as a decorator, above ``@dataclass``.
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
                raise TypeError(f"{alias} is a former name of {names[alias]}: give one of them")
            given[names[alias]] = given.pop(alias)
        made(self, *args, **given)

    replaced = {"__init__": init} | {alias: _as(name) for alias, name in names.items()}
    for attribute, value in replaced.items():
        setattr(kind, attribute, value)
    return kind


def _as(name: str) -> property:
    """Return an attribute that stands for another one."""
    return property(
        lambda self: getattr(self, name), lambda self, value: setattr(self, name, value)
    )
