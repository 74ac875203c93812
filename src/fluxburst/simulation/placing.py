"""Places one job on the nodes of an embedded instance by a scheduler's rules."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace

from fluxburst.model.constraints import compiled
from fluxburst.model.job import Job
from fluxburst.model.jobspec import Chunk
from fluxburst.model.node import Node
from fluxburst.model.scheduler import Fit, Scheduler, as_read_by


@dataclass
class Share:
    """One job's share of one node."""

    cores: int = 0
    gpus: int = 0
    memory: int = 0


Allocation = dict[int, Share]


def place(
    job: Job, nodes: Iterable[Node], scheduler: Scheduler, needs: Collection[str] = ()
) -> Allocation | None:
    """Return a job's share of each node, by rank; None if it cannot start now.

    Args:
        job: The job.
        nodes: The current nodes of the instance.
        scheduler: The rules for placing it.
        needs: The properties that its queue requires.
    """
    constraint = compiled(job.constraint, job.id)
    usable = [
        node
        for node in nodes
        if node.usable
        and (node.free_cores or node.free_gpus)
        and node.properties.issuperset(needs)
        and constraint.matches(properties=node.properties, hostname=node.hostname, rank=node.rank)
    ]
    if scheduler.fit is Fit.WORST:
        usable.sort(key=lambda node: (-node.free_cores, -node.free_gpus, node.rank))
    else:
        usable.sort(key=lambda node: node.rank)
    allocation: Allocation = {}
    for chunk in as_read_by(job.chunks, scheduler):
        if not _place_chunk(chunk, usable, allocation, scheduler):
            return None
    return allocation


def give_back(nodes: dict[int, Node], allocation: Allocation) -> None:
    """Return a job's share to its nodes."""
    for rank, share in allocation.items():
        node = nodes[rank]
        nodes[rank] = replace(
            node,
            free_cores=node.free_cores + share.cores,
            free_gpus=node.free_gpus + share.gpus,
            free_memory=None if node.free_memory is None else node.free_memory + share.memory,
        )


def take(nodes: dict[int, Node], allocation: Mapping[int, Share]) -> None:
    """Allocate a job's share of nodes."""
    less = {rank: Share(-s.cores, -s.gpus, -s.memory) for rank, s in allocation.items()}
    give_back(nodes, less)


def _place_chunk(
    chunk: Chunk, nodes: Iterable[Node], allocation: Allocation, scheduler: Scheduler
) -> bool:
    """Add a ``chunk`` to ``allocation``; False if it does not fit."""
    worst = scheduler.fit is Fit.WORST
    most = max(chunk.count, chunk.details.most) if worst else chunk.count
    alone = chunk.exclusive or chunk.details.alone
    placed = 0
    for node in nodes:
        if placed >= most:
            break
        taken = allocation.get(node.rank)
        units = min(most - placed, _units_on(node, chunk, taken, memory=not worst))
        if units > 0:
            share = allocation.setdefault(node.rank, Share())
            share.cores += node.cores if alone else chunk.cores * units
            share.gpus += node.gpus if alone else chunk.gpus * units
            share.memory += (node.memory or 0) if alone else chunk.memory * units
            placed += units
    return placed >= chunk.count


def _units_on(node: Node, chunk: Chunk, taken: Share | None, *, memory: bool) -> int:
    taken = taken or Share()
    if (chunk.exclusive or chunk.details.alone) and not (node.idle and taken == Share()):
        return 0
    limits = [
        (have - used) // want
        for have, used, want in (
            (node.free_cores, taken.cores, chunk.cores),
            (node.free_gpus, taken.gpus, chunk.gpus),
            (node.free_memory if memory else None, taken.memory, chunk.memory),
        )
        if want and have is not None
    ]
    fits = min(limits, default=1)
    return min(fits, 1) if chunk.node or chunk.exclusive else fits
