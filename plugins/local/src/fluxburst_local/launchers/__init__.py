"""Launchers: they start the brokers of burst nodes, and find them again."""

from fluxburst_local.launchers.base import Launched, Launcher
from fluxburst_local.launchers.flux import FluxLauncher
from fluxburst_local.launchers.process import ProcessLauncher
from fluxburst_local.launchers.slurm import SlurmLauncher, SlurmOptions
from fluxburst_local.launchers.srun import SrunLauncher
from fluxburst_local.launchers.ssh import SshLauncher

__all__ = [
    "FluxLauncher",
    "Launched",
    "Launcher",
    "ProcessLauncher",
    "SlurmLauncher",
    "SlurmOptions",
    "SrunLauncher",
    "SshLauncher",
]
