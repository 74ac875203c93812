"""The parameters of the GKE plugin."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Optional

from fluxburst import Duration
from fluxburst.config.aliases import accept_aliases
from fluxburst_kubernetes.managed_parameters import ManagedParameters


def _help(text: str, *aliases: str) -> dict[str, Any]:
    return {"help": text, "aliases": aliases}


@accept_aliases
@dataclass
class BurstParameters(ManagedParameters):
    """Parameters of the GKE plugin."""

    # --- where ---
    project: Optional[str] = field(  # noqa: UP045 - as written in the documentation
        default=None, metadata=_help("id of the project; by default the credentials'")
    )
    location: str = field(
        default="us-central1-a",
        metadata=_help("zone of a zonal cluster, or region of a regional one"),
    )
    zones: list[str] = field(
        default_factory=list,
        metadata=_help("zones to try for machines, in order; by default the cluster's"),
    )
    zone_pause: Duration = field(
        default=Duration(900.0),
        metadata=_help("how long to avoid a zone that lacked machines of a type"),
    )

    # --- the node pools ---
    compact_placement: bool = field(
        default=False, metadata=_help("place a burst's nodes close together (placement policy)")
    )
    max_run_duration: Optional[Duration] = field(  # noqa: UP045
        default=None,
        metadata=_help("Google ends nodes after this, without exception; leases end before it"),
    )
    disk_size: Optional[int] = field(  # noqa: UP045
        default=None, metadata=_help("GB of the nodes' boot disk; by default GKE's 100")
    )
    service_account: Optional[str] = field(  # noqa: UP045
        default=None, metadata=_help("service account of the nodes; by default the project's")
    )
    live_prices: bool = field(
        default=True,
        metadata=_help("get Google's prices every hour; on failure, the table's apply"),
    )

    # --- a cluster created by fluxburst ---
    network: Optional[str] = field(  # noqa: UP045
        default=None, metadata=_help("network of a created cluster; by default `default`")
    )
    subnetwork: Optional[str] = field(  # noqa: UP045
        default=None, metadata=_help("subnetwork of a created cluster")
    )
    system_machine_type: str = field(
        default="e2-standard-2",
        metadata=_help("machine type of the system node of a created cluster"),
    )
    cluster_timeout: Duration = field(
        default=Duration(1800.0), metadata=_help("how long creating or deleting a cluster may take")
    )
    private_endpoint: bool = field(
        default=False, metadata=_help("reach the API server at its address inside the network")
    )

    # --- requests ---
    provider_poll_interval: Duration = field(
        default=Duration(5.0),
        metadata=_help("polling interval while waiting for Google", "operation_interval"),
    )
    endpoint: Optional[str] = field(  # noqa: UP045
        default=None, metadata=_help("host and port of another Kubernetes Engine API")
    )
    compute_endpoint: Optional[str] = field(  # noqa: UP045
        default=None, metadata=_help("URL of the Compute Engine API; by default Google's")
    )
    resource_manager_endpoint: Optional[str] = field(  # noqa: UP045
        default=None,
        metadata=_help("URL of the Resource Manager API; by default Google's", "iam_endpoint"),
    )
    billing_endpoint: Optional[str] = field(  # noqa: UP045
        default=None, metadata=_help("host and port of the Cloud Billing API; by default Google's")
    )
