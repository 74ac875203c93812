"""Jobs that Flux may start on nodes that they would outlive.

Flux does not know when nodes end: it starts whatever fits. So a burst that a job is about to
outlive is drained, and its waiting jobs are assigned again. A job that would not fit on all nodes
that are up, even if idle, cannot start there, and drains nothing. Jobs that wait for that
very burst go first, if all of them are short enough: it stays as long as one of them waits. A
burst on demand belongs to whoever requested it: it stays.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from fluxburst.errors import FluxburstError
from fluxburst.formats.fluid import format_f58
from fluxburst.formats.units import format_duration
from fluxburst.ledger import Entry
from fluxburst.model.burst import BurstState
from fluxburst.model.constraints import Constraint, compiled
from fluxburst.model.job import Job
from fluxburst.model.jobspec import Chunk
from fluxburst.model.node import Node, NodeType
from fluxburst.packing.fitting import could_fit, fits_now
from fluxburst.reconcile.queue_mirror import PendingQueue
from fluxburst.reconcile.remaining_life import RemainingLife

CHECK_SECONDS = 2.0
"""The minimum interval between checks of all pending jobs: passes may follow at once."""

UP_STATES = frozenset({BurstState.JOINING, BurstState.READY})


class Outliving:
    """Finds the bursts that must end because a job is about to outlive them.

    Args:
        pending_queue: The client's mirror of its pending jobs.
        spans: The lifetimes of its bursts.
    """

    def __init__(self, pending_queue: PendingQueue, spans: RemainingLife) -> None:
        self._pending_queue = pending_queue
        self._spans = spans
        self._shapes: Sequence[_Shape] = ()
        self._observed = -math.inf
        self._room = _Room(())

    def why_too_late(self, entry: Entry, now: float) -> str:
        """Return why a starting burst is given up; empty if it can go on."""
        left = self._spans.until(entry) - now
        if math.isinf(left) or entry.queued:
            return ""
        found = self._first(self._waiting_for(entry), left)
        return "" if found is None else self._say(found, left)

    def why_drained(self, entry: Entry, now: float, nodes: Sequence[Node]) -> str:
        """Return why a burst must be drained; empty if it can stay.

        Args:
            entry: The burst.
            now: Current time, in seconds since the epoch.
            nodes: The instance's nodes.
        """
        left = self._spans.until(entry) - now
        burst = entry.burst
        if burst.isolated or burst.state not in UP_STATES or math.isinf(left) or not burst.jobs:
            return ""
        waiting = self._waiting_for(entry)
        found = self._first(waiting, left)
        if found is None and not any(self._pending_queue.keeps(job.id) for job in waiting):
            own = [node for node in nodes if node.hostname in burst.hostnames]
            longer = itertools.takewhile(lambda one: one.needed > left, self._longest_first(now))
            room = self._room_of(nodes, own)
            could = (one.job for one in longer if one.could_use(own) and room.has_for(one))
            found = next(could, None)
        return "" if found is None else self._say(found, left)

    def _room_of(self, nodes: Sequence[Node], own: Sequence[Node]) -> _Room:
        """Return the nodes for starting jobs; the same for all bursts that are up."""
        if not all(node.usable for node in own):
            return _Room(nodes, own)
        if self._room.nodes is not nodes:
            self._room = _Room(nodes)
        return self._room

    def _say(self, job: Job, left: float) -> str:
        """Return the message that a job may outlive a burst with this many seconds left."""
        needed = self._spans.lifespans.needed(job)
        runs = "has no time limit" if math.isinf(needed) else f"may run {format_duration(needed)}"
        rest = format_duration(max(0.0, left))
        return f"job {format_f58(job.id)} {runs}, but it has {rest} left for jobs"

    def _waiting_for(self, entry: Entry) -> list[Job]:
        ids = self._pending_queue.assigned_to(entry.burst.plugin, entry.burst.name)
        return [self._pending_queue.jobs[jobid] for jobid in ids]

    def _first(self, jobs: Iterable[Job], left: float) -> Job | None:
        """Return the first job that needs nodes for longer than is left."""
        return next((job for job in jobs if self._is_longer(job, left)), None)

    def _is_longer(self, job: Job, left: float) -> bool:
        try:
            return self._spans.lifespans.needed(job) > left
        except FluxburstError:
            return False  # a malformed job: Flux refuses it, or planning reports it

    def _longest_first(self, now: float) -> Sequence[_Shape]:
        """Return the jobs that could start, one of each group of equal ones, the longest first."""
        if not 0 <= now - self._observed < CHECK_SECONDS:
            shapes: dict[object, _Shape] = {}
            for job in self._pending_queue.jobs.values():
                if job.not_startable:
                    continue
                try:
                    needed = self._spans.lifespans.needed(job)
                    shape = _Shape(needed, job, compiled(job.constraint, job.id), job.chunks)
                except FluxburstError:
                    continue  # as above
                shapes.setdefault((needed, shape.constraint, shape.chunks), shape)
            self._shapes = sorted(shapes.values(), key=lambda one: -one.needed)
            self._observed = now
        return self._shapes


@dataclass(frozen=True)
class _Shape:
    """The equal needs of jobs: ``job`` is one of them."""

    needed: float
    job: Job
    constraint: Constraint
    chunks: tuple[Chunk, ...]

    def could_use(self, nodes: Sequence[Node]) -> bool:
        """Whether a part of it fits on one of these nodes, once idle."""
        matches = self.constraint.matches
        return any(
            could_fit([chunk], [NodeType("", node.cores, node.gpus)])
            and matches(properties=node.properties, hostname=node.hostname, rank=node.rank)
            for node in nodes
            for chunk in self.chunks
        )


class _Room:
    """The nodes for starting jobs, as if idle.

    Args:
        nodes: The instance's nodes; those that are up and not drained count.
        own: Those of a burst, which always count.
    """

    def __init__(self, nodes: Sequence[Node], own: Collection[Node] = ()) -> None:
        self.nodes = nodes
        self._own = {node.hostname for node in own}
        self._fits: dict[tuple[object, ...], bool] = {}

    @cached_property
    def _free(self) -> tuple[Node, ...]:
        return tuple(
            replace(
                node,
                free_cores=node.cores,
                free_gpus=node.gpus,
                free_memory=node.memory,
                up=True,
                drained=False,
            )
            for node in self.nodes
            if node.usable or node.hostname in self._own
        )

    def has_for(self, shape: _Shape) -> bool:
        """Whether a whole job fits."""
        key = (shape.chunks, shape.constraint)
        if key not in self._fits:
            self._fits[key] = fits_now(shape.chunks, self._free, shape.constraint)
        return self._fits[key]
