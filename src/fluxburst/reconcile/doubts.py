"""Bursts that are listed although their plugin reported them gone.

Such a plugin is not believed about them again: they have ended once it no longer lists them.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from fluxburst.errors import BurstError
from fluxburst.model.burst import Burst
from fluxburst.model.leftovers import still_listed
from fluxburst.plugin.base import BurstPlugin
from fluxburst.reconcile.burst_store import BurstStore
from fluxburst.reconcile.drain import Drainer

THERE_AGAIN = "its plugin lists it, although it had ended"


class Doubts:
    """Knows about which bursts plugins are not believed, for one client.

    Args:
        store: The record of bursts.
        drainer: Drains the nodes of those that exist again.
    """

    def __init__(self, store: BurstStore, drainer: Drainer) -> None:
        self._store = store
        self._drainer = drainer
        self._claims: set[str] = set()
        self._contradicted: set[str] = set()

    def is_doubted(self, name: str) -> bool:
        """Whether a burst was listed after its plugin reported it deleted."""
        entry = self._store.ledger.entry(name)
        return entry is not None and entry.live and self._store.ledger.times_deleted(name) > 0

    def reopen(self, plugin: BurstPlugin, found: Burst) -> Burst:
        """Record that a burst exists, if the ledger has its end, and drain its nodes again."""
        entry = self._store.ledger.entry(found.name)
        if entry is None or entry.live:
            return found
        burst, reason = replace(entry.burst, since=found.since), THERE_AGAIN
        if self._store.ledger.times_deleted(found.name):
            why = still_listed(plugin.name, found.name)
            burst, reason = replace(burst, leftover=str(why)), str(why.args[0])
        burst = self._store.reopen(plugin, burst, reason)
        self._drainer.drain_nodes([burst])
        return burst

    def claim(self, plugin: BurstPlugin, names: Collection[str]) -> set[str]:
        """Note which bursts are reported gone by a plugin that is not believed; return them."""
        doubted = set(filter(self.is_doubted, names))
        self._claims |= doubted
        for name in doubted:  # the plugin may have recorded its end
            plugin.bursts[name] = self._store.known(Burst(name, plugin.name, "", 0))
        return doubted

    def claimed(self, names: Collection[str]) -> list[str]:
        """Return which bursts are reported gone, and not yet known to be."""
        return sorted(self._claims.intersection(names))

    def contradict(self, plugin: str, name: str, *, again: bool = False) -> BurstError | None:
        """Note that a burst is still listed; return what to report.

        Args:
            plugin: Its plugin's name.
            name: The burst's name.
            again: Whether to report it although it was reported before.
        """
        self._claims.discard(name)
        if name in self._contradicted and not again:
            return None
        self._contradicted.add(name)
        return still_listed(plugin, name)

    def forget(self, name: str) -> None:
        """Forget a burst that has ended."""
        self._claims.discard(name)
        self._contradicted.discard(name)
