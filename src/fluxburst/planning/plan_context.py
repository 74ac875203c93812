"""What one plan knows of the instance and its plugins, for all steps of the plan to look up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fluxburst.model.node import Node
from fluxburst.model.scheduler import Scheduler
from fluxburst.planning.facts import PluginFacts
from fluxburst.planning.job_requests import JobRequests
from fluxburst.planning.lives import PlannedLives
from fluxburst.planning.plan_inputs import PlanLimits
from fluxburst.plugin.adapter import provider_of
from fluxburst.plugin.base import BurstPlugin


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
