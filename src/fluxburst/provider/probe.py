"""Probing providers: each is asked once, and skipped after it fails to answer.

A service is patient with a provider that is too busy, or temporarily unavailable. A quick check,
such as ``fluxburst doctor``, should report after one timeout. Plugins ask within :func:`asked`,
and for at most :func:`patience` seconds.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar

from fluxburst.errors import UnreachableError

_silent: ContextVar[dict[str, str] | None] = ContextVar("fluxburst_silent", default=None)
"""While probing: why each provider did not answer, or may not have."""


class NotAskedError(UnreachableError):
    """A provider was skipped because it did not answer before."""


@contextmanager
def at_a_glance() -> Iterator[Mapping[str, str]]:
    """Ask each provider only once, here and in code with a copy of this context.

    Yields:
        The providers that did not answer, with the reason, updated as they fail.
    """
    silent: dict[str, str] = {}
    token = _silent.set(silent)
    try:
        yield silent
    finally:
        _silent.reset(token)


def patience(seconds: float) -> float:
    """Return how many seconds to retry a provider: none while probing."""
    return seconds if _silent.get() is None else 0.0


@contextmanager
def asked(provider: str, *, part_of: str = "") -> Iterator[None]:
    """Context for requests to a provider.

    Args:
        provider: Its description for people, such as ``the API server https://10.0.0.1``.
        part_of: The provider it is a part of; the part is skipped if the whole did not answer.

    Raises:
        NotAskedError: while probing, if it did not answer before.
    """
    silent = _silent.get()
    if silent is None:
        yield
        return
    for one in (provider, part_of):
        if one in silent:
            raise NotAskedError(f"{one} is not asked again, as it did not answer before")
    silent[provider] = f"{provider} has not answered yet"  # in case the request hangs
    try:
        yield
    except UnreachableError as error:
        silent[provider] = str(error)
        raise
    except BaseException:
        del silent[provider]
        raise
    del silent[provider]
