"""What there is already: the nodes of the instance, and those of bursts that are coming."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from fluxburst.bursts import COMING_STATES, Burst
from fluxburst.constraints import Kinds
from fluxburst.lives import PlannedLives
from fluxburst.nodes import Node, NodeType
from fluxburst.plugins import BurstPlugin
from fluxburst.pool import Pool


def count_existing(
    nodes: Sequence[Node],
    plugins: Mapping[str, BurstPlugin],
    types: Mapping[str, Sequence[NodeType]],
    kinds: Kinds,
    lives: PlannedLives,
) -> Pool:
    """Return what is free in the instance, or coming in a burst.

    Args:
        nodes: The instance's nodes.
        plugins: The loaded plugins, by name.
        types: What they can supply.
        kinds: What nodes are told apart by.
        lives: How long nodes live.
    """
    known = {node.hostname: node for node in nodes}
    pool, has = Pool(), dict[str, tuple[tuple[str, int], ...]]()
    for name, plugin in plugins.items():
        by_name = {node_type.name: node_type for node_type in types[name]}
        for burst in plugin.bursts.values():
            node_type = by_name.get(burst.node_type)
            if node_type is None or burst.isolated:
                continue
            if node_type.resources:
                has.update(
                    dict.fromkeys(burst.hostnames, tuple(sorted(node_type.resources.items())))
                )
            if burst.state in COMING_STATES:
                theirs = lives.of_coming(burst.name, node_type, kinds)
                _add_coming(pool, burst, node_type, known, theirs)
    for node in nodes:
        pool.add_node(node, kinds, has.get(node.hostname, ()))
    return pool


def _add_coming(
    pool: Pool, burst: Burst, node_type: NodeType, known: Mapping[str, Node], kinds: Kinds
) -> None:
    """Put in the nodes of a burst that are not up yet, as the hosts that they are to be."""
    hosts = dict.fromkeys(burst.hostnames or burst.hosts)
    coming = [host for host in hosts if host not in known or not known[host].up]
    missing = burst.nodes - (len(hosts) - len(coming))
    for host in coming[: max(0, missing)]:
        rank = known[host].rank if host in known else None
        pool.add_type(node_type, 1, kinds, host, rank)
    pool.add_type(node_type, max(0, missing - len(coming)), kinds)
