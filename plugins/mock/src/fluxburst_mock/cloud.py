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
        node_type: Their shape and price.
        hostnames: Their hostnames.
        since: When they were made, in seconds since the epoch.
        joining_at: When their brokers join, in seconds since the epoch; infinite for never.
        listed: Whether the cloud lists them.
        lease_until: When the cloud ends them by itself, in seconds since the epoch; None for never.
        isolated: They are an instance of their own.
    """

    node_type: NodeType
    hostnames: tuple[str, ...]
    since: float
    joining_at: float
    listed: bool = True
    lease_until: float | None = None
    isolated: bool = False


class Cloud:
    """The machines that exist, by the name of their burst, and what was billed so far.

    Attributes:
        machines: The machines that exist.
        made: The names of all that were ever made, in that order.
    """

    def __init__(self) -> None:
        self.machines: dict[str, Machines] = {}
        self.made: list[str] = []
        self._billed = 0.0

    def make(self, name: str, machines: Machines) -> None:
        """Make machines."""
        self.made.append(name)
        self.machines[name] = machines

    def take(self, name: str, now: float) -> Sequence[str]:
        """Take machines away and bill them; return their hostnames, none if there are none."""
        machines = self.machines.pop(name, None)
        if machines is None:
            return ()
        self._billed += _cost(machines, now)
        return machines.hostnames

    def bill(self, now: float) -> float:
        """Return what all machines have cost until now."""
        return self._billed + sum(_cost(machines, now) for machines in self.machines.values())


def _cost(machines: Machines, now: float) -> float:
    hours = (now - machines.since) / 3600
    return hours * machines.node_type.price * len(machines.hostnames)


_clouds: weakref.WeakKeyDictionary[Any, dict[str, Cloud]] = weakref.WeakKeyDictionary()


def cloud_of(instance: Any, name: str) -> Cloud:
    """Return the cloud of a name that serves an instance: the same one for every client of it."""
    return _clouds.setdefault(instance, {}).setdefault(name, Cloud())
