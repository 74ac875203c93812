"""The parameters of the Compute Engine plugin."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Optional

from fluxburst import Duration
from fluxburst.config.aliases import accept_aliases
from fluxburst.provider.elastic_plugin import ElasticParameters
from fluxburst.provider.machine_types import MachineTypeOverride, Provisioning

# Optional[...] is how types are written in the documentation of parameters.
# ruff: noqa: UP045


def _help(text: str, *aliases: str) -> dict[str, Any]:
    return {"help": text, "aliases": aliases}


@accept_aliases
@dataclass
class BurstParameters(ElasticParameters):
    """Parameters of the Compute Engine plugin."""

    # --- where ---
    project: Optional[str] = field(
        default=None, metadata=_help("Google Cloud project; by default the credentials'")
    )
    region: str = field(default="us-central1", metadata=_help("region whose zones are used"))
    zone: Optional[str] = field(default=None, metadata=_help("the only zone to use"))
    zones: list[str] = field(
        default_factory=list,
        metadata=_help("zones to try in turn; by default all of the region"),
    )
    network: str = field(
        default="default", metadata=_help("VPC network of the machines", "network_name")
    )
    subnetwork: Optional[str] = field(
        default=None, metadata=_help("subnetwork; by default the network's own in the region")
    )
    external_ip: bool = field(
        default=False, metadata=_help("give each machine an external IP address")
    )
    network_tags: list[str] = field(
        default_factory=list, metadata=_help("network tags, for firewall rules")
    )

    # --- the instances ---
    machine_type: Optional[str] = field(
        default=None,
        metadata=_help(
            "the only machine type to use; by default all declared ones, or all known if isolated",
            "compute_machine_type",
        ),
    )
    machine_types: list[MachineTypeOverride] = field(
        default_factory=list,
        metadata=_help(
            "machine types: name, and differences from the package's table, such as price; or all "
            "of a new one (vcpus, threads_per_core, memory, gpus, gpu_model, price, spot_price)"
        ),
    )
    provisioning: Provisioning = field(
        default="on-demand",
        metadata=_help("how machines are bought; with both, spot while available"),
    )
    live_prices: bool = field(
        default=True,
        metadata=_help("get Google's prices every hour; on failure, the table's apply"),
    )
    compute_family: str = field(
        default="flux-fw-bursted-x86-64",
        metadata=_help("family of the boot image; its newest image is used"),
    )
    image: Optional[str] = field(
        default=None, metadata=_help("boot image, instead of the newest of compute_family")
    )
    image_project: Optional[str] = field(
        default=None, metadata=_help("project of the image; by default the machines' project")
    )
    disk_size: Optional[int] = field(
        default=None,
        metadata=_help("size of the boot disk in GB; by default the image's", "disk_size_gb"),
    )
    disk_type: Optional[str] = field(
        default=None, metadata=_help("type of the boot disk, such as pd-balanced")
    )
    compact_placement: bool = field(
        default=False,
        metadata=_help("place the machines of a burst close to each other", "compute_compact"),
    )
    min_count: Optional[int] = field(
        default=None,
        metadata=_help("minimum number of nodes of a burst; by default all or none"),
    )
    service_account: Optional[str] = field(
        default=None, metadata=_help("service account of the machines; by default none")
    )
    compute_scopes: list[str] = field(
        default_factory=lambda: ["cloud-platform"],
        metadata=_help("OAuth scopes of the service account"),
    )

    # --- the brokers ---
    flux_root: Optional[Path] = field(
        default=None, metadata=_help("prefix of Flux in the image; by default from PATH")
    )
    flux_user: Optional[str] = field(
        default=None, metadata=_help("user that brokers run as; by default the lead's")
    )
    wrap: Optional[str] = field(
        default=None, metadata=_help('command to wrap brokers in, such as "strace,-e,network"')
    )
    munge_key: Optional[Path] = field(
        default=None, metadata=_help("MUNGE key for the machines; by default none")
    )

    # --- the instance that they join ---
    lead_host: Optional[str] = field(
        default=None,
        metadata=_help("address of the lead broker for machines; by default as declared"),
    )
    lead_port: Optional[int] = field(
        default=None, metadata=_help("port of the lead broker; by default as declared")
    )
    curve_cert: Optional[Path] = field(
        default=None, metadata=_help("CURVE certificate; by default the elastic instance's")
    )
    environment: list[str] = field(
        default_factory=list,
        metadata=_help("patterns of environment variables to pass to such a job; by default none"),
    )

    # --- timeouts ---
    join_timeout: Duration = field(
        default=Duration(600.0),
        metadata=_help("how long a machine may take to boot and join, or to come back"),
    )
    delete_timeout: Duration = field(
        default=Duration(600.0), metadata=_help("how long machines may take to be deleted")
    )
    zone_pause: Duration = field(
        default=Duration(300.0),
        metadata=_help("how long to avoid a zone without capacity for a node type", "zone_backoff"),
    )
    poll_interval: Duration = field(
        default=Duration(2.0), metadata=_help("polling interval while waiting for Google")
    )
    request_timeout: Duration = field(
        default=Duration(60.0), metadata=_help("how long Google may take to answer a request")
    )
    retry_timeout: Duration = field(
        default=Duration(60.0),
        metadata=_help("how long to retry when Google is too busy (429, 503)"),
    )

    # --- endpoints ---
    endpoint: str = field(
        default="", metadata=_help("URL of the Compute Engine API; by default Google's own")
    )
    resource_manager_endpoint: str = field(
        default="https://cloudresourcemanager.googleapis.com",
        metadata=_help("URL of the Resource Manager API, for doctor's check of permissions"),
    )
    billing_endpoint: str = field(
        default="",
        metadata=_help("host and port of the Cloud Billing API; by default Google's own"),
    )
