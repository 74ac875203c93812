"""The outcome of select, order and schedule, as plain data. Making one changes nothing."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from fluxburst.errors import FluxburstError
from fluxburst.model.burst import Burst
from fluxburst.model.job import Job


class Outcome(str, enum.Enum):
    """What a plan decides on one job."""

    ASSIGNED = "assigned"
    """Selected, and a plugin takes it."""

    UNMATCHED = "unmatched"
    """Selected, but no plugin takes it, or none has room for it."""

    ALREADY_ASSIGNED = "given"
    """Assigned to a plugin earlier: it is not assigned again."""

    GIVEN = "given"  # noqa: PIE796 - an alias
    """The former name of ``ALREADY_ASSIGNED``."""

    NOT_SELECTED = "not selected"
    """No candidate for bursting."""

    NOT_STARTABLE = "not startable"
    """It waits for something else than capacity: it is held, or depends on another job."""

    FAILED = "failed"
    """Deciding on it failed; ``reasons`` say where."""


@dataclass(frozen=True, slots=True)
class Decision:
    """What a plan decides on one job, and why.

    Attributes:
        id: The job's id.
        outcome: What is decided.
        plugin: The plugin that takes it, or took it earlier; empty for none.
        reasons: Why, step by step.
        error: What failed, for ``Outcome.FAILED``.
    """

    id: int
    outcome: Outcome
    plugin: str = ""
    reasons: tuple[str, ...] = ()
    error: FluxburstError | None = field(default=None, compare=False)


@dataclass(frozen=True)
class Plan:
    """What one pass would do.

    Attributes:
        decisions: One for each pending job, in queue order.
        bursts: What would be brought up.
        assignments: For each loaded plugin, the jobs it takes.
        jobs: The selected jobs, by id.
        errors: What failed that is not of one job: plugins that could not be asked.
        shares_burst: For each job that fits on nodes of a burst that is coming, that burst's name.
    """

    decisions: tuple[Decision, ...]
    bursts: tuple[Burst, ...]
    assignments: Mapping[str, tuple[int, ...]]
    jobs: Mapping[int, Job] = field(compare=False, repr=False)
    errors: tuple[FluxburstError, ...] = field(default=(), compare=False)
    shares_burst: Mapping[int, str] = field(default_factory=dict)

    @property
    def selected(self) -> tuple[int, ...]:
        """The ids of the selected jobs; each is either assigned or unmatched."""
        return tuple(self.jobs)

    @property
    def unmatched(self) -> tuple[int, ...]:
        """The ids of the selected jobs that no plugin takes."""
        return tuple(d.id for d in self.decisions if d.id in self.jobs and not d.plugin)

    @property
    def not_startable(self) -> dict[str, tuple[int, ...]]:
        """The ids of the jobs that more nodes would not let start, by why."""
        jobs: dict[str, list[int]] = {}
        for decision in self.decisions:
            if decision.outcome is Outcome.NOT_STARTABLE:
                jobs.setdefault("; ".join(decision.reasons), []).append(decision.id)
        return {why: tuple(ids) for why, ids in jobs.items()}

    @property
    def failures(self) -> tuple[FluxburstError, ...]:
        """Everything that failed while the plan was made, job by job and plugin by plugin."""
        return (*self.errors, *(d.error for d in self.decisions if d.error is not None))

    def to_dict(self) -> dict[str, Any]:
        """Return the plan as plain data for JSON, in the schema that the user guide documents."""
        return {
            "selected": list(self.selected),
            "assignments": {plugin: list(jobs) for plugin, jobs in self.assignments.items()},
            "unmatched": list(self.unmatched),
            "decisions": [
                {
                    "id": decision.id,
                    "outcome": decision.outcome.value,
                    "plugin": decision.plugin or None,
                    "reasons": list(decision.reasons),
                }
                for decision in self.decisions
            ],
            "bursts": [
                {
                    "plugin": burst.plugin,
                    "node_type": burst.node_type,
                    "nodes": burst.nodes,
                    "jobs": list(burst.jobs),
                }
                for burst in self.bursts
            ],
        }


def still_valid(plan: Plan, pending: Mapping[int, Job]) -> Plan:
    """Return the plan without the jobs that no longer wait for capacity, or were given away.

    A burst that was for such jobs alone is left out, too.
    """
    assigned = {jobid for jobs in plan.assignments.values() for jobid in jobs}
    # A job that was marked before, and is planned anew, waits with its mark on.
    gone = {
        jobid
        for jobid in assigned
        if plan.jobs[jobid].mark is None and not _waits(pending.get(jobid))
    }
    if not gone:
        return plan
    return replace(
        plan,
        assignments={
            name: tuple(job for job in jobs if job not in gone)
            for name, jobs in plan.assignments.items()
        },
        bursts=tuple(burst for burst in plan.bursts if not gone.issuperset(burst.jobs)),
    )


def _waits(job: Job | None) -> bool:
    return job is not None and job.mark is None and not job.not_startable
