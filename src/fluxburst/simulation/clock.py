"""The virtual clock of the embedded instance, and its scheduled events."""

from __future__ import annotations

import heapq
import itertools
import math
from collections.abc import Callable


class Clock:
    """A time that advances only on request, from event to event.

    Attributes:
        now: Current time, in seconds since the epoch.
    """

    def __init__(self, now: float) -> None:
        self.now = now
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._sequence = itertools.count()

    def at(self, when: float, what: Callable[[], None]) -> None:
        """Schedule an event; simultaneous events run in the order of scheduling."""
        heapq.heappush(self._events, (when, next(self._sequence), what))

    def pass_to_next(self, until: float) -> Callable[[], None] | None:
        """Advance to the next event before ``until``, and return it.

        Returns None if there is none; the time is ``until`` then, unless that is infinite.
        """
        if not self._events or self._events[0][0] > until:
            if math.isfinite(until):
                self.now = until
            return None
        when, _, happen = heapq.heappop(self._events)
        self.now = max(self.now, when)
        return happen
