"""Jobs as plain data: the familiar dict, with read-only properties for a scheduler."""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from fluxburst.errors import JobspecError, RequestError
from fluxburst.formats.spelling import truth
from fluxburst.model.jobspec import ALTERNATIVES, Chunk, chunks_of, task_count

T = TypeVar("T")


class JobState(enum.IntFlag):
    """Job states with their numbers (RFC 21)."""

    NEW = 1
    DEPEND = 2
    PRIORITY = 4
    SCHED = 8
    RUN = 16
    CLEANUP = 32
    INACTIVE = 64

    @classmethod
    def named(cls, names: Iterable[str]) -> JobState:
        """Return the states with some names, in either case.

        Raises:
            RequestError: if a name is unknown.
        """
        states = cls(0)
        for name in names:
            if name.upper() not in cls.__members__:
                known = ", ".join(cls.__members__)
                raise RequestError(f"{name!r} is not a job state [choose from {known}]")
            states |= cls[name.upper()]
        return states


PENDING = JobState.DEPEND | JobState.PRIORITY | JobState.SCHED
RUNNING = JobState.RUN | JobState.CLEANUP
ACTIVE = PENDING | RUNNING

URGENCY_DEFAULT, URGENCY_HOLD = 16, 0
"""The default urgency, and the one that holds a job (RFC 21)."""


@dataclass(frozen=True)
class Mark:
    """The lasting mark on an assigned job: its plugin, and its burst.

    Attributes:
        plugin: The plugin's name.
        burst: The burst's name, or a placeholder if a plugin does not name it; empty for a
            job that fits on free nodes, and if unknown.
        queue: Its former queue, if the plugin has its own; else empty.
        urgency: Its former urgency, if it is held here because it runs in an isolated burst;
            else None.
    """

    plugin: str
    burst: str = ""
    queue: str = ""
    urgency: int | None = None

    def to_memo(self) -> dict[str, str | int]:
        """Return it in the form of the job's memo, under ``fluxburst``."""
        memo: dict[str, str | int] = {"plugin": self.plugin, "burst": self.burst}
        if self.queue:
            memo["queue"] = self.queue
        if self.urgency is not None:
            memo["urgency"] = self.urgency
        return memo

    @classmethod
    def from_memo(cls, memo: object) -> Mark | None:
        """Parse a memo; None if it is not one of fluxburst's."""
        if not isinstance(memo, dict) or not isinstance(memo.get("plugin"), str):
            return None
        urgency = memo.get("urgency")
        return cls(
            memo["plugin"],
            str(memo.get("burst") or ""),
            str(memo.get("queue") or ""),
            urgency if type(urgency) is int else None,
        )


