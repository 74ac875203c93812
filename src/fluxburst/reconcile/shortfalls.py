"""Bursts with less than requested: fewer nodes, or smaller ones than their node type.

Plans rely on plugins' node types. If nodes join with less, the plugin or its configuration is
wrong, and a warning says so.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from fluxburst.errors import BurstError
from fluxburst.formats.units import counted, format_bytes
from fluxburst.model.burst import COMING_STATES, Burst, BurstState
from fluxburst.model.jobspec import Chunk
from fluxburst.model.node import Node, NodeType
from fluxburst.planning.facts import facts_of
from fluxburst.plugin.base import BurstPlugin

_log = logging.getLogger(__name__)


class Shortfalls:
    """Compares the nodes of one client's bursts with their plugins' node types.

    Args:
        plugins: The loaded plugins, by name.
    """

    def __init__(self, plugins: Mapping[str, BurstPlugin]) -> None:
        self._plugins = plugins
        self._reported: set[tuple[str, str]] = set()
        self._observed: frozenset[str] = frozenset()

    def observe(self, ready: Sequence[Burst], nodes: Sequence[Node]) -> None:
        """Warn of node types whose nodes have less than declared; once for each."""
        for burst in ready:
            key = burst.plugin, burst.node_type
            if burst.name in self._observed or key in self._reported:
                continue
            if less := self.less_than_said(burst, nodes):
                self._reported.add(key)
                _log.warning(
                    "plugin %s, burst %s: a node of type %r has joined with %s: jobs may "
                    "not start there; fix the plugin's configuration",
                    *(burst.plugin, burst.name, burst.node_type, less),
                    extra={"plugin": burst.plugin, "burst": burst.name},
                )
        self._observed = frozenset(burst.name for burst in ready)

    def less_than_said(self, burst: Burst, nodes: Sequence[Node]) -> str:
        """Return what a node of a burst lacks compared with its type; empty for nothing."""
        said = self._type_of(burst)
        if said is None:
            return ""
        for node in nodes_of(burst, nodes):
            for have, want, noun in (
                (node.cores, said.cores, "core"),
                (node.gpus, said.gpus, "GPU"),
            ):
                if have < want:
                    return f"{counted(have, noun)}, but node_types() says {want}"
        return ""

    def with_coming(self, bursts: Sequence[Burst], nodes: Sequence[Node]) -> tuple[Node, ...]:
        """Return the nodes that are up or on their way, as if unused."""
        there = [_all_free(node) for node in nodes if node.up]
        return (*there, *(node for burst in bursts for node in self._still_to_join(burst)))

    def _still_to_join(self, burst: Burst) -> Iterator[Node]:
        said = self._type_of(burst)
        coming = burst.state in COMING_STATES - {BurstState.REQUESTED}
        if said is None or not coming or burst.isolated:
            return
        properties = frozenset(said.properties)
        hosts = burst.hostnames or ("",) * burst.nodes
        for host in hosts:
            node = Node(-1, host, said.cores, said.gpus, memory=said.memory, properties=properties)
            yield _all_free(node)

    def _type_of(self, burst: Burst) -> NodeType | None:
        """Return the declared type of a burst's nodes; None if its plugin has none."""
        plugin = self._plugins.get(burst.plugin)
        try:
            types = () if plugin is None else facts_of(plugin).types
        except BurstError:  # planning with it reports this
            return None
        return next((one for one in types if one.name == burst.node_type), None)


def nodes_of(burst: Burst, nodes: Sequence[Node]) -> list[Node]:
    """Return the nodes of a burst that are up in the instance."""
    return [node for node in nodes if node.up and node.hostname in burst.hostnames]


def describe_request(chunks: Sequence[Chunk]) -> str:
    """Describe a job's request for people."""
    return " and ".join(
        f"{counted(chunk.count, 'node' if chunk.node or chunk.exclusive else 'slot')} of "
        f"{_sizes(chunk.cores, chunk.gpus, chunk.memory)}"
        for chunk in chunks
    )


def describe_nodes(nodes: Sequence[Node]) -> str:
    """Describe existing nodes for people."""
    if not nodes:
        return "no node that is up"
    groups = Counter((node.cores, node.gpus) for node in nodes)
    return " and ".join(
        f"{counted(number, 'node')} of {_sizes(cores, gpus)}"
        for (cores, gpus), number in groups.items()
    )


def _sizes(cores: int, gpus: int, memory: int = 0) -> str:
    parts = [counted(cores, "core")]
    if gpus:
        parts.append(counted(gpus, "GPU"))
    if memory:
        parts.append(format_bytes(memory))
    return ", ".join(parts)


def _all_free(node: Node) -> Node:
    return replace(
        node,
        free_cores=node.cores,
        free_gpus=node.gpus,
        free_memory=node.memory,
        drained=False,
    )
