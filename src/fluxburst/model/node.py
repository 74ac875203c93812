"""Nodes as plain data: what an instance has, and what a burst plugin can supply."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from fluxburst.formats.units import ByteSize, Duration

_PROPERTY = re.compile(r"[^!&'\"^`|()\ud800-\udfff]+")
"""A property: any text without the characters that RFC 20 forbids, and that UTF-8 can write."""

_COUNTED = frozenset({"node", "slot", "core", "gpu", "memory"})
"""Resource types that a node type says in other ways, or that are none."""

_WHOLE = frozenset({"cores", "gpus", "max_nodes"})
_MAY_BE_UNKNOWN = frozenset({"max_nodes", "memory", "max_lifetime"})


@dataclass(frozen=True)
class NodeType:
    """A shape of node that a burst plugin can supply.

    Attributes:
        name: Unique within the plugin.
        cores: Cores of one node.
        gpus: GPUs of one node.
        memory: Bytes of one node; None where it is not known, and then it is not counted.
        price: What one node costs an hour.
        max_nodes: How many at most at any time; None for no limit.
        properties: Properties (RFC 20) that its nodes will have in the instance. Jobs with
            constraints are only given nodes that match them.
        resources: What else one node has, by the type that jobspecs call it (RFC 14), such as
            ``{"ssd": 2}``; in bytes where jobspecs give a unit. Jobs that ask for another type are
            not given its nodes.
        max_lifetime: How long the provider lets a node live at most, in seconds from when it
            begins to bill it; None for no limit. No job is placed that may run longer.
    """

    name: str
    cores: int
    gpus: int = 0
    memory: ByteSize | None = None
    price: float = 0.0
    max_nodes: int | None = None
    properties: tuple[str, ...] = ()
    resources: Mapping[str, int] = field(default_factory=dict, hash=False)
    max_lifetime: Duration | None = None


@dataclass(frozen=True)
class Node:
    """A node that the instance knows.

    Attributes:
        rank: Its broker rank.
        hostname: Its hostname.
        cores: Cores in all.
        gpus: GPUs in all.
        free_cores: Cores that no job has.
        free_gpus: GPUs that no job has.
        memory: Bytes in all; None where it is not known (Flux's R does not say).
        free_memory: Bytes that no job has; None where it is not known.
        up: Its broker is connected.
        drained: It is set aside: no new job starts on it.
        drain_reason: Why, where somebody said so.
        drained_at: Since when somebody has drained it, in seconds since the epoch; None where
            nobody has, or that is not known.
        properties: Its properties (RFC 20).
    """

    rank: int
    hostname: str
    cores: int
    gpus: int = 0
    free_cores: int = 0
    free_gpus: int = 0
    memory: int | None = None
    free_memory: int | None = None
    up: bool = True
    drained: bool = False
    properties: frozenset[str] = frozenset()
    drain_reason: str = ""
    drained_at: float | None = None

    @property
    def usable(self) -> bool:
        """Whether a job could be started on it, if it has room."""
        return self.up and not self.drained

    @property
    def idle(self) -> bool:
        """Whether no job has any of it."""
        return self.free_cores == self.cores and self.free_gpus == self.gpus


def check_node_types(node_types: Sequence[NodeType]) -> None:
    """Check what a burst plugin says it can supply.

    Raises:
        ValueError: if it is not a list of node types with names of their own, numbers that can be
            counted with, properties as RFC 20 allows them, and resources that are not counted
            elsewhere.
    """
    names: set[str] = set()
    for node_type in node_types:
        if not isinstance(node_type, NodeType):
            raise ValueError(f"node_types() returned {node_type!r}, which is not a NodeType")
        if not isinstance(node_type.name, str) or not node_type.name.strip():
            raise ValueError(f"node_types() has one whose name is {node_type.name!r}: give it one")
        if not node_type.name.isprintable():
            raise ValueError(
                f"node_types() has one whose name is {node_type.name!r}: it has a character that "
                "cannot be printed"
            )
        if node_type.name in names:
            raise ValueError(f"node_types() has two of the name {node_type.name!r}")
        names.add(node_type.name)
        _check_numbers(node_type)
        if not _are_properties(node_type.properties):
            what = f"properties that RFC 20 does not allow: {node_type.properties!r}"
            raise ValueError(f"node type {node_type.name!r} has {what}")
        if not _are_resources(node_type.resources):
            what = f"resources that are no counts of other types: {node_type.resources!r}"
            raise ValueError(f"node type {node_type.name!r} has {what}")


def _check_numbers(node_type: NodeType) -> None:
    """Check the numbers of a node type, and that they are numbers.

    Raises:
        ValueError: if they cannot be counted with.
    """
    name = node_type.name
    for what in ("cores", "gpus", "max_nodes", "memory", "price", "max_lifetime"):
        value = getattr(node_type, what)
        kinds = (int,) if what in _WHOLE else (int, float)
        if value is None and what in _MAY_BE_UNKNOWN:
            continue
        if isinstance(value, bool) or not isinstance(value, kinds):
            expected = " or ".join(kind.__name__ for kind in kinds)
            raise ValueError(f"node type {name!r} has {what} = {value!r}, which is not {expected}")
        if what == "max_lifetime" and not value > 0:
            raise ValueError(f"node type {name!r} has a max_lifetime of {value!r} seconds")
        if not value >= 0 or (what != "max_lifetime" and math.isinf(value)):
            raise ValueError(f"node type {name!r} has a negative or endless number: {what}")


def _are_resources(resources: object) -> bool:
    return isinstance(resources, Mapping) and all(
        isinstance(kind, str)
        and kind
        and kind not in _COUNTED
        and type(count) is int
        and count >= 0
        for kind, count in resources.items()
    )


def _are_properties(names: object) -> bool:
    return isinstance(names, (tuple, list)) and all(
        isinstance(name, str) and _PROPERTY.fullmatch(name) for name in names
    )
