"""Dependencies of the embedded instance's jobs (RFC 26), and whether they are met."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fluxburst.errors import FormatError
from fluxburst.formats.fluid import parse_fluid
from fluxburst.model.job import Job, JobState
from fluxburst.simulation.tables import COMPLETED, Record


def begin_times(job: Job) -> list[float]:
    """Return the times that a job waits for, in seconds since the epoch."""
    return [float(d["value"]) for d in _dependencies(job) if d.get("scheme") == "begin-time"]


def dependencies_met(job: Job, records: Mapping[int, Record], now: float) -> bool | None:
    """Whether all dependencies of a job are met; None if they never can be.

    Args:
        job: The job.
        records: All jobs of the instance, by id.
        now: Current time, in seconds since the epoch.
    """
    answers = [_met(dependency, records, now) for dependency in _dependencies(job)]
    return None if None in answers else all(answers)


def _met(dependency: Mapping[str, Any], records: Mapping[int, Record], now: float) -> bool | None:
    scheme, value = dependency.get("scheme"), str(dependency.get("value", ""))
    if scheme == "begin-time":
        return now >= float(value)
    try:
        other = records.get(parse_fluid(value))
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


def _dependencies(job: Job) -> list[Mapping[str, Any]]:
    """Return the dependencies of a job; malformed ones are ignored."""
    found = job.attributes.get("dependencies")
    return [d for d in found if isinstance(d, dict)] if isinstance(found, list) else []
