"""Slots: the MiniClusters whose hosts an elastic instance has declared.

The pods of the MiniCluster NAME have the hostnames NAME-0, NAME-1, …, under which their brokers
join, and an instance admits only hosts in its bootstrap configuration (flux-config-bootstrap(5)).
So a burst must be a MiniCluster of a declared name, no larger than declared.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from fluxburst import Burst
from fluxburst.errors import CapacityError, FormatError, RequestError
from fluxburst.formats.hostlist import parse_hostlist
from fluxburst.formats.units import counted

NAME_LENGTH = 50
"""A pod's name is its MiniCluster's with an index and a suffix, at most 63 characters."""

_NAME = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?", re.ASCII)


@dataclass(frozen=True)
class Slot:
    """A possible MiniCluster.

    Attributes:
        name: Its name.
        hosts: The hostnames of its declared pods, by index.
    """

    name: str
    hosts: tuple[str, ...]


def slot_names(text: str) -> tuple[str, ...]:
    """Return the names of the slots in the parameter ``name``.

    Raises:
        RequestError: if it is not a hostlist of valid MiniCluster names.
    """
    names = parse_hostlist(text)
    if not names:
        raise FormatError(text, "a hostlist (RFC 29) of at least one MiniCluster name")
    for name in names:
        if not _NAME.fullmatch(name) or len(name) > NAME_LENGTH:
            raise RequestError(
                f"{name!r} is not a valid name for a MiniCluster: at most {NAME_LENGTH} lowercase "
                "letters, digits and '-', beginning with a letter"
            )
    if len(set(names)) < len(names):
        raise RequestError(f"{text!r} names a MiniCluster twice")
    return names


def host_of(slot: str, index: int) -> str:
    """Return the hostname of a MiniCluster's pod."""
    return f"{slot}-{index}"


def declared_slots(names: Iterable[str], hosts: Collection[str]) -> tuple[Slot, ...]:
    """Return the slots with declared hosts: NAME-0, and those that follow it."""
    known = frozenset(hosts)
    slots = []
    for name in names:
        count = 0
        while host_of(name, count) in known:
            count += 1
        if count:
            slots.append(Slot(name, tuple(host_of(name, index) for index in range(count))))
    return tuple(slots)


def choose(slots: Sequence[Slot], nodes: int) -> Slot | None:
    """Return the smallest slot that holds this many nodes; None if there is none."""
    fitting = [slot for slot in slots if len(slot.hosts) >= nodes]
    return min(fitting, key=lambda slot: len(slot.hosts), default=None)


class SlotPool:
    """The slots of an instance, each with the shape of its hosts.

    Args:
        slots: The slots.
        shapes: The shape of the hosts of each, by the slot's name.
        plugin: The plugin's name, for errors.
    """

    def __init__(self, slots: Sequence[Slot], shapes: Mapping[str, str], plugin: str) -> None:
        self.slots = slots
        self.shapes = shapes
        self._plugin = plugin

    def free(self, taken: Collection[str], busy: Collection[str]) -> list[Slot]:
        """Return the free slots.

        Args:
            taken: The names of existing MiniClusters.
            busy: The hosts that are up, or drained.
        """
        hosts = frozenset(busy)
        return [
            slot for slot in self.slots if slot.name not in taken and hosts.isdisjoint(slot.hosts)
        ]

    def of_shape(self, slots: Iterable[Slot], shape: str) -> list[Slot]:
        """Return the slots whose hosts have a shape."""
        return [slot for slot in slots if self.shapes[slot.name] == shape]

    def choose(self, free: Sequence[Slot], burst: Burst, shape: str) -> Slot:
        """Return the slot for a burst, among free ones with its shape.

        Raises:
            CapacityError: if none holds it.
        """
        slot = choose(free, burst.nodes)
        if slot is not None:
            return slot
        sizes = ", ".join(f"{slot.name} of {len(slot.hosts)}" for slot in free) or "none"
        suiting = [slot.name for slot in self.of_shape(self.slots, shape)]
        raise CapacityError(
            f"{counted(burst.nodes, 'node')} requested, but no free slot holds them "
            f"[free: {sizes}; declared: {', '.join(suiting) or 'none'}]",
            plugin=self._plugin,
            burst=burst.name,
        )
