"""Recorded queues: a real instance's queue and nodes at one moment, in one file.

A recording is JSON Lines: an object with ``resources`` (the answers of ``resource.status`` and
``resource.sched-status``), and one object with ``job`` and ``jobspec`` for each pending job. The
resources may instead be in a separate file, ``resources.json``.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fluxburst.errors import FormatError, RecordingError
from fluxburst.flux.resources import nodes_from_status, status_from_nodes
from fluxburst.formats.fluid import LARGEST
from fluxburst.model.job import Job
from fluxburst.model.node import Node

RECORDED_ATTRIBUTES = (
    "bank",
    "burstable",
    "constraints",
    "cwd",
    "dependencies",
    "duration",
    "exec",
    "job",
    "project",
    "queue",
)
"""The system attributes that a recording keeps. All others may be confidential."""

NUMBERS = ("duration", "priority", "t_submit", "urgency", "userid")
"""The fields of a recorded job that must be numbers, if present."""

_DATA = Path(__file__).parent / "data"
BUNDLED = _DATA / "queue.jsonl"
"""300 pending jobs of a Flux 0.88.0 with one node up and sixteen down, for the demo."""

ONE_JOB = _DATA / "one-job.jsonl"
"""One node up, and one burstable job that needs four."""


@dataclass(frozen=True)
class Recording:
    """A recorded queue.

    Attributes:
        jobs: The pending jobs.
        nodes: The nodes; empty if not recorded.
    """

    jobs: tuple[Job, ...]
    nodes: tuple[Node, ...] = ()


def load(path: Path) -> Recording:
    """Load a recording.

    Raises:
        RecordingError: if it is unreadable, truncated, or not a recording.
    """
    jobs: list[Job] = []
    nodes: tuple[Node, ...] = ()
    recorded_nodes = False
    for number, line in enumerate(_read(path).split("\n"), start=1):
        if not line.strip():
            continue
        record = _parse(line, path, number)
        if "resources" in record:
            nodes, recorded_nodes = _nodes(record["resources"], path, number), True
        else:
            jobs.append(_job(record, path, number))
    if not jobs and not recorded_nodes:
        raise RecordingError(str(path), "holds no jobs; is it a recording?")
    beside = path.with_name("resources.json")
    if not recorded_nodes and beside.is_file():
        nodes = _nodes(_parse(_read(beside), beside, 0), beside, 0)
    ids = [job.id for job in jobs]
    if len(set(ids)) < len(ids):
        raise RecordingError(str(path), "has a duplicate job id")
    return Recording(tuple(jobs), nodes)


def save(path: Path, jobs: Sequence[Job], nodes: tuple[Node, ...]) -> None:
    """Write a recording, without environments, files, command arguments and memos.

    Raises:
        RecordingError: if the file is not writable.
    """
    lines = [json.dumps({"resources": status_from_nodes(nodes)})]
    lines += [json.dumps(_without_secrets(job), sort_keys=True) for job in jobs]
    try:
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    except OSError as error:
        raise RecordingError(str(path), f"cannot be written: {error.strerror}") from error


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise RecordingError(str(path), f"cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise RecordingError(str(path), "is not UTF-8 text; is it a recording?") from error


def _parse(text: str, path: Path, line: int) -> Mapping[str, Any]:
    try:
        record = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise RecordingError(
            str(path), f"is not JSON, or is truncated ({error})", line=line
        ) from error
    if not isinstance(record, dict):
        raise RecordingError(str(path), "is not a JSON object", line=line)
    return record


def _nodes(status: Any, path: Path, line: int) -> tuple[Node, ...]:
    try:
        return nodes_from_status(status["resource.status"], status["sched.resource-status"])
    except (FormatError, KeyError, TypeError) as error:
        raise RecordingError(str(path), f"its resources are invalid: {error}", line=line) from error


def _job(record: Mapping[str, Any], path: Path, line: int) -> Job:
    job = record.get("job")
    if not isinstance(job, dict) or type(job.get("id")) is not int:
        raise RecordingError(
            str(path), "has no 'job' with an integer 'id'; is it a recording?", line=line
        )
    if not 0 <= job["id"] <= LARGEST:
        raise RecordingError(str(path), f"{job['id']} is not a job id", line=line)
    if type(job.get("state")) is not int:
        raise RecordingError(str(path), f"job {job['id']} has no integer 'state'", line=line)
    for key in NUMBERS:
        value = job.get(key, 0)
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if not number or not math.isfinite(value):
            raise RecordingError(str(path), f"job {job['id']}: {key!r} is not a number", line=line)
    return Job({**job, "spec": record.get("jobspec")})


def _without_secrets(job: Job) -> dict[str, Any]:
    record = {key: value for key, value in job.items() if key not in ("spec", "annotations")}
    spec = dict(job.spec)
    spec["attributes"] = {
        "system": {k: job.attributes[k] for k in RECORDED_ATTRIBUTES if k in job.attributes}
    }
    tasks = spec.get("tasks")
    spec["tasks"] = [
        _task_without_secrets(task) for task in (tasks if isinstance(tasks, list) else ())
    ]
    return {"job": record, "jobspec": spec}


def _task_without_secrets(task: object) -> dict[str, Any]:
    """Keep a task's program and count."""
    if not isinstance(task, dict):
        return {}
    kept = {key: task[key] for key in ("slot", "count") if key in task}
    command = task.get("command")
    return {**kept, "command": command[:1] if isinstance(command, list) else []}
