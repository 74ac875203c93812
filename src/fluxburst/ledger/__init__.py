"""The durable record of every burst and what happened to it."""

from fluxburst.ledger.entries import Breaker, Entry, Placement, Transition, Usage
from fluxburst.ledger.location import LedgerPlace
from fluxburst.ledger.store import Ledger

__all__ = ["Breaker", "Entry", "Ledger", "LedgerPlace", "Placement", "Transition", "Usage"]
