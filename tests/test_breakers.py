"""A node type that fails again and again is left alone for a while; jobs go elsewhere at once."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support import Elsewhere, Joining, client_on, job, spec

from fluxburst import Burst, BurstState, FluxBurst, NodeType
from fluxburst.config.policy import Breaking, Limit, Limits, Policy, Timeouts
from fluxburst.errors import BurstErrors, CapacityError, FluxburstError, QuotaError
from fluxburst.formats.units import Duration
from fluxburst.ledger import Breaker
from fluxburst.model.job import Mark
from fluxburst.model.plan import Outcome
from fluxburst.planning.setbacks import JITTER, closed_types, failed
from fluxburst.simulation.embedded import EmbeddedInstance
from fluxburst.simulation.recordings import Recording

BREAKING = Breaking(failures=2, backoff=Duration(60.0), max_backoff=Duration(600.0))
POLICY = Policy(breakers=BREAKING)
KEY = ("cloud", "node")


def instance_with(*jobids: int, **record: object) -> EmbeddedInstance:
    return EmbeddedInstance(Recording(tuple(job(n, **record) for n in jobids)))


def a_pass(client: FluxBurst) -> list[FluxburstError]:
    try:
        client.run_burst()
    except BurstErrors as errors:
        return list(errors.errors)
    return []


def broken(name: str = "cloud", *types: NodeType) -> Elsewhere:
    return Elsewhere(name, *types, fails=RuntimeError("API down"))


def breaker_of(client: FluxBurst) -> Breaker | None:
    return client.ledger.breakers().get(KEY)


# --- one breaker -------------------------------------------------------------------------------


def test_it_opens_after_so_many_failures_in_a_row() -> None:
    breaker = Breaker(*KEY)
    for count in range(1, 5):
        breaker = failed(breaker, replace(BREAKING, failures=4), 100.0, f"failure {count}")
        assert (breaker.failures, breaker.error) == (count, f"failure {count}")
        assert (breaker.retry_at is None) is (count < 4)


@given(st.integers(0, 2000))
def test_each_failure_that_follows_doubles_the_pause_up_to_the_longest(more: int) -> None:
    breaker = failed(Breaker(*KEY, failures=1 + more), BREAKING, 1000.0, "no")
    assert breaker.retry_at is not None
    pause = min(600.0, 60.0 * 2.0 ** min(more, 50))
    assert abs(breaker.retry_at - 1000.0 - pause) <= pause * JITTER + 1e-6


def test_not_all_come_back_at_once() -> None:
    pauses = {failed(Breaker(*KEY, 1), BREAKING, 0.0, "no").retry_at for _ in range(20)}
    assert len(pauses) > 1


def test_only_what_is_open_is_closed_to_jobs() -> None:
    closed = Breaker("cloud", "few", 1, None, "no")
    opened = Breaker("cloud", "many", 3, 100.0, "no")
    assert list(closed_types([closed, opened], [], 99.0)) == [("cloud", "many")]
    assert closed_types([closed, opened], [], 100.0) == {}


# --- in a client -------------------------------------------------------------------------------


def test_an_open_breaker_keeps_the_plugin_from_being_asked_and_says_why() -> None:
    cloud = broken()
    with client_on(instance_with(1), cloud, policy=POLICY) as client:
        for _ in range(2):
            (error,) = a_pass(client)
            assert "API down" in str(error)
        assert len(cloud.created) == 2
        assert a_pass(client) == []
        assert len(cloud.created) == 2
        (decision,) = client.plan().decisions
        assert decision.outcome is Outcome.UNMATCHED
        assert decision.reasons[0].startswith("cloud: 'node' is not asked for: for ")
        assert "it failed 2 times in a row, last with: " in decision.reasons[0]
        assert "API down" in decision.reasons[0]


def test_a_breaker_survives_a_restart(tmp_path: Path) -> None:
    instance = instance_with(1)
    with client_on(instance, broken(), policy=POLICY, state_dir=tmp_path) as client:
        a_pass(client)
        a_pass(client)
    again = Elsewhere("cloud")
    with client_on(instance, again, policy=POLICY, state_dir=tmp_path) as client:
        a_pass(client)
        assert again.created == []
        (decision,) = client.plan().decisions
        assert "it failed 2 times in a row" in decision.reasons[0]
        instance.advance(60.0 * (1 + JITTER))
        a_pass(client)
        assert len(again.created) == 1


def test_after_its_pause_one_burst_is_tried_and_no_other_until_that_is_up() -> None:
    instance = instance_with(1)
    cloud = Joining("cloud", instance, boot=120.0)
    cloud.fails = RuntimeError("API down")
    with client_on(instance, cloud, policy=POLICY) as client:
        a_pass(client)
        a_pass(client)
        cloud.fails = None
        cloud.created.clear()
        instance.advance(75.0)
        a_pass(client)
        assert len(cloud.created) == 1
        probe = cloud.created[0]
        wide = instance.submit(spec(3, 8, burstable=1))
        instance.advance(1.0)
        a_pass(client)
        assert cloud.created == [probe]
        reasons = {d.id: d.reasons for d in client.plan().decisions}
        assert f"until burst {probe} is up, as it failed 2 times" in reasons[wide][0]
        instance.advance(120.0)
        a_pass(client)
        assert len(cloud.created) == 2
        assert breaker_of(client) is None


def test_one_burst_is_tried_also_where_each_user_would_have_one() -> None:
    instance = EmbeddedInstance(Recording(tuple(job(n, userid=n) for n in range(1, 5))))
    cloud = Joining("cloud", instance, boot=120.0)
    cloud.fails = RuntimeError("API down")
    limits = Limits(users={"*": Limit(nodes=5)})
    with client_on(instance, cloud, policy=Policy(breakers=BREAKING, limits=limits)) as client:
        a_pass(client)
        assert breaker_of(client) is not None
        cloud.fails = None
        cloud.created.clear()
        instance.advance(600.0 * (1 + JITTER))
        last = client.plan().decisions[-1]
        assert "'node' is not asked for: another burst of it is tried first" in last.reasons[0]
        a_pass(client)
        assert len(cloud.created) == 1


def test_a_probe_that_fails_opens_it_for_twice_as_long() -> None:
    instance = instance_with(1)
    with client_on(instance, broken(), policy=POLICY) as client:
        a_pass(client)
        a_pass(client)
        instance.advance(75.0)
        a_pass(client)
        breaker = breaker_of(client)
        assert breaker is not None
        assert breaker.retry_at is not None
        assert breaker.failures == 3
        assert abs(breaker.retry_at - instance.now() - 120.0) <= 120.0 * JITTER


@pytest.mark.parametrize("kind", [Elsewhere, Joining])
def test_what_comes_up_closes_it(kind: type[Elsewhere]) -> None:
    instance = instance_with(1)
    cloud = Joining("cloud", instance) if kind is Joining else Elsewhere("cloud")
    cloud.fails = RuntimeError("API down")
    with client_on(instance, cloud, policy=POLICY) as client:
        a_pass(client)
        assert breaker_of(client) == Breaker(
            *KEY, 1, None, f"plugin cloud, burst {cloud.created[0]}: RuntimeError: API down"
        )
        cloud.fails = None
        a_pass(client)
        client.reconcile()
        assert [entry.burst.state for entry in client.ledger.live()] == [BurstState.READY]
        assert breaker_of(client) is None


def test_a_burst_whose_plugin_says_that_it_is_ready_closes_it() -> None:
    class Says(Elsewhere):
        def create(self, burst: Burst) -> Burst:
            return replace(super().create(burst), state=BurstState.STARTING)

        def refresh(self, burst: Burst) -> Burst:
            return replace(burst, state=BurstState.READY)

    cloud = Says("cloud", fails=RuntimeError("API down"))
    with client_on(instance_with(1), cloud, policy=POLICY) as client:
        a_pass(client)
        cloud.fails = None
        a_pass(client)
        client.refresh_bursts()
        assert breaker_of(client) is None


def test_a_burst_that_does_not_join_counts_as_a_failure() -> None:
    instance = instance_with(1)
    policy = Policy(breakers=BREAKING, timeouts=Timeouts(join=Duration(60.0)))
    with client_on(instance, Joining("cloud", instance, boot=1e6), policy=policy) as client:
        a_pass(client)
        instance.advance(61.0)
        client.reconcile()
        breaker = breaker_of(client)
        assert breaker is not None
        assert (breaker.failures, "did not join" in breaker.error) == (1, True)


def test_a_burst_that_was_lost_when_it_had_been_up_is_no_failure_of_its_node_type() -> None:
    instance = instance_with(1)
    cloud = Joining("cloud", instance)
    with client_on(instance, cloud, policy=POLICY) as client:
        a_pass(client)
        client.reconcile()
        (gone,) = cloud.there.values()
        cloud.there.clear()
        instance.remove_nodes(gone.hostnames)
        client.reconcile()
        assert client.ledger.live() == []
        assert breaker_of(client) is None


def test_a_client_that_was_killed_before_it_was_answered_is_no_failure_of_a_node_type() -> None:
    instance = instance_with(1)
    cloud = Joining("cloud", instance)
    with client_on(instance, cloud, policy=POLICY) as client:
        reservation = Burst("cloud-0", "cloud", "node", 1, (1,))
        client.ledger.request(reservation, instance.now(), None, "")
        client.reconcile()
        entry = client.ledger.entry("cloud-0")
        assert entry is not None
        assert entry.burst.state is BurstState.FAILED
        assert breaker_of(client) is None


def test_one_node_type_that_fails_leaves_the_others_of_its_plugin_open() -> None:
    class Half(Elsewhere):
        def create(self, burst: Burst) -> Burst:
            if burst.node_type == "cheap":
                self.created.append(burst.name)
                raise RuntimeError("none")
            return super().create(burst)

    cloud = Half("cloud", NodeType("cheap", 8, price=1.0), NodeType("dear", 8, price=2.0))
    with client_on(instance_with(1), cloud, policy=POLICY) as client:
        a_pass(client)
        a_pass(client)
        assert list(client.ledger.breakers()) == [("cloud", "cheap")]
        assert a_pass(client) == []
        assert [entry.burst.node_type for entry in client.ledger.live()] == ["dear"]


# --- failing over ------------------------------------------------------------------------------


class Out(Elsewhere):
    """A plugin that has no capacity, or no quota, for some of its node types."""

    def __init__(self, name: str, *types: NodeType, out: dict[str, Exception]) -> None:
        super().__init__(name, *types)
        self.out = out
        self.asked: list[str] = []

    def create(self, burst: Burst) -> Burst:
        self.asked.append(burst.node_type)
        if burst.node_type in self.out:
            raise self.out[burst.node_type]
        return super().create(burst)


CHEAP, DEAR = NodeType("cheap", 8, price=1.0), NodeType("dear", 8, price=2.0)


@pytest.mark.parametrize("kind", [CapacityError, QuotaError])
def test_what_is_refused_goes_to_the_next_node_type_in_the_same_pass(
    kind: type[CapacityError] | type[QuotaError],
) -> None:
    cloud = Out("cloud", CHEAP, DEAR, out={"cheap": kind("none now")})
    instance = instance_with(1, 2)
    with client_on(instance, cloud) as client:
        assert client.run_burst() == []
        assert cloud.asked == ["cheap", "dear"]
        (live,) = client.ledger.live()
        assert (live.burst.node_type, live.burst.jobs) == ("dear", (1, 2))
        marks = {pending.mark for pending in instance.pending_jobs()}
        assert marks == {Mark("cloud", live.burst.name)}


@pytest.mark.parametrize("kind", [CapacityError, QuotaError])
def test_what_is_refused_goes_to_the_next_plugin_in_the_same_pass(
    kind: type[CapacityError] | type[QuotaError],
) -> None:
    first = Out("first", CHEAP, DEAR, out={"cheap": kind("none"), "dear": kind("none")})
    second = Elsewhere("second")
    with client_on(instance_with(1), first, second) as client:
        assert client.run_burst() == []
        assert (first.asked, len(second.created)) == (["cheap", "dear"], 1)
        assert (list(first.jobs), list(second.jobs)) == ([], [1])
        assignments = client.ledger.assignments(1)
        assert [p.plugin for p in assignments] == ["first", "first", "second"]
        assert ["none" in p.reason for p in assignments] == [True, True, False]


def test_a_failure_that_another_plugin_would_share_is_not_offered_on() -> None:
    second = Elsewhere("second")
    with client_on(instance_with(1), broken("first"), second) as client:
        (error,) = a_pass(client)
        assert "API down" in str(error)
        assert second.created == []


def test_jobs_that_all_refuse_are_free_with_reasons_and_every_refusal_is_an_error() -> None:
    plugins = [
        Elsewhere(name, fails=CapacityError(f"{name} has none")) for name in ("first", "second")
    ]
    instance = instance_with(1)
    with client_on(instance, *plugins) as client:
        errors = a_pass(client)
        assert [type(error) for error in errors] == [CapacityError, CapacityError]
        assert [f"{n} has none" in str(e) for n, e in zip(("first", "second"), errors, strict=True)]
        assert [pending.mark for pending in instance.pending_jobs()] == [None]
        assert client.ledger.live() == []
        _, decision = client.ledger.decisions(1)[-1]
        assert decision.outcome is Outcome.UNMATCHED
        said = "; ".join(decision.reasons)
        assert "first has none" in said
        assert "second has none" in said


def test_jobs_that_only_ran_elsewhere_in_part_leave_the_error_of_the_rest() -> None:
    first = Elsewhere("first", fails=CapacityError("none"))
    second = Elsewhere("second", NodeType("node", cores=8, max_nodes=1))
    instance = EmbeddedInstance(
        Recording(tuple(job(n, spec(1, 8, burstable=1)) for n in range(1, 4)))
    )
    with client_on(instance, first, second) as client:
        errors = a_pass(client)
        assert [type(error) for error in errors] == [CapacityError]
        assert [p.mark and p.mark.plugin for p in instance.pending_jobs()] == ["second", None, None]
