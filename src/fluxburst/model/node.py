"""Nodes as plain data: those of an instance, and those that a burst plugin can supply."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from fluxburst.formats.units import ByteSize, Duration

_PROPERTY = re.compile(r"[^!&'\"^`|()\ud800-\udfff]+")
"""A property: any text that UTF-8 can encode, without the characters forbidden by RFC 20."""

_COUNTED = frozenset({"node", "slot", "core", "gpu", "memory"})
"""Resource types that a node type has other fields for, or that are none."""

_WHOLE = frozenset({"cores", "gpus", "max_nodes"})
_MAY_BE_UNKNOWN = frozenset({"max_nodes", "memory", "max_lifetime"})


@dataclass(frozen=True)
class NodeType:
    """A shape of node that a burst plugin can supply.

    Attributes:
        name: Unique within the plugin.
        cores: Cores of one node.
        gpus: GPUs of one node.
        memory: Bytes of one node; None if unknown, and then ignored.
        price: Hourly price of one node.
        max_nodes: Maximum number at any time; None for no limit.
        properties: Properties (RFC 20) of its nodes in the instance. Jobs with
            constraints only get matching nodes.
        resources: Other resources of one node, by their type in jobspecs (RFC 14), such as
            ``{"ssd": 2}``; in bytes if jobspecs have a unit. Jobs that request another type do not
            get its nodes.
        max_lifetime: Maximum life of a node at the provider, in seconds from the start of
            billing; None for no limit. It gets no job that may run longer.
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
        cores: Total cores.
        gpus: Total GPUs.
        free_cores: Cores not in use by a job.
        free_gpus: GPUs not in use by a job.
        memory: Total bytes; None if unknown (Flux's R does not say).
        free_memory: Bytes not in use by a job; None if unknown.
        up: Its broker is connected.
        drained: No new job starts on it.
        drain_reason: The reason, if one was given.
        drained_at: When it was drained, in seconds since the epoch; None if it is not,
            or if unknown.
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
        """Whether a job could start on it, given room."""
        return self.up and not self.drained

    @property
    def idle(self) -> bool:
        """Whether no job uses any of it."""
        return self.free_cores == self.cores and self.free_gpus == self.gpus


def check_node_types(node_types: Sequence[NodeType]) -> None:
    """Check a burst plugin's node types.

    Raises:
        ValueError: if it is not a list of node types with unique names, usable numbers,
            properties allowed by RFC 20, and resources without fields of their
            own.
    """
    names: set[str] = set()
    for node_type in node_types:
        if not isinstance(node_type, NodeType):
            raise ValueError(f"node_types() returned {node_type!r}, which is not a NodeType")
        if not isinstance(node_type.name, str) or not node_type.name.strip():
            raise ValueError(f"node_types() has one with the invalid name {node_type.name!r}")
        if not node_type.name.isprintable():
            raise ValueError(
                f"node_types() has one with the name {node_type.name!r}, which has an unprintable "
                "character"
            )
        if node_type.name in names:
            raise ValueError(f"node_types() has two with the name {node_type.name!r}")
        names.add(node_type.name)
        _check_numbers(node_type)
        if not _are_properties(node_type.properties):
            what = f"properties that RFC 20 does not allow: {node_type.properties!r}"
            raise ValueError(f"node type {node_type.name!r} has {what}")
        if not _are_resources(node_type.resources):
            what = f"resources that are not counts of other types: {node_type.resources!r}"
            raise ValueError(f"node type {node_type.name!r} has {what}")


def _check_numbers(node_type: NodeType) -> None:
    """Check the numbers of a node type.

    Raises:
        ValueError: if one is unusable.
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
            raise ValueError(f"node type {name!r} has a negative or infinite number: {what}")


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
