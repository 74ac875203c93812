"""A glance at providers: each is asked once, and one that does not answer is not asked again.

A service has patience with a provider that is too busy, or away for a while. Whoever only looks,
such as ``fluxburst doctor``, wants to be told after one timeout. Plugins ask within :func:`asked`,
and for no longer than :func:`patience` says.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar

from fluxburst.errors import UnreachableError

_silent: ContextVar[dict[str, str] | None] = ContextVar("fluxburst_silent", default=None)
"""At a glance: why each provider has not answered, or is not known to have."""


class NotAskedError(UnreachableError):
    """A provider was not asked, since it has not answered before."""


@contextmanager
def at_a_glance() -> Iterator[Mapping[str, str]]:
    """Have each provider be asked once, here and in what runs in a copy of this context.

    Yields:
        The providers that have not answered, with why, as they come to be known.
    """
    silent: dict[str, str] = {}
    token = _silent.set(silent)
    try:
        yield silent
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
        NotAskedError: at a glance, where it has not answered before.
    """
    silent = _silent.get()
    if silent is None:
        yield
        return
    for one in (provider, part_of):
        if one in silent:
            raise NotAskedError(f"{one} is not asked again, as it has not answered")
    silent[provider] = f"{provider} has not answered yet"  # a request that hangs is a thread's
    try:
        yield
    except UnreachableError as error:
        silent[provider] = str(error)
        raise
    except BaseException:
        del silent[provider]
        raise
    del silent[provider]
