"""The ledger's file: opened, read, and written in transactions, or a copy of it in memory."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fluxburst.errors import LedgerError
from fluxburst.ledger.opening import to_read, to_write
from fluxburst.ledger.schema import migrate, version_of
from fluxburst.ledger.writing import Writer, explained, texts_writable


class LedgerFile:
    """The file of one instance's ledger, and its transactions.

    Args:
        path: The file; None to keep it in memory only.
        instance: The name of the instance that it is for; empty to take what the file says.
        read_only: Only look at it; a file that is not there is an empty ledger.
        goes_on: Where the file cannot be written any more, go on in memory, save for transactions
            that are durable.
        starts_without: Go on in memory also where it cannot be written from the start.

    Raises:
        LedgerError: if it cannot be opened, is no ledger, is newer than this program, or that of
            another instance. The file is left as it is.
    """

    def __init__(
        self,
        path: Path | None,
        instance: str,
        *,
        read_only: bool = False,
        goes_on: bool = False,
        starts_without: bool = False,
    ) -> None:
        self.path = str(path or "")
        self._file = path
        self._copies = 0
        self._undone = 0  # how often what was written may not have lasted
        self._writer: Writer | None = None
        with self._speaking():
            self._reading = to_read(path)
            try:
                self._refuse_anothers(self._reading.connection, instance)
                if not read_only:
                    self._writer = Writer(
                        self.path,
                        lambda: self._opened(instance),
                        self._reading.connection,
                        goes_on=goes_on,
                        starts_without=starts_without,
                    )
            except BaseException:
                self._reading.close()
                raise
            if self._writer is not None:
                self._reading.close()

    def _refuse_anothers(self, connection: sqlite3.Connection, instance: str) -> None:
        """Refuse the ledger of another instance. It is only looked at: it must stay as it is."""
        row = connection.execute("SELECT name FROM instance").fetchone()
        if row is not None and instance and row["name"] != instance:
            raise LedgerError(
                self.path,
                f"is that of the instance {row['name']}, not of {instance}; it is left as it is: "
                "name another --state-dir",
            )

    def _opened(self, instance: str) -> sqlite3.Connection:
        """Return the file, opened for writing, with the tables of this version."""
        connection = to_write(self._file)
        try:
            # What is recorded must outlast the machine: money is spent by it.
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("PRAGMA foreign_keys = ON")
            migrate(connection, version_of(connection, self.path))
            if connection.execute("SELECT name FROM instance").fetchone() is None:
                connection.execute("INSERT INTO instance VALUES (?)", (instance,))
        except BaseException:
            connection.close()
            raise
        return connection

    def close(self) -> None:
        """Close the file; what it does not take now is lost, which is logged."""
        if self._writer is not None:
            self._writer.close()
        else:
            self._reading.close()

    @property
    def unwritable(self) -> str:
        """Why the file does not have all that was recorded; empty where it has."""
        return "" if self._writer is None else self._writer.problem

    def catch_up(self) -> None:
        """Write to the file what is only in memory, if it can be written now."""
        if self._writer is not None and self._writer.problem:
            self._writer.catch_up()
            self._copies += 1

    def require_file(self) -> None:
        """Make sure that the file has all that was recorded.

        Raises:
            LedgerError: if it cannot be written.
        """
        self.catch_up()
        if self.unwritable:
            raise LedgerError(self.path, self.unwritable)

    @property
    def _connection(self) -> sqlite3.Connection:
        return self._reading.connection if self._writer is None else self._writer.connection

    def _look_again(self) -> None:
        """Read a file anew of which a copy is looked at, once others have written to it."""
        if self._writer is None and self._reading.stale():
            former, self._reading = self._reading, to_read(self._file)
            former.close()
            self._copies += 1

    @property
    def instance(self) -> str:
        """The name of the instance that it is for; empty where it has not been written yet."""
        row = self._one("SELECT name FROM instance")
        return "" if row is None else str(row["name"])

    @property
    def schema(self) -> int:
        """The version of the tables in its file, which may be older than those that are seen."""
        if self._writer is None and self._reading.schema:
            return self._reading.schema
        row = self._one("PRAGMA user_version")
        assert row is not None
        return int(row[0])

    @property
    def written_by_others(self) -> object:
        """Something that differs once another process has written to it."""
        row = self._one("PRAGMA data_version")
        assert row is not None
        return self._copies, int(row[0])

    @contextmanager
    def transaction(self, *, durable: bool = False) -> Iterator[None]:
        """Record everything within together, or none of it.

        Args:
            durable: It must be in the file. Otherwise a ledger that goes on keeps in memory what
                the file does not take.

        Raises:
            LedgerError: if it cannot be recorded.
        """
        if self._connection.in_transaction:
            if durable and self.unwritable:
                raise LedgerError(self.path, self.unwritable)
            yield
            return
        with self._speaking():
            self._to_write.begin(durable=durable)
        try:
            yield
        except BaseException:
            self._to_write.roll_back()
            self._undone += 1
            raise
        with self._speaking():
            self._to_write.commit()

    @property
    def _to_write(self) -> Writer:
        if self._writer is None:
            raise LedgerError(self.path, "it was opened to be read: it cannot be written")
        return self._writer

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """See one state of the ledger within, whatever others write meanwhile."""
        if self._connection.in_transaction:
            yield
            return
        with self._speaking():
            self._look_again()
            self._connection.execute("BEGIN")
        try:
            yield
        finally:
            self._connection.rollback()

    @contextmanager
    def _speaking(self) -> Iterator[None]:
        """Turn what SQLite raises into one clear error."""
        try:
            yield
        except sqlite3.Error as error:
            self._undone += 1
            raise LedgerError(self.path, explained(error)) from error
        except OSError as error:
            raise LedgerError(self.path, error.strerror or str(error)) from error

    def _run(self, statement: str, values: Sequence[Any] | Mapping[str, Any]) -> None:
        with self._speaking():
            self._to_write.run(statement, values)

    def _run_many(self, statement: str, rows: Sequence[Sequence[Any]]) -> None:
        with self._speaking():
            self._to_write.run_many(statement, rows)

    def _all(self, question: str, *values: Any) -> list[sqlite3.Row]:
        with self._speaking():
            if not self._connection.in_transaction:
                self._look_again()
            return self._connection.execute(question, texts_writable(values)).fetchall()

    def _one(self, question: str, *values: Any) -> sqlite3.Row | None:
        rows = self._all(question, *values)
        return rows[0] if rows else None
