"""How long nodes live, and which jobs they can outlive.

A job is only placed where its node outlives it. Nodes end with the configured maximum lifetime,
with that of their type, and with their lease, if it cannot be renewed. In each case, the time for
starting nodes and for terminating them is not available to jobs.
"""

from __future__ import annotations

import functools
import math
import sys
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from fluxburst.config.policy import Lifetimes
from fluxburst.errors import JobspecError, described
from fluxburst.formats.units import format_duration
from fluxburst.model.burst import COMING_STATES, Burst
from fluxburst.model.constraints import Constraint, ConstraintBits, Ends
from fluxburst.model.job import Job
from fluxburst.model.jobspec import Chunk
from fluxburst.model.node import Node, NodeType
from fluxburst.packing.fitting import could_fit
from fluxburst.plugin.base import BurstPlugin

if TYPE_CHECKING:
    from fluxburst.ledger import Entry

ANY_LENGTH = sys.float_info.max
"""A time longer than any request, in seconds."""


def why_not_renewable(plugin: BurstPlugin) -> str:
    """Return why leases of a plugin cannot be renewed, in its own words; empty if they can.

    A plugin that cannot tell counts as one without renewal.
    """
    try:
        answer = plugin.not_renewable
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # noqa: BLE001 - a provider's library may raise anything
        return f"not_renewable: {described(error)}"
    if isinstance(answer, str):
        return answer
    return f"not_renewable returned {answer!r}, which is not text"


@dataclass(frozen=True)
class Lifespans:
    """The configured lifetimes, as they affect jobs. All durations in seconds."""

    lifetimes: Lifetimes = field(default_factory=Lifetimes)

    @property
    def lease(self) -> float:
        """The default length of a lease."""
        return min(self.lifetimes.lease, self.lifetimes.max_lifetime)

    @property
    def teardown(self) -> float:
        """How long before its end a burst's termination starts."""
        return min(self.lifetimes.teardown, self.lease / 2)

    def needed(self, job: Job) -> float:
        """Return how long a node must live for a job; 0 if that does not matter.

        Raises:
            JobspecError: if its duration is malformed.
        """
        return job.duration or self.lifetimes.assumed_duration

    def longest(self, jobs: Iterable[Job]) -> float:
        """Return how long a node must live for the longest of some jobs."""
        return max((self.needed(job) for job in jobs), default=0.0)

    # --- new nodes -------------------------------------------------------------------------

    def of_type(self, node_type: NodeType | None) -> float:
        """Return the maximum life of a type's nodes, from their request."""
        own = None if node_type is None else node_type.max_lifetime
        return min(self.lifetimes.max_lifetime, math.inf if own is None else own)

    def for_jobs(self, node_type: NodeType | None, fixed: str) -> float:
        """Return the maximum run time of a job on a new node.

        Args:
            node_type: The type; None for a plugin that sizes its bursts itself.
            fixed: Why leases of its plugin cannot be renewed; empty if they can.
        """
        most = self.of_type(node_type) - self.lifetimes.startup - self.teardown
        # A lease that its jobs determine may have any length, but must be finite.
        return min(most, ANY_LENGTH) if fixed and math.isfinite(self.lease) else most

    def suits(self, needed: float, node_type: NodeType | None, fixed: str) -> bool:
        """Whether new nodes outlive a job of this length; see :meth:`for_jobs`."""
        return not needed or needed <= self.for_jobs(node_type, fixed)

    def lease_for(self, needed: float, fixed: str) -> float:
        """Return the length of a new burst's lease, regardless of its type's limit.

        A renewable lease has the configured length. Any other must last for the longest
        of the burst's jobs.
        """
        if not fixed or math.isinf(needed) or not needed:
            return self.lease
        sized = self.lifetimes.startup + needed + self.lifetimes.teardown
        return min(max(self.lifetimes.lease, sized), self.lifetimes.max_lifetime)

    def lease_of(self, burst: Burst, plugin: BurstPlugin, jobs: Collection[Job]) -> float:
        """Return the length of a new burst's lease: for its jobs, within its type's limit."""
        lease = self.lease_for(self.longest(jobs), why_not_renewable(plugin))
        return min(lease, self.of_type(type_of(burst, plugin)))

    def why_too_short(
        self, needed: float, plugin: str, types: Sequence[NodeType], fixed: str
    ) -> str:
        """Return why none of a plugin's new nodes outlive a job; empty if some do."""
        choices: Sequence[NodeType | None] = types or (None,)
        if any(self.suits(needed, node_type, fixed) for node_type in choices):
            return ""
        most = max(self.of_type(node_type) for node_type in choices)
        because = f" ({fixed})" if fixed else ""
        if math.isinf(needed):
            what = "it has no time limit"
            advice = "; set one, or set assumed_duration in [lifetimes]"
        else:
            what, advice = f"it may run {format_duration(needed)}", self._margins()
        if math.isinf(most):
            return f"{what}, and a lease of {plugin} cannot be renewed{because}{advice}"
        lives = f"a burst of {plugin} lives {format_duration(most)} at most"
        return f"{what}, and {lives}{because}{advice}"

    def _margins(self) -> str:
        startup, teardown = map(format_duration, (self.lifetimes.startup, self.teardown))
        return f", {startup} of it for startup and {teardown} for teardown"

    # --- existing bursts -------------------------------------------------------------------

    def limit_of(self, entry: Entry, node_type: NodeType | None, now: float) -> float:
        """Return the latest end of a burst, however often its lease is renewed.

        The configured lifetime counts from its request, its type's from the start of
        billing: from now if it still waits in its provider's queue. In
        seconds since the epoch.
        """
        own = None if node_type is None else node_type.max_lifetime
        latest = entry.requested + self.lifetimes.max_lifetime
        return latest if own is None else min(latest, entry.reserved_from(now) + own)

    def end_of(self, entry: Entry, node_type: NodeType | None, now: float, fixed: str) -> float:
        """Return the known end of a burst; inf if it need not end.

        Args:
            entry: The burst.
            node_type: Its type, if its plugin still has it.
            now: Current time, in seconds since the epoch.
            fixed: Why its lease will not be renewed; empty if it will.
        """
        latest = self.limit_of(entry, node_type, now)
        lease = entry.burst.lease_until
        return latest if lease is None or not fixed else min(latest, lease)


