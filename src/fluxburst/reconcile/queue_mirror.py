"""A client's copy of the instance's pending jobs: read once, then updated by changes.

Users can write the memos of their jobs. Only the ledger decides about assignments, never a
memo: jobs here carry the marks of their assignments in the ledger, and no others.
"""

from __future__ import annotations

import weakref
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from fluxburst.flux.protocol import Instance
from fluxburst.ledger import Assignment, Ledger
from fluxburst.model.collector import collector_paused
from fluxburst.model.job import Job, Mark

_pending_queues: weakref.WeakKeyDictionary[Any, PendingQueue] = weakref.WeakKeyDictionary()


def pending_queue_of(instance: Instance) -> PendingQueue:
    """Return the mirror of an instance's pending jobs, one for each instance object."""
    return _pending_queues.setdefault(instance, PendingQueue(instance))


class PendingQueue:
    """A mirror of the pending jobs.

    Args:
        instance: Their instance; it is not kept alive.

    Attributes:
        jobs: The pending jobs, by id, as of the last :meth:`refresh`, with the
            ledger's marks.
        marks: The marks of assigned jobs, by id.
        forged: The content of memos without an assignment in the ledger.
        altered: The ids of jobs whose memos differ from the ledger, or are missing.
        changed: The ids of new or changed jobs; the reader empties it.
        gone: The ids of jobs that are no longer pending; the reader empties it.
    """

    def __init__(self, instance: Instance) -> None:
        self._instance: Instance = weakref.proxy(instance)
        self.jobs: dict[int, Job] = {}
        self.marks: dict[int, Mark] = {}
        self.forged: dict[int, Mark] = {}
        self.altered: set[int] = set()
        self.changed: set[int] = set()
        self.gone: set[int] = set()
        self._assigned: dict[str, dict[str, dict[int, None]]] = {}
        self._memos: dict[int, Mark] = {}
        self._read: tuple[weakref.ref[Ledger], object] | None = None

    @collector_paused()
    def refresh(self, ledger: Ledger) -> None:
        """Read the changes: of the jobs, and of their assignments in the ledger.

        Raises:
            InstanceError: if the instance cannot be reached.
            LedgerError: if the ledger is unreadable.
        """
        changes = self._instance.pending_changes()
        now = {job.id: job for job in changes.jobs}
        gone = set(changes.gone)
        if changes.complete:
            gone |= self.jobs.keys() - now.keys()
        for jobid in gone:
            self._forget(jobid)
        self.jobs.update(now)
        for jobid, job in now.items():
            self._note_memo(jobid, job.mark)
        self.changed -= gone
        self.changed |= now.keys()
        self.gone |= gone
        self._believe(ledger, now.keys())

    def _believe(self, ledger: Ledger, changed: Collection[int]) -> None:
        """Put the ledger's marks on jobs, as far as either may have changed."""
        jobs = ledger.reassigned().union(changed)
        written = ledger.written_by_others
        if self._read is None or self._read[0]() is not ledger or self._read[1] != written:
            jobs = set(self.jobs)
            self._read = weakref.ref(ledger), written
        jobs &= self.jobs.keys()
        assigned = ledger.assigned(jobs)
        for jobid in jobs:
            mark = _mark_of(assigned[jobid]) if jobid in assigned else None
            self._compare(jobid, mark)
            if self.marks.get(jobid) != mark:
                self.changed.add(jobid)
            self._note_mark(jobid, mark)
            if self.jobs[jobid].mark != mark:
                self.jobs[jobid] = _marked(self.jobs[jobid], mark)

    def _compare(self, jobid: int, mark: Mark | None) -> None:
        """Note whether a memo agrees with the ledger."""
        memo = self._memos.get(jobid)
        self.forged.pop(jobid, None)
        self.altered.discard(jobid)
        if mark is None and memo is not None:
            self.forged[jobid] = memo
        elif memo != mark:
            self.altered.add(jobid)

    @collector_paused()
    def set_marks(self, marks: Mapping[int, Mark | None]) -> Collection[int]:
        """Put persistent marks on jobs, or remove them (None); return those no longer active."""
        inactive = self._instance.set_marks(marks)
        for jobid, mark in marks.items():
            if jobid in self.jobs:
                self.jobs[jobid] = _marked(self.jobs[jobid], mark)
                self._note_mark(jobid, mark)
                self._note_memo(jobid, mark)
                self._compare(jobid, mark)
                self.changed.add(jobid)
        return inactive

    def set_urgencies(self, urgencies: Mapping[int, int]) -> Collection[int]:
        """Set the urgency of jobs, 0 to hold them; return those for which that failed."""
        refused = self._instance.set_urgencies(urgencies)
        for jobid, urgency in urgencies.items():
            if jobid in self.jobs and jobid not in refused:
                # The new priority is reported at once; until then this shows whether it is held.
                self.jobs[jobid] = self.jobs[jobid].but(urgency=urgency, priority=urgency)
                self.changed.add(jobid)
        return refused

    def end(self, notes: Mapping[int, str]) -> None:
        """End jobs that ran elsewhere, each with a note about its end there."""
        self._instance.end_jobs(notes)
        for jobid in notes:
            self._forget(jobid)
        self.changed -= notes.keys()
        self.gone |= notes.keys()

    def move(self, jobids: Collection[int], queue: str) -> Mapping[int, str]:
        """Move jobs to a queue; return those that could not be moved, with the reason."""
        refused = self._instance.move_jobs(jobids, queue)
        for jobid in jobids:
            if jobid in self.jobs and jobid not in refused:
                self.jobs[jobid] = self.jobs[jobid].but(queue=queue)
                self.changed.add(jobid)
        return refused

    def given(self, plugin: str) -> Iterator[tuple[Job, Mark]]:
        """Yield the pending jobs assigned to a plugin, with their marks."""
        for jobids in self._assigned.get(plugin, {}).values():
            for jobid in jobids:
                yield self.jobs[jobid], self.marks[jobid]

    def assigned_to(self, plugin: str, burst: str) -> Collection[int]:
        """Return the pending jobs assigned to a plugin for one of its bursts."""
        return list(self._assigned.get(plugin, {}).get(burst, ()))

    def waited_for(self, plugin: str, burst: str) -> bool:
        """Whether a pending job is assigned to a plugin for one of its bursts."""
        return bool(self._assigned.get(plugin, {}).get(burst))

    def keeps(self, jobid: int) -> bool:
        """Whether a job keeps its burst alive: it could start, or is held because it runs there."""
        job = self.jobs.get(jobid)
        mark = self.marks.get(jobid)
        held_by_us = mark is not None and mark.urgency is not None
        return job is not None and (held_by_us or not job.not_startable)

    def _forget(self, jobid: int) -> None:
        self.jobs.pop(jobid, None)
        self._note_mark(jobid, None)
        self._note_memo(jobid, None)
        self._compare(jobid, None)

    def _note_memo(self, jobid: int, memo: Mark | None) -> None:
        if memo is None:
            self._memos.pop(jobid, None)
        else:
            self._memos[jobid] = memo

    def _note_mark(self, jobid: int, mark: Mark | None) -> None:
        before = self.marks.pop(jobid, None)
        if before is not None:
            bursts = self._assigned[before.plugin]
            del bursts[before.burst][jobid]
            if not bursts[before.burst]:
                del bursts[before.burst]
        if mark is not None:
            self.marks[jobid] = mark
            self._assigned.setdefault(mark.plugin, {}).setdefault(mark.burst, {})[jobid] = None


def _mark_of(assignment: Assignment) -> Mark:
    return Mark(assignment.plugin, assignment.burst, assignment.queue, assignment.urgency)


def _marked(job: Job, mark: Mark | None) -> Job:
    """Return a job with a mark, or without one."""
    annotations = job.get("annotations")
    annotations = dict(annotations) if isinstance(annotations, dict) else {}
    user = annotations.get("user")
    user = dict(user) if isinstance(user, dict) else {}
    user.pop("fluxburst", None)
    if mark is not None:
        user["fluxburst"] = mark.to_memo()
    return job.but(annotations={**annotations, "user": user})
