"""The housekeeping of the embedded instance: after a job, its nodes are not free for a while."""

from __future__ import annotations

from collections.abc import Collection
from typing import Generic, TypeVar

from fluxburst.model.housekeeping import Housekeeping

Share = TypeVar("Share")


class House(Generic[Share]):
    """Allocations in housekeeping, by job and node.

    Args:
        seconds: Duration of housekeeping after each job; 0 for none.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._kept: dict[int, tuple[float, dict[int, Share]]] = {}

    def begin(self, job: int, allocation: dict[int, Share], now: float) -> None:
        """Keep a job's allocation."""
        self._kept[job] = now, dict(allocation)

    def end(self, job: int) -> dict[int, Share]:
        """Return a job's remaining allocation, which is free now."""
        return self._kept.pop(job, (0.0, {}))[1]

    def lose(self, ranks: Collection[int]) -> None:
        """Forget allocations on nodes that went down."""
        for _, allocation in self._kept.values():
            for rank in ranks:
                allocation.pop(rank, None)

    def all(self) -> list[Housekeeping]:
        """Return the running housekeeping."""
        return [
            Housekeeping(job, frozenset(allocation), frozenset(allocation), since)
            for job, (since, allocation) in self._kept.items()
            if allocation
        ]
