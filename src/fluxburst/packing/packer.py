"""How many nodes of which type a set of jobs needs: pure functions over plain data.

First-fit decreasing, and within it the tightest fit.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from fluxburst.config.policy import Limits
from fluxburst.model.constraints import ALL_ALIKE, ConstraintBits
from fluxburst.model.jobspec import Chunk
from fluxburst.model.node import NodeType
from fluxburst.packing.fitting import could_fit as could_fit  # plugins of 0.1 import it from here
from fluxburst.packing.fitting import why_no_type, why_not
from fluxburst.packing.limits import Budget, Owner, Spent
from fluxburst.packing.pool import (
    Candidates,
    Opened,
    PendingRelease,
    PlacementStep,
    Pool,
    Supply,
    commit,
    place,
    take,
    units_that_fit,
)


class Demand(NamedTuple):
    """A job to be placed: its id, its request, and its rank in the queue (low first).

    ``required_bits`` are its constraint's bits, which its nodes need; 0 for none.
    """

    job: int
    chunks: tuple[Chunk, ...]
    turn: int = 0
    required_bits: int = 0


@dataclass(frozen=True)
class Packing:
    """The result of one call.

    Attributes:
        placed: For each job that uses new nodes, their type.
        existing: The jobs that fit on free or coming nodes.
        unplaced: Why each unplaced job was not placed.
    """

    placed: Mapping[int, str]
    existing: tuple[int, ...]
    unplaced: Mapping[int, str]


NOBODY = Owner("")


def _share(chunk: Chunk, units: int, node_type: NodeType, nodes: int) -> float:
    """The share of ``nodes`` new nodes that the units use, in their most used dimension."""
    used = max(
        chunk.cores / node_type.cores if node_type.cores else 0.0,
        chunk.gpus / node_type.gpus if node_type.gpus else 0.0,
        chunk.memory / node_type.memory if node_type.memory else 0.0,
    )
    return 1.0 if chunk.exclusive else min(1.0, max(used * units / nodes, 1e-9))


class _State(NamedTuple):
    """The mutable state of packing."""

    existing: Pool
    supplies: list[Supply]
    budget: Budget


class Packer:
    """Places the jobs of one plugin, first on existing nodes, then on a minimum of new ones.

    It may be called several times; later calls fill up nodes opened by earlier ones.
    ``in_use`` may be replaced in between.

    Args:
        node_types: The plugin's node types.
        existing: Free or coming nodes; shared between the packers of several plugins.
        in_use: For each node type, the number of existing nodes.
        constraint_bits: The constraints that distinguish nodes, here as in ``existing``.
        budget: What the configured limits leave; shared between packers, too.
        owner: The owner charged for new nodes.
        candidates: For node types with known hosts, the declared nodes that may join.
    """

    def __init__(
        self,
        node_types: Sequence[NodeType],
        existing: Pool,
        in_use: Mapping[str, int],
        constraint_bits: ConstraintBits = ALL_ALIKE,
        budget: Budget | None = None,
        owner: Owner = NOBODY,
        candidates: Mapping[str, Candidates] | None = None,
    ) -> None:
        self.existing = existing
        self.in_use = in_use
        self._budget = Budget(Limits(), Spent(0.0), 0.0) if budget is None else budget
        self._owner = owner
        known = candidates or {}
        self.supplies = [
            Supply(node_type, math.inf, constraint_bits, known.get(node_type.name))
            for node_type in node_types
        ]
        self._later = {"cores": 0, "gpus": 0}

    @property
    def new_nodes(self) -> dict[str, int]:
        """The number of new nodes for each node type needed."""
        return {s.node_type.name: s.opened for s in self.supplies if s.opened}

    @property
    def hosts(self) -> dict[str, tuple[str, ...]]:
        """For each node type, the hosts for its new nodes; None if any will do."""
        opened = [supply for supply in self.supplies if supply.opened]
        return {supply.node_type.name: hosts for supply in opened if (hosts := supply.hosts)}

    def keep_off(self, hosts: Collection[str]) -> None:
        """Reserve hosts for others."""
        for supply in self.supplies:
            supply.taken = hosts

    def leftover(self) -> Pool:
        """Return the rests of the new nodes."""
        pool = Pool()
        for supply in self.supplies:
            if supply.opened:
                pool.absorb(supply.pool)
        return pool

    def check_limits(self) -> None:
        """Set how many nodes of each type may follow."""
        for supply in self.supplies:
            node_type = supply.node_type
            most = math.inf if node_type.max_nodes is None else node_type.max_nodes
            left = max(0, most - self.in_use.get(node_type.name, 0) - supply.opened)
            allowed = self._budget.nodes_left(self._owner, node_type)
            supply.available = min(left, allowed)
            supply.limited = ""
            if allowed < left:
                count = int(allowed) + 1
                supply.limited = self._budget.why_not(self._owner, node_type, count)

    def _fill_new(
        self,
        supply: Supply,
        count: int,
        chunk: Chunk,
        units: int,
        required_bits: int,
        held: PendingRelease | None = None,
    ) -> None:
        """Open ``count`` more nodes of a type, and place units there."""
        opened = self.open_more(supply, count, required_bits)
        for free, nodes in opened:
            steps, units = take(chunk, units, supply.node_type.gpus, free, nodes)
            commit(chunk, steps, supply.pool, held)

    def open_more(self, supply: Supply, count: int, required_bits: int) -> list[Opened]:
        """Open ``count`` more nodes of a type that match the constraint of these bits."""
        opened = supply.open(count, required_bits)
        self._budget.spend(self._owner, supply.node_type, count)
        self.check_limits()
        return opened

    def close(self, supply: Supply, bits: int, count: int) -> None:
        """Remove unused new nodes of a type and these bits."""
        supply.close(bits, count)
        self._budget.spend(self._owner, supply.node_type, -count)

    def _state(self) -> _State:
        supplies = [supply.copy() for supply in self.supplies]
        return _State(self.existing.copy(), supplies, self._budget.copy())

    def _restore(self, state: _State) -> None:
        self.existing.restore(state.existing)
        self.supplies = state.supplies
        self._budget.restore(state.budget)

    def pack(self, demands: Sequence[Demand]) -> Packing:
        """Place each demand wholly or not at all.

        Those with constraints first, as they have fewer choices, and then the largest,
        which packs best. If the limits do not admit all of them, in queue order instead, so
        that the last in the queue are left out, not the smallest.
        """
        self.check_limits()
        if len(demands) < 2:  # whatever the order
            return self._pack_in_order(demands)
        before = self._state()
        packing = self._pack_in_order(sorted(demands, key=self._size(), reverse=True))
        if any(
            self._could_ever_fit(demand) for demand in demands if demand.job in packing.unplaced
        ):
            self._restore(before)
            packing = self._pack_in_order(sorted(demands, key=lambda demand: demand.turn))
        return packing

    def _size(self) -> Callable[[Demand], tuple[Any, ...]]:
        """Return the sort key: whether it is constrained, then its size.

        Its size is its GPUs, then the share of the largest node, then the count. Equal requests
        become neighbours.
        """
        cores = max((s.node_type.cores for s in self.supplies), default=0) or 1
        memory = max((s.node_type.memory or 0 for s in self.supplies), default=0) or math.inf

        def share(chunk: Chunk) -> float:
            return max(chunk.cores / cores, chunk.memory / memory, chunk.exclusive)

        def size(demand: Demand) -> tuple[Any, ...]:
            return (
                demand.required_bits > 0,
                max((chunk.gpus for chunk in demand.chunks), default=0),
                max((share(chunk) for chunk in demand.chunks), default=0),
                sum(chunk.count for chunk in demand.chunks),
                *_alike(demand),
                -demand.turn,
            )

        return size

    def _could_ever_fit(self, demand: Demand) -> bool:
        return any(
            all(supply.fits(chunk, demand.required_bits) for chunk in demand.chunks)
            for supply in self.supplies
        )

    def _pack_in_order(self, demands: Sequence[Demand]) -> Packing:
        placed: dict[int, str] = {}
        existing: list[int] = []
        unplaced: dict[int, str] = {}
        groups = [[*group] for _, group in itertools.groupby(demands, key=_alike)]
        # A job that fits nowhere will not fill a node that others open.
        fitting = [self._could_ever_fit(group[0]) for group in groups]
        self._later = {"cores": 0, "gpus": 0}
        for group, fits in zip(groups, fitting, strict=True):
            self._count_later(group, fits)
        for group, fits in zip(groups, fitting, strict=True):
            jobs = [demand.job for demand in group]
            chunks, required_bits = _alike(group[0])
            self._count_later(group, -fits)
            for count, node_type, why in self._place_alike(chunks, required_bits, len(jobs)):
                these, jobs = jobs[:count], jobs[count:]
                if why:
                    unplaced.update(dict.fromkeys(these, why))
                elif node_type:
                    placed.update(dict.fromkeys(these, node_type))
                else:
                    existing += these
        return Packing(placed, tuple(existing), unplaced)

    def _count_later(self, group: Sequence[Demand], sign: int) -> None:
        """Add or remove jobs in the count of equal jobs still to be placed."""
        for chunk in group[0].chunks:
            self._later["cores"] += sign * chunk.cores * chunk.count * len(group)
            self._later["gpus"] += sign * chunk.gpus * chunk.count * len(group)

    def _place_alike(
        self, chunks: tuple[Chunk, ...], required_bits: int, jobs: int
    ) -> Iterator[tuple[int, str, str]]:
        """Place jobs with equal requests; yield (how many, type of new nodes, why not)."""
        if len(chunks) == 1 and chunks[0].count == 1:
            yield from self._place_units(replace(chunks[0], count=jobs, node=False), required_bits)
            return
        for placed in range(jobs):
            node_type, why = self._place_job(chunks, required_bits)
            if why:
                yield jobs - placed, "", why
                return
            yield 1, node_type, ""

    def _place_units(self, chunk: Chunk, required_bits: int) -> Iterator[tuple[int, str, str]]:
        """Place jobs of one unit each: on existing nodes, on opened ones, then on new ones."""
        units = chunk.count
        steps, left = place(chunk, units, self.existing, required_bits)
        commit(chunk, steps, self.existing)
        if left < units:
            yield units - left, "", ""
        fitting = [supply for supply in self.supplies if supply.fits(chunk, required_bits)]
        for supply in fitting:
            units = left
            steps, left = place(chunk, units, supply.pool, required_bits)
            commit(chunk, steps, supply.pool)
            if left < units:
                yield units - left, supply.node_type.name, ""
        while left:
            cheapest = self._cheapest_for_units(chunk, left, fitting, required_bits)
            if cheapest is None:
                yield left, "", why_not(chunk, required_bits, 1, self.supplies)
                return
            supply, nodes, units = cheapest
            self._fill_new(supply, nodes, chunk, units, required_bits)
            left -= units
            yield units, supply.node_type.name, ""

    def _cheapest_for_units(
        self, chunk: Chunk, units: int, supplies: Sequence[Supply], required_bits: int
    ) -> tuple[Supply, int, int] | None:
        """Return the cheapest type for a unit, with the nodes and units to place there.

        Only full nodes are opened while there are units to fill them; the last units
        choose anew.
        """
        best: tuple[tuple[float, float], Supply, int, int] | None = None
        for supply in supplies:
            each = units_that_fit(chunk, supply.node_type.gpus, supply.free)
            nodes = int(min(max(1, units // each), supply.available_for(required_bits)))
            if not nodes:
                continue
            there = min(units, nodes * each)
            cost, idle = self._cost(chunk, there, supply.node_type, nodes, waiting=units - there)
            key = cost / there, idle / there
            if best is None or key < best[0]:
                best = key, supply, nodes, there
        return best[1:] if best else None

    def _place_job(self, chunks: tuple[Chunk, ...], required_bits: int) -> tuple[str, str]:
        """Place one job; return the type of its new nodes (empty for none), or why not."""
        if len(chunks) == 1:
            return self._place_chunk(chunks[0], required_bits, self.supplies)
        fitting = [
            position
            for position, supply in enumerate(self.supplies)
            if all(supply.fits(chunk, required_bits) for chunk in chunks)
        ]
        fitting.sort(key=lambda position: self.supplies[position].node_type.price)
        why = ""
        for choice in [[position] for position in fitting] or [[]]:
            before = self._state()
            node_type, why = self._place_parts(
                chunks, required_bits, [self.supplies[position] for position in choice]
            )
            if not why:
                return node_type, ""
            self._restore(before)
        return "", why if fitting else why_no_type(chunks, required_bits, self.supplies)

    def _place_parts(
        self, chunks: tuple[Chunk, ...], required_bits: int, supplies: Sequence[Supply]
    ) -> tuple[str, str]:
        """Place the parts of one job, each on nodes without another part of it."""
        held: PendingRelease = []
        chosen = ""
        for chunk in chunks:
            node_type, why = self._place_chunk(chunk, required_bits, supplies, held)
            if why:
                return "", why
            chosen = chosen or node_type
        for pool, gpus, free, nodes in held:
            pool.add(gpus, free, nodes)
        return chosen, ""

    def _place_chunk(
        self,
        chunk: Chunk,
        required_bits: int,
        supplies: Sequence[Supply],
        held: PendingRelease | None = None,
    ) -> tuple[str, str]:
        steps, rest = place(chunk, chunk.count, self.existing, required_bits)
        if not rest:
            commit(chunk, steps, self.existing, held)
            return "", ""
        best: tuple[tuple[float, float], Supply, list[PlacementStep], int] | None = None
        for supply in supplies:
            there = supply.place(chunk, rest, required_bits)
            if there is None:
                continue
            opened_steps, short, new = there
            key = self._cost(chunk, short, supply.node_type, new)
            if best is None or key < best[0]:
                best = key, supply, opened_steps, new
        if best is None:
            return "", why_not(chunk, required_bits, rest, supplies)
        _, supply, opened_steps, new = best
        commit(chunk, steps, self.existing, held)
        commit(chunk, opened_steps, supply.pool, held)
        if new:
            placed = sum(step.nodes * step.units for step in opened_steps)
            self._fill_new(supply, new, chunk, rest - placed, required_bits, held)
        return supply.node_type.name, ""

    def _cost(
        self, chunk: Chunk, units: int, node_type: NodeType, nodes: int, waiting: int = 0
    ) -> tuple[float, float]:
        """Estimate the additional cost of units, and the idle share of the new nodes.

        Later units (``waiting`` more, and the jobs behind) will fill a node opened by
        these, so they bear their share of its price; the last bear all of it.
        """
        if not nodes:
            return 0.0, 0.0
        share = _share(chunk, units, node_type, nodes)
        if chunk.gpus:
            later = (self._later["gpus"] + waiting * chunk.gpus) / (node_type.gpus * nodes)
        else:
            cores = self._later["cores"] + waiting * chunk.cores
            later = cores / (node_type.cores * nodes) if node_type.cores else 0.0
        return nodes * node_type.price * share / min(1.0, share + later), nodes * (1.0 - share)


def _alike(demand: Demand) -> tuple[tuple[Chunk, ...], int]:
    return demand.chunks, demand.required_bits
