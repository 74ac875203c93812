"""``fluxburst eks``: make an elastic instance whose burst nodes are machines of EKS node groups."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from fluxburst.cli.app import Command, settings_of
from fluxburst_eks.plugin import shipped_table
from fluxburst_kubernetes.managed_init import init_options, write

DIRECTORY = click.Path(path_type=Path, file_okay=False)


@click.group()
def eks() -> None:
    """Make an instance that can grow by nodes of an Amazon EKS cluster."""


@eks.command(cls=Command)
@click.argument("directory", type=DIRECTORY)
@init_options
@click.option("--cluster-name", help="The cluster of EKS; by default that of the parameter.")
@click.option("--region", help="Its region; by default that of the profile or environment.")
@click.option("--node-role-arn", help="ARN of the IAM role of nodes.")
@click.option("--subnet", "subnets", multiple=True, help="Subnet for nodes; may be given again.")
@click.pass_context
def init(
    context: click.Context,
    /,
    directory: Path,
    cluster_name: str | None,
    region: str | None,
    node_role_arn: str | None,
    subnets: tuple[str, ...],
    **options: Any,
) -> None:
    """Write an elastic instance to DIRECTORY: one that starts small, and can grow by EKS nodes.

    The hosts of its bursts are declared with the cores and GPUs of their machine types, and are
    down until fluxburst brings them up. The result is checked with Flux itself; AWS is not asked.
    """
    parameters = {
        "cluster_name": cluster_name,
        "region": region,
        "node_role_arn": node_role_arn,
        "subnets": subnets,
    }
    quiet = settings_of(context).quiet
    write("eks", directory, shipped_table(), options, parameters, quiet=quiet)
