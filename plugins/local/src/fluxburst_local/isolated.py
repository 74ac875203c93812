"""Isolated bursts: brokers that make a Flux instance of their own, which runs one job.

All of a burst is in a directory of its own, which its hosts see under the same path: the job, the
certificate, what the brokers are configured by, and what the lead, on the first host, tells of the
job. What one host writes and others wait for is there from the start, and empty: on NFS a file that
was looked for and not found may seem to be missing for a minute after it was made (nfs(5)).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from fluxburst.commands import run
from fluxburst.elastic import encode_resources
from fluxburst.sets import format_hostlist
from fluxburst_local.boot_isolated import BOUND, ENDPOINT, LEAD, TEMPLATE
from fluxburst_local.run_job import JOB, OUTPUT, TOLD

CERTIFICATE, RESOURCES = "curve.cert", "R"


def write(
    directory: Path, flux: str, hosts: Sequence[str], cores: int, gpus: int, jobspec: str
) -> None:
    """Write the directory of a burst, for its owner alone; brokers may be started then.

    Args:
        directory: Where to write it.
        flux: The ``flux`` command.
        hosts: The hostnames of the brokers, the lead's first.
        cores: Cores of each.
        gpus: GPUs of each.
        jobspec: The job, as JSON for ``flux job submit``.

    Raises:
        CommandError: if Flux makes no certificate, or no R.
        OSError: if it cannot be written.
    """
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    certificate = directory / CERTIFICATE
    certificate.unlink(missing_ok=True)
    run([flux, "keygen", "--name=burst", str(certificate)])
    certificate.chmod(0o600)
    contents = {
        RESOURCES: encode_resources(flux, hosts, range(len(hosts)), cores, gpus),
        TEMPLATE: _configuration(directory, hosts),
        LEAD: hosts[0],
        ENDPOINT: "",
        TOLD: "",
        JOB: jobspec,  # it has the environment of whoever submitted it
    }
    for name, content in contents.items():
        (directory / name).touch(mode=0o600)
        (directory / name).write_text(content)


def _configuration(directory: Path, hosts: Sequence[str]) -> str:
    """Return the brokers' configuration, without the lead's port (flux-config-bootstrap(5))."""
    lead, *others = hosts
    tables = [
        f"[bootstrap]\ncurve_cert = {json.dumps(str(directory / CERTIFICATE))}",
        f'[[bootstrap.hosts]]\nhost = {json.dumps(lead)}\nbind = "@{BOUND}@"\n'
        f'connect = "@{ENDPOINT}@"',
    ]
    if others:
        tables.append(f"[[bootstrap.hosts]]\nhost = {json.dumps(format_hostlist(others))}")
    resources = json.dumps(str(directory / RESOURCES))
    tables.append(f"[resource]\npath = {resources}\nnoverify = true")
    tables.append('[tbon]\ntcp_user_timeout = "2m"')
    return "\n\n".join(tables) + "\n"


def told(directory: Path) -> Mapping[str, str]:
    """Return what the lead told, as :func:`fluxburst.isolation.as_told` reads it.

    Raises:
        OSError: if it cannot be read.
    """
    lines = (directory / TOLD).read_text().splitlines(keepends=True)
    whole = [line.rstrip("\n").partition(" ") for line in lines if line.endswith("\n")]
    return {key: value for key, _, value in whole}


def output_of(directory: Path, limit: int) -> bytes:
    """Return what the job wrote, ``limit`` bytes of it at most.

    Raises:
        OSError: if it cannot be read.
    """
    with (directory / OUTPUT).open("rb") as file:
        return file.read(limit)
