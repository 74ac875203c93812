"""One scenario for every burst plugin: what a site goes through, step by step.

Each step brings bursts up, has something go wrong, and proves that nothing is left. What came of it
is a cell of the table in ``docs/plugins.md``, which :func:`check_table` compares, or writes.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from tests.elastic_instance import ElasticInstance, wait_until
from tests.support import Elsewhere

from fluxburst import Burst, BurstState, Duration, FluxBurst
from fluxburst.cli.progress import follow
from fluxburst.config.policy import Lifetimes, Policy, Timeouts
from fluxburst.errors import BurstErrors
from fluxburst.model.node import NodeType

TABLE = Path(__file__).parent.parent / "docs" / "plugins.md"
WRITE_VARIABLE = "WRITE_PLUGINS_TABLE"
COLUMNS = (
    "jobs of 1, 2 and 3 nodes",
    "out of capacity",
    "machines that never join",
    "killed and restarted",
    "end of the lease",
    "isolated",
    "nothing is left",
)
SIZES = (1, 2, 3)
LEASE_SECONDS = 10.0
JOIN_SECONDS = 3.0


class World(Protocol):
    """An instance, and a provider that things can be done to.

    Attributes:
        plugin: The plugin's name.
        full: The provider has no capacity.
        joins: The machines that it makes join.
        isolates: The plugin has isolated bursts.
    """

    plugin: str
    full: bool
    joins: bool
    isolates: bool

    def client(self, policy: Policy | None = None, *, isolated: bool = False) -> FluxBurst:
        """Return a new client with the plugin loaded; that of before is closed."""
        ...

    def submit(self, nodes: int, *command: str) -> int:
        """Submit a job that may burst, and has its nodes for itself; return its id."""
        ...

    def follow(self, client: FluxBurst) -> list[Burst]:
        """Return the bursts once none is coming any more."""
        ...

    def result(self, jobid: int) -> str:
        """Return a job's result, as ``flux jobs`` calls it, and the note of its exception."""
        ...

    def kill_while_it_brings_up(self) -> None:
        """Run a cycle in another process, and kill that as soon as there is something."""
        ...

    def pass_lease(self) -> None:
        """Let the time of a lease go by."""
        ...

    def running(self) -> list[str]:
        """Return the machines, or pods, that run now."""
        ...

    def left(self) -> list[str]:
        """Return all that is left of bursts, also in the instance."""
        ...


def run(world: World) -> dict[str, str]:
    """Go through the scenario; return what came of each step."""
    steps = (
        _three_jobs,
        _out_of_capacity,
        _never_joins,
        _killed,
        _end_of_the_lease,
        _isolated,
        _proof,
    )
    return {column: step(world) for column, step in zip(COLUMNS, steps, strict=True)}


def check_table(plugin: str, came: Mapping[str, str]) -> None:
    """Check that the table says what came of the steps; with the variable set, have it say so."""
    row = f"| {' | '.join([f'`{plugin}`', *(came[column] for column in COLUMNS)])} |"
    text = TABLE.read_text()
    pattern = re.compile(rf"^\| `{plugin}` \|.*$", re.MULTILINE)
    if os.environ.get(WRITE_VARIABLE):
        TABLE.write_text(pattern.sub(lambda _: row, text))
    else:
        assert pattern.findall(text) == [row]


# --- the steps ---------------------------------------------------------------------------------


def _three_jobs(world: World) -> str:
    jobs = [world.submit(nodes) for nodes in SIZES]
    client = world.client()
    client.run_burst()
    bursts = world.follow(client)
    assert {burst.state for burst in bursts} == {BurstState.READY}, bursts
    nodes = sum(burst.nodes for burst in bursts)
    assert nodes == sum(SIZES)
    client.wait_for_jobs(jobs)
    assert [world.result(job) for job in jobs] == ["COMPLETED"] * 3
    client.run_unburst()
    assert world.left() == []
    return "run"


def _out_of_capacity(world: World) -> str:
    world.full = True
    client = world.client()
    spare = Elsewhere("spare", NodeType("spare", cores=64))
    client.hooks.register(spare, "fluxburst-spare")
    client.plugins["spare"] = spare
    job = world.submit(2)
    client.run_burst()
    (given,) = [found.mark for found in client.instance.pending_jobs() if found.id == job]
    assert given is not None
    assert given.plugin == "spare"
    assert spare.created == [given.burst]
    client.run_unburst()
    world.full = False
    assert world.left() == []
    _comes_up_and_runs(world, world.client(), job)
    return "taken by the next plugin in the same pass"


def _never_joins(world: World) -> str:
    world.joins = False
    policy = Policy(timeouts=Timeouts(join=Duration(JOIN_SECONDS)))
    client = world.client(policy)
    job = world.submit(2)
    client.run_burst()
    (burst,) = world.follow(client)
    assert burst.state is BurstState.FAILED
    assert "did not join within" in burst.error
    world.joins = True
    assert world.left() == []
    (waiting,) = [found for found in client.instance.pending_jobs() if found.id == job]
    assert waiting.mark is None
    _comes_up_and_runs(world, world.client(), job)
    return "terminated in time, job released"


def _killed(world: World) -> str:
    job = world.submit(2)
    world.kill_while_it_brings_up()
    client = world.client()
    _comes_up_and_runs(world, client, job)
    made = {e.burst.name for e in client.ledger.entries() if job in e.burst.jobs and e.ready}
    assert len(made) == 1
    assert not any(name.endswith("-2") for name in made)
    return "adopted"


