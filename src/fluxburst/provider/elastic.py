"""An elastic instance: a Flux instance whose burst nodes are declared before they exist.

The bootstrap configuration (flux-config-bootstrap(5)) fixes the size of a Flux instance, so
nodes that may join later must be in it, and in its resource set R (RFC 20), from the start; they
are down until a broker with their hostname connects. Every plugin whose nodes join the instance
needs such a configuration; :mod:`fluxburst.provider.elastic_directory` writes it.
"""

from __future__ import annotations

import dataclasses
import hashlib
import ipaddress
import os
import pwd
import re
import shutil
import socket
import sys
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fluxburst.config.validators import check_port
from fluxburst.errors import ConfigError, FluxUnavailableError, RequestError
from fluxburst.formats.flux_configuration import NOTICE, toml_text
from fluxburst.formats.hostlist import format_hostlist, format_idset, parse_hostlist
from fluxburst.formats.process import CommandError, run

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

BURST_PROPERTY = "burst"
"""The property (RFC 20) of all burst nodes in the instance's R."""

RECORD = "elastic.toml"
DEFAULT_PORT = 8050
MAX_NODES, MAX_CORES = 65_536, 4_096
"""Larger numbers are refused as mistakes."""

_HOSTNAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?", re.ASCII)
_PUBLIC_KEY = re.compile(rb'^\s*public-key\s*=\s*"(.*)"\s*$', re.MULTILINE)
_NUMBERS = frozenset({"cores", "gpus", "lead_cores", "lead_gpus", "port"})
_DEVICE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:@-]*", re.ASCII)
_PROPERTY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*", re.ASCII)
_QUEUE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*", re.ASCII)


@dataclass(frozen=True)
class Shape:
    """Burst nodes of one shape.

    Attributes:
        name: Their property (RFC 20) in the instance's R; empty for none.
        hosts: Their hostnames.
        cores: Cores of each.
        gpus: GPUs of each.
    """

    name: str
    hosts: tuple[str, ...]
    cores: int
    gpus: int = 0


@dataclass(frozen=True)
class Elastic:
    """Description of an elastic instance.

    Attributes:
        lead_hosts: Hosts that are up from the start; the first is rank 0.
        burst_hosts: Hostnames of the burst nodes' brokers.
        cores: Cores of each burst node without a shape.
        gpus: GPUs of each burst node without a shape.
        lead_cores: Cores of each lead host; None for the same as a burst node.
        lead_gpus: GPUs of each lead host.
        address: Address of rank 0 for other brokers: a hostname or an IP address.
        port: TCP port of rank 0.
        network_device: Network device that rank 0 listens on; empty for the address if it is an
            IP address of the loopback network, else for all.
        queue: Queue of the burst nodes; empty for an instance without queues.
        default_queue: Queue of the lead hosts, and of jobs without a queue, if there are queues.
        flux: The ``flux`` command.
        user: Name of its owner.
        shapes: Burst nodes with other cores or GPUs, or with their own property.
    """

    lead_hosts: tuple[str, ...]
    burst_hosts: tuple[str, ...]
    cores: int
    gpus: int = 0
    lead_cores: int | None = None
    lead_gpus: int = 0
    address: str = "127.0.0.1"
    port: int = DEFAULT_PORT
    network_device: str = ""
    queue: str = ""
    default_queue: str = "batch"
    flux: str = "flux"
    user: str = dataclasses.field(default_factory=lambda: pwd.getpwuid(os.getuid()).pw_name)
    shapes: tuple[Shape, ...] = ()

    @property
    def hosts(self) -> tuple[str, ...]:
        """All hosts, by rank."""
        return (*self.lead_hosts, *self.burst_hosts)

    @property
    def all_shapes(self) -> tuple[Shape, ...]:
        """The burst nodes by shape: those without one first, then :attr:`shapes`."""
        shaped = {host for shape in self.shapes for host in shape.hosts}
        rest = tuple(host for host in self.burst_hosts if host not in shaped)
        plain = [Shape("", rest, self.cores, self.gpus)] if rest else []
        return (*plain, *self.shapes)

    def shape_of(self, hostname: str) -> Shape:
        """Return the shape of a burst node.

        Raises:
            KeyError: if it is not declared.
        """
        for shape in self.all_shapes:
            if hostname in shape.hosts:
                return shape
        raise KeyError(hostname)


