"""The steps of one client, put together."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Protocol

from fluxburst.config.policy import Policy
from fluxburst.errors import BurstErrors, FluxburstError, LedgerError, PatienceError
from fluxburst.flux.protocol import Instance
from fluxburst.formats.units import format_duration
from fluxburst.hooks.manager import Manager
from fluxburst.ledger import LedgerPlace
from fluxburst.ledger.entries import Entry
from fluxburst.model.burst import Burst
from fluxburst.model.collector import collector_paused
from fluxburst.model.identity import only_this_user
from fluxburst.model.job import Job
from fluxburst.model.plan import Decision, Plan
from fluxburst.model.plan import Outcome as Decided
from fluxburst.model.queues import Queue
from fluxburst.packing.limits import Budget, Spent, spent_of
from fluxburst.planning.circuit_breakers import closed_types, tried_types
from fluxburst.planning.lifespans import Lifespans
from fluxburst.planning.plan_inputs import PlanLimits
from fluxburst.plugin.base import BurstPlugin
from fluxburst.reconcile.assign import Assigner
from fluxburst.reconcile.burst_store import BurstStore
from fluxburst.reconcile.isolated_starts import Starts
from fluxburst.reconcile.lifetime import IDLE, KEPT_STATES, LeaseKeeper
from fluxburst.reconcile.losses import Losses
from fluxburst.reconcile.memos import Memos
from fluxburst.reconcile.observe import Observer
from fluxburst.reconcile.ownership import Ownership
from fluxburst.reconcile.provision import Outcome, Provisioner
from fluxburst.reconcile.queue_mirror import backlog_of
from fluxburst.reconcile.refusals import Refusals
from fluxburst.reconcile.remaining_life import RemainingLife
from fluxburst.reconcile.scan import Scan
from fluxburst.reconcile.standing import Standing
from fluxburst.reconcile.start_timeout import StartTimeout
from fluxburst.reconcile.terminate import Terminator, unrecorded
from fluxburst.reconcile.vetting import Vetting
from fluxburst.reconcile.waiting import Waiting
from fluxburst.reconcile.workers import PluginWorkers


class Replan(Protocol):
    """Plans some jobs anew, with node types closed besides those that are closed anyway."""

    def __call__(self, jobs: Sequence[Job], closed: Mapping[tuple[str, str], str]) -> Plan:
        """Return the plan."""
        ...


class Controller:
    """Acts for one client.

    Args:
        hooks: The client's hooks.
        plugins: The loaded plugins, by name; the client's own mapping, not a copy.
        instance: The instance that jobs wait in.
        place: Where the ledger is.
        policy: Lifetimes, timeouts, retries and limits.
        replan: Makes plans for jobs that are to be offered on.
    """

    def __init__(
        self,
        hooks: Manager,
        plugins: Mapping[str, BurstPlugin],
        instance: Instance,
        place: LedgerPlace,
        policy: Policy,
        replan: Replan,
    ) -> None:
        self._hooks = hooks
        self._plugins = plugins
        self._instance = instance
        self._replan = replan
        self._policy = policy
        self._decided: dict[int, int] = {}
        self._kept: set[str] = set()
        self._unusable: set[str] = set()
        self._queues: Mapping[str, Queue] = {}
        self._users = only_this_user()
        self._unwritable = False
        self.workers = PluginWorkers(instance.wake)
        self.backlog = backlog_of(instance)
        self.scan = Scan(self.backlog)
        self.store = BurstStore(hooks, plugins, instance, place)
        self._waiting = Waiting(self.store, policy)
        self._assigner = Assigner(hooks, plugins, instance, self.backlog, self.store, self._waiting)
        self._spans = RemainingLife(self.backlog, self.store, policy)
        self._memos = Memos(self.backlog, self.store, self._assigner)
        vetting = Vetting(instance, self.store, Standing(place))
        self._provisioner = Provisioner(
            hooks, self.store, vetting, self._assigner, self.workers, policy, self.allowance
        )
        refusals = Refusals(instance, self.backlog)
        self.ownership = Ownership(self.store)
        self._terminator = Terminator(
            hooks,
            plugins,
            instance,
            self.store,
            self.ownership,
            self._assigner,
            self.workers,
            policy,
            refusals,
        )
        self._observer = Observer(
            hooks,
            plugins,
            instance,
            self.backlog,
            self.store,
            self.ownership,
            vetting,
            self._assigner,
            self._terminator,
            self.workers,
            policy,
            self._spans,
        )
        self._losses = Losses(instance, self.store)
        self._lease_keeper = LeaseKeeper(
            hooks,
            instance,
            self.backlog,
            self.store,
            self._assigner,
            self._terminator,
            self.workers,
            refusals,
            policy,
            self._spans,
            self.allowance,
        )

        self._starting = StartTimeout(
            hooks,
            plugins,
            instance,
            self.backlog,
            self.store,
            self._assigner,
            self._waiting,
            policy,
        )

    @property
    def policy(self) -> Policy:
        """Lifetimes, timeouts, retries and limits."""
        return self._policy

    @policy.setter
    def policy(self, policy: Policy) -> None:
        self._policy = policy
        acting = (self._provisioner, self._terminator, self._observer, self._lease_keeper)
        for part in (*acting, self._waiting, self._spans, self._starting):
            part.policy = policy

    def close(self) -> None:
        """End the threads."""
        self.workers.close()

    def read_queue(self) -> None:
        """Learn what has changed among jobs and queues, and in what the ledger says of the jobs.

        Raises:
            InstanceError: if the instance cannot be asked.
            LedgerError: if the ledger cannot be read.
        """
        self.backlog.refresh(self.store.ledger)
        self._waiting.look()
        self.backlog.changed |= self._waiting.over() & self.backlog.jobs.keys()
        queues, users = self._instance.queues(), self._instance.users()
        if (queues, users) != (self._queues, self._users):  # of which Flux posts no event
            self._queues, self._users = queues, users
            self.scan.start_over()

    # --- what holds plans back -------------------------------------------------------------

    def spent(self) -> Spent:
        """Return what is used now."""
        return spent_of(self.store.ledger, self.store.now())

    def allowance(self) -> Budget:
        """Return what the limits leave now."""
        limits = self._policy.limits
        spent = self.spent() if limits.is_set else Spent(self.store.now())
        return Budget(limits, spent, Lifespans(self._policy.lifetimes).lease)

    def bounds(self, closed: Mapping[tuple[str, str], str]) -> PlanLimits:
        """Return what holds a plan back now, with more node types closed."""
        ledger = self.store.ledger
        now = self.store.now()
        live = ledger.live()
        stuck = self.workers.stuck()
        breakers = ledger.breakers().values()
        open_breakers = closed_types(breakers, live, now)
        return PlanLimits(
            allowance=self.allowance(),
            by_owner=self._policy.limits.by_owner,
            closed={
                **self._cooling(now),
                **open_breakers,
                **closed,
            },
            tried=tried_types(breakers, open_breakers),
            stuck={name: PatienceError(why, plugin=name) for name, why in stuck.items()},
            why_not_again=self._waiting.why_not,
            shuns_free_nodes=self._waiting.shuns_free_nodes,
            why_not_isolated=Starts(ledger, self._policy.policy.starts).why_not,
            lives=self._spans.lives(live),
            name_of=ledger.free_name,
            queues=self._queues,
            users=self._users,
        )

    def _cooling(self, now: float) -> Mapping[tuple[str, str], str]:
        """Return the node types of which an idle burst has only just ended."""
        cool_down = self._policy.lifetimes.cool_down
        if not cool_down:
            return {}
        return {
            (entry.burst.plugin, entry.burst.node_type): "it cools down for "
            f"{format_duration(entry.ended + cool_down - now)} yet"
            for entry in self.store.ledger.entries(now - cool_down)
            if entry.ended is not None and IDLE in entry.reason
        }

    # --- acting ----------------------------------------------------------------------------

    def apply(self, plan: Plan, patience: float = math.inf) -> list[Burst]:
        """Do what a plan says; its plugins must be loaded. See :meth:`FluxBurst.apply`.

        What is not answered within ``patience`` seconds is taken in by a later pass.
        """
        self._tell_of_unusable(plan)
        self._provisioner.outcome.bursts.clear()
        self._carry_out(plan, patience)
        self.reoffer(patience)
        unmatched = [plan.jobs[jobid] for jobid in plan.unmatched]
        if unmatched:
            self._hooks.jobs_unmatched(unmatched)
        return self._result()

    def _tell_of_unusable(self, plan: Plan) -> None:
        """Tell of the plugins that could not be asked for a plan; once, however many fail so."""
        failing = {getattr(failure, "plugin", ""): failure for failure in plan.errors}
        for plugin, failure in failing.items():
            if plugin not in self._unusable:
                self._hooks.phase_failed("plan", None, failure)
        self._unusable = set(failing)

    def require_ledger(self, errors: Sequence[FluxburstError]) -> None:
        """Make sure that the ledger can be written, before anything is planned.

        Args:
            errors: What failed before, to be told with it.

        Raises:
            LedgerError: if it cannot; observers are told of that once.
            BurstErrors: if something failed before, too.
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
        """Offer the jobs of what was refused to the next plugins, until all have been asked."""
        outcome = self._provisioner.outcome
        while outcome.displaced:
            jobs = [self.backlog.jobs.get(i, job) for i, job in outcome.displaced.items()]
            outcome.displaced.clear()
            plan = self._replan([job for job in jobs if job.mark is None], outcome.refused)
            self._carry_out(plan, patience)

    def _carry_out(self, plan: Plan, patience: float) -> None:
        """Record all that a plan says in one transaction, and then do it."""
        try:
            with collector_paused(), self.store.ledger.transaction(durable=True):
                failures = self.note(plan.decisions)
                intents = self._provisioner.reserve(self._plugins, plan)
        except LedgerError:
            for decision in plan.decisions:  # which was not recorded
                self._decided.pop(decision.id, None)
            raise
        for failure in failures:
            self._hooks.phase_failed("plan", None, failure)
        self._provisioner.start(intents, patience)

    def request(
        self, plugins: Sequence[BurstPlugin], nodes: int | None, tasks: int | None
    ) -> list[Burst]:
        """Have plugins bring up capacity by hand. See :meth:`FluxBurst.request_bursts`."""
        self._provisioner.outcome.bursts.clear()
        self._provisioner.start_on_demand(plugins, nodes, tasks)
        return self._result()

    def _result(self) -> list[Burst]:
        outcome = self._provisioner.outcome
        self._provisioner.outcome = Outcome()
        offered_on = {id(e) for e, jobs in outcome.offered_on if jobs and self._all_given(jobs)}
        errors = [error for error in _flat(outcome.errors) if id(error) not in offered_on]
        if errors:
            raise BurstErrors(errors, outcome.bursts)
        return outcome.bursts

    def _all_given(self, jobs: Collection[int]) -> bool:
        return all(any(job in p.jobs for p in self._plugins.values()) for job in jobs)

    def take_down(self, names: Collection[str] | None) -> list[str]:
        """Take bursts down: all, or the named ones. See :meth:`FluxBurst.run_unburst`."""
        gone, errors = self._terminator.take_down(names)
        self.store.ledger.catch_up()
        if self.store.ledger.unwritable:
            errors = [*errors, unrecorded(self.store.ledger, gone)]
        if errors:
            raise BurstErrors(errors, gone)
        return [burst.name for burst in gone]

    def there_again(self, plugin: str, burst: str) -> None:
        """Record of a burst that is listed that it is there, if the ledger has its end."""
        self._terminator.there_again(plugin, burst)

    def refresh(self, patience: float = math.inf) -> list[Burst]:
        """Look at what has become of all bursts. See :meth:`FluxBurst.refresh_bursts`."""
        self._observer.refresh(patience)
        self.workers.wait(patience)
        self._terminator.errors.clear()
        return [burst for plugin in self._plugins.values() for burst in plugin.bursts.values()]

    def adopt(self) -> list[FluxburstError]:
        """Learn which bursts are out there. See :meth:`FluxBurst.adopt_bursts`."""
        self._observer.sync(math.inf, repair=False)
        return self._errors()

    def reconcile(self, patience: float = math.inf) -> list[FluxburstError]:
        """Mend what is not as it was left. See :meth:`FluxBurst.reconcile`."""
        self.forget_ended()
        self._memos.look()
        self._assigner.hold_again()
        self._losses.look()
        self._observer.sync(patience, repair=True)
        self._starting.look(self._queues)
        self._lease_keeper.keep()
        self.workers.wait(patience)
        return self._errors()

    def keep(self, patience: float) -> list[FluxburstError]:
        """Take in what has been answered, see who has joined, and do what is due."""
        self.workers.wait(0)
        self._memos.look()
        self._assigner.hold_again()
        self._losses.look()
        self._observer.join()
        self._starting.look(self._queues)
        self._lease_keeper.keep()
        self.workers.wait(patience)
        return self._errors()

    def next_due(self) -> float:
        """Return when something is due at the earliest, in seconds since the epoch."""
        parts = (self._lease_keeper, self._waiting, self._starting)
        return min(part.next_due() for part in parts)

    def _errors(self) -> list[FluxburstError]:
        parts = (self._memos, self._observer, self._lease_keeper, self._terminator)
        errors = [error for part in parts for error in part.errors]
        for part in parts:
            part.errors.clear()
        return errors

    # --- what is remembered of jobs --------------------------------------------------------

    def forget_ended(self) -> None:
        """Let plugins forget the jobs that have ended; this takes as long as they have many."""
        self._assigner.forget_ended()

    def note(self, decisions: Sequence[Decision]) -> list[FluxburstError]:
        """Record the decisions that differ from what was last decided on the same job.

        Returns:
            What failed in making these decisions.
        """
        self.scan.record(decisions)
        changed: dict[int, int] = {}
        noted = []
        for decision in decisions:
            digest = hash((decision.outcome, decision.plugin, decision.reasons))
            known = self._decided.get(decision.id)
            if known == digest or (known is None and decision.outcome is Decided.NOT_SELECTED):
                continue
            changed[decision.id] = digest
            noted.append(decision)
        if noted:
            self.store.ledger.decide(noted, self.store.now())
            self._decided.update(changed)
        return [decision.error for decision in noted if decision.error is not None]

    def forget_gone(self) -> None:
        """Forget what was last decided on jobs that are pending no longer."""
        gone = self.backlog.gone
        for jobid in gone:
            self._decided.pop(jobid, None)
        self.scan.forget(gone)
        self._waiting.forget(gone)
        self._memos.forget(gone)
        gone.clear()

    def forget_history(self) -> None:
        """Forget what was decided longer ago than that is kept."""
        history = self._policy.watch.history
        if not self.store.ledger.unwritable:
            self.store.ledger.forget_decisions(self.store.now() - history)

    def forget_promises(self) -> None:
        """Forget what the last plan left of the capacity, once some of that is no longer there."""
        kept = {e.burst.name for e in self.store.live() if e.burst.state in KEPT_STATES}
        if not self._kept <= kept:
            self.scan.residual = None
        self._kept = kept

    def capacity(self) -> object:
        """Return something that differs once there may be room for jobs that had none."""
        live = [entry.burst for entry in self.store.live()]
        now = self.store.now()
        closed = closed_types(self.store.ledger.breakers().values(), self.store.live(), now)
        return (
            tuple((burst.name, burst.nodes) for burst in live),
            tuple(closed),
            tuple(self._cooling(now)),
            tuple(self.workers.stuck()),
        )

    def live(self) -> list[Entry]:
        """Return the bursts of which something may be there."""
        return self.store.live()


def _flat(errors: Iterable[FluxburstError]) -> list[FluxburstError]:
    return list(BurstErrors(list(errors)).errors)
