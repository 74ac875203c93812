"""Opens the file of a ledger, including older versions and read-only media.

Readers change nothing: an older version is converted in a copy in memory, and so is a file that
SQLite cannot read in place without writing beside it (Write-Ahead Logging,
"Read-Only Databases"; URI Filenames, ``immutable``).
"""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
import tempfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from fluxburst.errors import LedgerError
from fluxburst.ledger.media import check_locks
from fluxburst.ledger.schema import VERSION, migrate, version_of

BUSY_SECONDS = 10.0
"""How long to wait for another process that writes: reading processes never lock it."""

IN_MEMORY = ":memory:"

_UNWRITABLE = ("full", "disk I/O error", "readonly", "unable to open", "locked")
"""SQLite's messages if a good file is not writable now (Result and Error Codes)."""

LOCK = "lock"
"""The file beside a ledger that its holder has locked."""


class Reading(NamedTuple):
    """A ledger opened for reading.

    Attributes:
        connection: The connection, with the tables of this version.
        schema: The version of the tables in the file; 0 if nothing is written yet.
        stale: Whether the file has changed since it was copied, or exists by now.
        close: Closes everything.
    """

    connection: sqlite3.Connection
    schema: int
    stale: Callable[[], bool]
    close: Callable[[], None]


def to_read(path: Path | None) -> Reading:
    """Open a ledger for reading; one that does not exist, or is not initialized yet, is empty.

    Raises:
        LedgerError: if it is unreadable, is something else, or is newer than this program.
        sqlite3.Error: if SQLite cannot read it.
    """
    if path is None or not _is_there(path):
        return _empty(path)
    _check_locks(path.with_name(LOCK))
    source, in_place = _readable(path)
    try:
        version = version_of(source, str(path))
        if not version:
            source.close()
            return _empty(path)
        if version == VERSION and in_place:
            return Reading(source, version, lambda: False, source.close)
        copy = _migrated_copy(source, version)
    except BaseException:
        source.close()
        raise
    seen = _seen(source, path, in_place)

    def close() -> None:
        copy.close()
        source.close()

    return Reading(copy, version, lambda: _seen(source, path, in_place) != seen, close)


def to_write(path: Path | None) -> sqlite3.Connection:
    """Open a ledger for writing; it is created if it does not exist."""
    if path is None:
        return connected(IN_MEMORY)
    return connected(f"{path.resolve().as_uri()}?mode=rwc")


def connected(where: str) -> sqlite3.Connection:
    """Return a connection to a database, by its URI."""
    # One thread uses it, but garbage collection may close it in another.
    connection = sqlite3.connect(
        where, uri=True, isolation_level=None, timeout=BUSY_SECONDS, check_same_thread=False
    )
    connection.row_factory = sqlite3.Row
    return connection


def copy_of(source: sqlite3.Connection) -> sqlite3.Connection:
    """Return a copy of a database in memory."""
    copy = connected(IN_MEMORY)
    source.backup(copy)
    return copy


def is_unwritable(error: sqlite3.Error) -> bool:
    """Whether an error means that a file is not writable now, rather than that it is corrupt."""
    return any(words in str(error) for words in _UNWRITABLE)


def explained(error: sqlite3.Error) -> str:
    """Explain an error of SQLite."""
    text = str(error)
    if "readonly" in text or "unable to open" in text:
        return f"cannot be written ({text}): does its directory exist, and is it writable?"
    if "not a database" in text or "malformed" in text:
        return f"cannot be read ({text}); it is left unchanged"
    if "full" in text:
        return f"the disk is full ({text}): nothing is provisioned until there is room"
    if "disk I/O" in text:
        return f"the disk fails ({text}): nothing is provisioned until it is writable"
    return text


def _is_there(path: Path) -> bool:
    try:
        with path.open("rb"):
            return True  # SQLite itself does not say why it cannot read a file
    except FileNotFoundError:
        return False
    except OSError as error:
        raise LedgerError(str(path), f"cannot be read: {error.strerror}") from error


def _check_locks(lock: Path) -> None:
    """Check that files in a ledger's place can be locked: without locks, SQLite waits forever."""
    with contextlib.suppress(FileNotFoundError, PermissionError), lock.open("rb") as file:
        check_locks(file.fileno(), lock)


def _empty(path: Path | None) -> Reading:
    connection = connected(IN_MEMORY)
    migrate(connection, 0)

    def made() -> bool:
        return path is not None and path.exists() and path.stat().st_size > 0

    return Reading(connection, 0, made, connection.close)


def _migrated_copy(source: sqlite3.Connection, version: int) -> sqlite3.Connection:
    copy = copy_of(source)
    try:
        migrate(copy, version)
    except BaseException:
        copy.close()
        raise
    return copy


def _seen(source: sqlite3.Connection, path: Path, in_place: bool) -> object:
    """Return a value that changes when others write to a ledger."""
    if in_place:
        return source.execute("PRAGMA data_version").fetchone()[0]
    files = [file.stat() for file in (path, _log_of(path)) if file.exists()]
    return [(file.st_ino, file.st_mtime_ns, file.st_size) for file in files]


def _log_of(path: Path) -> Path:
    """Return the paths of SQLite's latest writes."""
    return path.with_name(f"{path.name}-wal")


def _readable(path: Path) -> tuple[sqlite3.Connection, bool]:
    """Return a connection to a readable ledger, and whether that is the file itself."""
    uri = path.resolve().as_uri()
    connection = connected(f"{uri}?mode=ro")
    try:
        connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    except sqlite3.Error as error:
        connection.close()
        if not _needs_writing(error):
            raise
    else:
        return connection, True
    log = _log_of(path)
    if log.exists() and log.stat().st_size:
        return _recovered(path, log), False
    return connected(f"{uri}?mode=ro&immutable=1"), False


def _needs_writing(error: sqlite3.Error) -> bool:
    """Whether SQLite failed to read a file because it could not create its own beside it."""
    return any(words in str(error) for words in ("readonly", "unable to open", "full", "disk I/O"))


def _recovered(path: Path, log: Path) -> sqlite3.Connection:
    """Return a copy of a ledger, including its log from before a crash."""
    with tempfile.TemporaryDirectory(prefix="fluxburst-") as directory:
        copied = Path(directory) / path.name
        shutil.copyfile(path, copied)
        shutil.copyfile(log, _log_of(copied))
        with closing(connected(copied.as_uri())) as source:
            return copy_of(source)
