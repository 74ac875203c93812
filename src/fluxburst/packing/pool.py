"""Nodes with room, counted by what they have left: pure functions over plain data.

Nodes that are alike are counted, not listed: a pool holds *how many* nodes have so much left, so a
step costs what the number of different remainders costs, not what the number of nodes does.
"""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from fluxburst.model.constraints import ALL_ALIKE, ConstraintBits
from fluxburst.model.jobspec import Chunk
from fluxburst.model.node import Node, NodeType


class FreeResources(NamedTuple):
    """What is left on a node. Sorts from the tightest to the widest.

    ``untouched`` is 1 while no job is on the node: only then can it be taken exclusively.
    ``bits`` says which constraints the node matches (see
    :class:`~fluxburst.model.constraints.ConstraintBits`).
    ``others`` is what it has beside cores, GPUs and memory, sorted by type.
    """

    cores: float
    memory: float
    untouched: int
    bits: int = 0
    others: tuple[tuple[str, int], ...] = ()

    def has_others(self, wanted: tuple[tuple[str, int], ...]) -> bool:
        """Whether it has so much of other resource types."""
        return not wanted or _has_all(dict(self.others), wanted)


def _has_all(have: Mapping[str, int], wanted: Iterable[tuple[str, int]]) -> bool:
    return all(have.get(kind, 0) >= count for kind, count in wanted)


class Pool:
    """Nodes with room, counted by what they have left."""

    def __init__(self) -> None:
        self._counts: dict[int, dict[FreeResources, int]] = {}
        self._order: dict[int, list[FreeResources]] = {}
        self._gpus: list[int] = []

    def copy(self) -> Pool:
        """Return a pool that can be changed without changing this one."""
        other = Pool()
        other._counts = {gpus: dict(groups) for gpus, groups in self._counts.items()}
        other._order = {gpus: list(groups) for gpus, groups in self._order.items()}
        other._gpus = list(self._gpus)
        return other

    def restore(self, other: Pool) -> None:
        """Become what ``other`` is; ``other`` must not be used afterwards."""
        self._counts, self._order, self._gpus = other._counts, other._order, other._gpus

    def add(self, gpus: int, free: FreeResources, count: int) -> None:
        """Put ``count`` nodes in (or take them out, where it is negative)."""
        if gpus not in self._counts:
            self._counts[gpus], self._order[gpus] = {}, []
            insort(self._gpus, gpus)
        counts, order = self._counts[gpus], self._order[gpus]
        before = counts.get(free, 0)
        if before + count:
            counts[free] = before + count
            if not before:
                insort(order, free)
        else:
            del counts[free]
            del order[bisect_left(order, free)]

    def absorb(self, other: Pool) -> None:
        """Put in all that another pool holds."""
        for gpus, groups in other._counts.items():
            for free, count in groups.items():
                self.add(gpus, free, count)

    def add_node(
        self,
        node: Node,
        constraint_bits: ConstraintBits = ALL_ALIKE,
        others: tuple[tuple[str, int], ...] = (),
    ) -> None:
        """Put in what a node of the instance has left; ``others`` are not told by the instance."""
        memory = math.inf if node.free_memory is None else node.free_memory
        if node.usable and (node.free_cores or node.free_gpus):
            bits = constraint_bits.of(node.properties, node.hostname, node.rank)
            # What jobs have of other types is not told either: once it is in use, all of them.
            free = FreeResources(
                node.free_cores, memory, int(node.idle), bits, others if node.idle else ()
            )
            self.add(node.free_gpus, free, 1)

    def add_type(
        self,
        node_type: NodeType,
        count: int,
        constraint_bits: ConstraintBits = ALL_ALIKE,
        hostname: str = "",
        rank: int | None = None,
    ) -> None:
        """Put in ``count`` empty nodes of a type, whose hostname and rank may not be known yet."""
        if count:
            self.add(node_type.gpus, whole(node_type, constraint_bits, hostname, rank), count)

    def fitting(
        self, chunk: Chunk, required_bits: int = 0
    ) -> Iterator[tuple[int, FreeResources, int]]:
        """Yield (GPUs, free resources, nodes) of what one ``chunk`` fits on, fewest GPUs first.

        Only nodes that have all of ``required_bits`` count. The pool may only be changed once the
        caller has stopped asking for more.
        """
        start = FreeResources(chunk.cores, chunk.memory, 0)
        details = chunk.details
        untouched = chunk.exclusive or details.alone
        for gpus in self._gpus[bisect_left(self._gpus, chunk.gpus) :]:
            order = self._order[gpus]
            for position in range(bisect_left(order, start), len(order)):
                free = order[position]
                enough = free.memory >= chunk.memory and free.untouched >= untouched
                matches = free.bits & required_bits == required_bits
                if enough and matches and free.has_others(details.others):
                    yield gpus, free, self._counts[gpus][free]


