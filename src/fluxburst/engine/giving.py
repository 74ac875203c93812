"""Giving jobs away, and taking them back: the marks on jobs, their queues, and the record of it."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence

from fluxburst.engine.backlog import Backlog
from fluxburst.engine.records import Records
from fluxburst.errors import BurstError, FluxburstError
from fluxburst.fluids import format_f58
from fluxburst.handles.protocol import Instance
from fluxburst.isolation import end_note, without_hope
from fluxburst.jobs import RUNNING, URGENCY_HOLD, Job, Mark
from fluxburst.ledger import Placement
from fluxburst.manager import Manager
from fluxburst.plugins import BurstPlugin

_log = logging.getLogger(__name__)


class Giver:
    """Gives jobs to plugins.

    Args:
        hooks: The client's hooks.
        plugins: The loaded plugins, by name.
        instance: The instance that the jobs wait in.
        backlog: The client's mirror of its pending jobs.
        records: The client's records.
    """

    def __init__(
        self,
        hooks: Manager,
        plugins: Mapping[str, BurstPlugin],
        instance: Instance,
        backlog: Backlog,
        records: Records,
    ) -> None:
        self._hooks = hooks
        self._plugins = plugins
        self._instance = instance
        self._backlog = backlog
        self._records = records

    def place(
        self, plugin: BurstPlugin, jobs: Mapping[int, Job], burst_of: Mapping[int, str]
    ) -> dict[int, Mark]:
        """Record that jobs are given to a plugin, before they are marked.

        Args:
            plugin: To whom.
            jobs: The jobs, by id.
            burst_of: For those that go to a burst, its name.

        Returns:
            The marks that :meth:`give` is to put on them.
        """
        marks = {
            jobid: Mark(
                plugin.name,
                burst_of.get(jobid, ""),
                _queue_before(job, plugin),
                job.urgency if plugin.isolated else None,
            )
            for jobid, job in jobs.items()
        }
        now = self._records.now()
        self._records.ledger.place(
            Placement(jobid, plugin.name, mark.burst, now) for jobid, mark in marks.items()
        )
        return marks

    def give(
        self,
        plugin: BurstPlugin,
        jobs: Mapping[int, Job],
        marks: Mapping[int, Mark],
        errors: list[FluxburstError],
    ) -> dict[int, Job]:
        """Mark jobs as given to a plugin, before anything is brought up for them.

        Args:
            plugin: To whom.
            jobs: The jobs, by id.
            marks: The marks that :meth:`place` has recorded.
            errors: What fails is added here; these jobs are free again.

        Returns:
            The jobs that were given.
        """
        left = {*self._backlog.set_marks(marks)}
        if left:
            now = self._records.now()
            self._records.ledger.free(left, now, "it is no longer active")
        if plugin.isolated:
            left |= self._hold(plugin, jobs.keys() - left)
        else:
            left |= self._move(plugin, [job for job in jobs.values() if job.id not in left], errors)
        given = {jobid: job for jobid, job in jobs.items() if jobid not in left}
        extra = {"plugin": plugin.name, "jobs": list(given)}
        _log.info("plugin %s: given %d jobs", plugin.name, len(given), extra=extra)
        plugin.jobs.update(given)
        for job in given.values():
            self._hooks.job_scheduled(job, plugin)
        return given

    def take_back(self, plugin: BurstPlugin, jobs: Collection[int], reason: str) -> None:
        """Free jobs that were given to a plugin, so that they can be given anew.

        One that may run in an isolated burst is not, as long as something of that may be there;
        one that has ended there ends here.
        """
        jobs = [jobid for jobid in jobs if not self._may_run_elsewhere(jobid)]
        ended = {jobid: note for jobid in jobs if (note := self._end_elsewhere(jobid))}
        if ended:
            self._backlog.end(ended)
            jobs = [jobid for jobid in jobs if jobid not in ended]
        if jobs:
            if plugin.queue:
                self._move_back(plugin, jobs)
            self._release(jobs)
            self._backlog.set_marks(dict.fromkeys(jobs))
            self._records.ledger.free(jobs, self._records.now(), reason)
        for jobid in [*jobs, *ended]:
            plugin.jobs.pop(jobid, None)

    def waiting_for(self, plugin: BurstPlugin, bursts: Collection[str] | None) -> list[int]:
        """Return the pending jobs that a plugin was given for some of its bursts; None for all."""
        if bursts is None:
            return [job.id for job, _ in self._backlog.given(plugin.name)]
        return [j for burst in bursts for j in self._backlog.given_for(plugin.name, burst)]

    def forget_ended(self) -> None:
        """Let plugins forget the jobs that have ended."""
        pending = self._backlog.jobs.keys()
        left = {name: plugin.jobs.keys() - pending for name, plugin in self._plugins.items()}
        if any(left.values()):
            running = set(self._instance.job_ids(RUNNING))
            for name, jobids in left.items():
                for jobid in jobids - running:
                    del self._plugins[name].jobs[jobid]

    def forget_free(self, plugin: BurstPlugin) -> None:
        """Let a plugin forget the pending jobs that another client took back from it."""
        for jobid in [jobid for jobid in plugin.jobs if jobid in self._backlog.jobs]:
            mark = self._backlog.marks.get(jobid)
            if mark is None or mark.plugin != plugin.name:
                del plugin.jobs[jobid]

    def hold_again(self) -> None:
        """Hold what runs in isolated bursts, where somebody has let it go here meanwhile."""
        for burst in [entry.burst for entry in self._records.live() if entry.burst.isolated]:
            given = self._backlog.given_for(burst.plugin, burst.name)
            loose = [i for i in given if self._backlog.jobs[i].urgency != URGENCY_HOLD]
            if loose:
                _log.warning(
                    "job %s runs in burst %s: it was let go here, and is held again, or it would "
                    "run twice; cancel it to end it there, or stop the service and run "
                    "'fluxburst unburst %s' to have it back",
                    format_f58(loose[0]),
                    burst.name,
                    burst.name,
                )
                self._backlog.set_urgencies(dict.fromkeys(loose, URGENCY_HOLD))

    def _hold(self, plugin: BurstPlugin, jobs: Collection[int]) -> set[int]:
        """Hold jobs that are to run elsewhere; return those that start here, which are free."""
        started = {*self._backlog.set_urgencies(dict.fromkeys(jobs, URGENCY_HOLD))}
        if started:
            self._backlog.set_marks(dict.fromkeys(started))
            self._records.ledger.free(started, self._records.now(), "it starts here")
        return started

    def _may_run_elsewhere(self, jobid: int) -> bool:
        mark = self._backlog.marks.get(jobid)
        if mark is None or mark.urgency is None:
            return False
        entry = self._records.ledger.entry(mark.burst)
        return entry is not None and entry.live

    def _end_elsewhere(self, jobid: int) -> str:
        """Return how a job has ended in an isolated burst; empty if it has not, for all we know."""
        mark = self._backlog.marks.get(jobid)
        if mark is None or mark.urgency is None:
            return ""
        entry = self._records.ledger.entry(mark.burst)
        if entry is None or entry.burst.exit_code is None:
            return ""
        return end_note(without_hope(entry.burst))

    def _release(self, jobs: Collection[int]) -> None:
        """Give jobs that were held their urgency back, before their marks go, which tell it."""
        marks = {jobid: self._backlog.marks.get(jobid) for jobid in jobs}
        urgencies = {i: m.urgency for i, m in marks.items() if m and m.urgency is not None}
        if urgencies:
            self._backlog.set_urgencies(urgencies)

    def _move(
        self, plugin: BurstPlugin, jobs: Sequence[Job], errors: list[FluxburstError]
    ) -> set[int]:
        """Move jobs to a plugin's queue; return those that could not be, which are free again."""
        elsewhere = [job.id for job in jobs if plugin.queue and job.queue != plugin.queue]
        refused = self._backlog.move(elsewhere, plugin.queue) if elsewhere else {}
        for jobid, why in refused.items():
            problem = f"job {format_f58(jobid)} cannot be moved to queue {plugin.queue!r}: {why}"
            errors.append(BurstError(problem, plugin=plugin.name))
        self.take_back(plugin, list(refused), "it could not be moved to the plugin's queue")
        return set(refused)

    def _move_back(self, plugin: BurstPlugin, jobs: Collection[int]) -> None:
        """Move jobs that were taken from another queue back to it."""
        queues: dict[str, list[int]] = {}
        for job, mark in self._backlog.given(plugin.name):
            if job.id in jobs and mark.queue and job.queue != mark.queue:
                queues.setdefault(mark.queue, []).append(job.id)
        for queue, moving in queues.items():
            for jobid, why in self._backlog.move(moving, queue).items():
                _log.warning("job %s stays in its queue: %s", format_f58(jobid), why)


def _queue_before(job: Job, plugin: BurstPlugin) -> str:
    """Return the queue that a job is taken from, also where it was given away before."""
    if not plugin.queue:
        return ""
    if job.mark is not None and job.mark.queue:
        return job.mark.queue
    return job.queue if job.queue != plugin.queue else ""
