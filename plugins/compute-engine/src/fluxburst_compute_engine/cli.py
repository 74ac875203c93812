"""``fluxburst compute-engine``: make an elastic instance whose burst nodes are instances."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from fluxburst import elastic as elastic_instances
from fluxburst.cli.app import Command, settings_of
from fluxburst.cli.output import console
from fluxburst.elastic import Elastic, Shape
from fluxburst.errors import RequestError
from fluxburst.machine_types import MachineType
from fluxburst.sets import format_hostlist, parse_hostlist
from fluxburst_compute_engine.catalogue import machine_types
from fluxburst_compute_engine.checks import check_name

DIRECTORY = click.Path(path_type=Path, file_okay=False)
DEFAULT_MACHINE_TYPE = "c2-standard-8=4"


@click.group("compute-engine")
def compute_engine() -> None:
    """Make an instance that can grow by virtual machines of Google's Compute Engine."""


@compute_engine.command(cls=Command)
@click.argument("directory", type=DIRECTORY)
@click.option(
    "--machine-type",
    "declared",
    metavar="NAME=COUNT",
    multiple=True,
    default=[DEFAULT_MACHINE_TYPE],
    show_default=True,
    help="A machine type, and how many of it there may be at once; may be given again.",
)
@click.option(
    "--prefix", default="burst", show_default=True, help="Instances are called PREFIX-TYPE-0, …"
)
@click.option("--project", help="Google Cloud project; else that of the credentials.")
@click.option("--region", default="us-central1", show_default=True, help="Where the instances are.")
@click.option(
    "--network", "network_name", default="default", show_default=True, help="VPC network."
)
@click.option("--family", "compute_family", help="Family of the boot image.")
@click.option("--address", help="Where instances reach the first lead host; by default its name.")
@click.option("--port", type=int, default=elastic_instances.DEFAULT_PORT, show_default=True)
@click.option("--network-device", default="", help="Network device that the lead listens on.")
@click.option("--lead-hosts", metavar="HOSTLIST", help="Hosts up from the start; by default this.")
@click.option(
    "--lead-cores", type=click.IntRange(min=1), required=True, help="Cores of a lead host."
)
@click.option("--lead-gpus", type=click.IntRange(min=0), default=0, help="GPUs of a lead host.")
@click.option("--queue", default="", help="Give the burst nodes a queue of this name.")
@click.option("--default-queue", default="batch", show_default=True, help="Then the other queue.")
@click.option("--curve-cert", type=click.Path(path_type=Path), help="Use this certificate.")
@click.option("--flux-root", type=click.Path(path_type=Path), help="Prefix of Flux; else on PATH.")
@click.option("--force", is_flag=True, help="Replace an elastic instance that is there.")
@click.pass_context
def init(context: click.Context, /, directory: Path, **options: Any) -> None:
    """Write an elastic instance to DIRECTORY: one that starts small, and can grow by instances.

    Its burst nodes are declared, and are down until fluxburst brings them up. The result is checked
    with Flux itself.
    """
    settings = settings_of(context)
    elastic_instances.check_replaceable(directory, overwrite=options["force"])
    wanted = _wanted(options["declared"])
    shapes = [_shape(options["prefix"], kind, count) for kind, count in wanted.items()]
    elastic = _elastic(shapes, options)
    elastic_instances.write(
        elastic,
        directory,
        curve_cert=options["curve_cert"],
        files={
            "fluxburst.toml": _fluxburst_toml(directory, options),
            "start": _start_script(elastic, directory),
        },
        overwrite=options["force"],
    )
    if not settings.quiet:
        _say(elastic, directory, list(wanted))


def _wanted(declared: Sequence[str]) -> Mapping[MachineType, int]:
    wanted: dict[MachineType, int] = {}
    for text in declared:
        name, _, number = text.partition("=")
        if not number.isdigit() or int(number) < 1:
            raise RequestError(f"{text!r} is not NAME=COUNT, such as {DEFAULT_MACHINE_TYPE}")
        kind = machine_types()[name]
        wanted[kind] = wanted.get(kind, 0) + int(number)
    return wanted


def _shape(prefix: str, kind: MachineType, count: int) -> Shape:
    hosts = tuple(f"{prefix}-{kind.name}-{number}" for number in range(count))
    check_name(hosts[-1], "Compute Engine instance")
    return Shape(kind.name, hosts, kind.cores, kind.gpus)


def _elastic(shapes: Sequence[Shape], options: dict[str, Any]) -> Elastic:
    leads = parse_hostlist(options["lead_hosts"] or elastic_instances.this_host())
    return Elastic(
        lead_hosts=leads,
        burst_hosts=tuple(host for shape in shapes for host in shape.hosts),
        cores=shapes[0].cores,
        lead_cores=options["lead_cores"],
        lead_gpus=options["lead_gpus"],
        address=options["address"] or leads[0],
        port=options["port"],
        network_device=options["network_device"],
        queue=options["queue"],
        default_queue=options["default_queue"],
        flux=elastic_instances.find_flux(options["flux_root"]),
        shapes=tuple(shapes),
    )


def _fluxburst_toml(directory: Path, options: dict[str, Any]) -> str:
    lines = [
        "# For fluxburst in this instance; see 'fluxburst params compute_engine'.",
        "[plugins.compute_engine]",
        f"config_dir = {_text(str(directory.absolute()))}",
    ]
    for key in ("project", "region", "network_name", "compute_family"):
        if options[key]:
            lines.append(f"{key} = {_text(options[key])}")
    return "\n".join(lines) + "\n"


def _text(value: str) -> str:
    return json.dumps(value, ensure_ascii=False)


def _start_script(elastic: Elastic, directory: Path) -> str:
    """Return a script that starts a lead broker; Flux leaves queues with names stopped."""
    absolute = directory.absolute()
    command = elastic_instances.lead_command(elastic, absolute, "@HOST@")
    broker = shlex.join(command).replace("@HOST@", '"$host"')
    flux = shlex.quote(elastic.flux)
    host = shlex.quote(elastic.lead_hosts[0])
    if len(elastic.lead_hosts) > 1:
        host = '"${SLURMD_NODENAME:-$(hostname)}"'
    first = f'{flux} queue start --all --quiet && exec "$@"'
    return (
        "#!/bin/sh\n# Starts a lead broker of this elastic instance, with the command given.\n"
        f"host={host}\n"
        '[ $# -gt 0 ] || set -- "${SHELL:-/bin/sh}"\n'
        f'exec {broker} sh -c {shlex.quote(first)} sh "$@"\n'
    )


def _say(elastic: Elastic, directory: Path, kinds: Sequence[MachineType]) -> None:
    lead = format_hostlist(elastic.lead_hosts)
    queue = f" in queue {elastic.queue}" if elastic.queue else ""
    table = machine_types()
    nodes = "\n".join(
        f"  {len(shape.hosts)} × {kind.name}: {kind.cores} cores"
        f"{f', {kind.gpus} GPUs' if kind.gpus else ''}, {kind.price} an hour ({table.region}, "
        f"{table.dated}): {format_hostlist(shape.hosts)}"
        for shape, kind in zip(elastic.shapes, kinds, strict=True)
    )
    start = shlex.quote(str(directory / "start"))
    console().print(
        f"{directory}: starts on {lead}, and can grow{queue} by\n{nodes}\n"
        f"which reach it at {elastic.address}:{elastic.port}.\n"
        f"Start it:     {start if start.startswith('/') else f'./{start}'}\n"
        f"Burst in it:  fluxburst --config {shlex.quote(f'{directory}/fluxburst.toml')} run",
        markup=False,
        soft_wrap=True,
    )
