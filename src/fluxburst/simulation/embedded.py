"""An instance in memory: nodes, a queue, a scheduler and a virtual clock, without Flux.

Time advances only on request (:meth:`EmbeddedInstance.wait`, :meth:`EmbeddedInstance.advance`),
and nothing starts or ends while it stands still.
"""

from __future__ import annotations

import functools
import math
import threading
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

from fluxburst.errors import InstanceError
from fluxburst.flux.protocol import Changes, Run
from fluxburst.formats.units import counted
from fluxburst.model.housekeeping import Housekeeping
from fluxburst.model.identity import Users, only_this_user
from fluxburst.model.job import (
    ACTIVE,
    PENDING,
    URGENCY_DEFAULT,
    Job,
    JobState,
    Mark,
    exception_text,
)
from fluxburst.model.node import Node, NodeType
from fluxburst.model.queues import Queue
from fluxburst.model.scheduler import Scheduler
from fluxburst.simulation.clock import Clock
from fluxburst.simulation.housekeeping import House
from fluxburst.simulation.placing import Share
from fluxburst.simulation.recordings import Recording
from fluxburst.simulation.scheduling import Scheduling
from fluxburst.simulation.tables import (
    CANCELED,
    COMPLETED,
    FAILED,
    TIMEOUT,
    JobTable,
    NodeTable,
    QueueTable,
)

__all__ = [
    "CANCELED",
    "COMPLETED",
    "EMBEDDED",
    "FAILED",
    "NAME",
    "OWNER",
    "START_TIME",
    "TIMEOUT",
    "EmbeddedInstance",
]

NAME = "embedded"
START_TIME = 1_700_000_000.0
OWNER = 1000
"""The numeric id of the instance's owner: other users are guests."""

EMBEDDED = Scheduler("embedded")
"""Rules for an instance in memory: nodes by rank, and EASY backfill."""

P = ParamSpec("P")
T = TypeVar("T")


def _locked(
    method: Callable[Concatenate[EmbeddedInstance, P], T],
) -> Callable[Concatenate[EmbeddedInstance, P], T]:
    """Allow only one thread at a time into an instance's methods."""

    @functools.wraps(method)
    def locked(self: EmbeddedInstance, /, *arguments: P.args, **options: P.kwargs) -> T:
        with self._lock:
            return method(self, *arguments, **options)

    return locked


