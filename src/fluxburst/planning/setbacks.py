"""Jobs that were released since giving them away came to nothing: not tried the same way at once.

How often that was is what the ledger's placements say, so a restart does not forget it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone

from fluxburst.config.policy import Breaking
from fluxburst.ledger.entries import Placement

NOT_MOVED = "it could not be moved to queue "
NOT_STARTED = "it did not start within "
PREFIXES = (NOT_MOVED, NOT_STARTED)
"""What the reasons begin with for which jobs are released, and wait until they are tried again."""


@dataclass(frozen=True)
class Setback:
    """What came to nothing, and until when it is not tried again.

    Attributes:
        plugin: The plugin that the job is not offered to; empty for all.
        why: What happened the last time.
        times: How many times in a row.
        since: When the job was released the last time, in seconds since the epoch.
        until: When it is tried again.
        on_free_nodes: It did not start on nodes that were free, so it is not to be left to them.
    """

    plugin: str
    why: str
    times: int
    since: float
    until: float
    on_free_nodes: bool

    def holds(self, now: float) -> bool:
        """Whether it is not to be tried again yet; of a time that is yet to come nothing holds."""
        return self.since <= now < self.until

    def __str__(self) -> str:
        times = "" if self.times == 1 else f" ({self.times} times in a row)"
        again = datetime.fromtimestamp(self.until, timezone.utc)
        return f"{self.why}{times}; it is tried again after {again:%Y-%m-%d %H:%M:%S}Z"


def setback_of(placements: Sequence[Placement], policy: Breaking) -> Setback | None:
    """Return what the last times came to that a job was given away; None if not to nothing.

    Args:
        placements: All times that it was given away, in order.
        policy: How long it waits: ``backoff``, doubled with each time in a row, ``max_backoff`` at
            most.
    """
    times = 0
    for placement in reversed(placements):
        if placement.freed is None or not placement.reason.startswith(PREFIXES):
            break
        times += 1
    if not times:
        return None
    last = placements[-1]
    assert last.freed is not None
    pause = min(policy.max_backoff, policy.backoff * 2 ** min(times - 1, 60))
    not_moved = last.reason.startswith(NOT_MOVED)
    return Setback(
        plugin=last.plugin if not_moved else "",
        why=last.reason,
        times=times,
        since=last.freed,
        until=last.freed + pause,
        on_free_nodes=not not_moved and not last.burst,
    )


def moves_to(queue: str) -> str:
    """Return what stands for moves to a queue where breakers have node types."""
    return f"queue:{queue}"


def some_of(names: Iterable[str], most: int = 5) -> str:
    """Return names for a message, not all where they are many."""
    listed = list(names)
    more = f" and {len(listed) - most} more" if len(listed) > most else ""
    return f"{', '.join(listed[:most])}{more}"
