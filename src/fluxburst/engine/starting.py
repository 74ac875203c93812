"""Jobs that do not start although their nodes are ready and free: they are released.

So are those of bursts whose plugin says that they are ready, while nothing shows it.

Whatever the cause: money is not to run for nodes that nobody uses, nor a job to wait for them when
another way may be open. Causes that are known beforehand are reasons in the plan already.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace

from fluxburst.bursts import Burst, BurstState
from fluxburst.constraints import compiled
from fluxburst.engine.backlog import Backlog
from fluxburst.engine.giving import Giver
from fluxburst.engine.records import Records
from fluxburst.engine.waiting import Waiting
from fluxburst.errors import JobspecError
from fluxburst.facts import may_be_isolated
from fluxburst.fitting import fits_now
from fluxburst.fluids import format_f58
from fluxburst.handles.protocol import Instance
from fluxburst.jobs import RUNNING, Job, Mark
from fluxburst.ledger import Entry
from fluxburst.manager import Manager
from fluxburst.nodes import Node
from fluxburst.plugins import BurstPlugin
from fluxburst.policy import Policy
from fluxburst.quantities import format_duration
from fluxburst.queues import Queue, why_not_startable
from fluxburst.reading import as_read_by
from fluxburst.scheduling import Scheduler
from fluxburst.setbacks import NOT_STARTED, some_of

_UNSEEN = "although its burst is said to be ready: no node of that is seen to be up, or used"

MOST_SECONDS = 5.0
"""How often is looked, at most."""

_log = logging.getLogger(__name__)


class Starting:
    """Releases one client's jobs that do not start. Isolated bursts' are held here on purpose.

    Args:
        hooks: The client's hooks.
        plugins: The loaded plugins, by name.
        instance: The instance.
        backlog: The client's mirror of its pending jobs.
        records: Its records.
        giver: What releases its jobs.
        waiting: Its jobs that wait until they are tried again.
        policy: Its policy.
    """

    def __init__(
        self,
        hooks: Manager,
        plugins: Mapping[str, BurstPlugin],
        instance: Instance,
        backlog: Backlog,
        records: Records,
        giver: Giver,
        waiting: Waiting,
        policy: Policy,
    ) -> None:
        self._hooks = hooks
        self._plugins = plugins
        self._instance = instance
        self._backlog = backlog
        self._records = records
        self._giver = giver
        self._waiting = waiting
        self.policy = policy
        self._since: dict[int, float] = {}
        self._unseen: frozenset[str] = frozenset()
        self._has_looked = False
        self._next = -math.inf

    def look(self, queues: Mapping[str, Queue]) -> None:
        """Release the jobs whose queue was closed, and those that have not started for too long.

        The time is that of a clock which cannot be set. What was before this process looked for
        the first time is taken from the ledger.
        """
        self._release_closed(queues)
        now = self._instance.monotonic()
        if now < self._next:
            return
        self._next = now + min(MOST_SECONDS, self.policy.timeouts.start / 10)
        stuck = list(self._stuck())
        known, self._since = self._since, {}
        for job, mark in stuck:
            before = 0.0 if self._has_looked else self._waited(job, mark)
            self._since[job.id] = known.get(job.id, now - before)
        self._has_looked = True
        late = [p for p in stuck if now - self._since[p[0].id] >= self.policy.timeouts.start]
        for plugin, burst in dict.fromkeys((mark.plugin, mark.burst) for _, mark in late):
            theirs = [job for job, m in late if (m.plugin, m.burst) == (plugin, burst)]
            self._release(plugin, burst, theirs)

    def next_due(self) -> float:
        """Return when a job will have waited too long, in seconds since the epoch."""
        if not self._since:
            return math.inf
        left = min(self._since.values()) + self.policy.timeouts.start - self._instance.monotonic()
        return self._records.now() + max(left, 0.0)

    # --- the steps -------------------------------------------------------------------------

    def _assigned(self) -> Iterator[tuple[Job, Mark]]:
        """Yield the pending jobs that are to start here, with their marks."""
        for name, plugin in self._plugins.items():
            if not may_be_isolated(plugin):
                for job, mark in list(self._backlog.given(name)):
                    if mark.urgency is None and not job.not_startable:
                        yield job, mark

    def _release_closed(self, queues: Mapping[str, Queue]) -> None:
        """Release the jobs whose queue was stopped or disabled meanwhile: they keep no burst."""
        if all(not queue.why_closed for queue in queues.values()):
            return
        for job, mark in list(self._assigned()):
            if why := why_not_startable(job, queues):
                self._giver.take_back(self._plugins[mark.plugin], [job.id], why)

    def _stuck(self) -> Iterator[tuple[Job, Mark]]:
        """Yield the jobs whose nodes are ready, and which fit on what is free.

        Also those of bursts that are said to be ready, and none of whose nodes is to be seen.
        """
        live = [entry.burst for entry in self._records.live()]
        ready = {burst.name: burst for burst in live if burst.state is BurstState.READY}
        waiting = [(j, m) for j, m in self._assigned() if not m.burst or m.burst in ready]
        nodes = self._instance.nodes() if waiting else ()
        awaited = {mark.burst for _, mark in waiting if mark.burst}
        self._unseen = self._without_nodes([ready[name] for name in awaited], nodes)
        yield from (pair for pair in waiting if pair[1].burst in self._unseen)
        waiting = [pair for pair in waiting if pair[1].burst not in self._unseen]
        if not any(node.usable and (node.free_cores or node.free_gpus) for node in nodes):
            return
        scheduler = self._instance.scheduler()
        if not self.policy.placement.share_nodes:
            scheduler = replace(scheduler, whole_nodes=True)
        known: dict[object, bool] = {}
        for job, mark in waiting:
            try:
                alike = job.chunks, repr(job.constraint)
                if alike not in known:
                    known[alike] = _fits(job, nodes, scheduler)
            except JobspecError:
                continue
            if known[alike]:
                yield job, mark

    def _without_nodes(self, bursts: Collection[Burst], nodes: Sequence[Node]) -> frozenset[str]:
        """Return those of the bursts none of whose nodes is up; where none is known, nor used."""
        up = {node.hostname for node in nodes if node.up}
        nameless = any(not burst.hostnames for burst in bursts)
        running = self._instance.job_ids(RUNNING) if nameless else ()
        placed = [self._records.ledger.placements(job)[-1:] for job in running]
        used = {last.burst for (last,) in filter(None, placed)}
        return frozenset(
            burst.name
            for burst in bursts
            if (up.isdisjoint(burst.hostnames) if burst.hostnames else burst.name not in used)
        )

    def _waited(self, job: Job, mark: Mark) -> float:
        """Return for how long, by the ledger, a job may have waited for nodes that were free."""
        ledger = self._records.ledger
        times = [p.at for p in ledger.placements(job.id)[-1:]]
        entry: Entry | None = ledger.entry(mark.burst) if mark.burst else None
        if entry is not None:
            times.append(self._records.now() if entry.ready is None else entry.ready)
            uses = ledger.usages_of(entry.id)
            times += [self._records.now() if u.ended is None else u.ended for u in uses]
        return max(0.0, self._records.now() - max(times, default=math.inf))

    def _release(self, plugin_name: str, burst: str, jobs: Sequence[Job]) -> None:
        """Release jobs, and say so: this is a fault of somebody's."""
        plugin = self._plugins[plugin_name]
        within = format_duration(self.policy.timeouts.start)
        unseen = burst in self._unseen
        although = _UNSEEN if unseen else "although nodes that it fits on are free"
        held = "" if unseen else ": jobs ahead of it, or a reservation, may hold them"
        reason = f"{NOT_STARTED}{within} {although}{held}"
        ids = [job.id for job in jobs]
        self._giver.take_back(plugin, ids, reason)
        self._waiting.note(ids)
        for jobid in ids:
            self._since.pop(jobid, None)
        where = f"burst {burst}" if burst else "nodes that were free"
        _log.warning(
            "plugin %s: job %s did not start on %s within %s, %s, "
            "and is released; see 'fluxburst why', and what the scheduler waits for "
            "('flux jobs', 'flux resource list', 'flux queue status')",
            plugin_name,
            some_of(map(format_f58, ids)),
            where,
            within,
            although,
            extra={"plugin": plugin_name, "burst": burst, "jobs": ids},
        )
        self._hooks.jobs_not_started(jobs, plugin, burst, reason)


def _fits(job: Job, nodes: Sequence[Node], scheduler: Scheduler) -> bool:
    chunks = as_read_by(job.chunks, scheduler)
    return fits_now(chunks, tuple(nodes), compiled(job.constraint, job.id))
