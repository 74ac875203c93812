"""The durable record of every burst and its history."""

from fluxburst.ledger.entries import Assignment, Breaker, Entry, SetbackKind, Transition, Usage
from fluxburst.ledger.location import LedgerPlace
from fluxburst.ledger.store import Ledger

__all__ = [
    "Assignment",
    "Breaker",
    "Entry",
    "Ledger",
    "LedgerPlace",
    "SetbackKind",
    "Transition",
    "Usage",
]
