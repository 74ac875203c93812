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

    room: FreeResources
    nodes: int


class Supply:
    """The new nodes of one type: those opened so far, what they have left, how many may follow.

    Nodes that jobs' constraints tell apart by host or rank are counted by kind, where the plugin
    can bring up the ones that are wanted. Where it chooses itself, a new node is only taken to
    match what all it may be match.

    Attributes:
        limited: Which limit of the configuration holds it back; empty where none does.
        taken: Hosts that bursts of others are to be on.
    """

    def __init__(
        self,
        node_type: NodeType,
        available: float,
        kinds: ConstraintBits = ALL_ALIKE,
        candidates: Candidates | None = None,
    ) -> None:
        self.node_type = node_type
        self.available = available
        self.limited = ""
        self.opened = 0
        self.taken: Collection[str] = ()
        self.pool = Pool()
        self._possible = kinds.possible(node_type)
        self._hosts: dict[int, list[str]] = {}
        self._opened: dict[int, int] = {}
        room = whole(node_type, kinds)
        if candidates is not None and kinds.names_nodes:
            self._group(candidates, kinds)
            if candidates.chosen:
                self._possible = functools.reduce(operator.or_, self._hosts, 0)
            if not candidates.chosen or len(self._hosts) == 1:
                both = functools.reduce(operator.and_, self._hosts, self._possible)
                self._hosts = {}
                room = room._replace(kind=both)
        self.room = room

    def _group(self, candidates: Candidates, kinds: ConstraintBits) -> None:
        for node in candidates.nodes:
            kind = kinds.of_type(self.node_type, node.hostname, node.rank)
            self._hosts.setdefault(kind, []).append(node.hostname)

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
            host for kind, nodes in self._opened.items() for host in self._free_hosts(kind)[:nodes]
        )

    def _free_hosts(self, kind: int) -> list[str]:
        return [host for host in self._hosts[kind] if host not in self.taken]

    def _left(self, kind: int) -> int:
        return max(0, len(self._free_hosts(kind)) - self._opened.get(kind, 0))

    def _kinds(self, wanted: int) -> Iterator[int]:
        return (kind for kind in self._hosts or (self.room.kind,) if kind & wanted == wanted)

    def available_for(self, wanted: int) -> float:
        """Return how many more nodes may follow that match the constraint of this bit."""
        if not self._hosts or not wanted:
            return self.available
        return min(self.available, sum(self._left(kind) for kind in self._kinds(wanted)))

    def open(self, count: int, wanted: int = 0) -> list[Opened]:
        """Open ``count`` more nodes that match the constraint of this bit; return them.

        Those come first that fewest constraints match: the others may be wanted later.
        """
        self.opened += count
        new = [Opened(self.room, count)] if count and not self._hosts else []
        if self._hosts:
            for kind in sorted(self._kinds(wanted), key=int.bit_count):
                nodes = min(count, self._left(kind))
                if nodes:
                    self._opened[kind] = self._opened.get(kind, 0) + nodes
                    new.append(Opened(self.room._replace(kind=kind), nodes))
                    count -= nodes
        for room, nodes in new:
            self.pool.add(self.node_type.gpus, room, nodes)
        return new

    def close(self, kind: int, count: int) -> None:
        """Take off new nodes of a kind that nothing is to be on."""
        self.opened -= count
        if self._hosts:
            self._opened[kind] -= count

    def new_rooms(self) -> Iterator[Opened]:
        """Yield what the new nodes are while nothing is on them, those that are alike together."""
        if self._hosts:
            for kind, count in self._opened.items():
                yield Opened(self.room._replace(kind=kind), count)
        else:
            yield Opened(self.room, self.opened)

    def nodes_for(self, chunk: Chunk, units: int) -> int:
        """Return how many empty nodes so many units of a chunk need, of which one has to fit."""
        return -(-units // units_that_fit(chunk, self.node_type.gpus, self.room)) if units else 0

    def matches(self, wanted: int) -> bool:
        """Whether some of its nodes match the constraint of this bit."""
        return any(True for _ in self._kinds(wanted))

    def may_match(self, wanted: int) -> bool:
        """Whether its nodes could match the constraint of this bit, by their hosts and ranks."""
        return self._possible & wanted == wanted

    def fits(self, chunk: Chunk, wanted: int) -> bool:
        """Whether an empty node has room for one ``chunk``, and matches."""
        return self.matches(wanted) and has_room(self.node_type, chunk)
