"""Memos on jobs: their users can write them, so they only show what the ledger says."""

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
"""How many times the memo of one job is written anew: its user could take it off for ever."""

NAMED = 5
"""How many jobs one warning names."""

_log = logging.getLogger(__name__)


class Memos:
    """Keeps memos in step with the ledger, as far as their users let that be.

    Args:
        pending_queue: The client's mirror of the pending jobs.
        store: The client's store.
        assigner: What assigns its jobs.
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
        """Say once of each memo that is nobody's; write those anew that do not say what is so."""
        self._warn(self._pending_queue.forged.keys() - self._warned)
        # What was altered only now may be a memo of ours that has not been told of yet.
        altered = self._pending_queue.altered & self._altered_before
        self._altered_before = set(self._pending_queue.altered)
        self._repair(jobid for jobid in altered if self._repairs[jobid] < REPAIRS)

    def forget(self, jobids: Iterable[int]) -> None:
        """Forget jobs that are pending no longer."""
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
            "the memo 'fluxburst' of job %s%s is not believed: the ledger %s has no such "
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
    """Return what a memo says; a user wrote it, so it may be anything, of any length."""
    said = [f"plugin {mark.plugin!r}", f"burst {mark.burst!r}" if mark.burst else ""]
    text = ", ".join(filter(None, said))
    return text if len(text) <= 100 else f"{text[:99]}…"
