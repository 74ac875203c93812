"""The ledger's contents, as plain data and as rows. All times are in seconds since the epoch."""

from __future__ import annotations

import enum
import functools
import json
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from fluxburst.model.burst import LIVE_STATES, Burst, BurstState, EndReason

HOUR = 3600.0
DAY = 86400.0

ORDER = tuple(BurstState)
TRANSITIONS: Mapping[BurstState, frozenset[BurstState]] = {
    state: frozenset(ORDER[ORDER.index(state) + 1 :]) if state in LIVE_STATES else frozenset()
    for state in BurstState
}
"""The allowed next states of a burst: only down the list, and none after the last two."""


@dataclass(frozen=True)
class Entry:
    """One burst in the ledger.

    Attributes:
        id: Its number in the ledger, in the order of the requests.
        burst: The burst as last recorded.
        user: The numeric id of the user charged for it; None for no single one.
        queue: The queue charged for it; empty for none.
        requested: When it was recorded, before the provider was asked.
        created: When the plugin answered for it; None if unknown.
        started: When the provider was first seen to start it; None if it was not.
        ready: When it was first seen ready; None if it was not.
        idle: Since when it has neither a running nor a waiting job; None while it has one.
        ended: When it was gone; None while part of it may exist.
        reason: The reason for its state.
    """

    id: int
    burst: Burst
    user: int | None
    queue: str
    requested: float
    created: float | None = None
    started: float | None = None
    ready: float | None = None
    idle: float | None = None
    ended: float | None = None
    reason: str = ""

    @property
    def live(self) -> bool:
        """Whether it exists or may exist."""
        return self.ended is None

    @property
    def queued(self) -> bool:
        """Whether it waits in its provider's queue, as far as known."""
        return self.burst.state is BurstState.REQUESTED and self.created is not None

    @property
    def billed_from(self) -> float:
        """Since when it costs money; for a burst that never came up, its request."""
        return self.requested if self.burst.since is None else self.burst.since

    def billed_to(self, now: float) -> float:
        """Return until when it has cost money; a burst that never came up cost nothing."""
        if self.burst.since is None and (self.queued or self.ended is not None):
            return self.billed_from
        return max(now if self.ended is None else self.ended, self.billed_from)

    def reserved_from(self, now: float) -> float:
        """Return from when money counts for it: spent, or reserved until its lease ends."""
        waits = self.queued and self.burst.since is None
        return max(now, self.billed_from) if waits else self.billed_from

    def reserved_to(self, now: float) -> float:
        """Return until when money is reserved for it: its lease, or longer if it outlived that."""
        if self.ended is not None:
            return self.billed_to(now)
        return max(self.reserved_from(now), self.billed_to(now), self.burst.lease_until or 0.0)

    def node_hours(self, start: float, end: float) -> float:
        """Return its node hours between two times within its life."""
        return self.burst.nodes * max(0.0, end - start) / HOUR

    def cost(self, now: float) -> float:
        """Return its cost so far."""
        return self.burst.price * self.node_hours(self.billed_from, self.billed_to(now))

    def projected(self, now: float) -> float:
        """Return its cost by the end of its lease; once it has ended, its cost."""
        return self.burst.price * self.node_hours(self.reserved_from(now), self.reserved_to(now))


@dataclass(frozen=True)
class Transition:
    """One step in the life of a burst.

    Attributes:
        entry: The number of its entry.
        at: Time.
        previous: Its state before; None for the first.
        state: Its new state.
        reason: The reason.
    """

    entry: int
    at: float
    previous: BurstState | None
    state: BurstState
    reason: str


class SetbackKind(str, enum.Enum):
    """What came to nothing when a job was assigned."""

    NOT_MOVED = "not_moved"
    """Flux did not move the job to its plugin's queue."""

    NOT_STARTED = "not_started"
    """The job did not start on nodes that were free."""


@dataclass(frozen=True)
class Assignment:
    """One assignment of a job.

    Attributes:
        job: The job's id.
        plugin: The plugin.
        burst: The burst; empty for existing nodes.
        at: Time.
        released: When it was released; None if it was not.
        reason: Why it was released, for a person.
        queue: Its former queue, to which it returns; empty if it did not move.
        urgency: Its former urgency, to be restored, if it is held for an isolated burst; else
            None.
        setback: What came to nothing, if it was released for that; it waits before it is tried
            again then. None for any other reason.
    """

    job: int
    plugin: str
    burst: str
    at: float
    released: float | None = None
    reason: str = ""
    queue: str = ""
    urgency: int | None = None
    setback: SetbackKind | None = None


@dataclass(frozen=True)
class Usage:
    """One job's use of one burst.

    Attributes:
        entry: The number of the burst's entry.
        job: The job's id.
        user: The numeric id of its user.
        nodes: Number of the burst's nodes it had, with fractions.
        started: Start of its use.
        ended: End of its use; None while it runs.
    """

    entry: int
    job: int
    user: int
    nodes: float
    started: float
    ended: float | None = None


@dataclass(frozen=True)
class Breaker:
    """Recent failures of one node type of a plugin.

    Attributes:
        plugin: The plugin.
        node_type: Its node type.
        failures: Number of failures in a row.
        retry_at: Time of the retry; None while it may be requested.
        error: The last error.
    """

    plugin: str
    node_type: str
    failures: int = 0
    retry_at: float | None = None
    error: str = ""


# --- rows ----------------------------------------------------------------------------------


def columns_of(burst: Burst) -> dict[str, Any]:
    """Return a burst's values for writing, by column."""
    return {
        "name": burst.name,
        "plugin": burst.plugin,
        "node_type": burst.node_type,
        "nodes": burst.nodes,
        "jobs": json.dumps(burst.jobs),
        "state": burst.state.value,
        "hostnames": json.dumps(burst.hostnames),
        "price": burst.price,
        "error": burst.error,
        "joined": burst.joined,
        "since": burst.since,
        "lease_until": burst.lease_until,
        "isolated": burst.isolated,
        "exit_code": burst.exit_code,
        "output": burst.output,
        "waiting_for": burst.waiting_for,
        "end_reason": burst.end_reason.value if burst.end_reason else "",
        "leftover": burst.leftover,
    }


@functools.lru_cache(maxsize=128)
def ids_of(text: str) -> tuple[int, ...]:
    """Return a burst's jobs: there may be very many, and they never change."""
    return tuple(json.loads(text))


def entry_of(row: sqlite3.Row) -> Entry:
    """Return the entry for a row."""
    burst = Burst(
        name=row["name"],
        plugin=row["plugin"],
        node_type=row["node_type"],
        nodes=row["nodes"],
        jobs=ids_of(row["jobs"]),
        state=BurstState(row["state"]),
        hostnames=tuple(json.loads(row["hostnames"])),
        price=row["price"],
        error=row["error"],
        joined=row["joined"],
        since=row["since"],
        lease_until=row["lease_until"],
        isolated=bool(row["isolated"]),
        exit_code=row["exit_code"],
        output=row["output"],
        waiting_for=row["waiting_for"],
        end_reason=EndReason(row["end_reason"]) if row["end_reason"] else None,
        leftover=row["leftover"],
    )
    own = (
        "id",
        "user",
        "queue",
        "requested",
        "created",
        "started",
        "ready",
        "idle",
        "ended",
        "reason",
    )
    return Entry(burst=burst, **{name: row[name] for name in own})


def assignment_of(row: sqlite3.Row) -> Assignment:
    """Return the assignment that a row is."""
    *values, setback = tuple(row)
    assignment = Assignment(*values)
    return replace(assignment, setback=SetbackKind(setback)) if setback else assignment
