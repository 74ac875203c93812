"""The ledger's file: opened, read, and written in transactions, or a copy of it in memory.

What costs money has to be ended also while the disk is full. So a writer that may go on does: with
a copy in memory, on which everything is recorded that the file does not take. Once the file can be
written again, that is recorded there, step by step as it happened. What must be on the disk before
it is done is recorded in a transaction that is *durable*, which fails instead.
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
    """What is to be written: a statement, once or with several rows of values."""

    text: str
    values: Any
    many: bool = False

    def run(self, connection: sqlite3.Connection) -> None:
        if self.many:
            connection.executemany(self.text, [texts_writable(row) for row in self.values])
        else:
            connection.execute(self.text, texts_writable(self.values))


def texts_writable(values: Values) -> Values:
    """Return what goes with a statement, with texts that SQLite takes, whoever wrote them."""
    if isinstance(values, Mapping):
        return {name: _text(value) for name, value in values.items()}
    return [_text(value) for value in values]


def _text(value: Any) -> Any:
    plain = not isinstance(value, str) or value.isascii()
    return value if plain else writable(value)


class Writer:
    """Writes to a ledger.

    Args:
        path: Where its file is, for messages; empty for memory.
        open_file: Opens the file for writing, with the tables of this version.
        source: The file, open to be read.
        goes_on: Whether to go on in memory where the file cannot be written any more.
        starts_without: Whether to, where that is so from the start.

    Attributes:
        connection: What has all that was recorded: the file or, without it, the copy in memory.
        problem: Why the file cannot be written; empty while it can.

    Raises:
        sqlite3.Error: if the file cannot be opened, and it must not go on.
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
        """Close it; what the file does not take now is lost, which is said."""
        if self._copy is not None and not self.catch_up():
            if self._unwritten:
                _log.warning("ledger %s: what happened since is not recorded", self._path)
            self._copy.close()
        if self._file is not None:
            self._file.close()

    # --- transactions ----------------------------------------------------------------------

    def begin(self, *, durable: bool) -> None:
        """Begin a transaction; one that is durable is in the file once it has been committed.

        Raises:
            LedgerError: if it is to be durable, and the file cannot be written.
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
        """Write something: in the transaction under way, or in one of its own."""
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
        """Make sure that all that was recorded is in the file.

        Raises:
            LedgerError: if the file cannot be written.
        """
        if self.problem and not self.catch_up():
            raise LedgerError(self._path, self.problem)

    def catch_up(self) -> bool:
        """Write to the file what is only in memory; whether the file has all of it."""
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
        _log.info("ledger %s: it can be written again, and has all that happened", self._path)
        return True

    def _fall_back(self, error: sqlite3.Error) -> None:
        """Go on in memory, with the transaction under way.

        Raises:
            sqlite3.Error: the error, where that is not to be done, or would not help.
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
        _log.info("ledger %s: %s; what happens is kept in memory", self._path, self.problem)

    def _keep(self, statements: Sequence[_Statement]) -> None:
        if self._copy is not None:
            self._unwritten += statements


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

    def _check_again(self) -> None:
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
            self._check_again()
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
                self._check_again()
            return self._connection.execute(question, texts_writable(values)).fetchall()

    def _one(self, question: str, *values: Any) -> sqlite3.Row | None:
        rows = self._all(question, *values)
        return rows[0] if rows else None
