"""What a client needs of an instance, and nothing more."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from fluxburst.model.housekeeping import Housekeeping
from fluxburst.model.identity import Users
from fluxburst.model.job import ACTIVE, Job, JobState, Mark
from fluxburst.model.node import Node
from fluxburst.model.queues import Queue
from fluxburst.model.scheduler import Scheduler


@dataclass(frozen=True)
class Changes:
    """What changed in the queue since this was last asked.

    Attributes:
        jobs: Pending jobs that are new or changed, in queue order.
        gone: The ids of jobs that were told of earlier and are pending no longer.
        complete: ``jobs`` are all pending jobs, and what was told of earlier no longer counts.
    """

    jobs: Sequence[Job]
    gone: Collection[int]
    complete: bool


NODE_FAILURE = "node failure"
"""What Flux's note begins with on a job that failed as a node was lost (its module job-exec)."""


@dataclass(frozen=True)
class Run:
    """What one job has, or had, of the instance's nodes.

    Attributes:
        job: The job's id.
        user: The numeric id of its user.
        started: Since when it has had them, in seconds since the epoch.
        ended: When it was done with them; None while it has them, also while it cleans up.
        hostnames: The hosts it runs or ran on.
        cores: How many cores it has, over all hosts.
        node_failure: What the instance says of it, if it failed as a node was lost; else empty.
    """

    job: int
    user: int
    started: float
    ended: float | None
    hostnames: tuple[str, ...]
    cores: int
    node_failure: str = ""


class Instance(Protocol):
    """A Flux instance. Every method may raise :class:`fluxburst.errors.InstanceError`.

    Every method may be called from any thread. An instance that went away is used again, by the
    same object, as soon as it answers.
    """

    @property
    def name(self) -> str:
        """What tells this instance from others, for a person and for the names of bursts."""
        ...

    @property
    def lock_file(self) -> Path | None:
        """Where to take an advisory lock, so that one client at a time holds this instance.

        None where there is no such place on this host.
        """
        ...

    def now(self) -> float:
        """Return the time of this instance's clock, in seconds since the epoch."""
        ...

    def monotonic(self) -> float:
        """Return the time of a clock that only goes forward and that nobody sets, in seconds."""
        ...

    def pending_jobs(self) -> Sequence[Job]:
        """Return the pending jobs of all users with their jobspecs, in queue order."""
        ...

    def pending_changes(self) -> Changes:
        """Return what changed among the pending jobs of all users since this was last asked.

        A job is changed by anything that changes what :meth:`pending_jobs` says of it. The first
        answer is complete, as is the first after the instance went away and came back. It costs
        what the changes cost, however long the queue is.
        """
        ...

    def runs(self, jobids: Collection[int]) -> Sequence[Run]:
        """Return what those of the jobs that have started had; unknown ids are left out."""
        ...

    def exception_of(self, jobid: int) -> str:
        """Return what ended a job other than its own end, for a person; empty for nothing.

        That is the type and the note of its last exception (RFC 21). Of a job that has not ended,
        or is not known, it is empty.
        """
        ...

    def job_ids(self, states: JobState = ACTIVE) -> list[int]:
        """Return the ids of the jobs in one of the states: pending, running and cleaning up."""
        ...

    def nodes(self) -> tuple[Node, ...]:
        """Return every node the instance knows, up or down, by rank."""
        ...

    def check_owner(self, *, to_act: bool = False) -> None:
        """Check that this process has the rights of the instance's owner.

        Args:
            to_act: Check that it is the owner's: root may have the rights, and is not the owner.

        Raises:
            NotOwnerError: if it has not, or is not.
        """
        ...

    def users(self) -> Users:
        """Return whose jobs it takes and runs, as it is configured now."""
        ...

    def scheduler(self) -> Scheduler:
        """Return the rules by which it starts jobs, as they are now."""
        ...

    def queues(self) -> Mapping[str, Queue]:
        """Return every queue by name; one whose name is empty where there are no named ones."""
        ...

    def set_marks(self, marks: Mapping[int, Mark | None]) -> Collection[int]:
        """Make marks last on jobs, or take them off (None).

        Returns the ids of jobs that are no longer active, and therefore could not be marked.
        """
        ...

    def attribute(self, name: str) -> str:
        """Return a broker attribute (flux-broker-attributes(7)) of the instance, empty for none."""
        ...

    def jobs_on(self, ranks: Collection[int]) -> list[int]:
        """Return the ids of the jobs that have something of these nodes: running or cleaning up."""
        ...

    def housekeeping(self) -> Sequence[Housekeeping]:
        """Return what runs on nodes after jobs have ended there."""
        ...

    def cancel_jobs(self, jobids: Collection[int], note: str) -> None:
        """Cancel jobs; those that have ended, or are not known, are left as they are."""
        ...

    def end_jobs(self, notes: Mapping[int, str]) -> None:
        """End pending jobs that ran elsewhere, each with a note that says how that went.

        Flux cannot complete a job that has not run here: it ends with a fatal exception of type
        ``burst`` (RFC 21). Those that have ended, or are not known, are left as they are.
        """
        ...

    def set_urgencies(self, urgencies: Mapping[int, int]) -> Collection[int]:
        """Set the urgency of pending jobs; one that is set to 0 is held: it does not start.

        Returns the ids of jobs that could not be set, as they have resources or have ended.
        """
        ...

    def jobspec(self, jobid: int) -> Mapping[str, Any]:
        """Return the jobspec of a job as it is now, with its environment (RFC 14, RFC 25)."""
        ...

    def move_jobs(self, jobids: Collection[int], queue: str) -> Mapping[int, str]:
        """Move pending jobs to a queue; return those that could not be moved, with the reason."""
        ...

    def drain(self, ranks: Collection[int], reason: str) -> None:
        """Set nodes aside: no job is started on them. Those that are drained keep their reason."""
        ...

    def undrain(self, ranks: Collection[int]) -> None:
        """Take nodes back, up or down; those that are not drained stay as they are."""
        ...

    def disconnect(self, ranks: Collection[int]) -> None:
        """Take nodes down: jobs that run on them fail. Those that are down stay as they are."""
        ...

    def wait_for_jobs(self, jobids: Collection[int], states: JobState) -> None:
        """Return once each job has reached one of the states, or has ended; unknown ids have."""
        ...

    def wait(self, seconds: float) -> None:
        """Let time pass: at most ``seconds``, less if something happened in the instance.

        That is: a job was submitted, changed or ended, a node went up, down or aside, the instance
        went away or came back, or :meth:`wake` was called. While it is away, this waits, too.
        """
        ...

    def wake(self) -> None:
        """End the :meth:`wait` under way, or the next; from any thread or signal handler."""
        ...

    def close(self) -> None:
        """Let go of every connection; what is asked after that makes new ones."""
        ...
