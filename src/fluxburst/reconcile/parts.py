"""The parts that act for one client, put together."""

from __future__ import annotations

from collections.abc import Mapping

from fluxburst.config.policy import Policy
from fluxburst.flux.protocol import Instance
from fluxburst.hooks.manager import Manager
from fluxburst.ledger import LedgerPlace
from fluxburst.plugin.base import BurstPlugin
from fluxburst.reconcile.assign import Assigner
from fluxburst.reconcile.burst_store import BurstStore
from fluxburst.reconcile.drain import Drainer
from fluxburst.reconcile.lifetime import LeaseKeeper
from fluxburst.reconcile.losses import Losses
from fluxburst.reconcile.memos import Memos
from fluxburst.reconcile.observe import Observer
from fluxburst.reconcile.planners import CurrentLimits, Planners
from fluxburst.reconcile.provision import Provisioner
from fluxburst.reconcile.queue_mirror import pending_queue_of
from fluxburst.reconcile.refusals import Refusals
from fluxburst.reconcile.remaining_life import RemainingLife
from fluxburst.reconcile.scan import DecisionLog, Scan, Waiting
from fluxburst.reconcile.start_timeout import StartTimeout
from fluxburst.reconcile.terminate import Terminator
from fluxburst.reconcile.vetting import Ownership, Standing, Vetting
from fluxburst.reconcile.workers import PluginWorkers

Plugins = Mapping[str, BurstPlugin]


class Parts:
    """The parts of one client. Each is made once, of those before it.

    Args:
        hooks: The client's hooks.
        plugins: The loaded plugins, by name; the client's own mapping, not a copy.
        instance: The instance that jobs wait in.
        place: Where the ledger is.
        policy: Lifetimes, timeouts, retries and limits.
    """

    def __init__(
        self,
        hooks: Manager,
        plugins: Plugins,
        instance: Instance,
        place: LedgerPlace,
        policy: Policy,
    ) -> None:
        self._policy = policy
        self.workers = PluginWorkers(instance.wake)
        self.pending_queue = pending_queue_of(instance)
        self.scan = Scan(self.pending_queue)
        self.store = BurstStore(hooks, plugins, instance, place)
        self.decisions = DecisionLog(self.store)
        self.waiting = Waiting(self.store, policy)
        self.spans = RemainingLife(self.pending_queue, self.store, policy)
        self.limits = CurrentLimits(self.store, self.waiting, self.spans, self.workers, policy)
        self.planners = Planners(hooks, plugins, instance, self.limits, policy)
        self.assigner = Assigner(
            hooks, plugins, instance, self.pending_queue, self.store, self.waiting
        )
        self.memos = Memos(self.pending_queue, self.store, self.assigner)
        self.losses = Losses(instance, self.store)
        self.ownership = Ownership(self.store)
        vetting = Vetting(instance, self.store, Standing(place))
        refusals = Refusals(instance, self.pending_queue)
        self.drainer = Drainer(instance, self.store, refusals, policy)
        self.provisioner = Provisioner(
            hooks, self.store, vetting, self.assigner, self.workers, policy, self.limits.budget
        )
        self.terminator = self._terminator(hooks, plugins)
        self.observer = self._observer(hooks, plugins, instance, vetting)
        self.lease_keeper = self._lease_keeper(hooks, instance, refusals)
        self.starting = self._starting(hooks, plugins, instance)

    @property
    def policy(self) -> Policy:
        """Lifetimes, timeouts, retries and limits."""
        return self._policy

    @policy.setter
    def policy(self, policy: Policy) -> None:
        self._policy = policy
        acting = (self.provisioner, self.drainer, self.terminator, self.observer, self.lease_keeper)
        planning = (self.waiting, self.spans, self.limits, self.planners)
        for part in (*acting, *planning, self.starting):
            part.policy = policy

    # --- the parts that act ----------------------------------------------------------------

    def _terminator(self, hooks: Manager, plugins: Plugins) -> Terminator:
        return Terminator(
            hooks,
            plugins,
            self.store,
            self.ownership,
            self.assigner,
            self.workers,
            self._policy,
            self.drainer,
        )

    def _observer(
        self, hooks: Manager, plugins: Plugins, instance: Instance, vetting: Vetting
    ) -> Observer:
        return Observer(
            hooks,
            plugins,
            instance,
            self.pending_queue,
            self.store,
            self.ownership,
            vetting,
            self.assigner,
            self.drainer,
            self.terminator,
            self.workers,
            self._policy,
            self.spans,
        )

    def _lease_keeper(self, hooks: Manager, instance: Instance, refusals: Refusals) -> LeaseKeeper:
        return LeaseKeeper(
            hooks,
            instance,
            self.pending_queue,
            self.store,
            self.assigner,
            self.drainer,
            self.terminator,
            self.workers,
            refusals,
            self._policy,
            self.spans,
            self.limits.budget,
        )

    def _starting(self, hooks: Manager, plugins: Plugins, instance: Instance) -> StartTimeout:
        return StartTimeout(
            hooks,
            plugins,
            instance,
            self.pending_queue,
            self.store,
            self.assigner,
            self.waiting,
            self._policy,
        )
