"""The launcher ``slurm``: brokers as a Slurm job."""

from __future__ import annotations

import math
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from fluxburst.errors import BurstError, ParameterError, Problem
from fluxburst.formats.hostlist import format_hostlist
from fluxburst.formats.process import CommandError, run
from fluxburst.formats.units import format_duration
from fluxburst_local import slurm_limits, slurm_queue
from fluxburst_local.brokers import Brokers
from fluxburst_local.cores import slurm_cpus_per_core
from fluxburst_local.launchers.base import Launched
from fluxburst_local.launchers.tasks import task_command
from fluxburst_local.slurm_limits import Partition, parse_time
from fluxburst_local.slurm_queue import SlurmJob
from fluxburst_local.slurm_reasons import refusal, refused_submission

END_SECONDS = 60.0
POLL_SECONDS = 0.2


@dataclass(frozen=True)
class SlurmOptions:
    """Options of a burst's Slurm job, besides its nodes.

    Attributes:
        partition: Its partition, or several, comma-separated; empty for Slurm's default.
        account: The account that pays; empty for Slurm's default.
        time: Its time limit in Slurm's notation; empty for the partition's.
        arguments: Further arguments for sbatch.
    """

    partition: str = ""
    account: str = ""
    time: str = ""
    arguments: tuple[str, ...] = ()

    def as_arguments(self, lease: float | None = None) -> list[str]:
        """Return the arguments for sbatch; a configured time limit overrides the lease."""
        time = self.time or ("" if lease is None else _limit(lease))
        named = {"partition": self.partition, "account": self.account, "time": time}
        return [f"--{name}={value}" for name, value in named.items() if value] + [*self.arguments]


