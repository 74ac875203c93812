"""The launcher ``slurm``: brokers as a Slurm job."""

from __future__ import annotations

import json
import math
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from fluxburst.commands import CommandError, run
from fluxburst.errors import BurstError, QuotaError
from fluxburst.sets import format_hostlist, parse_hostlist
from fluxburst_local.brokers import Brokers
from fluxburst_local.launchers.base import Launched
from fluxburst_local.launchers.tasks import task_command

END_SECONDS = 60.0
POLL_SECONDS = 0.2

PENDING, GONE = (
    frozenset({"PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED"}),
    frozenset(
        {
            "BOOT_FAIL",
            "CANCELLED",
            "COMPLETED",
            "DEADLINE",
            "FAILED",
            "NODE_FAIL",
            "OUT_OF_MEMORY",
            "PREEMPTED",
            "REVOKED",
            "TIMEOUT",
        }
    ),
)
"""States of Slurm's jobs (squeue(1)): not started yet, and ended for good."""

COMPLETING = "COMPLETING"
"""The state of a job that has ended, and whose nodes Slurm has not got back yet (squeue(1))."""

_LIMITS = ("Limit", "QOS", "Assoc", "accounting")


@dataclass(frozen=True)
class SlurmOptions:
    """What a burst's Slurm job asks for, besides its nodes.

    Attributes:
        partition: Its partition; empty for Slurm's default.
        account: The account that pays; empty for Slurm's default.
        time: Its time limit as Slurm writes it; empty for the partition's.
        arguments: More arguments for sbatch.
    """

    partition: str = ""
    account: str = ""
    time: str = ""
    arguments: tuple[str, ...] = ()

    def as_arguments(self, lease: float | None = None) -> list[str]:
        """Return the arguments for sbatch; its own time limit goes before a lease, in seconds."""
        time = self.time or (str(_minutes(lease)) if lease is not None else "")
        named = {"partition": self.partition, "account": self.account, "time": time}
        return [f"--{name}={value}" for name, value in named.items() if value] + [*self.arguments]


