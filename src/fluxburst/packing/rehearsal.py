"""Counts nodes so that jobs start: starts assigned jobs as the scheduler would.

Jobs that fit together when packed tightly may not fit as the scheduler places them: it
follows the queue order, other jobs before them take room, too, and in strict
order, one that cannot start blocks all behind it. So nodes are added until the jobs start, and
assignments of jobs that would wait anyway are withdrawn.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from fluxburst.model.jobspec import Chunk
from fluxburst.packing.limits import Owner
from fluxburst.packing.packer import Packer
from fluxburst.packing.pool import Supply
from fluxburst.packing.worst_fit import WorstFit

SPREAD = 0.08
"""The extra cost allowed beyond tight packing, as a fraction, so that jobs start."""

ROUNDS = 8
"""How many rounds of adding nodes and restarting all jobs: earlier jobs use the nodes, too."""


class Claim(NamedTuple):
    """A job that the scheduler will start, or that blocks those behind it.

    Attributes:
        job: Its id.
        chunks: Its request.
        required_bits: Its constraint's bits, which are all that the scheduler checks.
        needs: The bits required of nodes added for it; they may include how long these live.
        owner: The owner of its assigned nodes; None for jobs without an assignment.
    """

    job: int
    chunks: tuple[Chunk, ...]
    required_bits: int
    needs: int
    owner: Owner | None = None

    @property
    def cores(self) -> int:
        """How many cores it requests."""
        return sum(chunk.count * chunk.cores for chunk in self.chunks)


@dataclass
class Outlook:
    """The fate of the jobs.

    Attributes:
        waiting: The assigned jobs that would wait, each with the job that blocks it: itself
            if there is no room for it.
        opened: Jobs that nodes were added for, each with their type.
        users: For each owner and node type, the jobs on its new nodes.
        held_up_by: The job that blocks all behind it; None for none.
        unused: New nodes without a job once all assigned jobs have started: the number of
            their supply, their bits, and how many.
        left: The nodes once all jobs have started.
    """

    waiting: dict[int, int] = field(default_factory=dict)
    opened: dict[int, str] = field(default_factory=dict)
    users: dict[tuple[Owner, str], list[int]] = field(default_factory=dict)
    held_up_by: int | None = None
    unused: list[tuple[int, int, int]] | None = None
    left: WorstFit = field(default_factory=WorstFit)

    def note_waiting(self, claim: Claim, held_up_by: int) -> None:
        """Note that a job would wait, if it is assigned."""
        if claim.owner is not None:
            self.waiting[claim.job] = held_up_by

    def note_blocked(self, claim: Claim, *, strict: bool) -> None:
        """Note that there is no room for a job, which then may block all behind it."""
        self.note_waiting(claim, claim.job)
        if strict:
            self.held_up_by = claim.job


class _Purse:
    """What nodes may be added for, in one round.

    Attributes:
        left: The remaining budget.
        owed: Cores that jobs lack beside GPUs, without nodes added for them yet.
    """

    def __init__(self, budget: float, claims: Sequence[Claim]) -> None:
        self.left = budget
        self.owed = 0
        own = [claim for claim in claims if claim.owner is not None]
        cores = [chunk.cores for claim in own for chunk in claim.chunks]
        self._largest = max(cores, default=1)
        self._mean = sum(cores) / max(1, len(cores))
        self._behind = sum(claim.cores for claim in own)

    def pass_by(self, claim: Claim) -> None:
        """Note that a job is no longer behind."""
        if claim.owner is not None:
            self._behind -= claim.cores

    def usable_cores(self, supply: Supply, claim: Claim) -> float:
        """Return how many cores of a new node jobs are likely to use.

        Worst fit leaves slightly less room on each node than the largest job needs.
        """
        usable = supply.node_type.cores - self._largest + self._mean
        return max(1.0, min(usable, claim.cores + self._behind))

    def nodes_owed(self, supply: Supply, claim: Claim) -> float:
        """Return how many nodes of a type have the cores that jobs lack beside GPUs."""
        cores = supply.node_type.cores
        if not cores or not supply.matches(claim.needs):
            return math.inf
        return max(0, -(-(self.owed + claim.cores) // cores))


def _nodes(nodes: WorstFit, supply: Supply, claim: Claim) -> float:
    """Return how many nodes of a type a job lacks to start; infinite if none would do."""
    if not all(supply.fits(chunk, claim.needs) for chunk in claim.chunks):
        return math.inf
    return sum(
        supply.nodes_for(chunk, nodes.units_short(chunk, claim.required_bits))
        for chunk in claim.chunks
    )


class Rehearsal:
    """Starts jobs by worst fit, in queue order.

    Args:
        nodes: Existing or coming ones.
        packers: The packers that opened the new nodes, by owner.
        packer_of: Returns an owner's packer, updated with what others have opened.
        strict: A job that cannot start blocks all behind it.
    """

    def __init__(
        self,
        nodes: WorstFit,
        packers: Mapping[Owner, Packer],
        packer_of: Callable[[Owner], Packer],
        *,
        strict: bool,
    ) -> None:
        self._nodes = nodes
        self._packer_of = packer_of
        self._strict = strict
        self._supplies = [
            (owner, supply) for owner, packer in packers.items() for supply in packer.supplies
        ]
        self._priced = any(supply.node_type.price for _, supply in self._supplies)
        self._opened: dict[int, str] = {}
        self._many = False

    def run(self, claims: Sequence[Claim], *, trim: bool) -> Outlook:
        """Add the nodes that jobs lack, and return the fate of the jobs.

        Args:
            claims: All waiting jobs, in queue order.
            trim: Remove new nodes that no job would use.
        """
        budget = self._budget(claims)
        for _ in range(ROUNDS):
            spent, outlook = self._replay(claims, budget)
            if not spent:
                break
            budget -= spent
        else:
            _, outlook = self._replay(claims, 0.0)
        if trim and self._close(outlook):
            _, outlook = self._replay(claims, 0.0)
        outlook.opened = {
            job: node_type for job, node_type in self._opened.items() if job not in outlook.waiting
        }
        return outlook

    # --- the allowed cost ------------------------------------------------------------------

    def _weight(self, supply: Supply) -> float:
        """Return the cost of a node, or its size if nothing has a price."""
        node_type = supply.node_type
        return node_type.price if self._priced else float(max(1, node_type.cores))

    def _budget(self, claims: Sequence[Claim]) -> float:
        """Return the budget for additions: part of what exists, or enough for the largest job."""
        packed = sum(self._weight(supply) * supply.opened for _, supply in self._supplies)
        own = [claim for claim in claims if claim.owner is not None]
        alone = max((self._cost_alone(claim) for claim in own), default=0.0)
        self._many = SPREAD * packed > alone
        return max(SPREAD * packed, alone)

    def _cost_alone(self, claim: Claim) -> float:
        costs = [
            self._weight(supply)
            * sum(supply.nodes_for(chunk, chunk.count) for chunk in claim.chunks)
            for _, supply in self._supplies
            if all(supply.fits(chunk, claim.needs) for chunk in claim.chunks)
        ]
        return min(costs, default=0.0)

    # --- starting the jobs -----------------------------------------------------------------

    def _replay(self, claims: Sequence[Claim], budget: float) -> tuple[float, Outlook]:
        """Start all jobs; where there is no room, add nodes within the budget."""
        nodes = self._all_nodes()
        outlook, purse = Outlook(left=nodes), _Purse(budget, claims)
        for claim, payer in zip(claims, _payers(claims), strict=True):
            if payer is None and outlook.unused is None:
                outlook.unused = _by_source(nodes)
            if payer is None and outlook.held_up_by is not None:
                break  # no assigned job is behind it
            purse.pass_by(claim)
            if outlook.held_up_by is not None:
                outlook.note_waiting(claim, outlook.held_up_by)
                continue
            users = nodes.place(claim.chunks, claim.required_bits)
            if users is None and payer and self._add_nodes(nodes, claim, payer, purse):
                users = nodes.place(claim.chunks, claim.required_bits) or ()
            if users is None:
                outlook.note_blocked(claim, strict=self._strict)
            elif claim.owner is not None:
                self._note_users(outlook, claim.job, users)
        if outlook.unused is None:
            outlook.unused = _by_source(nodes)
        return budget - purse.left, outlook

    def _all_nodes(self) -> WorstFit:
        """Return the existing or coming nodes, and the new ones."""
        nodes = self._nodes.copy()
        for source, (_, supply) in enumerate(self._supplies, start=1):
            for free, count in supply.opened_nodes():
                self._put_in(nodes, supply, source, free.bits, count)
        return nodes

    def _note_users(self, outlook: Outlook, job: int, sources: Collection[int]) -> None:
        for source in sources:
            if source:
                owner, supply = self._supplies[source - 1]
                outlook.users.setdefault((owner, supply.node_type.name), []).append(job)

    @staticmethod
    def _put_in(nodes: WorstFit, supply: Supply, source: int, bits: int, count: int) -> None:
        node_type = supply.node_type
        nodes.add(count, node_type.cores, node_type.gpus, bits, source=source)

    def _add_nodes(self, nodes: WorstFit, claim: Claim, payer: Claim, purse: _Purse) -> bool:
        """Add a minimum of nodes so that a job starts; return whether that was possible.

        They belong to ``payer``: the job itself, or the next assigned job. If other
        jobs have taken the free cores beside GPUs, and there are many of these jobs, they
        get cores elsewhere, which helps in the next round.
        """
        if payer.owner is None or purse.left <= 0:
            return False
        packer = self._packer_of(payer.owner)
        packer.check_limits()
        crowded = self._many and nodes.is_crowded(claim.chunks, claim.required_bits)
        best: tuple[float, int, Supply, int] | None = None
        for source, (owner, supply) in enumerate(self._supplies, start=1):
            if owner != payer.owner:
                continue
            count = purse.nodes_owed(supply, claim) if crowded else _nodes(nodes, supply, claim)
            cost = count * self._weight(supply)
            if count > supply.available_for(claim.needs) or cost > purse.left:
                continue
            key = self._weight(supply) / purse.usable_cores(supply, claim)
            if best is None or key < best[0]:
                best = key, source, supply, int(count)
        if best is None:
            return False
        _, source, supply, count = best
        if crowded:
            purse.owed += claim.cores - count * supply.node_type.cores
        purse.left -= count * self._weight(supply)
        self._opened[payer.job] = supply.node_type.name
        for free, opened in packer.open_more(supply, count, claim.needs):
            self._put_in(nodes, supply, source, free.bits, opened)
        return True

    def _close(self, outlook: Outlook) -> bool:
        """Remove unused new nodes; return whether there were any."""
        for source, bits, nodes in outlook.unused or ():
            owner, supply = self._supplies[source - 1]
            self._packer_of(owner).close(supply, bits, nodes)
        return bool(outlook.unused)


def _payers(claims: Sequence[Claim]) -> list[Claim | None]:
    """Return for each job itself, or the next assigned job behind it; None for none."""
    payers: list[Claim | None] = []
    following = None
    for claim in reversed(claims):
        following = following if claim.owner is None else claim
        payers.append(following)
    return payers[::-1]


def _by_source(left: WorstFit) -> list[tuple[int, int, int]]:
    return [(source, bits, nodes) for source, bits, nodes in left.untouched() if source]
