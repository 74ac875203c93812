"""Derives the pending jobs, as ``job-list`` reports them, from the job manager's journal.

The journal (``job-manager.events-journal``) starts with the eventlogs of all active jobs, each with
its jobspec, then a sentinel, then each event as it happens. States follow the events as in
RFC 21 and in flux-core's ``job-list`` module.
"""

from __future__ import annotations

import copy
import functools
import json
import sys
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from fluxburst.flux.compact_job import CompactJob
from fluxburst.flux.protocol import Changes
from fluxburst.model.job import PENDING, Job, JobState, queue_order

TOPIC = "job-manager.events-journal"

END_OF_HISTORY = -1
"""The job id of the sentinel between history and live events."""

SERIES = 4
"""With how many jobspecs a new one is compared: users submit series of equal jobs."""


@dataclass(slots=True)
class _Tracked:
    """State of one job that has not started; kept small, as there may be many."""

    userid: int
    urgency: int
    t_submit: float
    text: str
    """Its jobspec with all updates, as JSON."""
    priority: int = 0
    state: JobState = JobState.NEW
    t_depend: float = 0.0
    t_priority: float = 0.0
    t_sched: float = 0.0
    annotations: dict[str, Any] | None = None
    dependencies: dict[str, bool] | None = None
    """For each dependency ever added, whether it is still pending."""
    told: bool = False
    job: Job | None = None
    """The last report of it, until something changes that."""


@dataclass
class Journal:
    """The pending jobs, updated from the journal's stream.

    Attributes:
        caught_up: The history has been read; live events follow.
        complete: The next changes are the first ones.
    """

    caught_up: bool = False
    complete: bool = True
    _jobs: dict[int, _Tracked] = field(default_factory=dict)
    _changed: set[int] = field(default_factory=set)
    _gone: set[int] = field(default_factory=set)
    _recent: deque[tuple[Any, str]] = field(default_factory=lambda: deque(maxlen=SERIES))

    def read(self, answer: Mapping[str, Any]) -> None:
        """Process one response of the stream."""
        jobid = answer["id"]
        if jobid == END_OF_HISTORY:
            self.caught_up = True
            return
        for event in answer["events"]:
            if event["name"] == "submit":
                self._jobs[jobid] = _submitted(event, self._text_of(answer["jobspec"]))
            elif jobid in self._jobs:
                self._happened(jobid, event)
        if not self.caught_up and jobid in self._jobs:
            self._as_told(jobid)  # while the instance sends the rest

    def changes(self) -> Changes:
        """Return the changes since the last call."""
        jobs = [self._told(jobid) for jobid in self._changed if self._jobs[jobid].state & PENDING]
        changes = Changes(sorted(jobs, key=queue_order), frozenset(self._gone), self.complete)
        self._changed.clear()
        self._gone.clear()
        self.complete = False
        return changes

    def _happened(self, jobid: int, event: Mapping[str, Any]) -> None:
        job, name = self._jobs[jobid], event["name"]
        if name in _LAST or (name == "exception" and event["context"]["severity"] == 0):
            del self._jobs[jobid]
            self._changed.discard(jobid)
            if job.told:
                self._gone.add(jobid)
            return
        effect = EFFECTS.get(name)
        if effect is not None:
            effect(job, event["timestamp"], event.get("context") or {})
            job.job = None
            self._changed.add(jobid)

    def _text_of(self, jobspec: Any) -> str:
        """Return a jobspec as JSON: the identical string throughout a series of jobs."""
        for known, text in self._recent:
            if known == jobspec:
                return text
        text = _text(jobspec)
        self._recent.append((jobspec, text))
        return text

    def _told(self, jobid: int) -> Job:
        job = self._as_told(jobid)
        self._jobs[jobid].told, self._jobs[jobid].job = True, None
        return job

    def _as_told(self, jobid: int) -> Job:
        tracked = self._jobs[jobid]
        if tracked.job is None:
            tracked.job = CompactJob(_record(jobid, tracked), tracked.text)
        return tracked.job


