"""The rules by which a Flux scheduler starts jobs, as plain data."""

from __future__ import annotations

import enum
from dataclasses import dataclass


class Fit(str, enum.Enum):
    """Which node a scheduler takes, of those that have room.

    ``WORST`` is that of ``flux.resource.Rv1Pool``: the one with most free cores, then GPUs, then
    the lowest rank. ``TIGHT`` stands for the others, which fill a node before they begin another.
    """

    WORST = "worst"
    TIGHT = "tight"


@dataclass(frozen=True)
class Scheduler:
    """How the scheduler of an instance starts jobs.

    Attributes:
        name: The broker module that provides the service ``sched``; empty where that is not known.
        fit: Which node it takes, of those that have room.
        strict_order: A job that cannot start holds up all behind it, of every queue.
        whole_nodes: Each job has its nodes alone, whatever it asks for.
        queue_policy: Fluxion's policy for queues that have none of their own (``fcfs``, ``easy``,
            ``conservative``, ``hybrid``); empty for schedulers that have none.
        queue_policies: Queues that have a policy of their own, each with it.
        match_policy: Fluxion's match policy; empty for schedulers that have none.
    """

    name: str = ""
    fit: Fit = Fit.TIGHT
    strict_order: bool = False
    whole_nodes: bool = False
    queue_policy: str = ""
    queue_policies: tuple[tuple[str, str], ...] = ()
    match_policy: str = ""

    @property
    def is_fluxion(self) -> bool:
        """Whether it is Fluxion (flux-sched)."""
        return self.name == FLUXION

    def policy_of(self, queue: str) -> str:
        """Return Fluxion's policy for a queue; empty for schedulers that have none."""
        return dict(self.queue_policies).get(queue, self.queue_policy)


FLUXION = "sched-fluxion-qmanager"
"""The module of Fluxion that provides the service ``sched``."""

SCHED_SIMPLE = Scheduler("sched-simple", Fit.WORST, strict_order=True)
"""The scheduler of flux-core 0.84 and later, where no other was chosen."""

UNKNOWN = Scheduler()
"""What a scheduler is taken for that is not known."""
