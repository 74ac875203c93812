"""``fluxburst local init --add``: more burst nodes for an existing elastic instance."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from itertools import count, islice
from pathlib import Path
from typing import Any

from fluxburst.errors import RequestError
from fluxburst.formats.hostlist import format_hostlist, parse_hostlist
from fluxburst.formats.units import counted
from fluxburst.provider import elastic as elastic_instances
from fluxburst.provider import elastic_directory
from fluxburst.provider.elastic import Elastic, Shape

_TAKEN = ("add", "directory", "burst_nodes", "burst_hosts", "cores", "gpus", "config_files")
"""The options that describe the addition; all others must not change."""


def add_burst_nodes(directory: Path, options: Mapping[str, Any], given: Mapping[str, str]) -> str:
    """Add burst nodes to an elastic instance: their ranks follow the existing ones.

    Args:
        directory: The elastic instance's directory.
        options: The options of ``fluxburst local init``.
        given: The options on the command line, as spelled, by name.

    Returns:
        A summary for the user.

    Raises:
        RequestError: for other options, if no node is named, or if the instance runs here.
        CommandError: if Flux rejects it.
    """
    wrong = [written for name, written in given.items() if name not in _TAKEN]
    if wrong:
        raise RequestError(
            f"{', '.join(sorted(wrong))} cannot be combined with --add, which changes only the "
            "burst nodes"
        )
    before = elastic_instances.load(directory)
    hosts = _new_hosts(before, options["burst_nodes"], options["burst_hosts"])
    after = _with_nodes(before, hosts, options["cores"], options["gpus"] or None)
    notes = elastic_directory.add_nodes(after, directory, config_files=options["config_files"])
    cores = after.shape_of(hosts[0]).cores
    return "\n".join(
        [
            f"can grow by {counted(len(hosts), 'more node')} "
            f"({format_hostlist(hosts)}) of {counted(cores, 'core')}, "
            f"{len(after.burst_hosts)} in all, once it is restarted.",
            *(f"{note}." for note in notes),
        ]
    )


def _new_hosts(before: Elastic, number: int | None, named: str | None) -> tuple[str, ...]:
    if named:
        hosts = parse_hostlist(named)
        if number is not None and number > len(hosts):
            problem = f"{number} burst nodes requested, but {counted(len(hosts), 'host')} named"
            raise RequestError(problem)
        hosts = hosts[:number]
    else:
        free = (name for n in count() if (name := f"burst{n}") not in before.hosts)
        hosts = tuple(islice(free, number or 0))
    if not hosts:
        raise RequestError(
            "which burst nodes? Name the new ones with --burst-hosts, or set their number with "
            "--burst-nodes"
        )
    return hosts


def _with_nodes(
    before: Elastic, hosts: tuple[str, ...], cores: int | None, gpus: int | None
) -> Elastic:
    """Return the instance with more burst nodes: with their own shape if it differs."""
    kind = (cores or before.cores, before.gpus if gpus is None else gpus)
    shapes = list(before.shapes)
    if kind != (before.cores, before.gpus):
        name = f"{kind[0]}-core" + (f"-{kind[1]}-gpu" if kind[1] else "")
        alike = [shape for shape in shapes if shape.name == name]
        shapes = [shape for shape in shapes if shape.name != name]
        earlier = tuple(host for shape in alike for host in shape.hosts)
        shapes.append(Shape(name, (*earlier, *hosts), *kind))
    return replace(before, burst_hosts=(*before.burst_hosts, *hosts), shapes=tuple(shapes))
