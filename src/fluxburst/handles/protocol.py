"""What a client needs of an instance, and nothing more."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Protocol

from fluxburst.jobs import Job, JobState, Mark
from fluxburst.nodes import Node


class Instance(Protocol):
    """A Flux instance. Every method may raise :class:`fluxburst.errors.InstanceError`."""

    @property
    def name(self) -> str:
        """What tells this instance from others, for a person and for the names of bursts."""
        ...

    def now(self) -> float:
        """Return the time of this instance's clock, in seconds since the epoch."""
        ...

    def pending_jobs(self) -> Sequence[Job]:
        """Return the pending jobs of all users with their jobspecs, in queue order."""
        ...

    def job_ids(self) -> list[int]:
        """Return the ids of all active jobs: pending, running and cleaning up."""
        ...

    def nodes(self) -> tuple[Node, ...]:
        """Return every node the instance knows, up or down, by rank."""
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

    def cancel_jobs(self, jobids: Collection[int], note: str) -> None:
        """Cancel jobs; those that have ended, or are not known, are left as they are."""
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
        """Let time pass: at most ``seconds``, less if something happened in the instance."""
        ...
