"""The end of an isolated burst's job: recorded, ended here too, then its burst is terminated."""

from __future__ import annotations

import logging
from dataclasses import replace

from fluxburst.ledger import Breaker, Usage
from fluxburst.model.burst import Burst, BurstState, EndReason
from fluxburst.plugin.base import BurstPlugin
from fluxburst.provider.isolation import UNREAD, end_note, without_hope
from fluxburst.reconcile.assign import Assigner
from fluxburst.reconcile.shared import Shared
from fluxburst.reconcile.terminate import Terminator

_log = logging.getLogger(__name__)


class IsolatedEnds:
    """Ends one client's jobs here that have ended in isolated bursts.

    Args:
        shared: What the parts of a client share.
        assigner: Knows which jobs wait for a burst.
        terminator: Terminates its bursts.
    """

    def __init__(self, shared: Shared, assigner: Assigner, terminator: Terminator) -> None:
        self._store = shared.store
        self._pending_queue = shared.pending_queue
        self._assigner = assigner
        self._terminator = terminator
        self._shared = shared

    def end(self, plugin: BurstPlugin, burst: Burst) -> None:
        """End the job here that has ended in an isolated burst, and then the burst.

        The end is recorded first, before its output is fetched: from then on, the job is never
        started again. The burst stays until its output is fetched.
        """
        gone = burst.state is BurstState.FAILED
        why = "" if gone else burst.error
        burst = self._store.record(plugin, replace(burst, state=BurstState.READY, error=why))
        self._store.created([burst])
        self._store.ledger.set_breaker(Breaker(burst.plugin, burst.node_type))
        ended = self._note_usage(burst)
        if burst.output.startswith(UNREAD):
            if not gone and self._store.now() < ended + self._shared.policy.timeouts.output:
                return
            burst = without_hope(burst)
            _log.warning("burst %s: the output of its job is %s", burst.name, burst.output)
        note = end_note(burst)
        burst = self._store.record(plugin, replace(burst, error=""))
        self._pending_queue.end(
            dict.fromkeys(self._assigner.waiting_for(plugin, {burst.name}), note)
        )
        self._terminator.end(burst, note, EndReason.JOB_ENDED)

    def _note_usage(self, burst: Burst) -> float:
        """Record that an isolated burst's job used all of it while it ran; return its end.

        That is when its end was first seen, however often it is observed.
        """
        ledger = self._store.ledger
        entry = ledger.entry(burst.name)
        assert entry is not None
        known = [usage.ended for usage in ledger.usages_of(entry.id) if usage.ended is not None]
        ended = min(known, default=self._store.now())
        started = ended if entry.ready is None else min(entry.ready, ended)
        user = -1 if entry.user is None else entry.user
        ledger.use(Usage(entry.id, job, user, burst.nodes, started, ended) for job in burst.jobs)
        return ended
