"""The ledger's file: opened, read, and written in transactions, or a copy of it in memory.

Bursts that cost money must end even while the disk is full. So a permitted writer continues on
a copy in memory, which records everything that the file does not take. Once the file is
writable again, the records are written to it in their original steps. What must be on disk before
an action is recorded in a *durable* transaction, which fails instead.
"""

from __future__ import annotations

import contextlib
import logging
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fluxburst.errors import LedgerError, writable
from fluxburst.ledger.opening import copy_of, explained, is_unwritable, to_read, to_write
from fluxburst.ledger.schema import migrate, version_of

Values = Sequence[Any] | Mapping[str, Any]

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Statement:
    """A write: a statement, once or with several rows of values."""

    text: str
    values: Any
    many: bool = False

    def run(self, connection: sqlite3.Connection) -> None:
        if self.many:
            connection.executemany(self.text, [texts_writable(row) for row in self.values])
        else:
            connection.execute(self.text, texts_writable(self.values))


def texts_writable(values: Values) -> Values:
    """Return a statement's values, with foreign texts made acceptable to SQLite."""
    if isinstance(values, Mapping):
        return {name: _text(value) for name, value in values.items()}
    return [_text(value) for value in values]


def _text(value: Any) -> Any:
    plain = not isinstance(value, str) or value.isascii()
    return value if plain else writable(value)


class Writer:
    """Writes to a ledger.

    Args:
        path: Path of its file, for messages; empty for memory.
        open_file: Opens the file for writing, with the tables of this version.
        source: The file, opened for reading.
        goes_on: Whether to continue in memory once the file is not writable.
        starts_without: Likewise if it is not writable from the start.

    Attributes:
        connection: Has all records: the file or, without it, the copy in memory.
        problem: Why the file is not writable; empty while it is.

    Raises:
        sqlite3.Error: if the file cannot be opened, and continuing is not permitted.
    """

    def __init__(
        self,
        path: str,
        open_file: Callable[[], sqlite3.Connection],
        source: sqlite3.Connection,
        *,
        goes_on: bool = False,
        starts_without: bool = False,
    ) -> None:
        self._path = path
        self._open_file = open_file
        self._goes_on = goes_on
        self._file: sqlite3.Connection | None = None
        self._copy: sqlite3.Connection | None = None
        self._unwritten: list[_Statement] = []
        self._begun: list[_Statement] = []
        self._durable = False
        self.problem = ""
        try:
            self.connection = self._file = open_file()
        except sqlite3.Error as error:
            if not (starts_without and is_unwritable(error)):
                raise
            self.connection = self._copy = copy_of(source)
            self._said(error)

    def close(self) -> None:
        """Close it; records that the file does not take now are lost, with a warning."""
        if self._copy is not None and not self.catch_up():
            if self._unwritten:
                _log.warning("ledger %s: later events are not recorded", self._path)
            self._copy.close()
        if self._file is not None:
            self._file.close()

    # --- transactions ----------------------------------------------------------------------

    def begin(self, *, durable: bool) -> None:
        """Begin a transaction; a durable one is in the file once committed.

        Raises:
            LedgerError: if it must be durable, and the file is not writable.
        """
        self._durable = durable
        if durable:
            self.require_file()
        self._begun = []
        try:
            self.connection.execute("BEGIN IMMEDIATE")
        except sqlite3.Error as error:
            self._fall_back(error)

    def commit(self) -> None:
        """End a transaction."""
        try:
            self.connection.execute("COMMIT")
        except sqlite3.Error as error:
            if self.connection.in_transaction:
                self.connection.rollback()
            self._fall_back(error)
            self.connection.execute("COMMIT")
        self._keep(self._begun)
        self._begun = []

    def roll_back(self) -> None:
        """Undo a transaction."""
        self._begun = []
        self.connection.rollback()

    def run(self, text: str, values: Values) -> None:
        """Write something: in the current transaction, or in a separate one."""
        self._do(_Statement(text, values))

    def run_many(self, text: str, rows: Sequence[Sequence[Any]]) -> None:
        """Write something for several rows of values."""
        self._do(_Statement(text, rows, many=True))

    def _do(self, statement: _Statement) -> None:
        if self.connection.in_transaction:
            self._add(statement)
            return
        self.begin(durable=False)
        try:
            self._add(statement)
        except BaseException:
            self.roll_back()
            raise
        self.commit()

    def _add(self, statement: _Statement) -> None:
        try:
            statement.run(self.connection)
        except sqlite3.Error as error:
            self._fall_back(error)
            statement.run(self.connection)
        self._begun.append(statement)

    # --- without the file ------------------------------------------------------------------

    def require_file(self) -> None:
        """Ensure that all records are in the file.

        Raises:
            LedgerError: if the file is not writable.
        """
        if self.problem and not self.catch_up():
            raise LedgerError(self._path, self.problem)

    def catch_up(self) -> bool:
        """Write records from memory to the file; return whether the file has all of them."""
        if self._copy is None:
            return True
        try:
            if self._file is None:
                self._file = self._open_file()
            self._file.execute("BEGIN IMMEDIATE")
            for statement in self._unwritten:
                statement.run(self._file)
            self._file.execute("COMMIT")
        except sqlite3.Error as error:
            if self._file is not None and self._file.in_transaction:
                self._file.rollback()
            self.problem = explained(error)
            return False
        self._copy.close()
        self.connection = self._file
        self._copy, self.problem, self._unwritten = None, "", []
        _log.info("ledger %s: writable again, all events are recorded", self._path)
        return True

    def _fall_back(self, error: sqlite3.Error) -> None:
        """Continue in memory, including the current transaction.

        Raises:
            sqlite3.Error: the error, if continuing is not permitted, or would not help.
        """
        if self._copy is not None or not (self._goes_on and is_unwritable(error)):
            raise error
        assert self._file is not None
        with contextlib.suppress(sqlite3.Error):
            self._file.rollback()
        self.connection = self._copy = copy_of(self._file)
        self._said(error)
        if self._durable:
            raise error
        self._copy.execute("BEGIN IMMEDIATE")
        for statement in self._begun:
            statement.run(self._copy)

    def _said(self, error: sqlite3.Error) -> None:
        self.problem = explained(error)
        _log.info("ledger %s: %s; keeping events in memory", self._path, self.problem)

    def _keep(self, statements: Sequence[_Statement]) -> None:
        if self._copy is not None:
            self._unwritten += statements


