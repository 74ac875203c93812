"""Lost nodes of bursts, and the jobs lost with them: reported at once.

Other modules decide about the burst; this reports the loss in the log, in the
ledger (``why``), and to observers.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator, Sequence

from fluxburst.flux.protocol import Instance, Run
from fluxburst.formats.fluid import format_f58
from fluxburst.formats.hostlist import format_hostlist
from fluxburst.ledger import Entry
from fluxburst.model.burst import BurstState
from fluxburst.reconcile.burst_store import BurstStore

_log = logging.getLogger(__name__)

_UP_STATES = frozenset({BurstState.READY, BurstState.DRAINING})
"""States in which a burst's nodes should be up."""


class Losses:
    """Detects lost nodes of a client's bursts.

    Args:
        instance: The instance.
        store: The client's store.
    """

    def __init__(self, instance: Instance, store: BurstStore) -> None:
        self._instance = instance
        self._store = store
        self._up: dict[str, frozenset[str]] = {}
        self._lost: dict[str, frozenset[str]] = {}
        self._reported: set[tuple[str, int]] = set()

    def observe(self) -> None:
        """Report which nodes have been lost since the last time, and which jobs.

        Raises:
            InstanceError: if the instance cannot be reached.
            LedgerError: if the ledger is not writable.
        """
        entries = [entry for entry in self._store.ledger.live() if _has_nodes(entry)]
        self._forget(entries)
        if not entries:
            return
        up = {node.hostname for node in self._instance.nodes() if node.up}
        for entry in entries:
            self._observe_nodes(entry, up)
            if entry.burst.name in self._lost:
                self._observe_jobs(entry)

    def _observe_nodes(self, entry: Entry, up: Collection[str]) -> None:
        burst = entry.burst
        hosts = frozenset(burst.hostnames)
        # All nodes of a ready burst were up, even if only another process saw it.
        seen = hosts if burst.state is BurstState.READY else hosts.intersection(up)
        before = self._up.get(burst.name, seen)
        self._up[burst.name] = (before | hosts).intersection(up)
        gone = before.difference(up)
        if gone:
            self._lost[burst.name] = self._lost.get(burst.name, frozenset()) | gone
            nodes, verb = ("node", "is") if len(gone) == 1 else ("nodes", "are")
            names = format_hostlist(sorted(gone))
            self._say(entry, f"{nodes} {names} {verb} lost: no longer up in the instance")

    def _observe_jobs(self, entry: Entry) -> None:
        """Report which jobs were lost with nodes; Flux may fail them only a moment later."""
        name = entry.burst.name
        for run in self._runs_on(entry):
            on = self._lost[name].intersection(run.hostnames)
            if run.node_failure and on:
                self._reported.add((name, run.job))
                where = format_hostlist(sorted(on))
                job = format_f58(run.job)
                text = f"job {job} is lost: it ran on {where} ({run.node_failure})"
                self._say(entry, text, job=run.job)

    def _runs_on(self, entry: Entry) -> Sequence[Run]:
        """Return the allocations of jobs that ran on a burst, or may have, unless reported."""
        used = (usage.job for usage in self._store.ledger.usages_of(entry.id))
        jobs = {
            job
            for job in (*entry.burst.jobs, *used)
            if (entry.burst.name, job) not in self._reported
        }
        return self._instance.runs(jobs) if jobs else ()

    def _say(self, entry: Entry, text: str, **extra: object) -> None:
        burst = entry.burst
        about = {"burst": burst.name, "plugin": burst.plugin, **extra}
        _log.warning("burst %s: %s", burst.name, text, extra=about)
        self._store.remark(burst.name, text)

    def _forget(self, entries: Sequence[Entry]) -> None:
        """Forget bursts that no longer exist."""
        names = {entry.burst.name for entry in entries}
        for known in (self._up, self._lost):
            for name in list(_gone(known, names)):
                del known[name]
        self._reported = {told for told in self._reported if told[0] in names}


def _has_nodes(entry: Entry) -> bool:
    burst = entry.burst
    return bool(burst.hostnames) and not burst.isolated and burst.state in _UP_STATES


def _gone(known: Collection[str], names: Collection[str]) -> Iterator[str]:
    return (name for name in known if name not in names)
