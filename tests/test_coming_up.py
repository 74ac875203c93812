"""What plugins say of bursts is held against what shows: money does not run without end."""

from __future__ import annotations

import math
from contextlib import suppress
from dataclasses import replace

import pytest
from tests.support import Elsewhere, client_on, spec

from fluxburst import Burst, BurstState, FluxBurst, NodeType
from fluxburst.errors import BurstErrors
from fluxburst.reports.status import of_client
from fluxburst.simulation.embedded import EmbeddedInstance

NODE = NodeType("node", cores=8, price=1.0)


class Claiming(Elsewhere):
    """A plugin whose bursts are in the state that it claims, and none of whose nodes joins."""

    def __init__(self, state: BurstState, *, names_hosts: bool) -> None:
        super().__init__("cloud", NODE)
        self.state = state
        self.names_hosts = names_hosts
        self.there: list[str] = []

    def claimed(self, burst: Burst) -> Burst:
        hosts = tuple(f"{burst.name}-{number}" for number in range(burst.nodes))
        return replace(
            burst,
            state=self.state,
            hostnames=hosts if self.names_hosts else (),
            joined=burst.nodes,
        )

    def create(self, burst: Burst) -> Burst:
        self.created.append(burst.name)
        self.there.append(burst.name)
        return self.claimed(burst)

    def delete(self, burst: Burst) -> None:
        super().delete(burst)
        self.there = [name for name in self.there if name != burst.name]

    def list_bursts(self) -> list[str]:
        return self.there


class Turning(Claiming):
    """A plugin whose bursts are starting, and then what it claims."""

    def create(self, burst: Burst) -> Burst:
        super().create(burst)
        return replace(burst, state=BurstState.STARTING)

    def refresh(self, burst: Burst) -> Burst:
        return self.claimed(burst)


class Listing(Turning):
    """The same, where the list of what is there says so."""

    def refresh(self, burst: Burst) -> Burst:
        return burst

    def adopt(self) -> list[Burst]:
        return [self.claimed(self.bursts[name]) for name in self.there if name in self.bursts]


def client_of(plugin: Claiming) -> tuple[FluxBurst, EmbeddedInstance]:
    instance = EmbeddedInstance()
    instance.submit(spec(2, 8, burstable=1, duration=60.0))
    return client_on(instance, plugin), instance


def passes(client: FluxBurst, instance: EmbeddedInstance, hours: float) -> None:
    """Let time pass, with a pass every two minutes."""
    for _ in range(int(hours * 30)):
        with suppress(BurstErrors):
            client.run_pass(everything=True, patience=math.inf)
        instance.advance(120.0)


@pytest.mark.parametrize("names_hosts", [True, False])
@pytest.mark.parametrize("state", [s for s in BurstState if s is not BurstState.REQUESTED])
@pytest.mark.parametrize("kind", [Claiming, Turning, Listing])
def test_a_burst_that_never_comes_up_ends_and_is_asked_for_ever_more_rarely(
    kind: type[Claiming], state: BurstState, *, names_hosts: bool
) -> None:
    plugin = kind(state, names_hosts=names_hosts)
    client, instance = client_of(plugin)
    with client:
        passes(client, instance, 4.0)
        entries = list(client.ledger.entries())
        assert 2 <= len(plugin.created) <= 20
        assert max(entry.cost(client.now()) for entry in entries) <= 2 * NODE.price * 0.5
        assert len(plugin.there) <= 1


def test_what_is_said_to_be_ready_has_joined_once_its_nodes_are_up() -> None:
    client, instance = client_of(Claiming(BurstState.READY, names_hosts=True))
    with client:
        client.run_pass(everything=True, patience=math.inf)
        (entry,) = client.ledger.live()
        assert (entry.burst.state, entry.burst.joined) == (BurstState.JOINING, 0)
        assert of_client(client).nodes.joined == 0
        instance.add_nodes(entry.burst.hostnames[:1], NODE)
        client.run_pass(everything=True, patience=math.inf)
        (entry,) = client.ledger.live()
        assert (entry.burst.state, entry.burst.joined) == (BurstState.JOINING, 1)
        instance.add_nodes(entry.burst.hostnames[1:], NODE)
        client.run_pass(everything=True, patience=math.inf)
        (entry,) = client.ledger.live()
        assert (entry.burst.state, entry.burst.joined) == (BurstState.READY, 2)


def test_a_plugin_may_say_itself_that_nodes_are_ready_that_it_does_not_name() -> None:
    plugin = Claiming(BurstState.READY, names_hosts=False)
    client, instance = client_of(plugin)
    with client:
        client.run_pass(everything=True, patience=math.inf)
        instance.add_nodes(["a", "b"], NODE)
        passes(client, instance, 0.04)
        (entry,) = client.ledger.live()
        assert entry.burst.state is BurstState.READY
        (job,) = entry.burst.jobs
        (assignment,) = client.ledger.assignments(job)
        assert (assignment.burst, assignment.released) == (entry.burst.name, None)
