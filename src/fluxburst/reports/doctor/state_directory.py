"""The directory of the ledger: whether it is usable and private."""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

from fluxburst.ledger.location import why_unwritable
from fluxburst.ledger.media import ELSEWHERE, error_of_locking, network_file_system
from fluxburst.plugin.base import Finding


def check_directory(directory: Path) -> Iterator[Finding]:
    """Check an existing state directory: whether it is writable, and by whom."""
    yield from _check_medium(directory)
    broken = why_unwritable(directory)
    if broken:
        advice = "free space or repair the disk: until then nothing is provisioned"
        yield Finding("error", broken, advice)
    elif not os.access(directory, os.W_OK | os.X_OK):
        text = f"user {os.getuid()} cannot write to {directory}"
        advice = "make fluxburst's user its owner, or use another --state-dir"
        yield Finding("error", text, advice)
    else:
        yield from _check_mode(directory)


def check_absent(directory: Path) -> Iterator[Finding]:
    """Check a state directory that does not exist yet: whether it can be created, and on what."""
    above = next(parent for parent in directory.absolute().parents if parent.exists())
    if not above.is_dir() or not os.access(above, os.W_OK | os.X_OK):
        text = f"{directory} does not exist, and cannot be created in {above}"
        yield Finding("error", text, "create it with mode 0700, or use another --state-dir")
        return
    yield from _check_medium(above)
    yield Finding("ok", f"{directory} does not exist yet, but can be created")


def _check_medium(directory: Path) -> Iterator[Finding]:
    """Check a directory's file system: whether it can lock files, tested on an unnamed one."""
    kind = network_file_system(directory)
    if kind:
        text = f"{directory} is on a network file system ({kind}), whose locks are unreliable"
        yield Finding("warning", text, ELSEWHERE)
    try:
        with tempfile.TemporaryFile(dir=directory) as file:
            error = error_of_locking(file.fileno())
    except OSError:
        return  # another check reports that it is not writable
    if error is not None:
        text = f"the file system of {directory} cannot lock files ({error.strerror})"
        yield Finding("error", text, ELSEWHERE)


def _check_mode(directory: Path) -> Iterator[Finding]:
    mode = stat.S_IMODE(directory.stat().st_mode)
    if mode != 0o700:
        text = f"{directory} has mode {mode:04o}: others may access the ledger"
        yield Finding("warning", text, f"chmod 0700 {directory}")
    else:
        yield Finding("ok", f"{directory} exists, and only its owner can use it")
