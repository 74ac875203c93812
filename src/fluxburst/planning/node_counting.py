"""Counts nodes: free or coming ones, and new ones for accepted jobs.

Accepted jobs without room on either are turned away.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from fluxburst.model.burst import COMING_STATES, Burst
from fluxburst.model.constraints import ConstraintBits
from fluxburst.model.node import Node, NodeType
from fluxburst.packing.fitting import fits_now
from fluxburst.packing.limits import Owner
from fluxburst.packing.packer import Packer, Packing
from fluxburst.packing.pool import Candidates, Pool
from fluxburst.packing.worst_fit import WorstFit
from fluxburst.planning.draft import Candidate, Draft, IsolatedJob, PlannedBursts
from fluxburst.planning.lifespans import PlannedLives
from fluxburst.planning.offering import Refusals
from fluxburst.planning.plan_inputs import PlanContext
from fluxburst.plugin.base import BurstPlugin, as_burst_error


class Coming(NamedTuple):
    """Nodes of a burst that are not up yet: a certain declared node, or any of its type."""

    burst: str
    node_type: NodeType
    nodes: int
    hostname: str = ""
    rank: int | None = None


class Existing:
    """The nodes of an instance, and those coming in bursts.

    Args:
        nodes: The nodes of the instance, by rank.
        plugins: The plugins, with their bursts.
        types: The node types of each plugin.
        lives: How long nodes live.
    """

    def __init__(
        self,
        nodes: Sequence[Node],
        plugins: Mapping[str, BurstPlugin],
        types: Mapping[str, Sequence[NodeType]],
        lives: PlannedLives,
    ) -> None:
        self._nodes = nodes
        self._lives = lives
        self._known = {node.hostname: node for node in nodes}
        self._bursts = [
            (burst, node_type)
            for name, plugin in plugins.items()
            for burst in plugin.bursts.values()
            if not burst.isolated
            for node_type in types[name]
            if node_type.name == burst.node_type
        ]

    def pool(self, constraint_bits: ConstraintBits) -> Pool:
        """Return the free or coming nodes, counted."""
        others = {
            host: tuple(sorted(node_type.resources.items()))
            for burst, node_type in self._bursts
            if node_type.resources
            for host in burst.hostnames
        }
        pool = Pool()
        for node in self._nodes:
            pool.add_node(node, constraint_bits, others.get(node.hostname, ()))
        for coming in self._coming():
            theirs = self._lives.of_coming(coming.burst, coming.node_type, constraint_bits)
            pool.add_type(coming.node_type, coming.nodes, theirs, coming.hostname, coming.rank)
        return pool

    def worst_fit(self, constraint_bits: ConstraintBits) -> WorstFit:
        """Return the free or coming nodes, by rank if known."""
        there = [
            (
                node.rank,
                1,
                node.free_cores,
                node.free_gpus,
                constraint_bits.of(node.properties, node.hostname, node.rank),
                node.free_cores == node.cores,
            )
            for node in self._nodes
            if node.usable
        ]
        above = max((node.rank for node in self._nodes), default=-1) + 1
        for burst, node_type, count, hostname, rank in self._coming():
            bits = self._lives.of_coming(burst, node_type, constraint_bits).of_type(
                node_type, hostname, rank
            )
            order = above if rank is None else rank
            there.append((order, count, node_type.cores, node_type.gpus, bits, True))
        nodes = WorstFit()
        for _, count, cores, gpus, bits, idle in sorted(there):
            nodes.add(count, cores, gpus, bits, idle=idle)
        return nodes

    def _coming(self) -> Iterator[Coming]:
        for burst, node_type in self._bursts:
            if burst.state in COMING_STATES:
                yield from self._coming_of(burst, node_type)

    def _coming_of(self, burst: Burst, node_type: NodeType) -> Iterator[Coming]:
        """Yield the nodes of a burst that are not up yet, as the hosts they will be."""
        hosts = dict.fromkeys(burst.hostnames or burst.hosts)
        down = [host for host in hosts if host not in self._known or not self._known[host].up]
        missing = max(0, burst.nodes - (len(hosts) - len(down)))
        for host in down[:missing]:
            rank = self._known[host].rank if host in self._known else None
            yield Coming(burst.name, node_type, 1, host, rank)
        if missing > len(down):
            yield Coming(burst.name, node_type, missing - len(down))


class OwnerPackers:
    """One packer for each owner. They share existing nodes, and the budget.

    Args:
        context: The facts of the plan.
        bursts: The planned bursts.
        existing: The free or coming nodes; may be replaced before jobs are placed.

    Attributes:
        existing: The same.
        by_owner: The packers.
    """

    def __init__(self, context: PlanContext, bursts: PlannedBursts, existing: Pool) -> None:
        self.existing = existing
        self.by_owner: dict[Owner, Packer] = {}
        self._plugins = context.plugins
        self._facts = context.facts
        self._limits = context.limits
        self._budget = context.limits.budget.copy()
        self._lives = context.lives
        self._requests = context.requests
        self._bursts = bursts

    def of(self, owner: Owner) -> Packer:
        """Return an owner's packer, updated with the nodes that others have opened."""
        name = owner.plugin
        if owner not in self.by_owner:
            self.by_owner[owner] = self.new(owner, self.existing)
        in_use = Counter(self._facts.in_use[name])
        hosts: set[str] = set()
        for other, packer in self.by_owner.items():
            if other.plugin == name and other != owner:
                in_use.update(packer.new_nodes)
                hosts.update(*packer.hosts.values())
        self.by_owner[owner].in_use = in_use
        self.by_owner[owner].keep_off(hosts)
        return self.by_owner[owner]

    def new(self, owner: Owner, existing: Pool) -> Packer:
        """Return a packer for an owner's jobs, on existing and on new nodes."""
        name, closed = owner.plugin, self.closed_to(owner)
        open_types = [t for t in self._facts.types[name] if (name, t.name) not in closed]
        return Packer(
            open_types,
            existing,
            self._facts.in_use[name],
            self._lives.of_new(name, self._requests.bits),
            self._budget,
            owner,
            self._candidates_of(name, open_types),
        )

    def closed_to(self, owner: Owner) -> Mapping[tuple[str, str], str]:
        """Return the types closed to an owner, including those that another's burst tries."""
        opened = {
            (other.plugin, node_type)
            for other, packer in self.by_owner.items()
            if other != owner
            for node_type in packer.new_nodes
        } | {(alone.owner.plugin, alone.node_type) for alone in self._bursts.isolated}
        tried = {which: why for which, why in self._limits.tried.items() if which in opened}
        return {**self._limits.closed, **tried}

    def leftover(self) -> Pool:
        """Return the capacity left on existing and new nodes once all jobs are placed."""
        for packer in self.by_owner.values():
            self.existing.absorb(packer.leftover())
        return self.existing

    def _candidates_of(self, name: str, types: Sequence[NodeType]) -> Mapping[str, Candidates]:
        """Return the declared nodes that new nodes may join as, if that matters and is known.

        An isolated burst's hosts are not this instance's.
        """
        if self._facts.of[name].isolated or not self._requests.bits.names_nodes:
            return {}
        plugin = self._plugins[name]
        try:
            answers = {one.name: plugin.candidates(one.name) for one in types}
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # noqa: BLE001 - a provider's library may raise anything
            self._facts.unusable.setdefault(name, as_burst_error(error, name))
            return {}
        return {node_type: known for node_type, known in answers.items() if known is not None}


