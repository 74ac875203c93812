"""Nodes with room, counted by their remaining capacity: pure functions over plain data.

Equal nodes are counted, not listed: a pool holds *how many* nodes have a given rest, so the cost of
a step depends on the number of different rests, not on the number of nodes. New nodes of a
plugin are counted in the same way, by type, with their hosts if it names them.
"""

from __future__ import annotations

import copy
import functools
import math
import operator
from bisect import bisect_left, insort
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from fluxburst.model.constraints import ALL_ALIKE, ConstraintBits
from fluxburst.model.jobspec import Chunk
from fluxburst.model.node import Node, NodeType


class FreeResources(NamedTuple):
    """The remaining capacity of a node. Sorts from the tightest to the widest.

    ``untouched`` is 1 while no job is on the node: only then can it be taken exclusively.
    ``bits`` are the constraints that the node matches (see
    :class:`~fluxburst.model.constraints.ConstraintBits`).
    ``others`` are its resources other than cores, GPUs and memory, sorted by type.
    """

    cores: float
    memory: float
    untouched: int
    bits: int = 0
    others: tuple[tuple[str, int], ...] = ()

    def has_others(self, wanted: tuple[tuple[str, int], ...]) -> bool:
        """Whether it has this much of other resource types."""
        return not wanted or _has_all(dict(self.others), wanted)


def _has_all(have: Mapping[str, int], wanted: Iterable[tuple[str, int]]) -> bool:
    return all(have.get(kind, 0) >= count for kind, count in wanted)


class Pool:
    """Nodes with room, counted by their remaining capacity."""

    def __init__(self) -> None:
        self._counts: dict[int, dict[FreeResources, int]] = {}
        self._order: dict[int, list[FreeResources]] = {}
        self._gpus: list[int] = []

    def copy(self) -> Pool:
        """Return an independent copy."""
        other = Pool()
        other._counts = {gpus: dict(groups) for gpus, groups in self._counts.items()}
        other._order = {gpus: list(groups) for gpus, groups in self._order.items()}
        other._gpus = list(self._gpus)
        return other

    def restore(self, other: Pool) -> None:
        """Take over the contents of ``other``, which must not be used afterwards."""
        self._counts, self._order, self._gpus = other._counts, other._order, other._gpus

    def add(self, gpus: int, free: FreeResources, count: int) -> None:
        """Add ``count`` nodes (or remove them, if it is negative)."""
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
        """Add everything from another pool."""
        for gpus, groups in other._counts.items():
            for free, count in groups.items():
                self.add(gpus, free, count)

    def add_node(
        self,
        node: Node,
        constraint_bits: ConstraintBits = ALL_ALIKE,
        others: tuple[tuple[str, int], ...] = (),
    ) -> None:
        """Add a node of the instance with its rest; the instance does not report ``others``."""
        memory = math.inf if node.free_memory is None else node.free_memory
        if node.usable and (node.free_cores or node.free_gpus):
            bits = constraint_bits.of(node.properties, node.hostname, node.rank)
            # Their use by jobs is unknown, too: once the node is in use, all count as used.
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
        """Add ``count`` empty nodes of a type, whose hostname and rank may not be known yet."""
        if count:
            self.add(node_type.gpus, whole(node_type, constraint_bits, hostname, rank), count)

    def fitting(
        self, chunk: Chunk, required_bits: int = 0
    ) -> Iterator[tuple[int, FreeResources, int]]:
        """Yield (GPUs, free resources, nodes) with room for one ``chunk``, fewest GPUs first.

        Only nodes with all of ``required_bits`` count. Change the pool only after the last
        item.
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
    """Return the capacity of an empty node of this type."""
    memory = math.inf if node_type.memory is None else node_type.memory
    others = tuple(sorted(node_type.resources.items()))
    return FreeResources(
        node_type.cores, memory, 1, constraint_bits.of_type(node_type, hostname, rank), others
    )


def pool_of(nodes: Iterable[Node], constraint_bits: ConstraintBits = ALL_ALIKE) -> Pool:
    """Return the remaining capacity of an instance's nodes."""
    pool = Pool()
    for node in nodes:
        pool.add_node(node, constraint_bits)
    return pool


