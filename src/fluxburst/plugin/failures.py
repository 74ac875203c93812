"""Errors of burst plugins: they name the plugin and what it may have left behind."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from fluxburst.errors import BurstError, described


@contextmanager
def only_looking() -> Iterator[None]:
    """Mark failures in ``create()`` that happen before any request to the provider.

    Such as missing credentials, or a provider that does not answer: then nothing needs deleting,
    nothing costs money, and the jobs are released.
    """
    try:
        yield
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        failure = as_burst_error(error, "")
        failure.asked = False
        raise failure from error


def as_burst_error(error: BaseException, plugin: str, burst: str = "") -> BurstError:
    """Return a plugin's exception as a :class:`BurstError` that names plugin and burst."""
    if isinstance(error, BurstError):
        error.plugin, error.burst = error.plugin or plugin, error.burst or burst
        return error
    converted = BurstError(described(error), plugin=plugin, burst=burst)
    converted.__cause__ = error
    return converted
