"""Machine types of a provider, with their prices: a table in TOML, part of a package.

The table names its date, since prices change, its region and its source::

    dated = 2026-08-20
    region = "us-central1"
    source = "the provider's public price list"

    [[machine_types]]
    name = "c2-standard-8"
    vcpus = 8
    threads_per_core = 2
    memory = "32GiB"
    price = 0.417616

Users override it with tables of the same keys, in a plugin's parameter ``machine_types``.
"""

from __future__ import annotations

import dataclasses
import datetime
import math
import sys
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from fluxburst.config.conversion import CONVERSION_ERRORS, convert, reasons
from fluxburst.errors import ConfigError, RequestError, did_you_mean
from fluxburst.formats.units import ByteSize
from fluxburst.model.node import NodeType

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

SPOT = "-spot"
"""Suffix of node types whose machines the provider may preempt at any time."""

Provisioning = Literal["on-demand", "spot", "spot, then on-demand"]
"""How machines are bought: the last offers both, and the planner takes the cheapest available."""

_HEADER = {"dated", "region", "source", "machine_types"}


@dataclass(frozen=True)
class MachineType:
    """A machine type of a provider.

    Attributes:
        name: The provider's name of it.
        vcpus: Virtual CPUs: threads, if cores have several.
        threads_per_core: Threads of a core, 1 or 2. Flux counts cores, not threads.
        memory: Bytes.
        gpus: GPUs.
        gpu_model: Their model; empty if there are none.
        price: Hourly price on demand; None if unknown.
        spot_price: Hourly price as a spot machine; None if unknown.
    """

    name: str
    vcpus: int
    threads_per_core: int
    memory: ByteSize
    gpus: int = 0
    gpu_model: str = ""
    price: float | None = None
    spot_price: float | None = None

    @property
    def cores(self) -> int:
        """Cores, as Flux counts them."""
        return self.vcpus // self.threads_per_core


@dataclass(frozen=True)
class MachineTypeOverride:
    """Changes to a machine type of the table, or the complete description of a new one.

    The fields are those of :class:`MachineType`; None, the default, keeps the table's value.
    """

    name: str
    vcpus: int | None = None
    threads_per_core: int | None = None
    memory: ByteSize | None = None
    gpus: int | None = None
    gpu_model: str | None = None
    price: float | None = None
    spot_price: float | None = None


@dataclass(frozen=True)
class MachineTypes:
    """A provider's machine types.

    Attributes:
        dated: The date of the prices.
        region: The provider's region of the prices.
        source: Their source, for people.
        by_name: The machine types.
        overridden: The names of those changed or added by the user.
    """

    dated: datetime.date
    region: str
    source: str
    by_name: Mapping[str, MachineType]
    overridden: Collection[str] = field(default=frozenset())

    def __getitem__(self, name: str) -> MachineType:
        """Return a machine type by name.

        Raises:
            RequestError: if it does not exist.
        """
        found = self.by_name.get(name)
        if found is None:
            raise RequestError(
                f"unknown machine type {name!r}{did_you_mean(name, self.by_name)}; describe "
                "new ones in the parameter machine_types"
            )
        return found

    def origin_of(self, name: str) -> str:
        """Return the source of a machine type's price, for people."""
        if name in self.overridden:
            return "as set by the parameter machine_types"
        return f"of {self.dated}, region {self.region}, from {self.source}"

    def with_overrides(self, overrides: Iterable[MachineTypeOverride]) -> MachineTypes:
        """Return the table with the user's changed and added machine types.

        Raises:
            RequestError: for the first that is incomplete or has an impossible value.
        """
        by_name = dict(self.by_name)
        overridden = set(self.overridden)
        for override in overrides:
            by_name[override.name] = _overridden(by_name.get(override.name), override)
            overridden.add(override.name)
        return dataclasses.replace(self, by_name=by_name, overridden=frozenset(overridden))


