"""What burst plugins answer is looked at before anything is recorded of it."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest
from tests.support import client_on, job, named, spec

from fluxburst import Burst, BurstPlugin, BurstState, Duration, FluxBurst, NodeType
from fluxburst.config.policy import Lifetimes, Policy
from fluxburst.errors import BurstErrors
from fluxburst.model.node import Node
from fluxburst.simulation.embedded import EmbeddedInstance
from fluxburst.simulation.recordings import Recording

Change = Callable[[Burst], Any]
NOW = EmbeddedInstance(Recording((job(1),))).now()


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


def client_with(plugin: Odd, policy: Policy | None = None) -> FluxBurst:
    full = Node(0, "busy", cores=1, free_cores=1)
    recording = Recording((job(1, spec(2, 4, burstable=1)),), (full,))
    instance = EmbeddedInstance(recording, name="lead:/run/flux")
    return client_on(instance, plugin, policy=policy)


def changed(**fields: Any) -> Change:
    return lambda burst: replace(burst, **fields)


def in_the_future(burst: Burst) -> Burst:
    return replace(burst, since=NOW + 3600.0)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda burst: "done", "returned 'done', which is not a burst"),
        (changed(name="other"), "returned burst 'other' for burst"),
        (changed(state="ready"), "whose state is not a BurstState: 'ready'"),
        (changed(nodes="three"), "whose nodes is not a number of nodes: 'three'"),
        (changed(nodes=-3), "whose nodes is not a number of nodes: -3"),
        (changed(nodes=1002), "returned that it has 1002 nodes, more than the 2 requested"),
        (changed(error=None), "whose error is not text: None"),
        (changed(hostnames=["a", "b"]), "whose hostnames is not a tuple of text"),
        (changed(since="today"), "whose since is not a time in seconds since the epoch: 'today'"),
        (changed(lease_until=math.nan), "whose lease_until is not a time"),
        (changed(lease_until=1.0), "a lease that expired .* ago: is the provider's clock right"),
        (changed(state=BurstState.FAILED, error="no such image"), "no such image"),
        (changed(state=BurstState.ENDED), "returned that it has ended"),
        (changed(state=BurstState.DRAINING), "returned that it is draining"),
        (changed(state=BurstState.ENDING), "returned that it is ending"),
        (changed(nodes=0, state=BurstState.READY), "whose nodes is 0, though it is ready: 0"),
        (changed(hostnames=("a", "a")), "whose hostnames names a host twice"),
        (changed(hostnames=("a", "b", "c")), "whose hostnames are more than its 2 nodes"),
        *(
            (
                changed(hostnames=(host,)),
                r"whose hostnames has one that is not a hostname \(RFC 1123",
            )
            for host in ("", "-a", "a b", "a/b", "a\n", "a..b", "ü", "a[0-9]", "x" * 64)
        ),
        (changed(hostnames=("busy",)), "the hostname 'busy', which was up before the request"),
        (changed(hostnames=("lead",)), "the hostname 'lead', which is the lead's"),
        (changed(jobs=("1",)), "whose jobs is not a tuple of ids"),
        (in_the_future, "returned since = .*, which is 1h ahead: is the provider's clock right"),
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
        with pytest.raises(BurstErrors, match=r"list_bursts\(\) returned"):
            client.reconcile()
        assert [e.burst.name for e in client.ledger.live()] == [entry.burst.name]
        with pytest.raises(BurstErrors, match=r"list_bursts\(\) returned") as caught:
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
        pytest.raises(BurstErrors, match="UnspeakableError: its text is not available"),
    ):
        client.run_burst()


# --- what is answered later ----------------------------------------------------------------------

UNLIKELY = [
    (changed(hostnames=("lead",)), "the hostname 'lead'"),
    (changed(hostnames=("busy",)), "the hostname 'busy'"),
    (changed(hostnames=("taken",)), "the hostname 'taken', which belongs to burst"),
    (changed(hostnames=("a", "a")), "names a host twice"),
    (changed(hostnames=("not a host",)), "not a hostname"),
    (changed(nodes=-1), "is not a number of nodes"),
    (changed(nodes=0, state=BurstState.READY), "is 0, though it is ready"),
    (in_the_future, "since = "),
]


class Told(Odd):
    """Is told later what to answer, and by which method."""

    answers: str = ""

    def create(self, burst: Burst) -> Burst:
        self.there[burst.name] = replace(burst, state=BurstState.STARTING)
        return self.there[burst.name]

    def refresh(self, burst: Burst) -> Burst:
        answer: Burst = self.change(burst) if self.answers == "refresh" else burst
        return answer

    def adopt(self) -> Sequence[Burst]:
        there = [replace(burst, jobs=()) for burst in self.there.values()]
        return [self.change(burst) for burst in there] if self.answers == "adopt" else there


class Other(Odd):
    """Has one burst, whose host is coming."""

    name = "other"

    def create(self, burst: Burst) -> Burst:
        return replace(burst, state=BurstState.STARTING, hostnames=("taken",))


@pytest.mark.parametrize("answers", ["refresh", "adopt"])
@pytest.mark.parametrize(("change", "problem"), UNLIKELY)
def test_of_a_burst_that_is_said_to_be_what_cannot_be_nothing_is_taken_over(
    change: Change, problem: str, answers: str
) -> None:
    told, other = Told(change), Other()
    with client_with(told) as client:
        client.hooks.register(other, "other")
        client.plugins["other"] = other
        client.request_burst("other", 1, None)
        client.run_burst()
        before = {entry.burst.name: entry.burst for entry in client.ledger.live()}
        told.answers = answers
        ask = client.reconcile if answers == "adopt" else client.refresh_bursts
        said = failures_of(ask)
        (name,) = told.there
        after = {entry.burst.name: entry.burst for entry in client.ledger.live()}
        assert replace(after[name], error="") == before[name]
        said.append(after[name].error)
        assert any(problem in text and f"plugin odd, burst {name}" in text for text in said), said
        assert not any(node.drained for node in client.nodes())


def failures_of(act: Callable[[], object]) -> list[str]:
    try:
        act()
    except BurstErrors as failures:
        return [str(error) for error in failures.errors]
    return []


@pytest.mark.parametrize("host", ["lead", "busy", "taken"])
def test_a_burst_that_names_another_host_does_not_drain_it_when_it_is_taken_down(host: str) -> None:
    told, other = Odd(changed(hostnames=(host,))), Other()
    with client_with(told) as client:
        client.hooks.register(other, "other")
        client.plugins["other"] = other
        client.request_burst("other", 1, None)
        client.instance.add_nodes(["lead", "taken"], NodeType("node", 1))  # type: ignore[attr-defined]
        with suppress(BurstErrors):
            client.run_burst()
        client.reconcile()
        assert told.there == {}
        assert not any(node.drained for node in client.nodes())


def test_an_orphan_that_names_another_host_is_taken_down_without_draining_that() -> None:
    told = Told(changed(hostnames=("lead",), state=BurstState.READY))
    told.answers = "adopt"
    with client_with(told) as client:
        client.instance.add_nodes(["lead"], NodeType("node", 1))  # type: ignore[attr-defined]
        name = named("odd", "0a")
        told.there[name] = Burst(name, "odd", "node", 1)
        for _ in range(2):
            said = failures_of(client.reconcile)
        assert told.there == {}
        assert not any(node.drained for node in client.nodes())
        assert said == [] or "the hostname 'lead'" in said[0]


def test_one_burst_that_cannot_be_keeps_no_other_from_being_adopted() -> None:
    told = Told(lambda burst: replace(burst, nodes=-1) if burst.name == odd else burst)
    odd = ""
    with client_with(told) as client:
        client.request_burst("odd", 1, None)
        client.request_burst("odd", 1, None)
        odd, sound = told.there
        told.there[sound] = replace(told.there[sound], since=client.now() - 5.0)
        told.answers = "adopt"
        with pytest.raises(BurstErrors, match=f"plugin odd, burst {odd}: adopt"):
            client.reconcile()
        assert {*client.plugins["odd"].bursts} == {odd, sound}


@pytest.mark.parametrize("ahead", [0.0, 1.0, 299.0])
def test_a_clock_that_is_a_little_ahead_bills_from_now(ahead: float) -> None:
    with client_with(Odd(lambda burst: replace(burst, since=NOW + ahead))) as client:
        client.run_burst()
        (entry,) = client.ledger.live()
        assert entry.burst.since == client.now()


def test_a_renewal_that_cannot_be_is_a_refusal() -> None:
    class Renews(Odd):
        def renew(self, burst: Burst) -> Burst:
            return replace(burst, hostnames=("a", "a"))

    policy = Policy(lifetimes=Lifetimes(lease=Duration(1200.0), idle_timeout=Duration(1e6)))
    with client_with(Renews(), policy) as client:
        client.run_burst()
        (before,) = client.ledger.live()
        client.instance.advance(601.0)  # type: ignore[attr-defined]
        said = failures_of(client.reconcile)
        assert any("renew() returned" in text and before.burst.name in text for text in said)
        (after,) = client.ledger.live()
        assert after.burst.hostnames == ()
        assert after.burst.lease_until == before.burst.lease_until


@pytest.mark.parametrize("name", ["", " ", None, 7, "a\x1b[2J", "a\nb"])
def test_a_node_type_without_a_name_is_refused_and_the_plugin_is_named(name: Any) -> None:
    class Nameless(Odd):
        def node_types(self) -> Sequence[NodeType]:
            return [NodeType(name, cores=4)]

    with client_with(Nameless()) as client:
        plan = client.plan()
        (error,) = plan.errors
        assert "plugin odd" in str(error)
        assert f"name {name!r}" in str(error)
        assert plan.bursts == ()
