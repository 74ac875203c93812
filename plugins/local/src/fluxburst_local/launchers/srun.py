"""The launcher ``srun``: brokers as steps of the lead's Slurm job."""

from __future__ import annotations

import shutil
from collections.abc import Mapping

from fluxburst.errors import BurstError
from fluxburst.formats.process import CommandError, run
from fluxburst_local.brokers import Brokers
from fluxburst_local.cores import slurm_cpus_per_core
from fluxburst_local.launchers.process import ProcessLauncher


class SrunLauncher(ProcessLauncher):
    """Runs each broker as a step of an existing allocation, on the node of its name.

    Args:
        brokers: Commands for starting brokers.
        cores: Cores of a burst node.
        job: Id of the Slurm job.
        environment: The environment for srun.
    """

    def __init__(
        self, brokers: Brokers, cores: int, job: str, environment: Mapping[str, str]
    ) -> None:
        super().__init__(brokers)
        self._cores = self._cpus = cores
        self._job = job
        self._environment = environment

    def check(self) -> None:
        """Check that there is an allocation for the steps.

        Raises:
            BurstError: if there is none, or Slurm does not answer.
        """
        if shutil.which("srun") is None:
            raise BurstError("there is no srun on PATH")
        if not self._job:
            raise BurstError(
                "no Slurm allocation: the instance was not started in one, and slurm_job is not set"
            )
        nodes = self._asked("squeue", "--noheader", f"--jobs={self._job}", "--format=%N").strip()
        self._cpus = self._cores * slurm_cpus_per_core(self._asked, f"--nodes={nodes}")

    def _asked(self, *command: str) -> str:
        try:
            return run(command, environment=self._environment)
        except CommandError as error:
            raise BurstError(f"Slurm does not answer: {error}") from error

    def environment(self) -> dict[str, str]:
        """Return the environment for srun."""
        return dict(self._environment)

    def command(self, name: str, host: str) -> list[str]:
        """Return the srun command that runs one broker."""
        return [
            shutil.which("srun") or "srun",
            f"--jobid={self._job}",
            f"--job-name={name}",
            f"--nodelist={host}",
            "--nodes=1",
            "--ntasks=1",
            f"--cpus-per-task={self._cpus}",
            "--overlap",
            "--mpi=none",
            "--quit-on-interrupt",
            *super().command(name, host),
        ]
