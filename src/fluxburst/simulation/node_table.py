"""The nodes of the embedded instance."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import replace

from fluxburst.model.node import Node, NodeType


class NodeTable:
    """Nodes by rank.

    Attributes:
        by_rank: Each node as it is, in no order.
    """

    def __init__(self, nodes: Iterable[Node]) -> None:
        self.by_rank = {node.rank: node for node in nodes}

    def all(self) -> tuple[Node, ...]:
        """Return every node, by rank."""
        return tuple(self.by_rank[rank] for rank in sorted(self.by_rank))

    def hostnames(self, ranks: Iterable[int]) -> list[str]:
        """Return the hostnames of nodes, in the order of the ranks."""
        return [self.by_rank[rank].hostname for rank in ranks]

    def ranks_of(self, hostnames: Collection[str]) -> set[int]:
        """Return the ranks of the nodes with one of these hostnames."""
        return {rank for rank, node in self.by_rank.items() if node.hostname in hostnames}

    def drain(self, ranks: Iterable[int], reason: str, now: float) -> None:
        """Set nodes aside; those that are drained already keep their reason."""
        for rank in ranks:
            node = self.by_rank[rank]
            if not node.drained:
                self.by_rank[rank] = replace(
                    node, drained=True, drain_reason=reason, drained_at=now
                )

    def undrain(self, ranks: Iterable[int]) -> None:
        """Take nodes back."""
        for rank in ranks:
            self.by_rank[rank] = replace(
                self.by_rank[rank], drained=False, drain_reason="", drained_at=None
            )

    def add(
        self, hostnames: Iterable[str], node_type: NodeType, properties: Collection[str]
    ) -> None:
        """Bring nodes up: known ones by their hostname, others under new ranks."""
        ranks = {node.hostname: rank for rank, node in self.by_rank.items()}
        for hostname in hostnames:
            rank = ranks.get(hostname, max(self.by_rank, default=-1) + 1)
            self.by_rank[rank] = Node(
                rank=rank,
                hostname=hostname,
                cores=node_type.cores,
                gpus=node_type.gpus,
                free_cores=node_type.cores,
                free_gpus=node_type.gpus,
                memory=node_type.memory,
                free_memory=node_type.memory,
                properties=frozenset(properties),
            )

    def take_down(self, ranks: Iterable[int]) -> None:
        """Take nodes down."""
        for rank in ranks:
            self.by_rank[rank] = replace(self.by_rank[rank], up=False)
