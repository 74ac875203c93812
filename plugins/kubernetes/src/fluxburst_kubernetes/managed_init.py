"""What ``fluxburst NAME init`` of plugins for managed clusters has in common.

Each machine type gets slots of its own (:mod:`fluxburst_kubernetes.slots`), whose hosts are
declared with its cores and GPUs, and its name as a property.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click

from fluxburst import elastic as elastic_instances
from fluxburst.cli.output import console
from fluxburst.elastic import Elastic, Shape
from fluxburst.errors import RequestError
from fluxburst.machine_types import MachineTypes
from fluxburst.sets import format_hostlist, parse_hostlist
from fluxburst_kubernetes.cli import _start_script, _text
from fluxburst_kubernetes.managed import slot_stem
from fluxburst_kubernetes.slots import host_of, slot_names

F = TypeVar("F", bound=Callable[..., Any])

_FILE = click.Path(path_type=Path)
_OPTIONS = (
    click.option(
        "--machine-type",
        "machine_types",
        multiple=True,
        required=True,
        metavar="NAME=COUNT",
        help="Declare COUNT nodes of a machine type; may be given again.",
    ),
    click.option(
        "--clusters",
        type=click.IntRange(1, 1000),
        default=2,
        show_default=True,
        help="Slots of each machine type, which share its nodes: bursts.",
    ),
    click.option("--name", default="burst", show_default=True, help="Slots are called NAME-…"),
    click.option("--address", help="Where pods reach the first lead host; by default its name."),
    click.option("--port", type=int, default=elastic_instances.DEFAULT_PORT, show_default=True),
    click.option("--network-device", default="", help="Network device that the lead listens on."),
    click.option(
        "--lead-hosts", metavar="HOSTLIST", help="Hosts up from the start; by default this."
    ),
    click.option("--lead-cores", type=click.IntRange(min=1), required=True, help="Of a lead."),
    click.option("--lead-gpus", type=click.IntRange(min=0), default=0, help="GPUs of a lead."),
    click.option("--queue", default="", help="Give the burst nodes a queue of this name."),
    click.option(
        "--default-queue", default="batch", show_default=True, help="Then the other queue."
    ),
    click.option("--namespace", default="flux-operator", show_default=True, help="Of the bursts."),
    click.option("--image", help="Container image of the pods."),
    click.option("--curve-cert", type=_FILE, help="Use this certificate."),
    click.option("--flux-root", type=_FILE, help="Prefix of Flux; else on PATH."),
    click.option("--force", is_flag=True, help="Replace an elastic instance that is there."),
)


def init_options(command: F) -> F:
    """Give a command the options of ``init``; their values are what :func:`write` takes."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def write(
    plugin: str,
    directory: Path,
    table: MachineTypes,
    options: Mapping[str, Any],
    parameters: Mapping[str, Any],
    *,
    quiet: bool,
) -> None:
    """Write an elastic instance whose burst nodes are machines of a provider, and check it.

    Args:
        plugin: The plugin's name.
        directory: Where to.
        table: The provider's machine types.
        options: What :func:`init_options` gave.
        parameters: More parameters of the plugin, texts and lists of them; None is left out.
        quiet: Whether to say nothing.

    Raises:
        RequestError: for what is wrong with the options.
        CommandError: if Flux refuses the instance.
    """
    elastic_instances.check_replaceable(directory, overwrite=options["force"])
    slots = _slots(options)
    shapes = tuple(
        Shape(name, hosts, table[name].cores, table[name].gpus)
        for name, sizes in slots.items()
        if (hosts := tuple(host_of(s, n) for s, size in sizes.items() for n in range(size)))
    )
    names = format_hostlist([slot for sizes in slots.values() for slot in sizes])
    slot_names(names)  # checks them
    elastic = _elastic(shapes, options)
    given = {
        "config_dir": str(directory.absolute()),
        "name": names,
        "namespace": options["namespace"],
        "image": options["image"],
        **parameters,
    }
    elastic_instances.write(
        elastic,
        directory,
        curve_cert=options["curve_cert"],
        files={
            "fluxburst.toml": _fluxburst_toml(plugin, given),
            "start": _start_script(elastic, directory),
        },
        overwrite=options["force"],
    )
    if not quiet:
        _say(elastic, directory, table)


def _slots(options: Mapping[str, Any]) -> dict[str, dict[str, int]]:
    """Return the slots of each machine type, with their sizes, which differ by one at most."""
    found: dict[str, dict[str, int]] = {}
    for text in options["machine_types"]:
        name, _, count = text.partition("=")
        if not count.isdecimal() or not 1 <= int(count) <= elastic_instances.MAX_NODES:
            raise RequestError(
                f"{text!r} is not a machine type with how many nodes to declare, such as NAME=4"
            )
        if name in found:
            raise RequestError(f"the machine type {name!r} is named twice")
        clusters = min(options["clusters"], int(count))
        least, larger = divmod(int(count), clusters)
        stem = slot_stem(options["name"], name)
        found[name] = {f"{stem}-{n}": least + (n < larger) for n in range(clusters)}
    return found


def _elastic(shapes: Sequence[Shape], options: Mapping[str, Any]) -> Elastic:
    leads = parse_hostlist(options["lead_hosts"] or elastic_instances.this_host())
    return Elastic(
        lead_hosts=leads,
        burst_hosts=tuple(host for shape in shapes for host in shape.hosts),
        cores=shapes[0].cores,
        gpus=shapes[0].gpus,
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


def _fluxburst_toml(plugin: str, parameters: Mapping[str, Any]) -> str:
    lines = [
        f"# For fluxburst in this instance; 'fluxburst params {plugin}' tells what can be set.",
        f"[plugins.{plugin}]",
    ]
    for name, value in parameters.items():
        if isinstance(value, str):
            lines.append(f"{name} = {_text(value)}")
        elif value:
            lines.append(f"{name} = [{', '.join(map(_text, value))}]")
    return "\n".join(lines) + "\n"


def _say(elastic: Elastic, directory: Path, table: MachineTypes) -> None:
    start = shlex.quote(str(directory / "start"))
    kinds = ", ".join(
        f"{len(shape.hosts)} {shape.name} of {shape.cores} cores"
        + (f" and {shape.gpus} GPUs" if shape.gpus else "")
        for shape in elastic.shapes
    )
    costs = ", ".join(
        f"{shape.name} {table[shape.name].price}"
        for shape in elastic.shapes
        if table[shape.name].price is not None
    )
    console().print(
        f"{directory}: starts on {format_hostlist(elastic.lead_hosts)}, and can grow by {kinds}"
        f"{f' in queue {elastic.queue}' if elastic.queue else ''}, which reach it at "
        f"{elastic.address}:{elastic.port}.\n"
        f"What one costs an hour ({table.dated}, {table.region}): {costs}\n"
        f"Start it:     {start if start.startswith('/') else f'./{start}'}\n"
        f"Burst in it:  fluxburst --config {shlex.quote(f'{directory}/fluxburst.toml')} run",
        markup=False,
        soft_wrap=True,
    )
