"""The queues of a live Flux: ``job-manager.queue-list``, ``queue-status``, and its configuration.

Flux posts no event when a queue is stopped or started, so it has to be polled.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from fluxburst.errors import FormatError
from fluxburst.flux.rpc import ANY_NODE, Requests
from fluxburst.formats.units import parse_duration
from fluxburst.model.queues import Queue

_TOPIC = "job-manager.queue-status"


def ask(requests: Requests) -> Mapping[str, Queue]:
    """Return every queue by name; without named queues, one with an empty name.

    Raises:
        OSError: if the job manager does not answer.
    """
    first: list[tuple[str, Any, int]] = [
        ("job-manager.queue-list", {}, ANY_NODE),
        ("config.get", {}, ANY_NODE),
    ]
    listed, config = requests.ask_each(first)
    if isinstance(listed, OSError):
        raise listed
    names = [str(name) for name in listed["queues"]]
    asked = [(_TOPIC, {"name": name}, ANY_NODE) for name in names] or [(_TOPIC, {}, ANY_NODE)]
    queues: dict[str, Queue] = {}
    for name, answer in zip(names or [""], requests.ask_each(asked), strict=True):
        if not isinstance(answer, OSError):  # a queue removed meanwhile is refused
            queues[name] = _queue(name, answer, config)
    return queues


def _queue(name: str, status: Mapping[str, Any], config: Any) -> Queue:
    return Queue(
        name,
        enabled=bool(status["enable"]),
        started=bool(status["start"]),
        why_disabled=str(status.get("disable_reason") or ""),
        why_stopped=str(status.get("stop_reason") or ""),
        requires=_required(name, config),
        duration=_duration(name, config, "jobspec", "defaults", "system", "duration"),
        longest=_duration(name, config, "limits", "duration"),
    )


def _required(name: str, config: Any) -> tuple[str, ...] | None:
    """Return a queue's requirements for nodes; None if the configuration is unreadable."""
    if isinstance(config, OSError):
        return None
    queue = (config.get("queues") or {}).get(name) or {}
    return tuple(map(str, queue.get("requires") or ()))


def _duration(name: str, config: Any, *path: str) -> float | None:
    """Return a duration of a queue's policy, or else of the instance's (flux-config-policy(5)).

    In seconds; 0 if not set, None if the configuration is unreadable.
    """
    if isinstance(config, OSError):
        return None
    queue = (config.get("queues") or {}).get(name) or {}
    for table in (queue, config):
        value = table.get("policy") or {}
        for key in path:
            value = value.get(key) if isinstance(value, dict) else None
        if value is not None:
            return _seconds(value)
    return 0.0


def _seconds(value: object) -> float | None:
    try:
        seconds = parse_duration(value) if isinstance(value, str) else float(str(value))
    except (FormatError, ValueError):
        return None
    return seconds if math.isfinite(seconds) else 0.0
