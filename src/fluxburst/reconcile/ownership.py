"""Whose the bursts are that plugins list: only what is ours is adopted, or taken down."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable

from fluxburst.plugin.base import BurstPlugin
from fluxburst.reconcile.burst_store import BurstStore, is_ours

NAMED = 5
"""How many bursts one warning names."""

_log = logging.getLogger(__name__)


def strangers_text(names: Collection[str]) -> str:
    """Return some of the names, for a person."""
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(sorted(names)[:NAMED]) + more


class Ownership:
    """Tells what is ours of what plugins list, and says once what is not.

    Args:
        store: The client's store.

    Attributes:
        strangers: What each plugin listed that is not ours, when it was last asked.
    """

    def __init__(self, store: BurstStore) -> None:
        self._store = store
        self._warned: dict[str, set[str]] = {}
        self.strangers: dict[str, frozenset[str]] = {}

    def ours(self, plugin: BurstPlugin, names: Iterable[str]) -> set[str]:
        """Return those of the names that a plugin lists which are ours.

        Raises:
            LedgerError: if the ledger cannot be read.
        """
        listed = set(names)
        ours = {name for name in listed if is_ours(self._store.ledger, plugin, name)}
        self.strangers[plugin.name] = frozenset(listed - ours)
        self._warn(plugin.name, listed - ours)
        return ours

    def _warn(self, plugin: str, strangers: set[str]) -> None:
        before = self._warned.get(plugin, set())
        self._warned[plugin] = strangers  # what went and comes again is said again
        if strangers - before:
            _log.warning(
                "plugin %s lists what is not of this instance, and is left alone: %s; it is to "
                "list only what it made for this instance: if this is what you want to be rid of, "
                "take it down at the provider",
                plugin,
                strangers_text(strangers - before),
                extra={"plugin": plugin},
            )
