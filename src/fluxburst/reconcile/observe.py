"""Observes what exists, and repairs differences from the ledger.

It compares plugins' lists with the ledger and with the instance's nodes. A plugin that cannot be
asked is left alone, and none of its bursts is presumed gone. An answer never counts against a burst
that has changed since the question.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection
from dataclasses import replace

from fluxburst.errors import BurstError, PatienceError
from fluxburst.formats.units import counted, format_duration
from fluxburst.ledger import Entry
from fluxburst.model.burst import (
    COMING_STATES,
    LEAVING_STATES,
    LIVE_STATES,
    Burst,
    BurstState,
    EndReason,
)
from fluxburst.plugin.adapter import provider_of
from fluxburst.plugin.base import BurstPlugin, as_burst_error
from fluxburst.reconcile.assign import Assigner
from fluxburst.reconcile.drain import Drainer
from fluxburst.reconcile.failures import Failures
from fluxburst.reconcile.inventory import Inventory, take_inventory
from fluxburst.reconcile.isolated_ends import IsolatedEnds
from fluxburst.reconcile.orphans import Orphans
from fluxburst.reconcile.outliving import Outliving
from fluxburst.reconcile.remaining_life import RemainingLife
from fluxburst.reconcile.shared import Shared
from fluxburst.reconcile.terminate import Terminator
from fluxburst.reconcile.vetting import Ownership, Vetting
from fluxburst.reconcile.workers import Answer, Call, Done, Failed, TimedOut

_log = logging.getLogger(__name__)


class Observer:
    """Observes plugins and the instance for one client.

    Args:
        shared: What the parts of a client share.
        ownership: Decides whose bursts plugins list.
        vetting: Vets their answers.
        assigner: Releases its jobs.
        drainer: Drains its bursts.
        terminator: Terminates its bursts.
        spans: The lifetimes of its bursts.
    """

    def __init__(
        self,
        shared: Shared,
        ownership: Ownership,
        vetting: Vetting,
        assigner: Assigner,
        drainer: Drainer,
        terminator: Terminator,
        spans: RemainingLife,
    ) -> None:
        self._plugins = shared.plugins
        self._instance = shared.instance
        self._pending_queue = shared.pending_queue
        self._store = shared.store
        self._ownership = ownership
        self._vetting = vetting
        self._assigner = assigner
        self._terminator = terminator
        self._workers = shared.workers
        self._shared = shared
        self._outliving = Outliving(shared.pending_queue, spans)
        self._failures = Failures(shared, assigner, drainer, terminator)
        self._isolated_ends = IsolatedEnds(shared, assigner, terminator)
        self._orphans = Orphans(shared.store, assigner, drainer, terminator, self._failures)
        self._answering: set[str] = set()
        self.errors = self._failures.errors

    # --- the steps of a pass ---------------------------------------------------------------

    def sync(self, patience: float, *, repair: bool) -> None:
        """Ask each plugin what exists, and process what it answers within ``patience`` seconds.

        Unknown bursts are adopted; with ``repair``, differences from the ledger are repaired.
        """
        for plugin in self._plugins.values():
            if plugin.name in self._workers.stuck():
                self._failures.cannot_ask(plugin, PatienceError(self._workers.stuck()[plugin.name]))
            else:
                self._ask(plugin, all_of_it=True, then=self._repair if repair else self._adopt)
        self._workers.wait(patience)
        self.join()

    def refresh(self, patience: float) -> None:
        """Observe the bursts that are starting."""
        for plugin in self._plugins.values():
            if (
                any(map(_changes, plugin.bursts.values()))
                and plugin.name not in self._workers.stuck()
            ):
                self._ask(plugin, all_of_it=False, then=self._take_refreshed)
        self._workers.wait(patience)
        self.join()

    def join(self) -> None:
        """Find out from the instance's nodes which bursts have joined, and which were too slow."""
        coming = [e for e in self._store.ledger.live() if e.burst.state in COMING_STATES]
        up = {node.hostname for node in self._instance.nodes() if node.up} if coming else set()
        for entry in coming:
            plugin = self._store.plugin_of(entry.burst)
            if plugin is None or entry.burst.name in self._workers.in_flight:
                continue
            burst = _joined(plugin.bursts.get(entry.burst.name, entry.burst), up)
            if why := self._waits_too_long(entry, burst):
                late = BurstError(why, plugin=plugin.name, burst=burst.name)
                self._failures.refused(plugin, replace(burst, error=why), late)
            elif burst.state in COMING_STATES and (why := self._too_slow(entry)):
                self._failures.failed(plugin, replace(burst, error=why))
            elif burst != entry.burst:
                self._store.record(plugin, burst)

    # --- asking ----------------------------------------------------------------------------

    def _ask(
        self,
        plugin: BurstPlugin,
        *,
        all_of_it: bool,
        then: Callable[[BurstPlugin, Inventory], None],
    ) -> None:
        coming = [
            burst
            for burst in list(plugin.bursts.values())
            if _changes(burst) and burst.name not in self._workers.in_flight
        ]
        before = dict(plugin.bursts)

        def run() -> Inventory:
            return take_inventory(plugin, coming, all_of_it=all_of_it)

        def on_answer(answer: Answer[Inventory]) -> None:
            match answer:
                case Done(answered):
                    self._answering.add(plugin.name)
                    now = plugin.bursts
                    changed = {n for n in {*now, *before} if now.get(n) != before.get(n)}
                    seen = self._vetted(plugin, answered)
                    then(plugin, replace(seen, changed=frozenset(changed)))
                case Failed():
                    self._silent(plugin, as_burst_error(answer.error(), plugin.name))
                case TimedOut(why):
                    self._silent(plugin, PatienceError(why, plugin=plugin.name))

        timeout = self._shared.policy.timeouts.list
        what = "list_bursts()" if all_of_it else "refresh()"
        self._workers.start(Call(plugin.name, what, timeout, run, on_answer))

    def _vetted(self, plugin: BurstPlugin, seen: Inventory) -> Inventory:
        """Return the valid part of a plugin's answer about our bursts; report the rest."""
        wrong = list(seen.wrong)
        refreshed = []
        for burst in seen.refreshed:
            known = self._store.known(burst)
            try:
                now = self._vetting.vetted(burst, known, "refresh()")
                refreshed.append(_failed_if_leaving(now, known))
            except BurstError as error:
                refreshed.append(replace(known, error=str(error)))
        there = None
        if seen.there is not None:
            ours = self._ownership.ours(plugin, seen.there)
            there = {n: self._found(plugin, b, wrong) for n, b in seen.there.items() if n in ours}
            wrong = [error for error in wrong if error.burst in ours]
        for problem in wrong:
            self._failures.cannot_ask(plugin, problem)
        return replace(seen, there=there, refreshed=refreshed)

    def _found(
        self, plugin: BurstPlugin, found: Burst | None, wrong: list[BurstError]
    ) -> Burst | None:
        """Return a plugin's view of a burst that it found; None if that is impossible."""
        if found is None:
            return None
        nothing = Burst(found.name, plugin.name, "", 0, isolated=found.isolated)
        known = self._store.known(nothing)
        try:
            return self._vetting.vetted(found, known, "adopt()")
        except BurstError as error:
            wrong.append(error)
            return None

    def _silent(self, plugin: BurstPlugin, error: BurstError) -> None:
        self._answering.discard(plugin.name)
        self._failures.cannot_ask(plugin, error)

    # --- answers ---------------------------------------------------------------------------

    def _take_refreshed(self, plugin: BurstPlugin, seen: Inventory) -> None:
        for burst in seen.refreshed:
            known = plugin.bursts.get(burst.name)
            if known is None or burst.name in seen.changed:
                continue
            if self._has_ended(known):  # the end of its job is final
                burst = replace(burst, exit_code=known.exit_code, error=known.error)
            if burst.name in seen.refused and burst.exit_code is None:
                self._failures.refused(plugin, burst, seen.refused[burst.name])
            elif burst.exit_code is not None:
                self._isolated_ends.end(plugin, burst)
            elif burst == known:
                continue
            elif burst.state is BurstState.FAILED:
                self._failures.degraded(plugin, burst)
            else:
                self._store.record(plugin, burst)

    def _adopt(self, plugin: BurstPlugin, seen: Inventory) -> None:
        """Tell a plugin what exists, without changing anything."""
        told = {name: b for name, b in (seen.there or {}).items() if b is not None}
        for name, burst in told.items():
            plugin.bursts.setdefault(name, burst)

    def _repair(self, plugin: BurstPlugin, seen: Inventory) -> None:
        self._assigner.forget_free(plugin)
        self._take_refreshed(plugin, seen)
        entries = {entry.burst.name: entry for entry in self._store.ledger.live(plugin.name)}
        untouched = self._workers.in_flight | seen.changed
        for name, entry in entries.items():
            if name not in untouched and name in plugin.bursts:
                self._compare(plugin, entry, seen)
        for name, found in (seen.there or {}).items():
            if name not in entries and name not in untouched:
                self._orphans.terminate(plugin, found or Burst(name, plugin.name, "", 0))
        if seen.there is not None:
            self._free_the_stranded(plugin)

    def _compare(self, plugin: BurstPlugin, entry: Entry, seen: Inventory) -> None:
        """Repair the ledger's record of one burst, or the burst itself."""
        name = entry.burst.name
        burst = replace(plugin.bursts.get(name, entry.burst), isolated=entry.burst.isolated)
        found = (seen.there or {}).get(name)
        found = None if found is None else _failed_if_leaving(found, burst)
        if burst.state is BurstState.ENDING:
            listed = None if seen.there is None else name in seen.there
            self._terminator.go_on(plugin, burst, listed=listed)
        elif self._has_ended(burst):
            self._isolated_ends.end(plugin, burst)
        elif burst.isolated and not self._pending_queue.waited_for(plugin.name, name):
            self._terminator.end(burst, _NOT_HELD, EndReason.JOB_NOT_HELD)
        elif burst.state not in LIVE_STATES - {BurstState.DRAINING}:
            return  # the client that drains it ends it
        elif found is not None and found.state is BurstState.FAILED:
            if not _needs_refresh(plugin, burst):
                self._failures.degraded(
                    plugin, replace(burst, hostnames=found.hostnames, error=found.error)
                )
        elif seen.there is not None and burst.name in seen.there:
            self._adopt_recorded(plugin, entry, burst, found)
        elif entry.created is None:
            self._failures.end(plugin, replace(burst, error=_NEVER_ANSWERED))
        elif self._has_vanished(burst, seen):
            self._failures.failed(plugin, replace(burst, error=_VANISHED))

    def _has_ended(self, burst: Burst) -> bool:
        """Whether a burst's job has ended there; any code may write into a plugin's bursts."""
        return burst.exit_code is not None and self._store.known(burst).isolated

    def _has_vanished(self, burst: Burst, seen: Inventory) -> bool:
        """Whether a burst is gone: missing from the list, and none of its nodes is up."""
        if seen.there is None or (burst.state in COMING_STATES and not seen.complete):
            return False
        if _needs_refresh(self._plugins[burst.plugin], burst):
            return False
        up = {node.hostname for node in self._instance.nodes() if node.up}
        return up.isdisjoint(burst.hostnames)

    def _adopt_recorded(
        self, plugin: BurstPlugin, entry: Entry, burst: Burst, found: Burst | None
    ) -> None:
        """Adopt an existing burst, even if only its intent was recorded."""
        if entry.created is None:
            _log.info("burst %s: was created, adopting it", burst.name)
        if found is None:
            state = BurstState.STARTING if entry.created is None else burst.state
            now = replace(burst, state=state)
        else:
            now = replace(
                burst,
                state=found.state,
                nodes=found.nodes or burst.nodes,
                hostnames=found.hostnames or burst.hostnames,
                error=found.error,
                waiting_for=found.waiting_for,
                since=burst.since if found.since is None else found.since,
                exit_code=found.exit_code,
                output=found.output or burst.output,
            )
        if self._has_ended(now):
            self._isolated_ends.end(plugin, now)
        elif now.nodes < burst.nodes:
            few = f"only {now.nodes} of its {counted(burst.nodes, 'node')} exist"
            self._failures.degraded(plugin, replace(now, error=few))
        elif now != burst:
            self._store.record(plugin, now)
        self._store.created([burst])

    def _free_the_stranded(self, plugin: BurstPlugin) -> None:
        """Release the jobs that wait for bursts that no longer exist."""
        waiting = {
            job.id: mark.burst for job, mark in self._pending_queue.given(plugin.name) if mark.burst
        }
        if not waiting:
            return
        alive = {entry.burst.name for entry in self._store.ledger.live(plugin.name)}
        stranded = [jobid for jobid, burst in waiting.items() if burst not in alive]
        self._assigner.release(plugin, stranded, "the burst that it waited for does not exist")

    # --- late bursts -----------------------------------------------------------------------

    def _waits_too_long(self, entry: Entry, burst: Burst) -> str:
        """Return why a burst in its provider's queue is given up; empty if it is kept.

        While its plugin does not answer, its state is unknown: it may have come up.
        """
        limit, waited = self._shared.policy.timeouts.request, self._store.now() - entry.requested
        waits = burst.state is BurstState.REQUESTED and burst.plugin in self._answering
        if not waits or waited <= limit:
            return ""
        last = f": {burst.problem}" if burst.problem else ""
        return (
            f"it waited in its provider's queue for {format_duration(round(waited))}, but request "
            f"in [timeouts] is {format_duration(limit)}{last}"
        )

    def _too_slow(self, entry: Entry) -> str:
        limit, now = self._shared.policy.timeouts.join, self._store.now()
        if entry.started is not None and now - entry.started > limit:
            return f"it did not join within {format_duration(limit)}"
        late = self._outliving.why_too_late(entry, now)
        return f"it is too late: {late}" if late else ""


