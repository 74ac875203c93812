"""The implementer of the hook running in this thread: it cannot change others' objects."""

from __future__ import annotations

import copy
import dataclasses
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TypeVar

T = TypeVar("T")


class _Calls(threading.local):
    """The hook calls in progress in one thread, latest last: the implementer and its arguments."""

    def __init__(self) -> None:
        self.stack: list[tuple[object, dict[int, object]]] = []


_calls = _Calls()


@contextmanager
def calling(implementer: object) -> Iterator[None]:
    """Note the implementer for as long as its hook implementation runs."""
    _calls.stack.append((implementer, {}))
    try:
        yield
    finally:
        _calls.stack.pop()


def called_by_another(owner: object) -> bool:
    """Whether another package's hook implementation runs in this thread."""
    return bool(_calls.stack) and _calls.stack[-1][0] is not owner


def own_copy(value: T) -> T:
    """Return the running implementation's own copy of an object, always the same one.

    Uncopyable parts, such as a lock, are shared with the original.
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
