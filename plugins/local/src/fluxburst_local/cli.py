"""``fluxburst local``: create an elastic instance, and start it."""

from __future__ import annotations

import json
import os
import pwd
import shlex
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import click
from click.core import ParameterSource

from fluxburst.cli.toolkit import (
    Command,
    binding_version,
    check_versions,
    config_file_option,
    console,
    settings_of,
)
from fluxburst.errors import FluxUnavailableError, RequestError
from fluxburst.formats import flux_configuration
from fluxburst.formats.hostlist import format_hostlist, parse_hostlist
from fluxburst.formats.units import counted
from fluxburst.provider import elastic as elastic_instances
from fluxburst.provider import elastic_directory
from fluxburst.provider.elastic import Elastic
from fluxburst_local import adding
from fluxburst_local.allocations import Surroundings, note_enclosure, surroundings
from fluxburst_local.parameters import ON_THIS_HOST, LauncherName
from fluxburst_local.settings import with_settings_of

COUNT = click.IntRange(1, elastic_instances.MAX_NODES)
DIRECTORY = click.Path(path_type=Path, file_okay=False)
RUNDIR = "-Srundir="


@click.group()
def local() -> None:
    """Create and start an instance that can grow by nodes of this site."""


@local.command(cls=Command)
@click.argument("directory", type=DIRECTORY)
@click.option("--burst-nodes", type=COUNT, help="How many burst nodes to declare.")
@click.option(
    "--burst-hosts",
    metavar="HOSTLIST",
    help="Burst nodes to declare. Default: the other hosts of the enclosing Slurm or Flux "
    "allocation.",
)
@click.option("--lead-hosts", metavar="HOSTLIST", help="Hosts up from the start. Default: this.")
@click.option("--address", help="Address of the first lead host for brokers.")
@click.option("--port", type=int, default=elastic_instances.DEFAULT_PORT, show_default=True)
@click.option("--network-device", default="", help="Network device the lead listens on.")
@click.option("--cores", type=click.IntRange(min=1), help="Cores of a burst node; else as here.")
@click.option("--gpus", type=click.IntRange(min=0), default=0, help="GPUs of a burst node.")
@click.option("--lead-cores", type=click.IntRange(min=1), help="Cores of a lead host.")
@click.option("--lead-gpus", type=click.IntRange(min=0), default=0, help="GPUs of a lead host.")
@click.option("--queue", default="", help="Put the burst nodes into a queue of this name.")
@click.option("--default-queue", default="batch", show_default=True, help="Queue of the others.")
@click.option("--launcher", type=click.Choice(get_args(LauncherName)), help="Default: detected.")
@click.option("--curve-cert", type=click.Path(path_type=Path), help="Use this certificate.")
@click.option("--flux-root", type=click.Path(path_type=Path), help="Prefix of Flux; else PATH.")
@click.option("--log-level", type=click.IntRange(0, 7), default=7, help="For burst brokers.")
@click.option("--user", help="Owner of the instance. Default: this user.")
@config_file_option()
@click.option("--add", is_flag=True, help="Add burst nodes to an existing elastic instance.")
@click.option("--force", is_flag=True, help="Replace an existing elastic instance.")
@click.pass_context
def init(context: click.Context, /, directory: Path, **options: Any) -> None:
    """Write an elastic instance to DIRECTORY: one that starts small and can grow.

    Declares its burst nodes, which stay down until fluxburst provisions them. Checks the result
    with Flux itself.
    """
    settings = settings_of(context)
    if options["add"]:
        given = {
            parameter.name: parameter.opts[-1]
            for parameter in context.command.params
            if context.get_parameter_source(parameter.name or "") is ParameterSource.COMMANDLINE
        }
        said = adding.add_burst_nodes(directory, options, given)
        if not settings.quiet:
            console().print(f"{directory}: {said}", markup=False, soft_wrap=True)
        return
    elastic_directory.check_replaceable(directory, overwrite=options["force"])
    flux = elastic_instances.find_flux(options["flux_root"])
    _check_flux(flux)
    around = surroundings(flux)
    elastic = _elastic(flux, around, options)
    launcher = options["launcher"] or around.launcher
    notes = elastic_directory.write(
        elastic,
        directory,
        curve_cert=options["curve_cert"],
        config_files=options["config_files"],
        files={
            "fluxburst.toml": with_settings_of(
                directory / "fluxburst.toml",
                _fluxburst_toml(directory, launcher, options["log_level"]),
            ),
            "start": _start_script(directory),
        },
        overwrite=options["force"],
    )
    if not settings.quiet:
        _say(elastic, directory, launcher, notes)


