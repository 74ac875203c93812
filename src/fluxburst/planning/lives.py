"""How long nodes live, to one plan: which jobs they outlive, and how long new leases are to be."""

from __future__ import annotations

import functools
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from fluxburst.errors import JobspecError
from fluxburst.model.burst import COMING_STATES
from fluxburst.model.constraints import Constraint, ConstraintBits, Ends
from fluxburst.model.job import Job
from fluxburst.model.jobspec import Chunk
from fluxburst.model.node import Node, NodeType
from fluxburst.packing.fitting import could_fit
from fluxburst.planning.lifespans import Lifespans, why_not_renewable
from fluxburst.plugin.base import BurstPlugin


@dataclass(frozen=True)
class Lives:
    """What is known of lifetimes when a plan is made.

    Attributes:
        lifespans: The lifetimes of the configuration.
        now: The time, in seconds since the epoch.
        ends: Until when a job may run on the nodes of bursts, by the bursts' names, in seconds
            since the epoch; those that need not end are left out.
    """

    lifespans: Lifespans = field(default_factory=Lifespans)
    now: float = 0.0
    ends: Mapping[str, float] = field(default_factory=dict)


class PlannedLives:
    """What a plan asks about the lives of nodes.

    Args:
        lives: What is known of them.
        plugins: The loaded plugins, by name.
        types: What they can supply.
        nodes: The instance's nodes.
    """

    def __init__(
        self,
        lives: Lives,
        plugins: Mapping[str, BurstPlugin],
        types: Mapping[str, Sequence[NodeType]],
        nodes: Sequence[Node],
    ) -> None:
        self._lives = lives
        self._lifespans = lives.lifespans
        self._types = types
        self._nodes = tuple(nodes)
        self._fixed = {name: why_not_renewable(plugin) for name, plugin in plugins.items()}
        bursts = [burst for plugin in plugins.values() for burst in plugin.bursts.values()]
        ends = lives.ends
        self._hosts = {h: ends[b.name] for b in bursts if b.name in ends for h in b.hostnames}
        self._coming = [
            (burst.name, ends.get(burst.name, math.inf))
            for burst in bursts
            if burst.state in COMING_STATES and not burst.isolated
        ]
        self._lasting = functools.lru_cache(maxsize=None)(self._lasting_of)

    def until(self, job: Job) -> float:
        """Return until when a node has to live for a job; 0 where that does not matter.

        Raises:
            JobspecError: if its duration is malformed.
        """
        needed = self._lifespans.needed(job)
        return self._lives.now + needed if needed else 0.0

    def constraint_bits(
        self, constraints: Collection[Constraint], jobs: Iterable[Job]
    ) -> ConstraintBits:
        """Return how nodes are told apart by constraints, and by what jobs need."""
        coming = [end for _, end in self._coming]
        ends = Ends(self._hosts, coming, self._new_ends(), self._untils(jobs))
        return ConstraintBits(constraints, ends)

    def known_to(
        self,
        constraint_bits: ConstraintBits,
        constraints: Collection[Constraint],
        jobs: Iterable[Job],
    ) -> bool:
        """Whether nodes were told apart by what these constraints and jobs need, too."""
        return constraint_bits.know(constraints) and constraint_bits.ends.judge(
            self._untils(jobs), self._new_ends()
        )

    def of_new(self, plugin: str, constraint_bits: ConstraintBits) -> ConstraintBits:
        """Return the kinds, with the ends of the nodes that a plugin would bring up now."""
        return constraint_bits.for_types(
            {one.name: self._end(one, plugin) for one in self._types[plugin]}
        )

    def of_coming(
        self, burst: str, node_type: NodeType, constraint_bits: ConstraintBits
    ) -> ConstraintBits:
        """Return the kinds, with the end of the nodes of a burst that are still to join."""
        return constraint_bits.for_types({node_type.name: self._lives.ends.get(burst, math.inf)})

    def burst_for(self, until: float) -> str:
        """Return the last burst that is coming and lives until then; empty for none."""
        return next((name for name, end in reversed(self._coming) if end >= until), "")

    def nodes_for(self, until: float) -> tuple[Node, ...]:
        """Return the nodes that live until then."""
        return self._lasting(until) if self._hosts else self._nodes

    def lease_for(self, plugin: str, jobs: Iterable[Job]) -> float | None:
        """Return how long a lease has to be for jobs; None for that of the configuration."""
        fixed = self._fixed[plugin]
        return self._lifespans.lease_for(self._lifespans.longest(jobs), fixed) if fixed else None

    def why_too_short(
        self, job: Job, chunks: Sequence[Chunk], plugin: str, constraint: Constraint
    ) -> str:
        """Return why no new nodes of a plugin outlive a job; empty where some do.

        Only types that have room for it count; where none has, that is for others to say.
        """
        needed, types, fixed = self._lifespans.needed(job), self._types[plugin], self._fixed[plugin]
        suits = self._lifespans.suits
        if all(suits(needed, one, fixed) for one in types or (None,)):
            return ""
        roomy = [one for one in types if could_fit(chunks, [one], constraint)]
        if types and not roomy:
            return ""
        return self._lifespans.why_too_short(needed, plugin, roomy, fixed)

    def _end(self, node_type: NodeType, plugin: str) -> float:
        return self._lives.now + self._lifespans.for_jobs(node_type, self._fixed[plugin])

    def _new_ends(self) -> list[float]:
        return [self._end(one, name) for name, types in self._types.items() for one in types]

    def _untils(self, jobs: Iterable[Job]) -> set[float]:
        untils = set()
        for job in jobs:
            try:
                untils.add(self.until(job))
            except JobspecError:
                continue  # it fails alone, when it is asked about
        return untils

    def _lasting_of(self, until: float) -> tuple[Node, ...]:
        return tuple(n for n in self._nodes if self._hosts.get(n.hostname, math.inf) >= until)