class NodeCounter:
    """Assigns accepted jobs to nodes: to existing ones, or to new ones of a burst.

    Args:
        context: The facts of the plan.
        draft: The decisions on jobs so far.
        bursts: The planned bursts.
        packers: Open nodes for each owner.
        refusals: Explains why jobs are turned away.
    """

    def __init__(
        self,
        context: PlanContext,
        draft: Draft,
        bursts: PlannedBursts,
        packers: OwnerPackers,
        refusals: Refusals,
    ) -> None:
        self._plugins = context.plugins
        self._limits = context.limits
        self._facts = context.facts
        self._lives = context.lives
        self._requests = context.requests
        self._draft = draft
        self._bursts = bursts
        self._packers = packers
        self._refusals = refusals

    def count(self, accepted: Mapping[str, Sequence[Candidate]]) -> list[Candidate]:
        """Count the nodes for accepted jobs; return jobs without room."""
        left_over: list[Candidate] = []
        for name, candidates in accepted.items():
            if not self._facts.types[name]:
                for candidate in candidates:
                    self._draft.assign(candidate, name, f"{name} accepts it")
                continue
            pack = self._pack_isolated if self._facts.of[name].isolated else self._pack
            for owner, theirs in self._by_owner(name, candidates).items():
                left_over += pack(owner, theirs)
        return sorted(left_over, key=lambda candidate: candidate.turn)

    def _by_owner(
        self, name: str, candidates: Sequence[Candidate]
    ) -> Mapping[Owner, Sequence[Candidate]]:
        """Return a plugin's accepted jobs by the owner charged for their bursts."""
        owners: dict[Owner, list[Candidate]] = {}
        for candidate in candidates:
            owner = Owner(name)
            if self._limits.by_owner:
                owner = Owner(name, candidate.job.user, candidate.job.queue)
            owners.setdefault(owner, []).append(candidate)
        return {
            owner._replace(lease=self._lives.lease_for(name, [c.job for c in theirs])): theirs
            for owner, theirs in owners.items()
        }

    def _pack(self, owner: Owner, candidates: Sequence[Candidate]) -> list[Candidate]:
        """Count the nodes for one owner's jobs; return jobs without room."""
        name = owner.plugin
        left_over: list[Candidate] = []
        packing = self._packed(owner, candidates)
        for candidate in candidates:
            jobid = candidate.id
            if jobid in packing.unplaced:
                self._turn_away(owner, candidate, packing.unplaced[jobid])
                left_over.append(candidate)
            elif jobid in packing.placed:
                node_type = packing.placed[jobid]
                self._bursts.add(owner, node_type, jobid)
                why = f"{name} accepts it on new {node_type!r} nodes"
                self._draft.assign(candidate, name, why, owner)
            else:
                self._note_shared_burst(candidate, name)
                why = f"{name} accepts it; it fits on nodes that are free or coming"
                self._draft.assign(candidate, name, why, owner)
        return left_over

    def _packed(self, owner: Owner, candidates: Sequence[Candidate]) -> Packing:
        """Place jobs; a job that did not start on free nodes is placed on new ones only."""
        packer = self._packers.of(owner)
        shunning = {c.id for c in candidates if self._limits.shuns_free_nodes(c.id)}
        demands = [self._requests.demand(candidate, owner.plugin) for candidate in candidates]
        packing = packer.pack([demand for demand in demands if demand.job not in shunning])
        if not shunning:
            return packing
        existing, packer.existing = packer.existing, Pool()
        try:
            more = packer.pack([demand for demand in demands if demand.job in shunning])
        finally:
            packer.existing = existing
        return Packing(
            {**packing.placed, **more.placed},
            (*packing.existing, *more.existing),
            {**packing.unplaced, **more.unplaced},
        )

    def _pack_isolated(self, owner: Owner, candidates: Sequence[Candidate]) -> list[Candidate]:
        """Count the nodes for jobs that get a burst each; return jobs without room.

        An isolated burst uses none of the free or coming nodes here.
        """
        name = owner.plugin
        in_use = self._facts.in_use[name]
        left_over: list[Candidate] = []
        for candidate in candidates:
            owner = owner._replace(lease=self._lives.lease_for(name, [candidate.job]))
            packer = self._packers.new(owner, Pool())
            packing = packer.pack([self._requests.demand(candidate, name)])
            if packing.unplaced:
                self._turn_away(owner, candidate, packing.unplaced[candidate.id])
                left_over.append(candidate)
                continue
            ((node_type, nodes),) = packer.new_nodes.items()
            self._bursts.isolated.append(IsolatedJob(owner, node_type, nodes, candidate.id))
            in_use[node_type] = in_use.get(node_type, 0) + nodes
            why = f"{name} accepts it in an isolated burst of {nodes} {node_type!r} nodes"
            self._draft.assign(candidate, name, why)
        return left_over

    def _turn_away(self, owner: Owner, candidate: Candidate, why: str) -> None:
        """Note that there is no room for an accepted job."""
        name, closed = owner.plugin, self._packers.closed_to(owner)
        said = self._refusals.why_no_nodes(candidate, name, why, closed)
        candidate.reasons.append(said)
        del self._plugins[name].jobs[candidate.id]

    def _note_shared_burst(self, candidate: Candidate, name: str) -> None:
        """Note which burst a job shares that fits, but not on currently free nodes."""
        until = self._lives.until(candidate.job)
        burst = self._lives.burst_for(until)
        nodes = self._lives.nodes_for(until)
        constraint = self._requests.constraint_with(name, candidate.id)
        if burst and not fits_now(candidate.chunks, nodes, constraint):
            self._draft.shares_burst[candidate.id] = burst
