"""``fluxburst compute-engine``: create an elastic instance with virtual machines as burst nodes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from fluxburst.cli import toolkit as commands
from fluxburst.cli.toolkit import Command, settings_of
from fluxburst.errors import RequestError
from fluxburst.formats.hostlist import format_hostlist
from fluxburst.formats.units import counted
from fluxburst.provider import elastic_directory
from fluxburst.provider.elastic import Elastic, Shape
from fluxburst.provider.machine_types import MachineType
from fluxburst_compute_engine.checks import check_name, check_parameters
from fluxburst_compute_engine.parameters import BurstParameters
from fluxburst_google.catalogue import machine_types

DEFAULT_MACHINE_TYPE = "c2-standard-8=4"
_SET_BY = {
    "project": "--project",
    "region": "--region",
    "network": "--network",
    "compute_family": "--family",
}
"""The parameters to be written, and the options that set them."""


@click.group("compute-engine")
def compute_engine() -> None:
    """Create an instance that can grow by virtual machines of Google's Compute Engine."""


@compute_engine.command(cls=Command)
@click.option(
    "--machine-type",
    "declared",
    metavar="NAME=COUNT",
    multiple=True,
    default=[DEFAULT_MACHINE_TYPE],
    show_default=True,
    help="A machine type and its maximum number at any time; repeatable.",
)
@click.option(
    "--prefix", default="burst", show_default=True, help="Machines are called PREFIX-TYPE-0, …"
)
@click.option("--project", help="Google Cloud project. Default: the credentials'.")
@click.option("--region", default="us-central1", show_default=True, help="Region of the machines.")
@click.option("--network", "network", default="default", show_default=True, help="VPC network.")
@click.option("--family", "compute_family", help="Family of the boot image.")
@commands.with_options(*commands.instance_options(lead_cores_required=True))
@click.pass_context
def init(context: click.Context, /, directory: Path, **options: Any) -> None:
    """Write an elastic instance to DIRECTORY: one that starts small and can grow by machines.

    Declares its burst nodes, which stay down until fluxburst provisions them. Checks the result
    with Flux itself.
    """
    settings = settings_of(context)
    elastic_directory.check_replaceable(directory, overwrite=options["force"])
    parameters = {key: options[key] for key in _SET_BY if options[key] is not None}
    commands.refuse(check_parameters(BurstParameters(**parameters)), _SET_BY)
    wanted = _wanted(options["declared"])
    shapes = [_shape(options["prefix"], kind, count) for kind, count in wanted.items()]
    hosts = [host for shape in shapes for host in shape.hosts]
    elastic = commands.elastic_of(options, hosts, shapes[0].cores, shapes=shapes)
    notes = commands.write(elastic, directory, options, "compute_engine", parameters)
    if not settings.quiet:
        commands.say(directory, _described(elastic, list(wanted)), notes)


def _wanted(declared: Sequence[str]) -> Mapping[MachineType, int]:
    counts = commands.counts_of("--machine-type", declared, DEFAULT_MACHINE_TYPE)
    commands.check_nodes("--machine-type", sum(counts.values()))
    return {machine_types()[name]: count for name, count in counts.items()}


def _shape(prefix: str, kind: MachineType, count: int) -> Shape:
    hosts = tuple(f"{prefix}-{kind.name}-{number}" for number in range(count))
    try:
        check_name(hosts[-1], "machine of Compute Engine")
    except RequestError as error:
        raise RequestError(f"--prefix: {error}") from error
    return Shape(kind.name, hosts, kind.cores, kind.gpus)


def _described(elastic: Elastic, kinds: Sequence[MachineType]) -> str:
    lead = format_hostlist(elastic.lead_hosts)
    queue = f" in queue {elastic.queue}" if elastic.queue else ""
    table = machine_types()
    nodes = "\n".join(
        f"  {len(shape.hosts)} × {kind.name}: {counted(kind.cores, 'core')}"
        f"{', ' + counted(kind.gpus, 'GPU') if kind.gpus else ''}, "
        f"{kind.price} an hour ({table.region}, {table.dated}): {format_hostlist(shape.hosts)}"
        for shape, kind in zip(elastic.shapes, kinds, strict=True)
    )
    return (
        f"starts on {lead}, and can grow{queue} by\n{nodes}\n"
        f"which reach it at {elastic.address}:{elastic.port}."
    )
