"""The rules of a Flux scheduler for starting jobs and for interpreting ambiguous jobspecs."""

from __future__ import annotations

import enum
import functools
from collections.abc import Sequence
from dataclasses import dataclass, replace

from fluxburst.model.jobspec import PLAIN, Chunk


class Fit(str, enum.Enum):
    """Which node a scheduler takes, among those with room.

    ``WORST`` is that of ``flux.resource.Rv1Pool``: the one with most free cores, then GPUs, then
    the lowest rank. ``TIGHT`` represents all others, which fill a node before they begin another.
    """

    WORST = "worst"
    TIGHT = "tight"


@dataclass(frozen=True)
class Scheduler:
    """How the scheduler of an instance starts jobs.

    Attributes:
        name: The broker module that provides the service ``sched``; empty if unknown.
        fit: Which node it takes, among those with room.
        strict_order: A job that cannot start blocks all behind it, in every queue.
        whole_nodes: Each job has exclusive nodes, whatever it requests.
        queue_policy: Fluxion's policy for queues without their own (``fcfs``, ``easy``,
            ``conservative``, ``hybrid``); empty for other schedulers.
        queue_policies: Policies of the queues that have their own.
        match_policy: Fluxion's match policy; empty for other schedulers.
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
        """Return Fluxion's policy for a queue; empty for other schedulers."""
        return dict(self.queue_policies).get(queue, self.queue_policy)


FLUXION = "sched-fluxion-qmanager"
"""The module of Fluxion that provides the service ``sched``."""

SCHED_SIMPLE = Scheduler("sched-simple", Fit.WORST, strict_order=True)
"""The default scheduler of flux-core 0.84 and later."""

UNKNOWN = Scheduler()
"""The assumption for an unknown scheduler."""


GRAPH_UNIT = 10**9
"""Bytes in the memory unit of Fluxion's resource graphs: GB."""


@functools.lru_cache(maxsize=4096)
def as_read_by(chunks: tuple[Chunk, ...], scheduler: Scheduler) -> tuple[Chunk, ...]:
    """Return a request as a scheduler interprets it.

    ``flux.resource.Rv1Pool``, which places jobs for the schedulers of flux-core, turns a jobspec
    into one request: a number of nodes with a number of slots each, or a number of slots. It
    gives each exclusive slot a node, multiplies a slot around a node into each node, and assumes
    shared nodes unless the jobspec says otherwise. It ignores memory.
    Fluxion reads memory without a unit in the unit of its graph.

    Args:
        chunks: The request according to RFC 14.
        scheduler: The scheduler.
    """
    if all(chunk.details is PLAIN for chunk in chunks) and not scheduler.whole_nodes:
        return chunks
    if scheduler.is_fluxion:
        chunks = tuple(_with_plain_memory(chunk) for chunk in chunks)
    if scheduler.fit is Fit.WORST and len(chunks) == 1:
        chunks = (_flat(chunks[0]),)
    return alone(chunks) if scheduler.whole_nodes else chunks


def alone(chunks: Sequence[Chunk]) -> tuple[Chunk, ...]:
    """Return the same request with exclusive nodes."""
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
