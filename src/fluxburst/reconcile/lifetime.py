"""Keeps bursts as long as needed: leases, idleness, lifetimes, and the end of draining.

Every burst has a lease. It is renewed while the service runs and the limits allow it; a burst that
cannot be renewed, is idle, or has lived long enough is drained and then ended.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace

from fluxburst.errors import BurstError, FluxburstError, LedgerError, LimitError
from fluxburst.formats.hostlist import parse_hostlist
from fluxburst.formats.units import format_duration
from fluxburst.ledger import Entry, Usage
from fluxburst.model.burst import COMING_STATES, Burst, BurstState, EndReason
from fluxburst.model.job import RUNNING
from fluxburst.model.node import Node
from fluxburst.packing.limits import Budget, owner_of
from fluxburst.plugin.base import BurstPlugin, as_burst_error
from fluxburst.plugin.validation import check_burst
from fluxburst.reconcile.assign import Assigner
from fluxburst.reconcile.drain import CANCEL_SECONDS, Drainer
from fluxburst.reconcile.housekeeping import Housework
from fluxburst.reconcile.outliving import Outliving
from fluxburst.reconcile.refusals import Refusals
from fluxburst.reconcile.remaining_life import RemainingLife
from fluxburst.reconcile.shared import Shared
from fluxburst.reconcile.terminate import Terminator
from fluxburst.reconcile.workers import Answer, Call, Done, Failed, TimedOut

KEPT_STATES = COMING_STATES | {BurstState.READY}


class LeaseKeeper:
    """Keeps one client's bursts.

    Args:
        shared: What the parts of a client share.
        assigner: Releases its jobs.
        drainer: Drains its bursts.
        terminator: Terminates its bursts.
        refusals: Tells which jobs would fail without some nodes.
        spans: The lifetimes of its bursts.
        budget: Returns what the limits leave now.
    """

    def __init__(
        self,
        shared: Shared,
        assigner: Assigner,
        drainer: Drainer,
        terminator: Terminator,
        refusals: Refusals,
        spans: RemainingLife,
        budget: Callable[[float], Budget],
    ) -> None:
        self._hooks = shared.hooks
        self._instance = shared.instance
        self._pending_queue = shared.pending_queue
        self._store = shared.store
        self._assigner = assigner
        self._drainer = drainer
        self._terminator = terminator
        self._workers = shared.workers
        self._refusals = refusals
        self._shared = shared
        self._budget = budget
        self._spans = spans
        self._outliving = Outliving(shared.pending_queue, spans)
        self._housework = Housework(shared.instance)
        self._ask_again: dict[str, float] = {}
        self.errors: list[FluxburstError] = []

    def keep(self) -> None:
        """Record usage; renew, drain and end what is due."""
        entries = [
            e for e in self._store.ledger.live() if self._store.plugin_of(e.burst) is not None
        ]
        if not entries and not self._store.ledger.usages(running=True):
            return
        nodes = self._instance.nodes()
        running = self._running(entries, nodes)
        self._note_usage(entries, running, nodes)
        self._housework.begin()
        for entry in entries:
            if entry.burst.name in self._workers.in_flight:
                continue
            busy = running[entry.burst.name] or self._housework.on(entry.burst, nodes)
            if entry.burst.state in KEPT_STATES:
                self._keep(entry, busy, nodes)
            else:
                own = [node for node in nodes if node.hostname in entry.burst.hostnames]
                self._finish(entry, busy=bool(busy) or not all(node.idle for node in own))

    def next_due(self) -> float:
        """Return the next time something is due, in seconds since the epoch."""
        lifetimes = self._shared.policy.lifetimes
        times = [math.inf]
        for entry in self._store.ledger.live():
            burst = entry.burst
            times.append(self._spans.limit_of(entry) - lifetimes.teardown)
            if burst.state is BurstState.DRAINING:
                times += [self._cancelled_at(entry), self._ended_at(entry)]
            if burst.lease_until is not None:
                times.append(burst.lease_until - self._spans.lifespans.lease / 2)
                times.append(burst.lease_until - lifetimes.teardown)
            if entry.idle is not None:
                times.append(self._idle_end(entry))
        now = self._store.now()
        return min([when for when in times if when > now], default=math.inf)

    # --- one burst -------------------------------------------------------------------------

    def _keep(self, entry: Entry, running: Collection[int], nodes: Sequence[Node]) -> None:
        now = self._store.now()
        # A burst on demand is wanted until it is up.
        on_demand = entry.burst.state in COMING_STATES and not entry.burst.jobs
        wanted = running or on_demand or self._is_waited_for(entry.burst)
        entry = self._note_idleness(entry, idle=not wanted)
        if now >= self._spans.limit_of(entry) - self._spans.lifespans.teardown:
            lived = format_duration(self._spans.longest(entry))
            self._drain(entry, f"it may live {lived} at most", EndReason.LIFETIME)
        elif self._is_idle_too_long(entry, now):
            # It stays for jobs that its end would fail, but is not renewed.
            if self._is_late(entry, now) or not self._refusals.keep(entry.burst):
                idle = format_duration(self._shared.policy.lifetimes.idle_timeout)
                why = f"no job has been on it, or waited for it, for {idle}"
                self._drainer.drain(entry.burst, why, EndReason.IDLE)
        elif (why := self._outliving.why_drained(entry, now, nodes)) and not self._refusals.of(
            entry.burst.hostnames
        ):  # draining it certainly fails jobs under Fluxion; outliving it is only a possibility
            self._drain(entry, why, EndReason.OUTLIVED)
        elif entry.burst.lease_until is not None:
            self._check_lease(entry, now)

    def _check_lease(self, entry: Entry, now: float) -> None:
        name = entry.burst.name
        late = self._is_late(entry, now)
        # A refused renewal is retried as long as there is time.
        if not (late and name in self._spans.refused) and self._renew_if_due(entry, now):
            return
        if late:
            why = (
                self._spans.refused.pop(name, "")
                or self._spans.fixed(entry)
                or "it was not renewed in time"
            )
            self._drain(entry, f"its lease ends: {why}", EndReason.LEASE)

    def _drain(self, entry: Entry, why: str, end_reason: EndReason) -> None:
        """Drain a burst, and release the jobs that wait for it: they can no longer start on it."""
        self._drainer.drain(entry.burst, why, end_reason)
        plugin = self._store.plugin_of(entry.burst)
        assert plugin is not None
        waiting = self._assigner.waiting_for(plugin, {entry.burst.name})
        self._assigner.release(plugin, waiting, f"burst {entry.burst.name} is drained: {why}")

    def _is_late(self, entry: Entry, now: float) -> bool:
        """Whether the lease ends before a burst could be terminated in order."""
        until = entry.burst.lease_until
        return until is not None and now >= until - self._spans.lifespans.teardown

    def _finish(self, entry: Entry, *, busy: bool) -> None:
        """End a drained burst once no job runs on it; cancel its jobs once its time is up."""
        burst, now = entry.burst, self._store.now()
        cancel_at = self._cancelled_at(entry)
        if busy and now < cancel_at:
            if burst.state is BurstState.DRAINING:
                self._renew_if_due(entry, now)
            return
        if busy and not burst.isolated:
            self._drainer.cancel(burst, f"the time of burst {burst.name} is up: {entry.reason}")
            if self._drainer.why_busy(burst) and now < self._ended_at(entry):
                return
        if burst.state is BurstState.DRAINING:
            self._terminator.end(burst, entry.reason)

    def _cancelled_at(self, entry: Entry) -> float:
        """Return when the jobs on a drained burst are cancelled, in seconds since the epoch."""
        lease = entry.burst.lease_until
        last = min(self._spans.limit_of(entry), math.inf if lease is None else lease)
        return last - self._spans.lifespans.teardown / 2

    def _ended_at(self, entry: Entry) -> float:
        """Return when a drained burst is ended whatever still runs on it."""
        patience = min(CANCEL_SECONDS, self._spans.lifespans.teardown / 4)
        return self._cancelled_at(entry) + patience

    # --- leases ----------------------------------------------------------------------------

    def _renew_if_due(self, entry: Entry, now: float) -> bool:
        """Have a lease renewed once half of it is over; return whether the plugin is asked to."""
        before = entry.burst.lease_until
        if before is None or before - now >= self._spans.renewed_at(entry):
            return False
        name = entry.burst.name
        if now < self._ask_again.get(name, -math.inf):
            return False
        self._ask_again[name] = now + self._spans.asked_again(entry)
        return self._renew(entry, now)

    def _renew(self, entry: Entry, now: float) -> bool:
        """Reserve the money for a longer lease, then have the plugin arm it."""
        plugin = self._store.plugin_of(entry.burst)
        before = entry.burst.lease_until
        assert plugin is not None
        assert before is not None
        until = min(now + self._spans.lease_of(entry), self._spans.limit_of(entry))
        if until <= before or until == math.inf or plugin.name in self._workers.stuck():
            return False
        try:
            with self._store.ledger.transaction(durable=True):
                why = self._budget(now).why_not_longer(
                    owner_of(entry), entry.burst, max(now, before), until
                )
                if not why:
                    wanted = self._store.record(plugin, replace(entry.burst, lease_until=until))
        except LedgerError as error:  # no money can be reserved
            plugin.bursts[entry.burst.name] = entry.burst
            self._spans.refused[entry.burst.name] = str(error)
            return False
        if why:
            if self._spans.refused.get(entry.burst.name) != why:
                refused = LimitError(why, plugin=plugin.name, burst=entry.burst.name)
                self._hooks.phase_failed("renew", plugin, refused)
            self._spans.refused[entry.burst.name] = why
            return False

        self._workers.start(
            Call(
                plugin.name,
                "renew()",
                self._shared.policy.timeouts.list,
                lambda: plugin.renew(wanted),
                lambda answer: self._settle_renewal(plugin, wanted, before, answer),
                frozenset({wanted.name}),
            )
        )
        return True

    def _settle_renewal(
        self, plugin: BurstPlugin, wanted: Burst, before: float, answer: Answer[Burst]
    ) -> None:
        match answer:
            case Done(renewed):
                try:
                    now = check_burst(renewed, wanted, "renew()")
                except BurstError as wrong:
                    self._not_renewed(plugin, wanted, before, wrong)
                else:
                    self._renewed(plugin, wanted, before, now)
            case Failed():
                self._not_renewed(plugin, wanted, before, answer.error())
            case TimedOut(why):
                self._not_renewed(plugin, wanted, before, BurstError(why))

    def _renewed(self, plugin: BurstPlugin, wanted: Burst, before: float, now: Burst) -> None:
        known = plugin.bursts.get(wanted.name, wanted)
        longer = self._store.record(plugin, replace(known, lease_until=now.lease_until))
        if longer.lease_until is None or longer.lease_until > before:
            self._spans.refused.pop(wanted.name, None)
        else:
            self._spans.refused[wanted.name] = "its plugin did not extend it"

    def _not_renewed(
        self, plugin: BurstPlugin, wanted: Burst, before: float, error: Exception
    ) -> None:
        failure = as_burst_error(error, plugin.name, wanted.name)
        self._spans.refused[wanted.name] = str(failure)
        known = plugin.bursts.get(wanted.name, wanted)
        self._store.record(plugin, replace(known, lease_until=before))
        self.errors.append(failure)
        self._hooks.phase_failed("renew", plugin, failure)

    # --- idleness and use ------------------------------------------------------------------

    def _note_idleness(self, entry: Entry, *, idle: bool) -> Entry:
        """Record when a burst became idle, if it is; return the updated entry."""
        now = self._store.now()
        since = entry.idle if idle else None
        if idle and (since is None or since > now):  # or the clock was set back
            since = now
        if since != entry.idle:
            self._store.ledger.set_idle(entry.burst.name, since)
        return replace(entry, idle=since)

    def _is_idle_too_long(self, entry: Entry, now: float) -> bool:
        if entry.idle is None or now < self._idle_end(entry):
            return False
        kept = frozenset(parse_hostlist(self._shared.policy.lifetimes.keep))
        return kept.isdisjoint(entry.burst.hostnames)

    def _idle_end(self, entry: Entry) -> float:
        lifetimes = self._shared.policy.lifetimes
        assert entry.idle is not None
        return max(entry.idle + lifetimes.idle_timeout, entry.requested + lifetimes.min_lifetime)

    def _is_waited_for(self, burst: Burst) -> bool:
        """Whether a job waits for it that could start on it, and is not held by its user."""
        return any(
            map(
                self._pending_queue.keeps, self._pending_queue.assigned_to(burst.plugin, burst.name)
            )
        )

    def _running(self, entries: Sequence[Entry], nodes: Sequence[Node]) -> dict[str, list[int]]:
        """Return the jobs that run on each burst's nodes.

        For a burst whose nodes the instance does not know: its own jobs that have not ended.
        """
        ranks = {node.hostname: node.rank for node in nodes}
        started: set[int] | None = None
        running: dict[str, list[int]] = {}
        for entry in entries:
            burst = entry.burst
            own = [ranks[host] for host in burst.hostnames if host in ranks]
            if own:
                running[burst.name] = self._instance.jobs_on(own)
            elif burst.jobs and not burst.hostnames:
                started = set(self._instance.job_ids(RUNNING)) if started is None else started
                kept = (j for j in burst.jobs if self._pending_queue.keeps(j) or j in started)
                running[burst.name] = [j for j in kept if self._is_assigned(j, burst)]
            else:
                running[burst.name] = []
        return running

    def _is_assigned(self, job: int, burst: Burst) -> bool:
        """Whether a job of a burst was neither released nor assigned elsewhere."""
        for last in self._store.ledger.assignments(job)[-1:]:
            return last.released is None and last.burst in {"", burst.name}
        return True

    def _note_usage(
        self,
        entries: Sequence[Entry],
        running: Mapping[str, Collection[int]],
        nodes: Sequence[Node],
    ) -> None:
        """Record each job's share of each burst, and its time."""
        ledger = self._store.ledger
        open_usages = {(usage.entry, usage.job) for usage in ledger.usages(running=True)}
        here = {
            (entry.id, job): entry
            for entry in entries
            if entry.burst.hostnames
            for job in running[entry.burst.name]
        }
        started = [key for key in here if key not in open_usages]
        ended = [key for key in open_usages if key not in here]
        if not started and not ended:
            return
        runs = {run.job: run for run in self._instance.runs({job for _, job in started + ended})}
        cores = {node.hostname: node.cores for node in nodes}
        by_id = {entry.id: entry for entry in ledger.entries()} if ended else {}
        noted: list[Usage] = []
        for number, job in started + ended:
            run = runs.get(job)
            entry = here.get((number, job)) or by_id.get(number)
            if run is None or entry is None:
                continue
            on_it = [host for host in run.hostnames if host in entry.burst.hostnames]
            all_cores = sum(cores.get(host, 0) for host in run.hostnames)
            share = min(1.0, run.cores / all_cores) if all_cores else 1.0
            end = self._end_of(run.ended, (number, job) in here)
            noted.append(Usage(number, job, run.user, len(on_it) * share, run.started, end))
        ledger.use(noted)

    def _end_of(self, ended: float | None, still_here: bool) -> float | None:
        if still_here:
            return None
        return self._store.now() if ended is None else ended
