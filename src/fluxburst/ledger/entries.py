"""What the ledger holds, as plain data and as rows. All times are in seconds since the epoch."""

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
"""Where a burst may go from each state: only down the list, and nowhere from the last two."""


@dataclass(frozen=True)
class Entry:
    """One burst in the ledger.

    Attributes:
        id: Its number in the ledger, in the order of the requests.
        burst: The burst as it was last recorded.
        user: The numeric id of the user that it is charged to; None for no single one.
        queue: The queue that it is charged to; empty for none.
        requested: When it was recorded, before anything was asked of the provider.
        created: When the plugin answered for it; None where that is not known.
        started: When the provider was first seen to bring it up; None if it was not.
        ready: When it was first seen ready; None if it was not.
        idle: Since when no job is on it or waits for it; None while there is one.
        ended: When it was gone; None while something of it may be there.
        reason: Why it is in its state.
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
        """Whether something of it may be there."""
        return self.ended is None

    @property
    def queued(self) -> bool:
        """Whether it waits in its provider's queue, as far as is known."""
        return self.burst.state is BurstState.REQUESTED and self.created is not None

    @property
    def billed_from(self) -> float:
        """Since when it costs; of a burst that never came up, when it was requested."""
        return self.requested if self.burst.since is None else self.burst.since

    def billed_to(self, now: float) -> float:
        """Return until when it has cost; one of which nothing came up has not cost."""
        if self.burst.since is None and (self.queued or self.ended is not None):
            return self.billed_from
        return max(now if self.ended is None else self.ended, self.billed_from)

    def reserved_from(self, now: float) -> float:
        """Return from when money counts for it: spent, or set aside until its lease ends."""
        waits = self.queued and self.burst.since is None
        return max(now, self.billed_from) if waits else self.billed_from

    def reserved_to(self, now: float) -> float:
        """Return until when money is set aside for it: its lease, or longer if it outlived that."""
        if self.ended is not None:
            return self.billed_to(now)
        return max(self.reserved_from(now), self.billed_to(now), self.burst.lease_until or 0.0)

    def node_hours(self, start: float, end: float) -> float:
        """Return how many hours its nodes take between two times that are within its life."""
        return self.burst.nodes * max(0.0, end - start) / HOUR

    def cost(self, now: float) -> float:
        """Return what it has cost until now."""
        return self.burst.price * self.node_hours(self.billed_from, self.billed_to(now))

    def projected(self, now: float) -> float:
        """Return what it will have cost when its lease ends; once it has ended, what it cost."""
        return self.burst.price * self.node_hours(self.reserved_from(now), self.reserved_to(now))


@dataclass(frozen=True)
class Transition:
    """One step in the life of a burst.

    Attributes:
        entry: The number of its entry.
        at: When.
        previous: Its state before; None for the first.
        state: Its state from then on.
        reason: Why.
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
    """One time that a job was assigned.

    Attributes:
        job: The job's id.
        plugin: To whom.
        burst: In which burst; empty for nodes that were there.
        at: When.
        released: When it was released; None if it was not.
        reason: Why it was released, for a person.
        queue: The queue that it goes back to then; empty for the one that it is in.
        urgency: The urgency that it gets back then, where it is held for an isolated burst; else
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
    """What one job used of one burst.

    Attributes:
        entry: The number of the burst's entry.
        job: The job's id.
        user: The numeric id of its user.
        nodes: How many of the burst's nodes it had, in parts for parts of nodes.
        started: Since when.
        ended: Until when; None while it runs.
    """

    entry: int
    job: int
    user: int
    nodes: float
    started: float
    ended: float | None = None


@dataclass(frozen=True)
class Breaker:
    """How one node type of a plugin has failed lately.

    Attributes:
        plugin: The plugin.
        node_type: Its node type.
        failures: How many times in a row.
        retry_at: When it may be asked again; None while it may.
        error: How it failed last.
    """

    plugin: str
    node_type: str
    failures: int = 0
    retry_at: float | None = None
    error: str = ""


# --- rows ----------------------------------------------------------------------------------


def columns_of(burst: Burst) -> dict[str, Any]:
    """Return what to write of a burst, by column."""
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
    """Return a burst's jobs: they may be very many, and never change."""
    return tuple(json.loads(text))


def entry_of(row: sqlite3.Row) -> Entry:
    """Return the entry that a row is."""
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
