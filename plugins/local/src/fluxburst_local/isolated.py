"""Isolated bursts: brokers that make a Flux instance of their own, which runs one job.

All of a burst is in a directory of its own, which its hosts see under the same path: the job, the
certificate, what the brokers are configured by, and what the lead, on the first host, tells of the
job. What one host writes and others wait for is there from the start, and empty: on NFS a file that
was looked for and not found may seem to be missing for a minute after it was made (nfs(5)).
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from fluxburst import Burst, BurstState
from fluxburst.commands import run
from fluxburst.elastic import encode_resources
from fluxburst.errors import BurstError
from fluxburst.flux_config import toml_text
from fluxburst.isolation import OUTPUT_LIMIT, as_told, kept_output
from fluxburst.sets import format_hostlist
from fluxburst_local.boot_isolated import BOUND, ENDPOINT, LEAD, TEMPLATE
from fluxburst_local.brokers import Brokers
from fluxburst_local.diagnosis import explain_all
from fluxburst_local.launchers import Launched
from fluxburst_local.run_job import JOB, OUTPUT, TOLD

CERTIFICATE, RESOURCES = "curve.cert", "R"


@dataclass(frozen=True)
class IsolatedBursts:
    """The isolated bursts whose directories are in an elastic instance's.

    Attributes:
        brokers: How their brokers are started.
        output_dir: Where the output of their jobs is put.
    """

    brokers: Brokers
    output_dir: Path

    def names(self) -> set[str]:
        """Return the bursts that there is a directory of."""
        with contextlib.suppress(FileNotFoundError):
            return {path.name for path in self.brokers.isolated("").iterdir() if path.is_dir()}
        return set()

    def prepare(self, name: str, hosts: Sequence[str], cores: int, gpus: int, jobspec: str) -> None:
        """Write the directory of a burst, for its owner alone; brokers may be started then.

        Args:
            name: The burst.
            hosts: The hostnames of the brokers, the lead's first.
            cores: Cores of each.
            gpus: GPUs of each.
            jobspec: The job, as JSON for ``flux job submit``.

        Raises:
            CommandError: if Flux makes no certificate, or no R.
            OSError: if it cannot be written.
        """
        directory, flux = self.brokers.isolated(name), self.brokers.flux
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
        for file, content in contents.items():
            (directory / file).touch(mode=0o600)
            (directory / file).write_text(content)

    def has_begun(self, name: str) -> bool:
        """Whether a burst's job was started: it must not be again.

        Raises:
            BurstError: if that cannot be told.
        """
        return bool(self._told(name))

    def has_ended(self, name: str) -> bool:
        """Whether a burst's job has ended, and so its brokers end by themselves.

        Raises:
            BurstError: if that cannot be told.
        """
        return "exit-code" in self._told(name)

    def as_it_is(self, burst: Burst, launched: Launched | None, late: str) -> Burst:
        """Return a burst as its lead tells it, and as its launcher showed it before.

        Args:
            burst: The burst.
            launched: What its launcher showed; None where that knows nothing of it.
            late: What took its brokers too long, or empty.

        Raises:
            BurstError: if what the lead told cannot be read.
        """
        since = launched.since if launched is not None else None
        burst = replace(burst, hostnames=(), since=since or burst.since)
        now = as_told(burst, self._told(burst.name))
        if now.exit_code is not None:
            return replace(now, output=self._kept_output(now))
        if now.state is BurstState.FAILED:
            return now
        if launched is None or launched.lost:
            return replace(now, state=BurstState.FAILED, error=self._why_lost(burst, launched))
        if now.state is BurstState.READY:
            return now
        if late:
            return replace(now, state=BurstState.FAILED, error=f"its brokers {late}")
        if launched.since is None:
            return replace(now, state=BurstState.REQUESTED, error=launched.waiting)
        return now

    def _told(self, name: str) -> Mapping[str, str]:
        """Return what the lead of a burst told, as :func:`fluxburst.isolation.as_told` reads it."""
        path = self.brokers.isolated(name) / TOLD
        try:
            text = path.read_text()
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise BurstError(f"{path} cannot be read: {error.strerror}") from error
        whole = [line for line in text.splitlines(keepends=True) if line.endswith("\n")]
        told = [line.rstrip("\n").partition(" ") for line in whole]
        return {key: value for key, _, value in told}

    def set_aside(self, name: str) -> Path:
        """Return where the output of a burst's job is put that cannot be kept elsewhere."""
        return self.brokers.logs(name) / "output"

    def _kept_output(self, burst: Burst) -> str:
        """Put a job's output where it outlives its burst; return where, and what is to be said."""
        aside = self.set_aside(burst.name)
        path = kept_output(
            burst, self.output_dir, lambda: self._output_of(burst.name), otherwise=str(aside)
        )
        if path == str(aside) and not aside.exists():
            with contextlib.suppress(OSError):  # why it could not be kept has been logged
                aside.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                (self.brokers.isolated(burst.name) / OUTPUT).rename(aside)
        cut = self._told(burst.name).get("cut", "")
        return f"{path} (cut: {cut})" if cut else path

    def _output_of(self, name: str) -> bytes:
        with (self.brokers.isolated(name) / OUTPUT).open("rb") as file:
            return file.read(OUTPUT_LIMIT + 1)

    def _why_lost(self, burst: Burst, launched: Launched | None) -> str:
        """Return why a burst's instance ended before its job did."""
        lost = sorted(path.stem for path in self.brokers.logs(burst.name).glob("*.log"))
        if launched is not None:
            lost = sorted(launched.lost)
        logs = [(host, self.brokers.log(burst.name, host)) for host in lost]
        if not logs:
            return "its brokers were not started"
        return f"{format_hostlist(lost)} is no more: {explain_all(logs)}"


def _configuration(directory: Path, hosts: Sequence[str]) -> str:
    """Return the brokers' configuration, without the lead's port (flux-config-bootstrap(5))."""
    lead, *others = hosts
    tables = [
        f"[bootstrap]\ncurve_cert = {toml_text(directory / CERTIFICATE)}",
        f'[[bootstrap.hosts]]\nhost = {toml_text(lead)}\nbind = "@{BOUND}@"\n'
        f'connect = "@{ENDPOINT}@"',
    ]
    if others:
        tables.append(f"[[bootstrap.hosts]]\nhost = {toml_text(format_hostlist(others))}")
    resources = toml_text(directory / RESOURCES)
    tables.append(f"[resource]\npath = {resources}\nnoverify = true")
    tables.append('[tbon]\ntcp_user_timeout = "2m"')
    return "\n\n".join(tables) + "\n"
