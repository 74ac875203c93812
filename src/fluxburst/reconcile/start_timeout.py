"""Jobs that do not start although their nodes are ready and free: they are released.

So are those of bursts whose plugin says that they are ready, while nothing shows it.

Whatever the cause: money is not to run for nodes that nobody uses, nor a job to wait for them when
another way may be open. Causes that are known beforehand are reasons in the plan already.
"""

from __future__ import annotations

import enum
import logging
import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from fluxburst.config.policy import Policy
from fluxburst.errors import JobspecError
from fluxburst.flux.protocol import Instance
from fluxburst.formats.fluid import format_f58
from fluxburst.formats.units import format_duration
from fluxburst.hooks.manager import Manager
from fluxburst.ledger import Entry
from fluxburst.model.burst import Burst, BurstState
from fluxburst.model.constraints import compiled
from fluxburst.model.job import RUNNING, Job, Mark
from fluxburst.model.node import Node
from fluxburst.model.queues import Queue, why_not_startable
from fluxburst.model.scheduler import Scheduler
from fluxburst.model.scheduler_reading import as_read_by
from fluxburst.packing.fitting import fits_now
from fluxburst.planning.facts import may_be_isolated, sizes_bursts
from fluxburst.planning.setbacks import NOT_STARTED, some_of
from fluxburst.plugin.base import BurstPlugin
from fluxburst.reconcile.assign import Assigner
from fluxburst.reconcile.burst_store import BurstStore, is_placeholder
from fluxburst.reconcile.queue_mirror import PendingQueue
from fluxburst.reconcile.waiting import Waiting


class Why(str, enum.Enum):
    """Why a job could have started: what is said of one that has not."""

    FITS = (
        "although nodes that it fits on are free: jobs ahead of it, or a reservation, may hold them"
    )
    UNSEEN = "although its burst is said to be ready: no node of that is seen to be up, or used"
    UNTOLD = "although its plugin has answered, which does not say what it brought up"
    IDLE = "although nothing runs on the nodes of its burst: it may not fit on them"


class Stuck(NamedTuple):
    """A job that could have started."""

    job: Job
    mark: Mark
    why: Why


MOST_SECONDS = 5.0
"""How often is looked, at most."""

_log = logging.getLogger(__name__)


