"""``fluxburst NAME init`` of plugins for managed clusters."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, TypeVar

import click

from fluxburst.cli import toolkit as commands
from fluxburst.cli.toolkit import Command, settings_of
from fluxburst.formats.hostlist import format_hostlist
from fluxburst.formats.units import counted
from fluxburst.provider import elastic_directory
from fluxburst.provider.elastic import Elastic, Shape
from fluxburst.provider.machine_types import MachineType, MachineTypes
from fluxburst_kubernetes.checks import check_parameters
from fluxburst_kubernetes.managed import slot_stem
from fluxburst_kubernetes.managed_parameters import ManagedParameters
from fluxburst_kubernetes.slots import host_of, slot_names

P = TypeVar("P", bound=ManagedParameters)

OPTIONS: Sequence[Callable[[Any], Any]] = (
    click.option(
        "--clusters",
        type=click.IntRange(1, 1000),
        default=2,
        show_default=True,
        help="Maximum number of concurrent bursts of a machine type.",
    ),
    click.option("--name", default="burst", show_default=True, help="Prefix of hostnames."),
    click.option("--namespace", default="flux-operator", show_default=True, help="For the bursts."),
    click.option("--image", help="Container image of the pods."),
    click.option("--cluster-name", help="The provider's name of the cluster."),
)
_WRITTEN = {"namespace": "--namespace", "image": "--image", "cluster_name": "--cluster-name"}
"""The parameters to be written, by the options that set them."""


def init_command(
    plugin: str,
    table: Callable[[], MachineTypes],
    default: str,
    parameters: type[P],
    check: Callable[[P], Iterable[tuple[str, str]]],
    options: Sequence[Callable[[Any], Any]],
    written: Mapping[str, str],
) -> click.Command:
    """Return the command that creates an elastic instance for a plugin.

    Args:
        plugin: The plugin's name.
        table: Returns its machine types.
        default: The machine type to declare by default, with its number of hosts.
        parameters: Its dataclass of parameters.
        check: Yields the problems of this plugin's own parameters: field and reason.
        options: Further options of the command.
        written: The parameters set by these options, by option.
    """
    option_of = {"name": "--name", **_WRITTEN, **written}

    def init(context: click.Context, /, directory: Path, **given: Any) -> None:
        """Write an elastic instance to DIRECTORY: one that starts small and can grow by nodes.

        Declares hosts for its bursts, a number for each machine type, which stay down until
        fluxburst provisions them. Checks the result with Flux itself.
        """
        settings = settings_of(context)
        elastic_directory.check_replaceable(directory, overwrite=given["force"])
        counts = commands.counts_of("--machine-type", given["machine_types"], default)
        commands.check_nodes("--machine-type", given["clusters"] * sum(counts.values()))
        machines = {name: table()[name] for name in counts}
        slots = {name: _slots(given, name) for name in counts}
        values = {"name": ",".join(slots.values()), **_given(given, (*_WRITTEN, *written))}
        params = parameters(**values)
        problems = chain(check_parameters(params), check(params))
        commands.refuse(problems, {name: option_of[name] for name in values})
        shapes = _shapes(slots, counts, machines)
        hosts = [host for shape in shapes for host in shape.hosts]
        elastic = commands.elastic_of(given, hosts, shapes[0].cores, shapes=shapes)
        notes = commands.write(elastic, directory, given, plugin, values)
        if not settings.quiet:
            commands.say(directory, _described(elastic), notes)

    command: Any = click.pass_context(init)
    instance = commands.instance_options(lead_cores_required=True)
    command = commands.with_options(_machine_type(default), *OPTIONS, *options, *instance)(command)
    made: click.Command = click.command(cls=Command, name="init")(command)
    return made


def _machine_type(default: str) -> Callable[[Any], Any]:
    return click.option(
        "--machine-type",
        "machine_types",
        metavar="NAME=COUNT",
        multiple=True,
        default=[default],
        show_default=True,
        help="Number of hosts for a machine type: the maximum nodes of one burst.",
    )


def _given(given: Mapping[str, Any], names: Iterable[str]) -> dict[str, Any]:
    """Return the options that were set, in TOML."""
    lists = {name: list(given[name]) for name in names if isinstance(given[name], tuple)}
    return {n: value for n in names if (value := lists.get(n, given[n])) not in (None, [])}


def _slots(given: Mapping[str, Any], machine_type: str) -> str:
    """Return the hostlist of the slots of a machine type."""
    stem, last = slot_stem(given["name"], machine_type), given["clusters"] - 1
    return f"{stem}-[0-{last}]" if last else f"{stem}-0"


def _shapes(
    slots: Mapping[str, str], counts: Mapping[str, int], machines: Mapping[str, MachineType]
) -> list[Shape]:
    """Return the hosts of each machine type's slots, with their resources."""
    shapes = []
    for name, machine in machines.items():
        numbers = range(counts[name])
        hosts = tuple(host_of(slot, n) for slot in slot_names(slots[name]) for n in numbers)
        shapes.append(Shape(name, hosts, machine.cores, machine.gpus))
    return shapes


def _described(elastic: Elastic) -> str:
    lead = format_hostlist(elastic.lead_hosts)
    nodes = "\n".join(
        f"  {shape.name}: {counted(shape.cores, 'core')}, {format_hostlist(shape.hosts)}"
        for shape in elastic.shapes
    )
    queue = f" in queue {elastic.queue}" if elastic.queue else ""
    return (
        f"starts on {lead}, and can grow by these nodes{queue}, which reach it at "
        f"{elastic.address}:{elastic.port}:\n{nodes}"
    )
