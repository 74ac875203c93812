"""What is said of bursts that are there although they should not be."""

from __future__ import annotations

from fluxburst.errors import BurstError


def still_listed(plugin: str, burst: str) -> BurstError:
    """Return what to say of a burst that is listed after its plugin said that it is gone."""
    return BurstError(
        "its plugin reported it gone and still lists it; it counts, and costs, until it is not "
        "listed any more, and deleting it is tried again with growing pauses: look at the provider",
        plugin=plugin,
        burst=burst,
    )