def _end_of_the_lease(world: World) -> str:
    policy = Policy(
        lifetimes=Lifetimes(
            lease=Duration(LEASE_SECONDS),
            teardown=Duration(1.0),
            idle_timeout=Duration(1.0),
            assumed_duration=Duration(0.0),  # it outlives its nodes, which is what is tried here
        )
    )
    client = world.client(policy)
    world.submit(2, "sleep", "inf")
    client.run_burst()
    (burst,) = world.follow(client)
    assert burst.state is BurstState.READY
    client.close()
    world.pass_lease()
    client = world.client(policy)
    ended_alone = not world.running()
    for jobid in client.instance.job_ids():
        client.instance.cancel_jobs([jobid], "the scenario goes on")
    _pass_until(client, lambda: not client.ledger.live())
    assert world.left() == []
    return "by the provider" if ended_alone else "by the next pass"


def _isolated(world: World) -> str:
    if not world.isolates:
        return "–"
    client = world.client(isolated=True)
    job = world.submit(2, "sh", "-c", "exit 3")
    client.run_burst()
    (held,) = [found for found in client.instance.pending_jobs() if found.id == job]
    assert held.not_startable == "is held (urgency 0)"
    _pass_until(client, lambda: not client.ledger.live())
    assert world.result(job).startswith("FAILED it failed in burst"), world.result(job)
    assert "with exit code 3; its output: " in world.result(job)
    assert world.left() == []
    return "same exit code here"


def _proof(world: World) -> str:
    client = world.client()
    client.run_unburst()
    assert client.remaining() == []
    assert world.left() == []
    assert [entry.burst.name for entry in client.ledger.entries() if entry.ended is None] == []
    return "verified"


def _comes_up_and_runs(world: World, client: FluxBurst, job: int) -> None:
    """Have a job of two nodes get them and complete, and take them down."""
    client.run_burst()
    bursts = world.follow(client)
    ready = [burst for burst in bursts if burst.state is BurstState.READY]
    assert sum(burst.nodes for burst in ready) == 2, bursts
    client.wait_for_jobs([job])
    assert world.result(job) == "COMPLETED"
    client.run_unburst()
    assert world.left() == []


def _pass_until(client: FluxBurst, condition: Any) -> None:
    until = time.monotonic() + 90
    while not condition():
        assert time.monotonic() < until
        client.instance.wait(0.2)
        try:
            client.run_pass(everything=True, patience=30.0)
        except BurstErrors:
            continue


# --- live --------------------------------------------------------------------------------------


class LiveWorld:
    """A live elastic instance whose lead is busy, and a provider of real brokers.

    Subclasses say what the provider has: ``full``, ``joins`` and ``provider_left``.
    """

    isolates = False
    full = False
    joins = True

    def __init__(self, instance: ElasticInstance) -> None:
        self.instance = instance
        self.plugin = instance.plugin
        instance.flux("submit", "-N1", "--exclusive", "sleep", "inf")

    def parameters(self) -> dict[str, Any]:
        """Return parameters for the provider as it is now."""
        return {}

    def provider_left(self) -> list[str]:
        """Return what is left of bursts outside the instance."""
        raise NotImplementedError

    def client(self, policy: Policy | None = None, *, isolated: bool = False) -> FluxBurst:
        """Return a new client."""
        isolation = {"isolated_burst": True} if isolated else {}
        return self.instance.client(policy, **self.parameters(), **isolation)

    def submit(self, nodes: int, *command: str) -> int:
        """Submit a job; one that does not end has no time limit."""
        limits = [f"-N{nodes}", "--exclusive", "-oexit-timeout=1s"]
        limits += [] if command[:1] == ("sleep",) else ["-t10m"]
        return self.instance.submit(*limits, *(command or ["true"]))

    def follow(self, client: FluxBurst) -> list[Burst]:
        """Wait for what is coming."""
        return follow(client, 90, quiet=True)

    def result(self, jobid: int) -> str:
        """Return a job's result."""
        template = "{result} {exception.note}"
        return self.instance.flux("jobs", "-no", template, str(jobid)).strip()

    def kill_while_it_brings_up(self) -> None:
        """Kill ``fluxburst run`` as soon as the provider has something."""
        self.instance.release()
        config = self.instance.config_file(
            self.instance.directory.parent / "killed.toml", **self.parameters()
        )
        run = subprocess.Popen(
            [sys.executable, "-m", "fluxburst", "--config", str(config), "run"],
            env=self.instance.flux.environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            wait_until(
                lambda: self.provider_left() or run.poll() is not None, "it asked", every=0.02
            )
        finally:
            run.kill()
        assert run.wait() == -9

    def pass_lease(self) -> None:
        """Wait until the provider has ended what it had, or for the lease and some more."""
        until = time.monotonic() + LEASE_SECONDS + 5
        while self.running() and time.monotonic() < until:
            time.sleep(0.1)

    def running(self) -> list[str]:
        """Return what runs."""
        return self.provider_left()

    def left(self) -> list[str]:
        """Return what is left."""
        drained = self.instance.drained()
        return self.provider_left() + ([f"drained: {drained}"] if drained else [])


@contextmanager
def tidied(world: LiveWorld) -> Iterator[LiveWorld]:
    """Yield a world, and end what it has, however the scenario went."""
    try:
        yield world
    finally:
        world.joins, world.full = True, False
        world.instance.clear(**world.parameters())