class LedgerFile:
    """The file of one instance's ledger, and its transactions.

    Args:
        path: The file; None for memory only.
        instance: The name of its instance; empty for the one in the file.
        read_only: Open for reading; a file that does not exist is an empty ledger.
        goes_on: If the file becomes unwritable, continue in memory, except for durable
            transactions.
        starts_without: Continue in memory even if it is unwritable from the start.

    Raises:
        LedgerError: if it cannot be opened, is no ledger, is newer than this program, or belongs to
            another instance. The file is left unchanged.
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
        self._undone = 0  # how often written records may not have lasted
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
        """Refuse the ledger of another instance, without changing it."""
        row = connection.execute("SELECT name FROM instance").fetchone()
        if row is not None and instance and row["name"] != instance:
            raise LedgerError(
                self.path,
                f"belongs to the instance {row['name']}, not to {instance}; it is left unchanged: "
                "use another --state-dir",
            )

    def _opened(self, instance: str) -> sqlite3.Connection:
        """Return the file, opened for writing, with the tables of this version."""
        connection = to_write(self._file)
        try:
            # Records must survive a machine crash: money depends on them.
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
        """Close the file; records that it does not take now are lost, with a warning."""
        if self._writer is not None:
            self._writer.close()
        else:
            self._reading.close()

    @property
    def unwritable(self) -> str:
        """Why the file lacks some records; empty if it has all."""
        return "" if self._writer is None else self._writer.problem

    def catch_up(self) -> None:
        """Write records from memory to the file, if possible."""
        if self._writer is not None and self._writer.problem:
            self._writer.catch_up()
            self._copies += 1

    def require_file(self) -> None:
        """Ensure that the file has all records.

        Raises:
            LedgerError: if it is not writable.
        """
        self.catch_up()
        if self.unwritable:
            raise LedgerError(self.path, self.unwritable)

    @property
    def _connection(self) -> sqlite3.Connection:
        return self._reading.connection if self._writer is None else self._writer.connection

    def _check_again(self) -> None:
        """Reread a file that is used through a copy, once others have written to it."""
        if self._writer is None and self._reading.stale():
            former, self._reading = self._reading, to_read(self._file)
            former.close()
            self._copies += 1

    @property
    def instance(self) -> str:
        """The name of its instance; empty if it has not been written yet."""
        row = self._one("SELECT name FROM instance")
        return "" if row is None else str(row["name"])

    @property
    def schema(self) -> int:
        """The version of the tables in its file, which may be older than this program's."""
        if self._writer is None and self._reading.schema:
            return self._reading.schema
        row = self._one("PRAGMA user_version")
        assert row is not None
        return int(row[0])

    @property
    def written_by_others(self) -> object:
        """A value that changes when another process writes to it."""
        row = self._one("PRAGMA data_version")
        assert row is not None
        return self._copies, int(row[0])

    @contextmanager
    def transaction(self, *, durable: bool = False) -> Iterator[None]:
        """Record everything within together, or none of it.

        Args:
            durable: It must be in the file. Otherwise, if permitted, the ledger keeps in memory
                what the file does not take.

        Raises:
            LedgerError: if recording fails.
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
            raise LedgerError(self.path, "it was opened for reading only")
        return self._writer

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """See one state of the ledger within, whatever others write meanwhile."""
        if self._connection.in_transaction:
            yield
            return
        with self._speaking():
            self._check_again()
            self._connection.execute("BEGIN")
        try:
            yield
        finally:
            self._connection.rollback()

    @contextmanager
    def _speaking(self) -> Iterator[None]:
        """Turn SQLite's errors into one clear error."""
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
                self._check_again()
            return self._connection.execute(question, texts_writable(values)).fetchall()

    def _one(self, question: str, *values: Any) -> sqlite3.Row | None:
        rows = self._all(question, *values)
        return rows[0] if rows else None