def load(text: str, origin: str) -> MachineTypes:
    """Read a table of machine types.

    Args:
        origin: Its origin, such as a file's name, for errors.
        origin: Where it is from, such as a file's name, for errors.

    ConfigError: if it is malformed; names the entry.
        ConfigError: if it is no such table; it names the entry.
    """
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(origin, str(error)) from error
    missing, unknown = _HEADER - table.keys(), table.keys() - _HEADER
    if missing or unknown:
        problem = f"lacks {min(missing)!r}" if missing else f"has an unknown key {min(unknown)!r}"
        raise ConfigError(origin, problem)
    dated, entries = table["dated"], table["machine_types"]
    if type(dated) is not datetime.date:
        raise ConfigError(origin, "dated: expected a date, such as 2026-08-20")
    by_name: dict[str, MachineType] = {}
    for number, entry in enumerate(entries, start=1):
        machine_type = _read(entry, number, origin)
        if machine_type.name in by_name:
            raise ConfigError(origin, f"machine type {machine_type.name!r} appears twice")
        by_name[machine_type.name] = machine_type
    return MachineTypes(dated, str(table["region"]), str(table["source"]), by_name)


def node_types(
    machine_type: MachineType,
    provisioning: Provisioning,
    *,
    max_nodes: int | None,
    properties: tuple[str, ...] = (),
) -> list[NodeType]:
    """Return the node types for a machine type: on demand, spot, or both.

    Args:
        machine_type: The machine type.
        provisioning: How machines are bought.
        max_nodes: Maximum number of each.
        properties: Properties (RFC 20) of the nodes in the instance.

    Raises:
        RequestError: if a needed price is missing.
    """
    ways = {
        "on-demand": (("", machine_type.price, "price"),),
        "spot": ((SPOT, machine_type.spot_price, "spot_price"),),
    }
    wanted = (*ways["spot"], *ways["on-demand"]) if "," in provisioning else ways[provisioning]
    made = []
    for suffix, price, key in wanted:
        if price is None:
            raise RequestError(
                f"machine type {machine_type.name!r} has no {key}: set it in the parameter "
                "machine_types, or choose another provisioning"
            )
        made.append(
            NodeType(
                machine_type.name + suffix,
                cores=machine_type.cores,
                gpus=machine_type.gpus,
                memory=machine_type.memory,
                price=price,
                max_nodes=max_nodes,
                properties=properties,
            )
        )
    return made


def machine_of(node_type: str) -> tuple[str, bool]:
    """Return the machine type's name of a node type, and whether it is spot."""
    return node_type.removesuffix(SPOT), node_type.endswith(SPOT)


def _read(entry: Any, number: int, origin: str) -> MachineType:
    name = entry.get("name") if isinstance(entry, Mapping) else None
    where = f"machine type {name!r}" if name else f"machine type number {number}"
    try:
        machine_type: MachineType = convert(entry, MachineType, text=False)
    except CONVERSION_ERRORS as error:
        raise ConfigError(origin, f"{where}: {'; '.join(reasons(error))}") from error
    problem = _problem(machine_type)
    if problem:
        raise ConfigError(origin, f"{where}: {problem}")
    return machine_type


def _overridden(known: MachineType | None, override: MachineTypeOverride) -> MachineType:
    given = {k: v for k, v in dataclasses.asdict(override).items() if v is not None}
    if known is None:
        missing = {"vcpus", "threads_per_core", "memory", "price"} - given.keys()
        if missing:
            raise RequestError(
                f"machine type {override.name!r} is not in the table, so it needs "
                f"{', '.join(sorted(missing))}"
            )
        machine_type = MachineType(**given)
    else:
        machine_type = dataclasses.replace(known, **given)
    problem = _problem(machine_type)
    if problem:
        raise RequestError(f"machine type {override.name!r}: {problem}")
    return machine_type


def _problem(machine_type: MachineType) -> str:
    """Return the problem of an impossible value; empty if all are possible."""
    if not machine_type.name or machine_type.name.endswith(SPOT):
        return f"its name is empty, or ends in {SPOT}"
    if machine_type.threads_per_core not in (1, 2):
        return f"threads_per_core: expected 1 or 2, got {machine_type.threads_per_core}"
    if machine_type.vcpus < 1 or machine_type.vcpus % machine_type.threads_per_core:
        return f"vcpus: expected a whole number of cores, got {machine_type.vcpus} threads"
    if machine_type.memory < 1 or machine_type.gpus < 0:
        return "memory must be positive, and gpus 0 or more"
    if bool(machine_type.gpus) != bool(machine_type.gpu_model):
        return "gpus and gpu_model go together"
    prices = (machine_type.price, machine_type.spot_price)
    if any(price is not None and not 0 <= price < math.inf for price in prices):
        return "a price must be a number of 0 or more"
    return ""
