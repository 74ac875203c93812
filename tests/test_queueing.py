"""Bursts that wait in their provider's queue: for how long, and what that costs."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import replace

import pytest
from support import Elsewhere, Joining, client_on, spec

from fluxburst import Burst, BurstState, Duration, NodeType, status
from fluxburst.errors import BurstError, BurstErrors
from fluxburst.handles.embedded import EmbeddedInstance
from fluxburst.jobs import JobState
from fluxburst.ledger import Entry
from fluxburst.policy import Lifetimes, Limits, Policy

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
        limits: Limits | None = None,
        plugin: type[Queueing] = Queueing,
        node_type: NodeType = NODE,
        lease: float = 30 * DAY,
    ) -> None:
        self.instance = EmbeddedInstance()
        self.plugin = plugin(self.instance, node_type=node_type)
        lifetimes = Lifetimes(lease=Duration(lease))
        self.policy = Policy(lifetimes, limits=limits or Limits())
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
        assert world.client.ledger.placements(second)
        assert not world.client.ledger.placements(third)


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
