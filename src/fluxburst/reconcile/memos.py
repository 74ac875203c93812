"""Memos on jobs: users can write them, so they only display what the ledger says."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Collection, Iterable

from fluxburst.errors import FluxburstError
from fluxburst.formats.fluid import format_f58
from fluxburst.model.job import Mark
from fluxburst.reconcile.assign import Assigner
from fluxburst.reconcile.burst_store import BurstStore
from fluxburst.reconcile.queue_mirror import PendingQueue

REPAIRS = 3
"""How often the memo of one job is rewritten: its user could remove it again and again."""

NAMED = 5
"""How many jobs one warning names."""

_log = logging.getLogger(__name__)


class Memos:
    """Keeps memos in step with the ledger, as far as users do not prevent it.

    Args:
        pending_queue: The client's mirror of the pending jobs.
        store: The client's store.
        assigner: Assigns its jobs.
    """

    def __init__(self, pending_queue: PendingQueue, store: BurstStore, assigner: Assigner) -> None:
        self._pending_queue = pending_queue
        self._store = store
        self._assigner = assigner
        self._warned: set[int] = set()
        self._repairs: Counter[int] = Counter()
        self._altered_before: set[int] = set()
        self.errors: list[FluxburstError] = []

    def observe(self) -> None:
        """Warn once about each forged memo; rewrite those that differ from the ledger."""
        self._warn(self._pending_queue.forged.keys() - self._warned)
        # A memo that changed only now may be one of ours that has not been reported yet.
        altered = self._pending_queue.altered & self._altered_before
        self._altered_before = set(self._pending_queue.altered)
        self._repair(jobid for jobid in altered if self._repairs[jobid] < REPAIRS)

    def forget(self, jobids: Iterable[int]) -> None:
        """Forget jobs that are no longer pending."""
        self._warned.difference_update(jobids)
        for jobid in jobids:
            self._repairs.pop(jobid, None)

    def _warn(self, jobids: Collection[int]) -> None:
        if not jobids:
            return
        self._warned.update(jobids)
        named = [
            f"{format_f58(jobid)} of user {self._pending_queue.jobs[jobid].user} "
            f"({_short(self._pending_queue.forged[jobid])})"
            for jobid in sorted(jobids)[:NAMED]
        ]
        more = f" and {len(jobids) - NAMED} more" if len(jobids) > NAMED else ""
        _log.warning(
            "ignoring the memo 'fluxburst' of job %s%s: the ledger %s has no such "
            "assignment, so it keeps no burst, and the job is treated as any other",
            ", ".join(named),
            more,
            self._store.ledger.path or "in memory",
            extra={"jobs": sorted(jobids)},
        )

    def _repair(self, jobids: Iterable[int]) -> None:
        marks = {jobid: self._pending_queue.marks[jobid] for jobid in jobids}
        if marks:
            self._repairs.update(marks.keys())
            self._assigner.mark_again(marks, self.errors)


def _short(mark: Mark) -> str:
    """Return the content of a memo, shortened: its user may have written anything."""
    said = [f"plugin {mark.plugin!r}", f"burst {mark.burst!r}" if mark.burst else ""]
    text = ", ".join(filter(None, said))
    return text if len(text) <= 100 else f"{text[:99]}…"
