"""Prices as they are now: on demand from the Price List, spot from EC2's own history.

See https://docs.aws.amazon.com/awsaccountbilling/latest/aboutv2/using-the-aws-price-list-bulk-api.html
for the attributes of a price, and DescribeSpotPriceHistory in the Amazon EC2 API Reference: asked
from now on, it answers with the price in effect for each type and zone.
"""

from __future__ import annotations

import json
import time
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from fluxburst.errors import FluxburstError
from fluxburst.machine_types import MachineType

if TYPE_CHECKING:
    from fluxburst_eks.aws import Aws

GOOD_SECONDS = 3600.0
"""For how long prices are used before they are asked for again."""

_LINUX = {
    "operatingSystem": "Linux",
    "tenancy": "Shared",
    "preInstalledSw": "NA",
    "capacitystatus": "Used",
    "operation": "RunInstances",
}
"""What tells the price of an ordinary machine from those of licences and reservations."""


def on_demand(aws: Aws, machine_type: str) -> float | None:
    """Return what a machine type costs an hour in US dollars; None where the list has no price."""
    wanted = {"instanceType": machine_type, "regionCode": aws.region, **_LINUX}
    filters: Any = [{"Type": "TERM_MATCH", "Field": k, "Value": v} for k, v in wanted.items()]

    def ask() -> list[str]:
        answer = aws.pricing.get_products(ServiceCode="AmazonEC2", Filters=filters)
        return [str(product) for product in answer["PriceList"]]

    products = aws.ask(f"tell the price of {machine_type}", ask)
    return max((price for text in products for price in _prices(json.loads(text))), default=None)


def _prices(product: Mapping[str, Any]) -> Iterator[float]:
    for term in (product.get("terms") or {}).get("OnDemand", {}).values():
        for dimension in term.get("priceDimensions", {}).values():
            price = float(dimension.get("pricePerUnit", {}).get("USD", 0))
            if dimension.get("unit") == "Hrs" and price > 0:
                yield price


def spot(aws: Aws, machine_types: Collection[str], zones: Collection[str]) -> dict[str, float]:
    """Return what machine types cost an hour on the spot market now, in the dearest of the zones.

    Args:
        aws: Whom to ask.
        machine_types: Their names.
        zones: Zones of the region; none for all.
    """

    def ask() -> list[Any]:
        pages = aws.ec2.get_paginator("describe_spot_price_history").paginate(
            InstanceTypes=sorted(machine_types),  # type: ignore[arg-type] # any text will do
            ProductDescriptions=["Linux/UNIX"],
            StartTime=datetime.now(timezone.utc),
        )
        return [one for page in pages for one in page["SpotPriceHistory"]]

    found: dict[str, float] = {}
    for one in aws.ask("tell spot prices", ask):
        if not zones or one["AvailabilityZone"] in zones:
            name, price = str(one["InstanceType"]), float(one["SpotPrice"])
            found[name] = max(price, found.get(name, 0.0))
    return found


@dataclass
class LivePrices:
    """Prices that were asked for, for as long as they are good."""

    _known: dict[str, tuple[float | None, float | None]] = field(default_factory=dict)
    _until: float = 0.0
    problem: str = ""

    def applied_to(
        self, aws: Aws, machine_types: Collection[MachineType], zones: Collection[str]
    ) -> list[MachineType]:
        """Return machine types with the prices that they have now, as far as AWS tells them.

        What cannot be asked is left as it is, with the reason in ``problem``, until it is tried
        again: an hour later.
        """
        names = {one.name for one in machine_types}
        if time.monotonic() > self._until or not names <= self._known.keys():
            self._ask(aws, names, zones)
        return [_priced(one, *self._known.get(one.name, (None, None))) for one in machine_types]

    def _ask(self, aws: Aws, names: Collection[str], zones: Collection[str]) -> None:
        self._until = time.monotonic() + GOOD_SECONDS
        self.problem = ""
        at_once: dict[str, float] = {}
        listed: dict[str, float | None] = dict.fromkeys(names)
        try:
            at_once = spot(aws, names, zones)
        except FluxburstError as error:
            self.problem = str(error)
        try:
            listed = {name: on_demand(aws, name) for name in sorted(names)}
        except FluxburstError as error:
            self.problem = str(error)
        self._known = {name: (listed[name], at_once.get(name)) for name in names}


def _priced(
    machine_type: MachineType, on_demand_now: float | None, spot_now: float | None
) -> MachineType:
    price = machine_type.price if on_demand_now is None else on_demand_now
    spot_price = machine_type.spot_price if spot_now is None else spot_now
    return replace(machine_type, price=price, spot_price=spot_price)


def with_ceiling(machine_type: MachineType) -> MachineType:
    """Count a spot machine whose price is not known with that on demand, the most that AWS asks."""
    if machine_type.spot_price is not None:
        return machine_type
    return replace(machine_type, spot_price=machine_type.price)
