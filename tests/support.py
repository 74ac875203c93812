from __future__ import annotations

import functools
import shutil
import signal
import subprocess
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

from fluxburst import (
    Burst,
    BurstParameters,
    BurstPlugin,
    BurstState,
    FluxBurst,
    Job,
    NodeType,
    hookimpl,
)
from fluxburst.config.file import Config
from fluxburst.config.policy import Policy
from fluxburst.ledger import Assignment
from fluxburst.model.burst import prefix_of, tag_of
from fluxburst.model.job import Mark
from fluxburst.model.node import Node
from fluxburst.simulation.embedded import EmbeddedInstance
from fluxburst.simulation.recordings import Recording


class Elsewhere(BurstPlugin):
    """A burst plugin of one node type whose nodes are up at once; it notes what it is asked."""

    def __init__(self, name: str, *types: NodeType, fails: Exception | None = None) -> None:
        super().__init__(BurstParameters())
        self.name = name
        self.types = types or (NodeType("node", cores=8),)
        self.fails = fails
        self.created: list[str] = []
        self.deleted: list[str] = []

    def node_types(self) -> tuple[NodeType, ...]:
        return self.types

    def create(self, burst: Burst) -> Burst:
        self.created.append(burst.name)
        if self.fails is not None:
            raise self.fails
        return replace(burst, state=BurstState.READY)

    def delete(self, burst: Burst) -> None:
        self.deleted.append(burst.name)


class Joining(Elsewhere):
    """A burst plugin whose nodes join an embedded instance.

    ``there`` is its cloud: what exists, by name, and outlasts the plugin if it is handed on.
    """

    def __init__(
        self,
        name: str,
        instance: EmbeddedInstance,
        *types: NodeType,
        boot: float = 0.0,
        there: dict[str, Burst] | None = None,
    ) -> None:
        super().__init__(name, *types)
        self.instance = instance
        self.boot = boot
        self.there = {} if there is None else there

    def create(self, burst: Burst) -> Burst:
        self.created.append(burst.name)
        if self.fails is not None:
            raise self.fails
        if burst.name not in self.there:
            self._make(burst)
        hosts = self.there[burst.name].hostnames
        return replace(burst, state=BurstState.STARTING, hostnames=hosts)

    def _make(self, burst: Burst) -> None:
        hosts = tuple(f"{burst.name}-{number}" for number in range(burst.nodes))
        self.there[burst.name] = replace(burst, hostnames=hosts)
        node_type = next(t for t in self.types if t.name == burst.node_type)

        def join() -> None:
            if burst.name in self.there:
                self.instance.add_nodes(hosts, node_type, node_type.properties)

        if self.boot:
            self.instance.at(self.instance.now() + self.boot, join)
        else:
            join()

    def delete(self, burst: Burst) -> None:
        super().delete(burst)
        gone = self.there.pop(burst.name, None)
        if gone is not None:
            self.instance.remove_nodes(gone.hostnames)

    def list_bursts(self) -> Collection[str]:
        return list(self.there)


class Apart(Elsewhere):
    """A burst plugin of isolated bursts; ``there`` is its cloud, ``ran`` the jobs it has begun."""

    isolated = True
    run_as = "owner"

    def __init__(self, name: str, *types: NodeType, there: dict[str, Burst] | None = None) -> None:
        super().__init__(name, *types)
        self.there = {} if there is None else there
        self.ran: list[int] = []
        self.lists = True

    def create(self, burst: Burst) -> Burst:
        self.created.append(burst.name)
        if self.fails is not None:
            raise copy(self.fails)  # which is of this burst then
        if burst.name not in self.there:
            self.there[burst.name] = replace(burst, state=BurstState.STARTING)
            self.ran.extend(burst.jobs)
        return self.there[burst.name]

    def becomes(self, name: str, **fields: Any) -> None:
        """Have a burst be different from now on."""
        self.there[name] = replace(self.there[name], **fields)

    def refresh(self, burst: Burst) -> Burst:
        gone = replace(burst, state=BurstState.FAILED, error="it is gone")
        return self.there.get(burst.name, gone)

    def adopt(self) -> Sequence[Burst] | None:
        return list(self.there.values()) if self.lists else None

    def delete(self, burst: Burst) -> None:
        super().delete(burst)
        self.there.pop(burst.name, None)

    def list_bursts(self) -> Collection[str]:
        return list(self.there)


