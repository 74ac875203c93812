"""One call of a client at a time plans or acts; what it calls does not call it back.

A hook and a burst plugin are called for somebody who plans or acts already. From there, a plan
would be made in the midst of another, and a plugin's thread would wait for itself.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar, cast

F = TypeVar("F", bound=Callable[..., Any])


class Turn:
    """Whose turn it is with a client.

    Args:
        in_hook: Whether a hook is being called in this thread.
        in_worker: Whether this is the thread of a plugin.
    """

    def __init__(self, in_hook: Callable[[], bool], in_worker: Callable[[], bool]) -> None:
        self._in_hook = in_hook
        self._in_worker = in_worker
        self._lock = threading.Lock()
        self._thread = 0

    def check(self, what: str) -> None:
        """Make sure that a method of the client is called from no hook, and no plugin's thread.

        Raises:
            RuntimeError: if it is, which the package is blamed for.
        """
        if self._in_hook():
            raise _not_from(what, "a hook")
        if self._in_worker():
            raise _not_from(what, "a burst plugin")

    @contextmanager
    def take(self, what: str) -> Iterator[None]:
        """Have the turn.

        Raises:
            RuntimeError: as :meth:`check`, and where it is somebody's already.
        """
        self.check(what)
        if not self._lock.acquire(blocking=False):
            here = self._thread == threading.get_ident()
            raise _not_from(what, "a burst plugin" if here else "another thread")
        try:
            self._thread = threading.get_ident()
            yield
        finally:
            self._lock.release()


def _not_from(what: str, whose: str) -> RuntimeError:
    return RuntimeError(
        f"{what}() of the client cannot be called from {whose}, while the client plans or acts "
        "already"
    )


def takes_turn(method: F) -> F:
    """Have a client's method be called alone: not from what it calls itself, or others like it."""

    @functools.wraps(method)
    def alone(self: Any, *arguments: Any, **named: Any) -> Any:
        with self._turn.take(method.__name__):
            return method(self, *arguments, **named)

    return cast(F, alone)


def not_from_within(method: F) -> F:
    """Have a client's method refuse to be called from a hook, or in a plugin's thread."""

    @functools.wraps(method)
    def checked(self: Any, *arguments: Any, **named: Any) -> Any:
        self._turn.check(method.__name__)
        return method(self, *arguments, **named)

    return cast(F, checked)
