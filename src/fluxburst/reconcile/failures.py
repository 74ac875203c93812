"""What failed: plugins that cannot be asked, and bursts that did not come up or lost nodes.

Failures of bursts are counted against their node type; what is left of them is terminated, and the
jobs that wait for them are released.
"""

from __future__ import annotations

from dataclasses import replace

from fluxburst.errors import BurstError, FluxburstError
from fluxburst.model.burst import COMING_STATES, Burst, BurstState, EndReason
from fluxburst.plugin.base import BurstPlugin
from fluxburst.reconcile.assign import Assigner
from fluxburst.reconcile.drain import Drainer
from fluxburst.reconcile.shared import Shared
from fluxburst.reconcile.terminate import Terminator


class Failures:
    """Takes in what failed for one client.

    Args:
        shared: What the parts of a client share.
        assigner: What releases its jobs.
        drainer: What drains its bursts.
        terminator: What terminates its bursts.

    Attributes:
        errors: What failed since this was last emptied.
    """

    def __init__(
        self, shared: Shared, assigner: Assigner, drainer: Drainer, terminator: Terminator
    ) -> None:
        self._hooks = shared.hooks
        self._store = shared.store
        self._assigner = assigner
        self._drainer = drainer
        self._terminator = terminator
        self._shared = shared
        self.errors: list[FluxburstError] = []

    def cannot_ask(self, plugin: BurstPlugin, error: BurstError) -> None:
        """Say that a plugin cannot be asked: nothing of its is presumed gone."""
        error.plugin = error.plugin or plugin.name
        self.errors.append(error)
        self._hooks.phase_failed("adopt", plugin, error)

    def refused(self, plugin: BurstPlugin, burst: Burst, error: BurstError) -> None:
        """End a burst that its provider will not supply after all; others are offered its jobs."""
        self._store.count_failure(burst, burst.error, self._shared.policy.breakers, final=True)
        self.end(plugin, burst)
        self.errors.append(error)
        self._hooks.phase_failed("run", plugin, error)

    def degraded(self, plugin: BurstPlugin, burst: Burst) -> None:
        """Take down what is left of a burst that lost nodes, once no job runs on that."""
        if burst.isolated and burst.joined:  # its job began: that is a start
            self._store.record(plugin, replace(burst, state=BurstState.READY, error=""))
        if not self._drainer.why_busy(burst):
            self.failed(plugin, burst)
            return
        known = self._store.known(burst)
        self._store.record(plugin, replace(burst, state=known.state))
        self._drainer.drain(burst, burst.error, EndReason.FAILED)
        waiting = self._assigner.waiting_for(plugin, {burst.name})
        self._assigner.release(plugin, waiting, burst.error)

    def failed(self, plugin: BurstPlugin, burst: Burst) -> None:
        """Count the failure of a burst that did not come up, and have it taken down."""
        if burst.state in COMING_STATES or burst.state is BurstState.FAILED:
            self._store.count_failure(burst, burst.error, self._shared.policy.breakers)
        self.end(plugin, burst)

    def end(self, plugin: BurstPlugin, burst: Burst) -> None:
        """Have what there is of a burst taken down, and free the jobs that wait for it."""
        self._terminator.end(burst, end_reason=EndReason.FAILED)
        waiting = self._assigner.waiting_for(plugin, {burst.name})
        self._assigner.release(plugin, waiting, burst.error)
