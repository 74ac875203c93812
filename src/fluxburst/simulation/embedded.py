"""An instance in memory: nodes, a queue, a scheduler and a virtual clock, and no Flux.

Time passes only when it is told to (:meth:`EmbeddedInstance.wait`,
:meth:`EmbeddedInstance.advance`), and nothing starts or ends while it stands still.
"""

from __future__ import annotations

import functools
import heapq
import itertools
import math
import threading
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

from fluxburst.errors import FormatError, InstanceError, JobspecError
from fluxburst.flux.protocol import NODE_FAILURE, Changes, Run
from fluxburst.formats.fluid import parse_fluid
from fluxburst.formats.hostlist import parse_hostlist
from fluxburst.formats.units import Duration, counted, parse_duration
from fluxburst.model.housekeeping import Housekeeping
from fluxburst.model.identity import Users, only_this_user
from fluxburst.model.job import (
    ACTIVE,
    PENDING,
    URGENCY_DEFAULT,
    Job,
    JobState,
    Mark,
    queue_order,
)
from fluxburst.model.jobspec import chunks_of, task_count
from fluxburst.model.node import Node, NodeType
from fluxburst.model.queues import Queue
from fluxburst.model.scheduler import Scheduler
from fluxburst.simulation.housekeeping import House
from fluxburst.simulation.placing import Allocation, Share, give_back, place, take
from fluxburst.simulation.queue_table import QueueTable
from fluxburst.simulation.recordings import Recording

NAME = "embedded"
START_TIME = 1_700_000_000.0
DEFAULT_RUN_SECONDS = 60.0
URGENCY_EXPEDITE = 31
OWNER = 1000
"""The numeric id of the user whose instance it is: others are its guests."""

PRIORITY_MAX = 2**32 - 1

EMBEDDED = Scheduler("embedded")
"""Rules for an instance in memory: nodes by rank, and EASY backfill."""

COMPLETED, FAILED, CANCELED, TIMEOUT = 1, 2, 4, 8
"""Job results with their numbers (``FLUX_JOB_RESULT_*``)."""


@dataclass
class _Record:
    """One job and what the instance alone knows of it."""

    job: Job
    allocation: Allocation = field(default_factory=dict)
    ends: float = math.inf
    """When the scheduler expects it to end, for backfill."""


P = ParamSpec("P")
T = TypeVar("T")


def _locked(
    method: Callable[Concatenate[EmbeddedInstance, P], T],
) -> Callable[Concatenate[EmbeddedInstance, P], T]:
    """Let one thread at a time into the methods of an instance."""

    @functools.wraps(method)
    def locked(self: EmbeddedInstance, /, *arguments: P.args, **options: P.kwargs) -> T:
        with self._lock:
            return method(self, *arguments, **options)

    return locked


