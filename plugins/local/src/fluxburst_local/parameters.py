"""The parameters of the local plugin."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Optional

from fluxburst import Duration
from fluxburst.provider.elastic_plugin import ElasticParameters

LauncherName = Literal["process", "flux", "slurm", "srun", "ssh"]

ON_THIS_HOST: Collection[LauncherName] = frozenset({"process"})
"""The launchers whose brokers run on this host: they connect by loopback."""

AS_JOBS: Collection[LauncherName] = frozenset({"slurm", "flux"})
"""The launchers whose brokers are jobs, which may wait in a queue."""


def _help(text: str) -> dict[str, str]:
    return {"help": text}


@dataclass
class BurstParameters(ElasticParameters):
    """Parameters of the local plugin."""

    launcher: LauncherName = field(
        default="process",
        metadata=_help(
            "where brokers start: as processes here, in a job of the enclosing Flux or of "
            "Slurm, as steps (srun) of the lead's Slurm job, by ssh"
        ),
    )
    hostnames: Optional[str] = field(  # noqa: UP045
        default=None,
        metadata=_help("hostlist of usable burst nodes; by default all declared ones"),
    )
    flux_root: Optional[Path] = field(  # noqa: UP045
        default=None, metadata=_help("prefix of the brokers' Flux; by default as declared")
    )
    flux_uri: Optional[str] = field(  # noqa: UP045
        default=None,
        metadata=_help("enclosing instance, for launcher flux; by default the lead's"),
    )
    flux_user: Optional[str] = field(  # noqa: UP045
        default=None, metadata=_help("user to log in as, for launcher ssh")
    )
    run_dir: Path = field(
        default=Path("/tmp"),  # noqa: S108 - brokers want a short path that every host has
        metadata=_help("directory on the brokers' hosts for their run directories"),
    )
    join_timeout: Duration = field(
        default=Duration(120.0),
        metadata=_help("how long nodes may take to join after their start"),
    )
    queue_timeout: Duration = field(
        default=Duration(math.inf),
        metadata=_help("how long a burst's job may wait in the queue of Slurm or another Flux"),
    )
    environment: list[str] = field(
        default_factory=lambda: ["*"],
        metadata=_help("patterns of environment variables to pass to such a job; by default all"),
    )
    price: float = field(default=0.0, metadata=_help("price of a node per hour"))
    max_nodes: Optional[int] = field(  # noqa: UP045
        default=None, metadata=_help("maximum number of nodes of each type")
    )
    partition: str = field(default="", metadata=_help("partition, for launcher slurm"))
    account: str = field(default="", metadata=_help("account, for launcher slurm"))
    time: str = field(default="", metadata=_help("time limit, for launcher slurm"))
    slurm_args: list[str] = field(
        default_factory=list, metadata=_help("further arguments for sbatch, for launcher slurm")
    )
    slurm_job: str = field(
        default="",
        metadata=_help("Slurm job to run steps in, for launcher srun; by default the lead's"),
    )
    ssh_args: list[str] = field(
        default_factory=list, metadata=_help("further arguments for ssh, for launcher ssh")
    )
