"""Current prices: on demand from the Price List, spot from EC2's history.

See https://docs.aws.amazon.com/awsaccountbilling/latest/aboutv2/using-the-aws-price-list-bulk-api.html
for the attributes of a price, and DescribeSpotPriceHistory in the Amazon EC2 API Reference: with a
start time of now, it returns the current price for each type and zone.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from fluxburst.provider.machine_types import SPOT, MachineType, MachineTypes

if TYPE_CHECKING:
    from fluxburst_eks.aws import Aws

_LINUX = {
    "operatingSystem": "Linux",
    "tenancy": "Shared",
    "preInstalledSw": "NA",
    "capacitystatus": "Used",
    "operation": "RunInstances",
}
"""Distinguishes the price of an ordinary machine from those of licences and reservations."""


def on_demand(aws: Aws, machine_type: str) -> float | None:
    """Return a machine type's hourly price in US dollars; None if the list has none."""
    wanted = {"instanceType": machine_type, "regionCode": aws.region, **_LINUX}
    filters: Any = [{"Type": "TERM_MATCH", "Field": k, "Value": v} for k, v in wanted.items()]

    def ask() -> list[str]:
        answer = aws.pricing.get_products(ServiceCode="AmazonEC2", Filters=filters)
        return [str(product) for product in answer["PriceList"]]

    products = aws.ask(f"get the price of {machine_type}", ask)
    return max((price for text in products for price in _prices(json.loads(text))), default=None)


def _prices(product: Mapping[str, Any]) -> Iterator[float]:
    for term in (product.get("terms") or {}).get("OnDemand", {}).values():
        for dimension in term.get("priceDimensions", {}).values():
            price = float(dimension.get("pricePerUnit", {}).get("USD", 0))
            if dimension.get("unit") == "Hrs" and price > 0:
                yield price


def spot(aws: Aws, machine_types: Collection[str]) -> dict[str, float]:
    """Return current hourly spot prices of machine types, in the most expensive zone."""

    def ask() -> list[Any]:
        pages = aws.ec2.get_paginator("describe_spot_price_history").paginate(
            InstanceTypes=sorted(machine_types),  # type: ignore[arg-type] # any text will do
            ProductDescriptions=["Linux/UNIX"],
            StartTime=datetime.now(timezone.utc),
        )
        return [one for page in pages for one in page["SpotPriceHistory"]]

    found: dict[str, float] = {}
    for one in aws.ask("get spot prices", ask):
        name, price = str(one["InstanceType"]), float(one["SpotPrice"])
        found[name] = max(price, found.get(name, 0.0))
    return found


def live(aws: Aws, machine_types: Collection[str]) -> Iterator[tuple[str, float]]:
    """Yield node types with AWS's prices, as far as available: spot first, then on demand.

    Raises:
        BurstError: if AWS is unreachable, or refuses.
    """
    for name, price in spot(aws, machine_types).items():
        yield f"{name}{SPOT}", price
    for name in machine_types:
        on_demand_price = on_demand(aws, name)
        if on_demand_price is not None:
            yield name, on_demand_price


def with_ceilings(table: MachineTypes) -> MachineTypes:
    """Return a table in which each machine type with a price also has a spot price."""
    by_name = {name: with_ceiling(one) for name, one in table.by_name.items()}
    return replace(table, by_name=by_name)


def with_ceiling(machine_type: MachineType) -> MachineType:
    """Use the on-demand price for a spot machine without a known price: AWS never charges more."""
    if machine_type.spot_price is not None:
        return machine_type
    return replace(machine_type, spot_price=machine_type.price)
