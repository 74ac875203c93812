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
        default=None, metadata=_help("id of the project; by default that of the credentials")
    )
    location: str = field(
        default="us-central1-a",
        metadata=_help("zone of a zonal cluster, or region of a regional one"),
    )
    zones: list[str] = field(
        default_factory=list,
        metadata=_help("zones to look for machines in, in turn; by default those of the cluster"),
    )
    zone_pause: Duration = field(
        default=Duration(900.0),
        metadata=_help("how long to leave a zone alone that had no machines of a type"),
    )

    # --- the node pools ---
    compact_placement: bool = field(
        default=False, metadata=_help("have the nodes of a burst close together (placement policy)")
    )
    max_run_duration: Optional[Duration] = field(  # noqa: UP045
        default=None,
        metadata=_help("have Google end nodes after this, whoever is there; leases end before it"),
    )
    disk_size: Optional[int] = field(  # noqa: UP045
        default=None, metadata=_help("GB of the nodes' boot disk; by default GKE's 100")
    )
    service_account: Optional[str] = field(  # noqa: UP045
        default=None, metadata=_help("service account of the nodes; by default the project's")
    )
    live_prices: bool = field(
        default=True,
        metadata=_help(
            "ask Google for prices, each hour; where that fails, those of the table hold"
        ),
    )

    # --- a cluster of our own ---
    network: Optional[str] = field(  # noqa: UP045
        default=None, metadata=_help("network of a cluster that is made; by default `default`")
    )
    subnetwork: Optional[str] = field(  # noqa: UP045
        default=None, metadata=_help("subnetwork of a cluster that is made")
    )
    system_machine_type: str = field(
        default="e2-standard-2",
        metadata=_help("machine type of the one node for the system of a cluster that is made"),
    )
    cluster_timeout: Duration = field(
        default=Duration(1800.0), metadata=_help("how long a cluster may take to come up, or to go")
    )
    private_endpoint: bool = field(
        default=False, metadata=_help("reach the API server at its address inside the network")
    )

    # --- how it is asked ---
    provider_poll_interval: Duration = field(
        default=Duration(5.0),
        metadata=_help("how often to look while waiting for Google", "operation_interval"),
    )
    endpoint: Optional[str] = field(  # noqa: UP045
        default=None, metadata=_help("host and port of another Kubernetes Engine API than Google's")
    )
    compute_endpoint: Optional[str] = field(  # noqa: UP045
        default=None, metadata=_help("URL of another Compute Engine API than Google's")
    )
    resource_manager_endpoint: Optional[str] = field(  # noqa: UP045
        default=None,
        metadata=_help("URL of another Resource Manager API than Google's", "iam_endpoint"),
    )
    billing_endpoint: Optional[str] = field(  # noqa: UP045
        default=None, metadata=_help("host and port of another Cloud Billing API than Google's")
    )
