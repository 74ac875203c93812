"""Drains bursts: no new job starts on their nodes, and running jobs may finish.

This is the only place where the reconciler drains nodes and waits for jobs to leave them. When a
plugin deletes a burst, it is drained already: the plugin repeats the drain, and removes the nodes.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace

from fluxburst.errors import BurstError
from fluxburst.formats.units import format_duration
from fluxburst.model.burst import LEAVING_STATES, Burst, BurstState, EndReason, drain_reason
from fluxburst.plugin.base import BurstPlugin
from fluxburst.provider.node_removal import why_busy
from fluxburst.reconcile.refusals import Refusals
from fluxburst.reconcile.shared import Shared

POLL_SECONDS = 0.5
CANCEL_SECONDS = 60.0
"""How long cancelled jobs may take to leave their nodes."""

_log = logging.getLogger(__name__)


class Drainer:
    """Drains the bursts of one client.

    Args:
        shared: What the parts of a client share.
        refusals: Tells which jobs would fail without some nodes.
    """

    def __init__(self, shared: Shared, refusals: Refusals) -> None:
        self._instance = shared.instance
        self._store = shared.store
        self._refusals = refusals
        self._shared = shared
        self._warned: set[tuple[str, str]] = set()

    def drain(self, burst: Burst, reason: str, end_reason: EndReason | None) -> Burst:
        """Let no new job start on a burst's nodes; return the burst's record then.

        The reason for the drain is on disk before any node is drained.

        Args:
            burst: The burst.
            reason: Why, for a person.
            end_reason: Why; None for what is recorded.
        """
        plugin = self._store.plugin_of(burst)
        if plugin is None:
            return burst
        if burst.state not in LEAVING_STATES:
            self._refusals.warn(burst)
            drained = replace(burst, state=BurstState.DRAINING)
            burst = self._store.record(plugin, drained, reason, end_reason=end_reason)
        self.drain_nodes([burst])
        return burst

    def drain_nodes(self, bursts: Collection[Burst]) -> None:
        """Drain the nodes of bursts that are recorded as being terminated."""
        for name, ranks in self._store.ranks_of(bursts).items():
            if ranks:
                self._instance.drain(ranks, drain_reason(name))

    def undrain(self, gone: Collection[str]) -> None:
        """Undrain the nodes that were drained for bursts that are gone, by name."""
        reasons = {drain_reason(name) for name in gone}
        nodes = self._instance.nodes() if reasons else ()
        ranks = [node.rank for node in nodes if node.drained and node.drain_reason in reasons]
        if ranks:
            self._instance.undrain(ranks)

    def why_busy(self, burst: Burst) -> str:
        """Return what runs on a burst's nodes, for people; empty if they are free."""
        return why_busy(self._instance, self._store.ranks_of([burst])[burst.name])

    def cancel(self, burst: Burst, why: str) -> None:
        """Cancel the jobs on a burst's nodes."""
        ranks = self._store.ranks_of([burst])[burst.name]
        jobs = self._instance.jobs_on(ranks) if ranks else []
        if jobs:
            self._instance.cancel_jobs(jobs, why)

    # --- on demand -------------------------------------------------------------------------

    def wait_for_jobs(
        self,
        bursts: Sequence[Burst],
        is_free: Callable[[Burst], None],
        meanwhile: Callable[[], None],
    ) -> list[BurstError]:
        """Wait until the jobs on drained bursts have ended, for up to ``grace``.

        Args:
            bursts: The bursts.
            is_free: Called with each burst as soon as nothing runs on it.
            meanwhile: Called before each check.

        Returns:
            Why the others are kept.
        """
        began = self._instance.now()
        limits = {burst.name: self._limits(burst) for burst in bursts}
        cancelled: set[str] = set()
        kept: list[BurstError] = []
        waiting = list(bursts)
        while waiting:
            ranks = self._store.ranks_of(waiting)
            for burst in list(waiting):
                grace, cancels = limits[burst.name]
                waited = self._instance.now() - began
                if not (why := why_busy(self._instance, ranks[burst.name])):
                    waiting.remove(burst)
                    is_free(burst)
                elif waited < grace or (cancels and waited < grace + CANCEL_SECONDS):
                    if waited >= grace and burst.name not in cancelled:
                        cancelled.add(burst.name)
                        self.cancel(burst, drain_reason(burst.name))
                else:
                    waiting.remove(burst)
                    kept.append(_kept(burst, why, grace, cancels=cancels))
            if waiting:
                self._instance.wait(POLL_SECONDS)
                meanwhile()
        return kept

    def _limits(self, burst: Burst) -> tuple[float, bool]:
        """Return how long to wait for the jobs on a burst, and whether to cancel them then.

        Its plugin's deprecated parameters of these names take precedence.
        """
        plugin = self._store.plugin_of(burst)
        lifetimes = self._shared.policy.lifetimes
        grace, cancels = self._own(plugin, "grace"), self._own(plugin, "cancel_jobs")
        return (
            float(lifetimes.grace if grace is None else grace),
            bool(lifetimes.cancel_jobs if cancels is None else cancels),
        )

    def _own(self, plugin: BurstPlugin | None, name: str) -> float | None:
        value = None if plugin is None else getattr(plugin.params, name, None)
        if plugin is None or not isinstance(value, (int, float)):
            return None
        if (plugin.name, name) not in self._warned:
            self._warned.add((plugin.name, name))
            message = "plugin %s: the parameter %s is deprecated: set %s in [lifetimes]"
            _log.warning(message, plugin.name, name, name, extra={"plugin": plugin.name})
        return value


def _kept(burst: Burst, why: str, grace: float, *, cancels: bool) -> BurstError:
    waited = f"after {format_duration(grace)}"
    what = f"its jobs were cancelled {waited}, and {why}" if cancels else f"{why} {waited}"
    advice = "" if cancels else "; to cancel its jobs, set cancel_jobs in [lifetimes]"
    return BurstError(
        f"{what}; they are drained, and the burst is kept until that has ended or its lease "
        f"expires{advice}",
        plugin=burst.plugin,
        burst=burst.name,
    )
