"""Prices of machine types as a provider tells them now, kept for an hour.

What the provider does not tell, or cannot be asked for, costs what the table of
:mod:`fluxburst.provider.machine_types` says.
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
"""For how long prices are used before they are asked for again; likewise that there are none."""

Ask = Callable[[Collection[str]], Iterable[tuple[str, float]]]
"""Asks a provider for machine types, by name; yields node types, by name, with their price an hour:
a machine type on demand, or with :data:`~fluxburst.provider.machine_types.SPOT` behind its name."""

_log = logging.getLogger(__name__)


class LivePrices:
    """A provider's prices, for as long as they are good; several threads may use them.

    Args:
        plugin: The plugin's name, for the log.
        ask: Asks the provider. Where it fails, what it has yielded until then is used.

    Attributes:
        known: What is known: node types by name, with their price an hour.
        problem: Why the last that were asked for are not known; empty where they are.
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
        """Return node types at the prices of now, as far as the provider tells them.

        The provider is asked at most once an hour, also where it could not be asked.

        Args:
            kinds: Node types at the table's prices.
            table: Their machine types: those that a user changed or added cost what that user says.
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
            _log.warning("plugin %s: prices are those of the table: %s", self._plugin, self.problem)
        self._said = self.problem
