"""The jobs of the embedded instance: its queue, and what it has recorded of each job."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fluxburst.errors import InstanceError
from fluxburst.flux.protocol import NODE_FAILURE, Changes, Run
from fluxburst.formats.hostlist import parse_hostlist
from fluxburst.model.job import ACTIVE, PENDING, Job, JobState, queue_order
from fluxburst.model.jobspec import chunks_of, task_count
from fluxburst.simulation.placing import Allocation
from fluxburst.simulation.queue_table import QueueTable

URGENCY_EXPEDITE = 31
PRIORITY_MAX = 2**32 - 1

COMPLETED, FAILED, CANCELED, TIMEOUT = 1, 2, 4, 8
"""Job results with their numbers (``FLUX_JOB_RESULT_*``)."""


@dataclass
class Record:
    """One job and what the instance alone knows of it."""

    job: Job
    allocation: Allocation = field(default_factory=dict)
    ends: float = math.inf
    """When the scheduler expects it to end, for backfill."""

    def add_exception(self, kind: str, note: str) -> None:
        """Record an exception of the job (RFC 21), as job-list shows it, unless it has ended."""
        if self.job.state & ACTIVE:
            self.job.update(exception_occurred=True, exception_type=kind, exception_note=note)


class JobTable:
    """Jobs in any state, by id.

    Args:
        jobs: The jobs to begin with.
        queues: The queues that they are in.

    Attributes:
        records: What is recorded of each job, by id.
        touched: The ids of jobs that changed since changes were last asked for.
    """

    def __init__(self, jobs: Iterable[Job], queues: QueueTable) -> None:
        self.records = {job.id: Record(Job(job)) for job in jobs}
        self.touched: set[int] = set()
        self._queues = queues
        self._told: set[int] | None = None

    def pending(self) -> Sequence[Job]:
        """Return copies of the pending jobs, in queue order."""
        jobs = [Job(r.job) for r in self.records.values() if r.job.state & PENDING]
        return sorted(jobs, key=queue_order)

    def changes(self) -> Changes:
        """Return copies of the pending jobs that changed since this was last asked."""
        complete = self._told is None
        if self._told is None:
            self._told, self.touched = set(), set(self.records)
        jobs = [self.records[jobid].job for jobid in self.touched]
        pending = [Job(job) for job in jobs if job.state & PENDING]
        gone = frozenset(job.id for job in jobs if not job.state & PENDING) & self._told
        self._told.difference_update(gone)
        self._told.update(job.id for job in pending)
        self.touched = set()
        return Changes(sorted(pending, key=queue_order), gone, complete)

    def forget_told(self) -> None:
        """Forget what was told of: the next changes are all jobs."""
        self._told = None

    def ids(self, states: JobState) -> list[int]:
        """Return the ids of the jobs in one of the states."""
        return [record.job.id for record in self.records.values() if record.job.state & states]

    def runs(self, jobids: Collection[int]) -> Sequence[Run]:
        """Return what those of the jobs that have started had; unknown ids are left out."""
        known = (self.records[jobid].job for jobid in jobids if jobid in self.records)
        return [_run(job) for job in known if "t_run" in job]

    def job(self, jobid: int) -> Job:
        """Return a copy of a job.

        Raises:
            InstanceError: if there is no such job.
        """
        if jobid not in self.records:
            raise InstanceError(f"there is no job {jobid}")
        return Job(self.records[jobid].job)

    def add(self, spec: Mapping[str, Any], userid: int, urgency: int, now: float) -> Job:
        """Add a job that is submitted now; return it.

        Raises:
            RequestError: if the jobspec cannot be counted, or its queue does not accept it.
        """
        chunks = chunks_of(spec)
        system = spec.get("attributes", {}).get("system", {})
        queue = system.get("queue", "")
        spec = self._queues.submitted(spec)
        jobid = max(self.records, default=2**24) + 2**24
        job = Job(
            id=jobid,
            userid=userid,
            urgency=urgency,
            state=int(JobState.DEPEND),
            name=system.get("job", {}).get("name") or spec["tasks"][0]["command"][0],
            ntasks=task_count(spec),
            duration=float(system.get("duration", 0.0)),
            t_submit=now,
            spec=spec,
        )
        nodes = sum(chunk.count for chunk in chunks if chunk.node)
        if nodes:
            job["nnodes"] = nodes
        if queue:
            job["queue"] = queue
        self.records[jobid] = Record(job)
        self.touched.add(jobid)
        return job

    def set_urgency(self, jobid: int, urgency: int) -> bool:
        """Set the urgency of a pending job; False if it is not pending."""
        record = self.records.get(jobid)
        if record is None or not record.job.state & PENDING:
            return False
        record.job["urgency"] = urgency
        self.touched.add(jobid)
        if "priority" in record.job:
            record.job["priority"] = priority_of(urgency)
        return True

    def move(self, jobids: Collection[int], queue: str) -> Mapping[int, str]:
        """Move pending jobs to a queue; return those that could not be moved, with the reason."""
        refused: dict[int, str] = {}
        for jobid in jobids:
            record = self.records.get(jobid)
            job = record.job if record else None
            why = self._queues.why_not_moved(job, queue)
            if job is None or why:
                refused[jobid] = why
                continue
            job.update(queue=queue, spec=self._queues.moved(job.spec, queue))
            self.touched.add(jobid)
        return refused

    def set_memo(self, jobid: int, key: str, value: Any) -> None:
        """Set one entry of a job's memo; None takes it off."""
        job = self.records[jobid].job
        annotations = dict(job.get("annotations", {}))
        memo = {**annotations.pop("user", {}), key: value}
        if value is None:
            del memo[key]
        if memo:
            annotations["user"] = memo
        job["annotations"] = annotations
        if not annotations:
            del job["annotations"]
        self.touched.add(jobid)


def priority_of(urgency: int) -> int:
    """Return the priority that Flux derives from an urgency (RFC 30)."""
    return PRIORITY_MAX if urgency == URGENCY_EXPEDITE else urgency


def _run(job: Job) -> Run:
    note = str(job.get("exception_note") or "")
    return Run(
        job=job.id,
        user=job.user,
        started=job["t_run"],
        ended=job.get("t_inactive"),
        hostnames=parse_hostlist(job["nodelist"]),
        cores=job.get("ncores", 0),
        node_failure=note if note.startswith(NODE_FAILURE) else "",
    )
