"""A whole ledger as plain data, for JSON; the user guide documents the schema."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

from fluxburst.ledger.entries import Assignment, Entry, Transition, Usage
from fluxburst.ledger.store import Ledger
from fluxburst.model.plan import Decision

FIELDS = (
    "name", "plugin", "node_type", "nodes", "state", "joined", "jobs", "user", "queue", "hostnames",
    "price", "cost", "projected_cost", "requested", "created", "started", "ready", "idle", "ended",
    "since", "lease_until", "isolated", "exit_code", "output", "reason", "error",
    "waiting_for", "end_reason", "leftover",
)  # fmt: skip
"""The keys of :func:`of_entry`, in order."""


def records(ledger: Ledger, now: float) -> Iterator[dict[str, Any]]:
    """Yield all records of a ledger, each with its kind as ``record``.

    First the ledger itself, then bursts, transitions, assignments, usages, decisions, breakers.

    Raises:
        LedgerError: if it is unreadable.
    """
    with ledger.snapshot():
        yield {
            "record": "ledger",
            "instance": ledger.instance or None,
            "schema": ledger.schema,
            "now": now,
        }
        names: dict[int, str] = {}
        for entry in ledger.entries():
            names[entry.id] = entry.burst.name
            yield {"record": "burst", **of_entry(entry, now)}
        for step in ledger.transitions():
            yield {"record": "transition", "burst": names[step.entry], **of_transition(step)}
        for assignment in ledger.assignments():
            yield {"record": "placement", **of_assignment(assignment)}
        for usage in ledger.usages():
            yield {"record": "usage", "burst": names[usage.entry], **of_usage(usage)}
        for at, decision in ledger.decisions():
            yield {"record": "decision", "job": decision.id, "at": at, **of_decision(decision)}
        for breaker in ledger.breakers().values():
            yield {"record": "breaker", **dataclasses.asdict(breaker)}


def of_entry(entry: Entry, now: float) -> dict[str, Any]:
    """Return a burst as plain data. Times are in seconds since the epoch."""
    burst = entry.burst
    return {
        "name": burst.name,
        "plugin": burst.plugin,
        "node_type": burst.node_type,
        "nodes": burst.nodes,
        "state": burst.state.value,
        "joined": burst.joined,
        "jobs": list(burst.jobs),
        "user": entry.user,
        "queue": entry.queue or None,
        "hostnames": list(burst.hostnames),
        "price": burst.price,
        "cost": entry.cost(now),
        "projected_cost": entry.projected(now),
        "requested": entry.requested,
        "created": entry.created,
        "started": entry.started,
        "ready": entry.ready,
        "idle": entry.idle,
        "ended": entry.ended,
        "since": burst.since,
        "lease_until": burst.lease_until,
        "isolated": burst.isolated,
        "exit_code": burst.exit_code,
        "output": burst.output or None,
        "reason": entry.reason or None,
        "error": burst.problem or None,
        "waiting_for": burst.waiting_for or None,
        "end_reason": burst.end_reason.value if burst.end_reason else None,
        "leftover": burst.leftover or None,
    }


def of_transition(step: Transition) -> dict[str, Any]:
    """Return a step in a burst's life as plain data, without its burst."""
    return {
        "at": step.at,
        "previous": None if step.previous is None else step.previous.value,
        "state": step.state.value,
        "reason": step.reason or None,
    }


def of_assignment(assignment: Assignment) -> dict[str, Any]:
    """Return an assignment as plain data."""
    return {
        "job": assignment.job,
        "plugin": assignment.plugin,
        "burst": assignment.burst or None,
        "at": assignment.at,
        "freed": assignment.released,
        "reason": assignment.reason or None,
        "queue": assignment.queue or None,
        "urgency": assignment.urgency,
        "setback": assignment.setback.value if assignment.setback else None,
    }


def of_usage(usage: Usage) -> dict[str, Any]:
    """Return a job's use of a burst as plain data, without the burst."""
    return {
        "job": usage.job,
        "user": usage.user,
        "nodes": usage.nodes,
        "started": usage.started,
        "ended": usage.ended,
    }


def of_decision(decision: Decision) -> dict[str, Any]:
    """Return a decision as plain data, without its job."""
    return {
        "outcome": decision.outcome.value,
        "plugin": decision.plugin or None,
        "reasons": list(decision.reasons),
    }
