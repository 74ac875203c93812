"""Only one call of a client plans or acts at a time, and the code it calls cannot call it back.

Hooks and burst plugins run inside a call that plans or acts. If they called the client, it would
plan in the middle of planning, and a plugin's thread would wait for itself.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar, cast

F = TypeVar("F", bound=Callable[..., Any])


class Turn:
    """Which call of a client has its turn.

    Args:
        in_hook: Whether this thread is inside a hook.
        in_worker: Whether this is the thread of a plugin.
    """

    def __init__(self, in_hook: Callable[[], bool], in_worker: Callable[[], bool]) -> None:
        self._in_hook = in_hook
        self._in_worker = in_worker
        self._lock = threading.Lock()
        self._thread = 0

    def check(self, what: str) -> None:
        """Check that a client's method is not called from a hook or a plugin's thread.

        Raises:
            RuntimeError: if it is; the package is blamed.
        """
        if self._in_hook():
            raise _not_from(what, "a hook")
        if self._in_worker():
            raise _not_from(what, "a burst plugin")

    @contextmanager
    def take(self, what: str) -> Iterator[None]:
        """Take the turn.

        Raises:
            RuntimeError: as :meth:`check`, and if another call has the turn.
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
        f"{what}() of the client cannot be called from {whose} while the client plans or acts"
    )


def takes_turn(method: F) -> F:
    """Run a client's method alone: not from code that it calls, and not beside another."""

    @functools.wraps(method)
    def alone(self: Any, *arguments: Any, **named: Any) -> Any:
        with self._turn.take(method.__name__):
            return method(self, *arguments, **named)

    return cast(F, alone)


def not_from_within(method: F) -> F:
    """Make a client's method refuse calls from a hook or a plugin's thread."""

    @functools.wraps(method)
    def checked(self: Any, *arguments: Any, **named: Any) -> Any:
        self._turn.check(method.__name__)
        return method(self, *arguments, **named)

    return cast(F, checked)
