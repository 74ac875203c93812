"""The interface of an instance: everything a client needs from it."""

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
    """Changes in the queue since the last call.

    Attributes:
        jobs: Pending jobs that are new or changed, in queue order.
        gone: Ids of jobs reported earlier that are no longer pending.
        complete: ``jobs`` are all pending jobs, and earlier reports are void.
    """

    jobs: Sequence[Job]
    gone: Collection[int]
    complete: bool


NODE_FAILURE = "node failure"
"""How Flux's note begins if a job failed because a node was lost (its module job-exec)."""


@dataclass(frozen=True)
class Run:
    """The nodes of the instance that one job has, or had.

    Attributes:
        job: The job's id.
        user: The numeric id of its user.
        started: When it got them, in seconds since the epoch.
        ended: When it released them; None while it has them, including its cleanup.
        hostnames: The hosts it runs or ran on.
        cores: How many cores it has, over all hosts.
        node_failure: The instance's note if the job failed because a node was lost; else empty.
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

    Every method may be called from any thread. If an instance goes away, the same object works
    again as soon as the instance answers.
    """

    @property
    def name(self) -> str:
        """Distinguishes this instance from others, for people and in the names of bursts."""
        ...

    @property
    def lock_file(self) -> Path | None:
        """Path for an advisory lock, so that only one client at a time holds this instance.

        None if this host has no such path.
        """
        ...

    def now(self) -> float:
        """Return the time of this instance's clock, in seconds since the epoch."""
        ...

    def monotonic(self) -> float:
        """Return the time of a monotonic clock, in seconds."""
        ...

    def pending_jobs(self) -> Sequence[Job]:
        """Return the pending jobs of all users with their jobspecs, in queue order."""
        ...

    def pending_changes(self) -> Changes:
        """Return the changes among the pending jobs of all users since the last call.

        A job counts as changed if its value in :meth:`pending_jobs` changes. The first answer is
        complete, as is the first after the instance went away and came back. The cost depends on
        the number of changes, not on the length of the queue.
        """
        ...

    def runs(self, jobids: Collection[int]) -> Sequence[Run]:
        """Return the nodes of those of the jobs that have started; unknown ids are left out."""
        ...

    def exception_of(self, jobid: int) -> str:
        """Return what ended a job prematurely, for people; empty for nothing.

        That is the type and the note of its last exception (RFC 21). Empty for a job that is
        unknown or has not ended.
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
            to_act: Also check that it is the owner's process: root has the rights without being it.

        Raises:
            NotOwnerError: if it does not, or is not.
        """
        ...

    def users(self) -> Users:
        """Return the users whose jobs it accepts and runs, in its current configuration."""
        ...

    def scheduler(self) -> Scheduler:
        """Return its current rules for starting jobs."""
        ...

    def queues(self) -> Mapping[str, Queue]:
        """Return every queue by name; without named queues, one with an empty name."""
        ...

    def set_marks(self, marks: Mapping[int, Mark | None]) -> Collection[int]:
        """Put persistent memos on jobs, or remove them (None).

        Returns the ids of jobs that are no longer active, and therefore got none.
        """
        ...

    def attribute(self, name: str) -> str:
        """Return a broker attribute (flux-broker-attributes(7)) of the instance; empty if unset."""
        ...

    def jobs_on(self, ranks: Collection[int]) -> list[int]:
        """Return the ids of the jobs that occupy these nodes: running or cleaning up."""
        ...

    def housekeeping(self) -> Sequence[Housekeeping]:
        """Return the housekeeping that runs on nodes after jobs have ended."""
        ...

    def cancel_jobs(self, jobids: Collection[int], note: str) -> None:
        """Cancel jobs; jobs that are unknown or have ended are left alone."""
        ...

    def end_jobs(self, notes: Mapping[int, str]) -> None:
        """End pending jobs that ran elsewhere, each with a note about its end there.

        Flux cannot complete a job that did not run here: it ends with a fatal exception of type
        ``burst`` (RFC 21). Jobs that are unknown or have ended are left alone.
        """
        ...

    def set_urgencies(self, urgencies: Mapping[int, int]) -> Collection[int]:
        """Set the urgency of pending jobs; 0 holds a job: it does not start.

        Returns the ids of jobs with resources and of jobs that have ended: their urgency is fixed.
        """
        ...

    def jobspec(self, jobid: int) -> Mapping[str, Any]:
        """Return the current jobspec of a job, with its environment (RFC 14, RFC 25)."""
        ...

    def move_jobs(self, jobids: Collection[int], queue: str) -> Mapping[int, str]:
        """Move pending jobs to a queue; return those that could not be moved, with the reason."""
        ...

    def drain(self, ranks: Collection[int], reason: str) -> None:
        """Drain nodes: no new job starts on them. Nodes already drained keep their reason."""
        ...

    def undrain(self, ranks: Collection[int]) -> None:
        """Undrain nodes, up or down; others are left alone."""
        ...

    def disconnect(self, ranks: Collection[int]) -> None:
        """Take nodes offline: jobs that run on them fail. Nodes already down are left alone."""
        ...

    def wait_for_jobs(self, jobids: Collection[int], states: JobState) -> None:
        """Return once each job has reached one of the states or has ended; unknown ids count."""
        ...

    def wait(self, seconds: float) -> None:
        """Let time pass: up to ``seconds``, less if something happens in the instance.

        That is: a job was submitted, changed or ended; a node went up or down, or was drained; the
        instance went away or came back; or :meth:`wake` was called. Waits also during an outage.
        """
        ...

    def wake(self) -> None:
        """End the :meth:`wait` under way, or the next; from any thread or signal handler."""
        ...

    def close(self) -> None:
        """Close every connection; later requests open new ones."""
        ...