def apply_updates(spec: dict[str, Any], updates: Mapping[str, Any]) -> None:
    """Change a jobspec by the context of a ``jobspec-update`` event: values by path."""
    for path, value in updates.items():
        *parents, last = path.split(".")
        target = spec
        for parent in parents:
            target = target.setdefault(parent, {})
        target[last] = value


# --- events (RFC 21) -------------------------------------------------------------------------

_LAST = frozenset({"invalidate", "alloc", "clean"})
"""After these events, and after a fatal exception, a job is no longer pending."""


def _submitted(event: Mapping[str, Any], text: str) -> _Tracked:
    context = event["context"]
    return _Tracked(
        userid=context["userid"],
        urgency=context["urgency"],
        t_submit=event["timestamp"],
        text=text,
    )


def _validate(job: _Tracked, when: float, context: Mapping[str, Any]) -> None:
    job.state, job.t_depend = JobState.DEPEND, when


def _depend(job: _Tracked, when: float, context: Mapping[str, Any]) -> None:
    job.state, job.t_priority = JobState.PRIORITY, job.t_priority or when


def _priority(job: _Tracked, when: float, context: Mapping[str, Any]) -> None:
    job.priority = context["priority"]
    if job.state is JobState.PRIORITY:
        job.state, job.t_sched = JobState.SCHED, job.t_sched or when


def _back(job: _Tracked, when: float, context: Mapping[str, Any]) -> None:
    """Return to the state in which a job waits for a new priority."""
    if job.state is JobState.SCHED:
        job.state = JobState.PRIORITY


def _urgency(job: _Tracked, when: float, context: Mapping[str, Any]) -> None:
    job.urgency = context["urgency"]
    _back(job, when, context)


def _jobspec_update(job: _Tracked, when: float, context: Mapping[str, Any]) -> None:
    # The history's jobspec already has all updates; applied in order, they give it again.
    spec = json.loads(job.text)
    apply_updates(spec, context)
    job.text = _text(spec)
    _back(job, when, context)


def _memo(job: _Tracked, when: float, context: Mapping[str, Any]) -> None:
    job.annotations = _merged(job.annotations or {}, {"user": context}) or None


def _annotations(job: _Tracked, when: float, context: Mapping[str, Any]) -> None:
    job.annotations = context.get("annotations")


def _dependency_add(job: _Tracked, when: float, context: Mapping[str, Any]) -> None:
    # A dependency that was met once stays met, whatever follows.
    job.dependencies = {context["description"]: True, **(job.dependencies or {})}


def _dependency_remove(job: _Tracked, when: float, context: Mapping[str, Any]) -> None:
    if job.dependencies and context["description"] in job.dependencies:
        job.dependencies = {**job.dependencies, context["description"]: False}


EFFECTS: Mapping[str, Callable[[_Tracked, float, Mapping[str, Any]], None]] = {
    "validate": _validate,
    "depend": _depend,
    "priority": _priority,
    "urgency": _urgency,
    "flux-restart": _back,
    "jobspec-update": _jobspec_update,
    "memo": _memo,
    "annotations": _annotations,
    "dependency-add": _dependency_add,
    "dependency-remove": _dependency_remove,
}
"""For each event that changes a pending job, its effect."""

REQUEST = {"full": False, "allow": dict.fromkeys([*EFFECTS, *_LAST, "submit", "exception"], 1)}
"""The request for the stream: only active jobs, and the relevant events."""


