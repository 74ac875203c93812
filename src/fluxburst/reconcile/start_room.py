"""Whether waiting jobs fit on free nodes, or would fit on idle ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property

from fluxburst.config.policy import Policy
from fluxburst.errors import JobspecError
from fluxburst.flux.protocol import Instance
from fluxburst.model.burst import Burst
from fluxburst.model.constraints import compiled
from fluxburst.model.job import Job
from fluxburst.model.node import Node
from fluxburst.model.scheduler import Scheduler, as_read_by
from fluxburst.packing.fitting import fits_now
from fluxburst.reconcile.shortfalls import Shortfalls


class Room:
    """The nodes available to jobs, at one time.

    Args:
        instance: The instance.
        policy: The client's policy.
        shortfalls: Knows the nodes that are still to join.
        live: The client's bursts.
    """

    def __init__(
        self, instance: Instance, policy: Policy, shortfalls: Shortfalls, live: Sequence[Burst]
    ) -> None:
        self._instance = instance
        self._policy = policy
        self._shortfalls = shortfalls
        self._live = live

    @cached_property
    def nodes(self) -> Sequence[Node]:
        """The instance's nodes."""
        return self._instance.nodes()

    @cached_property
    def fits_now(self) -> Callable[[Job], bool]:
        """Whether a job fits on free nodes; False if its jobspec is malformed."""
        if not any(node.usable and (node.free_cores or node.free_gpus) for node in self.nodes):
            return lambda job: False
        return _fitting(tuple(self.nodes), self._scheduler)

    @cached_property
    def may_fit_later(self) -> Callable[[Job], bool]:
        """Whether a job would fit if all nodes that are up, or on their way, were idle."""
        return _fitting(self._shortfalls.with_coming(self._live, self.nodes), self._scheduler)

    @cached_property
    def _scheduler(self) -> Scheduler:
        scheduler = self._instance.scheduler()
        shared = self._policy.placement.share_nodes
        return scheduler if shared else replace(scheduler, whole_nodes=True)


def _fitting(nodes: tuple[Node, ...], scheduler: Scheduler) -> Callable[[Job], bool]:
    """Return a test whether a job fits on nodes; equal jobs are tested once."""
    known: dict[object, bool] = {}

    def fits(job: Job) -> bool:
        try:
            alike = job.chunks, repr(job.constraint)
            if alike not in known:
                chunks = as_read_by(job.chunks, scheduler)
                known[alike] = fits_now(chunks, nodes, compiled(job.constraint, job.id))
        except JobspecError:
            return False
        return known[alike]

    return fits