class SlurmLauncher:
    """Submits one job for each launch; its name is the burst's, its comment says for which hosts.

    Args:
        brokers: How brokers are started.
        options: What its jobs ask for.
        cores: Cores of a burst node.
        gpus: GPUs of a burst node.
        environment: The environment to run Slurm's commands in.
    """

    queues: ClassVar[bool] = True

    def __init__(
        self,
        brokers: Brokers,
        options: SlurmOptions,
        cores: int,
        gpus: int,
        environment: Mapping[str, str],
    ) -> None:
        self._brokers = brokers
        self._options = options
        self._environment = environment
        self._cores = cores
        self._gpus = gpus

    def check(self) -> None:
        """Check that Slurm is there, answers, and has the partition.

        Raises:
            BurstError: if one of these is not so.
        """
        for command in ("sbatch", "squeue", "scancel", "sinfo"):
            if shutil.which(command) is None:
                raise BurstError(f"there is no {command} on PATH")
        known = self._asked("sinfo", "--noheader", "--format=%R").split()
        if self._options.partition and self._options.partition not in known:
            choices = ", ".join(sorted(set(known)))
            raise BurstError(
                f"Slurm has no partition {self._options.partition!r} [choose from {choices}]"
            )

    def renew(self, name: str, until: float) -> None:
        """Raise the time limit of the burst's jobs (scontrol(1)); operators only may do so.

        Raises:
            BurstError: if Slurm refuses.
        """
        if self._options.time:
            return  # whoever chose it armed no lease
        for job in self._jobs():
            if job.name == name:
                minutes = _minutes(until - (job.since or time.time()))
                command = ["scontrol", "update", f"JobId={job.id}", f"TimeLimit={minutes}"]
                try:
                    self._run(command)
                except CommandError as error:
                    raise BurstError(
                        f"Slurm does not let job {job.id} run longer: {error}"
                    ) from error

    def launch(self, name: str, hosts: Sequence[str], lease: float | None = None) -> None:
        """Submit a job for those hosts that no job of this burst is for."""
        there = {host for job in self._jobs() if job.name == name for host in job.hosts}
        wanted = [host for host in hosts if host not in there]
        if not wanted:
            return
        self._brokers.logs(name).mkdir(parents=True, exist_ok=True, mode=0o700)
        command = [
            "sbatch",
            "--parsable",
            f"--job-name={name}",
            f"--comment={self._comment(wanted)}",
            f"--nodes={len(wanted)}",
            f"--ntasks={len(wanted)}",
            "--ntasks-per-node=1",
            f"--cpus-per-task={self._cores}",
            *([f"--gpus-per-node={self._gpus}"] if self._gpus else []),
            *([f"--nodelist={','.join(wanted)}"] if self._are_nodes(wanted) else []),
            "--no-requeue",
            f"--output={self._brokers.logs(name) / 'slurm-%j.log'}",
            *self._options.as_arguments(lease),
        ]
        try:
            self._run(command, stdin=self._script(name, wanted))
        except CommandError as error:
            kind = QuotaError if any(word in error.output for word in _LIMITS) else BurstError
            raise kind(f"Slurm refused the job: {error}") from error

    def launched(self) -> Sequence[Launched]:
        """Return the bursts that jobs of Slurm are for."""
        bursts: dict[str, list[_Job]] = {}
        for job in self._jobs():
            bursts.setdefault(job.name, []).append(job)
        return [_as_launched(name, jobs) for name, jobs in bursts.items()]

    def end(self, name: str) -> None:
        """Cancel the burst's jobs, and wait until Slurm has their nodes back."""
        until = time.monotonic() + END_SECONDS
        while jobs := [str(job.id) for job in self._jobs() if job.name == name]:
            if time.monotonic() > until:
                raise BurstError(f"Slurm has not ended job {', '.join(jobs)}")
            self._asked("scancel", *jobs)
            time.sleep(POLL_SECONDS)

    def _script(self, name: str, hosts: Sequence[str]) -> str:
        """Return the batch script: it becomes srun, and nothing in it is read by a shell."""
        srun = ["srun", "--kill-on-bad-exit=0", "--mpi=none", f"--cpus-per-task={self._cores}"]
        command = [*srun, *task_command(self._brokers, sys.executable, name, hosts)]
        return f"#!{sys.executable}\nimport os\nos.execvp('srun', {command!r})\n"

    def _are_nodes(self, hosts: Sequence[str]) -> bool:
        """Whether the hosts are nodes that Slurm knows, rather than names to join by."""
        known = self._asked("sinfo", "--noheader", "--Node", "--format=%N").split()
        return set(known).issuperset(hosts)

    def _comment(self, hosts: Sequence[str]) -> str:
        return f"fluxburst {self._brokers.tag} {format_hostlist(hosts)}"

    def _jobs(self) -> list[_Job]:
        """Return the jobs that are bursts of this instance and have not ended."""
        try:
            listed = json.loads(self._asked("squeue", "--json"))["jobs"]
        except (ValueError, KeyError, TypeError) as error:
            raise BurstError(f"squeue --json answered something else: {error}") from error
        found = []
        for job in listed:
            words = str(job.get("comment") or "").split()
            state = _state(job)
            if words[:2] == ["fluxburst", self._brokers.tag] and state not in GONE:
                hosts = parse_hostlist(" ".join(words[2:]))
                found.append(_Job(job["job_id"], job["name"], state, hosts, job))
        return found

    def _asked(self, *command: str) -> str:
        try:
            return self._run(command)
        except CommandError as error:
            raise BurstError(f"Slurm does not answer: {error}") from error

    def _run(self, command: Sequence[str], stdin: str = "") -> str:
        return run(command, stdin=stdin, environment=self._environment)


@dataclass(frozen=True)
class _Job:
    id: int
    name: str
    state: str
    hosts: tuple[str, ...]
    record: dict[str, Any]

    @property
    def since(self) -> float:
        """When it started; newer Slurms write a number with whether it is set."""
        start = self.record.get("start_time")
        return float(start["number"] if isinstance(start, dict) else start or 0.0)


def _minutes(seconds: float) -> int:
    """Return a time limit in Slurm's minutes, of which it wants at least one."""
    return max(1, math.ceil(seconds / 60))


def _state(job: dict[str, Any]) -> str:
    """Return a job's state; newer Slurms write a list of it and its flags."""
    state = job["job_state"]
    if not isinstance(state, list):
        return str(state)
    return COMPLETING if COMPLETING in state else str(state[0])


def _as_launched(name: str, jobs: Sequence[_Job]) -> Launched:
    hosts = tuple(dict.fromkeys(host for job in jobs for host in job.hosts))
    pending = [job for job in jobs if job.state in PENDING]
    if pending:
        reason = pending[0].record.get("state_reason") or "no reason given"
        return Launched(name, hosts, waiting=f"waits in Slurm's queue ({reason})")
    lost = frozenset(host for job in jobs if job.state == COMPLETING for host in job.hosts)
    return Launched(name, hosts, lost, since=max(job.since for job in jobs))
