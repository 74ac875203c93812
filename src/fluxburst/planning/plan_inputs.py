"""What a plan begins with: hooks, limits, free capacity, and what plugins say of themselves."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from fluxburst.config.policy import Limits
from fluxburst.errors import BurstError
from fluxburst.model.constraints import ALL_ALIKE, ConstraintBits
from fluxburst.model.identity import Users, only_this_user
from fluxburst.model.job import Job
from fluxburst.model.node import Node
from fluxburst.model.queues import Queue
from fluxburst.model.scheduler import Scheduler
from fluxburst.packing.limits import Budget, Spent
from fluxburst.packing.pool import Pool
from fluxburst.packing.worst_fit import WorstFit
from fluxburst.planning.facts import PluginFacts
from fluxburst.planning.job_requests import JobRequests
from fluxburst.planning.lifespans import Lives, PlannedLives
from fluxburst.plugin.adapter import provider_of
from fluxburst.plugin.base import BurstPlugin


class Votes(Protocol):
    """The hooks that a plan asks."""

    def select_job(self, job: Job) -> bool:
        """Whether a job is a candidate for bursting."""
        ...

    def order_plugins(self, plugins: Mapping[str, BurstPlugin], job: Job | None) -> Sequence[str]:
        """To which plugins a job is offered, in order."""
        ...

    def schedule_job(self, job: Job, plugin: BurstPlugin) -> bool:
        """Whether a plugin takes a job."""
        ...


@dataclass(frozen=True)
class PlanLimits:
    """What holds a plan back, besides what plugins can supply.

    Attributes:
        budget: What the limits leave; it is not changed.
        by_owner: Whether each user and queue gets bursts of its own, to be charged for.
        closed: Node types that are not to be asked for, by plugin and name, with the reason.
        tried: Node types of which one burst is to be tried, with the reason for no other.
        stuck: Plugins that do not answer, with the reason.
        why_not_isolated: Returns why a job, by id, is to get no isolated burst; empty if it may.
        why_not_again: Returns why a job, by id, is not offered to a plugin again yet, or to none of
            them (empty name); empty if it is.
        lives: How long nodes live.
        shuns_free_nodes: Whether a job, by id, did not start on free nodes, and is to get new ones.
        name_of: Makes the name of a burst one that no burst before had.
        queues: The instance's queues by name; empty where they are not known.
        users: Whose jobs the instance runs.
    """

    budget: Budget = field(default_factory=lambda: Budget(Limits(), Spent(0.0), 0.0))
    by_owner: bool = False
    closed: Mapping[tuple[str, str], str] = field(default_factory=dict)
    tried: Mapping[tuple[str, str], str] = field(default_factory=dict)
    stuck: Mapping[str, BurstError] = field(default_factory=dict)
    why_not_isolated: Callable[[int], str] = lambda job: ""
    why_not_again: Callable[[int, str], str] = lambda job, plugin: ""
    lives: Lives = field(default_factory=Lives)
    shuns_free_nodes: Callable[[int], bool] = lambda job: False
    name_of: Callable[[str], str] = str
    queues: Mapping[str, Queue] = field(default_factory=dict)
    users: Users = field(default_factory=only_this_user)


@dataclass(frozen=True)
class FreeCapacity:
    """Capacity that a plan has promised to nobody: what the next plan may begin with.

    Attributes:
        pool: The nodes that are free or coming, with what they have left.
        bits: The constraints that they are told apart by.
        nodes: The same nodes as the scheduler leaves them, where it places jobs by worst fit.
        held_up_by: The place in the queue, and the id, of a job that holds up all behind it.
    """

    pool: Pool = field(default_factory=Pool)
    bits: ConstraintBits = ALL_ALIKE
    nodes: WorstFit = field(default_factory=WorstFit)
    held_up_by: tuple[int, int] | None = None


@dataclass(frozen=True)
class PlanContext:
    """What one plan knows.

    Attributes:
        plugins: The loaded plugins, by name.
        nodes: The instance's nodes.
        limits: What holds the plan back.
        scheduler: By which rules the instance starts jobs.
        facts: What the plugins say of themselves.
        lives: How long nodes live.
        requests: What the jobs ask for.
    """

    plugins: Mapping[str, BurstPlugin]
    nodes: tuple[Node, ...]
    limits: PlanLimits
    scheduler: Scheduler
    facts: PluginFacts
    lives: PlannedLives
    requests: JobRequests


def context_of(
    plugins: Mapping[str, BurstPlugin],
    nodes: Sequence[Node],
    limits: PlanLimits,
    scheduler: Scheduler,
) -> PlanContext:
    """Ask the plugins about themselves, and return what a plan knows before it sees a job."""
    nodes = tuple(nodes)
    facts = PluginFacts(plugins, limits.stuck)
    lives = PlannedLives(limits.lives, plugins, facts.types, nodes)
    asked = {
        name: plugin
        for name, plugin in plugins.items()
        if facts.types[name] and provider_of(plugin).changes_constraints
    }
    requests = JobRequests(asked, lives, scheduler)
    return PlanContext(plugins, nodes, limits, scheduler, facts, lives, requests)