def check(elastic: Elastic) -> None:
    """Check everything that needs no command.

    Raises:
        RequestError: for the first problem.
    """
    _check_hosts(elastic)
    _check_shapes(elastic)
    check_port(elastic.port)
    check_address(elastic.address)
    if elastic.network_device and not _DEVICE.fullmatch(elastic.network_device):
        raise RequestError(f"{elastic.network_device!r} is not a network device")
    for queue in (elastic.queue, elastic.default_queue):
        if (queue or elastic.queue) and not _QUEUE.fullmatch(queue):
            raise RequestError(f"{queue!r} is not a valid queue name")
    if elastic.queue == elastic.default_queue:
        raise RequestError(f"the burst nodes' queue and the default one are both {elastic.queue!r}")


def check_address(address: str | None) -> None:
    """Check the form of an address, if set.

    Raises:
        RequestError: if it is neither a hostname (RFC 1123) nor an IPv4 address.
    """
    if address is None:
        return
    labels = address.split(".")
    if not _HOSTNAME.fullmatch(address) or not all(1 <= len(one) <= 63 for one in labels):
        raise RequestError(f"{address!r} is neither a hostname nor an IPv4 address")


def _check_hosts(elastic: Elastic) -> None:
    if not elastic.lead_hosts or not elastic.burst_hosts:
        raise RequestError("an elastic instance needs at least one lead host and one burst node")
    if len(elastic.hosts) > MAX_NODES:
        raise RequestError(f"an elastic instance can have at most {MAX_NODES} hosts")
    for host in elastic.hosts:
        if not _HOSTNAME.fullmatch(host) or len(host) > 64:
            raise RequestError(f"{host!r} is not a hostname")
    twice = sorted(host for host, count in Counter(elastic.hosts).items() if count > 1)
    if twice:
        raise RequestError(
            f"{format_hostlist(twice)} is named twice: each broker needs its own hostname, and a "
            "lead host cannot be a burst node"
        )


def _check_shapes(elastic: Elastic) -> None:
    cores = [elastic.cores, elastic.lead_cores or 1, *(shape.cores for shape in elastic.shapes)]
    gpus = [elastic.gpus, elastic.lead_gpus, *(shape.gpus for shape in elastic.shapes)]
    if min(cores) < 1 or min(gpus) < 0:
        raise RequestError("a node needs at least 1 core, and 0 GPUs or more")
    if max(*cores, *gpus) > MAX_CORES:
        raise RequestError(f"a node can have at most {MAX_CORES} cores, and as many GPUs")
    shaped = Counter(host for shape in elastic.shapes for host in shape.hosts)
    declared = set(elastic.burst_hosts)
    for shape in elastic.shapes:
        strange = [host for host in shape.hosts if host not in declared]
        if strange or not shape.hosts:
            hosts = format_hostlist(strange) if strange else "none"
            raise RequestError(f"the shape {shape.name!r} names undeclared hosts: {hosts}")
        if not _PROPERTY.fullmatch(shape.name) or shape.name in ("lead", BURST_PROPERTY):
            raise RequestError(f"{shape.name!r} is not a valid name for a shape of burst nodes")
    twice = sorted(host for host, count in shaped.items() if count > 1)
    if twice:
        raise RequestError(f"{format_hostlist(twice)} has two shapes")


def _listened_address(elastic: Elastic) -> str:
    """Return the listening address of rank 0 without a device; ZeroMQ accepts no names there."""
    if not is_loopback(elastic.address):
        return "*"
    return "127.0.0.1" if elastic.address == "localhost" else elastic.address