class PlacementStep(NamedTuple):
    """A step of a placement: ``nodes`` with this rest get ``units`` of a chunk each."""

    gpus: int
    free: FreeResources
    nodes: int
    units: int


def has_room(node_type: NodeType, chunk: Chunk) -> bool:
    """Whether an empty node of a type has room for one ``chunk``."""
    return (
        node_type.cores >= chunk.cores
        and node_type.gpus >= chunk.gpus
        and (node_type.memory is None or node_type.memory >= chunk.memory)
        and all(node_type.resources.get(kind, 0) >= want for kind, want in chunk.details.others)
    )


def units_that_fit(chunk: Chunk, gpus: int, free: FreeResources) -> int:
    """Return how many units of a chunk have room on such a node, given that one has."""
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
    """Place up to ``units`` on equal ``nodes``; return the steps and the units left over."""
    each = units_that_fit(chunk, gpus, free)
    full = min(nodes, units // each)
    steps = [PlacementStep(gpus, free, full, each)] if full else []
    units -= full * each
    if units and full < nodes:
        steps.append(PlacementStep(gpus, free, 1, units))
        units = 0
    return steps, units


def _left(chunk: Chunk, step: PlacementStep) -> tuple[int, FreeResources] | None:
    """Return what a node has left after a step, or None if nothing."""
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
"""Rests of nodes, kept out of their pools while other parts of the same job are placed."""


def commit(
    chunk: Chunk, steps: Iterable[PlacementStep], pool: Pool, held: PendingRelease | None = None
) -> None:
    """Take the steps of a placement from a pool; the rests go back, or to ``held``."""
    for step in steps:
        pool.add(step.gpus, step.free, -step.nodes)
        left = _left(chunk, step)
        if left is not None and held is not None:
            held.append((pool, *left, step.nodes))
        elif left is not None:
            pool.add(*left, step.nodes)


@dataclass(frozen=True)
class Candidates:
    """The declared nodes that new nodes of one type may join as.

    Attributes:
        nodes: The free ones that are down, in the order of their use.
        chosen: A burst can use any of them by name; otherwise the plugin chooses.
    """

    nodes: Sequence[Node] = ()
    chosen: bool = False


class Opened(NamedTuple):
    """Equal new nodes: the resources of each, and their number."""

    free: FreeResources
    nodes: int


class Supply:
    """The new nodes of one type: those opened so far, their rests, how many may follow.

    Nodes that constraints distinguish by host or rank are counted by their bits, if the
    plugin can provision certain hosts. If it chooses itself, a new node only matches what
    all its possible hosts match.

    Attributes:
        limited: The configured limit that restricts it; empty if none does.
        taken: Hosts used by others' bursts.
    """

    def __init__(
        self,
        node_type: NodeType,
        available: float,
        constraint_bits: ConstraintBits = ALL_ALIKE,
        candidates: Candidates | None = None,
    ) -> None:
        self.node_type = node_type
        self.available = available
        self.limited = ""
        self.opened = 0
        self.taken: Collection[str] = ()
        self.pool = Pool()
        self._possible = constraint_bits.possible(node_type)
        self._hosts: dict[int, list[str]] = {}
        self._opened: dict[int, int] = {}
        free = whole(node_type, constraint_bits)
        if candidates is not None and constraint_bits.names_nodes:
            self._group(candidates, constraint_bits)
            if candidates.chosen:
                self._possible = functools.reduce(operator.or_, self._hosts, 0)
            if not candidates.chosen or len(self._hosts) == 1:
                both = functools.reduce(operator.and_, self._hosts, self._possible)
                self._hosts = {}
                free = free._replace(bits=both)
        self.free = free

    def _group(self, candidates: Candidates, constraint_bits: ConstraintBits) -> None:
        for node in candidates.nodes:
            bits = constraint_bits.of_type(self.node_type, node.hostname, node.rank)
            self._hosts.setdefault(bits, []).append(node.hostname)

    def copy(self) -> Supply:
        """Return an independent copy."""
        other = copy.copy(self)
        other.pool = self.pool.copy()
        other._opened = dict(self._opened)
        return other

    @property
    def hosts(self) -> tuple[str, ...]:
        """The hosts for its new nodes; empty if any will do."""
        return tuple(
            host for bits, nodes in self._opened.items() for host in self._free_hosts(bits)[:nodes]
        )

    def _free_hosts(self, bits: int) -> list[str]:
        return [host for host in self._hosts[bits] if host not in self.taken]

    def _left(self, bits: int) -> int:
        return max(0, len(self._free_hosts(bits)) - self._opened.get(bits, 0))

    def _matching(self, required_bits: int) -> Iterator[int]:
        return (
            bits
            for bits in self._hosts or (self.free.bits,)
            if bits & required_bits == required_bits
        )

    def available_for(self, required_bits: int) -> float:
        """Return how many more nodes matching the constraint of these bits may follow."""
        if not self._hosts or not required_bits:
            return self.available
        return min(self.available, sum(self._left(bits) for bits in self._matching(required_bits)))

    def open(self, count: int, required_bits: int = 0) -> list[Opened]:
        """Open ``count`` more nodes matching the constraint of these bits; return them.

        Hosts that match the fewest constraints come first: others may be needed later.
        """
        self.opened += count
        new = [Opened(self.free, count)] if count and not self._hosts else []
        if self._hosts:
            for bits in sorted(self._matching(required_bits), key=int.bit_count):
                nodes = min(count, self._left(bits))
                if nodes:
                    self._opened[bits] = self._opened.get(bits, 0) + nodes
                    new.append(Opened(self.free._replace(bits=bits), nodes))
                    count -= nodes
        for free, nodes in new:
            self.pool.add(self.node_type.gpus, free, nodes)
        return new

    def close(self, bits: int, count: int) -> None:
        """Remove unused new nodes of these bits."""
        self.opened -= count
        if self._hosts:
            self._opened[bits] -= count

    def opened_nodes(self) -> Iterator[Opened]:
        """Yield the resources of new nodes while unused, grouped by equality."""
        if self._hosts:
            for bits, count in self._opened.items():
                yield Opened(self.free._replace(bits=bits), count)
        else:
            yield Opened(self.free, self.opened)

    def nodes_for(self, chunk: Chunk, units: int) -> int:
        """Return how many empty nodes these units of a chunk need; one unit must fit."""
        return -(-units // units_that_fit(chunk, self.node_type.gpus, self.free)) if units else 0

    def place(
        self, chunk: Chunk, units: int, required_bits: int
    ) -> tuple[list[PlacementStep], int, int] | None:
        """Place units of a chunk on open nodes, and count the missing nodes.

        Returns:
            The steps, the number of units left over, and how many more nodes these need; None if
            that many cannot follow, or an empty one has no room.
        """
        if not self.fits(chunk, required_bits):
            return None
        steps, short = place(chunk, units, self.pool, required_bits)
        new = self.nodes_for(chunk, short)
        return None if new > self.available_for(required_bits) else (steps, short, new)

    def matches(self, required_bits: int) -> bool:
        """Whether some of its nodes match the constraint of these bits."""
        return any(True for _ in self._matching(required_bits))

    def may_match(self, required_bits: int) -> bool:
        """Whether its nodes could match the constraint of these bits, with some host and rank."""
        return self._possible & required_bits == required_bits

    def fits(self, chunk: Chunk, required_bits: int) -> bool:
        """Whether an empty node has room for one ``chunk``, and matches."""
        return self.matches(required_bits) and has_room(self.node_type, chunk)
