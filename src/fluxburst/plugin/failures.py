"""What a burst plugin raises, as errors that say whose failure it is and what it may have left."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from fluxburst.errors import BurstError, described


@contextmanager
def only_looking() -> Iterator[None]:
    """Have what fails in ``create()`` before anything is asked for say so.

    Such as that there are no credentials, or that nothing answers: then nothing is to be deleted,
    nothing may cost, and the jobs are free.
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
    """Return what a plugin raised as a :class:`BurstError` that names plugin and burst."""
    if isinstance(error, BurstError):
        error.plugin, error.burst = error.plugin or plugin, error.burst or burst
        return error
    converted = BurstError(described(error), plugin=plugin, burst=burst)
    converted.__cause__ = error
    return converted
