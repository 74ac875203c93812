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
    ``kind`` says which constraints the node matches (see
    :class:`~fluxburst.model.constraints.ConstraintBits`).
    ``others`` is what it has beside cores, GPUs and memory, sorted by type.
    """

    cores: float
    memory: float
    untouched: int
    kind: int = 0
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
        other._counts = {gpus: dict(rooms) for gpus, rooms in self._counts.items()}
        other._order = {gpus: list(rooms) for gpus, rooms in self._order.items()}
        other._gpus = list(self._gpus)
        return other

    def restore(self, other: Pool) -> None:
        """Become what ``other`` is; ``other`` must not be used afterwards."""
        self._counts, self._order, self._gpus = other._counts, other._order, other._gpus

    def add(self, gpus: int, room: FreeResources, count: int) -> None:
        """Put ``count`` nodes in (or take them out, where it is negative)."""
        if gpus not in self._counts:
            self._counts[gpus], self._order[gpus] = {}, []
            insort(self._gpus, gpus)
        counts, order = self._counts[gpus], self._order[gpus]
        before = counts.get(room, 0)
        if before + count:
            counts[room] = before + count
            if not before:
                insort(order, room)
        else:
            del counts[room]
            del order[bisect_left(order, room)]

    def absorb(self, other: Pool) -> None:
        """Put in all that another pool holds."""
        for gpus, rooms in other._counts.items():
            for room, count in rooms.items():
                self.add(gpus, room, count)

    def add_node(
        self,
        node: Node,
        kinds: ConstraintBits = ALL_ALIKE,
        others: tuple[tuple[str, int], ...] = (),
    ) -> None:
        """Put in what a node of the instance has left; ``others`` are not told by the instance."""
        memory = math.inf if node.free_memory is None else node.free_memory
        if node.usable and (node.free_cores or node.free_gpus):
            kind = kinds.of(node.properties, node.hostname, node.rank)
            # What jobs have of other types is not told either: once it is in use, all of them.
            room = FreeResources(
                node.free_cores, memory, int(node.idle), kind, others if node.idle else ()
            )
            self.add(node.free_gpus, room, 1)

    def add_type(
        self,
        node_type: NodeType,
        count: int,
        kinds: ConstraintBits = ALL_ALIKE,
        hostname: str = "",
        rank: int | None = None,
    ) -> None:
        """Put in ``count`` empty nodes of a type, whose hostname and rank may not be known yet."""
        if count:
            self.add(node_type.gpus, whole(node_type, kinds, hostname, rank), count)

    def fitting(self, chunk: Chunk, wanted: int = 0) -> Iterator[tuple[int, FreeResources, int]]:
        """Yield (GPUs, room, nodes) of what has room for one ``chunk``, fewest GPUs first.

        Only nodes whose kind has the bit ``wanted`` count. The pool may only be changed once the
        caller has stopped asking for more.
        """
        start = FreeResources(chunk.cores, chunk.memory, 0)
        details = chunk.details
        untouched = chunk.exclusive or details.alone
        for gpus in self._gpus[bisect_left(self._gpus, chunk.gpus) :]:
            order = self._order[gpus]
            for position in range(bisect_left(order, start), len(order)):
                room = order[position]
                enough = room.memory >= chunk.memory and room.untouched >= untouched
                if enough and room.kind & wanted == wanted and room.has_others(details.others):
                    yield gpus, room, self._counts[gpus][room]


def whole(
    node_type: NodeType,
    kinds: ConstraintBits = ALL_ALIKE,
    hostname: str = "",
    rank: int | None = None,
) -> FreeResources:
    """Return the room of an empty node of this type."""
    memory = math.inf if node_type.memory is None else node_type.memory
    others = tuple(sorted(node_type.resources.items()))
    return FreeResources(
        node_type.cores, memory, 1, kinds.of_type(node_type, hostname, rank), others
    )


def pool_of(nodes: Iterable[Node], kinds: ConstraintBits = ALL_ALIKE) -> Pool:
    """Return what the nodes of an instance have left."""
    pool = Pool()
    for node in nodes:
        pool.add_node(node, kinds)
    return pool


class PlacementStep(NamedTuple):
    """A step of a placement: so many ``nodes`` with this room each get ``units`` of a chunk."""

    gpus: int
    room: FreeResources
    nodes: int
    units: int


def units_that_fit(chunk: Chunk, gpus: int, room: FreeResources) -> int:
    """Return how many units of a chunk, of which one has room, have room on such a node."""
    if chunk.node or chunk.exclusive or chunk.count == 1:
        return 1
    limits = [
        have // want
        for have, want in (
            (room.cores, chunk.cores),
            (gpus, chunk.gpus),
            (room.memory, chunk.memory),
        )
        if want and have != math.inf
    ]
    if chunk.details.others:
        have = dict(room.others)
        limits += [have[kind] // want for kind, want in chunk.details.others if want]
    return int(min(limits, default=chunk.count))


def take(
    chunk: Chunk, units: int, gpus: int, room: FreeResources, nodes: int
) -> tuple[list[PlacementStep], int]:
    """Place up to ``units`` on ``nodes`` alike; return the steps and the units left over."""
    each = units_that_fit(chunk, gpus, room)
    full = min(nodes, units // each)
    steps = [PlacementStep(gpus, room, full, each)] if full else []
    units -= full * each
    if units and full < nodes:
        steps.append(PlacementStep(gpus, room, 1, units))
        units = 0
    return steps, units


def _left(chunk: Chunk, taking: PlacementStep) -> tuple[int, FreeResources] | None:
    """Return what a node has left after a step, or None where that is nothing."""
    if chunk.exclusive or chunk.details.alone:
        return None
    cores = taking.room.cores - chunk.cores * taking.units
    gpus = taking.gpus - chunk.gpus * taking.units
    memory = taking.room.memory - chunk.memory * taking.units
    others = taking.room.others
    if chunk.details.others:
        used = dict(chunk.details.others)
        others = tuple((kind, n - used.get(kind, 0) * taking.units) for kind, n in others)
    return (
        (gpus, FreeResources(cores, memory, 0, taking.room.kind, others)) if cores or gpus else None
    )


def place(chunk: Chunk, units: int, pool: Pool, wanted: int) -> tuple[list[PlacementStep], int]:
    """Place up to ``units`` where it is tightest; return the steps and the units left over."""
    steps: list[PlacementStep] = []
    for gpus, room, nodes in pool.fitting(chunk, wanted):
        taken, units = take(chunk, units, gpus, room, nodes)
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
    for taking in steps:
        pool.add(taking.gpus, taking.room, -taking.nodes)
        left = _left(chunk, taking)
        if left is not None and held is not None:
            held.append((pool, *left, taking.nodes))
        elif left is not None:
            pool.add(*left, taking.nodes)
