"""A glance at providers: each is asked once, and one that does not answer is not asked again.

A service has patience with a provider that is too busy, or away for a while. Whoever only looks,
such as ``fluxburst doctor``, wants to be told after one timeout. Plugins ask by :func:`asked`, and
wait for no longer than :func:`patience` says.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from fluxburst.errors import UnreachableError

_silent: ContextVar[set[str] | None] = ContextVar("fluxburst_silent", default=None)
"""At a glance: the providers that have not answered, or have not yet."""


@contextmanager
def at_a_glance() -> Iterator[None]:
    """Have each provider be asked once, here and in what runs in a copy of this context."""
    token = _silent.set(set())
    try:
        yield
    finally:
        _silent.reset(token)


def patience(seconds: float) -> float:
    """Return for how many seconds to go on asking a provider: at a glance for none."""
    return seconds if _silent.get() is None else 0.0


@contextmanager
def asked(provider: str, *, part_of: str = "") -> Iterator[None]:
    """Ask a provider within this.

    Args:
        provider: What is asked, for a person, such as ``the API server https://10.0.0.1``.
        part_of: What it is a part of, which is not asked where the whole has not answered.

    Raises:
        UnreachableError: at a glance, without asking, where it has not answered before.
    """
    silent = _silent.get()
    if silent is None:
        yield
        return
    for one in (provider, part_of):
        if one in silent:
            raise UnreachableError(f"{one} is not asked again: it has not answered before")
    silent.add(provider)  # until it answers: a request that hangs is in another thread
    try:
        yield
    except UnreachableError:
        raise
    except BaseException:
        silent.discard(provider)
        raise
    silent.discard(provider)