def _copied(value: Any) -> Any:
    """Return a copy of JSON data; much faster than :func:`copy.deepcopy`."""
    if isinstance(value, dict):
        return {key: _copied(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_copied(item) for item in value]
    return value


class Job(dict[str, Any]):
    """One job: its record from ``job-list``, with the jobspec under ``spec``.

    Otherwise it is a plain dict, and serializes to JSON as it is. ``job["info"]``, flux-burst's
    copy with underscores, is made on access.
    """

    __slots__ = ("_chunks",)
    _chunks: tuple[Chunk, ...]

    def __missing__(self, key: str) -> Any:
        if key == "info":
            renamed = {"state": "state_id", "result": "result_id"}
            return {
                f"_{renamed.get(name, name)}": value
                for name, value in self.items()
                if name != "spec"
            }
        raise KeyError(key)

    def but(self, **items: Any) -> Job:
        """Return the same job with other items; this one stays unchanged."""
        return Job(self, **items)

    def private(self) -> Job:
        """Return a copy that shares no mutable part with this one."""
        return Job(_copied(self))

    @property
    def id(self) -> int:
        """The job's id, as an integer (RFC 19 calls its text forms FLUIDs)."""
        return int(self["id"])

    @property
    def state(self) -> JobState:
        """The state that the instance reported."""
        return JobState(self.get("state", JobState.NEW))

    @property
    def user(self) -> int:
        """The numeric id of the user who submitted it."""
        return int(self.get("userid", -1))

    @property
    def urgency(self) -> int:
        """The urgency set by its user, 0 to 31; 0 holds it (RFC 21)."""
        return int(self.get("urgency", URGENCY_DEFAULT))

    @property
    def queue(self) -> str:
        """The queue's name, empty if the instance has no named queues."""
        return str(self.get("queue") or self.attributes.get("queue") or "")

    @property
    def bank(self) -> str:
        """The accounting bank, or empty."""
        return str(self.get("bank") or self.attributes.get("bank") or "")

    @property
    def spec(self) -> dict[str, Any]:
        """The jobspec.

        Raises:
            JobspecError: if there is none.
        """
        spec = self.get("spec")
        if not isinstance(spec, dict):
            raise JobspecError(self.id, "is missing or not an object")
        return spec

    @property
    def attributes(self) -> dict[str, Any]:
        """The jobspec's system attributes.

        Raises:
            JobspecError: if the jobspec lacks ``attributes``.
        """
        attributes = self.spec.get("attributes")
        if not isinstance(attributes, dict):
            raise JobspecError(self.id, "lacks 'attributes'")
        system = attributes.get("system", {})
        if not isinstance(system, dict):
            raise JobspecError(self.id, "attributes.system is not an object")
        return system

    @property
    def chunks(self) -> tuple[Chunk, ...]:
        """Its request, part by part; computed once.

        Raises:
            JobspecError: if the jobspec's resources are invalid.
        """
        try:
            return self._chunks
        except AttributeError:
            self._chunks = self._counted(chunks_of)
            return self._chunks

    def _counted(self, count: Callable[[object], T]) -> T:
        try:
            return count(self.spec)
        except JobspecError as error:
            if error.job is not None:
                raise
            raise JobspecError(self.id, error.problem) from error

    @property
    def nodes(self) -> int | None:
        """How many nodes it requests, or None if it only requests slots."""
        nodes = sum(chunk.count for chunk in self.chunks if chunk.node)
        return nodes or None

    @property
    def tasks(self) -> int:
        """Number of its tasks."""
        return self._counted(task_count)

    @property
    def cores(self) -> int:
        """Cores requested, over all nodes."""
        return sum(chunk.count * chunk.cores for chunk in self.chunks)

    @property
    def gpus(self) -> int:
        """GPUs requested, over all nodes."""
        return sum(chunk.count * chunk.gpus for chunk in self.chunks)

    @property
    def memory(self) -> int:
        """Bytes requested, over all nodes."""
        return sum(chunk.count * chunk.memory for chunk in self.chunks)

    @property
    def has_alternatives(self) -> bool:
        """Whether it requests one of several alternatives, so that its resources are unknown."""
        return any(
            kind == ALTERNATIVES for chunk in self.chunks for kind, _ in chunk.details.others
        )

    @property
    def has_other_types(self) -> bool:
        """Whether it requests anything but nodes, cores, GPUs and memory, such as sockets."""
        return any(chunk.details.others for chunk in self.chunks)

    @property
    def exclusive(self) -> bool:
        """Whether it needs whole nodes."""
        return any(chunk.exclusive for chunk in self.chunks)

    @property
    def constraint(self) -> dict[str, Any] | None:
        """The constraint on its nodes (RFC 31), or None; its queue may have added to it.

        Raises:
            JobspecError: if it is not an object.
        """
        constraint = self.attributes.get("constraints")
        if constraint is None or isinstance(constraint, dict):
            return constraint
        raise JobspecError(self.id, "attributes.system.constraints is not an object")

    @property
    def duration(self) -> float:
        """The time limit in seconds; 0 for none.

        Raises:
            JobspecError: if it is not a number.
        """
        duration = self.get("duration") or self.attributes.get("duration") or 0.0
        if not isinstance(duration, (int, float)):
            raise JobspecError(self.id, f"its duration is {duration!r}, not a number of seconds")
        return float(duration)

    @property
    def command(self) -> list[str]:
        """The command of the first task, with its arguments; empty if there is none.

        Raises:
            JobspecError: if it is not a list.
        """
        tasks = self.spec.get("tasks") or [{}]
        first = tasks[0] if isinstance(tasks, list) else None
        command = first.get("command", []) if isinstance(first, dict) else None
        if not isinstance(command, list):
            raise JobspecError(self.id, "its first task has no command that is a list")
        return list(command)

    @property
    def burstable(self) -> bool | str:
        """The flag ``attributes.system.burstable``: whether it is set, or the plugins it names.

        ``0``, ``false``, ``null`` and, in any case, ``no``, ``n`` and ``off`` mean no, as does
        a missing flag. Several names are one text, comma-separated.
        """
        flag = self.attributes.get("burstable")
        if isinstance(flag, list) and all(isinstance(name, str) for name in flag):
            flag = ",".join(flag)
        if not isinstance(flag, str):
            return bool(flag)
        said = truth(flag)
        return (flag.strip(" ,") or False) if said is None else said

    @property
    def asks_for(self) -> tuple[str, ...]:
        """The names of the plugins in its flag, in order; empty for any."""
        flag = self.burstable
        names = flag.split(",") if isinstance(flag, str) else ()
        return tuple(name.strip() for name in names if name.strip())

    @property
    def mark(self) -> Mark | None:
        """Its assignment according to its memo; None without a memo of ours."""
        annotations = self.get("annotations")
        user = annotations.get("user") if isinstance(annotations, dict) else None
        return Mark.from_memo(user.get("fluxburst")) if isinstance(user, dict) else None

    @property
    def not_startable(self) -> str:
        """Why more nodes would not help it to start, or empty: it waits for capacity only."""
        if self.get("state") == JobState.SCHED:
            if self.get("priority"):
                return ""
            return "has priority 0" if self.get("urgency") else "is held (urgency 0)"
        if self.get("state") == JobState.DEPEND:
            waits = self.get("dependencies")
            on = f" on {', '.join(map(str, waits))}" if isinstance(waits, list) and waits else ""
            return f"waits{on or ' on a dependency'}"
        return f"is in state {self.state.name or int(self.state)}, not SCHED"


def queue_order(job: Job) -> tuple[int, int]:
    """Sort key: the order in which the scheduler considers jobs, by priority and then by age."""
    return -int(job.get("priority") or 0), job.id


def exception_text(record: Mapping[str, Any]) -> str:
    """Return the exception (RFC 21) that ended a job, as in job-list (RFC 43); or empty."""
    if int(record["state"]) & ACTIVE or not record.get("exception_occurred"):
        return ""
    kind, note = (str(record.get(f"exception_{key}") or "") for key in ("type", "note"))
    return ": ".join(filter(None, (kind, note)))