class StartTimeout:
    """Releases one client's jobs that do not start. Isolated bursts' are held here on purpose.

    Args:
        hooks: The client's hooks.
        plugins: The loaded plugins, by name.
        instance: The instance.
        backlog: The client's mirror of its pending jobs.
        store: Its store.
        assigner: What releases its jobs.
        waiting: Its jobs that wait until they are tried again.
        policy: Its policy.
    """

    def __init__(
        self,
        hooks: Manager,
        plugins: Mapping[str, BurstPlugin],
        instance: Instance,
        backlog: PendingQueue,
        store: BurstStore,
        assigner: Assigner,
        waiting: Waiting,
        policy: Policy,
    ) -> None:
        self._hooks = hooks
        self._plugins = plugins
        self._instance = instance
        self._backlog = backlog
        self._store = store
        self._assigner = assigner
        self._waiting = waiting
        self.policy = policy
        self._since: dict[tuple[int, Why], float] = {}
        self._sizing: set[str] = set()
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
        self._sizing = {name for name, one in self._plugins.items() if sizes_bursts(one)}
        self._release_stranded()
        stuck = list(self._stuck())
        known, self._since = self._since, {}
        for one in stuck:
            key = one.job.id, one.why
            before = 0.0 if self._has_looked else self._waited(one.job, one.mark)
            self._since[key] = known.get(key, now - before)
        self._has_looked = True
        late = [s for s in stuck if now - self._since[s.job.id, s.why] >= self._patience(s.why)]
        for plugin, burst, why in dict.fromkeys((s.mark.plugin, s.mark.burst, s.why) for s in late):
            theirs = [s.job for s in late if (s.mark.plugin, s.mark.burst) == (plugin, burst)]
            self._release(plugin, burst, theirs, why)

    def next_due(self) -> float:
        """Return when a job will have waited too long, in seconds since the epoch."""
        ends = [since + self._patience(why) for (_, why), since in self._since.items()]
        left = min(ends, default=math.inf) - self._instance.monotonic()
        return self._store.now() + max(left, 0.0)

    def _patience(self, why: Why) -> float:
        """Return how long a job may take to start, in seconds; its nodes may still have to come."""
        timeouts = self.policy.timeouts
        return timeouts.start + (timeouts.join if why is Why.UNTOLD else 0.0)

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
                self._assigner.release(self._plugins[mark.plugin], [job.id], why)

    def _release_stranded(self) -> None:
        """Release the jobs of plugins that size bursts themselves of which nothing is there."""
        jobs = [(job, mark) for job, mark in self._assigned() if mark.plugin in self._sizing]
        live = [entry.burst for entry in self._store.live()] if jobs else []
        names = {burst.name for burst in live}
        plugins = {burst.plugin for burst in live}
        for job, mark in jobs:
            if mark.burst not in names if mark.burst else mark.plugin not in plugins:
                self._assigner.release(self._plugins[mark.plugin], [job.id], _STRANDED)

    def _stuck(self) -> Iterator[Stuck]:
        """Yield the jobs that could have started by all that is known."""
        live = [entry.burst for entry in self._store.live()]
        ready = {burst.name: burst for burst in live if burst.state is BurstState.READY}
        waiting = [(j, m) for j, m in self._assigned() if not m.burst or m.burst in ready]
        nodes = self._instance.nodes() if waiting else ()
        awaited = {mark.burst for _, mark in waiting if mark.burst}
        unseen = self._without_nodes([ready[name] for name in awaited], nodes)
        fits = self._fitting(nodes)
        for job, mark in waiting:
            why = self._why(job, ready.get(mark.burst), mark.burst in unseen, nodes, fits)
            if why is not None:
                yield Stuck(job, mark, why)

    def _why(
        self,
        job: Job,
        burst: Burst | None,
        unseen: bool,
        nodes: Sequence[Node],
        fits: Callable[[Job], bool],
    ) -> Why | None:
        """Return why a job could have started; None where nothing says that it could."""
        untold = burst is not None and is_placeholder(burst, self._plugins[burst.plugin])
        if unseen and not untold:
            return Why.UNSEEN
        if fits(job):
            return Why.FITS
        if unseen:
            return Why.UNTOLD
        # Of other bursts it is known that their jobs fit on them, with what else is there.
        if burst is not None and burst.plugin in self._sizing and _nothing_runs_on(burst, nodes):
            return Why.IDLE
        return None

    def _fitting(self, nodes: Sequence[Node]) -> Callable[[Job], bool]:
        """Return what tells whether a job fits on what is free."""
        if not any(node.usable and (node.free_cores or node.free_gpus) for node in nodes):
            return lambda job: False
        scheduler = self._instance.scheduler()
        if not self.policy.placement.share_nodes:
            scheduler = replace(scheduler, whole_nodes=True)
        known: dict[object, bool] = {}

        def fits(job: Job) -> bool:
            try:
                alike = job.chunks, repr(job.constraint)
                if alike not in known:
                    known[alike] = _fits(job, nodes, scheduler)
            except JobspecError:
                return False
            return known[alike]

        return fits

    def _without_nodes(self, bursts: Collection[Burst], nodes: Sequence[Node]) -> frozenset[str]:
        """Return those of the bursts none of whose nodes is up; where none is known, nor used."""
        up = {node.hostname for node in nodes if node.up}
        nameless = any(not burst.hostnames for burst in bursts)
        running = self._instance.job_ids(RUNNING) if nameless else ()
        placed = [self._store.ledger.placements(job)[-1:] for job in running]
        used = {last.burst for (last,) in filter(None, placed)}
        return frozenset(
            burst.name
            for burst in bursts
            if (up.isdisjoint(burst.hostnames) if burst.hostnames else burst.name not in used)
        )

    def _waited(self, job: Job, mark: Mark) -> float:
        """Return for how long, by the ledger, a job may have waited for nodes that were free."""
        ledger = self._store.ledger
        times = [p.at for p in ledger.placements(job.id)[-1:]]
        entry: Entry | None = ledger.entry(mark.burst) if mark.burst else None
        if entry is not None:
            times.append(self._store.now() if entry.ready is None else entry.ready)
            uses = ledger.usages_of(entry.id)
            times += [self._store.now() if u.ended is None else u.ended for u in uses]
        return max(0.0, self._store.now() - max(times, default=math.inf))

    def _release(self, plugin_name: str, burst: str, jobs: Sequence[Job], why: Why) -> None:
        """Release jobs, and say so: this is a fault of somebody's."""
        plugin = self._plugins[plugin_name]
        within = format_duration(self._patience(why))
        reason = f"{NOT_STARTED}{within} {why.value}"
        ids = [job.id for job in jobs]
        self._assigner.release(plugin, ids, reason)
        self._waiting.note(ids)
        for jobid in ids:
            self._since.pop((jobid, why), None)
        where = f"burst {burst}" if burst else "nodes that were free"
        _log.warning(
            "plugin %s: job %s did not start on %s within %s, %s, "
            "and is released; see 'fluxburst why', and what the scheduler waits for "
            "('flux jobs', 'flux resource list', 'flux queue status')",
            plugin_name,
            some_of(map(format_f58, ids)),
            where,
            within,
            why.value.partition(":")[0],
            extra={"plugin": plugin_name, "burst": burst, "jobs": ids},
        )
        self._hooks.jobs_not_started(jobs, plugin, burst, reason)


_STRANDED = "nothing is there of what its plugin brought up for it"


def _nothing_runs_on(burst: Burst, nodes: Sequence[Node]) -> bool:
    """Whether all nodes of a burst are there for jobs, and none has any."""
    own = [node for node in nodes if node.hostname in burst.hostnames]
    return len(own) >= burst.nodes > 0 and all(node.usable and node.idle for node in own)


def _fits(job: Job, nodes: Sequence[Node], scheduler: Scheduler) -> bool:
    chunks = as_read_by(job.chunks, scheduler)
    return fits_now(chunks, tuple(nodes), compiled(job.constraint, job.id))