class SlurmLauncher:
    """Submits one job per launch; its name is the burst's, its comment lists the hosts.

    Args:
        brokers: Commands for starting brokers.
        options: Options for its jobs.
        cores: Cores of a burst node.
        gpus: GPUs of a burst node.
        environment: The environment for Slurm's commands.
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
        self._partitions: Sequence[Partition] = ()
        self._cpus = cores
        self._no_operator = ""

    def check(self) -> None:
        """Check that Slurm is installed, answers, and has the partition.

        Raises:
            BurstError: if not.
        """
        for command in ("sbatch", "squeue", "scancel", "sinfo"):
            if shutil.which(command) is None:
                raise BurstError(f"there is no {command} on PATH")
        self._check_partitions()
        if not self._options.time:
            self._no_operator = slurm_limits.why_no_operator(self._asked)

    def _check_partitions(self) -> None:
        """Read the current limits of its jobs' partitions.

        Raises:
            BurstError: if Slurm does not answer, or a partition does not exist.
        """
        known = slurm_limits.partitions(self._asked)
        self._partitions = slurm_limits.chosen(known, self._options.partition)
        names = ",".join(one.name for one in self._partitions)
        per_core = slurm_cpus_per_core(self._asked, f"--partition={names}")
        self._cpus = self._cores * per_core

    def check_time(self) -> None:
        """Check that the partitions allow the configured time limit.

        Raises:
            ParameterError: if one does not: a job would never start there.
        """
        wanted = parse_time(self._options.time) if self._options.time else 0.0
        for one in self._partitions:
            if wanted > one.limit:
                longer = f"{format_duration(wanted)} is longer than the"
                why = f"{longer} {format_duration(one.limit)} that partition {one.name} allows"
                raise ParameterError("local", [Problem("time", "config or environment", why)])

    @property
    def max_lifetime(self) -> float:
        """Maximum life of a burst's job, in seconds, by the partition; inf for no limit.

        A QOS may allow less (sacctmgr(1)): Slurm reports that once the job waits.
        """
        limit = min((one.limit for one in self._partitions), default=math.inf)
        return min(limit, parse_time(self._options.time))

    @property
    def not_renewable(self) -> str:
        """Why the time limit of a running job cannot be raised; empty if it can."""
        return "its jobs have a configured time limit" if self._options.time else self._no_operator

    def renew(self, name: str, until: float) -> float:
        """Raise the time limit of the burst's jobs (scontrol(1)), which only operators can do.

        The partition's limit caps it; a queued job's time counts from its start, and stays.
        Returns when the first of the jobs ends.

        Raises:
            BurstError: if Slurm refuses.
        """
        ends = [until]
        for job in self._jobs():
            if job.name != name or job.state in slurm_queue.PENDING:
                continue
            seconds = min(until - job.since, self.max_lifetime)
            ends.append(job.since + seconds)
            if not self._options.time:  # with a configured limit, no lease is armed
                self._set_limit(job, _limit(seconds))
        return min(ends)

    def _set_limit(self, job: SlurmJob, limit: str) -> None:
        command = ["scontrol", "update", f"JobId={job.id}", f"TimeLimit={limit}"]
        try:
            self._run(command)
        except CommandError as error:
            raise BurstError(f"Slurm does not let job {job.id} run longer: {error}") from error

    def _allowed(self, lease: float | None) -> float | None:
        """Return a lease cut to the partition's limit: a job with a longer one never starts.

        None if it is unlimited and the partition's default is unlimited, too.
        """
        if lease is None and all(one.usual == one.limit for one in self._partitions):
            return None
        return min(math.inf if lease is None else lease, self.max_lifetime)

    def launch(self, name: str, hosts: Sequence[str], lease: float | None = None) -> None:
        """Submit a job for the hosts that have none in this burst."""
        there = {host for job in self._jobs() if job.name == name for host in job.hosts}
        wanted = [host for host in hosts if host not in there]
        if not wanted:
            return
        self._check_partitions()
        self.check_time()
        self._brokers.logs(name).mkdir(parents=True, exist_ok=True, mode=0o700)
        command = [
            "sbatch",
            "--parsable",
            f"--job-name={name}",
            f"--comment={self._comment(wanted)}",
            f"--nodes={len(wanted)}",
            f"--ntasks={len(wanted)}",
            "--ntasks-per-node=1",
            f"--cpus-per-task={self._cpus}",
            *([f"--gpus-per-node={self._gpus}"] if self._gpus else []),
            *([f"--nodelist={','.join(wanted)}"] if self._are_nodes(wanted) else []),
            "--no-requeue",
            f"--output={self._brokers.logs(name) / 'slurm-%j.log'}",
            *self._options.as_arguments(self._allowed(lease)),
        ]
        try:
            self._run(command, stdin=self._script(name, wanted))
        except CommandError as error:
            message = f"Slurm refused the job: {error}"
            raise refused_submission(error.output, message) from error
        # Slurm accepts jobs that can never start, and usually knows that at once.
        for one in self.launched():
            if one.name == name and one.refused is not None:
                raise one.refused

    def launched(self) -> Sequence[Launched]:
        """Return the bursts that have jobs in Slurm."""
        bursts: dict[str, list[SlurmJob]] = {}
        for job in self._jobs():
            bursts.setdefault(job.name, []).append(job)
        return [_as_launched(name, jobs) for name, jobs in bursts.items()]

    def end(self, name: str) -> None:
        """Cancel the burst's jobs, and wait until Slurm has released their nodes."""
        until = time.monotonic() + END_SECONDS
        while jobs := [str(job.id) for job in self._jobs() if job.name == name]:
            if time.monotonic() > until:
                raise BurstError(f"Slurm has not ended job {', '.join(jobs)}")
            self._asked("scancel", *jobs)
            time.sleep(POLL_SECONDS)

    def _script(self, name: str, hosts: Sequence[str]) -> str:
        """Return the batch script: it becomes srun, without involving a shell."""
        srun = ["srun", "--kill-on-bad-exit=0", "--mpi=none", f"--cpus-per-task={self._cpus}"]
        command = [*srun, *task_command(self._brokers, sys.executable, name, hosts)]
        return f"#!{sys.executable}\nimport os\nos.execvp('srun', {command!r})\n"

    def _are_nodes(self, hosts: Sequence[str]) -> bool:
        """Whether the hosts are nodes known to Slurm, rather than only names for joining."""
        known = self._asked("sinfo", "--noheader", "--Node", "--format=%N").split()
        return set(known).issuperset(hosts)

    def _comment(self, hosts: Sequence[str]) -> str:
        return f"{slurm_queue.MARK} {self._brokers.tag} {format_hostlist(hosts)}"

    def _jobs(self) -> list[SlurmJob]:
        """Return the unfinished jobs of this instance's bursts."""
        said = self._asked(*slurm_queue.COMMAND, **slurm_queue.ENVIRONMENT)
        try:
            return list(slurm_queue.parse_jobs(said, self._brokers.tag))
        except ValueError as error:
            raise BurstError(f"malformed output of squeue: {error}") from error

    def _asked(self, *command: str, **environment: str) -> str:
        try:
            return self._run(command, **environment)
        except CommandError as error:
            raise BurstError(f"Slurm does not answer: {error}") from error

    def _run(self, command: Sequence[str], *, stdin: str = "", **environment: str) -> str:
        return run(command, stdin=stdin, environment={**self._environment, **environment})


def _limit(seconds: float) -> str:
    """Format a time limit in Slurm's minutes, at least one (sbatch(1))."""
    return str(max(1, math.ceil(seconds / 60))) if seconds < math.inf else "UNLIMITED"


def _as_launched(name: str, jobs: Sequence[SlurmJob]) -> Launched:
    hosts = tuple(dict.fromkeys(host for job in jobs for host in job.hosts))
    pending = [job for job in jobs if job.state in slurm_queue.PENDING]
    if pending:
        refused = filter(None, (refusal(job.reason, job.id) for job in pending))
        waiting = f"waits in Slurm's queue ({pending[0].reason or 'no reason given'})"
        return Launched(name, hosts, waiting=waiting, refused=next(refused, None))
    ended = [job for job in jobs if job.state == slurm_queue.COMPLETING]
    lost = frozenset(host for job in ended for host in job.hosts)
    return Launched(name, hosts, lost, since=max(job.since for job in jobs))
