"""The file system of a directory: whether its files can be locked, and whether it is local.

SQLite and flock(2) are unreliable on network file systems (SQLite, "How To Corrupt An SQLite
Database File", 2.1; "Write-Ahead Logging", 1). Some have no locks at all, such as NFS without
lockd, and Lustre that is mounted without ``flock``.
"""

from __future__ import annotations

import errno
import fcntl
import re
from pathlib import Path

from fluxburst.errors import LedgerError

ELSEWHERE = "keep it in a local directory, set by --state-dir or FLUXBURST_STATE_DIR"
"""Advice for a ledger on a network file system."""

MOUNTS = Path("/proc/self/mountinfo")
"""The list of mounts, see proc_pid_mountinfo(5)."""

_NETWORK = frozenset(
    {"9p", "afs", "beegfs", "ceph", "cifs", "coda", "davfs", "glusterfs", "gpfs", "lustre"}
    | {"ncpfs", "nfs", "nfs4", "orangefs", "panfs", "pvfs2", "quobyte", "smb3", "smbfs", "wekafs"}
)
_LOCAL_FUSE = frozenset(
    {"bindfs", "encfs", "fuse-overlayfs", "gocryptfs", "lxcfs", "portal", "unionfs"}
)

_TAKEN = {errno.EAGAIN, errno.EACCES, errno.EINTR}
"""fcntl(2)'s errors if another process has a lock: then there are locks."""


def network_file_system(path: Path, mounts: Path = MOUNTS) -> str:
    """Return the type of a path's network file system; empty if it is local.

    A path that does not exist is on its next parent's. Also empty if that is unknown.
    """
    there = next(one for one in (path, *path.absolute().parents) if one.exists()).resolve()
    best, found = -1, ""
    try:
        lines = mounts.read_text(errors="replace").splitlines()
    except OSError:
        return ""
    for line in lines:
        before, _, after = line.partition(" - ")
        if len(before.split()) < 5 or not after:
            continue
        mounted = Path(
            re.sub(r"\\([0-7]{3})", lambda code: chr(int(code[1], 8)), before.split()[4])
        )
        depth = len(mounted.parts)
        if depth >= best and there.is_relative_to(mounted):  # a later mount hides earlier ones
            best, found = depth, after.split()[0]
    return found if _is_network(found) else ""


def _is_network(kind: str) -> bool:
    fuse, _, name = kind.partition(".")
    return kind in _NETWORK or (fuse == "fuse" and bool(name) and name not in _LOCAL_FUSE)


def check_locks(file: int, path: Path) -> None:
    """Check that a file can be locked like SQLite does; call it before any other lock on it.

    Raises:
        LedgerError: if it cannot, unless another process has it.
    """
    error = error_of_locking(file)
    if error is not None:
        raise no_locks(path, error) from error


def error_of_locking(file: int) -> OSError | None:
    """Return why a file cannot be locked like SQLite does; None if it can, or is locked."""
    try:
        fcntl.lockf(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        fcntl.lockf(file, fcntl.LOCK_UN)
    except OSError as error:
        return None if error.errno in _TAKEN else error
    return None


def no_locks(path: Path, error: OSError) -> LedgerError:
    """Return the error for a file that cannot be locked."""
    kind = network_file_system(path)
    where = f"its file system ({kind})" if kind else "its file system"
    return LedgerError(str(path), f"{where} cannot lock files ({error.strerror}): {ELSEWHERE}")
