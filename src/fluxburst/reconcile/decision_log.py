"""What was decided on jobs, recorded where it differs from what was decided on them before."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from fluxburst.errors import FluxburstError
from fluxburst.model.plan import Decision, Outcome
from fluxburst.reconcile.burst_store import BurstStore


class DecisionLog:
    """Records the decisions of one client.

    Args:
        store: The client's store.
    """

    def __init__(self, store: BurstStore) -> None:
        self._store = store
        self._known: dict[int, int] = {}

    def record(self, decisions: Sequence[Decision]) -> list[FluxburstError]:
        """Record the decisions that are new.

        Returns:
            What failed in making these.
        """
        changed: dict[int, int] = {}
        new = []
        for decision in decisions:
            digest = hash((decision.outcome, decision.plugin, decision.reasons))
            known = self._known.get(decision.id)
            if known == digest or (known is None and decision.outcome is Outcome.NOT_SELECTED):
                continue
            changed[decision.id] = digest
            new.append(decision)
        if new:
            self._store.ledger.decide(new, self._store.now())
            self._known.update(changed)
        return [decision.error for decision in new if decision.error is not None]

    def forget(self, jobids: Iterable[int]) -> None:
        """Forget jobs that are gone, or what was decided on them and not recorded."""
        for jobid in jobids:
            self._known.pop(jobid, None)

    def forget_before(self, time: float) -> None:
        """Have the ledger forget what was decided before a time, in seconds since the epoch."""
        ledger = self._store.ledger
        if not ledger.unwritable:
            ledger.forget_decisions(time)