def system_toml(elastic: Elastic, directory: Path) -> str:
    """Return the configuration of the instance's brokers, for files in ``directory``."""
    lead, *others = elastic.lead_hosts
    endpoint = f"tcp://{elastic.address}:{elastic.port}"
    bound = elastic.network_device or _listened_address(elastic)
    rest = format_hostlist([*others, *elastic.burst_hosts])
    tables = [
        f"{NOTICE}"
        f"# An elastic Flux instance: {format_hostlist(elastic.lead_hosts)}, and burst nodes\n"
        f"# {format_hostlist(elastic.burst_hosts)}, which are down until their brokers join.\n"
        "# See flux-config-bootstrap(5).",
        f"[bootstrap]\ncurve_cert = {toml_text(directory / 'curve.cert')}",
        f"[[bootstrap.hosts]]\nhost = {toml_text(lead)}\nbind = {toml_text(f'tcp://{bound}:{elastic.port}')}\n"
        f"connect = {toml_text(endpoint)}",
        f"[[bootstrap.hosts]]\nhost = {toml_text(rest)}",
        "# Notice a node that was switched off within minutes; see flux-config-tbon(5).\n"
        '[tbon]\ntcp_user_timeout = "2m"',
        "# Burst nodes are what they were declared to be; see flux-config-resource(5).\n"
        f"[resource]\npath = {toml_text(directory / 'R')}\nnoverify = true",
    ]
    if elastic.queue:
        tables += [
            "# Only jobs of its own queue reach a burst node; see flux-config-queues(5).\n"
            f'[queues.{toml_text(elastic.default_queue)}]\nrequires = ["lead"]',
            f"[queues.{toml_text(elastic.queue)}]\nrequires = [{toml_text(BURST_PROPERTY)}]",
            f"[policy.jobspec.defaults.system]\nqueue = {toml_text(elastic.default_queue)}",
        ]
    return "\n\n".join(tables) + "\n"


def load(directory: Path) -> Elastic:
    """Read the description of an elastic instance from its directory.

    Raises:
        RequestError: if it is not such a directory, or its record is invalid.
    """
    path = directory / RECORD
    try:
        record: dict[str, Any] = tomllib.loads(path.read_text())
        shapes = record.pop("shapes", [])
        for name, value in record.items():
            if type(value) is not (int if name in _NUMBERS else str):
                raise TypeError(f"{name} = {value!r}")
        record["lead_hosts"] = parse_hostlist(record["lead_hosts"])
        record["burst_hosts"] = parse_hostlist(record["burst_hosts"])
        elastic = Elastic(**record, shapes=tuple(_shape(**shape) for shape in shapes))
        check(elastic)
    except OSError as error:
        raise RequestError(
            f"{directory} is not an elastic instance's directory ({path.name}: {error.strerror}); "
            "create one with fluxburst local init"
        ) from error
    except (ValueError, KeyError, TypeError, AttributeError, RequestError) as error:
        raise ConfigError(str(path), f"is invalid: {error}") from error
    return elastic


def _shape(name: str, hosts: str, cores: int, gpus: int = 0) -> Shape:
    if type(cores) is not int or type(gpus) is not int or not isinstance(name, str):
        raise TypeError(f"shape {name!r} has {cores!r} cores and {gpus!r} GPUs")
    return Shape(name, parse_hostlist(hosts), cores, gpus)


def lead_command(elastic: Elastic, directory: Path, hostname: str) -> list[str]:
    """Return the command of a lead broker, to be followed by the command it runs.

    Its log goes to ``log/HOST.log``; only critical messages go to standard error.
    """
    return [
        *broker_command(elastic.flux, directory / "config", hostname),
        f"-Sbroker.quorum={len(elastic.lead_hosts)}",
        f"-Slog-filename={directory / 'log' / f'{hostname}.log'}",
        "-Slog-stderr-level=2",
    ]


def broker_command(flux: str, config: Path, hostname: str) -> list[str]:
    """Return the command of a broker with this configuration, under one of its hostnames."""
    return [
        flux,
        "broker",
        f"--config-path={config}",
        f"-Shostname={hostname}",
        "-Sbroker.boot-method=config",
    ]


def check_certificate(path: Path) -> None:
    """Check that a certificate exists and only its owner can read it.

    Raises:
        RequestError: if not.
    """
    try:
        mode, content = path.stat().st_mode, path.read_bytes()
    except OSError as error:
        raise RequestError(f"cannot read the certificate {path}: {error.strerror}") from error
    if b"secret-key" not in content:
        raise RequestError(f"{path} is not a certificate from flux keygen")
    if mode & 0o077:
        raise RequestError(
            f"others can read the certificate {path} (mode {mode & 0o777:04o}), and could "
            f"join the instance: chmod 600 {path}, or create a new one"
        )


