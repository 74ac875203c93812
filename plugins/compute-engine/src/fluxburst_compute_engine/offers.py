"""Node types for bursts, from Compute Engine's machine types."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from fluxburst import Duration, NodeType
from fluxburst.errors import RequestError
from fluxburst.formats.units import counted
from fluxburst.provider.elastic import BURST_PROPERTY, Shape
from fluxburst.provider.machine_types import MachineType, MachineTypes, node_types
from fluxburst_compute_engine.machines import MOST_RUN_SECONDS
from fluxburst_compute_engine.parameters import BurstParameters


def declared_shapes(
    declared: Iterable[Shape], known: MachineTypes, only: str | None, directory: Path
) -> tuple[Shape, ...]:
    """Return the declared burst nodes whose shape is a machine type.

    Args:
        declared: All declared burst nodes.
        known: The machine types.
        only: The only machine type to use; None for all.
        directory: Their directory, for errors.

    Raises:
        RequestError: if there are none, or one is declared with the wrong number of cores.
    """
    found = [
        shape for shape in declared if shape.name in known.by_name and only in (None, shape.name)
    ]
    if not found:
        kind = f"the machine type {only}" if only else "a machine type of Compute Engine"
        raise RequestError(
            f"{directory} declares no hosts of {kind}: use fluxburst compute-engine init"
        )
    for shape in found:
        machine = known[shape.name]
        if (shape.cores, shape.gpus) != (machine.cores, machine.gpus):
            raise RequestError(
                f"{shape.name} has {counted(machine.cores, 'core')} and "
                f"{counted(machine.gpus, 'GPU')}, but {directory} declares it with "
                f"{shape.cores} and {shape.gpus}"
            )
    return tuple(found)


def joining(
    params: BurstParameters, known: MachineTypes, shapes: Sequence[Shape]
) -> list[NodeType]:
    """Return the node types of declared hosts, with the table's prices.

    Raises:
        RequestError: if one has no price.
    """
    return [
        kind
        for shape in shapes
        for kind in _bought(
            params, known[shape.name], len(shape.hosts), (BURST_PROPERTY, shape.name)
        )
    ]


def isolated(params: BurstParameters, known: MachineTypes) -> list[NodeType]:
    """Return the node types of isolated bursts, with the table's prices.

    Raises:
        RequestError: if the configured one has no price.
    """
    only = params.machine_type
    offered = [known[only]] if only else _priced(params, known)
    return [kind for one in offered for kind in _bought(params, one, None, (one.name,))]


def _bought(
    params: BurstParameters, machine: MachineType, most: int | None, properties: tuple[str, ...]
) -> list[NodeType]:
    kinds = node_types(machine, params.provisioning, max_nodes=most, properties=properties)
    return [replace(kind, max_lifetime=Duration(MOST_RUN_SECONDS)) for kind in kinds]


def _priced(params: BurstParameters, known: MachineTypes) -> list[MachineType]:
    """Return the machine types for the configured purchase options."""
    spot, on_demand = "spot" in params.provisioning, "demand" in params.provisioning
    return [
        one
        for one in known.by_name.values()
        if not (spot and one.spot_price is None) and not (on_demand and one.price is None)
    ]