def whole(
    node_type: NodeType,
    constraint_bits: ConstraintBits = ALL_ALIKE,
    hostname: str = "",
    rank: int | None = None,
) -> FreeResources:
    """Return the room of an empty node of this type."""
    memory = math.inf if node_type.memory is None else node_type.memory
    others = tuple(sorted(node_type.resources.items()))
    return FreeResources(
        node_type.cores, memory, 1, constraint_bits.of_type(node_type, hostname, rank), others
    )


def pool_of(nodes: Iterable[Node], constraint_bits: ConstraintBits = ALL_ALIKE) -> Pool:
    """Return what the nodes of an instance have left."""
    pool = Pool()
    for node in nodes:
        pool.add_node(node, constraint_bits)
    return pool


class PlacementStep(NamedTuple):
    """A step of a placement: so many ``nodes`` with this room each get ``units`` of a chunk."""

    gpus: int
    free: FreeResources
    nodes: int
    units: int


def units_that_fit(chunk: Chunk, gpus: int, free: FreeResources) -> int:
    """Return how many units of a chunk, of which one has room, have room on such a node."""
    if chunk.node or chunk.exclusive or chunk.count == 1:
        return 1
    limits = [
        have // want
        for have, want in (
            (free.cores, chunk.cores),
            (gpus, chunk.gpus),
            (free.memory, chunk.memory),
        )
        if want and have != math.inf
    ]
    if chunk.details.others:
        have = dict(free.others)
        limits += [have[kind] // want for kind, want in chunk.details.others if want]
    return int(min(limits, default=chunk.count))


def take(
    chunk: Chunk, units: int, gpus: int, free: FreeResources, nodes: int
) -> tuple[list[PlacementStep], int]:
    """Place up to ``units`` on ``nodes`` alike; return the steps and the units left over."""
    each = units_that_fit(chunk, gpus, free)
    full = min(nodes, units // each)
    steps = [PlacementStep(gpus, free, full, each)] if full else []
    units -= full * each
    if units and full < nodes:
        steps.append(PlacementStep(gpus, free, 1, units))
        units = 0
    return steps, units


def _left(chunk: Chunk, step: PlacementStep) -> tuple[int, FreeResources] | None:
    """Return what a node has left after a step, or None where that is nothing."""
    if chunk.exclusive or chunk.details.alone:
        return None
    cores = step.free.cores - chunk.cores * step.units
    gpus = step.gpus - chunk.gpus * step.units
    memory = step.free.memory - chunk.memory * step.units
    others = step.free.others
    if chunk.details.others:
        used = dict(chunk.details.others)
        others = tuple((kind, n - used.get(kind, 0) * step.units) for kind, n in others)
    return (
        (gpus, FreeResources(cores, memory, 0, step.free.bits, others)) if cores or gpus else None
    )


def place(
    chunk: Chunk, units: int, pool: Pool, required_bits: int
) -> tuple[list[PlacementStep], int]:
    """Place up to ``units`` where it is tightest; return the steps and the units left over."""
    steps: list[PlacementStep] = []
    for gpus, free, nodes in pool.fitting(chunk, required_bits):
        taken, units = take(chunk, units, gpus, free, nodes)
        steps += taken
        if not units:
            break
    return steps, units


PendingRelease = list[tuple["Pool", int, FreeResources, int]]
"""What nodes have left, kept out of their pools while other parts of the same job are placed."""


def commit(
    chunk: Chunk, steps: Iterable[PlacementStep], pool: Pool, held: PendingRelease | None = None
) -> None:
    """Take the steps of a placement from a pool; what is left goes back, or to ``held``."""
    for step in steps:
        pool.add(step.gpus, step.free, -step.nodes)
        left = _left(chunk, step)
        if left is not None and held is not None:
            held.append((pool, *left, step.nodes))
        elif left is not None:
            pool.add(*left, step.nodes)
