"""Jobs that wait for a retry, because their assignment came to nothing."""

from __future__ import annotations

import math
import weakref
from collections.abc import Iterable

from fluxburst.config.policy import Policy
from fluxburst.ledger import Ledger
from fluxburst.planning.setbacks import PREFIXES, Setback, setback_of
from fluxburst.reconcile.burst_store import BurstStore


class Waiting:
    """The setbacks of one client's jobs, from the ledger.

    Args:
        store: The client's store.
        policy: Its policy.
    """

    def __init__(self, store: BurstStore, policy: Policy) -> None:
        self._store = store
        self.policy = policy
        self._known: dict[int, Setback] = {}
        self._over: set[int] = set()
        self._read: tuple[weakref.ref[Ledger], object] | None = None

    def _read_again(self) -> None:
        """Read what other clients may have written to the ledger."""
        ledger = self._store.ledger
        written = ledger.written_by_others
        if self._read is not None and self._read[0]() is ledger and self._read[1] == written:
            return
        self._read = weakref.ref(ledger), written
        self._known.clear()
        long_ago = self._store.now() - 2 * self.policy.breakers.max_backoff
        self.note(ledger.released_for(PREFIXES, long_ago))

    def note(self, jobs: Iterable[int]) -> None:
        """Read from the ledger what became of jobs that were assigned or released."""
        for job in jobs:
            found = setback_of(self._store.ledger.assignments(job), self.policy.breakers)
            self._known.pop(job, None)
            self._over.discard(job)
            if found is not None:
                self._known[job] = found

    def forget(self, jobs: Iterable[int]) -> None:
        """Forget jobs that are no longer pending."""
        for job in jobs:
            self._known.pop(job, None)
            self._over.discard(job)

    def why_not(self, job: int, plugin: str) -> str:
        """Return why a job is not offered to a plugin now, or to none (empty name); or empty."""
        found = self._known.get(job)
        if found is None or found.plugin != plugin or not found.holds(self._store.now()):
            return ""
        return str(found)

    def shuns_free_nodes(self, job: int) -> bool:
        """Whether a job needs new nodes, because it did not start on free ones."""
        found = self._known.get(job)
        return found is not None and found.on_free_nodes

    def reload(self) -> set[int]:
        """Read other clients' records; return the jobs whose waiting time has ended since.

        Raises:
            LedgerError: if the ledger is unreadable.
        """
        self._read_again()
        now = self._store.now()
        over = {job for job, setback in self._known.items() if not setback.holds(now)}
        new = over - self._over
        self._over = over
        return new

    def next_due(self) -> float:
        """Return the time of the next retry, in seconds since the epoch."""
        now = self._store.now()
        return min((s.until for s in self._known.values() if s.until > now), default=math.inf)
