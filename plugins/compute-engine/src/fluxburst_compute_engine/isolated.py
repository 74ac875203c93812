"""Isolated bursts: machines that form their own Flux instance, which runs one job.

The first of them is its lead. It reports the job's progress by guest attributes, and writes the
job's output to its serial port.
"""

from __future__ import annotations

import hashlib
import importlib.resources
import json
import re
import tempfile
from pathlib import Path

from fluxburst import Burst, BurstState
from fluxburst.formats.hostlist import format_hostlist
from fluxburst.formats.process import run
from fluxburst.formats.units import format_duration
from fluxburst.provider.elastic import DEFAULT_PORT, find_flux
from fluxburst_compute_engine.machines import HOME

MARK = "fluxburst| "
"""Prefix of the lines of the job's output at the serial port."""

_LONGEST = 50


def hosts(name: str, count: int) -> list[str]:
    """Return the names of a burst's machines; the first is the lead."""
    stem = re.sub(r"[^a-z0-9]+", "-", name.lower(), flags=re.ASCII).strip("-")
    if stem != name or len(stem) > _LONGEST or not stem[:1].isalpha():
        digest = hashlib.sha256(name.encode(errors="surrogatepass")).hexdigest()[:12]
        stem = f"burst-{stem[: _LONGEST - 20].strip('-')}-{digest}"
    return [f"{stem}-{number}" for number in range(count)]


def certificate() -> bytes:
    """Return a new certificate, for one burst.

    Raises:
        FluxUnavailableError: if there is no local Flux to create it.
    """
    with tempfile.TemporaryDirectory(prefix="fluxburst-") as directory:
        path = Path(directory) / "curve.cert"
        run([find_flux(), "keygen", "--name=burst", str(path)])
        return path.read_bytes()


def config(names: list[str]) -> str:
    """Return the configuration of a burst's brokers (flux-config-bootstrap(5))."""
    lead, *others = names
    tables = [
        f'[bootstrap]\ncurve_cert = "{HOME}/curve.cert"',
        f'[[bootstrap.hosts]]\nhost = "{lead}"\nbind = "tcp://*:{DEFAULT_PORT}"\n'
        f'connect = "tcp://{lead}:{DEFAULT_PORT}"',
    ]
    if others:
        tables.append(f"[[bootstrap.hosts]]\nhost = {json.dumps(format_hostlist(others))}")
    return "\n\n".join([*tables, '[tbon]\ntcp_user_timeout = "2m"']) + "\n"


def metadata(jobspec: str, lead: str) -> dict[str, str]:
    """Return the metadata for an isolated burst, by key without the prefix."""
    program = importlib.resources.files(__package__).joinpath("run_job.sh").read_text()
    return {"isolated": "true", "job": jobspec, "lead": lead, "program": program}


def output_of(console: str) -> str:
    """Return the job's output, from the lead's serial port."""
    lines = re.findall(rf"{re.escape(MARK)}([^\r\n]*)", console)
    return "".join(f"{line}\n" for line in lines)


def late(burst: Burst, now: float, limit: float) -> str:
    """Return the problem if a burst's job should run by now but does not; or empty.

    Args:
        burst: The burst, according to its lead.
        now: The time.
        limit: How many seconds its job may take to start.
    """
    if burst.state is not BurstState.STARTING or burst.since is None:
        return ""
    waited = now - burst.since
    return f"its job does not run after {format_duration(limit)}" if waited > limit else ""