def _merged(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``old`` updated with ``new``, level by level, without null and empty values."""
    merged = dict(old)
    for key, value in new.items():
        if isinstance(value, dict):
            before = merged.get(key)
            value = _merged(before if isinstance(before, dict) else {}, value)
        merged[key] = value
    return {key: value for key, value in merged.items() if value is not None and value != {}}


# --- records (RFC 43) ------------------------------------------------------------------------


def _text(jobspec: Mapping[str, Any]) -> str:
    return json.dumps(jobspec, separators=(",", ":"))


def _record(jobid: int, job: _Tracked) -> dict[str, Any]:
    """Return a job's record, as ``job-list`` does for ``attrs: ["all"]``."""
    record = {
        "id": jobid,
        "userid": job.userid,
        "urgency": job.urgency,
        "t_submit": job.t_submit,
        "t_depend": job.t_depend,
        "state": int(job.state),
        **_summary_of(job.text),
    }
    if job.state is JobState.SCHED:
        record["priority"] = job.priority
    if job.t_priority:
        record["t_priority"] = job.t_priority
    if job.t_sched:
        record["t_sched"] = job.t_sched
    if job.annotations:
        record["annotations"] = copy.deepcopy(job.annotations)
    if job.dependencies is not None:
        record["dependencies"] = [name for name, waits in job.dependencies.items() if waits]
    return record


@functools.lru_cache(maxsize=1024)
def _summary_of(text: str) -> Mapping[str, Any]:
    return summary(json.loads(text))


def summary(spec: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields that ``job-list`` derives from a jobspec: name, size, limits, queue, bank.

    As there, fields are left out that a jobspec lacks or that violate version 1 (RFC 25).
    """
    found: dict[str, Any] = {}
    try:
        system = spec["attributes"].get("system", {})
        found["name"] = sys.intern(_name(spec, system))
        found["duration"] = float(system["duration"])
        for key in ("cwd", "queue", "project", "bank"):
            if key in system:
                found[key] = sys.intern(system[key])
        found.update(_sizes(spec, system))
    except (KeyError, IndexError, TypeError, ValueError, AttributeError):
        pass  # as in job-list, the fields before the fault remain
    return found


def _name(spec: Mapping[str, Any], system: Mapping[str, Any]) -> str:
    named = system.get("job", {}).get("name")
    if named is not None:
        return str(named)
    path = str(spec["tasks"][0]["command"][0])
    return path.rpartition("/")[2] or path


@dataclass
class _Counts:
    nodes: int = 0
    slots: int = 0
    slot_cores: int = 0
    exclusive: bool = False


def _sizes(spec: Mapping[str, Any], system: Mapping[str, Any]) -> Iterable[tuple[str, int]]:
    counts = _Counts()
    _count(spec["resources"], 1, counts)
    if counts.slots <= 0 or counts.slot_cores <= 0:
        raise ValueError("a jobspec without a slot or without cores")
    slots = counts.slots * (counts.nodes or 1)
    cores = slots * counts.slot_cores
    if counts.nodes:
        yield "nnodes", counts.nodes
    tasks = _tasks(spec, system, counts.nodes, slots, cores)
    if tasks is not None:
        yield "ntasks", tasks
    if not (counts.nodes and counts.exclusive):
        yield "ncores", cores


def _count(vertices: Iterable[Mapping[str, Any]], factor: int, counts: _Counts) -> None:
    for vertex in vertices:
        kind, count = vertex["type"], vertex["count"]
        if not isinstance(count, int) or count <= 0:
            raise ValueError(f"{count!r} is not a count of version 1")
        if kind == "node":
            counts.nodes = factor * count
            counts.exclusive = counts.exclusive or bool(vertex.get("exclusive"))
        elif kind == "slot":
            counts.slots = count
        elif kind == "core":
            counts.slot_cores = count
        _count(vertex.get("with", ()), factor * count, counts)


def _tasks(
    spec: Mapping[str, Any], system: Mapping[str, Any], nodes: int, slots: int, cores: int
) -> int | None:
    """Return the number of a job's tasks; None if it depends on the nodes allocated."""
    per = system.get("shell", {}).get("options", {}).get("per-resource")
    if per is not None and per["type"] == "node":
        return nodes * per.get("count", 1) if nodes else None
    if per is not None and per["type"] == "core":
        return None if nodes else cores * per.get("count", 1)
    total = spec["tasks"][0]["count"].get("total")
    return total if isinstance(total, int) else slots
