"""A cloud in memory. It outlives the plugin that uses it, as a real one does."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from fluxburst import NodeType


@dataclass(frozen=True)
class Machines:
    """The machines of one burst.

    Attributes:
        node_type: Their node type.
        hostnames: Their hostnames.
        since: When they were created, in seconds since the epoch.
        joining_at: When their brokers join, in seconds since the epoch; infinite for never.
        listed: Whether the cloud lists them.
        lease_until: When the cloud ends them by itself, in seconds since the epoch; None for never.
        isolated: They form a separate instance.
    """

    node_type: NodeType
    hostnames: tuple[str, ...]
    since: float
    joining_at: float
    listed: bool = True
    lease_until: float | None = None
    isolated: bool = False


class Cloud:
    """The existing machines, by the name of their burst, and the amount billed so far.

    Attributes:
        machines: The existing machines.
        made: Names of all machines ever created, in order.
    """

    def __init__(self) -> None:
        self.machines: dict[str, Machines] = {}
        self.made: list[str] = []
        self._billed = 0.0

    def make(self, name: str, machines: Machines) -> None:
        """Create machines."""
        self.made.append(name)
        self.machines[name] = machines

    def take(self, name: str, now: float) -> Sequence[str]:
        """Delete machines and bill them; return their hostnames, none if they do not exist."""
        machines = self.machines.pop(name, None)
        if machines is None:
            return ()
        self._billed += _cost(machines, now)
        return machines.hostnames

    def bill(self, now: float) -> float:
        """Return the cost of all machines so far."""
        return self._billed + sum(_cost(machines, now) for machines in self.machines.values())


def _cost(machines: Machines, now: float) -> float:
    hours = (now - machines.since) / 3600
    return hours * machines.node_type.price * len(machines.hostnames)


_clouds: weakref.WeakKeyDictionary[Any, dict[str, Cloud]] = weakref.WeakKeyDictionary()


def cloud_of(instance: Any, name: str) -> Cloud:
    """Return the cloud of this name for an instance: the same object for all its clients."""
    return _clouds.setdefault(instance, {}).setdefault(name, Cloud())
