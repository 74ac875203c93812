"""What may be wrong with where the ledger is kept, and what to do about it."""

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
    """Check a state directory that is there: whether it can be written, and by whom."""
    yield from _check_medium(directory)
    broken = why_unwritable(directory)
    if broken:
        advice = "make room, or mend the disk: until then nothing is brought up"
        yield Finding("error", broken, advice)
    elif not os.access(directory, os.W_OK | os.X_OK):
        text = f"{directory} cannot be written by user {os.getuid()}"
        advice = "give it to the user that fluxburst runs as, or name another --state-dir"
        yield Finding("error", text, advice)
    else:
        yield from _check_mode(directory)


def check_absent(directory: Path) -> Iterator[Finding]:
    """Check a state directory that is not there yet: whether it can be made, and on what."""
    above = next(parent for parent in directory.absolute().parents if parent.exists())
    if not above.is_dir() or not os.access(above, os.W_OK | os.X_OK):
        text = f"{directory} is not there, and cannot be made in {above}"
        yield Finding("error", text, "make it, mode 0700, or name another --state-dir")
        return
    yield from _check_medium(above)
    yield Finding("ok", f"{directory} is not there yet, and can be made")


def _check_medium(directory: Path) -> Iterator[Finding]:
    """Check what a directory is on: whether files there can be locked, with one without a name."""
    kind = network_file_system(directory)
    if kind:
        text = (
            f"{directory} is on a network file system ({kind}), whose locks are not to be trusted"
        )
        yield Finding("warning", text, ELSEWHERE)
    try:
        with tempfile.TemporaryFile(dir=directory) as file:
            error = error_of_locking(file.fileno())
    except OSError:
        return  # that nothing can be written there is a finding of its own
    if error is not None:
        text = f"the file system of {directory} cannot lock files ({error.strerror})"
        yield Finding("error", text, ELSEWHERE)


def _check_mode(directory: Path) -> Iterator[Finding]:
    mode = stat.S_IMODE(directory.stat().st_mode)
    if mode != 0o700:
        text = f"{directory} has mode {mode:04o}: others may read or change what is spent by"
        yield Finding("warning", text, f"chmod 0700 {directory}")
    else:
        yield Finding("ok", f"{directory} is there, and only its owner may use it")
