"""Counting the nodes for jobs that plugins have accepted; those without room are turned away."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from fluxburst.packing.fitting import fits_now
from fluxburst.packing.limits import Owner
from fluxburst.packing.packer import Packing
from fluxburst.packing.pool import Pool
from fluxburst.planning.draft import Candidate, Draft
from fluxburst.planning.owner_packers import OwnerPackers
from fluxburst.planning.plan_context import PlanContext
from fluxburst.planning.planned_bursts import IsolatedJob, PlannedBursts
from fluxburst.planning.refusals import Refusals


class NodeCounter:
    """Assigns accepted jobs to nodes: to existing ones, or to new ones of a burst.

    Args:
        context: What the plan knows.
        draft: What is decided of each job.
        bursts: Which bursts are planned.
        packers: What opens nodes for each owner.
        refusals: What is said of jobs that are turned away.
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
        """Count the nodes for what plugins accepted; return what there is no room for."""
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
        """Return the jobs that a plugin accepts by whom their bursts are charged to."""
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
        """Count the nodes for one owner's jobs; return those that there is no room for."""
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
        """Place jobs; those that did not start on free nodes are not left to them again."""
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
        """Count the nodes for jobs that get a burst each; return those that there is no room for.

        An isolated burst has nothing of what is free here, or coming.
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
        """Note that there is no room for a job that a plugin has accepted."""
        name, closed = owner.plugin, self._packers.closed_to(owner)
        said = self._refusals.why_no_nodes(candidate, name, why, closed)
        candidate.reasons.append(said)
        del self._plugins[name].jobs[candidate.id]

    def _note_shared_burst(self, candidate: Candidate, name: str) -> None:
        """Note which burst a job shares that fits, but not on what is free by now."""
        until = self._lives.until(candidate.job)
        burst = self._lives.burst_for(until)
        nodes = self._lives.nodes_for(until)
        constraint = self._requests.constraint_with(name, candidate.id)
        if burst and not fits_now(candidate.chunks, nodes, constraint):
            self._draft.shares_burst[candidate.id] = burst
