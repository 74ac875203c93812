"""The tables of the embedded instance: jobs with their records, queues and nodes."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from fluxburst.errors import InstanceError, RequestError
from fluxburst.flux.protocol import NODE_FAILURE, Changes, Run
from fluxburst.formats.hostlist import parse_hostlist
from fluxburst.model.job import ACTIVE, PENDING, Job, JobState, queue_order
from fluxburst.model.jobspec import chunks_of, task_count
from fluxburst.model.node import Node, NodeType
from fluxburst.model.queues import Queue
from fluxburst.simulation.placing import Allocation

URGENCY_EXPEDITE = 31
PRIORITY_MAX = 2**32 - 1

COMPLETED, FAILED, CANCELED, TIMEOUT = 1, 2, 4, 8
"""Job results with their numbers (``FLUX_JOB_RESULT_*``)."""


@dataclass
class Record:
    """One job, and the instance's private facts about it."""

    job: Job
    allocation: Allocation = field(default_factory=dict)
    ends: float = math.inf
    """When the scheduler expects it to end, for backfill."""

    def add_exception(self, kind: str, note: str) -> None:
        """Record an exception of the job (RFC 21), as in job-list, unless it has ended."""
        if self.job.state & ACTIVE:
            self.job.update(exception_occurred=True, exception_type=kind, exception_note=note)


class JobTable:
    """Jobs in any state, by id.

    Args:
        jobs: The initial jobs.
        queues: Their queues.

    Attributes:
        records: The record of each job, by id.
        touched: Ids of jobs that changed since the last report of changes.
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
        """Return copies of the pending jobs that changed since the last call."""
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
        """Forget earlier reports: the next changes are all jobs."""
        self._told = None

    def ids(self, states: JobState) -> list[int]:
        """Return the ids of the jobs in one of the states."""
        return [record.job.id for record in self.records.values() if record.job.state & states]

    def runs(self, jobids: Collection[int]) -> Sequence[Run]:
        """Return the nodes of those of the jobs that have started; unknown ids are left out."""
        known = (self.records[jobid].job for jobid in jobids if jobid in self.records)
        return [_run(job) for job in known if "t_run" in job]

    def job(self, jobid: int) -> Job:
        """Return a copy of a job.

        Raises:
            InstanceError: if it is unknown.
        """
        if jobid not in self.records:
            raise InstanceError(f"there is no job {jobid}")
        return Job(self.records[jobid].job)

    def add(self, spec: Mapping[str, Any], userid: int, urgency: int, now: float) -> Job:
        """Add a job, submitted now; return it.

        Raises:
            RequestError: if the jobspec is unusable, or its queue does not accept it.
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
        """Set one entry of a job's memo; None removes it."""
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


class QueueTable:
    """Queues by name; a single one with an empty name if there are no named ones.

    Args:
        needs: For each named queue, the properties required of its jobs' nodes.
    """

    def __init__(self, needs: Mapping[str, Collection[str]]) -> None:
        self._named = bool(needs)
        self._queues = {
            name: Queue(name, requires=tuple(properties), duration=0.0, longest=0.0)
            for name, properties in (needs or {"": ()}).items()
        }

    def all(self) -> Mapping[str, Queue]:
        """Return all of them."""
        return dict(self._queues)

    def change(self, name: str, **changes: Any) -> None:
        """Change fields of a queue."""
        self._queues[name] = replace(self._queues[name], **changes)

    def of(self, name: str) -> Queue:
        """Return the queue of a job; without named queues, the only one."""
        return self._queues.get(name if self._named else "") or Queue(name, started=False)

    def submitted(self, spec: Mapping[str, Any]) -> dict[str, Any]:
        """Return a jobspec with the requirements of its queue added.

        Raises:
            RequestError: if the queue does not exist, or is disabled.
        """
        name = spec.get("attributes", {}).get("system", {}).get("queue", "")
        if self._named and name not in self._queues:
            raise RequestError(f"there is no queue {name!r}")
        if not self.of(name).enabled:
            raise RequestError(f"job submission is disabled: {self.of(name).why_disabled}")
        needs = list(self.of(name).requires or ())
        own = _system(spec).get("constraints")
        return dict(spec) if not needs else _with(spec, constraints=_both(own, needs))

    def why_not_moved(self, job: Job | None, name: str) -> str:
        """Return why moving a job to a queue is refused; empty if it is allowed."""
        if job is None or not job.state & PENDING:
            return "it is not pending"
        if not self._named or name not in self._queues:
            return f"there is no queue {name!r}"
        if not self._queues[name].enabled:
            return f"queue {name} is currently disabled"
        needs = list(self.of(job.queue).requires or ())
        # Recorded jobs may lack the requirements of their queue; nothing of theirs can be lost.
        if job.constraint and job.constraint != {"properties": needs}:
            return f"it has non-queue constraints, unable to update queue to {name}"
        return ""

    def moved(self, spec: Mapping[str, Any], name: str) -> dict[str, Any]:
        """Return a jobspec moved to another queue, with that queue's constraints."""
        needs = list(self._queues[name].requires or ())
        if not _system(spec).get("constraints"):
            return _with(spec, queue=name)
        return _with(spec, queue=name, constraints={"properties": needs} if needs else {})


