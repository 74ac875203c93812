"""The Cloud Billing Catalog for tests: its gRPC API on loopback, with SKUs as Google has them.

Requests and answers are those of the installed google-cloud-billing, over TLS. Descriptions are
Google's, and rates such that machine types of the table cost what the table says, times a factor.
Among them are many that begin like those, and are next to nothing: whoever counts one is found out.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import grpc
from google.cloud import billing_v1 as billing
from tests.google.google_grpc import Refusal, serving_grpc

SERVICE = "services/6F81-5844-456A"
AMERICAS = ("us-central1", "us-east1", "us-west1")
NETHERLANDS = ("europe-west4",)
DEARER_ELSEWHERE = 1.1

SERIES = {
    "A2 Instance": (0.031611, 0.004237, 0.018966, 0.002542),
    "A3 Instance": (0.0293, 0.00255, 0.0176, 0.00153),
    "C2D AMD Instance": (0.029563, 0.003959, 0.01321, 0.00177),
    "C3 Instance": (0.033174, 0.004307, 0.010338, 0.00134),
    "C3D Instance": (0.029563, 0.003959, 0.00624, 0.000836),
    "C4 Instance": (0.03465, 0.003938, 0.02079, 0.002363),
    "Compute optimized": (0.03398, 0.0045555, 0.018774, 0.002517),
    "E2 Instance": (0.02181159, 0.00292353, 0.013086, 0.001755),
    "G2 Instance": (0.024988, 0.002927, 0.014993, 0.001756),
    "G4 Instance": (0.03, 0.0035, 0.011, 0.0013),
    "H3 Instance": (0.04411, 0.00296, 0.02521, 0.001692),
    "Memory-optimized Instance": (0.0348, 0.0051, 0.006675, 0.00098),
    "N2 Instance": (0.031611, 0.004237, 0.01814, 0.002432),
}
"""What a virtual CPU and a GiB cost an hour: on demand, and of a spot machine."""

GPUS = {
    "Nvidia H100 80GB GPU": (9.620558, 5.771768),
    "Nvidia L4 GPU": (0.560064, 0.335864),
    "Nvidia Tesla A100 80GB GPU": (3.92808, 2.243488),
    "Nvidia Tesla A100 GPU": (2.933908, 1.677148),
    "RTX 6000 96GB": (2.42993, 0.8874),
}
LOCAL_SSD = (0.08, 0.048)
"""What a GiB costs a month."""

DECOYS = (
    ("Commitment v1: {} Cpu in {} for 1 Year", "Commit1Yr"),
    ("Commitment: {} Core running in {} for 3 Year", "Commit3Yr"),
    ("{} Core running in {} for 3 Year", "Commit3Yr"),
    ("{} Sole Tenancy Instance Core running in {}", "OnDemand"),
    ("Sole Tenancy Premium for {} Core running in {}", "OnDemand"),
    ("{} Custom Instance Core running in {}", "OnDemand"),
    ("{} Custom Extended Instance Ram running in {}", "OnDemand"),
    ("Memory Optimized Upgrade Premium for {} Core running in {}", "OnDemand"),
    ("Reserved {} Core running in {}", "OnDemand"),
    ("{} Core attached to DWS Defined Duration VMs running in {}", "OnDemand"),
    ("{} Core attached to Calendar mode reservations running in {}", "OnDemand"),
    ("{} Local SSD running in {}", "OnDemand"),
    ("{} Core running in {}", "Preemptible"),
    ("Spot Preemptible {} Core running in {}", "OnDemand"),
)
GPU_DECOYS = (
    ("Commitment v1: {} running in {} for 1 Year", "Commit1Yr"),
    ("{} attached to DWS Defined Duration VMs running in {}", "OnDemand"),
    ("{} attached to DWS Defined Duration VMs running in {}", "Preemptible"),
    ("{} attached to Sole Tenancy VMs running in {}", "OnDemand"),
    ("Reserved {} running in {}", "OnDemand"),
    ("{} Virtual Workstation running in {}", "OnDemand"),
    ("{} Mega GPU running in {}", "OnDemand"),
)
OTHERS = (
    ("VM state: preserved local SSD", "OnDemand"),
    ("Commitment v1: Local SSD in Americas for 1 Year", "Commit1Yr"),
    ("SSD backed PD Capacity", "OnDemand"),
    ("N2D AMD Instance Core running in Americas", "OnDemand"),
    ("C3D Instance with GPU Core running in Americas", "OnDemand"),
    ("M3 Memory-optimized Instance Ram running in Americas", "OnDemand"),
)


def sku(
    description: str,
    rate: float,
    *,
    unit: str = "h",
    usage: str = "OnDemand",
    regions: Sequence[str] = AMERICAS,
) -> billing.Sku:
    """Return a SKU: what it is, what a unit of it costs in US dollars, and where."""
    nanos = round(rate * 1e9)
    price = {"currency_code": "USD", "units": nanos // 10**9, "nanos": nanos % 10**9}
    expression = {"usage_unit": unit, "tiered_rates": [{"unit_price": price}]}
    return billing.Sku(
        description=description,
        category={"service_display_name": "Compute Engine", "usage_type": usage},
        service_regions=list(regions),
        service_provider_name="Google",
        pricing_info=[{"pricing_expression": expression}],
    )


@functools.cache
def skus(factor: float) -> Sequence[billing.Sku]:
    """Return all SKUs: those of the Netherlands first, whose memory is by the GB."""
    return (
        *_skus(factor * DEARER_ELSEWHERE, "Netherlands", NETHERLANDS, gb=True),
        *_skus(factor, "Americas", AMERICAS, gb=False),
        *(sku(description, 1e-6, usage=usage) for description, usage in OTHERS),
    )


def _skus(factor: float, place: str, regions: Sequence[str], *, gb: bool) -> Iterator[billing.Sku]:
    unit, of_a_gib = ("GBy.h", 10**9 / 2**30) if gb else ("GiBy.h", 1.0)
    for name, (core, ram, spot_core, spot_ram) in SERIES.items():
        for prefix, usage, rate, memory in (
            ("", "OnDemand", core, ram),
            ("Spot Preemptible ", "Preemptible", spot_core, spot_ram),
        ):
            what = f"{prefix}{name} Core running in {place}"
            yield sku(what, rate * factor, usage=usage, regions=regions)
            yield sku(
                f"{prefix}{name} Ram running in {place}",
                memory * factor * of_a_gib,
                unit=unit,
                usage=usage,
                regions=regions,
            )
        yield from _decoys(DECOYS, name, place, regions)
    for name, (rate, spot_rate) in GPUS.items():
        attached = f"{name} attached to Spot Preemptible VMs running in {place}"
        yield sku(f"{name} running in {place}", rate * factor, regions=regions)
        yield sku(attached, spot_rate * factor, usage="Preemptible", regions=regions)
        yield from _decoys(GPU_DECOYS, name, place, regions)
    tail = "" if regions == AMERICAS else f" in {place}"
    for attached, usage, rate in (
        ("", "OnDemand", LOCAL_SSD[0]),
        (" attached to Spot Preemptible VMs", "Preemptible", LOCAL_SSD[1]),
    ):
        name = f"SSD backed Local Storage{attached}{tail}"
        yield sku(name, rate * factor, unit="GiBy.mo", usage=usage, regions=regions)


def _decoys(
    kinds: Sequence[tuple[str, str]], name: str, place: str, regions: Sequence[str]
) -> Iterator[billing.Sku]:
    for form, usage in kinds:
        yield sku(form.format(name, place), 1e-6, usage=usage, regions=regions)


@dataclass
class Catalog:
    """The catalog, and all that a test may do to it.

    Attributes:
        endpoint: Its host and port.
        skus: What is in it.
        page: How many SKUs a page has.
        endless: Whether there is always another page.
        refusal: What requests are answered with instead.
        asked: The tokens of the pages that were asked for.
    """

    skus: list[billing.Sku]
    endpoint: str = ""
    page: int = 100
    endless: bool = False
    refusal: Refusal | None = None
    asked: list[str] = field(default_factory=list)

    @property
    def parameters(self) -> dict[str, object]:
        """Parameters of a plugin that asks it."""
        return {"live_prices": True, "billing_endpoint": self.endpoint}

    def remove(self, beginning: str) -> None:
        """Take out the SKUs whose descriptions begin with something."""
        self.skus = [one for one in self.skus if not one.description.startswith(beginning)]

    def answer(
        self, request: billing.ListSkusRequest, context: grpc.ServicerContext
    ) -> billing.ListSkusResponse | None:
        """Answer a request for a page."""
        self.asked.append(request.page_token)
        try:
            self._check(request, context)
        except Refusal as refusal:
            refusal.send(context)
            return None
        first = int(request.page_token or 0)
        last = first + self.page
        more = self.endless or last < len(self.skus)
        return billing.ListSkusResponse(
            skus=self.skus[first:last], next_page_token=str(last) if more else ""
        )

    def _check(self, request: billing.ListSkusRequest, context: grpc.ServicerContext) -> None:
        sent = dict(context.invocation_metadata())
        if not str(sent.get("authorization", "")).startswith("Bearer "):
            raise Refusal(grpc.StatusCode.UNAUTHENTICATED, "no credentials", "CREDENTIALS_MISSING")
        if (request.parent, request.currency_code) != (SERVICE, "USD"):
            raise Refusal(grpc.StatusCode.NOT_FOUND, f"there is no {request.parent}")
        if self.refusal is not None:
            raise self.refusal


class _Service(grpc.GenericRpcHandler):
    def __init__(self, catalog: Catalog) -> None:
        self.catalog = catalog

    def service(
        self, details: grpc.HandlerCallDetails
    ) -> grpc.RpcMethodHandler[billing.ListSkusRequest, billing.ListSkusResponse] | None:
        if details.method != "/google.cloud.billing.v1.CloudCatalog/ListSkus":
            return None
        return grpc.unary_unary_rpc_method_handler(
            self.catalog.answer,
            request_deserializer=billing.ListSkusRequest.deserialize,
            response_serializer=billing.ListSkusResponse.serialize,
        )


@contextmanager
def billing_catalog(factor: float = 1.25) -> Iterator[Catalog]:
    """Play the catalog: machine types cost a multiple of what the table says."""
    catalog = Catalog(list(skus(factor)))
    with serving_grpc(_Service(catalog)) as catalog.endpoint:
        yield catalog
