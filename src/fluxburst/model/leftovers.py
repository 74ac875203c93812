"""Messages about bursts that should be gone, but still exist."""

from __future__ import annotations

from fluxburst.errors import BurstError


def still_listed(plugin: str, burst: str) -> BurstError:
    """Return the message for a burst that is still listed after its plugin reported it gone."""
    return BurstError(
        "its plugin reported it gone and still lists it; it counts and costs money until it "
        "disappears, and its deletion is retried with growing pauses: check the provider",
        plugin=plugin,
        burst=burst,
    )
