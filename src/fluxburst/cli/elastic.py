"""Shared by the commands ``fluxburst PLUGIN init``, which create elastic instances."""

from __future__ import annotations

import json
import logging
import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click

from fluxburst.cli.output import console
from fluxburst.errors import RequestError
from fluxburst.formats.hostlist import parse_hostlist
from fluxburst.provider import elastic as elastic_instances
from fluxburst.provider import elastic_directory
from fluxburst.provider.elastic import Elastic, Shape

F = TypeVar("F", bound=Callable[..., Any])
Option = Callable[[Any], Any]

_log = logging.getLogger(__name__)


def instance_options(*, lead_cores_required: bool) -> Sequence[Option]:
    """Return the argument and options that define an instance, except for its burst nodes."""
    return (
        click.argument("directory", type=click.Path(path_type=Path, file_okay=False)),
        click.option(
            "--address", help="Address of the first lead host for burst nodes. Default: its name."
        ),
        click.option("--port", type=int, default=elastic_instances.DEFAULT_PORT, show_default=True),
        click.option("--network-device", default="", help="Network device the lead listens on."),
        click.option(
            "--lead-hosts", metavar="HOSTLIST", help="Hosts up from the start. Default: this host."
        ),
        click.option(
            "--lead-cores",
            type=click.IntRange(min=1),
            required=lead_cores_required,
            help="Cores of a lead host.",
        ),
        click.option(
            "--lead-gpus", type=click.IntRange(min=0), default=0, help="GPUs of a lead host."
        ),
        click.option("--queue", default="", help="Put the burst nodes into a queue of this name."),
        click.option(
            "--default-queue", default="batch", show_default=True, help="Queue of the lead hosts."
        ),
        click.option("--curve-cert", type=click.Path(path_type=Path), help="Use this certificate."),
        click.option(
            "--flux-root", type=click.Path(path_type=Path), help="Prefix of Flux; else from PATH."
        ),
        config_file_option(),
        click.option("--force", is_flag=True, help="Replace an existing elastic instance."),
    )


def config_file_option() -> Option:
    """Return the option for additional configuration by an administrator."""
    return click.option(
        "--config-file",
        "config_files",
        type=click.Path(path_type=Path),
        multiple=True,
        help="Additional Flux configuration (TOML); repeatable.",
    )


def with_options(*options: Option) -> Callable[[F], F]:
    """Return a decorator that adds these options to a command, in this order."""

    def decorated(function: F) -> F:
        for option in reversed(options):
            function = option(function)
        return function

    return decorated


def refuse(problems: Iterable[tuple[str, str]], options: Mapping[str, str]) -> None:
    """Refuse now whatever the plugin would refuse when it loads.

    Args:
        problems: Findings of its checks on the parameters to be written: field and reason.
        options: The option that sets each field, such as ``--image``. Problems of other
            fields are ignored here.

    Raises:
        RequestError: names all invalid options.
    """
    wrong = [f"{options[field]}: {why}" for field, why in problems if field in options]
    if wrong:
        raise RequestError("; ".join(wrong))


def counts_of(option: str, texts: Sequence[str], example: str) -> dict[str, int]:
    """Return the count for each name, from an option's values ``NAME=COUNT``.

    Raises:
        RequestError: if a value is malformed or repeated, or a count is out of range.
    """
    counts: dict[str, int] = {}
    for text in texts:
        name, _, count = text.partition("=")
        if not name or not (count.isascii() and count.isdecimal()) or not count.strip("0"):
            raise RequestError(f"{option} {text}: expected NAME=COUNT, such as {example}")
        if name in counts:
            raise RequestError(f"{option} {name} is given twice")
        check_nodes(option, count)
        counts[name] = int(count)
    return counts


def check_nodes(option: str, count: int | str) -> None:
    """Check a count of burst nodes before a name is made for each.

    Raises:
        RequestError: if the count is too large, or is a number of too many digits to read.
    """
    most = elastic_instances.MAX_NODES
    if len(str(count)) > len(str(most)) or int(count) > most:
        raise RequestError(f"{option}: {count} burst nodes are too many; the maximum is {most}")


