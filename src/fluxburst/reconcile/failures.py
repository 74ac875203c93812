"""Failures: plugins that cannot be asked, and bursts that did not come up or lost nodes.

Failures of bursts count against their node type; their remains are terminated, and the
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
    """Processes failures for one client.

    Args:
        shared: What the parts of a client share.
        assigner: Releases its jobs.
        drainer: Drains its bursts.
        terminator: Terminates its bursts.

    Attributes:
        errors: Failures since this was last emptied.
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
        """Report that a plugin cannot be asked: none of its bursts is presumed gone."""
        error.plugin = error.plugin or plugin.name
        self.errors.append(error)
        self._hooks.phase_failed("adopt", plugin, error)

    def refused(self, plugin: BurstPlugin, burst: Burst, error: BurstError) -> None:
        """End a burst that its provider will not supply; others are offered its jobs."""
        self._store.count_failure(burst, burst.error, self._shared.policy.breakers, final=True)
        self.end(plugin, burst)
        self.errors.append(error)
        self._hooks.phase_failed("run", plugin, error)

    def degraded(self, plugin: BurstPlugin, burst: Burst) -> None:
        """Terminate the rest of a burst that lost nodes, once no job runs on it."""
        if burst.isolated and burst.joined:  # its job began: that counts as a start
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
        """Count the failure of a burst that did not come up, and have it terminated."""
        if burst.state in COMING_STATES or burst.state is BurstState.FAILED:
            self._store.count_failure(burst, burst.error, self._shared.policy.breakers)
        self.end(plugin, burst)

    def end(self, plugin: BurstPlugin, burst: Burst) -> None:
        """Have the rest of a burst terminated, and release the jobs that wait for it."""
        self._terminator.end(burst, end_reason=EndReason.FAILED)
        waiting = self._assigner.waiting_for(plugin, {burst.name})
        self._assigner.release(plugin, waiting, burst.error)
