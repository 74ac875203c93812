"""Current prices, from the Cloud Billing Catalog, which is public.

Google bills the parts of a machine: virtual CPUs, memory, GPUs, local SSDs. The catalog
(https://cloud.google.com/billing/docs/reference/rest/v1/services.skus/list) has a SKU for each of
these by series and region, on demand and spot, but none for machine types. Only a SKU's
description, written for people, tells what it is for. The descriptions below follow the mapping of
https://github.com/Cyclenerd/google-cloud-pricing-cost-calculator (build/mapping.csv, 2026-08-20),
as do the prices in the table. SKUs with similar descriptions are skipped: commitments,
reservations, sole tenancy, custom machine types, upgrades.

A machine type has a price only if each of its parts has exactly one: in a few places there is none,
such as for M1 in Singapore, where two SKUs with the same description differ.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from fluxburst import NodeType
from fluxburst.plugin import Finding
from fluxburst.provider import probe
from fluxburst.provider.live_prices import LivePrices
from fluxburst.provider.machine_types import SPOT, MachineType, MachineTypes, machine_of
from fluxburst_google.errors import as_error

if TYPE_CHECKING:
    from fluxburst_google.credentials import Identity

SERVICE = "services/6F81-5844-456A"
"""Compute Engine's name in the catalog."""

HOURS_OF_A_MONTH = 730
"""Google's hours per month, for monthly prices (https://cloud.google.com/compute/all-pricing)."""

GIB = 2**30

Part = tuple[str, str, bool]
"""A billed part: ``core``, ``ram``, ``gpu`` or ``local ssd``; its series, or GPU model; and
whether it belongs to a spot machine."""

Rates = Mapping[Part, float]
"""Price of a virtual CPU or GPU per hour, or of a byte, in US dollars."""

_SERIES = {
    "A2 Instance": "a2",
    "A3 Instance": "a3",
    "C2D AMD Instance": "c2d",
    "C3 Instance": "c3",
    "C3D Instance": "c3d",
    "C4 Instance": "c4",
    "Compute optimized": "c2",
    "Compute optimized Instance": "c2",  # in newer regions
    "E2 Instance": "e2",
    "G2 Instance": "g2",
    "G4 Instance": "g4",
    "H3 Instance": "h3",
    "Memory-optimized Instance": "m1",
    "N2 Instance": "n2",
}
_GPUS = {
    "Nvidia H100 80GB GPU": "nvidia-h100-80gb",
    "Nvidia L4 GPU": "nvidia-l4",
    "Nvidia Tesla A100 80GB GPU": "nvidia-a100-80gb",
    "Nvidia Tesla A100 GPU": "nvidia-a100-40gb",
    "RTX 6000 96GB": "nvidia-rtx-pro-6000",
}
_LOCAL_SSD_GIB = {"a2-ultragpu-8g": 3000, "a3-highgpu-8g": 6000}
"""For machine types with built-in ones (https://cloud.google.com/compute/docs/disks/local-ssd)."""

_CORE_OR_RAM = re.compile(r"(Spot Preemptible )?(.+) (Core|Ram) running in .+")
_GPU = re.compile(r"(.+?)( attached to Spot Preemptible VMs)? running in .+")
_LOCAL_SSD = re.compile(
    r"SSD backed Local Storage( attached to Spot Preemptible VMs)?( (running )?in .+)?"
)

_PIECES = {"h": 1}
_BYTES = {"GiBy.h": GIB, "GBy.h": 10**9, "GiBy.mo": GIB * HOURS_OF_A_MONTH}
_UNITS = {"core": _PIECES, "gpu": _PIECES, "ram": _BYTES, "local ssd": _BYTES}
"""Amount of a part, per hour, in each unit of the catalog."""


def live(
    identity: Identity,
    machine_types: Iterable[MachineType],
    region: str,
    *,
    endpoint: str | None,
    timeout: float,
) -> Iterator[tuple[str, float]]:
    """Yield node types with their hourly prices in a region, as far as the catalog has them.

    Args:
        identity: The identity for requests; it needs no permission.
        machine_types: Machine types from the package's table.
        region: Such as ``us-central1``.
        endpoint: Host and port of another Cloud Billing API; None or empty for Google's own.
        timeout: Total seconds for reading the catalog. No retries: if Google is too busy, the
            table applies.

    Raises:
        BurstError: or a subclass, if the catalog cannot be read completely.
    """
    with probe.asked("Google's Cloud Billing", part_of="Google"):
        rates = _rates(_pages(identity, endpoint, timeout), region)
    for machine_type in machine_types:
        for suffix, spot in (("", False), (SPOT, True)):
            price = price_of(machine_type, rates, spot=spot)
            if price is not None:
                yield machine_type.name + suffix, price


