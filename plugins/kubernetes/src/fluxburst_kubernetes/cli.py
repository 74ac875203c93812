"""``fluxburst kubernetes``: make an elastic instance whose burst nodes are pods."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import click

from fluxburst import elastic as elastic_instances
from fluxburst.cli.app import Command, settings_of
from fluxburst.cli.output import console
from fluxburst.elastic import Elastic
from fluxburst.errors import RequestError
from fluxburst.sets import format_hostlist, parse_hostlist
from fluxburst_kubernetes.slots import host_of, slot_names

DIRECTORY = click.Path(path_type=Path, file_okay=False)


@click.group()
def kubernetes() -> None:
    """Make an instance that can grow by pods of a Kubernetes cluster."""


@kubernetes.command(cls=Command)
@click.argument("directory", type=DIRECTORY)
@click.option(
    "--clusters", type=click.IntRange(1, 1000), default=4, show_default=True, help="Slots: bursts."
)
@click.option(
    "--nodes",
    type=click.IntRange(1, elastic_instances.MAX_NODES),
    default=4,
    show_default=True,
    help="Nodes of the largest burst.",
)
@click.option("--name", default="burst", show_default=True, help="Slots are called NAME-0, …")
@click.option("--cores", type=click.IntRange(min=1), required=True, help="Cores of a pod.")
@click.option("--gpus", type=click.IntRange(min=0), default=0, help="GPUs of a pod.")
@click.option("--address", help="Where pods reach the first lead host; by default its name.")
@click.option("--port", type=int, default=elastic_instances.DEFAULT_PORT, show_default=True)
@click.option("--network-device", default="", help="Network device that the lead listens on.")
@click.option("--lead-hosts", metavar="HOSTLIST", help="Hosts up from the start; by default this.")
@click.option("--lead-cores", type=click.IntRange(min=1), help="Cores of a lead host.")
@click.option("--lead-gpus", type=click.IntRange(min=0), default=0, help="GPUs of a lead host.")
@click.option("--queue", default="", help="Give the burst nodes a queue of this name.")
@click.option("--default-queue", default="batch", show_default=True, help="Then the other queue.")
@click.option("--namespace", default="flux-operator", show_default=True, help="Of the bursts.")
@click.option("--image", help="Container image of the pods.")
@click.option("--curve-cert", type=click.Path(path_type=Path), help="Use this certificate.")
@click.option("--flux-root", type=click.Path(path_type=Path), help="Prefix of Flux; else on PATH.")
@click.option("--force", is_flag=True, help="Replace an elastic instance that is there.")
@click.pass_context
def init(context: click.Context, /, directory: Path, **options: Any) -> None:
    """Write an elastic instance to DIRECTORY: one that starts small, and can grow by pods.

    The hosts of its bursts are declared, and are down until fluxburst brings them up. The result
    is checked with Flux itself.
    """
    settings = settings_of(context)
    elastic_instances.check_replaceable(directory, overwrite=options["force"])
    names = f"{options['name']}-[0-{options['clusters'] - 1}]"
    if options["clusters"] == 1:
        names = f"{options['name']}-0"
    elastic = _elastic(names, options)
    elastic_instances.write(
        elastic,
        directory,
        curve_cert=options["curve_cert"],
        files={
            "fluxburst.toml": _fluxburst_toml(directory, names, options),
            "start": start_script(elastic, directory),
        },
        overwrite=options["force"],
    )
    if not settings.quiet:
        _say(elastic, directory, names, options["nodes"])


def _elastic(names: str, options: dict[str, Any]) -> Elastic:
    leads = parse_hostlist(options["lead_hosts"] or elastic_instances.this_host())
    hosts = [host_of(slot, n) for slot in slot_names(names) for n in range(options["nodes"])]
    if len(hosts) > elastic_instances.MAX_NODES:
        raise RequestError(f"{len(hosts)} burst nodes are more than Flux is given here")
    return Elastic(
        lead_hosts=leads,
        burst_hosts=tuple(hosts),
        cores=options["cores"],
        gpus=options["gpus"],
        lead_cores=options["lead_cores"],
        lead_gpus=options["lead_gpus"],
        address=options["address"] or leads[0],
        port=options["port"],
        network_device=options["network_device"],
        queue=options["queue"],
        default_queue=options["default_queue"],
        flux=elastic_instances.find_flux(options["flux_root"]),
    )


def _fluxburst_toml(directory: Path, names: str, options: dict[str, Any]) -> str:
    lines = [
        "# For fluxburst in this instance; 'fluxburst params kubernetes' tells what can be set.",
        "[plugins.kubernetes]",
        f"config_dir = {_text(str(directory.absolute()))}",
        f"name = {_text(names)}",
        f"namespace = {_text(options['namespace'])}",
        f"cpu_limit = {options['cores']}",
    ]
    if options["image"]:
        lines.append(f"image = {_text(options['image'])}")
    return "\n".join(lines) + "\n"


def _text(value: str) -> str:
    return json.dumps(value, ensure_ascii=False)


def start_script(elastic: Elastic, directory: Path) -> str:
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


def _say(elastic: Elastic, directory: Path, names: str, nodes: int) -> None:
    lead = format_hostlist(elastic.lead_hosts)
    queue = f" in queue {elastic.queue}" if elastic.queue else ""
    start = shlex.quote(str(directory / "start"))
    console().print(
        f"{directory}: starts on {lead}, and can grow by the MiniClusters {names}, each of up to "
        f"{nodes} pods of {elastic.cores} cores{queue}, which reach it at "
        f"{elastic.address}:{elastic.port}.\n"
        f"Start it:     {start if start.startswith('/') else f'./{start}'}\n"
        f"Burst in it:  fluxburst --config {shlex.quote(f'{directory}/fluxburst.toml')} run",
        markup=False,
        soft_wrap=True,
    )