class EmbeddedInstance:
    """A Flux instance in memory.

    Args:
        recording: The initial queue and nodes; by default none.
        queues: For each named queue, the properties required of its jobs' nodes; empty for an
            instance without named queues.
        name: Its name.
        start: The earliest initial time, in seconds since the epoch.
        housekeeping: How many seconds nodes stay occupied after each job.
        pace: How many real seconds :meth:`wait` takes for each virtual one, for an audience.
        scheduler: The rules for starting jobs.
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
        self._jobs = JobTable(recording.jobs, self._queues)
        self._nodes = NodeTable(recording.nodes)
        submitted = [float(job.get("t_submit", start)) for job in recording.jobs]
        self._clock = Clock(max([start, *submitted]))
        self._scheduling = Scheduling(
            self._jobs, self._nodes, self._queues, scheduler, self._house, self._clock
        )
        self._lock = threading.RLock()
        self._woken = False

    # --- the interface of a client (see flux.protocol) -------------------------------------

    @property
    def name(self) -> str:
        """Distinguishes this instance from others."""
        return self._name

    @property
    def lock_file(self) -> Path | None:
        """None: no other process can hold the instance."""
        return None

    @_locked
    def now(self) -> float:
        """Return the virtual time, in seconds since the epoch."""
        return self._clock.now

    @_locked
    def monotonic(self) -> float:
        """Return the virtual time, which is monotonic."""
        return self._clock.now

    @_locked
    def pending_jobs(self) -> Sequence[Job]:
        """Return copies of the pending jobs, in queue order."""
        return self._jobs.pending()

    @_locked
    def pending_changes(self) -> Changes:
        """Return copies of the pending jobs that changed since the last call."""
        return self._jobs.changes()

    @_locked
    def runs(self, jobids: Collection[int]) -> Sequence[Run]:
        """Return the nodes of those of the jobs that have started; unknown ids are left out."""
        return self._jobs.runs(jobids)

    @_locked
    def exception_of(self, jobid: int) -> str:
        """Return the type and the note of the exception that ended a job; empty for none."""
        record = self._jobs.records.get(jobid)
        return "" if record is None else exception_text(record.job)

    @_locked
    def job_ids(self, states: JobState = ACTIVE) -> list[int]:
        """Return the ids of the jobs in one of the states."""
        return self._jobs.ids(states)

    @_locked
    def nodes(self) -> tuple[Node, ...]:
        """Return every node, by rank."""
        return self._nodes.all()

    def check_owner(self, *, to_act: bool = False) -> None:
        """Do nothing: the creator owns it."""

    def scheduler(self) -> Scheduler:
        """Return the rules it was created with."""
        return self._scheduler

    def users(self) -> Users:
        """Return the users whose jobs it accepts and runs: by default all."""
        return self._users

    @_locked
    def queues(self) -> Mapping[str, Queue]:
        """Return every queue by name."""
        return self._queues.all()

    @_locked
    def set_marks(self, marks: Mapping[int, Mark | None]) -> Collection[int]:
        """Put memos on jobs, or remove them; return the ids of jobs that are not active."""
        inactive = []
        for jobid, mark in marks.items():
            record = self._jobs.records.get(jobid)
            if record is None or not record.job.state & ACTIVE:
                inactive.append(jobid)
            else:
                self.set_memo(jobid, "fluxburst", mark and mark.to_memo())
        return inactive

    @_locked
    def attribute(self, name: str) -> str:
        """Return a broker attribute: without a broker, only the owner is known."""
        return str(OWNER) if name == "security.owner" else ""

    @_locked
    def jobs_on(self, ranks: Collection[int]) -> list[int]:
        """Return the ids of the jobs that occupy these nodes."""
        chosen = set(ranks)
        return [r.job.id for r in self._jobs.records.values() if chosen.intersection(r.allocation)]

    @_locked
    def housekeeping(self) -> Sequence[Housekeeping]:
        """Return the housekeeping that runs on nodes after jobs have ended."""
        return self._house.all()

    @_locked
    def cancel_jobs(self, jobids: Collection[int], note: str) -> None:
        """Cancel jobs; jobs that are unknown or have ended are left alone."""
        for jobid in jobids:
            record = self._jobs.records.get(jobid)
            if record is not None:
                record.add_exception("cancel", note)
                self._scheduling.end(record, CANCELED)

    @_locked
    def end_jobs(self, notes: Mapping[int, str]) -> None:
        """End pending jobs that ran elsewhere; running ones and others are left alone."""
        for jobid, note in notes.items():
            record = self._jobs.records.get(jobid)
            if record is not None and record.job.state & PENDING:
                record.add_exception("burst", note)
                self._scheduling.end(record, FAILED)

    @_locked
    def set_urgencies(self, urgencies: Mapping[int, int]) -> Collection[int]:
        """Change the urgency of pending jobs; return those that are not pending."""
        refused = [i for i, urgency in urgencies.items() if not self._jobs.set_urgency(i, urgency)]
        if len(refused) < len(urgencies):
            self._scheduling.changed = True
        return refused

    def jobspec(self, jobid: int) -> Mapping[str, Any]:
        """Return the jobspec of a job.

        Raises:
            InstanceError: if the job is unknown.
        """
        return self.job(jobid).spec

    @_locked
    def move_jobs(self, jobids: Collection[int], queue: str) -> Mapping[int, str]:
        """Move pending jobs to a queue; return those that could not be moved, with the reason."""
        refused = self._jobs.move(jobids, queue)
        self._scheduling.changed = True
        return refused

    @_locked
    def drain(self, ranks: Collection[int], reason: str) -> None:
        """Drain nodes; nodes already drained keep their reason."""
        self._nodes.drain(ranks, reason, self._clock.now)

    @_locked
    def undrain(self, ranks: Collection[int]) -> None:
        """Undrain nodes."""
        self._nodes.undrain(ranks)
        self._scheduling.changed = True

    @_locked
    def disconnect(self, ranks: Collection[int]) -> None:
        """Take nodes offline: jobs that run on them fail."""
        self.remove_nodes(self._nodes.hostnames(ranks))

    @_locked
    def wait_for_jobs(self, jobids: Collection[int], states: JobState) -> None:
        """Let time pass until each job has reached one of the states or has ended.

        Raises:
            InstanceError: if no event is left before that.
        """
        wanted = states | JobState.INACTIVE
        known = [jobid for jobid in jobids if jobid in self._jobs.records]

        def waiting() -> list[int]:
            return [jobid for jobid in known if not self._jobs.records[jobid].job.state & wanted]

        while waiting():
            self._schedule()
            left = waiting()
            if left and not self._step(math.inf):
                raise InstanceError(
                    f"{counted(len(left), 'job')}, the first being {left[0]}, will never get "
                    "there: nothing is left to happen in the embedded instance"
                )

    def wait(self, seconds: float) -> None:
        """Advance to the next event, by at most ``seconds``; return at once after a wake."""
        if self._woken:
            self._woken = False
            return
        with self._lock:
            before = self._clock.now
            self._step(before + seconds)
            passed = self._clock.now - before
        time.sleep(passed * self._pace)

    def wake(self) -> None:
        """Make the next :meth:`wait` return at once; from any thread or signal handler."""
        self._woken = True  # without the lock: a signal handler could deadlock on it

    @_locked
    def close(self) -> None:
        """Forget earlier reports; the instance itself goes on."""
        self._jobs.forget_told()

    # --- controlling the instance ----------------------------------------------------------

    @_locked
    def submit(
        self, spec: Mapping[str, Any], *, userid: int = OWNER, urgency: int = URGENCY_DEFAULT
    ) -> int:
        """Submit a job; return its id.

        Raises:
            RequestError: if the jobspec is unusable, or its queue does not accept it.
        """
        job = self._jobs.add(spec, userid, urgency, self._clock.now)
        self._scheduling.submitted(job)
        return job.id

    @_locked
    def set_queue(self, queue: str, /, **changes: Any) -> None:
        """Stop, start, disable or enable a queue.

        The changes are fields of :class:`~fluxburst.model.queues.Queue`.
        """
        self._queues.change(queue, **changes)
        self._scheduling.changed = True

    @_locked
    def job(self, jobid: int) -> Job:
        """Return a job in any state, including an ended one.

        Raises:
            InstanceError: if the job is unknown.
        """
        return self._jobs.job(jobid)

    @_locked
    def set_memo(self, jobid: int, key: str, value: Any) -> None:
        """Set one entry of a job's memo, as ``flux job memo`` does; None removes it."""
        self._jobs.set_memo(jobid, key, value)

    @_locked
    def add_nodes(
        self, hostnames: Iterable[str], node_type: NodeType, properties: Collection[str] = ()
    ) -> None:
        """Bring nodes up: known hostnames under their ranks, others under new ranks."""
        self._nodes.add(hostnames, node_type, properties)
        self._scheduling.changed = True

    @_locked
    def remove_nodes(self, hostnames: Collection[str]) -> None:
        """Take nodes offline; jobs that run on them fail, as when a broker is lost."""
        lost = self._nodes.ranks_of(hostnames)
        self._scheduling.fail_jobs_on(lost)
        self._house.lose(lost)
        self._nodes.mark_down(lost)

    @_locked
    def at(self, when: float, what: Callable[[], None]) -> None:
        """Schedule an action for a time, in seconds since the epoch."""
        self._clock.at(when, what)

    @_locked
    def advance(self, seconds: float) -> None:
        """Let ``seconds`` pass, with all events in them."""
        until = self._clock.now + seconds
        while self._step(until):
            pass
        self._clock.now = until

    # --- time ------------------------------------------------------------------------------

    def _step(self, until: float) -> bool:
        """Advance to the next event before ``until``; if there is none, it is then: False."""
        self._schedule()
        happen = self._clock.pass_to_next(until)
        if happen is None:
            return False
        happen()
        self._schedule()
        return True

    def _schedule(self) -> None:
        self._scheduling.schedule()
