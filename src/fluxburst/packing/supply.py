"""New nodes that a plugin can bring up: how many of a type, and on which hosts."""

from __future__ import annotations

import copy
import functools
import operator
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from fluxburst.model.constraints import ALL_ALIKE, ConstraintBits
from fluxburst.model.jobspec import Chunk
from fluxburst.model.node import Node, NodeType
from fluxburst.packing.fitting import has_room
from fluxburst.packing.pool import FreeResources, Pool, units_that_fit, whole


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

    def matches(self, required_bits: int) -> bool:
        """Whether some of its nodes match the constraint of these bits."""
        return any(True for _ in self._matching(required_bits))

    def may_match(self, required_bits: int) -> bool:
        """Whether its nodes could match the constraint of these bits, by their hosts and ranks."""
        return self._possible & required_bits == required_bits

    def fits(self, chunk: Chunk, required_bits: int) -> bool:
        """Whether an empty node has room for one ``chunk``, and matches."""
        return self.matches(required_bits) and has_room(self.node_type, chunk)
