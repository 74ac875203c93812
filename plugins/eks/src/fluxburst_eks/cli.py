"""``fluxburst eks``: create an elastic instance that grows by nodes of EKS; sweep leftovers."""

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
"""How long deleting a node group may take, for ``sweep``."""


@click.group()
def eks() -> None:
    """Create an instance that can grow by nodes of an Amazon EKS cluster; sweep leftovers."""


init = init_command(
    "eks",
    shipped_table,
    DEFAULT,
    BurstParameters,
    check_parameters,
    (
        click.option("--region", help="Region. Default: that of the profile or environment."),
        click.option("--node-role-arn", help="ARN of the nodes' IAM role."),
        click.option("--subnet", "subnets", multiple=True, help="Subnet for nodes; repeatable."),
    ),
    {"region": "--region", "node_role_arn": "--node-role-arn", "subnets": "--subnet"},
)
eks.add_command(init)


@eks.command(cls=Command)
@click.option("--cluster-name", required=True, help="Name of the cluster.")
@click.option("--region", help="Region. Default: that of the profile or environment.")
@click.option("--profile", help="Profile of ~/.aws/config.")
@click.option(
    "--grace", default="1h", show_default=True, metavar="DURATION", help="Time after the lease."
)
@click.option("--delete", is_flag=True, help="Delete them; by default only list them.")
def sweep(
    cluster_name: str, region: str | None, profile: str | None, grace: str, delete: bool
) -> None:
    """List node groups whose lease has ended without fluxburst terminating them.

    Covers the groups that fluxburst created in the cluster, for any instance. EKS ends none
    automatically. Their pods have ended with the lease, so nothing else is checked.
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
                f"{'Deleted' if delete else 'Ended'}: {one.name}, {one.nodes} of "
                f"{one.machine_type} at {one.price:.4g} an hour each, of instance "
                f"{one.instance}, {over} after its lease",
                markup=False,
                soft_wrap=True,
            )
    finally:
        aws.close()
