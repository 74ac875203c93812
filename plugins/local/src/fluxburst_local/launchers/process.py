"""The launcher ``process``: brokers as processes of this machine."""

from __future__ import annotations

import math
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

import psutil

from fluxburst.errors import BurstError
from fluxburst.formats.hostlist import format_hostlist, parse_hostlist
from fluxburst_local import processes
from fluxburst_local.brokers import (
    BURST_VARIABLE,
    HOST_VARIABLE,
    HOSTS_VARIABLE,
    TAG_VARIABLE,
    Brokers,
    broker_environment,
    clean_environment,
)
from fluxburst_local.launchers.base import Launched


class ProcessLauncher:
    """Starts each broker as a process of this machine, in its own session.

    Its environment carries the burst's name. A killed broker's remaining processes are found by
    its run directory, which the ``FLUX_URI`` of its jobs' processes names.

    Args:
        brokers: Commands for starting brokers.
    """

    queues: ClassVar[bool] = False

    def __init__(self, brokers: Brokers) -> None:
        self._brokers = brokers

    def check(self) -> None:
        """Do nothing: it requires only Flux."""

    def command(self, name: str, host: str) -> list[str]:
        """Return the command for one broker on this machine."""
        return self._brokers.command(name, host)

    def environment(self) -> dict[str, str]:
        """Return its environment."""
        return clean_environment()

    @property
    def max_lifetime(self) -> float:
        """Maximum life of a process: nothing ends it automatically."""
        return math.inf

    @property
    def not_renewable(self) -> str:
        """Empty: nothing ends processes automatically, so any lease will do."""
        return ""

    def renew(self, name: str, until: float) -> float:
        """Processes have no lease: only :meth:`end` ends them."""
        return until

    def launch(self, name: str, hosts: Sequence[str], lease: float | None = None) -> None:
        """Start a process for each host without one; nothing ends it automatically."""
        running = self._leaders(name)
        everything = format_hostlist(dict.fromkeys([*running, *hosts]))
        environment = broker_environment(self.environment())
        for host in hosts:
            if host in running:
                continue
            shutil.rmtree(self._brokers.rundir(name, host), ignore_errors=True)
            marks = self._brokers.marks(name, host, everything)
            log = self._brokers.log(name, host)
            try:
                processes.spawn(self.command(name, host), {**environment, **marks}, log)
            except OSError as error:
                raise BurstError(f"cannot start broker {host}: {error}") from error

    def launched(self) -> Sequence[Launched]:
        """Return the bursts found through processes and run directories."""
        running: dict[str, dict[str, psutil.Process]] = {}
        declared: dict[str, set[str]] = {}
        for process, environment in self._ours():
            name = self._burst_of(environment)
            hosts = parse_hostlist(environment.get(HOSTS_VARIABLE, ""))
            declared.setdefault(name, set()).update(hosts)
            if self._is_broker(process, environment):
                running.setdefault(name, {})[environment[HOST_VARIABLE]] = process
        for name, host in self._run_directories():
            declared.setdefault(name, set()).add(host)
        return [self._as_launched(n, h, running.get(n, {})) for n, h in sorted(declared.items())]

    def end(self, name: str) -> None:
        """End the processes, with SIGTERM first, and remove the files of killed ones."""
        left = processes.end(lambda: [p for p, e in self._ours() if self._burst_of(e) == name])
        if left:
            raise BurstError(f"cannot end its processes {', '.join(map(str, left))}")
        for burst, host in self._run_directories():
            if burst == name:
                shutil.rmtree(self._brokers.rundir(name, host), ignore_errors=True)

    def _as_launched(
        self, name: str, hosts: set[str], running: Mapping[str, psutil.Process]
    ) -> Launched:
        started = [process.create_time() for process in running.values()]
        return Launched(
            name,
            tuple(sorted(hosts)),
            lost=frozenset(hosts - running.keys()),
            since=min(started, default=0.0),
        )

    def _leaders(self, name: str) -> dict[str, psutil.Process]:
        return {
            environment[HOST_VARIABLE]: process
            for process, environment in self._ours()
            if self._is_broker(process, environment) and environment[BURST_VARIABLE] == name
        }

    def _is_broker(self, process: psutil.Process, environment: Mapping[str, str]) -> bool:
        return HOST_VARIABLE in environment and processes.leads_its_session(process)

    def _ours(self) -> list[tuple[psutil.Process, dict[str, str]]]:
        """Return the processes of this instance's bursts, with their environments."""
        return [
            (process, environment)
            for process, environment in processes.environments()
            if environment.get(TAG_VARIABLE) == self._brokers.tag or self._burst_of(environment)
        ]

    def _burst_of(self, environment: Mapping[str, str]) -> str:
        """Return the burst of a process: of a broker, or of a job under one."""
        if environment.get(TAG_VARIABLE) == self._brokers.tag:
            return environment.get(BURST_VARIABLE, "")
        uri = environment.get("FLUX_URI", "").removeprefix("local://")
        name, _ = self._read(Path(uri).parent) if uri else ("", "")
        return name

    def _run_directories(self) -> list[tuple[str, str]]:
        """Return burst and host of each existing run directory."""
        pattern = f"fluxburst-{self._brokers.tag}-*@*"
        return [self._read(path) for path in self._brokers.run_dir.glob(pattern)]

    def _read(self, rundir: Path) -> tuple[str, str]:
        """Return burst and host of a run directory; empty strings for any other directory."""
        prefix = f"fluxburst-{self._brokers.tag}-"
        if rundir.parent != self._brokers.run_dir or not rundir.name.startswith(prefix):
            return "", ""
        name, _, host = rundir.name.removeprefix(prefix).partition("@")
        return name, host