@local.command(cls=Command, context_settings={"ignore_unknown_options": True})
@click.argument("directory", type=DIRECTORY)
@click.argument("command", nargs=-1, type=click.UNPROCESSED, metavar="[-- COMMAND…]")
@click.option(
    "-o",
    "--broker-opts",
    multiple=True,
    metavar="OPTS",
    help="Comma-separated options for the broker, as in flux start; repeatable.",
)
@click.pass_context
def start(
    context: click.Context, directory: Path, command: tuple[str, ...], broker_opts: tuple[str, ...]
) -> None:
    """Start the lead broker of the elastic instance in DIRECTORY, on this host.

    It runs COMMAND, or a shell; when that ends, so does the whole instance.
    """
    directory = directory.absolute()
    elastic = elastic_instances.load(directory)
    elastic_instances.check_certificate(directory / "curve.cert")
    if pwd.getpwuid(os.getuid()).pw_name != elastic.user:
        raise RequestError(
            f"the instance in {directory} belongs to {elastic.user}: start it as that user"
        )
    hostname = _own_name(elastic)
    if hostname == elastic.lead_hosts[0]:
        elastic_directory.check_port_free(elastic)
        note_enclosure(directory)
    program = command or (os.environ.get("SHELL") or "/bin/sh",)
    first = [sys.executable, "-m", "fluxburst_local.initial_program", elastic.flux]
    options = [option for some in broker_opts for option in some.split(",") if option]
    broker = [*elastic_instances.lead_command(elastic, directory, hostname), *options]
    if flux_configuration.allows_guests(flux_configuration.read(directory / "config")):
        broker += _run_directory(options)
    (directory / "log").mkdir(exist_ok=True, mode=0o700)
    try:
        os.execv(broker[0], [*broker, *first, *program])  # noqa: S606 - a list, and no shell
    except OSError as error:
        raise FluxUnavailableError(f"{broker[0]} cannot be run: {error.strerror}") from error


def _run_directory(options: Sequence[str]) -> list[str]:
    """Create a run directory that guests can enter, and return the options that name it."""
    named = [option.removeprefix(RUNDIR) for option in options if option.startswith(RUNDIR)]
    if named:
        Path(named[-1]).mkdir(exist_ok=True)
        Path(named[-1]).chmod(0o755)
        return []
    made = tempfile.mkdtemp(prefix="flux-")
    Path(made).chmod(0o755)
    return [f"{RUNDIR}{made}", "-Srundir-cleanup=1"]


def _check_flux(flux: str) -> None:
    """Check that Flux is new enough and matches the Python binding."""
    version = elastic_instances.flux_version(flux)
    check_versions(version, binding_version() or version)


def _elastic(flux: str, around: Surroundings, options: dict[str, Any]) -> Elastic:
    leads = parse_hostlist(options["lead_hosts"] or around.lead)
    user = options["user"] or pwd.getpwuid(os.getuid()).pw_name
    _check_user(user)
    cores = options["cores"] or around.cores
    address = options["address"] or (around.address if leads[:1] == (around.lead,) else leads[0])
    return Elastic(
        lead_hosts=leads,
        burst_hosts=_burst_hosts(around, leads, options),
        cores=cores,
        gpus=options["gpus"],
        lead_cores=options["lead_cores"] or (around.cores if around.lead in leads else cores),
        lead_gpus=options["lead_gpus"],
        address=address,
        port=options["port"],
        network_device=options["network_device"],
        queue=options["queue"],
        default_queue=options["default_queue"],
        flux=flux,
        user=user,
    )


