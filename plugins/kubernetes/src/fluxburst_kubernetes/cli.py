"""``fluxburst kubernetes``: create an elastic instance whose burst nodes are pods."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from fluxburst.cli import toolkit as commands
from fluxburst.cli.toolkit import Command, settings_of
from fluxburst.formats.hostlist import format_hostlist
from fluxburst.formats.units import counted
from fluxburst.provider import elastic as elastic_instances
from fluxburst.provider import elastic_directory
from fluxburst.provider.elastic import Elastic
from fluxburst_kubernetes.checks import check_parameters
from fluxburst_kubernetes.parameters import BurstParameters
from fluxburst_kubernetes.slots import host_of, slot_names


@click.group()
def kubernetes() -> None:
    """Create an instance that can grow by pods of a Kubernetes cluster."""


@kubernetes.command(cls=Command)
@click.option(
    "--clusters", type=click.IntRange(1, 1000), default=4, show_default=True, help="Slots: bursts."
)
@click.option(
    "--nodes",
    type=click.IntRange(1, elastic_instances.MAX_NODES),
    default=4,
    show_default=True,
    help="Maximum nodes of one burst.",
)
@click.option("--name", default="burst", show_default=True, help="Slots are called NAME-0, …")
@click.option("--cores", type=click.IntRange(min=1), required=True, help="Cores of a pod.")
@click.option("--gpus", type=click.IntRange(min=0), default=0, help="GPUs of a pod.")
@click.option("--namespace", default="flux-operator", show_default=True, help="For the bursts.")
@click.option("--image", help="Container image of the pods.")
@commands.with_options(*commands.instance_options(lead_cores_required=False))
@click.pass_context
def init(context: click.Context, /, directory: Path, **options: Any) -> None:
    """Write an elastic instance to DIRECTORY: one that starts small and can grow by pods.

    Declares the hosts of its bursts, which stay down until fluxburst provisions them. Checks the
    result with Flux itself.
    """
    settings = settings_of(context)
    elastic_directory.check_replaceable(directory, overwrite=options["force"])
    commands.check_nodes("--clusters times --nodes", options["clusters"] * options["nodes"])
    last = options["clusters"] - 1
    names = f"{options['name']}-[0-{last}]" if last else f"{options['name']}-0"
    parameters = {
        "name": names,
        "namespace": options["namespace"],
        "cpu_limit": options["cores"],
        "image": options["image"],
    }
    given = {name: value for name, value in parameters.items() if value is not None}
    problems = check_parameters(BurstParameters(**given))
    commands.refuse(problems, {name: f"--{name}" for name in ("name", "namespace", "image")})
    hosts = [host_of(slot, n) for slot in slot_names(names) for n in range(options["nodes"])]
    elastic = commands.elastic_of(options, hosts, options["cores"], options["gpus"])
    notes = commands.write(elastic, directory, options, "kubernetes", parameters)
    if not settings.quiet:
        commands.say(directory, _described(elastic, names, options["nodes"]), notes)


def _described(elastic: Elastic, names: str, nodes: int) -> str:
    lead = format_hostlist(elastic.lead_hosts)
    queue = f" in queue {elastic.queue}" if elastic.queue else ""
    return (
        f"starts on {lead}, and can grow by the MiniClusters {names}, each of up to "
        f"{counted(nodes, 'pod')} of {counted(elastic.cores, 'core')}{queue}, which reach it at "
        f"{elastic.address}:{elastic.port}."
    )
