"""Writing to a ledger: to its file or, where that cannot be done, to a copy in memory.

What costs money has to be ended also while the disk is full. So a writer that may go on does: with
a copy in memory, on which everything is recorded that the file does not take. Once the file can be
written again, that is recorded there, step by step as it happened. What must be on the disk before
it is done is recorded in a transaction that is *durable*, which fails instead.
"""

from __future__ import annotations

import contextlib
import logging
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fluxburst.errors import LedgerError, writable
from fluxburst.ledger.opening import copy_of

Values = Sequence[Any] | Mapping[str, Any]

_log = logging.getLogger(__name__)

_UNWRITABLE = ("full", "disk I/O error", "readonly", "unable to open", "locked")
"""What SQLite says where a file that was fine cannot be written now (Result and Error Codes)."""


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
    return writable(value) if isinstance(value, str) else value


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


def is_unwritable(error: sqlite3.Error) -> bool:
    """Whether an error says that a file cannot be written now, and nothing about what is in it."""
    return any(words in str(error) for words in _UNWRITABLE)


def explained(error: sqlite3.Error) -> str:
    """Return what an error of SQLite means for whoever reads it."""
    text = str(error)
    if "readonly" in text or "unable to open" in text:
        return f"cannot be written ({text}): is its directory there, and writable?"
    if "not a database" in text or "malformed" in text:
        return f"cannot be read ({text}); it is left as it is"
    if "full" in text:
        return f"the disk is full ({text}): nothing is brought up until there is room"
    if "disk I/O" in text:
        return f"the disk fails ({text}): nothing is brought up until it can be written"
    return text