def _burst_hosts(
    around: Surroundings, leads: tuple[str, ...], options: dict[str, Any]
) -> tuple[str, ...]:
    """Return the burst nodes' hostnames: named ones, those of the allocation, or generated ones."""
    count = options["burst_nodes"]
    if options["burst_hosts"]:
        hosts = parse_hostlist(options["burst_hosts"])
        if count is not None and count > len(hosts):
            problem = f"{count} burst nodes requested, but {counted(len(hosts), 'host')} named"
            raise RequestError(problem)
        return hosts[:count]
    if options["launcher"] in ON_THIS_HOST:  # in any allocation
        around = replace(around, others=(), room=None)
    others = tuple(host for host in around.others if host not in leads)
    if around.room is not None and count is not None and count > (len(others) or around.room):
        raise RequestError(
            f"{count} burst nodes requested, but the allocation has "
            f"{counted(len(others) or around.room, 'node')} besides the lead; "
            "--launcher process starts them on this machine"
        )
    count = count if count is not None else len(others) or around.room
    if not count:
        raise RequestError(
            "which burst nodes? There is no enclosing Slurm or Flux allocation of several "
            "nodes: name them with --burst-hosts, or set their number with --burst-nodes"
        )
    return others[:count] or tuple(f"burst{number}" for number in range(count))


def _check_user(user: str) -> None:
    try:
        uid = pwd.getpwnam(user).pw_uid
    except KeyError as error:
        raise RequestError(f"there is no user {user!r}") from error
    if os.getuid() not in (0, uid):
        raise RequestError(f"only root can create an instance for another user ({user})")


def _own_name(elastic: Elastic) -> str:
    """Return the name of this host among the lead hosts."""
    if len(elastic.lead_hosts) == 1:
        return elastic.lead_hosts[0]
    for name in (elastic_instances.this_host(), elastic_instances.this_host().split(".")[0]):
        if name in elastic.lead_hosts:
            return name
    raise RequestError(
        f"this host, {elastic_instances.this_host()}, is not a lead host of the instance "
        f"({format_hostlist(elastic.lead_hosts)})"
    )


def _fluxburst_toml(directory: Path, launcher: str, log_level: int) -> str:
    return (
        "# For fluxburst in this instance; 'fluxburst params local' lists all parameters.\n"
        "# init --force overwrites the table [plugins.local]; other tables stay.\n"
        "[plugins.local]\n"
        f"config_dir = {json.dumps(str(directory.absolute()), ensure_ascii=False)}\n"
        f"launcher = {json.dumps(launcher)}\n"
        f"log_level = {log_level}\n"
    )


def _start_script(directory: Path) -> str:
    command = [sys.executable, "-m", "fluxburst", "local", "start", str(directory.absolute()), "--"]
    return (
        "#!/bin/sh\n# Starts a lead broker of this elastic instance, with the given command.\n"
        f'exec {shlex.join(command)} "$@"\n'
    )


def _say(elastic: Elastic, directory: Path, launcher: str, notes: Sequence[str]) -> None:
    lead, burst = format_hostlist(elastic.lead_hosts), format_hostlist(elastic.burst_hosts)
    queue = f" in queue {elastic.queue}" if elastic.queue else ""
    console().print(
        f"{directory}: starts on {lead}, and can grow by "
        f"{counted(len(elastic.burst_hosts), 'node')} ({burst}) of "
        f"{counted(elastic.cores, 'core')}{queue}, by launcher {launcher}.\n"
        f"{''.join(f'{note}.{chr(10)}' for note in notes)}"
        f"Start it:     fluxburst local start {shlex.quote(str(directory))}\n"
        f"Burst in it:  fluxburst --config {shlex.quote(f'{directory}/fluxburst.toml')} run",
        markup=False,
        soft_wrap=True,
    )
