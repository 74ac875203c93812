"""A ledger's clock: this machine's, or the virtual one of an embedded instance."""

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
    """Whether a ledger belongs to an embedded instance, whose time stands still between runs."""
    return ledger.instance == NAME


def time_of(ledger: Ledger) -> float:
    """Return a ledger's current time, in seconds since the epoch.

    An embedded instance's time continues from its last record.

    Raises:
        LedgerError: if it is unreadable.
    """
    if not is_virtual(ledger):
        return time.time()
    last = ledger.last_recorded()
    return START_TIME if last is None else last


def virtual_time_in(directory: Path | None) -> float:
    """Return the last time of the embedded instance whose ledger is in a directory.

    Without such a ledger, the initial time of embedded instances.
    """
    if directory is not None:
        with (
            contextlib.suppress(LedgerError, OSError),  # its next user gets the error
            closing(Ledger(directory / FILE, NAME, read_only=True)) as ledger,
        ):
            return time_of(ledger) if is_virtual(ledger) else START_TIME
    return START_TIME
