"""Bursts that wait in their provider's queue: for how long, and what that costs."""

from __future__ import annotations

import logging
import math
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console
from tests.support import Elsewhere, Joining, client_on, spec

from fluxburst import Burst, BurstState, Duration, NodeType
from fluxburst.cli.status import shown_status
from fluxburst.config.policy import Lifetimes, Limits, Policy, Timeouts
from fluxburst.errors import BurstError, BurstErrors
from fluxburst.ledger import Entry
from fluxburst.model.job import JobState
from fluxburst.reports import status
from fluxburst.service.loop import Service
from fluxburst.simulation.embedded import EmbeddedInstance

MINUTE, HOUR, DAY = 60.0, 3600.0, 86400.0
NODE = NodeType("node", cores=8, price=1.0)


class Queueing(Joining):
    """A provider that keeps requests in a queue, until it is told to bring them up."""

    def __init__(
        self,
        instance: EmbeddedInstance,
        there: dict[str, Burst] | None = None,
        node_type: NodeType = NODE,
    ) -> None:
        super().__init__("queue", instance, node_type, there=there)
        self.starts = False
        self.mute = False

    def create(self, burst: Burst) -> Burst:
        self.created.append(burst.name)
        self.there.setdefault(burst.name, replace(burst, state=BurstState.REQUESTED))
        return self.there[burst.name]

    def list_bursts(self) -> Collection[str]:
        if self.mute:
            raise BurstError("the controller is down")
        return super().list_bursts()

    def refresh(self, burst: Burst) -> Burst:
        if not self.starts:
            return replace(burst, error="Resources")
        if not self.there[burst.name].hostnames:
            self._make(burst)
        hosts = self.there[burst.name].hostnames
        since = self.instance.now() if burst.since is None else burst.since
        return replace(burst, state=BurstState.STARTING, hostnames=hosts, since=since)


class World:
    """A client of an embedded instance, looked after every ten minutes of its virtual time."""

    def __init__(
        self,
        *others: Elsewhere,
        request: float | None = None,
        limits: Limits | None = None,
        plugin: type[Queueing] = Queueing,
        node_type: NodeType = NODE,
        lease: float = 30 * DAY,
    ) -> None:
        self.instance = EmbeddedInstance()
        self.plugin = plugin(self.instance, node_type=node_type)
        timeouts = Timeouts() if request is None else Timeouts(request=Duration(request))
        lifetimes = Lifetimes(lease=Duration(lease))
        self.policy = Policy(lifetimes, timeouts, limits=limits or Limits())
        self.client = client_on(self.instance, self.plugin, *others, policy=self.policy)
        self.said: list[str] = []

    def __enter__(self) -> World:
        return self

    def __exit__(self, *_: object) -> None:
        self.client.close()

    @property
    def entries(self) -> list[Entry]:
        return self.client.ledger.entries()

    @property
    def first(self) -> Entry:
        return self.entries[0]

    def submit(self) -> int:
        return self.instance.submit(spec(1, 8, burstable=1, duration=HOUR))

    def watch(self, seconds: float, step: float = 10 * MINUTE) -> World:
        until = self.instance.now() + seconds
        while self.instance.now() < until:
            try:
                self.client.run_pass(everything=True, patience=math.inf)
            except BurstErrors as failures:
                self.said += map(str, failures.errors)
            self.instance.advance(min(step, until - self.instance.now()))
        return self


def test_by_default_a_burst_waits_in_its_providers_queue_for_a_day() -> None:
    assert Timeouts().request == DAY
    with World() as world:
        job = world.submit()
        world.watch(DAY)
        assert [entry.burst.state for entry in world.entries] == [BurstState.REQUESTED]
        world.watch(20 * MINUTE)
        assert (world.first.live, world.first.burst.state) == (False, BurstState.FAILED)
        assert world.plugin.deleted == [world.first.burst.name]
        assert world.instance.job(job).state is JobState.SCHED


def test_the_reason_names_how_long_it_waited_and_for_what() -> None:
    with World(request=2 * HOUR) as world:
        world.submit()
        world.watch(2 * HOUR + 20 * MINUTE)
        assert world.first.burst.error == (
            "it waited in its provider's queue for 2h10m, but request in [timeouts] is 2h: "
            "Resources"
        )


