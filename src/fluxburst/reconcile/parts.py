"""Assembles the parts that act for one client."""

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
from fluxburst.reconcile.shared import Shared
from fluxburst.reconcile.start_timeout import StartTimeout
from fluxburst.reconcile.terminate import Terminator
from fluxburst.reconcile.vetting import Ownership, Standing, Vetting
from fluxburst.reconcile.workers import PluginWorkers

Plugins = Mapping[str, BurstPlugin]


class Parts:
    """The parts of one client. Each is made once, from earlier ones.

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
        plugins: Plugins,
        instance: Instance,
        place: LedgerPlace,
        policy: Policy,
    ) -> None:
        self._shared = shared = _shared(hooks, plugins, instance, place, policy)
        self.workers, self.store = shared.workers, shared.store
        self.pending_queue = shared.pending_queue
        self.scan = Scan(self.pending_queue)
        self.decisions = DecisionLog(self.store)
        self.waiting = Waiting(shared)
        self.spans = RemainingLife(shared)
        self.limits = CurrentLimits(shared, self.waiting, self.spans)
        self.planners = Planners(shared, self.limits)
        self.assigner = Assigner(shared, self.waiting)
        self.memos = Memos(self.pending_queue, self.store, self.assigner)
        self.losses = Losses(instance, self.store)
        self.ownership = Ownership(self.store)
        vetting = Vetting(instance, self.store, Standing(place))
        refusals = Refusals(instance, self.pending_queue)
        self.drainer = Drainer(shared, refusals)
        self.provisioner = Provisioner(shared, vetting, self.assigner, self.limits.budget)
        self.terminator = Terminator(shared, self.ownership, self.assigner, self.drainer)
        self.observer = Observer(
            shared,
            self.ownership,
            vetting,
            self.assigner,
            self.drainer,
            self.terminator,
            self.spans,
        )
        self.lease_keeper = LeaseKeeper(
            shared,
            self.assigner,
            self.drainer,
            self.terminator,
            refusals,
            self.spans,
            self.limits.budget,
        )
        self.starting = StartTimeout(shared, self.assigner, self.waiting)

    @property
    def policy(self) -> Policy:
        """Lifetimes, timeouts, retries and limits; every part goes by what is set here."""
        return self._shared.policy

    @policy.setter
    def policy(self, policy: Policy) -> None:
        self._shared.policy = policy


def _shared(
    hooks: Manager, plugins: Plugins, instance: Instance, place: LedgerPlace, policy: Policy
) -> Shared:
    store = BurstStore(hooks, plugins, instance, place)
    workers = PluginWorkers(instance.wake)
    return Shared(hooks, plugins, instance, pending_queue_of(instance), store, workers, policy)
