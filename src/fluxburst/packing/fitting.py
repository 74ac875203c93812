"""Whether jobs fit: on node types, on nodes as they are, and on new ones; and why not."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from fluxburst.formats.units import counted, format_bytes
from fluxburst.model.constraints import ANYTHING, Constraint
from fluxburst.model.jobspec import ALTERNATIVES, Chunk
from fluxburst.model.node import Node, NodeType
from fluxburst.packing.pool import Pool, Supply, commit, has_room, place, pool_of, units_that_fit

NO_MATCH = "no node type has what its constraints ask for"


def could_fit(
    chunks: Sequence[Chunk], node_types: Sequence[NodeType], constraint: Constraint = ANYTHING
) -> bool:
    """Whether some node type, in sufficient number, has room for every chunk.

    It must match the constraint, possibly with hostnames and ranks that are not known yet.
    """
    return any(
        all(has_room(node_type, chunk) for chunk in chunks)
        and constraint.may_match(node_type.properties)
        for node_type in node_types
    )


def why_missing(chunks: Iterable[Chunk], node_types: Sequence[NodeType]) -> str:
    """Return the requested resource type that no node type has, or empty for none."""
    for chunk in chunks:
        for kind, _ in chunk.details.others:
            if not any(node_type.resources.get(kind) for node_type in node_types):
                if kind == ALTERNATIVES:
                    return f"asks for alternatives ({ALTERNATIVES!r}), which is not supported"
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
    """Nodes as the key of a cache: equal if they are the same tuple, not if they have equal items.

    Hashing thousands of nodes takes a millisecond, for each job in question.
    """

    nodes: tuple[Node, ...]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Snapshot) and other.nodes is self.nodes

    def __hash__(self) -> int:
        return id(self.nodes)


@functools.lru_cache(maxsize=8)
def _pools_of(snapshot: _Snapshot) -> dict[Constraint, Pool]:
    """Return the cached counts of these nodes: for each constraint, the matching ones."""
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
    """Whether a job would fit on the rests of these nodes, if it came first."""
    pool = _matching(nodes, constraint).copy()
    for chunk in chunks:
        steps, short = place(chunk, chunk.count, pool, 0)
        if short:
            return False
        commit(chunk, steps, pool)
    return True


NO_HOST = "its constraints name hosts or ranks, and those of new nodes are not known beforehand"
ONE_TYPE = "and all new nodes of one job are of one node type"


def why_no_type(chunks: Sequence[Chunk], required_bits: int, supplies: Sequence[Supply]) -> str:
    """Return why no node type could run a job of several parts."""
    for chunk in chunks:
        if not any(supply.fits(chunk, required_bits) for supply in supplies):
            return why_not(chunk, required_bits, 1, supplies)
    return "no node type has room for each of its parts"


def _none_matches(supplies: Sequence[Supply], required_bits: int) -> bool:
    """Whether constraints exclude all that exists."""
    return bool(supplies) and not any(supply.matches(required_bits) for supply in supplies)


def _units_of(supply: Supply, chunk: Chunk, required_bits: int) -> float:
    """Return how many units of a chunk fit on all nodes of a type that may follow."""
    each = units_that_fit(chunk, supply.node_type.gpus, supply.free)
    return supply.available_for(required_bits) * each


def _why_no_more(supply: Supply, required_bits: int) -> str:
    there = supply.available_for(required_bits)
    if there < supply.available:
        return f"{there:.0f} of its hosts match its constraints and are left"
    return supply.limited or f"{there:.0f} left of {supply.node_type.max_nodes}"


def why_not(chunk: Chunk, required_bits: int, units: int, supplies: Sequence[Supply]) -> str:
    """Return why units of a chunk could not be placed on new nodes."""
    missing = why_missing([chunk], [supply.node_type for supply in supplies])
    if missing and supplies:
        return missing
    if _none_matches(supplies, required_bits):
        return NO_HOST if any(supply.may_match(required_bits) for supply in supplies) else NO_MATCH
    want = ", ".join(
        text
        for text in (
            counted(chunk.cores, "core"),
            chunk.gpus and counted(chunk.gpus, "GPU"),
            chunk.memory and format_bytes(chunk.memory),
        )
        if text
    )
    fitting = [supply for supply in supplies if supply.fits(chunk, required_bits)]
    limits = [
        f"{s.nodes_for(chunk, units)} more of {s.node_type.name!r} needed, "
        + _why_no_more(s, required_bits)
        for s in fitting
    ]
    if sum(_units_of(s, chunk, required_bits) for s in fitting) >= units:
        limits.append(ONE_TYPE)
    which = "no node type with what its constraints ask for" if required_bits else "no node type"
    return "; ".join(limits) if limits else f"{which} has room for {want} on one node"
