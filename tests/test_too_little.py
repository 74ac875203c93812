"""Bursts that come up with less than their jobs need: said, and paid for no longer than a while."""

from __future__ import annotations

import logging
from dataclasses import replace

import pytest
from tests.support import Joining, Told, client_on, spec

from fluxburst import Burst, BurstState, FluxBurst, NodeType
from fluxburst.config.policy import Lifetimes, Policy
from fluxburst.formats.units import Duration
from fluxburst.ledger import Breaker
from fluxburst.model.job import JobState
from fluxburst.model.plan import Decision, Outcome
from fluxburst.simulation.embedded import EmbeddedInstance

POLICY = Policy(lifetimes=Lifetimes(idle_timeout=Duration(120.0)))
LATE = 320.0
SAID = NodeType("a", cores=8, price=1.0)


class Fewer(Joining):
    """A plugin that answers a request for any number of nodes with one."""

    def create(self, burst: Burst) -> Burst:
        return replace(super().create(replace(burst, nodes=1)), nodes=1)


class Smaller(Joining):
    """A plugin whose nodes have half the cores that it says they have."""

    def _make(self, burst: Burst) -> None:
        self.there[burst.name] = replace(
            burst, hostnames=tuple(f"{burst.name}-{number}" for number in range(burst.nodes))
        )
        self.instance.add_nodes(self.there[burst.name].hostnames, NodeType("a", cores=4))