class EmbeddedInstance:
    """A Flux instance in memory.

    Args:
        recording: The queue and the nodes to begin with; by default none.
        queues: For each named queue, the properties its jobs' nodes must have; empty for an
            instance without named queues.
        name: What to call it.
        start: The earliest time to begin at, in seconds since the epoch.
        housekeeping: How many seconds nodes are not free after each job.
        pace: How many seconds :meth:`wait` takes for each virtual one that passes, for people who
            look on.
        scheduler: The rules by which it starts jobs.
    """

    def __init__(
        self,
        recording: Recording | None = None,
        *,
        queues: Mapping[str, Collection[str]] | None = None,
        name: str = NAME,
        start: float = START_TIME,
        pace: float = 0.0,
        housekeeping: float = 0.0,
        scheduler: Scheduler = EMBEDDED,
        users: Users | None = None,
    ) -> None:
        recording = recording or Recording(())
        self._name = name
        self._pace = pace
        self._scheduler = scheduler
        self._users = users or only_this_user()
        self._queues = QueueTable(queues or {})
        self._house: House[Share] = House(housekeeping)
        self._records = {job.id: _Record(Job(job)) for job in recording.jobs}
        self._nodes = {node.rank: node for node in recording.nodes}
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._sequence = itertools.count()
        self._changed = True
        submitted = [float(job.get("t_submit", start)) for job in recording.jobs]
        self._now = max([start, *submitted])
        self._lock = threading.RLock()
        self._woken = False
        self._touched: set[int] = set()
        self._told: set[int] | None = None
        for job in recording.jobs:
            self._wake_at_begin_time(job)

    # --- what a client needs (see handles.protocol) ----------------------------------------

    @property
    def name(self) -> str:
        """What tells this instance from others."""
        return self._name

    @property
    def lock_file(self) -> Path | None:
        """None: nobody but this process can have the instance."""
        return None

    @_locked
    def now(self) -> float:
        """Return the virtual time, in seconds since the epoch."""
        return self._now

    @_locked
    def monotonic(self) -> float:
        """Return the virtual time, which only goes forward."""
        return self._now

    @_locked
    def pending_jobs(self) -> Sequence[Job]:
        """Return copies of the pending jobs, in queue order."""
        jobs = [Job(r.job) for r in self._records.values() if r.job.state & PENDING]
        return sorted(jobs, key=queue_order)

    @_locked
    def pending_changes(self) -> Changes:
        """Return copies of the pending jobs that changed since this was last asked."""
        complete = self._told is None
        if self._told is None:
            self._told, self._touched = set(), set(self._records)
        jobs = [self._records[jobid].job for jobid in self._touched]
        pending = [Job(job) for job in jobs if job.state & PENDING]
        gone = frozenset(job.id for job in jobs if not job.state & PENDING) & self._told
        self._told.difference_update(gone)
        self._told.update(job.id for job in pending)
        self._touched = set()
        return Changes(sorted(pending, key=queue_order), gone, complete)

    @_locked
    def runs(self, jobids: Collection[int]) -> Sequence[Run]:
        """Return what those of the jobs that have started had; unknown ids are left out."""
        known = (self._records[jobid].job for jobid in jobids if jobid in self._records)
        return [_run(job) for job in known if "t_run" in job]

    @_locked
    def job_ids(self, states: JobState = ACTIVE) -> list[int]:
        """Return the ids of the jobs in one of the states."""
        return [record.job.id for record in self._records.values() if record.job.state & states]

    @_locked
    def nodes(self) -> tuple[Node, ...]:
        """Return every node, by rank."""
        return tuple(self._nodes[rank] for rank in sorted(self._nodes))

    def check_owner(self, *, to_act: bool = False) -> None:
        """Whoever made it owns it."""

    def scheduler(self) -> Scheduler:
        """Return the rules that it was given."""
        return self._scheduler

    def users(self) -> Users:
        """Return whose jobs it takes and runs: by default everybody's."""
        return self._users

    @_locked
    def queues(self) -> Mapping[str, Queue]:
        """Return every queue by name."""
        return self._queues.all()

    @_locked
    def set_marks(self, marks: Mapping[int, Mark | None]) -> Collection[int]:
        """Put memos on jobs, or take them off; return the ids of jobs that are not active."""
        inactive = []
        for jobid, mark in marks.items():
            record = self._records.get(jobid)
            if record is None or not record.job.state & ACTIVE:
                inactive.append(jobid)
            else:
                self.set_memo(jobid, "fluxburst", mark and mark.to_memo())
        return inactive

    @_locked
    def attribute(self, name: str) -> str:
        """Return a broker attribute: there is no broker, so only the owner is known."""
        return str(OWNER) if name == "security.owner" else ""

    @_locked
    def jobs_on(self, ranks: Collection[int]) -> list[int]:
        """Return the ids of the jobs that have something of these nodes."""
        chosen = set(ranks)
        return [r.job.id for r in self._records.values() if chosen.intersection(r.allocation)]

    @_locked
    def housekeeping(self) -> Sequence[Housekeeping]:
        """Return what runs on nodes after jobs have ended there."""
        return self._house.all()

    @_locked
    def cancel_jobs(self, jobids: Collection[int], note: str) -> None:
        """Cancel jobs; those that have ended, or are not known, are left as they are."""
        for jobid in jobids:
            if jobid in self._records:
                self._end(self._records[jobid], CANCELED)

    @_locked
    def end_jobs(self, notes: Mapping[int, str]) -> None:
        """End pending jobs that ran elsewhere; running ones and others are left as they are."""
        for jobid, note in notes.items():
            if jobid in self._records and self._records[jobid].job.state & PENDING:
                job = self._records[jobid].job
                job.update(exception_occurred=True, exception_type="burst", exception_note=note)
                self._end(self._records[jobid], FAILED)

    @_locked
    def set_urgencies(self, urgencies: Mapping[int, int]) -> Collection[int]:
        """Change the urgency of pending jobs; return those that are not pending."""
        refused = []
        for jobid, urgency in urgencies.items():
            record = self._records.get(jobid)
            if record is None or not record.job.state & PENDING:
                refused.append(jobid)
                continue
            record.job["urgency"] = urgency
            self._touched.add(jobid)
            if "priority" in record.job:
                record.job["priority"] = _priority(urgency)
            self._changed = True
        return refused

    def jobspec(self, jobid: int) -> Mapping[str, Any]:
        """Return the jobspec of a job.

        Raises:
            InstanceError: if there is no such job.
        """
        return self.job(jobid).spec

    @_locked
    def move_jobs(self, jobids: Collection[int], queue: str) -> Mapping[int, str]:
        """Move pending jobs to a queue; return those that could not be moved, with the reason."""
        refused: dict[int, str] = {}
        for jobid in jobids:
            record = self._records.get(jobid)
            job = record.job if record else None
            why = self._queues.why_not_moved(job, queue)
            if job is None or why:
                refused[jobid] = why
                continue
            job.update(queue=queue, spec=self._queues.moved(job.spec, queue))
            self._touched.add(jobid)
        self._changed = True
        return refused

    @_locked
    def drain(self, ranks: Collection[int], reason: str) -> None:
        """Set nodes aside; those that are drained already keep their reason."""
        for rank in ranks:
            node = self._nodes[rank]
            if not node.drained:
                self._nodes[rank] = replace(
                    node, drained=True, drain_reason=reason, drained_at=self._now
                )

    @_locked
    def undrain(self, ranks: Collection[int]) -> None:
        """Take nodes back."""
        for rank in ranks:
            self._nodes[rank] = replace(
                self._nodes[rank], drained=False, drain_reason="", drained_at=None
            )
        self._changed = True

    @_locked
    def disconnect(self, ranks: Collection[int]) -> None:
        """Take nodes down: jobs that run on them fail."""
        self.remove_nodes({self._nodes[rank].hostname for rank in ranks})

    @_locked
    def wait_for_jobs(self, jobids: Collection[int], states: JobState) -> None:
        """Let time pass until each job has reached one of the states, or has ended.

        Raises:
            InstanceError: if nothing is left to happen before that.
        """
        wanted = states | JobState.INACTIVE
        known = [jobid for jobid in jobids if jobid in self._records]

        def waiting() -> list[int]:
            return [jobid for jobid in known if not self._records[jobid].job.state & wanted]

        while waiting():
            self._schedule()
            left = waiting()
            if left and not self._step(math.inf):
                raise InstanceError(
                    f"{counted(len(left), 'job')}, the first being {left[0]}, will never get "
                    "there: nothing is left to happen in the embedded instance"
                )

    def wait(self, seconds: float) -> None:
        """Let time pass to the next event, at most ``seconds``; none where it was woken."""
        if self._woken:
            self._woken = False
            return
        with self._lock:
            before = self._now
            self._step(before + seconds)
            passed = self._now - before
        time.sleep(passed * self._pace)

    def wake(self) -> None:
        """Have the next :meth:`wait` return at once; from any thread or signal handler."""
        self._woken = True  # without the lock, which a signal's handler might wait for in vain

    @_locked
    def close(self) -> None:
        """Forget what was told of; the instance itself goes on."""
        self._told = None

    # --- what makes it an instance ---------------------------------------------------------

    @_locked
    def submit(
        self, spec: Mapping[str, Any], *, userid: int = OWNER, urgency: int = URGENCY_DEFAULT
    ) -> int:
        """Submit a job; return its id.

        Raises:
            RequestError: if the jobspec cannot be counted, or its queue does not accept it.
        """
        chunks = chunks_of(spec)
        system = spec.get("attributes", {}).get("system", {})
        queue = system.get("queue", "")
        spec = self._queues.submitted(spec)
        jobid = max(self._records, default=2**24) + 2**24
        job = Job(
            id=jobid,
            userid=userid,
            urgency=urgency,
            state=int(JobState.DEPEND),
            name=system.get("job", {}).get("name") or spec["tasks"][0]["command"][0],
            ntasks=task_count(spec),
            duration=float(system.get("duration", 0.0)),
            t_submit=self._now,
            spec=spec,
        )
        nodes = sum(chunk.count for chunk in chunks if chunk.node)
        if nodes:
            job["nnodes"] = nodes
        if queue:
            job["queue"] = queue
        self._records[jobid] = _Record(job)
        self._touched.add(jobid)
        self._wake_at_begin_time(job)
        self._release()
        return jobid

    @_locked
    def set_queue(self, queue: str, /, **changes: Any) -> None:
        """Stop, start, disable or enable a queue.

        The changes are fields of :class:`~fluxburst.model.queues.Queue`.
        """
        self._queues.change(queue, **changes)
        self._changed = True

    @_locked
    def job(self, jobid: int) -> Job:
        """Return a job in any state, also one that has ended.

        Raises:
            InstanceError: if there is no such job.
        """
        if jobid not in self._records:
            raise InstanceError(f"there is no job {jobid}")
        return Job(self._records[jobid].job)

    @_locked
    def set_memo(self, jobid: int, key: str, value: Any) -> None:
        """Set one entry of a job's memo, as ``flux job memo`` does; None takes it off."""
        job = self._records[jobid].job
        annotations = dict(job.get("annotations", {}))
        memo = {**annotations.pop("user", {}), key: value}
        if value is None:
            del memo[key]
        if memo:
            annotations["user"] = memo
        job["annotations"] = annotations
        if not annotations:
            del job["annotations"]
        self._touched.add(jobid)

    @_locked
    def add_nodes(
        self, hostnames: Iterable[str], node_type: NodeType, properties: Collection[str] = ()
    ) -> None:
        """Bring nodes up: known ones by their hostname, others under new ranks."""
        ranks = {node.hostname: rank for rank, node in self._nodes.items()}
        for hostname in hostnames:
            rank = ranks.get(hostname, max(self._nodes, default=-1) + 1)
            self._nodes[rank] = Node(
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
        self._changed = True

    @_locked
    def remove_nodes(self, hostnames: Collection[str]) -> None:
        """Take nodes down; jobs that run on them fail, as they do when a broker is lost."""
        lost = {rank for rank, node in self._nodes.items() if node.hostname in hostnames}
        for record in list(self._records.values()):
            on = sorted(lost.intersection(record.allocation))
            if on:
                where = f"{self._nodes[on[0]].hostname} (rank {on[0]})"
                record.job["exception_note"] = f"{NODE_FAILURE} on {where}"
                self._end(record, FAILED)
        self._house.lose(lost)
        for rank in lost:
            self._nodes[rank] = replace(self._nodes[rank], up=False)

    @_locked
    def at(self, when: float, what: Callable[[], None]) -> None:
        """Have something happen at a time, in seconds since the epoch."""
        heapq.heappush(self._events, (when, next(self._sequence), what))

    @_locked
    def advance(self, seconds: float) -> None:
        """Let ``seconds`` pass, with everything that happens in them."""
        until = self._now + seconds
        while self._step(until):
            pass
        self._now = until

    # --- time ------------------------------------------------------------------------------

    def _step(self, until: float) -> bool:
        """Pass to the next event before ``until``; False if there is none (and it is then)."""
        self._schedule()
        if not self._events or self._events[0][0] > until:
            if math.isfinite(until):
                self._now = until
            return False
        when, _, happen = heapq.heappop(self._events)
        self._now = max(self._now, when)
        happen()
        self._schedule()
        return True

    def _release(self) -> None:
        """Let jobs whose dependencies are met become schedulable."""
        self._changed = True
        for record in list(self._records.values()):
            job = record.job
            if job.state is JobState.DEPEND:
                met = self._dependencies_met(job)
                if met is None:
                    self._end(record, FAILED)
                elif met:
                    job["state"] = int(JobState.SCHED)
                    job["priority"] = _priority(job.urgency)
                    self._touched.add(job.id)
                    job.pop("dependencies", None)

    def _wake_at_begin_time(self, job: Job) -> None:
        if job.state is JobState.DEPEND:
            for dependency in _dependencies(job):
                if dependency.get("scheme") == "begin-time":
                    self.at(float(dependency["value"]), self._release)

    def _dependencies_met(self, job: Job) -> bool | None:
        """Whether a job depends on nothing any more; None if it can never be."""
        answers = [self._dependency_met(dependency) for dependency in _dependencies(job)]
        return None if None in answers else all(answers)

    def _dependency_met(self, dependency: Mapping[str, Any]) -> bool | None:
        scheme, value = dependency.get("scheme"), str(dependency.get("value", ""))
        if scheme == "begin-time":
            return self._now >= float(value)
        try:
            other = self._records.get(parse_fluid(value))
        except FormatError:
            return False
        if other is None:  # it ended before this instance was recorded
            return True
        if scheme == "after":
            return bool(other.job.state & (JobState.RUN | JobState.INACTIVE))
        if other.job.state is not JobState.INACTIVE:
            return False
        if scheme == "afterany":
            return True
        if scheme not in ("afterok", "afternotok"):
            return False
        succeeded = other.job.get("result") == COMPLETED
        return True if succeeded is (scheme == "afterok") else None

    # --- scheduling ------------------------------------------------------------------------

    def _schedule(self) -> None:
        """Start what fits: first come, first served, with backfill where the order is not strict.

        The first job that does not fit gets a reservation at the time it is expected to; a job
        behind it may only start if it ends by then (EASY backfill).
        """
        if not self._changed:
            return
        self._changed = False
        reserved_until: float | None = None
        jobs = self._records.values()
        waiting = [
            r for r in jobs if not r.job.not_startable and self._queues.of(r.job.queue).started
        ]
        for record in sorted(waiting, key=lambda r: queue_order(r.job)):
            ends = self._now + _limit(record.job)
            if reserved_until is not None and ends > reserved_until:
                continue
            allocation = self._fit(record.job, self._nodes)
            if allocation is not None:
                self._start(record, allocation)
            elif self._scheduler.strict_order:
                break
            elif reserved_until is None:
                reserved_until = self._expected_start(record.job)

    def _expected_start(self, job: Job) -> float:
        """Return when a job will fit if running ones end as expected; infinite for never."""
        nodes = dict(self._nodes)
        running = [r for r in self._records.values() if r.allocation]
        for record in sorted(running, key=lambda r: r.ends):
            give_back(nodes, record.allocation)
            if math.isfinite(record.ends) and self._fit(job, nodes) is not None:
                return record.ends
        return math.inf

    def _fit(self, job: Job, nodes: Mapping[int, Node]) -> Allocation | None:
        needs = self._queues.of(job.queue).requires or ()
        try:
            return place(job, nodes.values(), self._scheduler, needs)
        except JobspecError:  # a live instance would have refused it when it was submitted
            return None

    def _start(self, record: _Record, allocation: Allocation) -> None:
        job = record.job
        take(self._nodes, allocation)
        record.allocation = allocation
        record.ends = self._now + _limit(job)
        job.update(
            state=int(JobState.RUN),
            t_run=self._now,
            nodelist=",".join(self._nodes[rank].hostname for rank in sorted(allocation)),
            ncores=sum(share.cores for share in allocation.values()),
        )
        self._touched.add(job.id)
        seconds, result = _outcome(job)
        self.at(self._now + seconds, lambda: self._end(record, result))
        self._release()

    def _end(self, record: _Record, result: int) -> None:
        job = record.job
        if not job.state & ACTIVE:
            return
        if self._house.seconds and record.allocation:
            self._house.begin(job.id, record.allocation, self._now)
            self.at(self._now + self._house.seconds, lambda: self._end_housekeeping(job.id))
        else:
            give_back(self._nodes, record.allocation)
        record.allocation = {}
        job.update(
            state=int(JobState.INACTIVE),
            t_inactive=self._now,
            result=result,
            success=result == COMPLETED,
        )
        self._touched.add(job.id)
        self._release()

    def _end_housekeeping(self, jobid: int) -> None:
        give_back(self._nodes, self._house.end(jobid))
        self._changed = True


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


def _dependencies(job: Job) -> list[Mapping[str, Any]]:
    """Return what a job depends on (RFC 26); what is malformed is nothing."""
    found = job.attributes.get("dependencies")
    return [d for d in found if isinstance(d, dict)] if isinstance(found, list) else []


def _priority(urgency: int) -> int:
    """Return the priority that Flux derives from an urgency (RFC 30)."""
    return PRIORITY_MAX if urgency == URGENCY_EXPEDITE else urgency


def _limit(job: Job) -> float:
    """Return how long the scheduler must expect a job to run."""
    return job.duration or math.inf


def _outcome(job: Job) -> tuple[float, int]:
    """Return how long a job runs once it has started, and how it ends."""
    try:
        seconds = parse_duration(str(job.attributes["exec"]["test"]["run_duration"]))
    except (KeyError, TypeError, FormatError):
        seconds = Duration(job.duration or DEFAULT_RUN_SECONDS)
    return (seconds, COMPLETED) if seconds <= _limit(job) else (job.duration, TIMEOUT)
