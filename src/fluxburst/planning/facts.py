"""What a plugin says of itself, asked once for each plan, so that it cannot fail half-way."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from fluxburst.model.node import NodeType, check_node_types
from fluxburst.plugin.base import BurstPlugin, as_burst_error


@dataclass(frozen=True)
class Facts:
    """What a plugin says of itself; of one that cannot be asked, nothing.

    Attributes:
        types: What it can supply; empty for a plugin that sizes its bursts itself.
        in_use: How many nodes of each type there are, or will be, by the type's name.
        tag: What tells this instance in the names of its bursts.
        isolated: Whether its bursts are instances of their own.
        run_as: As whom these may run jobs.
        queue: The queue that jobs are moved to; empty for none.
    """

    types: tuple[NodeType, ...] = ()
    in_use: Mapping[str, int] = field(default_factory=dict)
    tag: str = ""
    isolated: bool = False
    run_as: str = ""
    queue: str = ""


def facts_of(plugin: BurstPlugin) -> Facts:
    """Ask a plugin about itself.

    Raises:
        BurstError: if it cannot tell all of it.
    """
    try:
        types = tuple(plugin.node_types())
        check_node_types(types)
        return Facts(
            types,
            dict(plugin.in_use()),
            plugin.instance_tag,
            plugin.isolated,
            plugin.run_as,
            plugin.queue,
        )
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        raise as_burst_error(error, plugin.name) from error


def sizes_bursts(plugin: BurstPlugin) -> bool:
    """Whether a plugin sizes its bursts itself; not, where it cannot tell."""
    if type(plugin).run is BurstPlugin.run:
        return False
    try:
        return not plugin.node_types()
    except KeyboardInterrupt:
        raise
    except BaseException:  # noqa: BLE001 - it is said where it is planned with
        return False


def may_be_isolated(plugin: BurstPlugin) -> bool:
    """Whether a plugin's bursts are instances of their own, or it cannot tell."""
    try:
        return plugin.isolated
    except KeyboardInterrupt:
        raise
    except BaseException:  # noqa: BLE001 - it is said where it is planned with
        return True
