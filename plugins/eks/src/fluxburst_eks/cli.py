"""``fluxburst eks``: make an elastic instance that grows by nodes of EKS, and find what is left."""

from __future__ import annotations

import time

import click

from fluxburst.cli.toolkit import Command, console
from fluxburst.formats.units import format_duration, parse_duration
from fluxburst_eks.checks import check_cluster_name, check_parameters, check_region
from fluxburst_eks.parameters import BurstParameters
from fluxburst_eks.plugin import shipped_table
from fluxburst_kubernetes.managed_cli import init_command

DEFAULT = "c5.4xlarge=4"
DELETE_SECONDS = 1200.0
"""How long a node group may take to go, for ``sweep``."""


@click.group()
def eks() -> None:
    """Make an instance that can grow by nodes of an Amazon EKS cluster; find what is left."""


init = init_command(
    "eks",
    shipped_table,
    DEFAULT,
    BurstParameters,
    check_parameters,
    (
        click.option("--region", help="Of the cluster; else that of the profile or environment."),
        click.option("--node-role-arn", help="ARN of the IAM role of nodes."),
        click.option(
            "--subnet", "subnets", multiple=True, help="Subnet for nodes; may be given again."
        ),
    ),
    {"region": "--region", "node_role_arn": "--node-role-arn", "subnets": "--subnet"},
)
eks.add_command(init)


@eks.command(cls=Command)
@click.option("--cluster-name", required=True, help="The cluster.")
@click.option("--region", help="Of the cluster; else that of the profile or environment.")
@click.option("--profile", help="Profile of ~/.aws/config.")
@click.option(
    "--grace", default="1h", show_default=True, metavar="DURATION", help="Time since the lease."
)
@click.option("--delete", is_flag=True, help="Delete them; by default they are only named.")
def sweep(
    cluster_name: str, region: str | None, profile: str | None, grace: str, delete: bool
) -> None:
    """Find node groups whose lease has ended, where no fluxburst takes them down any more.

    They are those that fluxburst made in the cluster, for any instance. EKS ends none by itself.
    What runs on them is not asked for: their pods have ended with the lease.
    """
    from fluxburst_eks import nodegroups
    from fluxburst_eks.aws import Aws
    from fluxburst_eks.sweeping import ended

    check_cluster_name(cluster_name)
    check_region(region)
    aws = Aws(region, profile, None, timeout=30.0, patience=60.0, poll=5.0)
    try:
        for one in ended(aws, cluster_name, parse_duration(grace)):
            if delete:
                nodegroups.delete(aws, cluster_name, one.name, DELETE_SECONDS)
            over = format_duration(time.time() - one.since)
            console().print(
                f"{'Gone' if delete else 'Ended'}: {one.name}, {one.nodes} of {one.machine_type} "
                f"at {one.price:.4g} an hour each, of instance {one.instance}, {over} after its "
                "lease",
                markup=False,
                soft_wrap=True,
            )
    finally:
        aws.close()
