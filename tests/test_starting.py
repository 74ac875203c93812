"""Jobs that do not start although their nodes are ready and free: said, released, not repeated."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
from tests.support import Apart, Joining, Stubborn, Told, client_on, spec

from fluxburst import BurstState, FluxBurst, NodeType
from fluxburst.config.policy import Lifetimes, Policy, Timeouts
from fluxburst.formats.units import Duration
from fluxburst.model.plan import Decision, Outcome
from fluxburst.reports import timeline
from fluxburst.simulation.embedded import EmbeddedInstance

LATE = 320.0
POLICY = Policy(lifetimes=Lifetimes(idle_timeout=Duration(120.0)))


class World:
    """A client whose job of four cores has nodes that are ready, and does not start."""

    def __init__(self, *, free: bool = False, state_dir: Path | None = None, **policy: Any) -> None:
        self.instance = Stubborn()
        if free:
            self.instance.add_nodes(["lead"], NodeType("lead", cores=4))
        self.cloud = Joining("cloud", self.instance, NodeType("a", cores=4))
        self.job = self.instance.submit(spec(1, 4, burstable=True))
        self.state_dir = state_dir
        self.policy = Policy(lifetimes=POLICY.lifetimes, **policy)
        self.told = Told()
        self.client = self.new_client()

    def new_client(self) -> FluxBurst:
        client = client_on(self.instance, self.cloud, policy=self.policy, state_dir=self.state_dir)
        client.hooks.register(self.told, "told")
        return client

    def step(self, seconds: float = 0.0) -> None:
        self.instance.advance(seconds)
        self.client.run_pass(everything=True, patience=10.0)

    def steps(self, seconds: float) -> None:
        """Let time pass, with a pass every 20 seconds."""
        for _ in range(int(seconds // 20.0)):
            self.step(20.0)
        self.step(seconds % 20.0)

    def decision(self) -> Decision:
        (decided,) = self.client.plan().decisions
        return decided

    def reasons(self) -> list[str]:
        return [p.reason for p in self.client.ledger.assignments(self.job)]

    @property
    def burst(self) -> str:
        return self.cloud.created[0]


@pytest.fixture
def world() -> World:
    made = World()
    made.step()
    made.step()
    return made


def test_a_job_that_does_not_start_is_said_once_released_and_backs_off(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        world.steps(LATE)
        world.steps(40.0)
    assert world.told.events == [([world.job], "cloud", world.burst)]
    said = [r.getMessage() for r in caplog.records if "did not start" in r.getMessage()]
    assert len(said) == 1
    assert f"did not start on burst {world.burst} within 5m" in said[0]
    (reason,) = world.reasons()
    assert reason.startswith("it did not start within 5m although nodes that it fits on are free")
    decided = world.decision()
    assert decided.outcome is Outcome.UNMATCHED
    assert decided.reasons[0].startswith(reason)
    assert "it is retried after 2023-11-14 22:1" in decided.reasons[0]
    events = timeline.of_job(world.client.ledger, world.job, world.instance.now()).events
    assert reason in [event.why for event in events if event.kind == "taken back"]


def test_its_burst_becomes_idle_and_ends(world: World) -> None:
    world.steps(LATE)
    entry = world.client.ledger.entry(world.burst)
    assert entry is not None
    assert entry.idle is not None
    world.instance.cancel_jobs([world.job], "not wanted")
    world.steps(140.0)
    assert world.cloud.deleted == [world.burst]


def test_it_is_tried_again_ever_more_rarely(world: World) -> None:
    world.steps(2 * 3600.0)
    tries = len(world.reasons())
    assert 5 <= tries <= 10
    assert len(world.cloud.created) <= tries
    assert "times in a row)" in world.decision().reasons[0] or world.decision().plugin


def test_what_starts_in_time_is_left_alone(world: World) -> None:
    world.steps(LATE - 40.0)
    world.instance.starts = True
    world.steps(40.0)
    assert (world.told.events, world.reasons()) == ([], [""])


def test_the_clock_starts_when_the_nodes_are_ready() -> None:
    world = World()
    world.cloud.boot = 280.0
    world.step()
    world.steps(LATE)
    assert world.told.events == []
    world.steps(280.0)
    assert len(world.told.events) == 1


def test_time_in_which_the_nodes_are_not_free_does_not_count(world: World) -> None:
    world.steps(LATE - 40.0)
    world.instance.drain([0], "testing")
    world.steps(600.0)
    assert world.told.events == []
    world.instance.undrain([0])
    world.steps(LATE - 40.0)
    assert world.told.events == []
    world.steps(60.0)
    assert len(world.told.events) == 1


@pytest.mark.parametrize("jump", [86400.0, -86400.0])
def test_a_clock_that_jumps_releases_nothing(world: World, jump: float) -> None:
    world.step(20.0)
    world.instance.skew = jump
    world.step(20.0)
    assert world.told.events == []


def test_a_process_that_begins_takes_what_was_before_from_the_ledger(tmp_path: Path) -> None:
    world = World(state_dir=tmp_path)
    world.step()
    world.step()
    for seconds in (150.0, 151.0):
        world.client.close()
        world.instance.advance(seconds)
        world.client = world.new_client()
        world.step()
    assert len(world.told.events) == 1
    world.client.close()
    world.client = world.new_client()
    assert world.decision().outcome is Outcome.UNMATCHED


def test_what_did_not_start_on_free_nodes_is_offered_anew_with_new_ones() -> None:
    world = World(free=True)
    world.step()
    assert world.cloud.created == []
    assert world.decision().outcome is Outcome.ALREADY_ASSIGNED
    world.steps(LATE)
    assert world.told.events == [([world.job], "cloud", "")]
    assert world.decision().outcome is Outcome.UNMATCHED
    world.steps(61.0)
    assert len(world.cloud.created) == 1
    (entry,) = world.client.ledger.live()
    assert (entry.burst.jobs, entry.burst.state) == ((world.job,), BurstState.READY)


def test_jobs_in_isolated_bursts_are_held_on_purpose() -> None:
    instance = EmbeddedInstance()
    instance.add_nodes(["lead"], NodeType("lead", cores=4))
    instance.submit(spec(1, 8, burstable=True))
    apart = Apart("apart", NodeType("a", cores=8))
    client = client_on(instance, apart)
    told = Told()
    client.hooks.register(told, "told")
    client.run_burst()
    (name,) = apart.there
    apart.becomes(name, state=BurstState.READY)
    instance.add_nodes(["big"], NodeType("big", cores=8))
    for _ in range(20):
        instance.advance(30.0)
        client.run_pass(everything=True, patience=10.0)
    assert told.events == []


def test_a_job_whose_queue_is_stopped_meanwhile_keeps_no_burst(world: World) -> None:
    world.instance.set_queue("", started=False, why_stopped="maintenance")
    world.step(20.0)
    assert world.reasons() == ["its queue is stopped (maintenance)"]
    assert world.decision().outcome is Outcome.NOT_STARTABLE
    world.steps(140.0)
    assert world.cloud.deleted == [world.burst]
    world.instance.set_queue("", started=True, why_stopped="")
    world.step(20.0)
    assert len(world.cloud.created) == 2  # at once: nothing came to nothing


def test_a_job_that_its_user_holds_is_released_too_when_its_queue_is_stopped(
    world: World,
) -> None:
    world.instance.set_urgencies({world.job: 0})
    world.instance.set_queue("", started=False, why_stopped="maintenance")
    world.step(20.0)
    assert world.reasons() == ["its queue is stopped (maintenance)"]
    world.instance.set_queue("", started=True, why_stopped="")
    world.steps(140.0)
    assert world.cloud.deleted == [world.burst]
    world.instance.set_urgencies({world.job: 16})
    world.step(20.0)
    assert len(world.cloud.created) == 2


def test_how_long_is_for_the_administrator_to_say() -> None:
    world = World(timeouts=Timeouts(start=Duration(30.0)))
    world.step()
    world.steps(60.0)
    assert len(world.told.events) == 1
