"""The queues of the embedded instance: what Flux's job manager lets jobs do in them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any

from fluxburst.errors import RequestError
from fluxburst.model.job import PENDING, Job
from fluxburst.model.queues import Queue


class QueueTable:
    """Queues by name; one whose name is empty where there are no named ones.

    Args:
        needs: For each named queue, the properties that the nodes of its jobs must have.
    """

    def __init__(self, needs: Mapping[str, Collection[str]]) -> None:
        self._named = bool(needs)
        self._queues = {
            name: Queue(name, requires=tuple(properties), duration=0.0, longest=0.0)
            for name, properties in (needs or {"": ()}).items()
        }

    def all(self) -> Mapping[str, Queue]:
        """Return all of them."""
        return dict(self._queues)

    def change(self, name: str, **changes: Any) -> None:
        """Change fields of a queue."""
        self._queues[name] = replace(self._queues[name], **changes)

    def of(self, name: str) -> Queue:
        """Return the queue of a job; without named queues, that is one for all."""
        return self._queues.get(name if self._named else "") or Queue(name, started=False)

    def submitted(self, spec: Mapping[str, Any]) -> dict[str, Any]:
        """Return a jobspec as the queue that it asks for makes it: with its requirements.

        Raises:
            RequestError: if there is no such queue, or it is disabled.
        """
        name = spec.get("attributes", {}).get("system", {}).get("queue", "")
        if self._named and name not in self._queues:
            raise RequestError(f"there is no queue {name!r}")
        if not self.of(name).enabled:
            raise RequestError(f"job submission is disabled: {self.of(name).why_disabled}")
        needs = list(self.of(name).requires or ())
        own = _system(spec).get("constraints")
        return dict(spec) if not needs else _with(spec, constraints=_both(own, needs))

    def why_not_moved(self, job: Job | None, name: str) -> str:
        """Return why an update of a job's queue is refused; empty where it is not."""
        if job is None or not job.state & PENDING:
            return "it is not pending"
        if not self._named or name not in self._queues:
            return f"there is no queue {name!r}"
        if not self._queues[name].enabled:
            return f"queue {name} is currently disabled"
        needs = list(self.of(job.queue).requires or ())
        # Recorded jobs may lack what their queue requires; there is nothing of theirs to lose.
        if job.constraint and job.constraint != {"properties": needs}:
            return f"it has non-queue constraints, unable to update queue to {name}"
        return ""

    def moved(self, spec: Mapping[str, Any], name: str) -> dict[str, Any]:
        """Return a jobspec that asks for another queue, and for nodes as that requires them."""
        needs = list(self._queues[name].requires or ())
        if not _system(spec).get("constraints"):
            return _with(spec, queue=name)
        return _with(spec, queue=name, constraints={"properties": needs} if needs else {})


def _system(spec: Mapping[str, Any]) -> Mapping[str, Any]:
    attributes = spec.get("attributes")
    system = attributes.get("system") if isinstance(attributes, dict) else None
    return system if isinstance(system, dict) else {}


def _with(spec: Mapping[str, Any], **system: Any) -> dict[str, Any]:
    attributes = spec.get("attributes") or {}
    return {**spec, "attributes": {**attributes, "system": {**_system(spec), **system}}}


def _both(own: Any, needs: list[str]) -> dict[str, Any]:
    """Return the constraint of a job and that of its queue in one, as Flux's ingest joins them."""
    if not own:
        return {"properties": needs}
    if isinstance(own, dict) and isinstance(own.get("properties"), list):
        more = [need for need in needs if need not in own["properties"]]
        return {**own, "properties": [*own["properties"], *more]}
    return {"and": [own, {"properties": needs}]}
