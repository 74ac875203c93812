"""The housekeeping of the embedded instance: nodes that are not free for a while after a job."""

from __future__ import annotations

from collections.abc import Collection
from typing import Generic, TypeVar

from fluxburst.model.housekeeping import Housekeeping

Share = TypeVar("Share")


class House(Generic[Share]):
    """What is kept of which job, by node.

    Args:
        seconds: How long housekeeping takes after each job; 0 for none.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._kept: dict[int, tuple[float, dict[int, Share]]] = {}

    def begin(self, job: int, allocation: dict[int, Share], now: float) -> None:
        """Keep what a job had."""
        self._kept[job] = now, dict(allocation)

    def end(self, job: int) -> dict[int, Share]:
        """Return what is still kept of a job, which is free then."""
        return self._kept.pop(job, (0.0, {}))[1]

    def lose(self, ranks: Collection[int]) -> None:
        """Forget what was kept on nodes that went down."""
        for _, allocation in self._kept.values():
            for rank in ranks:
                allocation.pop(rank, None)

    def all(self) -> list[Housekeeping]:
        """Return what runs now."""
        return [
            Housekeeping(job, frozenset(allocation), frozenset(allocation), since)
            for job, (since, allocation) in self._kept.items()
            if allocation
        ]
