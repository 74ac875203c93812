"""The pending jobs of the instance, as a client keeps them: read once, then only what changes."""

from __future__ import annotations

import weakref
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from fluxburst.collector import collector_paused
from fluxburst.handles.protocol import Instance
from fluxburst.jobs import Job, Mark

_backlogs: weakref.WeakKeyDictionary[Any, Backlog] = weakref.WeakKeyDictionary()


def backlog_of(instance: Instance) -> Backlog:
    """Return the mirror of an instance's pending jobs, of which each instance object has one."""
    return _backlogs.setdefault(instance, Backlog(instance))


class Backlog:
    """A mirror of the pending jobs.

    Args:
        instance: The instance that they wait in; it is not kept alive.

    Attributes:
        jobs: The pending jobs, by id, as they were when :meth:`refresh` was last called.
        marks: The marks of those that were given away, by id.
        changed: The ids of those that are new or have changed; whoever looks at them empties it.
        gone: The ids of those that are pending no longer; whoever looks at them empties it.
    """

    def __init__(self, instance: Instance) -> None:
        self._instance: Instance = weakref.proxy(instance)
        self.jobs: dict[int, Job] = {}
        self.marks: dict[int, Mark] = {}
        self.changed: set[int] = set()
        self.gone: set[int] = set()
        self._given: dict[str, dict[str, dict[int, None]]] = {}

    @collector_paused()
    def refresh(self) -> None:
        """Learn what has changed.

        Raises:
            InstanceError: if the instance cannot be asked.
        """
        changes = self._instance.pending_changes()
        now = {job.id: job for job in changes.jobs}
        gone = set(changes.gone)
        if changes.complete:
            gone |= self.jobs.keys() - now.keys()
        for jobid in gone:
            self.jobs.pop(jobid, None)
            self._note_mark(jobid, None)
        self.jobs.update(now)
        for jobid, job in now.items():
            self._note_mark(jobid, job.mark)
        self.changed -= gone
        self.changed |= now.keys()
        self.gone |= gone

    @collector_paused()
    def set_marks(self, marks: Mapping[int, Mark | None]) -> Collection[int]:
        """Make marks last on jobs, or take them off (None); return those no longer active."""
        inactive = self._instance.set_marks(marks)
        for jobid, mark in marks.items():
            if jobid in self.jobs:
                job = self.jobs[jobid]
                annotations = job.get("annotations") or {}
                user = {k: v for k, v in annotations.get("user", {}).items() if k != "fluxburst"}
                if mark is not None:
                    user["fluxburst"] = mark.to_memo()
                self.jobs[jobid] = job.but(annotations={**annotations, "user": user})
                self._note_mark(jobid, mark)
                self.changed.add(jobid)
        return inactive

    def set_urgencies(self, urgencies: Mapping[int, int]) -> Collection[int]:
        """Set the urgency of jobs, 0 to hold them; return those that could not be set."""
        refused = self._instance.set_urgencies(urgencies)
        for jobid, urgency in urgencies.items():
            if jobid in self.jobs and jobid not in refused:
                # Its priority is told anew at once; until then this says whether it is held.
                self.jobs[jobid] = self.jobs[jobid].but(urgency=urgency, priority=urgency)
                self.changed.add(jobid)
        return refused

    def end(self, notes: Mapping[int, str]) -> None:
        """End jobs that ran elsewhere, each with a note that says how that went."""
        self._instance.end_jobs(notes)
        for jobid in notes:
            self.jobs.pop(jobid, None)
            self._note_mark(jobid, None)
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
        """Yield the pending jobs that a plugin was given, with their marks."""
        for jobids in self._given.get(plugin, {}).values():
            for jobid in jobids:
                yield self.jobs[jobid], self.marks[jobid]

    def given_for(self, plugin: str, burst: str) -> Collection[int]:
        """Return the pending jobs that a plugin was given for one of its bursts."""
        return list(self._given.get(plugin, {}).get(burst, ()))

    def waited_for(self, plugin: str, burst: str) -> bool:
        """Whether a pending job was given to a plugin for one of its bursts."""
        return bool(self._given.get(plugin, {}).get(burst))

    def _note_mark(self, jobid: int, mark: Mark | None) -> None:
        before = self.marks.pop(jobid, None)
        if before is not None:
            bursts = self._given[before.plugin]
            del bursts[before.burst][jobid]
            if not bursts[before.burst]:
                del bursts[before.burst]
        if mark is not None:
            self.marks[jobid] = mark
            self._given.setdefault(mark.plugin, {}).setdefault(mark.burst, {})[jobid] = None
