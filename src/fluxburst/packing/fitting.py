"""Whether one job fits: on node types, if there were enough of them, or on nodes as they are."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from fluxburst.model.constraints import ANYTHING, Constraint
from fluxburst.model.jobspec import ALTERNATIVES, Chunk
from fluxburst.model.node import Node, NodeType
from fluxburst.packing.pool import Pool, commit, has_room, place, pool_of

NO_MATCH = "no node type has what its constraints ask for"


def could_fit(
    chunks: Sequence[Chunk], node_types: Sequence[NodeType], constraint: Constraint = ANYTHING
) -> bool:
    """Whether some node type, if there were enough of it, has room for every chunk.

    It has to match the constraint, which it may do by hostnames and ranks that are not known yet.
    """
    return any(
        all(has_room(node_type, chunk) for chunk in chunks)
        and constraint.may_match(node_type.properties)
        for node_type in node_types
    )


def why_missing(chunks: Iterable[Chunk], node_types: Sequence[NodeType]) -> str:
    """Return which resource type is asked for that no node type has, or empty for none."""
    for chunk in chunks:
        for kind, _ in chunk.details.others:
            if not any(node_type.resources.get(kind) for node_type in node_types):
                if kind == ALTERNATIVES:
                    return f"asks for alternatives ({ALTERNATIVES!r}), which cannot be counted"
                return f"asks for {kind!r}, which no node type has"
    return ""


def why_unfit(
    chunks: Sequence[Chunk], node_types: Sequence[NodeType], constraint: Constraint
) -> str:
    """Return why no node type could fit, or empty where one could."""
    missing = why_missing(chunks, node_types)
    if missing:
        return missing
    if not could_fit(chunks, node_types):
        return "no node type has room for it"
    if not could_fit((), node_types, constraint):
        return NO_MATCH
    if not could_fit(chunks, node_types, constraint):
        return "no node type with what its constraints ask for has room for it"
    return ""


@dataclass(frozen=True, eq=False, slots=True)
class _Snapshot:
    """Nodes as the key of a cache: equal if they are the same tuple, not if all in it is equal.

    To hash thousands of nodes takes a millisecond, for each job that is asked about.
    """

    nodes: tuple[Node, ...]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Snapshot) and other.nodes is self.nodes

    def __hash__(self) -> int:
        return id(self.nodes)


@functools.lru_cache(maxsize=8)
def _pools_of(snapshot: _Snapshot) -> dict[Constraint, Pool]:
    """Return what was counted of these nodes so far: for each constraint, those that match."""
    return {}


def _matching(nodes: tuple[Node, ...], constraint: Constraint) -> Pool:
    pools = _pools_of(_Snapshot(nodes))
    if constraint not in pools:
        pools[constraint] = pool_of(
            node
            for node in nodes
            if constraint.matches(
                properties=node.properties, hostname=node.hostname, rank=node.rank
            )
        )
    return pools[constraint]


def fits_now(
    chunks: Sequence[Chunk], nodes: tuple[Node, ...], constraint: Constraint = ANYTHING
) -> bool:
    """Whether a job would fit on what these nodes have left, if it came first."""
    pool = _matching(nodes, constraint).copy()
    for chunk in chunks:
        steps, short = place(chunk, chunk.count, pool, 0)
        if short:
            return False
        commit(chunk, steps, pool)
    return True
