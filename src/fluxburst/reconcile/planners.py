"""Planners for one client, and the current restrictions of their plans.

These are limits, breakers, cool-downs, silent plugins, and closed queues.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace

from fluxburst.errors import PatienceError
from fluxburst.formats.units import format_duration
from fluxburst.model.burst import EndReason
from fluxburst.model.identity import Users, only_this_user
from fluxburst.model.job import Job
from fluxburst.model.node import Node
from fluxburst.model.plan import Plan
from fluxburst.model.queues import Queue
from fluxburst.model.scheduler import Scheduler
from fluxburst.packing.limits import Budget, Spent, spent_of
from fluxburst.planning.lifespans import Lifespans
from fluxburst.planning.plan_inputs import FreeCapacity, PlanLimits
from fluxburst.planning.planner import Planner
from fluxburst.planning.setbacks import Starts, closed_types, tried_types
from fluxburst.reconcile.remaining_life import RemainingLife
from fluxburst.reconcile.scan import Waiting
from fluxburst.reconcile.shared import Shared


class CurrentLimits:
    """The current restrictions of one client's plans.

    Args:
        shared: What the parts of a client share.
        waiting: Its jobs that wait for a retry.
        spans: The lifetimes of its bursts.

    Attributes:
        queues: The instance's queues by name, as last read.
        users: The users whose jobs the instance runs, as last read.
    """

    def __init__(self, shared: Shared, waiting: Waiting, spans: RemainingLife) -> None:
        self._store = shared.store
        self._waiting = waiting
        self._spans = spans
        self._workers = shared.workers
        self._shared = shared
        self.queues: Mapping[str, Queue] = {}
        self.users: Users = only_this_user()

    def budget(self, now: float) -> Budget:
        """Return what the limits leave now; the time is in seconds since the epoch."""
        limits = self._shared.policy.limits
        spent = spent_of(self._store.ledger, now) if limits.is_set else Spent(now)
        return Budget(limits, spent, Lifespans(self._shared.policy.lifetimes).lease)

    def of_plan(self, closed: Mapping[tuple[str, str], str]) -> PlanLimits:
        """Return the current restrictions, with additional closed node types."""
        ledger = self._store.ledger
        now = self._store.now()
        live = ledger.live()
        stuck = self._workers.stuck()
        breakers = ledger.breakers().values()
        open_breakers = closed_types(breakers, live, now)
        return PlanLimits(
            budget=self.budget(now),
            by_owner=self._shared.policy.limits.by_owner,
            closed={
                **self._cooling(now),
                **open_breakers,
                **closed,
            },
            tried=tried_types(breakers, open_breakers),
            stuck={name: PatienceError(why, plugin=name) for name, why in stuck.items()},
            why_not_again=self._waiting.why_not,
            shuns_free_nodes=self._waiting.shuns_free_nodes,
            why_not_isolated=Starts(ledger, self._shared.policy.policy.starts).why_not,
            lives=self._spans.lives(live, now),
            name_of=ledger.free_name,
            queues=self.queues,
            users=self.users,
        )

    def capacity(self) -> object:
        """Return a value that changes whenever there may be room for jobs that had none."""
        live = self._store.ledger.live()
        now = self._store.now()
        closed = closed_types(self._store.ledger.breakers().values(), live, now)
        return (
            tuple((entry.burst.name, entry.burst.nodes) for entry in live),
            tuple(closed),
            tuple(self._cooling(now)),
            tuple(self._workers.stuck()),
        )

    def _cooling(self, now: float) -> Mapping[tuple[str, str], str]:
        """Return the node types whose idle burst has only just ended."""
        cool_down = self._shared.policy.lifetimes.cool_down
        if not cool_down:
            return {}
        return {
            (entry.burst.plugin, entry.burst.node_type): "it cools down for another "
            f"{format_duration(entry.ended + cool_down - now)}"
            for entry in self._store.ledger.entries(now - cool_down)
            if entry.ended is not None and entry.burst.end_reason is EndReason.IDLE
        }


class Planners:
    """Makes the planners of one client.

    Args:
        shared: What the parts of a client share.
        limits: Restrictions of its plans.
    """

    def __init__(self, shared: Shared, limits: CurrentLimits) -> None:
        self._hooks = shared.hooks
        self._plugins = shared.plugins
        self._instance = shared.instance
        self._limits = limits
        self._shared = shared
        self._seen_nodes: tuple[Node, ...] | None = None

    def nodes(self) -> tuple[Node, ...]:
        """Return the instance's nodes; while a planner is in use, as of its start."""
        return self._instance.nodes() if self._seen_nodes is None else self._seen_nodes

    @contextmanager
    def planner(
        self,
        free_capacity: FreeCapacity | None = None,
        closed: Mapping[tuple[str, str], str] | None = None,
    ) -> Iterator[Planner]:
        """Yield a planner; meanwhile all callers see the same nodes as it does.

        Args:
            free_capacity: Capacity left over by the previous plan; None to count it anew.
            closed: Additional closed node types, with the reason.
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
        """Plan jobs that were refused elsewhere, without sharing free capacity."""
        with self.planner(FreeCapacity(), closed) as planner:
            return planner.plan(jobs)

    def _scheduler(self) -> Scheduler:
        """Return the scheduler's rules here, and whether jobs share nodes."""
        scheduler = self._instance.scheduler()
        shared = self._shared.policy.placement.share_nodes
        return scheduler if shared else replace(scheduler, whole_nodes=True)
