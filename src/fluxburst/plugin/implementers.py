"""Whose hook implementation is being called in this thread: what is others' it cannot change."""

from __future__ import annotations

import copy
import dataclasses
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TypeVar

T = TypeVar("T")


class _Calls(threading.local):
    """The calls that are being made in one thread, the latest last: who, and what it was given."""

    def __init__(self) -> None:
        self.stack: list[tuple[object, dict[int, object]]] = []


_calls = _Calls()


@contextmanager
def calling(implementer: object) -> Iterator[None]:
    """Note for as long as its implementation is being called who it is that implements a hook."""
    _calls.stack.append((implementer, {}))
    try:
        yield
    finally:
        _calls.stack.pop()


def called_by_another(owner: object) -> bool:
    """Whether a hook implementation of somebody else's is being called in this thread."""
    return bool(_calls.stack) and _calls.stack[-1][0] is not owner


def own_copy(value: T) -> T:
    """Return a copy that the implementation which is being called has for itself, always the same.

    What cannot be copied of it, such as a lock, is the same as in the original.
    """
    copies = _calls.stack[-1][1]
    if id(value) not in copies:
        copies[id(value)] = _copied(value)
    return copies[id(value)]  # type: ignore[return-value]


def _copied(value: T) -> T:
    copied = copy.copy(value)
    for field in dataclasses.fields(value) if dataclasses.is_dataclass(value) else ():
        with suppress(Exception):
            item = copy.deepcopy(getattr(value, field.name))
            object.__setattr__(copied, field.name, item)
    return copied
