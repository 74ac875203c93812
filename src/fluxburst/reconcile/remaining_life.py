"""How long the bursts of a client live: by their policy, their node types and their leases."""

from __future__ import annotations

import math
from collections.abc import Sequence

from fluxburst.ledger import Entry
from fluxburst.model.burst import COMING_STATES
from fluxburst.model.node import NodeType
from fluxburst.planning.lifespans import Lifespans, Lives, type_of, why_not_renewable
from fluxburst.reconcile.shared import Shared

QUEUED_SECONDS = 60.0
"""How much of its lease a burst may lose while it waits for its machines."""

RETRY_SHARE = 0.05
"""The part of a lease after which a refused renewal is retried."""


class RemainingLife:
    """The lifetimes of bursts.

    Args:
        shared: What the parts of a client share.

    Attributes:
        refused: Why the last renewals failed, by burst name.
    """

    def __init__(self, shared: Shared) -> None:
        self._pending_queue = shared.pending_queue
        self._store = shared.store
        self._shared = shared
        self.refused: dict[str, str] = {}

    @property
    def lifespans(self) -> Lifespans:
        """The lifetimes of the configuration."""
        return Lifespans(self._shared.policy.lifetimes)

    def fixed(self, entry: Entry) -> str:
        """Return why the leases of a burst's plugin cannot be renewed; empty if they can."""
        plugin = self._store.plugin_of(entry.burst)
        return "" if plugin is None else why_not_renewable(plugin)

    def longest(self, entry: Entry) -> float:
        """Return the maximum life of a burst, in seconds."""
        return self.lifespans.of_type(self._type_of(entry))

    def limit_of(self, entry: Entry) -> float:
        """Return the latest end of a burst, in seconds since the epoch."""
        return self.lifespans.limit_of(entry, self._type_of(entry), self._store.now())

    def end_of(self, entry: Entry) -> float:
        """Return the known end of a burst; inf if it need not end."""
        final = self.fixed(entry) or self.refused.get(entry.burst.name, "")
        return self.lifespans.end_of(entry, self._type_of(entry), self._store.now(), final)

    def until(self, entry: Entry) -> float:
        """Return until when jobs may run on the nodes of a burst; inf for unlimited."""
        return self.end_of(entry) - self.lifespans.teardown

    def lives(self, entries: Sequence[Entry], now: float) -> Lives:
        """Return how long nodes live from now; on nodes still to join, jobs start later."""
        ends = {}
        for entry in entries:
            until = self.until(entry)
            if math.isfinite(until):
                up_at = entry.requested + self._shared.policy.lifetimes.startup
                joins = entry.burst.state in COMING_STATES
                ends[entry.burst.name] = until - (max(0.0, up_at - now) if joins else 0.0)
        return Lives(self.lifespans, now, ends)

    # --- leases ----------------------------------------------------------------------------

    def lease_of(self, entry: Entry) -> float:
        """Return the length of a burst's lease from its renewal, in seconds."""
        fixed = self.fixed(entry)
        if not fixed:
            return self._shared.policy.lifetimes.lease
        burst = entry.burst
        jobs = [
            self._pending_queue.jobs[i]
            for i in self._pending_queue.assigned_to(burst.plugin, burst.name)
        ]
        return self.lifespans.lease_for(self.lifespans.longest(jobs), fixed)

    def renewed_at(self, entry: Entry) -> float:
        """Return the remaining time at which a lease is renewed, in seconds; -inf for never.

        A lease that cannot be renewed runs from the start of provisioning: while the burst waits
        for its machines, the full length of the lease is kept.
        """
        if not self.fixed(entry):
            return self._usual(entry) / 2
        return self.lease_of(entry) - QUEUED_SECONDS if entry.queued else -math.inf

    def asked_again(self, entry: Entry) -> float:
        """Return how many seconds later a refused renewal may be retried."""
        usual = self._usual(entry) * RETRY_SHARE
        return min(usual, QUEUED_SECONDS) if self.fixed(entry) else usual

    def _usual(self, entry: Entry) -> float:
        """Return the default length of a lease, as far as its type allows."""
        return min(self.lifespans.lease, self.longest(entry))

    def _type_of(self, entry: Entry) -> NodeType | None:
        plugin = self._store.plugin_of(entry.burst)
        return None if plugin is None else type_of(entry.burst, plugin)
