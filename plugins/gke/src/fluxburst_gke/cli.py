"""``fluxburst gke``: create an elastic instance whose burst nodes are nodes of a GKE cluster."""

from __future__ import annotations

import click

from fluxburst_gke.checks import check_parameters
from fluxburst_gke.parameters import BurstParameters
from fluxburst_google.catalogue import machine_types
from fluxburst_kubernetes.managed_cli import init_command

DEFAULT = "c2-standard-8=4"


@click.group()
def gke() -> None:
    """Create an instance that can grow by nodes of Google Kubernetes Engine."""


gke.add_command(
    init_command(
        "gke",
        machine_types,
        DEFAULT,
        BurstParameters,
        check_parameters,
        (
            click.option("--project", help="Id of the project. Default: the credentials'."),
            click.option("--location", help="Zone or region of the cluster."),
        ),
        {"project": "--project", "location": "--location"},
    )
)
