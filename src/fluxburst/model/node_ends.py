"""When nodes end, as a few bits: by these a plan tells apart which nodes live long enough.

However many jobs and nodes there are, the ends are told apart by a few levels: a node is taken to
end at the highest level that it reaches, a job to need the lowest that is late enough. So a node
may be held for shorter-lived than it is, and never for longer-lived. Of new nodes it is exact.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Collection, Iterable, Mapping, Sequence

MOST_LEVELS = 16


class Ends:
    """When nodes end: levels, and which of them nodes and jobs are at.

    All times are in seconds since the epoch; inf is never.

    Args:
        hosts: When nodes end, by hostname; others never do.
        coming: When nodes end that have no hostname yet.
        new: When nodes end that may be brought up: each is a level.
        wanted: Until when jobs need nodes to live: levels that none of them needs are left out.
    """

    def __init__(
        self,
        hosts: Mapping[str, float] | None = None,
        coming: Collection[float] = (),
        new: Collection[float] = (),
        wanted: Iterable[float] = (),
    ) -> None:
        self._hosts = hosts or {}
        known = sorted({*self._hosts.values(), *coming, *new} - {math.inf})
        self._soonest = known[0] if known else math.inf
        self._levels = _levels(known, new, wanted)

    def of_host(self, hostname: str) -> float:
        """Return when a node ends."""
        return self._hosts.get(hostname, math.inf)

    def kind(self, end: float) -> int:
        """Return the bits of a node that ends then: one for each level that it reaches."""
        return (1 << bisect_right(self._levels, end)) - 1

    def required_bits(self, until: float) -> int:
        """Return the bit that a node must have to live until then; 0 where all of them do."""
        if until <= self._soonest:
            return 0
        return 1 << bisect_left(self._levels, until)

    def judge(self, wanted: Iterable[float], ends: Collection[float]) -> bool:
        """Whether the levels tell right which of nodes that end so live as long as is wanted."""
        if math.isinf(self._soonest) and not any(map(math.isfinite, ends)):
            return True
        kinds = [(end, self.kind(end)) for end in ends]
        return all(
            bool(kind & bit or not bit) == (until <= end)
            for until in set(wanted)
            for bit in [self.required_bits(until)]
            for end, kind in kinds
        )


def _levels(
    known: Sequence[float], new: Collection[float], wanted: Iterable[float]
) -> Sequence[float]:
    """Return the levels: the ends that are the first late enough for a job, and never."""
    if not known:
        return ()
    found = {known[place] for until in wanted if (place := bisect_left(known, until)) < len(known)}
    levels = sorted(found)
    step = -(-len(levels) // (MOST_LEVELS - 1)) if levels else 1
    return sorted({*levels[step - 1 :: step], *new, math.inf})


ENDLESS = Ends()
"""Where no node ends."""