def elastic_of(
    given: Mapping[str, Any],
    hosts: Sequence[str],
    cores: int,
    gpus: int = 0,
    shapes: Sequence[Shape] = (),
) -> Elastic:
    """Return the elastic instance for these options, with these burst nodes.

    Raises:
        RequestError: if a hostlist is malformed or empty.
        FluxUnavailableError: if Flux is not found.
    """
    leads = parse_hostlist(given["lead_hosts"] or elastic_instances.this_host())
    if not leads:
        raise RequestError(f"--lead-hosts: {given['lead_hosts']!r} names no host")
    return Elastic(
        lead_hosts=leads,
        burst_hosts=tuple(hosts),
        cores=cores,
        gpus=gpus,
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


def write(
    elastic: Elastic,
    directory: Path,
    given: Mapping[str, Any],
    plugin: str,
    parameters: Mapping[str, object],
) -> Sequence[str]:
    """Write an elastic instance's directory, with a configuration of fluxburst and a start script.

    Args:
        elastic: The instance to write.
        directory: Where to write it.
        given: The options of :func:`instance_options`.
        plugin: The plugin that grows the instance.
        parameters: The plugin's parameters; None values are left out.

    Returns:
        A summary for the user.

    Raises:
        RequestError: as :func:`fluxburst.provider.elastic_directory.write` does.
    """
    written = {"config_dir": str(directory.absolute()), **parameters}
    lines = [
        f"# For fluxburst in this instance; 'fluxburst params {plugin}' lists all parameters.",
        f"[plugins.{plugin}]",
        *(
            f"{name} = {json.dumps(value, ensure_ascii=False)}"
            for name, value in written.items()
            if value is not None
        ),
    ]
    notes = elastic_directory.write(
        elastic,
        directory,
        curve_cert=given["curve_cert"],
        config_files=given["config_files"],
        files={
            "fluxburst.toml": "\n".join(lines) + "\n",
            "start": start_script(elastic, directory),
        },
        overwrite=given["force"],
    )
    problem = elastic_directory.why_unreachable(elastic.address)
    if problem:
        _log.warning(
            "burst nodes may not reach the lead: %s; pass an address they can reach with "
            "--address, or set lead_host",
            problem,
        )
    return notes


def start_script(elastic: Elastic, directory: Path) -> str:
    """Return a script that starts a lead broker; Flux starts with named queues stopped."""
    absolute = directory.absolute()
    command = elastic_instances.lead_command(elastic, absolute, "@HOST@")
    broker = shlex.join(command).replace("@HOST@", '"$host"')
    flux = shlex.quote(elastic.flux)
    host = shlex.quote(elastic.lead_hosts[0])
    if len(elastic.lead_hosts) > 1:
        host = '"${SLURMD_NODENAME:-$(hostname)}"'
    first = f'{flux} queue start --all --quiet && exec "$@"'
    config = shlex.quote(str(absolute / "config"))
    return (
        "#!/bin/sh\n# Starts a lead broker of this elastic instance, with the given command.\n"
        f"host={host}\n"
        '[ $# -gt 0 ] || set -- "${SHELL:-/bin/sh}"\n'
        f'set -- sh -c {shlex.quote(first)} sh "$@"\n'
        "# If guests are allowed, they reach the broker through its run directory.\n"
        f"guests=$({flux} config get --config-path={config} --default=false "
        "access.allow-guest-user)\n"
        'if [ "$guests" = true ]; then\n'
        '    rundir=$(mktemp -d "${TMPDIR:-/tmp}/flux-XXXXXX") && chmod 0755 "$rundir"\n'
        '    set -- "-Srundir=$rundir" -Srundir-cleanup=1 "$@"\n'
        "fi\n"
        f'exec {broker} "$@"\n'
    )


def say(directory: Path, text: str, notes: Sequence[str] = ()) -> None:
    """Print a summary of what was written, and the next commands."""
    start = shlex.quote(str(directory / "start"))
    console().print(
        f"{directory}: {text}\n"
        f"{''.join(f'{note}.{chr(10)}' for note in notes)}"
        f"Start it:     {start if start.startswith('/') else f'./{start}'}\n"
        f"Burst in it:  fluxburst --config {shlex.quote(f'{directory}/fluxburst.toml')} run",
        markup=False,
        soft_wrap=True,
    )
