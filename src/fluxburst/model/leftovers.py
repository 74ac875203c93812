"""What a burst says of what is left of it: it could not be taken down, and may go on to cost."""

from __future__ import annotations

from dataclasses import replace

from fluxburst.errors import BurstError
from fluxburst.model.burst import Burst, BurstState

_LEFT = "what is left of it could not be taken down, it may cost money: "


def with_leftover(burst: Burst, why: object) -> Burst:
    """Return a burst that says what is left of it; what it failed of in the first place stays."""
    first = without_leftover(burst.error)
    return replace(burst, error=f"{first}; {_LEFT}{why}" if first else f"{_LEFT}{why}")


def without_leftover(error: str) -> str:
    """Return what a burst failed of in the first place; empty where it had not failed."""
    return error.partition(_LEFT)[0].rstrip("; ")


def is_left(burst: Burst) -> bool:
    """Whether it was tried in vain to take a burst down."""
    return burst.state is BurstState.ENDING and _LEFT in burst.error


def still_listed(plugin: str, burst: str) -> BurstError:
    """Return what to say of a burst that is listed after its plugin said that it is gone."""
    return BurstError(
        "its plugin reported it gone and still lists it; it counts, and costs, until it is not "
        "listed any more, and deleting it is tried again with growing pauses: look at the provider",
        plugin=plugin,
        burst=burst,
    )
