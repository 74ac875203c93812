"""Jobs that Flux may start on nodes that they would outlive.

Flux does not know when nodes end: it starts whatever fits. So a burst that a job is about to
outlive is drained, and what waits for it is assigned anew. Jobs that wait for that very burst go
first, where all of them are short enough: it stays as long as one of them waits.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from fluxburst.bursts import BurstState
from fluxburst.constraints import compiled
from fluxburst.engine.backlog import Backlog
from fluxburst.engine.spans import Spans
from fluxburst.errors import FluxburstError
from fluxburst.fitting import could_fit
from fluxburst.fluids import format_f58
from fluxburst.jobs import Job
from fluxburst.ledger import Entry
from fluxburst.nodes import Node, NodeType
from fluxburst.quantities import format_duration

UP_STATES = frozenset({BurstState.JOINING, BurstState.READY})


class Outliving:
    """Finds the bursts that have to go, as a job is about to outlive them.

    Args:
        backlog: The client's mirror of its pending jobs.
        spans: How long its bursts live.
    """

    def __init__(self, backlog: Backlog, spans: Spans) -> None:
        self._backlog = backlog
        self._spans = spans

    def why_too_late(self, entry: Entry, now: float) -> str:
        """Return why a burst that is still coming is given up; empty where it can go on."""
        left = self._spans.until(entry) - now
        if math.isinf(left) or self._spans.is_queued(entry):
            return ""
        found = self._first(self._waiting_for(entry), left)
        return "" if found is None else self._say(found, left)

    def why_drained(self, entry: Entry, now: float, nodes: Sequence[Node]) -> str:
        """Return why a burst is to be drained; empty where it can stay.

        Args:
            entry: The burst.
            now: The time, in seconds since the epoch.
            nodes: The instance's nodes.
        """
        left = self._spans.until(entry) - now
        if entry.burst.isolated or entry.burst.state not in UP_STATES or math.isinf(left):
            return ""
        waiting = self._waiting_for(entry)
        found = self._first(waiting, left)
        if found is None and not any(map(self._may_start, waiting)):
            own = [node for node in nodes if node.hostname in entry.burst.hostnames]
            found = self._first(self._backlog.jobs.values(), left, own)
        return "" if found is None else self._say(found, left)

    def _say(self, job: Job, left: float) -> str:
        """Return that a job may outlive a burst that has so many seconds left for jobs."""
        needed = self._spans.lifespans.needed(job)
        runs = "has no time limit" if math.isinf(needed) else f"may run {format_duration(needed)}"
        rest = format_duration(max(0.0, left))
        return f"job {format_f58(job.id)} {runs}, and it has {rest} left for jobs"

    def _waiting_for(self, entry: Entry) -> list[Job]:
        ids = self._backlog.given_for(entry.burst.plugin, entry.burst.name)
        return [self._backlog.jobs[jobid] for jobid in ids]

    def _may_start(self, job: Job) -> bool:
        return self._backlog.keeps(job.id)

    def _first(
        self, jobs: Iterable[Job], left: float, nodes: Sequence[Node] | None = None
    ) -> Job | None:
        """Return the first of some jobs that needs nodes for longer than is left.

        Where nodes are given, of those that could start on one of them.
        """
        longer = (job for job in jobs if self._is_longer(job, left))
        return next((job for job in longer if nodes is None or _could_use(job, nodes)), None)

    def _is_longer(self, job: Job, left: float) -> bool:
        try:
            return self._spans.lifespans.needed(job) > left and self._may_start(job)
        except FluxburstError:
            return False  # a malformed job: Flux refuses it, or it is said where it is planned


def _could_use(job: Job, nodes: Sequence[Node]) -> bool:
    """Whether a part of a job would fit on one of these nodes, once that is free."""
    try:
        constraint = compiled(job.constraint, job.id)
        chunks = job.chunks
    except FluxburstError:
        return False
    return any(
        could_fit([chunk], [NodeType("", node.cores, node.gpus)])
        and constraint.matches(properties=node.properties, hostname=node.hostname, rank=node.rank)
        for node in nodes
        for chunk in chunks
    )
