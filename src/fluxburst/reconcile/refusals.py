"""Jobs that Fluxion would fail once nodes are gone: checked before nodes are drained.

Under the policies ``fcfs`` and ``easy`` Fluxion fails a job that needs more nodes than are up when
its turn comes, and a drained node counts as lost. So an idle burst stays as long as its lease and
lifetime allow; if it must go nevertheless, the jobs are named first.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import replace

from fluxburst.errors import JobspecError
from fluxburst.flux.protocol import Instance
from fluxburst.formats.fluid import format_f58
from fluxburst.model.burst import Burst
from fluxburst.model.constraints import compiled
from fluxburst.model.job import Job
from fluxburst.model.node import Node
from fluxburst.packing.fitting import fits_now
from fluxburst.provider.fluxion import ADVICE, REFUSING_POLICIES
from fluxburst.reconcile.queue_mirror import PendingQueue

NAMES_SHOWN = 5

_log = logging.getLogger(__name__)


class Refusals:
    """Tells which pending jobs need nodes to stay up.

    Args:
        instance: The instance.
        pending_queue: The client's mirror of its pending jobs.
    """

    def __init__(self, instance: Instance, pending_queue: PendingQueue) -> None:
        self._instance = instance
        self._pending_queue = pending_queue
        self._said: dict[tuple[str, str], tuple[int, ...]] = {}

    def keep(self, burst: Burst) -> bool:
        """Whether an optional termination is postponed because jobs would fail; logs them."""
        jobs = self.of(burst.hostnames)
        self._say(
            burst,
            jobs,
            "burst %s is idle, but stays up until its lease or lifetime ends: Fluxion would fail "
            "job %s, which then needs more than is up; %s",
        )
        return bool(jobs)

    def warn(self, burst: Burst) -> None:
        """Name the jobs that will fail once a burst is drained that must go."""
        self._say(
            burst,
            self.of(burst.hostnames),
            "terminating burst %s: Fluxion may fail job %s, which then needs more than is up; %s",
        )

    def of(self, hostnames: Collection[str]) -> list[Job]:
        """Return the pending jobs that could start on what is up, but not without some hosts."""
        scheduler = self._instance.scheduler()
        if not (scheduler.is_fluxion and hostnames):
            return []
        waiting = [
            job
            for job in self._pending_queue.jobs.values()
            if scheduler.policy_of(job.queue) in REFUSING_POLICIES and not job.not_startable
        ]
        if not waiting:
            return []
        up = tuple(_empty(n) for n in self._instance.nodes() if n.up and not n.drained)
        left = tuple(node for node in up if node.hostname not in hostnames)
        if len(left) == len(up):
            return []
        # Node by node, since facts about nodes are cached for one tuple of them at a time.
        could = [job for job in waiting if _fits(job, up)]
        return [job for job in could if not _fits(job, left)]

    def _say(self, burst: Burst, jobs: Sequence[Job], message: str) -> None:
        ids = tuple(job.id for job in jobs)
        said = burst.name, message
        if self._said.get(said, ()) != ids:
            names = ", ".join(map(format_f58, ids[:NAMES_SHOWN]))
            more = f" and {len(ids) - NAMES_SHOWN} more" if len(ids) > NAMES_SHOWN else ""
            if ids:
                extra = {"burst": burst.name, "jobs": list(ids)}
                _log.warning(message, burst.name, names + more, ADVICE, extra=extra)
            self._said[said] = ids


def _empty(node: Node) -> Node:
    """Return a node as if idle: Fluxion's decision is based on that."""
    return replace(node, free_cores=node.cores, free_gpus=node.gpus, free_memory=node.memory)


def _fits(job: Job, nodes: tuple[Node, ...]) -> bool:
    with suppress(JobspecError):
        return fits_now(job.chunks, nodes, compiled(job.constraint, job.id))
    return False
