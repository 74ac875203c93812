"""Releases jobs that do not start although their nodes are ready and free.

Also those of bursts that their plugin reports as ready although no sign of them is seen, and those
that do not fit on the nodes that came.

Whatever the cause: unused nodes must not cost money, and a job must not wait for them if it could
run elsewhere. Causes known beforehand are reasons in the plan already.
"""

from __future__ import annotations

import enum
import logging
import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import NamedTuple

from fluxburst.errors import JobspecError
from fluxburst.formats.fluid import format_f58
from fluxburst.formats.units import format_duration
from fluxburst.ledger import Entry, SetbackKind
from fluxburst.model.burst import Burst, BurstState
from fluxburst.model.job import RUNNING, Job, Mark
from fluxburst.model.node import Node
from fluxburst.model.queues import Queue, why_not_startable
from fluxburst.planning.facts import may_be_isolated
from fluxburst.planning.setbacks import some_of
from fluxburst.plugin.adapter import provider_of
from fluxburst.reconcile.assign import Assigner
from fluxburst.reconcile.burst_store import is_placeholder
from fluxburst.reconcile.scan import Waiting
from fluxburst.reconcile.shared import Shared
from fluxburst.reconcile.shortfalls import (
    Shortfalls,
    describe_nodes,
    describe_request,
    nodes_of,
)
from fluxburst.reconcile.start_room import Room


class Why(str, enum.Enum):
    """Why a job could have started: part of the reason for releasing it."""

    FITS = (
        "although nodes that it fits on are free: jobs ahead of it, or a reservation, may hold them"
    )
    UNSEEN = "although its burst is said to be ready: no node of that is seen to be up, or used"
    UNTOLD = "although its plugin has answered, which does not say what it brought up"
    IDLE = "although nothing runs on the nodes of its burst"
    SMALL = "although its burst is ready"


class Stuck(NamedTuple):
    """A job that could have started, or that cannot."""

    job: Job
    mark: Mark
    why: Why


class Told(NamedTuple):
    """The verdict on such a job.

    Attributes:
        reason: Within what it did not start, and why it is released.
        is_short: Its burst is known to have less than requested.
    """

    reason: str
    is_short: bool = False


MOST_SECONDS = 5.0
"""The minimum interval between checks."""

_log = logging.getLogger(__name__)


