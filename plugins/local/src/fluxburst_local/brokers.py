"""The brokers of burst nodes: their commands, environments, and files."""

from __future__ import annotations

import fcntl
import hashlib
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from fluxburst.provider.elastic import broker_command, without_flux
from fluxburst.provider.isolation import OUTPUT_LIMIT
from fluxburst_local import boot_isolated, open_rundir, run_job

BURST_VARIABLE = "FLUXBURST_BURST"
HOST_VARIABLE = "FLUXBURST_HOST"
KEPT = str(OUTPUT_LIMIT + 1)
"""How many bytes of a job's output an isolated burst keeps; one more shows that it was cut."""

HOSTS_VARIABLE = "FLUXBURST_HOSTS"
TAG_VARIABLE = "FLUXBURST_TAG"


@dataclass(frozen=True)
class Brokers:
    """Commands for starting the brokers of one elastic instance.

    Attributes:
        flux: The ``flux`` command.
        directory: The elastic instance's directory.
        run_dir: Directory for their run directories, on their own host.
        log_level: Severity up to which they log, 0 to 7 (flux-broker(1)).
        join_timeout: Seconds that brokers of an isolated burst wait for their lead.
        owner: Name of the instance that owns the bursts, if it is another one; or empty.
        address: Address of an isolated burst's lead; empty to use its host's name.
        guests: Whether other users may run jobs on joined nodes.
    """

    flux: str
    directory: Path
    run_dir: Path = Path("/tmp")  # noqa: S108 - brokers want a short path that every host has
    log_level: int = 7
    join_timeout: float = 120.0
    owner: str = ""
    address: str = ""
    guests: bool = False

    @property
    def tag(self) -> str:
        """Distinguishes this instance's bursts from those of others."""
        place = os.fsencode(self.directory.resolve())
        owner = f"\n{self.owner}".encode() if self.owner else b""
        return hashlib.sha256(place + owner).hexdigest()[:8]

    @property
    def config(self) -> Path:
        """The brokers' configuration."""
        return self.directory / "config"

    def log(self, burst: str, host: str) -> Path:
        """Return the log of one broker."""
        return self.logs(burst) / f"{host}.log"

    def logs(self, burst: str) -> Path:
        """Return the directory of a burst's logs."""
        return self.directory / "log" / burst

    def isolated(self, burst: str) -> Path:
        """Return the directory of an isolated burst; a connected one has none."""
        return self.directory / "isolated" / self.tag / burst

    def rundir(self, burst: str, host: str) -> Path:
        """Return the run directory of one broker."""
        return self.run_dir / f"fluxburst-{self.tag}-{burst}@{host}"

    @contextmanager
    def starting(self) -> Iterator[None]:
        """Serialize processes that choose hosts and start brokers for them.

        Two brokers of one hostname evict each other from the instance. The lock ends with the
        process that holds it.
        """
        (self.directory / "log").mkdir(exist_ok=True, mode=0o700)
        with (self.directory / "log" / "starting.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def command(self, burst: str, host: str) -> list[str]:
        """Return the command of one broker.

        It logs its connection to the lead (``tbon.zmqdebug``): otherwise a differing certificate
        leaves no trace.
        """
        if self.isolated(burst).is_dir():
            return self._isolated_command(burst, host)
        opened = [sys.executable, open_rundir.__file__] if self.guests else []
        return [*opened, *self._broker(self.config, burst, host)]

    def _isolated_command(self, burst: str, host: str) -> list[str]:
        """Return the command of a broker whose instance runs one job and then ends."""
        directory = self.isolated(burst)
        boot = [sys.executable, boot_isolated.__file__, str(directory), self.address]
        broker = self._broker(directory / f"{host}.toml", burst, host)
        program = [sys.executable, run_job.__file__, self.flux, str(directory), KEPT]
        return [*boot, str(self.join_timeout), host, *broker, *program]

    def _broker(self, config: Path, burst: str, host: str) -> list[str]:
        return [
            *broker_command(self.flux, config, host),
            f"-Srundir={self.rundir(burst, host)}",
            "-Srundir-cleanup=1",
            "-Slog-stderr-mode=local",
            f"-Slog-stderr-level={self.log_level}",
            "-Stbon.zmqdebug=1",
        ]

    def marks(self, burst: str, host: str, hosts: str) -> dict[str, str]:
        """Return the variables that identify a broker's process; ``hosts`` is a hostlist."""
        return {
            TAG_VARIABLE: self.tag,
            BURST_VARIABLE: burst,
            HOST_VARIABLE: host,
            HOSTS_VARIABLE: hosts,
        }


def clean_environment(*prefixes: str) -> dict[str, str]:
    """Return this process's environment without instances and jobs, and without ``prefixes``."""
    environment = without_flux(os.environ)
    return {key: value for key, value in environment.items() if not key.startswith(prefixes)}


def broker_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """Return an environment for a burst broker.

    The broker runs a few commands by ``SHELL``; bash reads the user's startup files for each of
    them, which may take longer than joining. Jobs have their submitter's environment.
    """
    return {**environment, "SHELL": "/bin/sh"}


def slurm_environment(configuration: str = "") -> dict[str, str]:
    """Return an environment for Slurm's commands, without the settings of an enclosing job.

    Args:
        configuration: Slurm's configuration file, unless ``SLURM_CONF`` names one.
    """
    configuration = os.environ.get("SLURM_CONF") or configuration
    known = {"SLURM_CONF": configuration} if configuration else {}
    return {**clean_environment("SLURM_", "SBATCH_", "SRUN_", "SQUEUE_", "SCANCEL_"), **known}
