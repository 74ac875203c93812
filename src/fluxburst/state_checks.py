"""What may be wrong with where the ledger is kept, and what to do about it."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from fluxburst.ledger.media import ELSEWHERE, network_file_system
from fluxburst.ledger.place import why_unwritable
from fluxburst.plugins import Finding


def check_directory(directory: Path) -> Iterator[Finding]:
    """Check a state directory that is there: whether it can be written, and by whom."""
    kind = network_file_system(directory)
    if kind:
        text = (
            f"{directory} is on a network file system ({kind}), whose locks are not to be trusted"
        )
        yield Finding("warning", text, ELSEWHERE)
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


def _check_mode(directory: Path) -> Iterator[Finding]:
    mode = stat.S_IMODE(directory.stat().st_mode)
    if mode != 0o700:
        text = f"{directory} has mode {mode:04o}: others may read or change what is spent by"
        yield Finding("warning", text, f"chmod 0700 {directory}")
    else:
        yield Finding("ok", f"{directory} is there, and only its owner may use it")
