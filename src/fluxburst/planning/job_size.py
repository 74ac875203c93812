"""Jobs that are larger than the instance: no nodes that join it can help them.

Flux's own scheduler refuses them at submission. Fluxion lets them pend for ever.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from fluxburst.formats.units import counted
from fluxburst.model.jobspec import Chunk
from fluxburst.model.node import Node, NodeType


def why_too_large(
    chunks: Iterable[Chunk], nodes: Sequence[Node], node_types: Iterable[NodeType]
) -> str:
    """Return that a job is larger than the instance with all its nodes; empty where it is not.

    Args:
        chunks: What the job asks for.
        nodes: All nodes that the instance knows, up or down.
        node_types: What a plugin can bring up, which an embedded instance need not know before.
    """
    if not nodes:
        return ""  # an embedded instance that has none yet knows none before they come
    chunks, supplied = tuple(chunks), [(one, one.max_nodes) for one in node_types]
    most = [(one.cores, count) for one, count in supplied if count is not None]
    if len(most) < len(supplied):
        return ""  # there is no end to what it brings up
    wanted = sum(chunk.count for chunk in chunks if chunk.node or chunk.exclusive)
    if wanted > max(len(nodes), sum(count for _, count in most)):
        asked = counted(wanted, "node")
        return f"asks for {asked}, and the instance has {len(nodes)} in all (declared)"
    cores, there = sum(one.count * one.cores for one in chunks), sum(node.cores for node in nodes)
    if cores > max(there, sum(each * count for each, count in most)):
        return f"asks for {counted(cores, 'core')}, and the instance has {there} in all (declared)"
    return ""
