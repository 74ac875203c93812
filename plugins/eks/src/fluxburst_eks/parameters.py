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
        metadata=_help("only take credentials from AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"),
    )
    endpoint_url: Optional[str] = field(  # noqa: UP045
        default=None, metadata=_help("where all services of AWS are asked, instead of AWS")
    )

    # --- what is made there ---
    node_role_arn: Optional[str] = field(  # noqa: UP045
        default=None, metadata=_help("ARN of the IAM role of nodes; needed to make node groups")
    )
    cluster_role_arn: Optional[str] = field(  # noqa: UP045
        default=None, metadata=_help("ARN of the IAM role of the cluster; needed to make one")
    )
    subnets: list[str] = field(
        default_factory=list,
        metadata=_help("ids of subnets for nodes; by default those of the cluster"),
    )
    security_groups: list[str] = field(
        default_factory=list,
        metadata=_help("ids of security groups of a cluster that is made, beside EKS' own"),
    )
    kubernetes_version: Optional[str] = field(  # noqa: UP045
        default=None, metadata=_help("version of a cluster that is made; by default EKS' own")
    )
    ami_type: Optional[str] = field(  # noqa: UP045
        default=None,
        metadata=_help("kind of image of nodes, as EKS names it; by default Amazon Linux 2023"),
    )
    disk_size: Optional[ByteSize] = field(  # noqa: UP045
        default=None, metadata=_help("size of a node's disk, in whole GiB; by default EKS' own")
    )
    spread_zones: bool = field(
        default=False,
        metadata=_help("let a burst's nodes be in several zones; by default all are in one"),
    )
    live_prices: bool = field(
        default=True,
        metadata=_help("ask AWS for prices, each hour; where that fails, those of the table hold"),
    )

    # --- patience ---
    zone_pause: Duration = field(
        default=Duration(900.0),
        metadata=_help(
            "how long a zone is left alone that had none of a machine type", "zone_rest"
        ),
    )
    cluster_timeout: Duration = field(
        default=Duration(1800.0), metadata=_help("how long a cluster may take to come up, or to go")
    )
    provider_poll_interval: Duration = field(
        default=Duration(10.0),
        metadata=_help("how often to look while waiting for AWS", "aws_poll_interval"),
    )
