"""By which clock a ledger goes: this machine's, or the virtual one of an embedded instance."""

from __future__ import annotations

import contextlib
import time
from contextlib import closing
from pathlib import Path

from fluxburst.errors import LedgerError
from fluxburst.ledger.location import FILE
from fluxburst.ledger.store import Ledger
from fluxburst.simulation.embedded import NAME, START_TIME


def is_virtual(ledger: Ledger) -> bool:
    """Whether a ledger is that of an embedded instance, whose time stands still in between."""
    return ledger.instance == NAME


def time_of(ledger: Ledger) -> float:
    """Return the time that a ledger goes by, in seconds since the epoch.

    That of an embedded instance goes on where it was left: at its last record.

    Raises:
        LedgerError: if it cannot be read.
    """
    if not is_virtual(ledger):
        return time.time()
    last = ledger.last_recorded()
    return START_TIME if last is None else last


def virtual_time_in(directory: Path | None) -> float:
    """Return when the embedded instance whose ledger is in a directory was left.

    Where there is no such ledger, that is when such instances begin.
    """
    if directory is not None:
        with (
            contextlib.suppress(LedgerError, OSError),  # which whoever uses it is told
            closing(Ledger(directory / FILE, NAME, read_only=True)) as ledger,
        ):
            return time_of(ledger) if is_virtual(ledger) else START_TIME
    return START_TIME
