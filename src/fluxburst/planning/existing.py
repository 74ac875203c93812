"""What there is before a plan brings anything up: nodes that are free, or come in a burst."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from fluxburst.model.burst import COMING_STATES, Burst
from fluxburst.model.constraints import ConstraintBits
from fluxburst.model.node import Node, NodeType
from fluxburst.packing.pool import Pool
from fluxburst.packing.worst_fit import WorstFit
from fluxburst.planning.lives import PlannedLives
from fluxburst.plugin.base import BurstPlugin


class Coming(NamedTuple):
    """Nodes of a burst that are not up yet: as a declared node, or as any of its type."""

    burst: str
    node_type: NodeType
    nodes: int
    hostname: str = ""
    rank: int | None = None


class Existing:
    """The nodes of an instance, and those that come in bursts.

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
        """Return what is free or coming, counted."""
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
        """Return what is free or coming, by rank where that is known."""
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
        """Yield the nodes of a burst that are not up yet, as the hosts that they are to be."""
        hosts = dict.fromkeys(burst.hostnames or burst.hosts)
        down = [host for host in hosts if host not in self._known or not self._known[host].up]
        missing = max(0, burst.nodes - (len(hosts) - len(down)))
        for host in down[:missing]:
            rank = self._known[host].rank if host in self._known else None
            yield Coming(burst.name, node_type, 1, host, rank)
        if missing > len(down):
            yield Coming(burst.name, node_type, missing - len(down))
