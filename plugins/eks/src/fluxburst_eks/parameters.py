"""The parameters of the EKS plugin."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Optional

from fluxburst import ByteSize, Duration
from fluxburst.config.aliases import accept_aliases
from fluxburst_kubernetes.managed_parameters import ManagedParameters


def _help(text: str, *aliases: str) -> dict[str, Any]:
    return {"help": text, "aliases": aliases}


@accept_aliases
@dataclass
class BurstParameters(ManagedParameters):
    """Parameters of the EKS plugin."""

    # --- the account ---
    region: Optional[str] = field(  # noqa: UP045 - as written in the documentation
        default=None, metadata=_help("AWS region; by default that of the profile or environment")
    )
    profile: Optional[str] = field(  # noqa: UP045
        default=None, metadata=_help("profile of ~/.aws/config; by default boto3's own chain")
    )
    creds_from_environ: bool = field(
        default=False,
        metadata=_help("take credentials only from AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"),
    )
    endpoint_url: Optional[str] = field(  # noqa: UP045
        default=None, metadata=_help("URL for requests to all services, instead of AWS")
    )

    # --- resources ---
    node_role_arn: Optional[str] = field(  # noqa: UP045
        default=None, metadata=_help("ARN of the nodes' IAM role; needed for node groups")
    )
    cluster_role_arn: Optional[str] = field(  # noqa: UP045
        default=None, metadata=_help("ARN of the cluster's IAM role; needed to create a cluster")
    )
    subnets: list[str] = field(
        default_factory=list,
        metadata=_help("ids of subnets for nodes; by default the cluster's"),
    )
    security_groups: list[str] = field(
        default_factory=list,
        metadata=_help("ids of security groups of a created cluster, besides EKS's own"),
    )
    kubernetes_version: Optional[str] = field(  # noqa: UP045
        default=None, metadata=_help("version of a created cluster; by default EKS's own")
    )
    ami_type: Optional[str] = field(  # noqa: UP045
        default=None,
        metadata=_help("EKS's image type of nodes; by default Amazon Linux 2023"),
    )
    disk_size: Optional[ByteSize] = field(  # noqa: UP045
        default=None, metadata=_help("size of a node's disk, in whole GiB; by default EKS's own")
    )
    spread_zones: bool = field(
        default=False,
        metadata=_help("allow a burst's nodes in several zones; by default all are in one"),
    )
    live_prices: bool = field(
        default=True,
        metadata=_help("get AWS's prices every hour; on failure, the table's apply"),
    )

    # --- timeouts ---
    zone_pause: Duration = field(
        default=Duration(900.0),
        metadata=_help("how long to avoid a zone that lacked a machine type", "zone_rest"),
    )
    cluster_timeout: Duration = field(
        default=Duration(1800.0), metadata=_help("how long creating or deleting a cluster may take")
    )
    provider_poll_interval: Duration = field(
        default=Duration(10.0),
        metadata=_help("polling interval while waiting for AWS", "aws_poll_interval"),
    )
