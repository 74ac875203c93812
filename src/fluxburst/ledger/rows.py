"""Rows of the ledger's table of bursts, and what they stand for."""

from __future__ import annotations

import functools
import json
import sqlite3
from typing import Any

from fluxburst.ledger.entries import Entry
from fluxburst.model.burst import Burst, BurstState


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
