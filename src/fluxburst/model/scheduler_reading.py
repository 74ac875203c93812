"""What schedulers make of a request that jobspecs leave open, or that they read in several ways."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import replace

from fluxburst.model.jobspec import PLAIN, Chunk
from fluxburst.model.scheduler import Fit, Scheduler

GRAPH_UNIT = 10**9
"""Bytes of the unit that Fluxion's resource graphs have memory in: GB."""


@functools.lru_cache(maxsize=4096)
def as_read_by(chunks: tuple[Chunk, ...], scheduler: Scheduler) -> tuple[Chunk, ...]:
    """Return a request as a scheduler counts it.

    ``flux.resource.Rv1Pool``, which the schedulers of flux-core place jobs with, makes one request
    of a jobspec: so many nodes with so many slots each, or so many slots. It gives an exclusive
    slot a node, counts a slot that a node is in within each of the nodes, too, and takes nodes to
    be shared unless the jobspec says otherwise. It does not look at memory.
    Fluxion counts memory without a unit in the unit of its graph.

    Args:
        chunks: The request, as RFC 14 has it.
        scheduler: Who reads it.
    """
    if all(chunk.details is PLAIN for chunk in chunks) and not scheduler.whole_nodes:
        return chunks
    if scheduler.is_fluxion:
        chunks = tuple(_with_plain_memory(chunk) for chunk in chunks)
    if scheduler.fit is Fit.WORST and len(chunks) == 1:
        chunks = (_flat(chunks[0]),)
    return alone(chunks) if scheduler.whole_nodes else chunks


def alone(chunks: Sequence[Chunk]) -> tuple[Chunk, ...]:
    """Return a request for the same on nodes that no other job uses."""
    return tuple(
        replace(chunk, exclusive=True)
        if chunk.node or chunk.count == 1
        else replace(chunk, details=replace(chunk.details, alone=True))
        for chunk in chunks
    )


def _with_plain_memory(chunk: Chunk) -> Chunk:
    return replace(chunk, memory=chunk.memory + chunk.details.plain_memory * GRAPH_UNIT)


def _flat(chunk: Chunk) -> Chunk:
    details = chunk.details
    if details.exclusive_slot:
        return replace(chunk, node=True, exclusive=True)
    return replace(
        chunk,
        cores=chunk.cores * details.outer_slots,
        gpus=chunk.gpus * details.outer_slots,
        memory=chunk.memory * details.outer_slots,
        exclusive=chunk.exclusive and not (details.implied and chunk.cores),
    )