def price_of(machine_type: MachineType, rates: Rates, *, spot: bool) -> float | None:
    """Return a machine's hourly price; None unless the rates of all its parts are known."""
    series = machine_type.name.partition("-")[0]
    parts = {
        ("core", series, spot): machine_type.vcpus,
        ("ram", series, spot): machine_type.memory,
        ("gpu", machine_type.gpu_model, spot): machine_type.gpus,
        ("local ssd", "", spot): _LOCAL_SSD_GIB.get(machine_type.name, 0) * GIB,
    }
    wanted = {part: amount for part, amount in parts.items() if amount}
    if not wanted.keys() <= rates.keys():
        return None
    return sum(rates[part] * amount for part, amount in wanted.items())


def source(
    live: LivePrices | None, kinds: Sequence[NodeType], table: MachineTypes, region: str
) -> Finding:
    """Report to ``fluxburst doctor`` which prices are used, and why.

    Args:
        live: The catalog's answer when the node types were made; None if live prices are off.
        kinds: The node types.
        table: Their machine types.
        region: Their region.
    """
    level: Literal["ok", "warning"] = "ok" if table.region == region else "warning"
    elsewhere = "" if table.region == region else f", not of {region}"
    origin = f"of {table.dated}, {table.region}, from {table.source}{elsewhere}"
    if live is None:
        advice = "set live_prices, or set prices in machine_types" if elsewhere else ""
        return Finding(level, f"prices are {origin}", advice)
    if live.problem:
        return Finding(
            "warning",
            f"prices are {origin}: {live.problem}",
            "fix that, or set live_prices to false; this enables the API for prices: "
            "gcloud services enable cloudbilling.googleapis.com",
        )
    now = f"prices are from Google's current catalog for {region}"
    untold = [
        kind.name
        for kind in kinds
        if kind.name not in live.known and machine_of(kind.name)[0] not in table.overridden
    ]
    if not untold:
        return Finding("ok", now)
    advice = "set their prices in machine_types" if elsewhere else ""
    return Finding(level, f"{now}, but those of {', '.join(untold)} are {origin}", advice)


def _pages(identity: Identity, endpoint: str | None, timeout: float) -> Iterator[Any]:
    """Yield the catalog's pages, as bare protobufs: it has tens of thousands of SKUs."""
    from google.api_core.client_options import ClientOptions
    from google.cloud import billing_v1

    until = time.monotonic() + timeout
    options = ClientOptions(api_endpoint=endpoint) if endpoint else None
    request = billing_v1.ListSkusRequest(parent=SERVICE, currency_code="USD")
    try:
        with billing_v1.CloudCatalogClient(
            credentials=identity.credentials, client_options=options
        ) as client:
            while True:
                left = max(0.0, until - time.monotonic())
                answer = client.list_skus(request=request, retry=None, timeout=left)
                page = next(iter(answer.pages))
                yield billing_v1.ListSkusResponse.pb(page)
                if not page.next_page_token:
                    return
                request.page_token = page.next_page_token
    except Exception as error:  # of Google's or gRPC's classes
        raise as_error(error, "list its prices") from error


def _rates(pages: Iterable[Any], region: str) -> Rates:
    """Return the unambiguous rates of a region."""
    found: dict[Part, set[float | None]] = {}
    for page in pages:
        for sku in page.skus:
            part = _part_of(sku) if region in sku.service_regions else None
            if part is not None:
                found.setdefault(part, set()).add(_rate(sku, part))
    alone = {part: rates.pop() for part, rates in found.items() if len(rates) == 1}
    return {part: rate for part, rate in alone.items() if rate is not None and rate > 0}


def _part_of(sku: Any) -> Part | None:
    """Return the part a SKU is for; None if no machine type of the table has it."""
    part = _described(sku.description)
    if part is None:
        return None
    usages = {"Preemptible"} if part[2] else {"OnDemand"}
    if part[0] == "local ssd":  # spot machines' SSDs have either description
        usages.add("OnDemand")
    return part if sku.category.usage_type in usages else None


def _described(description: str) -> Part | None:
    if match := _CORE_OR_RAM.fullmatch(description):
        series = _SERIES.get(match[2])
        return None if series is None else (match[3].lower(), series, bool(match[1]))
    if match := _LOCAL_SSD.fullmatch(description):
        return "local ssd", "", bool(match[1])
    if match := _GPU.fullmatch(description):
        model = _GPUS.get(match[1])
        return None if model is None else ("gpu", model, bool(match[2]))
    return None


def _rate(sku: Any, part: Part) -> float | None:
    """Return a SKU's rate; None if it has none, or one that depends on the amount."""
    if not sku.pricing_info:
        return None
    expression = sku.pricing_info[-1].pricing_expression
    amount = _UNITS[part[0]].get(expression.usage_unit)
    if amount is None or len(expression.tiered_rates) != 1:
        return None
    price = expression.tiered_rates[0].unit_price
    return float(price.units + price.nanos / 1e9) / amount
