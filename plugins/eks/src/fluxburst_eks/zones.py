"""Zones: those of a cluster's subnets, and those that offer a machine type."""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any

from fluxburst.errors import ConfigError

if TYPE_CHECKING:
    from fluxburst_eks.aws import Aws


def subnets_by_zone(aws: Aws, subnets: Sequence[str]) -> dict[str, list[str]]:
    """Return subnets by their zone, zones in order of first mention.

    Raises:
        ConfigError: if a subnet does not exist.
    """
    answer = aws.ask(
        f"describe the subnets {', '.join(subnets)}",
        lambda: aws.ec2.describe_subnets(SubnetIds=list(subnets)),
    )
    zone_of = {one["SubnetId"]: one["AvailabilityZone"] for one in answer["Subnets"]}
    zones: dict[str, list[str]] = {}
    for subnet in subnets:
        if subnet not in zone_of:
            raise ConfigError("subnets", f"there is no subnet {subnet}")
        zones.setdefault(zone_of[subnet], []).append(subnet)
    return zones


def offering(aws: Aws, machine_type: str) -> Collection[str]:
    """Return the zones of the region that offer a machine type."""
    filters: Any = [{"Name": "instance-type", "Values": [machine_type]}]

    def ask() -> set[str]:
        pages = aws.ec2.get_paginator("describe_instance_type_offerings").paginate(
            LocationType="availability-zone", Filters=filters
        )
        return {one["Location"] for page in pages for one in page["InstanceTypeOfferings"]}

    return aws.ask(f"list zones with {machine_type}", ask)


class Resting:
    """Zones that lacked capacity for a machine type, and are avoided for a while.

    Args:
        seconds: For how long.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._until: dict[tuple[str, str], float] = {}

    def rest(self, zone: str, node_type: str) -> None:
        """Avoid a zone for a node type."""
        self._until[zone, node_type] = time.monotonic() + self._seconds

    def awake(self, zones: Sequence[str], node_type: str) -> list[str]:
        """Return the zones that are not avoided."""
        now = time.monotonic()
        return [zone for zone in zones if self._until.get((zone, node_type), 0.0) <= now]
