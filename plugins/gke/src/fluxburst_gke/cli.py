"""``fluxburst gke``: make an elastic instance whose burst nodes are nodes of a GKE cluster."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from fluxburst_compute_engine.catalogue import machine_types
from fluxburst_kubernetes.managed_cli import init_command

DEFAULT = "c2-standard-8=4"


@click.group()
def gke() -> None:
    """Make an instance that can grow by nodes of Google Kubernetes Engine."""


def _parameters(given: Mapping[str, Any]) -> Mapping[str, object]:
    return {name: given[name] for name in ("project", "location") if given[name] is not None}


gke.add_command(
    init_command(
        "gke",
        machine_types,
        DEFAULT,
        (
            click.option("--project", help="Id of the project; by default the credentials'."),
            click.option("--location", help="Zone or region of the cluster."),
        ),
        _parameters,
    )
)
