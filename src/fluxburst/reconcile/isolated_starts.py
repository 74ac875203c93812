"""How often a job may be started in isolated bursts.

A job whose burst was lost is started again in another one: that is not its fault. A job that takes
its machine down with it would be started for ever, so the starts are counted, in the ledger.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping

from fluxburst.ledger import Ledger


class Starts:
    """The starts of all jobs, as the ledger has them when they are first asked for.

    Args:
        ledger: The ledger.
        most: How often a job is started.
    """

    def __init__(self, ledger: Ledger, most: int) -> None:
        self._ledger = ledger
        self._most = most

    @functools.cached_property
    def _lost(self) -> Mapping[int, int]:
        return self._ledger.lost_starts()

    def why_not(self, job: int) -> str:
        """Return why a job is not started again in an isolated burst; empty where it may be."""
        lost = self._lost.get(job, 0)
        if lost < self._most:
            return ""
        times = "once" if lost == 1 else f"{lost} times"
        each = "" if lost == 1 else " each time"
        return f"was started {times} in isolated bursts and lost{each}; not tried again"