def instance_tag(certificate: bytes) -> str:
    """Return an elastic instance's identity, which survives restarts.

    It is a hash of its certificate's public key, 16 hexadecimal digits: an instance's name
    changes with every start.
    """
    match = _PUBLIC_KEY.search(certificate)
    return hashlib.sha256(match[1] if match else certificate).hexdigest()[:16]


def find_flux(flux_root: Path | None = None) -> str:
    """Return the ``flux`` command under ``flux_root``, or on PATH.

    Raises:
        FluxUnavailableError: if it does not exist.
    """
    if flux_root is not None:
        command = flux_root / "bin" / "flux"
        if not os.access(command, os.X_OK):
            raise FluxUnavailableError(f"{command} does not exist: the Flux root must be a prefix")
        return str(command)
    found = shutil.which("flux")
    if found is None:
        raise FluxUnavailableError("there is no flux on PATH; install flux-core, or set its root")
    return found


def flux_version(flux: str) -> str:
    """Return the version of a ``flux`` command, such as ``0.88.0``.

    Raises:
        FluxUnavailableError: if it is unknown.
    """
    try:
        said = run([flux, "version"], environment=without_flux(os.environ))
    except CommandError as error:
        raise FluxUnavailableError(str(error)) from error
    match = re.search(r"libflux-core:\s*(\S+)", said)
    if match is None:
        raise FluxUnavailableError(f"{flux} version does not report the version of libflux-core")
    return match[1]


def encode_resources(
    flux: str,
    hosts: Sequence[str],
    ranks: Collection[int],
    cores: int,
    gpus: int = 0,
    properties: Sequence[str] = (),
) -> str:
    """Have Flux write the R (RFC 20) of equal nodes.

    Args:
        flux: The ``flux`` command.
        hosts: Their hostnames.
        ranks: Their ranks, in the same order.
        cores: Cores of each.
        gpus: GPUs of each.
        properties: Properties of each.

    Raises:
        CommandError: if Flux rejects it.
    """
    command = [flux, "R", "encode", f"--hosts={format_hostlist(hosts)}"]
    command += [f"--ranks={format_idset(ranks)}", f"--cores={format_idset(range(cores))}"]
    command += [f"--gpus={format_idset(range(gpus))}"] if gpus else []
    return run([*command, *(f"--property={name}:{format_idset(ranks)}" for name in properties)])


def record(elastic: Elastic) -> str:
    """Return the file that :func:`load` reads, of the name :data:`RECORD`."""
    lines = ["# Description of this elastic instance, for fluxburst; Flux reads config/ and R."]
    fields = {f.name: getattr(elastic, f.name) for f in dataclasses.fields(elastic)}
    shapes: tuple[Shape, ...] = fields.pop("shapes")
    lines += _assignments(fields)
    for shape in shapes:
        lines += ["", "[[shapes]]", *_assignments(vars(shape))]
    return "\n".join(lines) + "\n"


def _assignments(values: Mapping[str, Any]) -> list[str]:
    """Return lines of TOML; a tuple holds hosts."""
    lines = []
    for name, value in values.items():
        if isinstance(value, tuple):
            value = format_hostlist(value)
        if value is not None:
            lines.append(f"{name} = {toml_text(value) if isinstance(value, str) else value}")
    return lines


def without_flux(environ: Mapping[str, str]) -> dict[str, str]:
    """Return an environment without variables of any instance, job or process manager."""
    prefixes = ("FLUX_", "PMI_", "PMI2_", "PMIX_", "FLUXBURST_")
    return {key: value for key, value in environ.items() if not key.startswith(prefixes)}


def this_host() -> str:
    """Return this host's name; inside a Slurm job, Slurm's name for it."""
    return os.environ.get("SLURMD_NODENAME") or socket.gethostname()


def is_loopback(address: str) -> bool:
    """Whether an address belongs to the loopback network, or is ``localhost``."""
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return address == "localhost"
