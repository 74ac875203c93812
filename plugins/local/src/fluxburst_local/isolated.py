"""Isolated bursts: brokers that form their own Flux instance, which runs one job.

Each burst has its own directory, under the same path on its hosts: with the job, the certificate,
the brokers' configuration, and the reports of the lead, on the first host, about the job. Files
that other hosts wait for exist from the start, and are empty: on NFS, a file that was looked up
too early may seem missing for a minute after its creation (nfs(5)).
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from fluxburst import Burst, BurstState
from fluxburst.errors import BurstError
from fluxburst.formats.flux_configuration import toml_text
from fluxburst.formats.hostlist import format_hostlist
from fluxburst.formats.process import run
from fluxburst.provider.elastic import encode_resources
from fluxburst.provider.isolation import OUTPUT_LIMIT, UNREAD, as_told, lost, with_output
from fluxburst_local.boot_isolated import BOUND, ENDPOINT, LEAD, TEMPLATE
from fluxburst_local.brokers import Brokers
from fluxburst_local.diagnosis import explain_all, out_of_memory
from fluxburst_local.launchers import Launched
from fluxburst_local.run_job import JOB, OUTPUT, TOLD

CERTIFICATE, RESOURCES = "curve.cert", "R"

KILLED = 137
"""Exit code of a process killed by the kernel: 128 and SIGKILL."""

UNSEEN_SECONDS = 300.0
"""How long to wait for a new file: on NFS it may be invisible for a minute (nfs(5))."""


@dataclass(frozen=True)
class IsolatedBursts:
    """The isolated bursts whose directories are in an elastic instance's directory.

    Attributes:
        brokers: Commands for starting their brokers.
        output_dir: Directory for the output of their jobs.
    """

    brokers: Brokers
    output_dir: Path

    def names(self) -> set[str]:
        """Return the bursts that have a directory."""
        with contextlib.suppress(FileNotFoundError):
            return {path.name for path in self.brokers.isolated("").iterdir() if path.is_dir()}
        return set()

    def prepare(self, name: str, hosts: Sequence[str], cores: int, gpus: int, jobspec: str) -> None:
        """Write the directory of a burst, readable by its owner only, before its brokers start.

        Args:
            name: The burst.
            hosts: The hostnames of the brokers, the lead's first.
            cores: Cores of each.
            gpus: GPUs of each.
            jobspec: The job, as JSON for ``flux job submit``.

        Raises:
            CommandError: if Flux fails to create a certificate or an R.
            OSError: if it is not writable.
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
            JOB: jobspec,  # it has the environment of its submitter
        }
        for file, content in contents.items():
            (directory / file).touch(mode=0o600)
            (directory / file).write_text(content)

    def has_begun(self, name: str) -> bool:
        """Whether a burst's job was started: it must not start again.

        Raises:
            BurstError: if that is unknown.
        """
        return bool(self._told(name))

    def has_ended(self, name: str) -> bool:
        """Whether a burst's job has ended, so that its brokers exit by themselves.

        False if that is unknown.
        """
        with contextlib.suppress(BurstError):
            return "exit-code" in self._told(name)
        return False

    def as_it_is(self, burst: Burst, launched: Launched | None, late: str) -> Burst:
        """Return a burst, from its lead's reports and its launcher's former view.

        Args:
            burst: The burst.
            launched: The launcher's view; None if it knows nothing about it.
            late: The step that took its brokers too long, or empty.

        Raises:
            BurstError: if the lead's reports are unreadable.
        """
        since = launched.since if launched is not None else None
        burst = replace(burst, hostnames=(), since=since or burst.since)
        now = as_told(burst, self._told(burst.name))
        if now.exit_code is not None:
            return self._with_output(now)
        if now.state is BurstState.FAILED:
            return now
        if launched is None or launched.lost:
            killed = out_of_memory(self._logs_of(burst, launched))
            if killed:
                ended = replace(now, state=BurstState.READY, exit_code=KILLED, error=killed)
                return self._with_output(ended)
            began = now.state is BurstState.READY
            return lost(now, self._why_lost(burst, launched), began=began)
        if now.state is BurstState.READY:
            return now
        if late:
            return replace(now, state=BurstState.FAILED, error=f"its brokers {late}")
        if launched.since is None:
            return replace(now, state=BurstState.REQUESTED, waiting_for=launched.waiting)
        return now

    def _told(self, name: str) -> Mapping[str, str]:
        """Return the reports of a burst's lead.

        See :func:`fluxburst.provider.isolation.as_told`.

        Raises:
            BurstError: if they are unreadable, or not visible yet.
        """
        path = self.brokers.isolated(name) / TOLD
        try:
            text = path.read_text()
        except FileNotFoundError:
            if self._is_to_come(name):
                raise BurstError(
                    f"{path} was created but is not visible yet: on NFS that may take a minute"
                ) from None
            return {}
        except OSError as error:
            raise BurstError(f"cannot read {path}: {error.strerror}") from error
        whole = [line for line in text.splitlines(keepends=True) if line.endswith("\n")]
        told = [line.rstrip("\n").partition(" ") for line in whole]
        return {key: value for key, _, value in told}

    def _is_to_come(self, name: str) -> bool:
        """Whether an invisible file of a burst is assumed to exist nevertheless.

        All files of a burst exist before its job does. One still invisible a while after the latest
        change of its directory does not exist: somebody has removed it.
        """
        directory = self.brokers.isolated(name)
        if not (directory / JOB).exists():
            return False
        changed = [0.0]
        for path in [*directory.iterdir(), *self.brokers.logs(name).glob("*")]:
            with contextlib.suppress(OSError):
                changed.append(path.stat().st_mtime)
        return time.time() - max(changed) < UNSEEN_SECONDS

    def set_aside(self, name: str) -> Path:
        """Return the place of a burst's job output if it cannot be kept elsewhere."""
        return self.brokers.logs(name) / "output"

    def _with_output(self, burst: Burst) -> Burst:
        """Copy a job's output to where it outlives its burst; else say where it still is."""
        aside = self.set_aside(burst.name)
        now = with_output(burst, self.output_dir, lambda: self._output_of(burst.name))
        if now.output.startswith(UNREAD):
            with contextlib.suppress(OSError):  # the output's text says why it could not be kept
                aside.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                (self.brokers.isolated(burst.name) / OUTPUT).rename(aside)
            if not aside.exists():
                return now
            now = replace(now, output=str(aside))
        cut = self._told(burst.name).get("cut", "")
        return replace(now, output=f"{now.output} (cut: {cut})") if cut else now

    def _output_of(self, name: str) -> bytes:
        with (self.brokers.isolated(name) / OUTPUT).open("rb") as file:
            return file.read(OUTPUT_LIMIT + 1)

    def _why_lost(self, burst: Burst, launched: Launched | None) -> str:
        """Return why a burst's instance ended before its job did."""
        logs = self._logs_of(burst, launched)
        if not logs:
            return "its brokers were not started"
        return f"{format_hostlist([host for host, _ in logs])} is gone: {explain_all(logs)}"

    def _logs_of(self, burst: Burst, launched: Launched | None) -> list[tuple[str, Path]]:
        """Return the hosts whose brokers are gone, with their logs."""
        gone = sorted(path.stem for path in self.brokers.logs(burst.name).glob("*.log"))
        if launched is not None:
            gone = sorted(launched.lost)
        return [(host, self.brokers.log(burst.name, host)) for host in gone]


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