def type_of(burst: Burst, plugin: BurstPlugin) -> NodeType | None:
    """Return the node type of a burst; None if its plugin lacks it, or cannot tell."""
    try:
        return next((one for one in plugin.node_types() if one.name == burst.node_type), None)
    except KeyboardInterrupt:
        raise
    except BaseException:  # noqa: BLE001 - planning with it reports this
        return None


@dataclass(frozen=True)
class Lives:
    """The facts about lifetimes for a plan.

    Attributes:
        lifespans: The configured lifetimes.
        now: Current time, in seconds since the epoch.
        ends: Until when jobs may run on the nodes of bursts, by the bursts' names, in seconds
            since the epoch; endless bursts are left out.
    """

    lifespans: Lifespans = field(default_factory=Lifespans)
    now: float = 0.0
    ends: Mapping[str, float] = field(default_factory=dict)


class PlannedLives:
    """Answers a plan's questions about the lives of nodes.

    Args:
        lives: The facts about them.
        plugins: The loaded plugins, by name.
        types: Their node types.
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
        """Return until when a node must live for a job; 0 if that does not matter.

        Raises:
            JobspecError: if its duration is malformed.
        """
        needed = self._lifespans.needed(job)
        return self._lives.now + needed if needed else 0.0

    def constraint_bits(
        self, constraints: Collection[Constraint], jobs: Iterable[Job]
    ) -> ConstraintBits:
        """Return the bits that distinguish nodes by constraints, and by the needs of jobs."""
        coming = [end for _, end in self._coming]
        ends = Ends(self._hosts, coming, self._new_ends(), self._untils(jobs))
        return ConstraintBits(constraints, ends)

    def known_to(
        self,
        constraint_bits: ConstraintBits,
        constraints: Collection[Constraint],
        jobs: Iterable[Job],
    ) -> bool:
        """Whether existing bits also cover these constraints and jobs."""
        return constraint_bits.know(constraints) and constraint_bits.ends.judge(
            self._untils(jobs), self._new_ends()
        )

    def of_new(self, plugin: str, constraint_bits: ConstraintBits) -> ConstraintBits:
        """Return the bits, with the ends of nodes that a plugin would provision now."""
        return constraint_bits.for_types(
            {one.name: self._end(one, plugin) for one in self._types[plugin]}
        )

    def of_coming(
        self, burst: str, node_type: NodeType, constraint_bits: ConstraintBits
    ) -> ConstraintBits:
        """Return the bits, with the end of the nodes of a burst that are still to join."""
        return constraint_bits.for_types({node_type.name: self._lives.ends.get(burst, math.inf)})

    def burst_for(self, until: float) -> str:
        """Return the last burst that is coming and lives until then; empty for none."""
        return next((name for name, end in reversed(self._coming) if end >= until), "")

    def nodes_for(self, until: float) -> tuple[Node, ...]:
        """Return the nodes that live until then."""
        return self._lasting(until) if self._hosts else self._nodes

    def lease_for(self, plugin: str, jobs: Iterable[Job]) -> float | None:
        """Return how long a lease must be for jobs; None for the configured length."""
        fixed = self._fixed[plugin]
        return self._lifespans.lease_for(self._lifespans.longest(jobs), fixed) if fixed else None

    def why_too_short(
        self, job: Job, chunks: Sequence[Chunk], plugin: str, constraint: Constraint
    ) -> str:
        """Return why none of a plugin's new nodes outlive a job; empty if some do.

        Only types with room for it count; if none has room, other checks report it.
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
                continue  # its own check reports the error
        return untils

    def _lasting_of(self, until: float) -> tuple[Node, ...]:
        return tuple(n for n in self._nodes if self._hosts.get(n.hostname, math.inf) >= until)
