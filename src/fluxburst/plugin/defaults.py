"""A plugin's default behaviour for running, terminating and sizing bursts."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from typing import Protocol

from fluxburst.errors import (
    BurstError,
    BurstErrors,
    CapacityError,
    FluxburstError,
    RequestError,
    described,
)
from fluxburst.model.burst import Burst, BurstState
from fluxburst.model.jobspec import Chunk
from fluxburst.model.node import NodeType
from fluxburst.packing.packer import Demand, Packer
from fluxburst.packing.pool import Pool
from fluxburst.plugin.failures import as_burst_error
from fluxburst.plugin.known_bursts import KnownBursts
from fluxburst.plugin.validation import check_created


class Supplier(Protocol):
    """The methods of a plugin used here."""

    name: str

    @property
    def bursts(self) -> KnownBursts:
        """Its known bursts, by name."""

    def node_types(self) -> Sequence[NodeType]:
        """Return its node types."""

    def in_use(self) -> dict[str, int]:
        """Return how many nodes of each type exist."""

    def create(self, burst: Burst) -> Burst:
        """Provision a burst."""

    def delete(self, burst: Burst) -> None:
        """Terminate a burst."""


def provision(plugin: Supplier, bursts: Iterable[Burst]) -> Sequence[Burst]:
    """Create a plugin's bursts; return them in their current state.

    Raises:
        BurstErrors: for those that failed, after all were tried; their remains were deleted.
    """
    done: list[Burst] = []
    errors: list[FluxburstError] = []
    for burst in bursts:
        try:
            done.append(_provision(plugin, burst))
        except BurstError as error:
            errors.append(error)
    if errors:
        raise BurstErrors(errors, done)
    return done


def terminate(
    plugin: Supplier, names: Collection[str], before: Sequence[FluxburstError] = ()
) -> Sequence[str]:
    """Delete bursts of a plugin; return the names of those that are gone.

    Args:
        plugin: The plugin.
        names: The names of its bursts.
        before: Earlier failures.

    Raises:
        BurstErrors: for deletions that failed, after all were tried.
    """
    gone: list[Burst] = []
    errors = list(before)
    for name in sorted(names):
        burst = plugin.bursts.get(name) or Burst(name, plugin.name, "", 0)
        try:
            plugin.delete(burst)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # noqa: BLE001 - a provider's library may raise anything
            errors.append(as_burst_error(error, plugin.name, name))
            continue
        plugin.bursts[name] = replace(burst, state=BurstState.ENDED)
        gone.append(plugin.bursts[name])
    if errors:
        raise BurstErrors(errors, gone)
    return [burst.name for burst in gone]


def not_ours(plugin: str, burst: str) -> BurstError:
    """Return what to say of a burst that is not to be deleted, as it is not this instance's."""
    problem = "is not a burst of this instance: it is not terminated"
    return BurstError(problem, plugin=plugin, burst=burst)


def sized(plugin: Supplier, nodes: int | None, tasks: int | None) -> tuple[NodeType, int]:
    """Return the cheapest node type of a plugin that has room, and how many nodes of it.

    Raises:
        RequestError: if neither nodes nor tasks are set, or one is below 1.
        CapacityError: if no type can supply it.
    """
    asked = [number for number in (nodes, tasks) if number is not None]
    if not asked or min(asked) < 1:
        raise RequestError("a burst on demand needs a number of nodes or of tasks, at least 1")
    if nodes is None:
        assert tasks is not None
        chunk = Chunk(tasks, 1)
    else:
        chunk = Chunk(nodes, -(-(tasks or nodes) // nodes), node=True, exclusive=True)
    types = {t.name: t for t in plugin.node_types()}
    packer = Packer(plugin.node_types(), Pool(), plugin.in_use())
    packing = packer.pack([Demand(0, (chunk,))])
    if packing.unplaced:
        raise CapacityError(packing.unplaced[0], plugin=plugin.name)
    (name, count), *_ = packer.new_nodes.items()
    return types[name], count


def _provision(plugin: Supplier, burst: Burst) -> Burst:
    plugin.bursts[burst.name] = burst
    try:
        created = check_created(plugin.create(burst), burst)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # a provider's library may raise anything
        failure = as_burst_error(error, plugin.name, burst.name)
        left = _clean_up(plugin, burst) if failure.asked else ""
        if left:
            failure.args = (f"{failure.args[0]}; {left}",)
        state = BurstState.ENDING if left else BurstState.FAILED
        left_over = failure.nodes
        known = type(left_over) is int and 0 <= left_over <= burst.nodes
        nodes = left_over if known and left_over is not None else burst.nodes
        plugin.bursts[burst.name] = replace(burst, state=state, nodes=nodes, error=str(failure))
        raise failure from error
    plugin.bursts[burst.name] = created
    return created


def _clean_up(plugin: Supplier, burst: Burst) -> str:
    """Delete the remains of a failed creation; return what may be left even so."""
    try:
        plugin.delete(burst)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # noqa: BLE001 - the first failure is the cause
        why = described(error)
        return f"and its remains could not be deleted and may cost money: {why}"
    return ""
