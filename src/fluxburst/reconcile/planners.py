"""Planners for one client: each is given what is known of the instance and of limits now."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace

from fluxburst.config.policy import Policy
from fluxburst.flux.protocol import Instance
from fluxburst.hooks.manager import Manager
from fluxburst.model.job import Job
from fluxburst.model.node import Node
from fluxburst.model.plan import Plan
from fluxburst.model.scheduler import Scheduler
from fluxburst.planning.plan_inputs import FreeCapacity
from fluxburst.planning.planner import Planner
from fluxburst.plugin.base import BurstPlugin
from fluxburst.reconcile.current_limits import CurrentLimits


class Planners:
    """Makes the planners of one client.

    Args:
        hooks: The client's hooks.
        plugins: The loaded plugins, by name; the client's own mapping, not a copy.
        instance: The instance that jobs wait in.
        limits: What holds plans back.
        policy: The client's policy.
    """

    def __init__(
        self,
        hooks: Manager,
        plugins: Mapping[str, BurstPlugin],
        instance: Instance,
        limits: CurrentLimits,
        policy: Policy,
    ) -> None:
        self._hooks = hooks
        self._plugins = plugins
        self._instance = instance
        self._limits = limits
        self.policy = policy
        self._seen_nodes: tuple[Node, ...] | None = None

    def nodes(self) -> tuple[Node, ...]:
        """Return the instance's nodes; while a planner is used, as they were at its start."""
        return self._instance.nodes() if self._seen_nodes is None else self._seen_nodes

    @contextmanager
    def planner(
        self,
        free_capacity: FreeCapacity | None = None,
        closed: Mapping[tuple[str, str], str] | None = None,
    ) -> Iterator[Planner]:
        """Yield a planner; whoever asks for the nodes meanwhile sees those that it sees.

        Args:
            free_capacity: What the plan before has left of the capacity; None to count it anew.
            closed: Node types that are closed besides those that are anyway, with the reason.
        """
        self._seen_nodes = self._instance.nodes()
        try:
            yield Planner(
                self._hooks,
                self._plugins,
                self._seen_nodes,
                self._limits.of_plan(closed or {}),
                free_capacity,
                self._scheduler(),
            )
        finally:
            self._seen_nodes = None

    def replan(self, jobs: Sequence[Job], closed: Mapping[tuple[str, str], str]) -> Plan:
        """Plan jobs that were refused elsewhere; what they may share with others is not known."""
        with self.planner(FreeCapacity(), closed) as planner:
            return planner.plan(jobs)

    def _scheduler(self) -> Scheduler:
        """Return by which rules jobs start here, and whether they are to share nodes."""
        scheduler = self._instance.scheduler()
        shared = self.policy.placement.share_nodes
        return scheduler if shared else replace(scheduler, whole_nodes=True)
