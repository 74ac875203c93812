"""Nodes with room, counted by what they have left: pure functions over plain data.

Nodes that are alike are counted, not listed: a pool holds *how many* nodes have so much left, so a
step costs what the number of different remainders costs, not what the number of nodes does. What a
plugin can bring up is counted in the same way, by type, with the hosts where it names them.
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


def has_room(node_type: NodeType, chunk: Chunk) -> bool:
    """Whether an empty node of a type has room for one ``chunk``."""
    return (
        node_type.cores >= chunk.cores
        and node_type.gpus >= chunk.gpus
        and (node_type.memory is None or node_type.memory >= chunk.memory)
        and all(node_type.resources.get(kind, 0) >= want for kind, want in chunk.details.others)
    )


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


@dataclass(frozen=True)
class Candidates:
    """The declared nodes that new nodes of one type may come as.

    Attributes:
        nodes: Those that are down and free, in the order in which they are taken.
        chosen: A burst can be brought up on any of them by name; otherwise the plugin chooses.
    """

    nodes: Sequence[Node] = ()
    chosen: bool = False


class Opened(NamedTuple):
    """New nodes that are alike: what each has, and how many they are."""

    free: FreeResources
    nodes: int


class Supply:
    """The new nodes of one type: those opened so far, what they have left, how many may follow.

    Nodes that jobs' constraints tell apart by host or rank are counted by their bits, where the
    plugin can provision the ones that are wanted. Where it chooses itself, a new node is only taken
    to match what all it may be match.

    Attributes:
        limited: Which limit of the configuration holds it back; empty where none does.
        taken: Hosts that bursts of others are to be on.
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
        """Return a supply that can be changed without changing this one."""
        other = copy.copy(self)
        other.pool = self.pool.copy()
        other._opened = dict(self._opened)
        return other

    @property
    def hosts(self) -> tuple[str, ...]:
        """The hosts that its new nodes are to be on; empty where any will do."""
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
        """Return how many more nodes may follow that match the constraint of these bits."""
        if not self._hosts or not required_bits:
            return self.available
        return min(self.available, sum(self._left(bits) for bits in self._matching(required_bits)))

    def open(self, count: int, required_bits: int = 0) -> list[Opened]:
        """Open ``count`` more nodes that match the constraint of these bits; return them.

        Those come first that fewest constraints match: the others may be wanted later.
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
        """Take off new nodes of these bits that nothing is to be on."""
        self.opened -= count
        if self._hosts:
            self._opened[bits] -= count

    def opened_nodes(self) -> Iterator[Opened]:
        """Yield what the new nodes are while nothing is on them, those that are alike together."""
        if self._hosts:
            for bits, count in self._opened.items():
                yield Opened(self.free._replace(bits=bits), count)
        else:
            yield Opened(self.free, self.opened)

    def nodes_for(self, chunk: Chunk, units: int) -> int:
        """Return how many empty nodes so many units of a chunk need, of which one has to fit."""
        return -(-units // units_that_fit(chunk, self.node_type.gpus, self.free)) if units else 0

    def place(
        self, chunk: Chunk, units: int, required_bits: int
    ) -> tuple[list[PlacementStep], int, int] | None:
        """Place units of a chunk on the nodes that are open, and count those that are lacking.

        Returns:
            The steps, how many units are left over, and how many more nodes these need; None where
            so many cannot follow, or an empty one has no room.
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
        """Whether its nodes could match the constraint of these bits, by their hosts and ranks."""
        return self._possible & required_bits == required_bits

    def fits(self, chunk: Chunk, required_bits: int) -> bool:
        """Whether an empty node has room for one ``chunk``, and matches."""
        return self.matches(required_bits) and has_room(self.node_type, chunk)