class StartTimeout:
    """Releases one client's jobs that do not start. Isolated bursts' jobs are held on purpose.

    Args:
        shared: What the parts of a client share.
        assigner: Releases its jobs.
        waiting: Its jobs that wait for a retry.
    """

    def __init__(self, shared: Shared, assigner: Assigner, waiting: Waiting) -> None:
        self._hooks = shared.hooks
        self._plugins = shared.plugins
        self._instance = shared.instance
        self._pending_queue = shared.pending_queue
        self._store = shared.store
        self._assigner = assigner
        self._waiting = waiting
        self._shared = shared
        self._shortfalls = Shortfalls(shared.plugins)
        self._since: dict[tuple[int, Why], float] = {}
        self._sizing: set[str] = set()
        self._has_observed = False
        self._next = -math.inf

    def observe(self, queues: Mapping[str, Queue]) -> None:
        """Release jobs whose queue was closed, and those that have not started for too long.

        The time comes from a monotonic clock. For the time before this process's first check,
        the ledger counts.
        """
        self._release_closed(queues)
        now = self._instance.monotonic()
        if now < self._next:
            return
        self._next = now + min(MOST_SECONDS, self._shared.policy.timeouts.start / 10)
        self._sizing = {
            name for name, one in self._plugins.items() if provider_of(one).sizes_bursts
        }
        self._release_stranded()
        live = [entry.burst for entry in self._store.ledger.live()]
        room = Room(self._instance, self._shared.policy, self._shortfalls, live)
        stuck = list(self._stuck(live, room))
        known, self._since = self._since, {}
        for one in stuck:
            key = one.job.id, one.why
            before = 0.0 if self._has_observed else self._waited(one.job, one.mark)
            self._since[key] = known.get(key, now - before)
        self._has_observed = True
        late = {
            job.id for job, _, why in stuck if now - self._since[job.id, why] >= self._patience(why)
        }
        # If there are several findings about a job, the first describes the present.
        said = {s.job.id: s for s in reversed(stuck) if s.job.id in late}
        bursts = {burst.name: burst for burst in live}
        groups: dict[tuple[str, str, Told], list[Job]] = {}
        for s in sorted(said.values(), key=lambda s: s.job.id):
            told = self._told(s, bursts.get(s.mark.burst), room)
            groups.setdefault((s.mark.plugin, s.mark.burst, told), []).append(s.job)
        for (plugin, burst, told), jobs in groups.items():
            self._release(plugin, burst, jobs, told)

    def next_due(self) -> float:
        """Return when a job will have waited too long, in seconds since the epoch."""
        ends = [since + self._patience(why) for (_, why), since in self._since.items()]
        left = min(ends, default=math.inf) - self._instance.monotonic()
        return self._store.now() + max(left, 0.0)

    def _patience(self, why: Why) -> float:
        """Return how long a job may take to start, in seconds; its nodes may still have to join."""
        timeouts = self._shared.policy.timeouts
        return timeouts.start + (timeouts.join if why is Why.UNTOLD else 0.0)

    # --- their steps -----------------------------------------------------------------------

    def _assigned(self) -> Iterator[tuple[Job, Mark]]:
        """Yield the pending jobs that wait for nodes of this instance, with their marks."""
        for name, plugin in self._plugins.items():
            if not may_be_isolated(plugin):
                for job, mark in list(self._pending_queue.given(name)):
                    if mark.urgency is None:
                        yield job, mark

    def _startable(self) -> Iterator[tuple[Job, Mark]]:
        """Yield those that should start: not those that wait for more than capacity."""
        return ((job, mark) for job, mark in self._assigned() if not job.not_startable)

    def _release_closed(self, queues: Mapping[str, Queue]) -> None:
        """Release the jobs whose queue was stopped or disabled meanwhile: they keep no burst.

        Also those that their users hold: otherwise they would keep a burst once they are not held.
        """
        if all(not queue.why_closed for queue in queues.values()):
            return
        for job, mark in list(self._assigned()):
            if why := why_not_startable(job, queues):
                self._assigner.release(self._plugins[mark.plugin], [job.id], why)

    def _release_stranded(self) -> None:
        """Release the jobs of plugins that size bursts themselves, if nothing of these exists."""
        jobs = [(job, mark) for job, mark in self._startable() if mark.plugin in self._sizing]
        live = [entry.burst for entry in self._store.ledger.live()] if jobs else []
        names = {burst.name for burst in live}
        plugins = {burst.plugin for burst in live}
        for job, mark in jobs:
            if mark.burst not in names if mark.burst else mark.plugin not in plugins:
                self._assigner.release(self._plugins[mark.plugin], [job.id], _STRANDED)

    def _stuck(self, live: Sequence[Burst], room: Room) -> Iterator[Stuck]:
        """Yield the jobs that could have started, as far as is known, and those that cannot."""
        ready = {burst.name: burst for burst in live if burst.state is BurstState.READY}
        waiting = [(j, m) for j, m in self._startable() if not m.burst or m.burst in ready]
        awaited = [ready[name] for name in dict.fromkeys(m.burst for _, m in waiting if m.burst)]
        unseen = self._without_nodes(awaited, room.nodes) if awaited else frozenset()
        if awaited:
            self._shortfalls.observe(awaited, room.nodes)
        for job, mark in waiting:
            for why in self._whys(job, ready.get(mark.burst), mark.burst in unseen, room):
                yield Stuck(job, mark, why)

    def _whys(self, job: Job, burst: Burst | None, unseen: bool, room: Room) -> Iterator[Why]:
        """Yield the findings about a job that could have started, or cannot; the present one first.

        A job whose burst is idle does not wait for that, whatever else it waits for: that costs
        money for nothing. A job that waits for others to end there is left alone, if it fits then.
        """
        untold = burst is not None and is_placeholder(burst, self._plugins[burst.plugin])
        if unseen and not untold:
            yield Why.UNSEEN
            return
        fits = room.fits_now(job)
        if fits:
            yield Why.FITS
        elif unseen:
            yield Why.UNTOLD
        if burst is None or unseen:
            return
        if _nothing_runs_on(burst, room.nodes):
            yield Why.IDLE
        if not fits and not room.may_fit_later(job):
            yield Why.SMALL

    def _told(self, stuck: Stuck, burst: Burst | None, room: Room) -> Told:
        """Return the verdict on a job to be released."""
        job, why = stuck.job, stuck.why
        reason = f"{format_duration(self._patience(why))} {why.value}"
        if burst is None or why not in (Why.IDLE, Why.SMALL):
            return Told(reason)
        try:
            asked = describe_request(job.chunks)
        except JobspecError:
            return Told(f"{reason}: it may not fit there")
        has = describe_nodes(nodes_of(burst, room.nodes))
        less = self._shortfalls.less_than_said(burst, room.nodes)
        hopeless = not room.may_fit_later(job)
        what = "it does not fit" if hopeless else "it does not fit on the free part"
        more = f" (a node has {less})" if less else ""
        return Told(
            f"{reason}: {what}: it needs {asked}, but its burst has {has}{more}",
            is_short=bool(burst.node_type) and (hopeless or bool(less)),
        )

    def _without_nodes(self, bursts: Collection[Burst], nodes: Sequence[Node]) -> frozenset[str]:
        """Return the bursts without any node that is up; if none is known, without any use."""
        up = {node.hostname for node in nodes if node.up}
        nameless = any(not burst.hostnames for burst in bursts)
        running = self._instance.job_ids(RUNNING) if nameless else ()
        assigned = [self._store.ledger.assignments(job)[-1:] for job in running]
        used = {last.burst for (last,) in filter(None, assigned)}
        return frozenset(
            burst.name
            for burst in bursts
            if (up.isdisjoint(burst.hostnames) if burst.hostnames else burst.name not in used)
        )

    def _waited(self, job: Job, mark: Mark) -> float:
        """Return how long, by the ledger, a job may have waited for free nodes."""
        ledger = self._store.ledger
        times = [p.at for p in ledger.assignments(job.id)[-1:]]
        entry: Entry | None = ledger.entry(mark.burst) if mark.burst else None
        if entry is not None:
            times.append(self._store.now() if entry.ready is None else entry.ready)
            uses = ledger.usages_of(entry.id)
            times += [self._store.now() if u.ended is None else u.ended for u in uses]
        return max(0.0, self._store.now() - max(times, default=math.inf))

    def _release(self, plugin_name: str, burst: str, jobs: Sequence[Job], told: Told) -> None:
        """Release jobs, and warn: something is wrong."""
        plugin, reason = self._plugins[plugin_name], f"it did not start within {told.reason}"
        ids = [job.id for job in jobs]
        if told.is_short:
            self._count_shortfall(burst, reason)
        self._assigner.release(plugin, ids, reason, SetbackKind.NOT_STARTED)
        self._waiting.note(ids)
        gone = set(ids)
        self._since = {key: since for key, since in self._since.items() if key[0] not in gone}
        where = f"burst {burst}" if burst else "nodes that were free"
        _log.warning(
            "plugin %s: job %s did not start on %s within %s, "
            "and is released; see 'fluxburst why', and what the scheduler waits for "
            "('flux jobs', 'flux resource list', 'flux queue status')",
            plugin_name,
            some_of(map(format_f58, ids)),
            where,
            told.reason,
            extra={"plugin": plugin_name, "burst": burst, "jobs": ids},
        )
        self._hooks.jobs_not_started(jobs, plugin, burst, reason)

    def _count_shortfall(self, name: str, why: str) -> None:
        """Count it against the node type that a burst has less than its jobs were promised.

        That opens its breaker at once, since a burst that comes up would close it each time.
        """
        entry = self._store.ledger.entry(name)
        if entry is not None:
            self._store.count_failure(entry.burst, why, self._shared.policy.breakers, final=True)


_STRANDED = "nothing exists of what its plugin provisioned for it"


def _nothing_runs_on(burst: Burst, nodes: Sequence[Node]) -> bool:
    """Whether all nodes of a burst that are up are available to jobs, but unused."""
    own = nodes_of(burst, nodes)
    return bool(own) and all(node.usable and node.idle for node in own)
