"""``fluxburst NAME init`` of plugins for clusters that a provider manages."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from fluxburst import elastic as elastic_instances
from fluxburst.cli.app import Command, settings_of
from fluxburst.cli.output import console
from fluxburst.elastic import Elastic, Shape
from fluxburst.errors import RequestError
from fluxburst.machine_types import MachineTypes
from fluxburst.sets import format_hostlist, parse_hostlist
from fluxburst_kubernetes.cli import DIRECTORY, start_script
from fluxburst_kubernetes.managed import slot_stem
from fluxburst_kubernetes.slots import host_of, slot_names

OPTIONS: Sequence[Callable[[Any], Any]] = (
    click.argument("directory", type=DIRECTORY),
    click.option(
        "--clusters",
        type=click.IntRange(1, 1000),
        default=2,
        show_default=True,
        help="Bursts of a machine type at the same time.",
    ),
    click.option("--name", default="burst", show_default=True, help="Begins the hosts' names."),
    click.option("--address", help="Where pods reach the first lead host; by default its name."),
    click.option("--port", type=int, default=elastic_instances.DEFAULT_PORT, show_default=True),
    click.option("--network-device", default="", help="Network device that the lead listens on."),
    click.option("--lead-hosts", metavar="HOSTLIST", help="Hosts up from the start; else this."),
    click.option("--lead-cores", type=click.IntRange(min=1), required=True, help="Of a lead host."),
    click.option("--lead-gpus", type=click.IntRange(min=0), default=0, help="Of a lead host."),
    click.option("--queue", default="", help="Give the burst nodes a queue of this name."),
    click.option(
        "--default-queue", default="batch", show_default=True, help="Then the other queue."
    ),
    click.option("--namespace", default="flux-operator", show_default=True, help="Of the bursts."),
    click.option("--image", help="Container image of the pods."),
    click.option("--cluster-name", help="The provider's name of the cluster."),
    click.option("--curve-cert", type=click.Path(path_type=Path), help="Use this certificate."),
    click.option("--flux-root", type=click.Path(path_type=Path), help="Prefix of Flux."),
    click.option("--force", is_flag=True, help="Replace an elastic instance that is there."),
)


def init_command(
    plugin: str,
    table: Callable[[], MachineTypes],
    default: str,
    options: Sequence[Callable[[Any], Any]] = (),
    parameters: Callable[[Mapping[str, Any]], Mapping[str, object]] = lambda given: {},
) -> click.Command:
    """Return the command that makes an elastic instance for a plugin.

    Args:
        plugin: The plugin's name.
        table: Reads its machine types.
        default: The machine type to declare, with its number of hosts, where none is named.
        options: More options of the command.
        parameters: The plugin's parameters to write for what those were given.
    """

    def init(context: click.Context, /, directory: Path, **given: Any) -> None:
        """Write an elastic instance to DIRECTORY: one that starts small, and can grow by nodes.

        The hosts of its bursts are declared, a number of them for each machine type, and are down
        until fluxburst brings them up. The result is checked with Flux itself.
        """
        settings = settings_of(context)
        elastic_instances.check_replaceable(directory, overwrite=given["force"])
        slots, elastic = declared(given, table())
        elastic_instances.write(
            elastic,
            directory,
            curve_cert=given["curve_cert"],
            files={
                "fluxburst.toml": _config(plugin, directory, slots, given, parameters(given)),
                "start": start_script(elastic, directory),
            },
            overwrite=given["force"],
        )
        if not settings.quiet:
            _say(elastic, directory)

    command: Any = click.pass_context(init)
    machine_type = click.option(
        "--machine-type",
        "machine_types",
        metavar="NAME=COUNT",
        multiple=True,
        default=[default],
        show_default=True,
        help="Declare so many hosts of a machine type: the nodes of its largest burst.",
    )
    for option in reversed([*OPTIONS, machine_type, *options]):
        command = option(command)
    made: click.Command = click.command(cls=Command, name="init")(command)
    return made


def declared(given: Mapping[str, Any], table: MachineTypes) -> tuple[str, Elastic]:
    """Return the hostlist of the slots, and the elastic instance that declares their hosts.

    Raises:
        RequestError: if a machine type is not known, or a count is none.
    """
    leads = parse_hostlist(given["lead_hosts"] or elastic_instances.this_host())
    slots, shapes = [], []
    for name, count in _counts(given["machine_types"]).items():
        machine, stem = table[name], slot_stem(given["name"], name)
        last = given["clusters"] - 1
        slots.append(f"{stem}-[0-{last}]" if last else f"{stem}-0")
        hosts = [host_of(slot, n) for slot in slot_names(slots[-1]) for n in range(count)]
        shapes.append(Shape(name, tuple(hosts), machine.cores, machine.gpus))
    hosts = [host for shape in shapes for host in shape.hosts]
    if len(hosts) > elastic_instances.MAX_NODES:
        raise RequestError(f"{len(hosts)} burst nodes are more than Flux is given here")
    elastic = Elastic(
        lead_hosts=leads,
        burst_hosts=tuple(hosts),
        cores=shapes[0].cores,
        lead_cores=given["lead_cores"],
        lead_gpus=given["lead_gpus"],
        address=given["address"] or leads[0],
        port=given["port"],
        network_device=given["network_device"],
        queue=given["queue"],
        default_queue=given["default_queue"],
        flux=elastic_instances.find_flux(given["flux_root"]),
        shapes=tuple(shapes),
    )
    return ",".join(slots), elastic


def _counts(texts: Sequence[str]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for text in texts:
        name, _, count = text.partition("=")
        if not name or not count.isdigit() or not 1 <= int(count) <= elastic_instances.MAX_NODES:
            raise RequestError(f"--machine-type {text}: expected NAME=COUNT, such as {name}=4")
        if name in counts:
            raise RequestError(f"--machine-type {name} is given twice")
        counts[name] = int(count)
    return counts


def _config(
    plugin: str,
    directory: Path,
    slots: str,
    given: Mapping[str, Any],
    parameters: Mapping[str, object],
) -> str:
    written = {
        "config_dir": str(directory.absolute()),
        "name": slots,
        "namespace": given["namespace"],
        "image": given["image"],
        "cluster_name": given["cluster_name"],
        **parameters,
    }
    lines = [
        f"# For fluxburst in this instance; 'fluxburst params {plugin}' tells what can be set.",
        f"[plugins.{plugin}]",
        *(f"{name} = {_toml(value)}" for name, value in written.items() if value is not None),
    ]
    return "\n".join(lines) + "\n"


def _toml(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


def _say(elastic: Elastic, directory: Path) -> None:
    lead = format_hostlist(elastic.lead_hosts)
    nodes = "\n".join(
        f"  {shape.name}: {shape.cores} cores, {format_hostlist(shape.hosts)}"
        for shape in elastic.shapes
    )
    start = shlex.quote(str(directory / "start"))
    queue = f" in queue {elastic.queue}" if elastic.queue else ""
    console().print(
        f"{directory}: starts on {lead}, and can grow by these nodes{queue}, which reach it at "
        f"{elastic.address}:{elastic.port}:\n{nodes}\n"
        f"Start it:     {start if start.startswith('/') else f'./{start}'}\n"
        f"Burst in it:  fluxburst --config {shlex.quote(f'{directory}/fluxburst.toml')} run",
        markup=False,
        soft_wrap=True,
    )