_NEVER_ANSWERED = "the process that requested it ended before the answer came"
_VANISHED = "it no longer exists: its plugin does not list it, and none of its nodes is up"
_NOT_HELD = "its job is no longer held here: it was cancelled, or starts here"


def _changes(burst: Burst) -> bool:
    """Whether to observe a burst: it is starting, or its job may have ended there."""
    if burst.isolated:
        return burst.state in LIVE_STATES and burst.state is not BurstState.ENDING
    return burst.state in COMING_STATES


def _needs_refresh(plugin: BurstPlugin, burst: Burst) -> bool:
    """Whether a burst's state needs more than the list: its plugin is asked for it, too.

    An isolated burst has no nodes here to observe, and its job is restarted if the burst is
    considered lost. Each pass calls refresh() for it, after the list; only its answer counts.
    """
    return burst.isolated and provider_of(plugin).refreshes_bursts


def _failed_if_leaving(burst: Burst, known: Burst) -> Burst:
    """Return a burst as failed if its plugin terminates it before it came up."""
    leaving = burst.state in LEAVING_STATES or burst.state is BurstState.ENDED
    if not leaving or burst.exit_code is not None or known.state not in COMING_STATES:
        return burst
    why = burst.error or f"it did not come up: its plugin returned {burst.state.value!r}"
    return replace(burst, state=BurstState.FAILED, error=why)


def _joined(burst: Burst, up: Collection[str]) -> Burst:
    """Return the burst in its state according to the instance's nodes."""
    if burst.state not in COMING_STATES or not burst.hostnames:
        return burst
    joined = sum(hostname in up for hostname in burst.hostnames)
    if joined == burst.nodes:
        return replace(burst, state=BurstState.READY, joined=joined, error="", waiting_for="")
    return replace(burst, state=BurstState.JOINING, joined=joined) if joined else burst
