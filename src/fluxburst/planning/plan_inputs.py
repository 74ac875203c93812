"""The inputs of a plan: hooks, limits, free capacity, and facts about plugins."""

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
    """The hooks used by a plan."""

    def select_job(self, job: Job) -> bool:
        """Whether a job is a candidate for bursting."""
        ...

    def order_plugins(self, plugins: Mapping[str, BurstPlugin], job: Job | None) -> Sequence[str]:
        """The plugins a job is offered to, in order."""
        ...

    def schedule_job(self, job: Job, plugin: BurstPlugin) -> bool:
        """Whether a plugin takes a job."""
        ...


@dataclass(frozen=True)
class PlanLimits:
    """The restrictions of a plan, besides what plugins can supply.

    Attributes:
        budget: What the limits leave; not modified.
        by_owner: Whether each user and queue gets separate bursts, for charging.
        closed: Node types that must not be requested, by plugin and name, with the reason.
        tried: Node types limited to one trial burst, with the reason.
        stuck: Plugins that do not answer, with the message.
        why_not_isolated: Returns why a job, by id, gets no isolated burst; empty if it may.
        why_not_again: Returns why a job, by id, is not offered to a plugin yet, or to none of
            them (empty name); empty if it is.
        lives: How long nodes live.
        shuns_free_nodes: Whether a job, by id, did not start on free nodes, and needs new ones.
        name_of: Makes the name of a burst unique over time.
        queues: The instance's queues by name; empty if unknown.
        users: The users whose jobs the instance runs.
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
    """Unassigned capacity, from which the next plan may start.

    Attributes:
        pool: The free or coming nodes, with their remaining capacity.
        bits: The constraints that distinguish them.
        nodes: The same nodes as left by the scheduler, if it places jobs by worst fit.
        held_up_by: The queue position, and the id, of a job that blocks all behind it.
    """

    pool: Pool = field(default_factory=Pool)
    bits: ConstraintBits = ALL_ALIKE
    nodes: WorstFit = field(default_factory=WorstFit)
    held_up_by: tuple[int, int] | None = None


@dataclass(frozen=True)
class PlanContext:
    """The facts of one plan.

    Attributes:
        plugins: The loaded plugins, by name.
        nodes: The instance's nodes.
        limits: The plan's restrictions.
        scheduler: The instance's rules for starting jobs.
        facts: The plugins' facts about themselves.
        lives: How long nodes live.
        requests: The jobs' requests.
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
    """Ask the plugins about themselves, and return the facts needed before any job."""
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
