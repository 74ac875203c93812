"""Current prices of machine types from a provider, cached for an hour.

If the provider has no price, or cannot be asked, the table of
:mod:`fluxburst.provider.machine_types` applies.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace

from fluxburst.errors import FluxburstError
from fluxburst.model.node import NodeType
from fluxburst.provider.machine_types import MachineTypes, machine_of

GOOD_SECONDS = 3600.0
"""How long prices are cached; likewise their absence."""

Ask = Callable[[Collection[str]], Iterable[tuple[str, float]]]
"""Asks a provider for machine types, by name; yields node types, by name, with hourly prices:
a machine type on demand, or with the suffix :data:`~fluxburst.provider.machine_types.SPOT`."""

_log = logging.getLogger(__name__)


class LivePrices:
    """A provider's prices, cached; safe for use by several threads.

    Args:
        plugin: The plugin's name, for the log.
        ask: Asks the provider. If it fails, the prices yielded before the failure are used.

    Attributes:
        known: Known hourly prices, by node type.
        problem: Why the last request failed; empty if it did not.
    """

    def __init__(self, plugin: str, ask: Ask) -> None:
        self.known: Mapping[str, float] = {}
        self.problem = ""
        self._plugin = plugin
        self._ask = ask
        self._asked: frozenset[str] = frozenset()
        self._until = 0.0
        self._said = ""
        self._lock = threading.Lock()

    def of(self, kinds: Sequence[NodeType], table: MachineTypes) -> list[NodeType]:
        """Return node types with current prices, as far as the provider has them.

        Asks the provider at most once an hour, including failed attempts.

        Args:
            kinds: Node types with the table's prices.
            table: Their machine types; prices set by the user take precedence.
        """
        names = {machine_of(kind.name)[0] for kind in kinds} - set(table.overridden)
        with self._lock:
            if time.monotonic() > self._until or not self._asked.issuperset(names):
                self._until = time.monotonic() + GOOD_SECONDS
                self._asked = frozenset(names)
                self.known = self._fetch(sorted(names)) if names else {}
            self._say()
            known = self.known
        return [replace(kind, price=known.get(kind.name, kind.price)) for kind in kinds]

    def _fetch(self, names: Collection[str]) -> Mapping[str, float]:
        known: dict[str, float] = {}
        self.problem = ""
        try:
            for name, price in self._ask(names):
                known[name] = price
        except FluxburstError as error:
            self.problem = str(error)
        return known

    def _say(self) -> None:
        if self.problem and self.problem != self._said:
            _log.warning("plugin %s: using the table's prices: %s", self._plugin, self.problem)
        self._said = self.problem