def test_it_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    with World(request=2 * HOUR) as world:
        world.submit()
        service = Service(world.client)
        world.instance.at(world.instance.now() + 2 * HOUR + 30.0, service.stop)
        service.run(100_000)
        warned = [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]
        name = world.first.burst.name
        (text,) = [text for text in warned if name in text]
        assert text.startswith(f"plugin queue, burst {name}: it waited in its provider's queue")


def test_its_job_is_released_and_offered_to_the_next_plugin_in_the_same_pass() -> None:
    next_one = Elsewhere("next")
    with World(next_one, request=2 * HOUR) as world:
        job = world.submit()
        world.watch(2 * HOUR)
        assert next_one.created == []
        world.watch(20 * MINUTE)
        assert len(next_one.created) == 1
        first, second = world.client.ledger.assignments(job)
        assert (first.plugin, second.plugin) == ("queue", "next")
        assert "it waited in its provider's queue for 2h10m" in first.reason
        assert first.released == second.at


def test_its_node_type_is_not_asked_for_again_at_once_and_ever_more_rarely() -> None:
    with World(request=2 * HOUR) as world:
        job = world.submit()
        world.watch(2 * HOUR)
        world.watch(HOUR, step=10.0)
        breaker = world.client.ledger.breakers()["queue", "node"]
        assert breaker.failures == 1
        assert "it waited in its provider's queue" in breaker.error
        first, second = world.entries
        assert first.ended is not None
        assert 45.0 <= second.requested - first.ended <= 90.0  # [breakers] backoff, by and large
        reasons = [why for _, d in world.client.ledger.decisions(job) for why in d.reasons]
        assert any("it failed 1 time in a row" in why for why in reasons)


def test_a_burst_that_its_provider_begins_to_bring_up_in_time_stays() -> None:
    with World(request=2 * HOUR) as world:
        world.submit()
        world.watch(2 * HOUR - 20 * MINUTE)
        world.plugin.starts = True
        world.watch(40 * MINUTE)
        assert [entry.burst.state for entry in world.entries] == [BurstState.READY]


def test_a_burst_may_wait_for_ever() -> None:
    with World(request=math.inf) as world:
        world.submit()
        world.watch(30 * DAY, step=6 * HOUR)
        assert [entry.burst.state for entry in world.entries] == [BurstState.REQUESTED]


@pytest.mark.parametrize("lease", [HOUR, 30 * DAY])
@pytest.mark.parametrize("renewed", ["", "only operators may raise time limits"])
def test_the_life_of_its_node_type_begins_when_the_provider_begins(
    lease: float, renewed: str
) -> None:
    """A time limit of Slurm, such as that of the partition, does not run while a job waits."""

    class Limited(Queueing):
        not_renewable = renewed

    limited = replace(NODE, max_lifetime=Duration(4 * HOUR))
    with World(plugin=Limited, node_type=limited, lease=lease) as world:
        job = world.submit()
        world.watch(20 * HOUR)
        assert [entry.burst.state for entry in world.entries] == [BurstState.REQUESTED]
        lease_until = world.first.burst.lease_until
        assert lease_until is not None
        assert 0.0 < lease_until - world.client.now() <= 4 * HOUR
        world.plugin.starts = True
        world.watch(20 * MINUTE)
        assert world.instance.job(job).state is JobState.RUN


def test_a_burst_by_hand_waits_no_longer_either() -> None:
    with World(request=2 * HOUR) as world:
        world.client.request_burst("queue", 1, None)
        world.watch(3 * HOUR)
        assert (world.first.burst.state, world.plugin.there) == (BurstState.FAILED, {})


def test_an_isolated_burst_waits_no_longer_either_and_its_job_is_free() -> None:
    class Alone(Queueing):
        isolated = True
        run_as = "owner"

    with World(request=2 * HOUR, plugin=Alone) as world:
        job = world.submit()
        world.watch(2 * HOUR)
        assert world.instance.job(job).urgency == 0
        world.watch(20 * MINUTE, step=30.0)
        assert world.first.burst.state is BurstState.FAILED
        assert world.client.ledger.assignments(job)[0].released is not None
        assert "it waited in its provider's queue" in world.client.ledger.assignments(job)[0].reason


