"""Only one client at a time holds an instance: advisory locks that end with their process.

See flock(2).
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import socket
import sys
import time
from collections.abc import Iterable
from pathlib import Path

from fluxburst.errors import HeldError, LedgerError
from fluxburst.ledger.media import check_locks, no_locks

GLANCES, GLANCE_SECONDS = 10, 0.01
"""Number and interval of retries: a reader only has the lock for a moment."""


_NOT_WRITABLE = {errno.EROFS, errno.EACCES, errno.EPERM}

COMMAND_LENGTH = 120
"""Maximum length of a client's command line in its description."""


class InstanceLock:
    """Locks on files; either all are taken, or none.

    Args:
        paths: The files; they are created, and stay.
        or_none: Continue without files that do not exist and cannot be created: nobody holds them.
    """

    def __init__(self, paths: Iterable[Path], *, or_none: bool = False) -> None:
        self._paths = tuple(paths)
        self._or_none = or_none
        self._files: list[int] = []

    @property
    def held(self) -> bool:
        """Whether this client holds it."""
        return bool(self._files)

    def acquire(self) -> None:
        """Take it; no effect if it is held already.

        Raises:
            HeldError: if another client holds it; says which.
            LedgerError: if a file cannot be created, or its file system has no locks.
        """
        if self.held:
            return
        try:
            for path in self._paths:
                file = _opened(path, or_none=self._or_none)
                if file is not None:
                    self._files.append(_locked(file, path))
        except BaseException:
            self.release()
            raise

    def release(self) -> None:
        """Release it."""
        while self._files:
            os.close(self._files.pop())


def _locked(file: int, path: Path) -> int:
    try:
        check_locks(file, path)
        _take(file)
    except BlockingIOError:
        holder = os.pread(file, 500, 0).decode(errors="replace").strip()
        os.close(file)
        raise HeldError(str(path), holder or "unidentified") from None
    except LedgerError:
        os.close(file)
        raise
    except OSError as error:
        os.close(file)
        raise no_locks(path, error) from error
    with contextlib.suppress(OSError):  # the lock works even if a full disk takes no name
        os.ftruncate(file, 0)
        os.pwrite(file, _who().encode(), 0)
    return file


def _opened(path: Path, *, or_none: bool) -> int | None:
    """Open a lock file, creating it if necessary; an existing one need not be writable.

    None if it does not exist, cannot be created, and that is allowed.
    """
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        if error.errno in _NOT_WRITABLE:
            with contextlib.suppress(PermissionError):  # then nobody can tell whether it is held
                if path.exists():
                    return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
                if or_none and path.parent.is_dir():
                    return None
        raise LedgerError(str(path), f"cannot create the lock: {error.strerror}") from error


def _take(file: int) -> None:
    for _ in range(GLANCES):
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(GLANCE_SECONDS)
        else:
            return
    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def holder_of(paths: Iterable[Path]) -> str:
    """Return the holder of one of the locks, empty for none; changes nothing.

    Raises:
        LedgerError: if that is unknown.
    """
    for path in paths:
        try:
            file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            continue
        except OSError as error:
            raise LedgerError(str(path), f"cannot read the lock: {error.strerror}") from error
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            who = os.pread(file, 500, 0).decode(errors="replace").strip()
            return who or "an unidentified client"
        except OSError as error:
            raise no_locks(path, error) from error
        finally:
            os.close(file)
    return ""


def _who() -> str:
    """Return this client's description, for other clients."""
    program = Path(sys.argv[0]).name or "python"
    command = " ".join([program, *sys.argv[1:]])[:COMMAND_LENGTH]
    return f"{command}, process {os.getpid()} on {socket.gethostname()}"
