"""Why jobs were not placed: what no node type has, and which limits hold new nodes back."""

from __future__ import annotations

from collections.abc import Sequence

from fluxburst.formats.units import counted, format_bytes
from fluxburst.model.jobspec import Chunk
from fluxburst.packing.fitting import NO_MATCH, why_missing
from fluxburst.packing.pool import Supply, units_that_fit

NO_HOST = "its constraints name hosts or ranks, and those of new nodes are not known beforehand"
ONE_TYPE = "and all new nodes of one job are of one node type"


def why_no_type(chunks: Sequence[Chunk], required_bits: int, supplies: Sequence[Supply]) -> str:
    """Return why no node type could run a job of several parts."""
    for chunk in chunks:
        if not any(supply.fits(chunk, required_bits) for supply in supplies):
            return why_not(chunk, required_bits, 1, supplies)
    return "no node type has room for each of its parts"


def _none_matches(supplies: Sequence[Supply], required_bits: int) -> bool:
    """Whether constraints leave nothing of what there is to choose from."""
    return bool(supplies) and not any(supply.matches(required_bits) for supply in supplies)


def _units_of(supply: Supply, chunk: Chunk, required_bits: int) -> float:
    """Return how many units of a chunk all nodes of a type that may follow have room for."""
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
