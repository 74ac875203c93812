"""``fluxburst NAME init`` of plugins for clusters that a provider manages."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from fluxburst import elastic as elastic_instances
from fluxburst.cli import elastic as commands
from fluxburst.cli.app import Command, settings_of
from fluxburst.elastic import Elastic, Shape
from fluxburst.errors import RequestError
from fluxburst.machine_types import MachineTypes
from fluxburst.sets import format_hostlist
from fluxburst_kubernetes.managed import slot_stem
from fluxburst_kubernetes.slots import host_of, slot_names

OPTIONS: Sequence[Callable[[Any], Any]] = (
    click.option(
        "--clusters",
        type=click.IntRange(1, 1000),
        default=2,
        show_default=True,
        help="Bursts of a machine type at the same time.",
    ),
    click.option("--name", default="burst", show_default=True, help="Begins the hosts' names."),
    click.option("--namespace", default="flux-operator", show_default=True, help="Of the bursts."),
    click.option("--image", help="Container image of the pods."),
    click.option("--cluster-name", help="The provider's name of the cluster."),
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
        written = {
            "name": slots,
            "namespace": given["namespace"],
            "image": given["image"],
            "cluster_name": given["cluster_name"],
            **parameters(given),
        }
        commands.write(elastic, directory, given, plugin, written)
        if not settings.quiet:
            commands.say(directory, _described(elastic))

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
    instance = commands.instance_options(lead_cores_required=True)
    command = commands.with_options(machine_type, *OPTIONS, *options, *instance)(command)
    made: click.Command = click.command(cls=Command, name="init")(command)
    return made


def declared(given: Mapping[str, Any], table: MachineTypes) -> tuple[str, Elastic]:
    """Return the hostlist of the slots, and the elastic instance that declares their hosts.

    Raises:
        RequestError: if a machine type is not known, or a count is none.
    """
    slots, shapes = [], []
    for name, count in _counts(given["machine_types"]).items():
        machine, stem = table[name], slot_stem(given["name"], name)
        last = given["clusters"] - 1
        slots.append(f"{stem}-[0-{last}]" if last else f"{stem}-0")
        hosts = [host_of(slot, n) for slot in slot_names(slots[-1]) for n in range(count)]
        shapes.append(Shape(name, tuple(hosts), machine.cores, machine.gpus))
    hosts = [host for shape in shapes for host in shape.hosts]
    elastic = commands.elastic_of(given, hosts, shapes[0].cores, shapes=shapes)
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


def _described(elastic: Elastic) -> str:
    lead = format_hostlist(elastic.lead_hosts)
    nodes = "\n".join(
        f"  {shape.name}: {shape.cores} cores, {format_hostlist(shape.hosts)}"
        for shape in elastic.shapes
    )
    queue = f" in queue {elastic.queue}" if elastic.queue else ""
    return (
        f"starts on {lead}, and can grow by these nodes{queue}, which reach it at "
        f"{elastic.address}:{elastic.port}:\n{nodes}"
    )
