"""The capacity around: the enclosing Slurm or Flux allocation, or this machine."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from fluxburst.errors import RequestError
from fluxburst.formats import flux_configuration
from fluxburst.formats.hostlist import parse_hostlist
from fluxburst.formats.process import CommandError, run
from fluxburst.provider.elastic import this_host
from fluxburst_local.brokers import clean_environment
from fluxburst_local.cores import cores_here, cores_of_slurm_node
from fluxburst_local.parameters import LauncherName

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ALLOCATION_VARIABLES = ("SLURM_JOB_NODELIST", "SLURM_JOB_HOSTLIST", "SLURM_NODELIST")
"""Variables that list the hosts of the enclosing Slurm job."""

LOOPBACK = "127.0.0.1"
ENCLOSURE = Path("config") / flux_configuration.ENCLOSURE


@dataclass(frozen=True)
class Surroundings:
    """The place of a new elastic instance.

    Attributes:
        launcher: The launcher that reaches other nodes from here.
        lead: This host.
        address: Its address for other hosts.
        others: The other hosts of the allocation, if each has its own name.
        room: How many other nodes there are; None if unknown.
        cores: Cores of a node, not hardware threads.
    """

    launcher: LauncherName
    lead: str
    address: str
    others: tuple[str, ...]
    room: int | None
    cores: int


def surroundings(flux: str, environ: Mapping[str, str] | None = None) -> Surroundings:
    """Determine the enclosure of this process: a Flux instance, a Slurm job, or none.

    Raises:
        RequestError: if the enclosing instance or Slurm does not answer.
    """
    environ = os.environ if environ is None else environ
    if environ.get("FLUX_URI"):
        return _in_flux(flux, environ["FLUX_URI"])
    if environ.get("SLURM_JOB_ID"):
        return _in_slurm(environ)
    return Surroundings("process", this_host(), LOOPBACK, (), None, cores_here())


def allocated_hosts(environ: Mapping[str, str]) -> tuple[str, ...]:
    """Return the hosts of the enclosing Slurm job; none without a job."""
    return parse_hostlist(next(filter(None, map(environ.get, ALLOCATION_VARIABLES)), ""))


@dataclass(frozen=True)
class Enclosure:
    """The enclosure of an elastic instance; brokers hide it from the processes they run.

    Attributes:
        flux_uri: The enclosing Flux instance; empty for none.
        slurm_job: The id of the enclosing Slurm job; empty for none.
        slurm_conf: Slurm's configuration file; empty for the usual one.
    """

    flux_uri: str = ""
    slurm_job: str = ""
    slurm_conf: str = ""


def note_enclosure(directory: Path, environ: Mapping[str, str] | None = None) -> None:
    """Record the lead's enclosure in an elastic instance's configuration, at its start.

    Raises:
        RequestError: if it is not writable.
    """
    environ = os.environ if environ is None else environ
    names = {"flux_uri": "FLUX_URI", "slurm_job": "SLURM_JOB_ID", "slurm_conf": "SLURM_CONF"}
    found = {name: environ[variable] for name, variable in names.items() if environ.get(variable)}
    lines = [f"{name} = {json.dumps(value)}\n" for name, value in found.items()]
    path = directory / ENCLOSURE
    try:
        new = path.with_suffix(".new")
        new.write_text("# Written by fluxburst local start.\n[fluxburst]\n" + "".join(lines))
        new.replace(path)
    except OSError as error:
        raise RequestError(f"cannot write {path}: {error.strerror}") from error


def enclosure(directory: Path) -> Enclosure:
    """Return the recorded enclosure of an elastic instance, as far as it is known.

    Raises:
        RequestError: if the record is unreadable.
    """
    path = directory / ENCLOSURE
    try:
        return Enclosure(**tomllib.loads(path.read_text())["fluxburst"])
    except FileNotFoundError:
        return Enclosure()
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RequestError(f"{path} is invalid: {error}") from error


def _in_flux(flux: str, uri: str) -> Surroundings:
    environment = {**clean_environment(), "FLUX_URI": uri}
    try:
        hosts = parse_hostlist(run([flux, "getattr", "hostlist"], environment=environment).strip())
        rank = int(run([flux, "getattr", "rank"], environment=environment))
        listed = ["resource", "list", "--no-header", "--states=all", "--format={nnodes} {ncores}"]
        nodes, cores = map(int, run([flux, *listed], environment=environment).split()[:2])
    except CommandError as error:
        problem = f"the enclosing Flux instance {uri} does not answer: {error}"
        raise RequestError(problem) from error
    lead = hosts[rank]
    others = (*hosts[:rank], *hosts[rank + 1 :])
    apart = len(set(hosts)) == len(hosts)
    together = len(set(hosts)) == 1
    return Surroundings(
        launcher="flux",
        lead=lead,
        address=LOOPBACK if together else lead,
        others=others if apart else (),
        room=len(others),
        cores=max(1, cores // max(1, nodes)),
    )


def _in_slurm(environ: Mapping[str, str]) -> Surroundings:
    lead = this_host()
    others = tuple(host for host in allocated_hosts(environ) if host != lead)
    cpus = environ.get("SLURM_CPUS_ON_NODE") or environ.get("SLURM_JOB_CPUS_PER_NODE") or "1"
    digits = cpus.split("(")[0].split(",")[0]
    node = _slurm_node(lead)
    return Surroundings(
        launcher="srun" if others else "slurm",
        lead=lead,
        address=node.get("NodeAddr", lead),
        others=others,
        room=len(others) if others else None,
        cores=cores_of_slurm_node(int(digits), node) if digits.isdecimal() else cores_here(),
    )


def _slurm_node(node: str) -> Mapping[str, str]:
    """Return Slurm's facts about a node: its address, ``NodeAddr``, and its resources."""
    try:
        said = run(["scontrol", "show", "node", node, "--oneliner"])
    except CommandError as error:
        problem = f"SLURM_JOB_ID is set, but Slurm does not report the address of node {node}"
        raise RequestError(f"{problem}: {error}") from error
    return dict(word.partition("=")[::2] for word in said.split())
