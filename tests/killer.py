"""A process that kills itself at any one of the points that it passes."""

from __future__ import annotations

import os
import signal
import sqlite3
import threading
from typing import Any


class Killer:
    """Kills this process at its n-th point."""

    def __init__(self, at: int | None) -> None:
        self._at = at
        self._passed = 0
        self._lock = threading.Lock()

    def __call__(self, _: str = "") -> None:
        """Pass a point."""
        with self._lock:
            self._passed += 1
            if self._passed == self._at:
                os.kill(os.getpid(), signal.SIGKILL)

    def on_sql(self, statement: str) -> None:
        """Pass a point before everything that is written to a database."""
        if not statement.lstrip().upper().startswith(("SELECT", "PRAGMA")):
            self()

    def watch_sqlite(self) -> None:
        """Pass points in every database that is opened from now on."""
        connect = sqlite3.connect

        def watched(*arguments: Any, **options: Any) -> sqlite3.Connection:
            connection: sqlite3.Connection = connect(*arguments, **options)
            connection.set_trace_callback(self.on_sql)
            return connection

        sqlite3.connect = watched  # type: ignore[assignment]