def test_what_waited_in_a_queue_has_cost_nothing_and_its_money_is_free() -> None:
    with World(request=2 * HOUR, limits=Limits(cost=24 * 30.0)) as world:
        world.submit()
        world.watch(2 * HOUR)
        assert status.of_client(world.client).spending.reserved > 0.0
        world.watch(30.0, step=10.0)
        assert not world.client.ledger.live()
        assert world.first.cost(world.client.now()) == 0.0
        money = status.of_client(world.client).spending
        assert (money.per_hour, money.today, money.total, money.reserved) == (0.0, 0.0, 0.0, 0.0)


def test_what_waits_in_a_queue_costs_nothing_and_takes_no_more_money_with_time() -> None:
    with World(limits=Limits(cost=2.5, cost_per_day=2.5), lease=HOUR) as world:
        world.submit()
        for _ in range(4):
            world.watch(5 * HOUR)
            money = status.of_client(world.client).spending
            assert (money.today, money.total) == (0.0, 0.0)
            assert 0.0 < money.reserved <= 1.0
        second = world.submit()  # there is money for one more lease
        world.watch(10 * MINUTE)
        assert [entry.burst.state for entry in world.entries] == [BurstState.REQUESTED] * 2
        third = world.submit()
        world.watch(10 * MINUTE)
        assert world.client.ledger.assignments(second)
        assert not world.client.ledger.assignments(third)


@pytest.mark.parametrize("how", ["its job is cancelled", "by hand"])
def test_what_leaves_the_queue_otherwise_has_cost_nothing_either(how: str) -> None:
    with World() as world:
        job = world.submit()
        world.watch(HOUR)
        if how == "by hand":
            world.client.run_unburst()
        else:
            world.instance.cancel_jobs([job], "")
            world.watch(HOUR)
        assert world.first.ended is not None
        assert world.first.cost(world.client.now()) == 0.0


def test_a_burst_whose_creation_was_not_answered_costs_from_when_it_was_asked_for() -> None:
    """Nothing says that it waited in a queue, and something of it may have been there."""

    class Interrupted(Queueing):
        def create(self, burst: Burst) -> Burst:
            super().create(burst)
            raise BurstError("no answer", plugin=self.name, burst=burst.name)

        def delete(self, burst: Burst) -> None:
            if self.instance.now() < start + HOUR:
                raise BurstError("no answer")
            super().delete(burst)

    with World(plugin=Interrupted) as world:
        start = world.instance.now()
        world.submit()
        world.watch(2 * HOUR)
        assert world.first.cost(world.client.now()) >= 1.0


# --- plugins that do not answer ------------------------------------------------------------------


def test_a_burst_is_kept_as_long_as_its_plugin_cannot_tell_whether_it_still_waits() -> None:
    with World(request=2 * HOUR) as world:
        world.submit()
        world.watch(HOUR)
        world.plugin.mute = True
        world.watch(5 * HOUR)
        assert [entry.burst.state for entry in world.entries] == [BurstState.REQUESTED]
        world.plugin.mute, world.plugin.starts = False, True
        world.watch(20 * MINUTE)
        assert [entry.burst.state for entry in world.entries] == [BurstState.READY]


def test_a_later_process_asks_before_it_gives_a_burst_up(tmp_path: Path) -> None:
    instance = EmbeddedInstance()
    plugin = Queueing(instance)
    policy = Policy(Lifetimes(lease=Duration(30 * DAY)))
    with client_on(instance, plugin, policy=policy, state_dir=tmp_path) as client:
        instance.submit(spec(1, 8, burstable=1, duration=HOUR))
        client.run_burst()
    instance.advance(2 * DAY)
    later = Queueing(instance, plugin.there)
    later.starts = True
    with client_on(instance, later, policy=policy, state_dir=tmp_path) as client:
        client.run_pass(everything=False, patience=0.0)
        client.run_pass(everything=True, patience=math.inf)
        (entry,) = client.ledger.entries()
        assert (entry.burst.state, later.deleted) == (BurstState.READY, [])


# --- what is shown -------------------------------------------------------------------------------


def shown(world: World) -> str:
    console = Console(width=300, record=True)
    with console.capture() as captured:
        console.print(shown_status(status.of_client(world.client)))
    return captured.get()


def test_status_shows_for_how_long_a_burst_has_been_requested() -> None:
    with World() as world:
        world.submit()
        world.watch(3 * HOUR)
        text = shown(world)
        assert "requested for 3h" in text
        assert "Resources" in text
        world.plugin.starts = True
        world.watch(20 * MINUTE)
        assert "requested for" not in shown(world)
