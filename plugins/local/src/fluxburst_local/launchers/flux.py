"""The launcher ``flux``: brokers as a job of the enclosing Flux instance."""

from __future__ import annotations

import json
import math
import os
import sys
import time
from collections.abc import Sequence
from typing import Any, ClassVar

from fluxburst.errors import BurstError, CapacityError
from fluxburst.formats.hostlist import format_hostlist, parse_hostlist
from fluxburst.formats.process import CommandError, run
from fluxburst_local.brokers import Brokers, clean_environment
from fluxburst_local.launchers.base import Launched
from fluxburst_local.launchers.tasks import task_command

END_SECONDS = 60.0


class FluxLauncher:
    """Submits one job per launch, on nodes other than the lead's.

    The job carries the burst's name; its jobspec lists its hosts, under ``user``.

    Args:
        brokers: Commands for starting brokers.
        uri: The enclosing instance.
        cores: Cores of a burst node.
        gpus: GPUs of a burst node.
    """

    queues: ClassVar[bool] = True

    def __init__(self, brokers: Brokers, uri: str, cores: int, gpus: int = 0) -> None:
        self._brokers = brokers
        self._uri = uri
        self._cores = cores
        self._gpus = gpus
        self._not_owner = ""

    def check(self) -> None:
        """Check that the enclosing instance answers.

        Raises:
            BurstError: if it does not, or does not exist.
        """
        if not self._uri:
            raise BurstError(
                "no enclosing Flux: the instance was not started in one, and flux_uri is not set"
            )
        self._rank()
        if self._asked("getattr", "security.owner") != str(os.getuid()):
            self._not_owner = "only the owner of the enclosing Flux may raise a job's time limit"

    @property
    def max_lifetime(self) -> float:
        """Maximum life of a burst's job: no limit of the enclosing instance is known."""
        return math.inf

    @property
    def not_renewable(self) -> str:
        """Why a running job's time limit cannot be raised: only an instance's owner can."""
        return self._not_owner

    def renew(self, name: str, until: float) -> float:
        """Raise the time limit of the burst's jobs (flux-update(1)), if they have one.

        Raises:
            BurstError: if the enclosing instance refuses.
        """
        for job in self._jobs():
            if job["name"] == name and job.get("duration"):
                seconds = until - float(job.get("t_run") or time.time())
                try:
                    self._flux("update", str(job["id"]), f"duration={math.ceil(seconds)}s")
                except CommandError as error:
                    raise BurstError(f"cannot extend its job: {error}") from error
        return until

    def launch(self, name: str, hosts: Sequence[str], lease: float | None = None) -> None:
        """Submit a job for the hosts that have none in this burst."""
        there = {host for job in self._jobs() if job["name"] == name for host in job["hosts"]}
        wanted = [host for host in hosts if host not in there]
        if not wanted:
            return
        attributes = {"tag": self._brokers.tag, "hosts": format_hostlist(wanted)}
        command = [
            "submit",
            f"--job-name={name}",
            f"--nodes={len(wanted)}",
            f"--ntasks={len(wanted)}",
            f"--cores-per-task={self._cores}",
            *([f"--gpus-per-task={self._gpus}"] if self._gpus else []),
            *([f"--time-limit={math.ceil(lease)}s"] if lease is not None else []),
            f"--requires={self._requires(wanted)}",
            f"--setattr=user.fluxburst={json.dumps(attributes)}",
            "--output=/dev/null",
            "--error=/dev/null",
            *task_command(self._brokers, sys.executable, name, wanted),
        ]
        try:
            self._flux(*command)
        except CommandError as error:
            unsatisfiable = "unsatisfiable" in error.output or "infeasible" in error.output
            kind = CapacityError if unsatisfiable else BurstError
            raise kind(f"the enclosing instance refused the job: {error}") from error

    def launched(self) -> Sequence[Launched]:
        """Return the bursts that have jobs in the enclosing instance."""
        bursts: dict[str, list[dict[str, Any]]] = {}
        for job in self._jobs():
            bursts.setdefault(job["name"], []).append(job)
        return [_as_launched(name, jobs) for name, jobs in bursts.items()]

    def end(self, name: str) -> None:
        """Cancel the burst's jobs, and wait for their cleanup."""
        jobs = [str(job["id"]) for job in self._jobs() if job["name"] == name]
        if not jobs:
            return
        try:
            self._flux("cancel", "--quiet", *jobs)
            for job in jobs:
                self._flux("job", "wait-event", f"--timeout={END_SECONDS:.0f}", job, "clean")
        except CommandError as error:
            raise BurstError(f"cannot end its job: {error}") from error

    def _requires(self, hosts: Sequence[str]) -> str:
        """Return a constraint (RFC 35): the hosts, if they are the enclosing instance's own."""
        known = set(parse_hostlist(self._asked("getattr", "hostlist")))
        if known.issuperset(hosts):
            return f"host:{format_hostlist(hosts)}"
        return f"-rank:{self._rank()}"

    def _rank(self) -> str:
        """Return the lead's rank in the enclosing instance."""
        return self._asked("getattr", "rank")

    def _jobs(self) -> list[dict[str, Any]]:
        """Return the active jobs of this instance's bursts."""
        listed = json.loads(self._asked("jobs", "--json", "--filter=pending,running") or "{}")
        found = []
        for job in listed.get("jobs", [listed] if "id" in listed else []):
            spec = json.loads(self._asked("job", "info", str(job["id"]), "jobspec"))
            ours = spec["attributes"].get("user", {}).get("fluxburst", {})
            if ours.get("tag") == self._brokers.tag:
                found.append({**job, "hosts": parse_hostlist(ours["hosts"])})
        return found

    def _asked(self, *arguments: str) -> str:
        try:
            return self._flux(*arguments).strip()
        except CommandError as error:
            raise BurstError(
                f"the enclosing Flux instance {self._uri} does not answer: {error}"
            ) from error

    def _flux(self, *arguments: str) -> str:
        environment = {**clean_environment(), "FLUX_URI": self._uri}
        return run([self._brokers.flux, *arguments], environment=environment)


def _as_launched(name: str, jobs: Sequence[dict[str, Any]]) -> Launched:
    hosts = tuple(dict.fromkeys(host for job in jobs for host in job["hosts"]))
    started = [float(job.get("t_run") or 0.0) for job in jobs]
    if all(started):
        return Launched(name, hosts, since=max(started))
    return Launched(name, hosts, waiting="waits in the queue of the enclosing instance")
