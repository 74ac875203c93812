"""The virtual clock of the embedded instance, and what is to happen when."""

from __future__ import annotations

import heapq
import itertools
import math
from collections.abc import Callable


class Clock:
    """A time that passes only when it is told to, from event to event.

    Attributes:
        now: The time, in seconds since the epoch.
    """

    def __init__(self, now: float) -> None:
        self.now = now
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._sequence = itertools.count()

    def at(self, when: float, what: Callable[[], None]) -> None:
        """Have something happen at a time; of what happens at the same time, the first first."""
        heapq.heappush(self._events, (when, next(self._sequence), what))

    def pass_to_next(self, until: float) -> Callable[[], None] | None:
        """Pass to the next event before ``until``, and return what happens then.

        None if there is none; it is ``until`` then, unless that is never.
        """
        if not self._events or self._events[0][0] > until:
            if math.isfinite(until):
                self.now = until
            return None
        when, _, happen = heapq.heappop(self._events)
        self.now = max(self.now, when)
        return happen
