"""Assigns and releases jobs: the record of it, their queues, and the marks on jobs.

The former queue and urgency of a job come only from the ledger: its user can write the memo
that carries the mark.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace

from fluxburst.errors import BurstError, FluxburstError, InstanceError
from fluxburst.formats.fluid import format_f58
from fluxburst.formats.units import counted
from fluxburst.ledger import Assignment, Breaker, SetbackKind
from fluxburst.model.burst import Burst
from fluxburst.model.job import RUNNING, URGENCY_DEFAULT, URGENCY_HOLD, Job, Mark
from fluxburst.planning.setbacks import failed, moves_to, some_of
from fluxburst.plugin.base import BurstPlugin
from fluxburst.provider.isolation import end_note, without_hope
from fluxburst.reconcile.scan import Waiting
from fluxburst.reconcile.shared import Shared

_log = logging.getLogger(__name__)


class Assigner:
    """Assigns jobs to plugins.

    Args:
        shared: What the parts of a client share.
        waiting: Its jobs that wait for a retry.
    """

    def __init__(self, shared: Shared, waiting: Waiting) -> None:
        self._hooks = shared.hooks
        self._plugins = shared.plugins
        self._instance = shared.instance
        self._pending_queue = shared.pending_queue
        self._store = shared.store
        self._waiting = waiting
        self._shared = shared

    def record(
        self, plugin: BurstPlugin, jobs: Mapping[int, Job], burst_of: Mapping[int, str]
    ) -> dict[int, Mark]:
        """Record the assignment of jobs to a plugin, before they are marked.

        Args:
            plugin: The plugin.
            jobs: The jobs, by id.
            burst_of: The burst's name, for jobs assigned to one.

        Returns:
            The marks for :meth:`mark`.
        """
        marks = {
            jobid: Mark(
                plugin.name,
                burst_of.get(jobid, ""),
                _queue_before(job, plugin),
                _urgency_before(job) if plugin.isolated else None,
            )
            for jobid, job in jobs.items()
        }
        self._record_one(marks)
        return marks

    def _record_one(self, marks: Mapping[int, Mark]) -> None:
        now = self._store.now()
        self._store.ledger.assign(
            Assignment(job, mark.plugin, mark.burst, now, queue=mark.queue, urgency=mark.urgency)
            for job, mark in marks.items()
        )
        self._waiting.forget(marks)

    def mark(
        self,
        plugin: BurstPlugin,
        jobs: Mapping[int, Job],
        marks: Mapping[int, Mark],
        errors: list[FluxburstError],
    ) -> dict[int, Job]:
        """Mark jobs as assigned to a plugin, before anything is provisioned for them.

        First they move to its queue: a job that Flux does not move gets no memo. After an
        interruption, the ledger has their assignment, and they are marked later.

        Args:
            plugin: The plugin.
            jobs: The jobs, by id.
            marks: The marks recorded before.
            errors: Receives failures; their jobs are released.

        Returns:
            The assigned jobs.
        """
        isolated = plugin.isolated
        left = set() if isolated else self._move(plugin, list(jobs.values()), errors)
        inactive = {
            *self._pending_queue.set_marks({i: m for i, m in marks.items() if i not in left})
        }
        if inactive:
            now = self._store.now()
            self._store.ledger.release(inactive, now, "it is no longer active")
        left |= inactive
        if isolated:
            left |= self._hold(plugin, jobs.keys() - left)
        given = {jobid: job for jobid, job in jobs.items() if jobid not in left}
        extra = {"plugin": plugin.name, "jobs": list(given)}
        _log.info("plugin %s: assigned %s", plugin.name, counted(len(given), "job"), extra=extra)
        plugin.jobs.update(given)
        for job in given.values():
            self._hooks.job_scheduled(job, plugin)
        return given

    def name_bursts(self, plugin: BurstPlugin, bursts: Mapping[int, str]) -> dict[int, Mark]:
        """Record which bursts jobs wait for, if their plugin reports it after the assignment.

        Args:
            plugin: The plugin; jobs that it no longer has are skipped.
            bursts: The names of the bursts, by job.

        Returns:
            The marks for :meth:`mark`.
        """
        marks = {
            jobid: replace(mark, burst=bursts[jobid])
            for jobid in bursts
            if (mark := self._pending_queue.marks.get(jobid)) and mark.plugin == plugin.name
        }
        self._store.ledger.name_bursts({jobid: mark.burst for jobid, mark in marks.items()})
        return marks

    def set_marks(self, marks: Mapping[int, Mark]) -> None:
        """Mark jobs as recorded."""
        self._pending_queue.set_marks(marks)

    def mark_again(self, marks: Mapping[int, Mark], errors: list[FluxburstError]) -> None:
        """Rewrite the memos of assigned jobs, and move those that were not moved yet.

        Args:
            marks: The ledger's marks for them.
            errors: Receives failures.
        """
        self._pending_queue.set_marks(marks)
        for name, plugin in self._plugins.items():
            left = [
                self._pending_queue.jobs[jobid]
                for jobid, mark in marks.items()
                if mark.plugin == name
                and mark.queue
                and self._pending_queue.jobs[jobid].queue == mark.queue
            ]
            if left:
                self._move(plugin, left, errors)

    def release(
        self,
        plugin: BurstPlugin,
        jobs: Collection[int],
        reason: str,
        setback: SetbackKind | None = None,
    ) -> None:
        """Release jobs assigned to a plugin, so that they can be assigned again.

        Except a job that may run in an isolated burst, as long as part of that may exist; a job
        that has ended there ends here.
        """
        jobs = [jobid for jobid in jobs if not self._may_run_elsewhere(jobid)]
        ended = {jobid: note for jobid in jobs if (note := self._end_elsewhere(jobid))}
        if ended:
            self._pending_queue.end(ended)
            jobs = [jobid for jobid in jobs if jobid not in ended]
        if jobs:
            self._move_back(plugin, {*jobs})
            self._unhold(jobs)
            self._pending_queue.set_marks(dict.fromkeys(jobs))
            self._store.ledger.release(jobs, self._store.now(), reason, setback)
        for jobid in [*jobs, *ended]:
            plugin.jobs.pop(jobid, None)

    def adopt(self, plugin: BurstPlugin, burst: Burst) -> tuple[int, ...]:
        """Assign the job to an isolated burst that runs it, if the record of that was lost.

        Plugin and user must agree: the provider's tags name the job, which no user can write, and
        the memo on the job names the burst, which no plugin can write. The former urgency is lost
        with the record: the job gets the default.

        Returns:
            The job's id; none if it is not known to be the burst's.
        """
        marks = {
            jobid: Mark(burst.plugin, burst.name, urgency=URGENCY_DEFAULT)
            for jobid in burst.jobs[:1]
            if plugin.isolated and burst.isolated and self._was_assigned(jobid, burst)
        }
        if marks:
            self._record_one(marks)
            self._pending_queue.set_marks(marks)
        return tuple(marks)

    def _was_assigned(self, jobid: int, burst: Burst) -> bool:
        """Whether a job is assigned to a burst that no ledger has; a record of it would know."""
        job, memo = self._pending_queue.jobs.get(jobid), self._pending_queue.forged.get(jobid)
        if job is None or memo is None or job.urgency != URGENCY_HOLD:
            return False
        if (memo.plugin, memo.burst) != (burst.plugin, burst.name):
            return False
        if self._store.ledger.assignments(jobid):
            return False
        try:
            return self._hooks.select_job(job)
        except FluxburstError as error:
            _log.warning("cannot tell whether job %s is selected: %s", format_f58(jobid), error)
            return False

    def waiting_for(self, plugin: BurstPlugin, bursts: Collection[str] | None) -> list[int]:
        """Return the pending jobs assigned to a plugin for some of its bursts; None for all."""
        if bursts is None:
            return [job.id for job, _ in self._pending_queue.given(plugin.name)]
        return [j for burst in bursts for j in self._pending_queue.assigned_to(plugin.name, burst)]

    def forget_ended(self) -> None:
        """Make plugins forget ended jobs."""
        pending = self._pending_queue.jobs.keys()
        left = {name: plugin.jobs.keys() - pending for name, plugin in self._plugins.items()}
        if any(left.values()):
            running = set(self._instance.job_ids(RUNNING))
            for name, jobids in left.items():
                for jobid in jobids - running:
                    del self._plugins[name].jobs[jobid]

    def forget_free(self, plugin: BurstPlugin) -> None:
        """Make a plugin forget pending jobs that another client released from it."""
        for jobid in [jobid for jobid in plugin.jobs if jobid in self._pending_queue.jobs]:
            mark = self._pending_queue.marks.get(jobid)
            if mark is None or mark.plugin != plugin.name:
                del plugin.jobs[jobid]

    def hold_again(self) -> None:
        """Hold jobs that run in isolated bursts again, if somebody has released them here."""
        for burst in [entry.burst for entry in self._store.ledger.live() if entry.burst.isolated]:
            given = self._pending_queue.assigned_to(burst.plugin, burst.name)
            loose = [i for i in given if self._pending_queue.jobs[i].urgency != URGENCY_HOLD]
            if loose:
                _log.warning(
                    "job %s runs in burst %s, but was released here: holding it again, since it "
                    "would run twice; cancel it to end it there, or stop the service and run "
                    "'fluxburst unburst %s' to run it here",
                    format_f58(loose[0]),
                    burst.name,
                    burst.name,
                )
                self._pending_queue.set_urgencies(dict.fromkeys(loose, URGENCY_HOLD))

    def _hold(self, plugin: BurstPlugin, jobs: Collection[int]) -> set[int]:
        """Hold jobs that will run elsewhere; return those that start here, which are released."""
        started = {*self._pending_queue.set_urgencies(dict.fromkeys(jobs, URGENCY_HOLD))}
        if started:
            self._pending_queue.set_marks(dict.fromkeys(started))
            self._store.ledger.release(started, self._store.now(), "it starts here")
        return started

    def _may_run_elsewhere(self, jobid: int) -> bool:
        mark = self._pending_queue.marks.get(jobid)
        if mark is None or mark.urgency is None:
            return False
        entry = self._store.ledger.entry(mark.burst)
        return entry is not None and entry.live

    def _end_elsewhere(self, jobid: int) -> str:
        """Return how a job has ended in an isolated burst; empty if no end is known."""
        mark = self._pending_queue.marks.get(jobid)
        if mark is None or mark.urgency is None:
            return ""
        entry = self._store.ledger.entry(mark.burst)
        if entry is None or entry.burst.exit_code is None:
            return ""
        return end_note(without_hope(entry.burst))

    def _unhold(self, jobs: Collection[int]) -> None:
        """Restore the urgency of jobs that were held for isolated bursts."""
        marks = {jobid: self._pending_queue.marks.get(jobid) for jobid in jobs}
        urgencies = {i: m.urgency for i, m in marks.items() if m and m.urgency is not None}
        if urgencies:
            owner = self._instance.attribute("security.owner")
            self._pending_queue.set_urgencies(
                {
                    jobid: urgency
                    if str(self._pending_queue.jobs[jobid].user) == owner
                    else min(urgency, URGENCY_DEFAULT)  # the maximum for guests
                    for jobid, urgency in urgencies.items()
                }
            )

    def _move(
        self, plugin: BurstPlugin, jobs: Sequence[Job], errors: list[FluxburstError]
    ) -> set[int]:
        """Move jobs to a plugin's queue; return those that failed to move, which are released."""
        elsewhere = [job.id for job in jobs if plugin.queue and job.queue != plugin.queue]
        refused = self._moved_to(plugin.queue, elsewhere) if elsewhere else {}
        reasons: dict[str, list[int]] = {}
        for jobid, why in refused.items():
            reasons.setdefault(why, []).append(jobid)
        problem = ""
        for why, theirs in reasons.items():
            named = some_of(map(format_f58, theirs))
            problem = f"cannot move job {named} to queue {plugin.queue!r}: {why}"
            errors.append(BurstError(problem, plugin=plugin.name))
            self._not_moved(plugin, theirs, why)
        if elsewhere:
            self._count_moves(plugin, len(elsewhere) > len(refused), problem)
        return set(refused)

    def _moved_to(self, queue: str, jobs: Sequence[int]) -> Mapping[int, str]:
        """Move jobs to a queue; return those that failed to move, with the reason.

        If the instance fails, that counts for all of them: they are moved back as far as
        possible, since some may have been moved.
        """
        known = self._pending_queue.jobs
        queues = {jobid: known[jobid].queue for jobid in jobs if jobid in known}
        try:
            return self._pending_queue.move(jobs, queue)
        except InstanceError as error:
            for before in dict.fromkeys(queues.values()):
                theirs = [jobid for jobid, name in queues.items() if name == before]
                with suppress(InstanceError):
                    self._pending_queue.move(theirs, before)
            return dict.fromkeys(jobs, str(error))

    def _not_moved(self, plugin: BurstPlugin, jobs: Sequence[int], why: str) -> None:
        """Release jobs that Flux does not move; they wait before a retry."""
        marked = [jobid for jobid in jobs if jobid in self._pending_queue.marks]
        if marked:
            self._pending_queue.set_marks(dict.fromkeys(marked))
        reason = f"it could not be moved to queue {plugin.queue!r}: {why}"
        ledger = self._store.ledger
        ledger.release(jobs, self._store.now(), reason, SetbackKind.NOT_MOVED)
        self._waiting.note(jobs)
        for jobid in jobs:
            plugin.jobs.pop(jobid, None)

    def _count_moves(self, plugin: BurstPlugin, moved: bool, problem: str) -> None:
        """Count a pass in which Flux moved no job: after several, there is a pause."""
        ledger = self._store.ledger
        key = plugin.name, moves_to(plugin.queue)
        known = ledger.breakers().get(key)
        if not moved:
            now, policy = self._store.now(), self._shared.policy.breakers
            ledger.set_breaker(failed(known or Breaker(*key), policy, now, problem))
        elif known is not None:
            ledger.set_breaker(Breaker(*key))

    def _move_back(self, plugin: BurstPlugin, jobs: Collection[int]) -> None:
        """Move jobs back to their former queue."""
        queues: dict[str, list[int]] = {}
        for job, mark in self._pending_queue.given(plugin.name):
            if job.id in jobs and mark.queue and job.queue != mark.queue:
                queues.setdefault(mark.queue, []).append(job.id)
        for queue, moving in queues.items():
            for jobid, why in self._pending_queue.move(moving, queue).items():
                _log.warning("job %s stays in its queue: %s", format_f58(jobid), why)


def _queue_before(job: Job, plugin: BurstPlugin) -> str:
    """Return the former queue of a job, even if it was assigned before."""
    if not plugin.queue:
        return ""
    if job.mark is not None and job.mark.queue:
        return job.mark.queue
    return job.queue if job.queue != plugin.queue else ""


def _urgency_before(job: Job) -> int:
    """Return the urgency of a job, or its former one if it is held for an isolated burst."""
    if job.mark is not None and job.mark.urgency is not None:
        return job.mark.urgency
    return job.urgency