class Stubborn(EmbeddedInstance):
    """An instance whose scheduler starts nothing, for a reason that nobody knows of."""

    starts = False
    skew = 0.0

    def now(self) -> float:
        return super().now() + self.skew

    def _schedule(self) -> None:
        if self.starts:
            super()._schedule()


class Told:
    """Notes what observers are told of jobs that did not start."""

    def __init__(self) -> None:
        self.events: list[tuple[list[int], str, str]] = []

    @hookimpl
    def fluxburst_jobs_not_started(
        self, jobs: Sequence[Job], plugin: BurstPlugin, burst: str
    ) -> None:
        self.events.append(([job.id for job in jobs], plugin.name, burst))


def spec(
    nodes: int | None = 1, cores: int = 1, *, exclusive: bool = False, **system: Any
) -> dict[str, Any]:
    """Return a jobspec: so many nodes with so many cores each, or slots where nodes is None."""
    slot: dict[str, Any] = {
        "type": "slot",
        "count": 1,
        "label": "task",
        "with": [{"type": "core", "count": cores}],
    }
    if nodes is not None:
        slot = {"type": "node", "count": nodes, "with": [slot]}
        if exclusive:
            slot["exclusive"] = True
    return {
        "version": 1,
        "resources": [slot],
        "tasks": [{"command": ["hostname"], "slot": "task", "count": {"per_slot": 1}}],
        "attributes": {"system": {"duration": 0.0, **system}},
    }


def job(jobid: int, jobspec: Any = None, **record: Any) -> Job:
    """Return a pending job that waits for capacity only."""
    return Job(
        {
            "id": jobid,
            "userid": 1000,
            "urgency": 16,
            "priority": 16,
            "state": 8,
            "t_submit": 1000.0,
            "spec": spec(burstable=1) if jobspec is None else jobspec,
            **record,
        }
    )


def client_with(
    *plugins: BurstPlugin, jobs: tuple[Job, ...] = (), nodes: tuple[Node, ...] = ()
) -> FluxBurst:
    """Return a client on an embedded instance with these plugins loaded, by their own names."""
    client = FluxBurst(EmbeddedInstance(Recording(jobs, nodes)))
    for plugin in plugins:
        client.hooks.register(plugin, f"fluxburst-{plugin.name}")
        client.plugins[plugin.name] = plugin
    return client


def client_on(
    instance: EmbeddedInstance,
    *plugins: BurstPlugin,
    policy: Policy | None = None,
    state_dir: Path | None = None,
) -> FluxBurst:
    """Return one more client of an instance, with these plugins loaded, by their own names."""
    client = FluxBurst(instance, config=Config(policy=policy or Policy()), state_dir=state_dir)
    for plugin in plugins:
        client.hooks.register(plugin, f"fluxburst-{plugin.name}")
        client.plugins[plugin.name] = plugin
    return client


def assign(client: FluxBurst, marks: Mapping[int, Mark]) -> None:
    """Have jobs assigned as a client assigns them: recorded in the ledger, and marked."""
    client.ledger.assign(
        Assignment(job, mark.plugin, mark.burst, 0.0, queue=mark.queue, urgency=mark.urgency)
        for job, mark in marks.items()
    )
    client.instance.set_marks(marks)


def named(plugin: str, rest: object, instance: str = "") -> str:
    """Return a name of the form that a plugin's bursts have.

    Args:
        plugin: The plugin's name.
        rest: How the name ends: up to eight hexadecimal digits.
        instance: The instance's name; a plugin that no client has loaded knows none.
    """
    return f"{prefix_of(plugin, tag_of(instance))}{rest}"


@functools.cache
def flux_available() -> bool:
    """Whether there is a live Flux to test with, and a binding to talk to it."""
    if shutil.which("flux") is None:
        return False
    probe = [sys.executable, "-c", "import flux, flux.job"]
    return subprocess.run(probe, capture_output=True, check=False).returncode == 0


@contextmanager
def at_most(seconds: float) -> Iterator[None]:
    def stop(*_: object) -> None:
        raise TimeoutError(f"still busy after {seconds} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
