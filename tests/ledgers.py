"""Ledgers as every version of fluxburst that there was has written them."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

DUMPS = {
    int(file.stem.removeprefix("schema-")): file
    for file in (Path(__file__).parent / "data" / "ledgers").glob("schema-*.sql")
}
"""For each schema, the SQL that makes a ledger of it. What has landed here never changes."""

INSTANCE = "lead:/run/flux"
"""Whose these ledgers are."""

ENDED, LIVES, JOB = "mock-aaaaaaaaaaaa", "mock-bbbbbbbbbbbb", 101
"""A burst that ended, one that lives, and a job of the first; they are in each."""


def make_ledger(schema: int, path: Path) -> Path:
    """Make the ledger of a schema in a file, and return it."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.executescript(DUMPS[schema].read_text())
        connection.execute("PRAGMA journal_mode = WAL")
    return path
