"""The rules by which a Flux scheduler starts jobs, and how it reads what jobspecs leave open."""

from __future__ import annotations

import enum
import functools
from collections.abc import Sequence
from dataclasses import dataclass, replace

from fluxburst.model.jobspec import PLAIN, Chunk


class Fit(str, enum.Enum):
    """Which node a scheduler takes, of those that have room.

    ``WORST`` is that of ``flux.resource.Rv1Pool``: the one with most free cores, then GPUs, then
    the lowest rank. ``TIGHT`` stands for the others, which fill a node before they begin another.
    """

    WORST = "worst"
    TIGHT = "tight"


@dataclass(frozen=True)
class Scheduler:
    """How the scheduler of an instance starts jobs.

    Attributes:
        name: The broker module that provides the service ``sched``; empty where that is not known.
        fit: Which node it takes, of those that have room.
        strict_order: A job that cannot start holds up all behind it, of every queue.
        whole_nodes: Each job has its nodes alone, whatever it asks for.
        queue_policy: Fluxion's policy for queues that have none of their own (``fcfs``, ``easy``,
            ``conservative``, ``hybrid``); empty for schedulers that have none.
        queue_policies: Queues that have a policy of their own, each with it.
        match_policy: Fluxion's match policy; empty for schedulers that have none.
    """

    name: str = ""
    fit: Fit = Fit.TIGHT
    strict_order: bool = False
    whole_nodes: bool = False
    queue_policy: str = ""
    queue_policies: tuple[tuple[str, str], ...] = ()
    match_policy: str = ""

    @property
    def is_fluxion(self) -> bool:
        """Whether it is Fluxion (flux-sched)."""
        return self.name == FLUXION

    def policy_of(self, queue: str) -> str:
        """Return Fluxion's policy for a queue; empty for schedulers that have none."""
        return dict(self.queue_policies).get(queue, self.queue_policy)


FLUXION = "sched-fluxion-qmanager"
"""The module of Fluxion that provides the service ``sched``."""

SCHED_SIMPLE = Scheduler("sched-simple", Fit.WORST, strict_order=True)
"""The scheduler of flux-core 0.84 and later, where no other was chosen."""

UNKNOWN = Scheduler()
"""What a scheduler is taken for that is not known."""


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
