"""Selects the launcher named by the parameters."""

from __future__ import annotations

from pathlib import Path

from fluxburst.provider.elastic import Elastic
from fluxburst_local.allocations import enclosure
from fluxburst_local.brokers import Brokers, slurm_environment
from fluxburst_local.launchers.base import Launcher
from fluxburst_local.launchers.flux import FluxLauncher
from fluxburst_local.launchers.process import ProcessLauncher
from fluxburst_local.launchers.slurm import SlurmLauncher, SlurmOptions
from fluxburst_local.launchers.srun import SrunLauncher
from fluxburst_local.launchers.ssh import SshLauncher
from fluxburst_local.parameters import BurstParameters


def chosen_launcher(
    params: BurstParameters, elastic: Elastic, brokers: Brokers, directory: Path
) -> Launcher:
    """Return the launcher named by the parameters; its requirements are not checked yet.

    Args:
        params: The plugin's parameters.
        elastic: The elastic instance's description.
        brokers: Commands for starting brokers.
        directory: The elastic instance's directory, which records the enclosing allocation.
    """
    around = enclosure(directory)
    match params.launcher:
        case "process":
            return ProcessLauncher(brokers)
        case "flux":
            uri = params.flux_uri or around.flux_uri
            return FluxLauncher(brokers, uri, elastic.cores, elastic.gpus)
        case "slurm":
            options = SlurmOptions(
                params.partition, params.account, params.time, tuple(params.slurm_args)
            )
            slurm = slurm_environment(around.slurm_conf)
            return SlurmLauncher(brokers, options, elastic.cores, elastic.gpus, slurm)
        case "srun":
            job = params.slurm_job or around.slurm_job
            return SrunLauncher(brokers, elastic.cores, job, slurm_environment(around.slurm_conf))
        case "ssh":
            return SshLauncher(brokers, params.ssh_args, params.flux_user or "")