class World:
    """A client of such a plugin."""

    def __init__(self, kind: type[Joining]) -> None:
        self.instance = EmbeddedInstance()
        self.cloud = kind("cloud", self.instance, SAID)
        self.told = Told()
        self.client: FluxBurst = client_on(self.instance, self.cloud, policy=POLICY)
        self.client.hooks.register(self.told, "told")

    def submit(self, nodes: int, cores: int = 8, seconds: float = 60.0) -> int:
        takes = {"test": {"run_duration": f"{seconds}s"}}
        return self.instance.submit(spec(nodes, cores, burstable=1, duration=seconds, exec=takes))

    def steps(self, seconds: float, every: float = 20.0) -> None:
        for _ in range(int(seconds // every)):
            self.instance.advance(every)
            self.client.run_pass(everything=True, patience=10.0)

    def decisions(self) -> dict[int, Decision]:
        return {decided.id: decided for decided in self.client.plan().decisions}

    def is_pending(self, job: int) -> bool:
        return self.instance.job(job).state is JobState.SCHED


CASES: dict[str, tuple[type[Joining], int, str]] = {
    "fewer nodes": (
        Fewer,
        4,
        "it does not fit: it needs 4 nodes of 8 cores, but its burst has 1 node of 8 cores",
    ),
    "smaller nodes": (
        Smaller,
        2,
        "it does not fit: it needs 2 nodes of 8 cores, but its burst has 2 nodes of 4 cores "
        "(a node has 4 cores, but node_types() says 8)",
    ),
}
each = pytest.mark.parametrize(("kind", "nodes", "why"), CASES.values(), ids=CASES)


@each
def test_a_job_that_does_not_fit_on_what_came_is_released_and_what_came_ends(
    kind: type[Joining], nodes: int, why: str
) -> None:
    world = World(kind)
    job = world.submit(nodes)
    world.steps(LATE + 20.0)
    burst = world.cloud.created[0]
    assert world.told.events == [([job], "cloud", burst)]
    (assignment, *_) = world.client.ledger.assignments(job)
    assert assignment.reason == (
        f"it did not start within 5m although nothing runs on the nodes of its burst: {why}"
    )
    decided = world.decisions()[job]
    assert decided.outcome is Outcome.UNMATCHED
    assert why in decided.reasons[0]
    world.instance.cancel_jobs([job], "not wanted")
    world.steps(160.0)
    assert world.cloud.deleted == [burst]


@each
def test_its_node_type_is_not_asked_for_at_once_for_another_job(
    kind: type[Joining], nodes: int, why: str
) -> None:
    world = World(kind)
    job = world.submit(nodes)
    world.steps(LATE + 20.0)
    asked = len(world.cloud.created)
    breaker = world.client.ledger.breakers()["cloud", "a"]
    assert breaker.retry_at is not None
    assert breaker.retry_at > world.instance.now()
    assert why in breaker.error
    world.instance.cancel_jobs([job], "not wanted")
    other = world.submit(nodes + 1)
    world.steps(20.0)
    assert len(world.cloud.created) == asked
    assert world.decisions()[other].outcome is Outcome.UNMATCHED


def test_a_plugin_that_brings_up_smaller_nodes_than_it_says_is_warned_of_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    world = World(Smaller)
    world.submit(2)
    with caplog.at_level(logging.WARNING):
        world.steps(3600.0)
    (said,) = [r.getMessage() for r in caplog.records if "node of type 'a'" in r.getMessage()]
    assert said.startswith("plugin cloud, burst cloud-")
    assert "of type 'a' has joined with 4 cores, but node_types() says 8" in said


def test_a_plugin_that_answers_with_fewer_nodes_is_warned_of(
    caplog: pytest.LogCaptureFixture,
) -> None:
    world = World(Fewer)
    world.submit(4)
    with caplog.at_level(logging.WARNING):
        world.steps(20.0)
    assert "create() returned 1 node, but 4 were requested" in caplog.text


@each
def test_money_does_not_run_for_a_burst_that_its_job_never_fits_on(
    kind: type[Joining], nodes: int, why: str
) -> None:
    """Without more nodes that would do, what was brought up first has ended within a quarter."""
    world = World(kind)
    job = world.submit(nodes)
    world.steps(1000.0)
    world.instance.cancel_jobs([job], "not wanted")
    world.steps(800.0)
    assert world.client.ledger.live() == []


def test_what_fits_on_fewer_nodes_runs_there_and_what_never_does_is_released_meanwhile() -> None:
    """Two jobs that share a burst of two nodes, of which one comes."""
    world = World(Fewer)
    small = world.submit(1, 4, seconds=7200.0)
    large = world.submit(2, 4, seconds=7200.0)
    world.steps(20.0)
    (entry,) = world.client.ledger.live()
    assert set(entry.burst.jobs) == {small, large}
    world.steps(LATE + 20.0)
    assert not world.is_pending(small)
    assert world.told.events == [([large], "cloud", entry.burst.name)]
    (reason, *_) = [p.reason for p in world.client.ledger.assignments(large)]
    assert reason == (
        "it did not start within 5m although its burst is ready: it does not fit: it needs "
        "2 nodes of 4 cores, but its burst has 1 node of 8 cores"
    )
    known = world.client.ledger.entry(entry.burst.name)
    assert known is not None
    assert known.burst.state is BurstState.READY


def test_a_job_that_waits_for_others_on_its_burst_is_left_alone() -> None:
    world = World(Joining)
    first = world.instance.submit(spec(1, 8, duration=7200.0))
    job = world.submit(1)
    world.steps(1800.0)
    assert not world.is_pending(first)
    assert world.is_pending(job)
    assert world.told.events == []
    assert [p.reason for p in world.client.ledger.assignments(job)] == [""]


def test_a_job_that_waits_for_other_nodes_lets_no_burst_idle_for_long() -> None:
    """It got new nodes beside one that was free, which another job has taken since."""
    world = World(Joining)
    world.instance.add_nodes(["lead"], NodeType("lead", cores=8))
    world.cloud.boot = 60.0
    job = world.submit(2)
    world.client.run_pass(everything=True, patience=10.0)
    (entry,) = world.client.ledger.live()
    assert entry.burst.nodes == 1
    other = world.instance.submit(spec(1, 8, duration=7200.0), urgency=31)
    world.steps(LATE + 80.0)
    assert not world.is_pending(other)
    assert world.told.events == [([job], "cloud", entry.burst.name)]
    (reason, *_) = [p.reason for p in world.client.ledger.assignments(job)]
    assert "it does not fit on the free part: it needs 2 nodes of 8 cores" in reason
    assert world.client.ledger.breakers().get(("cloud", "a")) in (None, Breaker("cloud", "a"))
