"""What burst plugins answer is looked at before anything is recorded of it."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from typing import Any

import pytest
from support import client_on, job, spec

from fluxburst import Burst, BurstPlugin, BurstState, FluxBurst, NodeType
from fluxburst.errors import BurstErrors
from fluxburst.handles.embedded import EmbeddedInstance
from fluxburst.recordings import Recording

Change = Callable[[Burst], Any]


class Odd(BurstPlugin):
    """Answers what it is told to."""

    name = "odd"

    def __init__(self, change: Change = lambda burst: burst) -> None:
        super().__init__(self._param_dataclass())
        self.change = change
        self.there: dict[str, Burst] = {}
        self.listed: Any = None

    def node_types(self) -> Sequence[NodeType]:
        return [NodeType("node", cores=4, price=1.0)]

    def create(self, burst: Burst) -> Burst:
        self.there[burst.name] = replace(burst, state=BurstState.STARTING)
        answer: Burst = self.change(self.there[burst.name])
        return answer

    def delete(self, burst: Burst) -> None:
        self.there.pop(burst.name, None)

    def list_bursts(self) -> Collection[str]:
        listed: Collection[str] = list(self.there) if self.listed is None else self.listed
        return listed


def client_with(plugin: Odd) -> FluxBurst:
    instance = EmbeddedInstance(Recording((job(1, spec(2, 4, burstable=1)),)))
    return client_on(instance, plugin)


def changed(**fields: Any) -> Change:
    return lambda burst: replace(burst, **fields)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda burst: "done", "answered 'done', not the burst as it is now"),
        (changed(name="other"), "not the burst as it is now"),
        (changed(state="ready"), "whose state is not a BurstState: 'ready'"),
        (changed(nodes="three"), "whose nodes is not a number of nodes: 'three'"),
        (changed(nodes=-3), "whose nodes is not a number of nodes: -3"),
        (changed(nodes=1002), "answered that it has 1002 nodes, and 2 were asked for"),
        (changed(error=None), "whose error is not text: None"),
        (changed(hostnames=["a", "b"]), "whose hostnames is not a tuple of text"),
        (changed(since="today"), "whose since is not a time in seconds since the epoch: 'today'"),
        (changed(lease_until=math.nan), "whose lease_until is not a time"),
        (changed(lease_until=1.0), "a lease that was over .* ago: is the provider's clock right"),
        (changed(state=BurstState.FAILED, error="no such image"), "no such image"),
        (changed(state=BurstState.ENDED), "answered that it has ended"),
    ],
)
def test_a_burst_that_cannot_be_is_a_failed_creation_that_leaves_nothing(
    change: Change, problem: str
) -> None:
    plugin = Odd(change)
    with client_with(plugin) as client:
        with pytest.raises(BurstErrors, match=f"plugin odd, burst odd-.*{problem}"):
            client.run_burst()
        with pytest.raises(BurstErrors):  # the next pass ends what the first could not
            client.run_burst()
        client.run_unburst()
        assert plugin.there == {}
        assert client.instance.pending_jobs()[0].mark is None
        assert [entry for entry in client.ledger.entries() if entry.live] == []
        assert client.ledger.breakers()["odd", "node"].failures == 2
        assert sum(entry.cost(client.now()) for entry in client.ledger.entries()) >= 0.0


def test_a_burst_stays_with_the_plugin_that_was_asked_for_it() -> None:
    with client_with(Odd(changed(plugin="another"))) as client:
        client.run_burst()
        (entry,) = client.ledger.live()
        assert entry.burst.plugin == "odd"


def test_a_lease_is_never_longer_than_money_was_set_aside_for() -> None:
    asked: list[float | None] = []

    def forever(burst: Burst) -> Burst:
        asked.append(burst.lease_until)
        return replace(burst, lease_until=1e12)

    with client_with(Odd(forever)) as client:
        client.run_burst()
        (entry,) = client.ledger.live()
        assert [entry.burst.lease_until] == asked


def test_nothing_costs_before_it_was_asked_for() -> None:
    with client_with(Odd(changed(since=0.0))) as client:
        client.run_burst()
        (entry,) = client.ledger.live()
        assert entry.burst.since == entry.requested
        assert entry.cost(client.now()) == 0.0


@pytest.mark.parametrize(
    "listed", [7, "text", [1, 2], ["../../etc"], [""], ["a\n"], ["x" * 5000], [None]]
)
def test_what_is_no_list_of_names_is_an_error_wherever_it_is_asked_for(listed: Any) -> None:
    plugin = Odd()
    with client_with(plugin) as client:
        client.run_burst()
        (entry,) = client.ledger.live()
        plugin.listed = listed
        with pytest.raises(BurstErrors, match=r"list_bursts\(\) answered"):
            client.reconcile()
        assert [e.burst.name for e in client.ledger.live()] == [entry.burst.name]
        with pytest.raises(BurstErrors, match=r"list_bursts\(\) answered") as caught:
            client.run_unburst()
        assert len(str(caught.value)) < 1000
        assert plugin.there == {}
        assert [left.burst for left in client.remaining()] == [""]


class UnspeakableError(Exception):
    """An error that fails to say what it is."""

    def __str__(self) -> str:
        raise RuntimeError("no words")


def test_an_error_that_cannot_say_what_it_is_is_told_of_by_its_type() -> None:
    def fail(burst: Burst) -> Burst:
        raise UnspeakableError

    with (
        client_with(Odd(fail)) as client,
        pytest.raises(BurstErrors, match="UnspeakableError: it cannot be put into words"),
    ):
        client.run_burst()