def _system(spec: Mapping[str, Any]) -> Mapping[str, Any]:
    attributes = spec.get("attributes")
    system = attributes.get("system") if isinstance(attributes, dict) else None
    return system if isinstance(system, dict) else {}


def _with(spec: Mapping[str, Any], **system: Any) -> dict[str, Any]:
    attributes = spec.get("attributes") or {}
    return {**spec, "attributes": {**attributes, "system": {**_system(spec), **system}}}


def _both(own: Any, needs: list[str]) -> dict[str, Any]:
    """Combine the constraints of a job and its queue, as Flux's ingest does."""
    if not own:
        return {"properties": needs}
    if isinstance(own, dict) and isinstance(own.get("properties"), list):
        more = [need for need in needs if need not in own["properties"]]
        return {**own, "properties": [*own["properties"], *more]}
    return {"and": [own, {"properties": needs}]}


class NodeTable:
    """Nodes by rank.

    Attributes:
        by_rank: Each node, in no particular order.
    """

    def __init__(self, nodes: Iterable[Node]) -> None:
        self.by_rank = {node.rank: node for node in nodes}

    def all(self) -> tuple[Node, ...]:
        """Return every node, by rank."""
        return tuple(self.by_rank[rank] for rank in sorted(self.by_rank))

    def hostnames(self, ranks: Iterable[int]) -> list[str]:
        """Return the hostnames of nodes, in the order of the ranks."""
        return [self.by_rank[rank].hostname for rank in ranks]

    def ranks_of(self, hostnames: Collection[str]) -> set[int]:
        """Return the ranks of the nodes with one of these hostnames."""
        return {rank for rank, node in self.by_rank.items() if node.hostname in hostnames}

    def drain(self, ranks: Iterable[int], reason: str, now: float) -> None:
        """Drain nodes; nodes already drained keep their reason."""
        for rank in ranks:
            node = self.by_rank[rank]
            if not node.drained:
                self.by_rank[rank] = replace(
                    node, drained=True, drain_reason=reason, drained_at=now
                )

    def undrain(self, ranks: Iterable[int]) -> None:
        """Undrain nodes."""
        for rank in ranks:
            self.by_rank[rank] = replace(
                self.by_rank[rank], drained=False, drain_reason="", drained_at=None
            )

    def add(
        self, hostnames: Iterable[str], node_type: NodeType, properties: Collection[str]
    ) -> None:
        """Bring nodes up: known hostnames under their ranks, others under new ranks."""
        ranks = {node.hostname: rank for rank, node in self.by_rank.items()}
        for hostname in hostnames:
            rank = ranks.get(hostname, max(self.by_rank, default=-1) + 1)
            self.by_rank[rank] = Node(
                rank=rank,
                hostname=hostname,
                cores=node_type.cores,
                gpus=node_type.gpus,
                free_cores=node_type.cores,
                free_gpus=node_type.gpus,
                memory=node_type.memory,
                free_memory=node_type.memory,
                properties=frozenset(properties),
            )

    def mark_down(self, ranks: Iterable[int]) -> None:
        """Mark nodes as down."""
        for rank in ranks:
            self.by_rank[rank] = replace(self.by_rank[rank], up=False)
