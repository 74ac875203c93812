"""Starts and ends the jobs of the embedded instance."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping

from fluxburst.errors import FormatError, JobspecError
from fluxburst.flux.protocol import NODE_FAILURE
from fluxburst.formats.units import Duration, parse_duration
from fluxburst.model.job import ACTIVE, Job, JobState, queue_order
from fluxburst.model.node import Node
from fluxburst.model.scheduler import Scheduler
from fluxburst.simulation.clock import Clock
from fluxburst.simulation.dependencies import begin_times, dependencies_met
from fluxburst.simulation.housekeeping import House
from fluxburst.simulation.placing import Allocation, Share, give_back, place, take
from fluxburst.simulation.tables import (
    COMPLETED,
    FAILED,
    TIMEOUT,
    JobTable,
    NodeTable,
    QueueTable,
    Record,
    priority_of,
)

DEFAULT_RUN_SECONDS = 60.0


class Scheduling:
    """The life of jobs: dependencies, start, end, housekeeping.

    Args:
        jobs: The jobs.
        nodes: Their nodes.
        queues: Their queues.
        scheduler: The rules for starting them.
        house: The housekeeping after them.
        clock: The clock.

    Attributes:
        changed: Whether something changed, so that jobs may start.
    """

    def __init__(
        self,
        jobs: JobTable,
        nodes: NodeTable,
        queues: QueueTable,
        scheduler: Scheduler,
        house: House[Share],
        clock: Clock,
    ) -> None:
        self._jobs = jobs
        self._nodes = nodes
        self._queues = queues
        self._scheduler = scheduler
        self._house = house
        self._clock = clock
        self.changed = True
        for record in jobs.records.values():
            self._wake_at_begin_time(record.job)

    def submitted(self, job: Job) -> None:
        """Accept a new job."""
        self._wake_at_begin_time(job)
        self._release()

    def schedule(self) -> None:
        """Start jobs that fit: first come, first served, with backfill unless the order is strict.

        The first job that does not fit gets a reservation at its expected start; a job behind it
        may only start if it ends by then (EASY backfill).
        """
        if not self.changed:
            return
        self.changed = False
        reserved_until: float | None = None
        jobs = self._jobs.records.values()
        waiting = [
            r for r in jobs if not r.job.not_startable and self._queues.of(r.job.queue).started
        ]
        for record in sorted(waiting, key=lambda r: queue_order(r.job)):
            ends = self._clock.now + _limit(record.job)
            if reserved_until is not None and ends > reserved_until:
                continue
            allocation = self._fit(record.job, self._nodes.by_rank)
            if allocation is not None:
                self._start(record, allocation)
            elif self._scheduler.strict_order:
                break
            elif reserved_until is None:
                reserved_until = self._expected_start(record.job)

    def end(self, record: Record, result: int) -> None:
        """End a job, if it has not ended."""
        job = record.job
        if not job.state & ACTIVE:
            return
        if self._house.seconds and record.allocation:
            self._house.begin(job.id, record.allocation, self._clock.now)
            self._clock.at(
                self._clock.now + self._house.seconds, lambda: self._end_housekeeping(job.id)
            )
        else:
            give_back(self._nodes.by_rank, record.allocation)
        record.allocation = {}
        job.update(
            state=int(JobState.INACTIVE),
            t_inactive=self._clock.now,
            result=result,
            success=result == COMPLETED,
        )
        self._jobs.touched.add(job.id)
        self._release()

    def fail_jobs_on(self, ranks: Collection[int]) -> None:
        """End the jobs that run on lost nodes."""
        for record in list(self._jobs.records.values()):
            on = sorted(set(ranks).intersection(record.allocation))
            if on:
                where = f"{self._nodes.by_rank[on[0]].hostname} (rank {on[0]})"
                record.add_exception("exec", f"{NODE_FAILURE} on {where}")
                self.end(record, FAILED)

    def _release(self) -> None:
        """Let jobs whose dependencies are met become schedulable."""
        self.changed = True
        for record in list(self._jobs.records.values()):
            job = record.job
            if job.state is JobState.DEPEND:
                met = dependencies_met(job, self._jobs.records, self._clock.now)
                if met is None:
                    self.end(record, FAILED)
                elif met:
                    job["state"] = int(JobState.SCHED)
                    job["priority"] = priority_of(job.urgency)
                    self._jobs.touched.add(job.id)
                    job.pop("dependencies", None)

    def _wake_at_begin_time(self, job: Job) -> None:
        if job.state is JobState.DEPEND:
            for begin in begin_times(job):
                self._clock.at(begin, self._release)

    def _expected_start(self, job: Job) -> float:
        """Return when a job will fit if running ones end as expected; infinite for never."""
        nodes = dict(self._nodes.by_rank)
        running = [r for r in self._jobs.records.values() if r.allocation]
        for record in sorted(running, key=lambda r: r.ends):
            give_back(nodes, record.allocation)
            if math.isfinite(record.ends) and self._fit(job, nodes) is not None:
                return record.ends
        return math.inf

    def _fit(self, job: Job, nodes: Mapping[int, Node]) -> Allocation | None:
        needs = self._queues.of(job.queue).requires or ()
        try:
            return place(job, nodes.values(), self._scheduler, needs)
        except JobspecError:  # a live instance would have rejected it at submission
            return None

    def _start(self, record: Record, allocation: Allocation) -> None:
        job = record.job
        take(self._nodes.by_rank, allocation)
        record.allocation = allocation
        record.ends = self._clock.now + _limit(job)
        job.update(
            state=int(JobState.RUN),
            t_run=self._clock.now,
            nodelist=",".join(self._nodes.hostnames(sorted(allocation))),
            ncores=sum(share.cores for share in allocation.values()),
        )
        self._jobs.touched.add(job.id)
        seconds, result = _outcome(job)
        self._clock.at(self._clock.now + seconds, lambda: self.end(record, result))
        self._release()

    def _end_housekeeping(self, jobid: int) -> None:
        give_back(self._nodes.by_rank, self._house.end(jobid))
        self.changed = True


def _limit(job: Job) -> float:
    """Return how long the scheduler expects a job to run."""
    return job.duration or math.inf


def _outcome(job: Job) -> tuple[float, int]:
    """Return how long a job runs after its start, and how it ends."""
    try:
        seconds = parse_duration(str(job.attributes["exec"]["test"]["run_duration"]))
    except (KeyError, TypeError, FormatError):
        seconds = Duration(job.duration or DEFAULT_RUN_SECONDS)
    return (seconds, COMPLETED) if seconds <= _limit(job) else (job.duration, TIMEOUT)
