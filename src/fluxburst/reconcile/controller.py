"""The steps of one client's actions."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence

from fluxburst.config.policy import Policy
from fluxburst.errors import BurstErrors, FluxburstError, LedgerError
from fluxburst.flux.protocol import Instance
from fluxburst.hooks.manager import Manager
from fluxburst.ledger import LedgerPlace
from fluxburst.model.burst import Burst
from fluxburst.model.collector import collector_paused
from fluxburst.model.job import Job, queue_order
from fluxburst.model.plan import Plan
from fluxburst.plugin.base import BurstPlugin
from fluxburst.reconcile.lifetime import KEPT_STATES
from fluxburst.reconcile.parts import Parts
from fluxburst.reconcile.provision import Outcome
from fluxburst.reconcile.verify import Remaining, remaining, unrecorded


class Controller:
    """Acts for one client.

    Args:
        hooks: The client's hooks.
        plugins: The loaded plugins, by name; the client's own mapping, not a copy.
        instance: The instance of the jobs.
        place: Location of the ledger.
        policy: Lifetimes, timeouts, retries and limits.
    """

    def __init__(
        self,
        hooks: Manager,
        plugins: Mapping[str, BurstPlugin],
        instance: Instance,
        place: LedgerPlace,
        policy: Policy,
    ) -> None:
        self._hooks = hooks
        self._plugins = plugins
        self._instance = instance
        self._kept: set[str] = set()
        self._unusable: set[str] = set()
        self._unwritable = False
        self.parts = parts = Parts(hooks, plugins, instance, place, policy)
        self.workers = parts.workers
        self.store = parts.store
        self.scan = parts.scan
        self.pending_queue = parts.pending_queue

    @property
    def policy(self) -> Policy:
        """Lifetimes, timeouts, retries and limits."""
        return self.parts.policy

    @policy.setter
    def policy(self, policy: Policy) -> None:
        self.parts.policy = policy

    def close(self) -> None:
        """End the threads, close the ledger, and release the instance."""
        self.workers.close()
        self.store.close()

    def read_queue(self, *, again: bool = False) -> None:
        """Read the changes of jobs and queues, and the ledger's assignments.

        Args:
            again: This is the second time in a cycle; the instance's users are not read again.

        Raises:
            InstanceError: if the instance cannot be reached.
            LedgerError: if the ledger is unreadable.
        """
        self.pending_queue.refresh(self.store.ledger)
        self.pending_queue.changed |= self.parts.waiting.reload() & self.pending_queue.jobs.keys()
        limits = self.parts.limits
        queues = self._instance.queues()
        users = limits.users if again else self._instance.users()
        if (queues, users) != (limits.queues, limits.users):  # Flux posts no event for these
            limits.queues, limits.users = queues, users
            self.scan.start_over()

    # --- acting ----------------------------------------------------------------------------

    def apply(self, plan: Plan, patience: float = math.inf) -> list[Burst]:
        """Apply a plan; its plugins must be loaded. See :meth:`FluxBurst.apply`.

        A later pass processes answers that take longer than ``patience`` seconds.
        """
        self._tell_of_unusable(plan)
        self.parts.provisioner.outcome.bursts.clear()
        self._carry_out(plan, patience)
        self.reoffer(patience)
        unmatched = [plan.jobs[jobid] for jobid in plan.unmatched]
        if unmatched:
            self._hooks.jobs_unmatched(unmatched)
        return self._result()

    def _tell_of_unusable(self, plan: Plan) -> None:
        """Report the plugins that could not be asked for a plan, each failure once."""
        failing = {getattr(failure, "plugin", ""): failure for failure in plan.errors}
        for plugin, failure in failing.items():
            if plugin not in self._unusable:
                self._hooks.phase_failed("plan", None, failure)
        self._unusable = set(failing)

    def require_ledger(self, errors: Sequence[FluxburstError]) -> None:
        """Check that the ledger is writable, before anything is planned.

        Args:
            errors: Earlier failures, to report together.

        Raises:
            LedgerError: if it is not; observers are told once.
            BurstErrors: likewise, if something failed before.
        """
        try:
            self.store.ledger.require_file()
        except LedgerError as error:
            if not self._unwritable:
                self._hooks.phase_failed("record", None, error)
            self._unwritable = True
            if errors:
                raise BurstErrors([*errors, error]) from error
            raise
        self._unwritable = False

    def reoffer(self, patience: float) -> None:
        """Offer the jobs of refused bursts to the next plugins, until all have been asked."""
        outcome = self.parts.provisioner.outcome
        while outcome.displaced:
            jobs = [self.pending_queue.jobs.get(i, job) for i, job in outcome.displaced.items()]
            outcome.displaced.clear()
            free = [job for job in jobs if job.mark is None]
            plan = self.parts.planners.replan(free, outcome.refused)
            self._carry_out(plan, patience)

    def _carry_out(self, plan: Plan, patience: float) -> None:
        """Record a whole plan in one transaction, and then apply it."""
        try:
            with collector_paused(), self.store.ledger.transaction(durable=True):
                self.scan.record(plan.decisions)
                failures = self.parts.decisions.record(plan.decisions)
                reservations = self.parts.provisioner.reserve(self._plugins, plan)
        except LedgerError:
            self.parts.decisions.forget(decision.id for decision in plan.decisions)
            raise
        for failure in failures:
            self._hooks.phase_failed("plan", None, failure)
        self.parts.provisioner.start(reservations, patience)

    def request(
        self, nodes: int | None, tasks: int | None, plugin: BurstPlugin | None = None
    ) -> list[Burst]:
        """Have one plugin, or each, provision capacity on demand."""
        plugins = list(self._plugins.values()) if plugin is None else [plugin]
        self.parts.provisioner.outcome.bursts.clear()
        self.parts.provisioner.start_on_demand(plugins, nodes, tasks)
        return self._result()

    def _result(self) -> list[Burst]:
        outcome = self.parts.provisioner.outcome
        self.parts.provisioner.outcome = Outcome()
        reoffered = {id(e) for e, jobs in outcome.reoffered if jobs and self._all_assigned(jobs)}
        errors = [error for error in _flat(outcome.errors) if id(error) not in reoffered]
        if errors:
            raise BurstErrors(errors, outcome.bursts)
        return outcome.bursts

    def _all_assigned(self, jobs: Collection[int]) -> bool:
        return all(any(job in p.jobs for p in self._plugins.values()) for job in jobs)

    def terminate(self, names: Collection[str] | None) -> list[str]:
        """Terminate bursts: all, or the named ones. See :meth:`FluxBurst.run_unburst`."""
        gone, errors = self.parts.terminator.terminate(names)
        self.store.ledger.catch_up()
        if self.store.ledger.unwritable:
            errors = [*errors, unrecorded(self.store.ledger, gone)]
        if errors:
            raise BurstErrors(errors, gone)
        return [burst.name for burst in gone]

    def remaining(self, names: Collection[str] | None) -> list[Remaining]:
        """Return the remains of bursts. See :meth:`FluxBurst.remaining`."""
        timeout = self.policy.timeouts.list
        ownership, ledger = self.parts.ownership, self.store.ledger
        left = remaining(self._plugins, ledger, ownership, self.workers, timeout, names)
        for item in left if self.store.held else ():
            self.parts.terminator.there_again(item.plugin, item.burst)
        return left

    def refresh(self, patience: float = math.inf) -> list[Burst]:
        """Observe all bursts. See :meth:`FluxBurst.refresh_bursts`."""
        self.parts.observer.refresh(patience)
        self.workers.wait(patience)
        self.parts.terminator.errors.clear()
        return [burst for plugin in self._plugins.values() for burst in plugin.bursts.values()]

    def adopt(self) -> list[FluxburstError]:
        """Find existing bursts. See :meth:`FluxBurst.adopt_bursts`."""
        self.parts.observer.sync(math.inf, repair=False)
        return self._errors()

    def reconcile(self, patience: float = math.inf) -> list[FluxburstError]:
        """Repair differences. See :meth:`FluxBurst.reconcile`."""
        self.forget_ended()
        self.parts.memos.observe()
        self.parts.assigner.hold_again()
        self.parts.losses.observe()
        self.parts.observer.sync(patience, repair=True)
        self.parts.starting.observe(self.parts.limits.queues)
        self.parts.lease_keeper.keep()
        self.workers.wait(patience)
        return self._errors()

    def keep(self, patience: float) -> list[FluxburstError]:
        """Process answers, see which nodes have joined, and do what is due."""
        self.workers.wait(0)
        self.parts.memos.observe()
        self.parts.assigner.hold_again()
        self.parts.losses.observe()
        self.parts.observer.join()
        self.parts.starting.observe(self.parts.limits.queues)
        self.parts.lease_keeper.keep()
        self.workers.wait(patience)
        return self._errors()

    def pending(self) -> list[Job]:
        """Return the current pending jobs, in queue order, after updating the plugins' bursts.

        Raises:
            InstanceError: if the instance cannot be reached.
            LedgerError: if the ledger is unreadable.
        """
        self.store.load()
        self.read_queue()
        return sorted(self.pending_queue.jobs.values(), key=queue_order)

    def changed_jobs(self) -> list[Job]:
        """Return the pending jobs whose decision may change."""
        return self.scan.changed(self.parts.limits.capacity(), self.policy.watch.depth)

    def next_due(self) -> float:
        """Return the next time something is due, in seconds since the epoch."""
        parts = (self.parts.lease_keeper, self.parts.waiting, self.parts.starting)
        return min(part.next_due() for part in parts)

    def _errors(self) -> list[FluxburstError]:
        of = self.parts
        parts = (of.memos, of.observer, of.lease_keeper, of.terminator)
        errors = [error for part in parts for error in part.errors]
        for part in parts:
            part.errors.clear()
        return errors

    # --- memory of jobs --------------------------------------------------------------------

    def forget_ended(self) -> None:
        """Make plugins forget ended jobs; the cost depends on their number."""
        self.parts.assigner.forget_ended()

    def forget_gone(self) -> None:
        """Forget the last decisions on jobs that are no longer pending."""
        gone = self.pending_queue.gone
        if not gone:
            return
        self.parts.decisions.forget(gone)
        self.scan.forget(gone)
        self.parts.waiting.forget(gone)
        self.parts.memos.forget(gone)
        gone.clear()

    def forget_history(self) -> None:
        """Forget decisions older than the configured history."""
        self.parts.decisions.forget_before(self.store.now() - self.policy.watch.history)

    def forget_promises(self) -> None:
        """Forget the last plan's leftover capacity once part of it is gone."""
        kept = {e.burst.name for e in self.store.ledger.live() if e.burst.state in KEPT_STATES}
        if not self._kept <= kept:
            self.scan.free_capacity = None
        self._kept = kept


def _flat(errors: Iterable[FluxburstError]) -> list[FluxburstError]:
    return list(BurstErrors(list(errors)).errors)
