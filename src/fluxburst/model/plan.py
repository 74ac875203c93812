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
    """A plan's decision on one job."""

    ASSIGNED = "assigned"
    """Selected, and a plugin takes it."""

    UNMATCHED = "unmatched"
    """Selected, but no plugin takes it, or none has room for it."""

    ALREADY_ASSIGNED = "given"
    """Assigned to a plugin earlier: it is not assigned again."""

    GIVEN = "given"  # noqa: PIE796 - an alias
    """The former name of ``ALREADY_ASSIGNED``."""

    NOT_SELECTED = "not selected"
    """Not a candidate for bursting."""

    NOT_STARTABLE = "not startable"
    """It waits for something other than capacity: it is held, or depends on another job."""

    FAILED = "failed"
    """The decision failed; ``reasons`` say where."""


@dataclass(frozen=True, slots=True)
class Decision:
    """A plan's decision on one job, with reasons.

    Attributes:
        id: The job's id.
        outcome: The decision.
        plugin: The plugin that takes it, or took it earlier; empty for none.
        reasons: The reasons, step by step.
        error: The error, for ``Outcome.FAILED``.
    """

    id: int
    outcome: Outcome
    plugin: str = ""
    reasons: tuple[str, ...] = ()
    error: FluxburstError | None = field(default=None, compare=False)


@dataclass(frozen=True)
class Plan:
    """The decisions of one pass, before they are applied.

    Attributes:
        decisions: One for each pending job, in queue order.
        bursts: The bursts to provision.
        assignments: For each loaded plugin, the jobs it takes.
        jobs: The selected jobs, by id.
        errors: Failures not related to a single job: plugins that could not be asked.
        shares_burst: For each job that fits on a burst being provisioned, that burst's name.
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
        """The ids of the jobs that more nodes would not help to start, by reason."""
        jobs: dict[str, list[int]] = {}
        for decision in self.decisions:
            if decision.outcome is Outcome.NOT_STARTABLE:
                jobs.setdefault("; ".join(decision.reasons), []).append(decision.id)
        return {why: tuple(ids) for why, ids in jobs.items()}

    @property
    def failures(self) -> tuple[FluxburstError, ...]:
        """All failures of planning, job by job and plugin by plugin."""
        return (*self.errors, *(d.error for d in self.decisions if d.error is not None))

    def to_dict(self) -> dict[str, Any]:
        """Return the plan as plain data for JSON, in the schema of the user guide."""
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
    """Return the plan without jobs that no longer wait for capacity, or are assigned by now.

    Bursts for such jobs alone are left out, too.
    """
    assigned = {jobid for jobs in plan.assignments.values() for jobid in jobs}
    # A marked job that is planned again waits with its mark.
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
