"""Selects the jobs that a pass examines; keeps earlier decisions, and jobs that wait for a retry.

A pass examines all jobs, or changed ones and the first of those that wait. Examining all takes time
proportional to the queue; it happens at first, and occasionally again. In between, each plan starts
with the capacity left by the previous one.
"""

from __future__ import annotations

import math
import weakref
from bisect import insort
from collections.abc import Iterable, Sequence
from itertools import islice

from fluxburst.errors import FluxburstError
from fluxburst.ledger import Ledger
from fluxburst.model.job import Job, queue_order
from fluxburst.model.plan import Decision, Outcome
from fluxburst.planning.plan_inputs import FreeCapacity
from fluxburst.planning.setbacks import Setback, setback_of
from fluxburst.reconcile.burst_store import BurstStore
from fluxburst.reconcile.queue_mirror import PendingQueue
from fluxburst.reconcile.shared import Shared

SHARE = 0.05
"""The maximum fraction of time for examining all jobs."""


class Scan:
    """The jobs that passes examine.

    Args:
        pending_queue: The pending jobs.

    Attributes:
        free_capacity: Free or coming capacity left by the last plan; None if
            unknown, to be counted anew.
    """

    def __init__(self, pending_queue: PendingQueue) -> None:
        self._pending_queue = pending_queue
        self._order: list[tuple[int, int]] = []
        self._waiting: dict[int, tuple[int, int]] = {}
        self._capacity: object = None
        self._next = -math.inf
        self.free_capacity: FreeCapacity | None = None

    @property
    def waiting(self) -> int:
        """Number of jobs waiting for capacity."""
        return len(self._waiting)

    def is_due(self, now: float) -> bool:
        """Whether all jobs are due to be examined: never yet, or long ago.

        Args:
            now: Time of a monotonic clock, in seconds.
        """
        return now >= self._next

    def record_full(self, now: float, seconds: float, poll: float) -> None:
        """Record how long examining all jobs took, which determines the next time."""
        self._next = now + max(poll, seconds / SHARE)

    def start_over(self) -> None:
        """Have all jobs examined next: earlier decisions are void, or were not applied."""
        self._next = -math.inf
        self.free_capacity = None

    def full(self) -> list[Job]:
        """Return all pending jobs, in queue order."""
        self._pending_queue.changed.clear()
        return sorted(self._pending_queue.jobs.values(), key=queue_order)

    def changed(self, capacity: object, depth: int) -> list[Job]:
        """Return changed jobs, and the first that wait if there may be room for them now.

        If capacity is counted anew, assigned jobs are included: they use some of it.

        Args:
            capacity: Determines whether there may be room: compared with the last value.
            depth: Maximum number of waiting jobs.
        """
        chosen = set(self._pending_queue.changed)
        self._pending_queue.changed.clear()
        if capacity != self._capacity:
            chosen.update(jobid for _, jobid in islice(self._live_order(), depth))
        self._capacity = capacity
        if self.free_capacity is None:
            jobs_by_id = self._pending_queue.jobs.items()
            chosen.update(jobid for jobid, job in jobs_by_id if job.mark is not None)
        jobs = [
            self._pending_queue.jobs[jobid] for jobid in chosen if jobid in self._pending_queue.jobs
        ]
        return sorted(jobs, key=queue_order)

    def forget(self, jobids: Iterable[int]) -> None:
        """Forget jobs that are no longer pending."""
        for jobid in jobids:
            self._waiting.pop(jobid, None)

    def record(self, decisions: Sequence[Decision]) -> None:
        """Note which jobs wait for capacity; failed decisions do not count."""
        for decision in decisions:
            known = self._waiting.pop(decision.id, None)
            job = self._pending_queue.jobs.get(decision.id)
            if decision.outcome is Outcome.UNMATCHED and job is not None:
                order = queue_order(job)
                self._waiting[decision.id] = order
                if order != known:
                    insort(self._order, order)

    def _live_order(self) -> Iterable[tuple[int, int]]:
        """Yield waiting jobs in queue order; forget the positions of others."""
        if len(self._order) > 2 * len(self._waiting) + 100:
            self._order = sorted(self._waiting.values())
        for order in self._order:
            if self._waiting.get(order[1]) == order:
                yield order


class DecisionLog:
    """Records one client's decisions, if they differ from earlier ones.

    Args:
        store: The client's store.
    """

    def __init__(self, store: BurstStore) -> None:
        self._store = store
        self._known: dict[int, int] = {}

    def record(self, decisions: Sequence[Decision]) -> list[FluxburstError]:
        """Record new decisions.

        Returns:
            Failures of planning.
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
        """Forget jobs that are gone, or decisions that were not recorded."""
        for jobid in jobids:
            self._known.pop(jobid, None)

    def forget_before(self, time: float) -> None:
        """Delete decisions before a time from the ledger, in seconds since the epoch."""
        ledger = self._store.ledger
        if not ledger.unwritable:
            ledger.forget_decisions(time)


class Waiting:
    """The setbacks of one client's jobs, from the ledger.

    Args:
        shared: What the parts of a client share.
    """

    def __init__(self, shared: Shared) -> None:
        self._store = shared.store
        self._shared = shared
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
        long_ago = self._store.now() - 2 * self._shared.policy.breakers.max_backoff
        self.note(ledger.set_back(long_ago))

    def note(self, jobs: Iterable[int]) -> None:
        """Read from the ledger what became of jobs that were assigned or released."""
        for job in jobs:
            found = setback_of(self._store.ledger.assignments(job), self._shared.policy.breakers)
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
