"""``fluxburst eks``: make an elastic instance whose burst nodes are machines of EKS node groups."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from fluxburst_eks.plugin import shipped_table
from fluxburst_kubernetes.managed_cli import init_command

DEFAULT = "c5.4xlarge=4"
_WRITTEN = ("region", "node_role_arn")


@click.group()
def eks() -> None:
    """Make an instance that can grow by nodes of an Amazon EKS cluster."""


def _parameters(given: Mapping[str, Any]) -> Mapping[str, object]:
    parameters: dict[str, object] = {n: given[n] for n in _WRITTEN if given[n] is not None}
    return {**parameters, "subnets": list(given["subnets"])} if given["subnets"] else parameters


init = init_command(
    "eks",
    shipped_table,
    DEFAULT,
    (
        click.option("--region", help="Of the cluster; else that of the profile or environment."),
        click.option("--node-role-arn", help="ARN of the IAM role of nodes."),
        click.option(
            "--subnet", "subnets", multiple=True, help="Subnet for nodes; may be given again."
        ),
    ),
    _parameters,
)
eks.add_command(init)
