"""The location of an instance's ledger, and the right to write to it."""

from __future__ import annotations

import errno
import functools
import hashlib
import logging
import os
import re
import tempfile
import weakref
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from fluxburst.errors import FluxUnavailableError, InstanceError, LedgerError
from fluxburst.ledger.lock import InstanceLock, holder_of
from fluxburst.ledger.media import ELSEWHERE, network_file_system
from fluxburst.ledger.opening import LOCK
from fluxburst.ledger.store import Ledger

__all__ = [
    "FILE",
    "LOCK",
    "VARIABLE",
    "LedgerPlace",
    "named_directory",
    "state_directory",
    "why_unwritable",
]

VARIABLE = "FLUXBURST_STATE_DIR"
FILE = "ledger.sqlite"

_ROOM = 64 * 1024
"""How many free bytes a ledger needs at least to continue."""

_FULL = {errno.ENOSPC, errno.EDQUOT}
_BROKEN = _FULL | {errno.EROFS, errno.EIO}

_log = logging.getLogger(__name__)

_in_memory: weakref.WeakKeyDictionary[Any, Ledger] = weakref.WeakKeyDictionary()


def named_directory(explicit: Path | None, environ: Mapping[str, str] | None = None) -> Path | None:
    """Return the named directory, or ``FLUXBURST_STATE_DIR``'s; None if neither is set."""
    environ = os.environ if environ is None else environ
    if explicit is not None:
        return explicit
    return Path(environ[VARIABLE]) if environ.get(VARIABLE) else None


def state_directory(
    explicit: Path | None, instance: str, environ: Mapping[str, str] | None = None
) -> Path:
    """Return the state directory of an instance.

    That is the named directory, ``FLUXBURST_STATE_DIR``'s, or one for each instance in
    ``$XDG_STATE_HOME/fluxburst`` (XDG Base Directory Specification).
    """
    environ = os.environ if environ is None else environ
    named = named_directory(explicit, environ)
    if named is not None:
        return named
    home = environ.get("XDG_STATE_HOME") or Path(environ.get("HOME", "/")) / ".local" / "state"
    readable = re.sub(r"[^A-Za-z0-9.]+", "-", instance).strip("-")[:40]
    digest = hashlib.sha256(instance.encode()).hexdigest()[:8]
    return Path(home) / "fluxburst" / f"{readable}-{digest}"


def why_unwritable(directory: Path) -> str:
    """Return why nobody can write to a ledger in a directory now; empty if it is writable.

    It tries, with an unnamed file. A missing permission of this user alone does not count.
    """
    error = _error_of_writing(directory)
    if error is not None and error.errno in _BROKEN:
        return f"{directory} cannot be written: {error.strerror}"
    return ""


def is_full(directory: Path) -> bool:
    """Whether a ledger in a directory has no room left: on its disk, or in a quota."""
    error = _error_of_writing(directory)
    return error is not None and error.errno in _FULL


def _error_of_writing(directory: Path) -> OSError | None:
    try:
        with tempfile.TemporaryFile(dir=directory) as file:
            file.write(b"\0" * _ROOM)
    except OSError as error:
        return error
    return None


class LedgerPlace:
    """The ledger of one client: read until the client acts, then held and written.

    Args:
        instance: The instance, of :class:`~fluxburst.flux.protocol.Instance`.
        directory: The named directory; None for the usual one.
        in_memory: Keep it in memory, for all clients of the same instance object.
    """

    def __init__(self, instance: Any, directory: Path | None, *, in_memory: bool) -> None:
        self._instance = instance
        self._explicit = directory
        self._in_memory = in_memory and directory is None
        self._lock: InstanceLock | None = None

    @property
    def directory(self) -> Path | None:
        """Its path; None for memory."""
        if self._in_memory:
            return None
        # A named directory needs no instance, so do not ask for its name.
        return named_directory(self._explicit) or state_directory(None, self._instance.name)

    @property
    def held(self) -> bool:
        """Whether this client holds the instance."""
        return self._lock is not None

    @functools.cached_property
    def ledger(self) -> Ledger:
        """The ledger: opened for reading, and once the instance is held, for writing.

        It is opened on first use.

        Raises:
            LedgerError: if opening it fails.
        """
        self._check_owner()
        return self._shared() if self.directory is None else self._read()

    def why_unwritable(self) -> str:
        """Return why the ledger is not writable now; empty if it is."""
        if self._is_open and self.ledger.unwritable:
            return self.ledger.unwritable
        directory = self.directory
        return "" if directory is None else why_unwritable(directory)

    def holder(self) -> str:
        """Return the holder of the instance, possibly this client; empty for none.

        Raises:
            LedgerError: if that is unknown.
        """
        return holder_of(self._lock_files())

    def hold(self, *, starts_without: bool = False, without_lock: bool = False) -> bool:
        """Hold the instance, and open its ledger for writing; return whether that is new.

        Args:
            starts_without: Continue in memory if the existing ledger is not writable.
            without_lock: Continue even if there is no lock, and none can be created.

        Raises:
            HeldError: if another client holds it; says which.
            NotOwnerError: if this process does not belong to the instance's owner, even if to root.
            LedgerError: if the ledger cannot be opened for writing.
        """
        if self.held:
            return False
        self._check_owner(to_act=True)
        directory = self.directory
        if directory is not None:
            try:
                directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            except OSError as error:
                problem = f"cannot create its directory: {error.strerror}"
                raise LedgerError(str(directory / FILE), problem) from error
        lock = InstanceLock(self._lock_files(), or_none=without_lock)
        lock.acquire()
        try:
            if directory is not None:
                self._close_ledger()
                self.ledger = Ledger(
                    directory / FILE,
                    self._instance.name,
                    goes_on=True,
                    starts_without=starts_without,
                )
        except BaseException:
            lock.release()
            raise
        self._lock = lock
        kind = "" if directory is None else network_file_system(directory)
        if kind:
            _log.warning(
                "the ledger in %s is on a network file system (%s), whose locks are unreliable; %s",
                directory,
                kind,
                ELSEWHERE,
            )
        return True

    def close(self) -> None:
        """Close the ledger, and release the instance."""
        self._close_ledger()
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    @property
    def _is_open(self) -> bool:
        return "ledger" in vars(self)

    def _lock_files(self) -> list[Path]:
        directory = self.directory
        if directory is None:
            return []
        beside = self._instance.lock_file
        return [directory / LOCK, *([beside] if beside is not None else [])]

    def _close_ledger(self) -> None:
        if not self._is_open:
            return
        if not self._in_memory:
            self.ledger.close()
        del self.ledger  # it is reopened on the next use

    def _read(self) -> Ledger:
        directory = self.directory
        assert directory is not None
        return Ledger(directory / FILE, self._instance.name, read_only=True)

    def _check_owner(self, *, to_act: bool = False) -> None:
        """Reject a guest at once: an empty ledger of his own would be misleading.

        An unreachable instance decides on nobody's rights, and its ledger is readable.
        """
        with suppress(FluxUnavailableError, InstanceError):
            self._instance.check_owner(to_act=to_act)

    def _shared(self) -> Ledger:
        if self._instance not in _in_memory:
            ledger = Ledger(None, self._instance.name)
            weakref.finalize(self._instance, ledger.close)
            _in_memory[self._instance] = ledger
        return _in_memory[self._instance]
