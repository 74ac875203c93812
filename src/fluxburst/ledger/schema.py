"""The tables of the ledger, and the migration from older versions."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Sequence

from fluxburst.errors import LedgerError
from fluxburst.model.job import URGENCY_DEFAULT

APPLICATION = 0x666C7862
"""``flxb``: distinguishes a ledger from other SQLite databases (``PRAGMA application_id``)."""

_FIRST = """
CREATE TABLE instance (name TEXT NOT NULL);
CREATE TABLE bursts (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL,
    plugin TEXT NOT NULL,
    node_type TEXT NOT NULL,
    nodes INTEGER NOT NULL,
    jobs TEXT NOT NULL,
    user INTEGER,
    queue TEXT NOT NULL,
    state TEXT NOT NULL,
    hostnames TEXT NOT NULL,
    price REAL NOT NULL,
    error TEXT NOT NULL,
    joined INTEGER NOT NULL,
    since REAL,
    lease_until REAL,
    requested REAL NOT NULL,
    created REAL,
    started REAL,
    ready REAL,
    idle REAL,
    ended REAL,
    reason TEXT NOT NULL
);
CREATE UNIQUE INDEX one_of_a_name ON bursts (name);
CREATE INDEX by_end ON bursts (ended);
CREATE TABLE transitions (
    burst INTEGER NOT NULL REFERENCES bursts (id),
    at REAL NOT NULL,
    previous TEXT,
    state TEXT NOT NULL,
    reason TEXT NOT NULL
);
CREATE INDEX transitions_of ON transitions (burst);
CREATE TABLE placements (
    job INTEGER NOT NULL,
    plugin TEXT NOT NULL,
    burst TEXT NOT NULL,
    at REAL NOT NULL,
    freed REAL,
    reason TEXT NOT NULL DEFAULT ''
);
CREATE INDEX placements_of ON placements (job);
CREATE TABLE usage (
    burst INTEGER NOT NULL REFERENCES bursts (id),
    job INTEGER NOT NULL,
    user INTEGER NOT NULL,
    nodes REAL NOT NULL,
    started REAL NOT NULL,
    ended REAL,
    PRIMARY KEY (burst, job)
);
CREATE INDEX running ON usage (ended);
CREATE TABLE decisions (
    job INTEGER NOT NULL,
    at REAL NOT NULL,
    outcome TEXT NOT NULL,
    plugin TEXT NOT NULL,
    reasons TEXT NOT NULL
);
CREATE INDEX decisions_of ON decisions (job);
CREATE INDEX decisions_by_time ON decisions (at);
CREATE TABLE breakers (
    plugin TEXT NOT NULL,
    node_type TEXT NOT NULL,
    failures INTEGER NOT NULL,
    retry_at REAL,
    error TEXT NOT NULL,
    PRIMARY KEY (plugin, node_type)
);
"""

Step = Callable[[sqlite3.Connection], None]


def _first(connection: sqlite3.Connection) -> None:
    for statement in _FIRST.split(";"):
        connection.execute(statement)
    connection.execute(f"PRAGMA application_id = {APPLICATION}")


def _isolated(connection: sqlite3.Connection) -> None:
    for column in ("isolated INTEGER NOT NULL DEFAULT 0", "exit_code INTEGER", _OUTPUT):
        connection.execute(f"ALTER TABLE bursts ADD COLUMN {column}")


_OUTPUT = "output TEXT NOT NULL DEFAULT ''"


def _restorable(connection: sqlite3.Connection) -> None:
    """Record with each assignment what a job is to have again once it is released.

    Before, only the job's memo said that, which its user may write. What is assigned now gets the
    queue that its burst is charged to, and the default urgency where it is held for a burst.
    """
    connection.execute("ALTER TABLE placements ADD COLUMN queue TEXT NOT NULL DEFAULT ''")
    connection.execute("ALTER TABLE placements ADD COLUMN urgency INTEGER")
    open_ones = "freed IS NULL AND burst = ?"
    bursts = connection.execute("SELECT name, queue, jobs, isolated FROM bursts").fetchall()
    for name, queue, jobs, isolated in bursts:
        if isolated:
            connection.execute(
                f"UPDATE placements SET urgency = ? WHERE {open_ones}",  # noqa: S608
                (URGENCY_DEFAULT, name),
            )
        if queue:
            connection.executemany(
                f"UPDATE placements SET queue = ? WHERE job = ? AND {open_ones}",  # noqa: S608
                [(queue, job, name) for job in json.loads(jobs)],
            )


_LEFT = "what is left of it could not be taken down, it may cost money: "
_END_REASONS = (
    ("idle", "no job has been on it, or waited for it, for %"),
    ("lifetime", "it may live % at most"),
    ("lease", "its lease ends: %"),
    ("not_recorded", "it is in no record"),
    ("job_not_held", "its job is held here no longer: %"),
)
_SETBACKS = (
    ("not_moved", "it could not be moved to queue %"),
    ("not_started", "it did not start within %"),
)


def _fields(connection: sqlite3.Connection) -> None:
    """Give fields of their own to what was told only by how a text begins."""
    for column in ("waiting_for", "end_reason", "leftover"):
        connection.execute(f"ALTER TABLE bursts ADD COLUMN {column} TEXT NOT NULL DEFAULT ''")
    connection.execute("ALTER TABLE placements ADD COLUMN setback TEXT NOT NULL DEFAULT ''")
    for number, error in connection.execute("SELECT id, error FROM bursts").fetchall():
        first, _, left = error.partition(_LEFT)
        if left:
            values = first.removesuffix("; "), left, number
            connection.execute("UPDATE bursts SET error = ?, leftover = ? WHERE id = ?", values)
    for reason, text in _END_REASONS:
        connection.execute(
            "UPDATE bursts SET end_reason = ? WHERE reason LIKE ?"
            " AND state IN ('draining', 'ending', 'ended', 'failed')",
            (reason, text),
        )
    connection.execute(
        "UPDATE bursts SET end_reason = CASE WHEN exit_code IS NOT NULL THEN 'job_ended' "
        "WHEN error != '' OR reason != '' THEN 'failed' ELSE 'on_demand' END "
        "WHERE end_reason = '' AND state IN ('draining', 'ending', 'ended', 'failed')"
    )
    for kind, text in _SETBACKS:
        connection.execute("UPDATE placements SET setback = ? WHERE reason LIKE ?", (kind, text))


STEPS: tuple[Step, ...] = (_first, _isolated, _restorable, _fields)
"""Step n brings version n to version n + 1."""

VERSION = len(STEPS)


def version_of(connection: sqlite3.Connection, path: str, steps: Sequence[Step] = STEPS) -> int:
    """Return the version of a ledger; 0 for an empty database.

    Raises:
        LedgerError: if it is something else, or newer than this program.
    """
    application = connection.execute("PRAGMA application_id").fetchone()[0]
    version = int(connection.execute("PRAGMA user_version").fetchone()[0])
    tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    if application != APPLICATION and (tables or version or application):
        raise LedgerError(path, "is a database, but not fluxburst's; it is left unchanged")
    if version > len(steps):
        raise LedgerError(
            path,
            f"was written by a newer fluxburst (schema {version}, this one knows {len(steps)}); "
            "it is left unchanged: install that version again, or use another --state-dir",
        )
    return version


def migrate(connection: sqlite3.Connection, version: int, steps: Sequence[Step] = STEPS) -> None:
    """Migrate a ledger from a version to this one, step by step, completely or not at all."""
    if version == len(steps):
        return
    connection.execute("BEGIN IMMEDIATE")
    try:
        for step in steps[version:]:
            step(connection)
        connection.execute(f"PRAGMA user_version = {len(steps)}")
    except BaseException:
        connection.rollback()
        raise
    connection.execute("COMMIT")
