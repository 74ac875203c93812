"""Limits are never passed: by a plan, by two passes, by several plugins, after a crash."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.support import Elsewhere, Joining, client_on, job, spec

from fluxburst import Burst, BurstState, FluxBurst, NodeType
from fluxburst.config.policy import LIMITED, Lifetimes, Limit, Limits, Policy
from fluxburst.errors import BurstErrors, CapacityError, LimitError
from fluxburst.formats.units import Duration
from fluxburst.ledger import Entry
from fluxburst.ledger.entries import DAY, HOUR
from fluxburst.model.plan import Outcome
from fluxburst.packing.limits import Budget, Owner, Spent, Sum, cost_between, start_of_day
from fluxburst.simulation.embedded import CANCELED, EmbeddedInstance
from fluxburst.simulation.recordings import Recording

MINUTE = 60.0
NODE = NodeType("node", cores=8, price=1.0)
"""Of which one costs 1 in an hour, and a lease is an hour: so two of anything are two nodes."""

COUNTED = [what for what in LIMITED if what != "bursts"]
SCOPES = {
    "the instance": lambda limit: Limits(**limit),
    "plugin cloud": lambda limit: Limits(plugins={"cloud": Limit(**limit)}),
    "user 1000": lambda limit: Limits(users={"1000": Limit(**limit)}),
    "queue batch": lambda limit: Limits(queues={"batch": Limit(**limit)}),
    "any user": lambda limit: Limits(users={"*": Limit(**limit)}),
    "any queue": lambda limit: Limits(queues={"*": Limit(**limit)}),
}
NAMES = {"any user": "user 1000", "any queue": "queue batch"}


def whole(jobid: int, **record: Any) -> Any:
    """Return a job that takes a node for itself."""
    return job(jobid, spec(1, 8, burstable=1, duration=0.0), queue="batch", **record)


def instance_with(*jobs: Any) -> EmbeddedInstance:
    return EmbeddedInstance(Recording(jobs), queues={"batch": (), "debug": ()})


def of(limits: Limits, **lifetimes: float) -> Policy:
    values = {name: Duration(value) for name, value in lifetimes.items()}
    return Policy(Lifetimes(**values), limits=limits)  # type: ignore[arg-type]


def placed(instance: EmbeddedInstance) -> list[int]:
    return [pending.id for pending in instance.pending_jobs() if pending.mark]


def reason_of(client: FluxBurst, jobid: int) -> str:
    return "; ".join({d.id: d.reasons for d in client.plan().decisions}[jobid])


# --- each limit, each scope --------------------------------------------------------------------


@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize("what", COUNTED)
def test_a_limit_holds_back_the_last_in_the_queue_and_is_named(what: str, scope: str) -> None:
    instance = instance_with(*map(whole, range(1, 5)))
    cloud = Elsewhere("cloud", NODE)
    with client_on(instance, cloud, policy=of(SCOPES[scope]({what: 2}))) as client:
        plan = client.plan()
        for decision in plan.decisions:
            first = decision.id in (1, 2)
            assert decision.outcome is (Outcome.ASSIGNED if first else Outcome.UNMATCHED)
        name = NAMES.get(scope, scope)
        expected = f"the limit {what} of {name} is 2, of which 2 is used"
        assert expected in plan.decisions[-1].reasons[0]
        assert [left.id for left in client.run_burst()] == [3, 4]
        assert placed(instance) == [1, 2]
        assert [left.id for left in client.run_burst()] == [3, 4]
        assert expected in reason_of(client, 3)
        assert [e.burst.nodes for e in client.ledger.entries()] == [2]


@pytest.mark.parametrize("scope", SCOPES)
def test_a_limit_of_bursts_holds_back_the_next_burst_and_is_named(scope: str) -> None:
    instance = instance_with(whole(1))
    with client_on(
        instance, Elsewhere("cloud", NODE), policy=of(SCOPES[scope]({"bursts": 1}))
    ) as client:
        assert client.run_burst() == []
        late = instance.submit(spec(1, 8, burstable=1, queue="batch"))
        assert [left.id for left in client.run_burst()] == [late]
        name = NAMES.get(scope, scope)
        assert f"the limit bursts of {name} is 1, of which 1 is used" in reason_of(client, late)


@pytest.mark.parametrize("what", LIMITED)
def test_a_limit_of_nothing_lets_nothing_through(what: str) -> None:
    cloud = Elsewhere("cloud", NODE)
    with client_on(instance_with(whole(1)), cloud, policy=of(Limits(**{what: 0}))) as client:  # type: ignore[arg-type]
        assert len(client.run_burst()) == 1
        assert f"the limit {what} of the instance is 0" in reason_of(client, 1)
    assert cloud.created == []


@pytest.mark.parametrize("scope", ["plugin other", "user 7", "queue debug"])
def test_the_limits_of_others_hold_nobody_back(scope: str) -> None:
    kind, _, name = scope.partition(" ")
    none: Any = {f"{kind}s": {name: Limit(nodes=0)}}
    with client_on(
        instance_with(whole(1)), Elsewhere("cloud", NODE), policy=of(replace(Limits(), **none))
    ) as client:
        assert client.run_burst() == []


def test_of_several_limits_the_tightest_counts() -> None:
    limits = Limits(nodes=3, plugins={"cloud": Limit(cost=2)}, users={"*": Limit(nodes=1)})
    jobs = [whole(n, userid=n) for n in range(1, 5)]
    with client_on(instance_with(*jobs), Elsewhere("cloud", NODE), policy=of(limits)) as client:
        assert [left.id for left in client.run_burst()] == [3, 4]
        assert "the limit cost of plugin cloud" in reason_of(client, 3)


# --- whose bursts they are ---------------------------------------------------------------------


def test_where_users_are_limited_each_has_bursts_of_its_own() -> None:
    jobs = [job(n, spec(1, 1, burstable=1), userid=1000 + n % 2) for n in range(1, 7)]
    instance = EmbeddedInstance(Recording(tuple(jobs)))
    limits = Limits(users={"*": Limit(nodes=1)})
    with client_on(instance, Elsewhere("cloud", NODE), policy=of(limits)) as client:
        assert client.run_burst() == []
        owners = {entry.user: set(entry.burst.jobs) for entry in client.ledger.live()}
        assert owners == {1000: {2, 4, 6}, 1001: {1, 3, 5}}


def test_where_queues_are_limited_each_has_bursts_of_its_own() -> None:
    jobs = [job(n, spec(1, 1, burstable=1), queue=q) for n, q in ((1, "batch"), (2, "debug"))]
    with client_on(
        instance_with(*jobs), Elsewhere("cloud", NODE), policy=of(Limits(queues={"*": Limit()}))
    ) as client:
        assert client.run_burst() == []
        assert {entry.queue: entry.burst.jobs for entry in client.ledger.live()} == {
            "batch": (1,),
            "debug": (2,),
        }


def test_where_neither_is_limited_users_share_a_burst_that_is_nobodys() -> None:
    jobs = [job(n, spec(1, 1, burstable=1), userid=1000 + n) for n in (1, 2)]
    with client_on(EmbeddedInstance(Recording(tuple(jobs))), Elsewhere("cloud", NODE)) as client:
        client.run_burst()
        (entry,) = client.ledger.live()
        assert (entry.user, entry.burst.jobs) == (None, (1, 2))


def test_one_user_at_its_limit_leaves_the_rest_to_the_others() -> None:
    jobs = [whole(n, userid=1000 if n < 4 else 1001) for n in range(1, 6)]
    instance = instance_with(*jobs)
    limits = Limits(users={"1000": Limit(nodes=1)})
    with client_on(instance, Elsewhere("cloud", NODE), policy=of(limits)) as client:
        assert [left.id for left in client.run_burst()] == [2, 3]
        assert placed(instance) == [1, 4, 5]


# --- several plugins, passes, clients ----------------------------------------------------------


@pytest.mark.parametrize("what", COUNTED)
def test_two_plugins_in_one_pass_share_what_is_left(what: str) -> None:
    first = Elsewhere("first", replace(NODE, max_nodes=1))
    second = Elsewhere("second", NODE)
    instance = instance_with(*map(whole, range(1, 6)))
    limits = Limits(**{what: 3})  # type: ignore[arg-type]
    with client_on(instance, first, second, policy=of(limits)) as client:
        client.run_burst()
        assert placed(instance) == [1, 2, 3]
        nodes = {entry.burst.plugin: entry.burst.nodes for entry in client.ledger.live()}
        assert nodes == {"first": 1, "second": 2}


def test_two_plugins_share_a_limit_of_bursts() -> None:
    first = Elsewhere("first", replace(NODE, max_nodes=1))
    with client_on(
        instance_with(whole(1), whole(2)),
        first,
        Elsewhere("second", NODE),
        policy=of(Limits(bursts=1)),
    ) as client:
        assert [left.id for left in client.run_burst()] == [2]


def test_a_limit_that_a_plugin_meets_sends_jobs_to_the_next() -> None:
    limits = Limits(plugins={"first": Limit(cost_per_hour=1)})
    instance = instance_with(whole(1), whole(2))
    with client_on(
        instance, Elsewhere("first", NODE), Elsewhere("second", NODE), policy=of(limits)
    ) as client:
        assert client.run_burst() == []
        assert [p.mark and p.mark.plugin for p in instance.pending_jobs()] == ["first", "second"]


@pytest.mark.parametrize("what", COUNTED)
def test_a_limit_holds_after_a_restart(tmp_path: Path, what: str) -> None:
    instance = instance_with(whole(1), whole(2))
    policy = of(Limits(**{what: 1}))  # type: ignore[arg-type]
    cloud = Joining("cloud", instance, NODE)
    with client_on(instance, cloud, policy=policy, state_dir=tmp_path) as client:
        assert len(client.run_burst()) == 1
    again = Joining("cloud", instance, NODE, there=cloud.there)
    with client_on(instance, again, policy=policy, state_dir=tmp_path) as client:
        assert [left.id for left in client.run_burst()] == [2]
    assert again.created == []


def test_what_is_tried_elsewhere_in_the_same_pass_is_limited_too() -> None:
    first = Elsewhere("first", NODE, fails=CapacityError("none"))
    second = Elsewhere("second", NODE)
    instance = instance_with(whole(1), whole(2))
    with client_on(instance, first, second, policy=of(Limits(nodes=1))) as client:
        assert [left.id for left in client.run_burst()] == [2]
    assert len(second.created) == 1
    assert placed(instance) == [1]


def test_a_plan_that_is_applied_late_does_not_pass_a_limit() -> None:
    instance = instance_with(whole(1))
    cloud = Elsewhere("cloud", NODE)
    with client_on(instance, cloud, policy=of(Limits(nodes=1))) as client:
        plan = client.plan()
        client.request_burst("cloud", 1, None)
        with pytest.raises(BurstErrors) as caught:
            client.apply(plan)
        (error,) = caught.value.errors
        assert isinstance(error, LimitError)
        assert "the limit nodes of the instance is 1, of which 1 is used" in str(error)
        assert (len(cloud.created), placed(instance)) == (1, [])


def test_a_burst_by_hand_is_limited() -> None:
    cloud = Elsewhere("cloud", NODE)
    with (
        client_on(instance_with(), cloud, policy=of(Limits(cost_per_hour=2))) as client,
        pytest.raises(BurstErrors, match="the limit cost_per_hour of the instance is 2"),
    ):
        client.request_burst("cloud", 3, None)
    assert cloud.created == []


def test_what_has_ended_counts_with_what_it_cost_and_no_more() -> None:
    instance = instance_with(whole(1))
    cloud = Joining("cloud", instance, NODE)
    with client_on(instance, cloud, policy=of(Limits(cost=1.5))) as client:
        client.run_burst()
        instance.advance(15 * MINUTE)
        client.run_unburst()
        assert client.ledger.entries()[0].cost(instance.now()) == pytest.approx(0.25)
        instance.submit(spec(1, 8, burstable=1, queue="batch"))
        assert client.run_burst() == []
        instance.advance(25 * MINUTE)
        client.run_unburst()
        last = instance.submit(spec(1, 8, burstable=1, queue="batch"))
        assert [left.id for left in client.run_burst()] == [last]
        assert "the limit cost of the instance is 1.5, of which 0.6667 is used" in reason_of(
            client, last
        )


# --- days and leases ---------------------------------------------------------------------------

NOON = 20_000 * DAY + DAY / 2
MIDNIGHT = 20_001 * DAY


def entry(
    since: float, *, nodes: int = 1, lease: float | None = None, ended: float | None = None
) -> Entry:
    state = BurstState.READY if ended is None else BurstState.ENDED
    burst = Burst("b", "cloud", "node", nodes, price=1.0, since=since, lease_until=lease)
    return Entry(1, replace(burst, state=state), 1000, "batch", since, ended=ended)


def nodes_left(limit: Limits, spent: Spent, lease: float = HOUR) -> float:
    return Budget(limit, spent, lease).nodes_left(Owner("cloud", 1000, "batch"), NODE)


def test_a_day_is_one_of_utc() -> None:
    assert start_of_day(NOON) == MIDNIGHT - DAY
    assert start_of_day(MIDNIGHT) == MIDNIGHT
    assert start_of_day(MIDNIGHT - 0.001) == MIDNIGHT - DAY


def test_a_burst_over_midnight_costs_each_day_its_part() -> None:
    over = entry(MIDNIGHT - 6 * HOUR, ended=MIDNIGHT + 2 * HOUR)
    late = MIDNIGHT + DAY
    assert cost_between(over, MIDNIGHT - DAY, MIDNIGHT, late) == pytest.approx(6)
    assert cost_between(over, MIDNIGHT, MIDNIGHT + DAY, late) == pytest.approx(2)
    assert cost_between(over, MIDNIGHT + DAY, MIDNIGHT + 2 * DAY, late) == 0


def test_what_was_spent_yesterday_does_not_count_today() -> None:
    limit = Limits(cost_per_day=10)
    yesterday = entry(MIDNIGHT - 8 * HOUR, ended=MIDNIGHT)
    assert nodes_left(limit, Spent(MIDNIGHT - HOUR, (), (), [yesterday])) == 2
    assert nodes_left(limit, Spent(MIDNIGHT + HOUR, (), (), [yesterday])) == 10


def test_a_lease_that_reaches_into_the_next_day_leaves_room_on_both() -> None:
    limit = Limits(cost_per_day=10)
    spent_today = entry(MIDNIGHT - 9 * HOUR, ended=MIDNIGHT - HOUR)
    assert nodes_left(limit, Spent(MIDNIGHT - MINUTE, (), (), [spent_today])) == 2
    reserved = entry(MIDNIGHT - HOUR, nodes=4, lease=MIDNIGHT + 2 * HOUR)
    assert nodes_left(limit, Spent(MIDNIGHT - MINUTE, [reserved]), 2 * HOUR) == 1


def test_a_lease_of_days_counts_a_whole_day_for_the_limit_of_one() -> None:
    assert nodes_left(Limits(cost_per_day=48), Spent(NOON), 5 * DAY) == 2
    assert nodes_left(Limits(cost=240), Spent(NOON), 5 * DAY) == 2


@pytest.mark.parametrize("what", ["cost", "node_hours"])
def test_what_lives_counts_until_its_lease_ends_and_what_outlives_it_until_now(what: str) -> None:
    limit = Limits(**{what: 10})  # type: ignore[arg-type]
    live = entry(NOON, nodes=2, lease=NOON + HOUR)
    assert nodes_left(limit, Spent(NOON, [live])) == 8
    assert nodes_left(limit, Spent(NOON + 3 * HOUR, [live])) == 4
    assert nodes_left(limit, Spent(NOON, [], [Sum(Owner("cloud", 1000, "batch"), 7.5, 7.5)])) == 2


def test_a_longer_lease_needs_money_for_the_longer_part_only() -> None:
    live = entry(NOON, nodes=2, lease=NOON + HOUR)
    owner = Owner("cloud", 1000, "batch")
    budget = Budget(Limits(nodes=2, cost=4), Spent(NOON + HOUR / 2, [live]), HOUR)
    start, end = NOON + HOUR, NOON + 2 * HOUR
    assert budget.why_not_longer(owner, live.burst, start, end) == ""
    why = budget.why_not_longer(owner, live.burst, start, end + MINUTE)
    assert why == "the limit cost of the instance is 4, of which 2 is used"


def test_a_copy_is_spent_by_itself() -> None:
    budget = Budget(Limits(nodes=3), Spent(NOON), HOUR)
    owner = Owner("cloud")
    assert budget.nodes_left(owner, NODE) == 3
    copied = budget.copy()
    copied.spend(owner, NODE, 2)
    assert (copied.nodes_left(owner, NODE), budget.nodes_left(owner, NODE)) == (1, 3)
    budget.restore(copied)
    assert budget.nodes_left(owner, NODE) == 1


# --- when the money is out ---------------------------------------------------------------------


@pytest.mark.parametrize("what", ["cost", "node_hours", "cost_per_day"])
def test_when_the_money_is_out_a_burst_is_drained_and_ended_before_its_lease_is(what: str) -> None:
    limits = Limits(**{what: 3})  # type: ignore[arg-type]
    instance = EmbeddedInstance(Recording(()))
    cloud = Joining("cloud", instance, NODE)
    policy = of(limits, lease=HOUR, teardown=10 * MINUTE)
    instance.advance(12 * HOUR)  # far from midnight
    with client_on(instance, cloud, policy=policy) as client:
        long = instance.submit(spec(1, 8, burstable=1, duration=20 * HOUR))
        start = instance.now()
        client.run_burst()
        states = set()
        while client.ledger.live():
            instance.advance(MINUTE)
            client.reconcile()
            (only,) = client.ledger.entries()
            states.add(only.burst.state)
            assert only.cost(instance.now()) <= 3
            assert only.projected(instance.now()) <= 3 + 1e-9
        assert BurstState.DRAINING in states
        assert 2 * HOUR < instance.now() - start < 3 * HOUR
        assert instance.job(long)["result"] == CANCELED
        assert f"its lease ends: the limit {what} of the instance is 3" in only.reason


def test_a_new_day_brings_new_money() -> None:
    instance = EmbeddedInstance(Recording(()))
    cloud = Joining("cloud", instance, NODE)
    policy = of(Limits(cost_per_day=3), lease=HOUR, teardown=10 * MINUTE)
    with client_on(instance, cloud, policy=policy) as client:
        for _ in range(3):
            instance.submit(spec(1, 8, burstable=1, duration=20 * HOUR))
        begun = start_of_day(instance.now())
        for _ in range(int(2 * DAY / (20 * MINUTE))):
            instance.advance(5 * MINUTE)
            client.run_burst()
        days: dict[float, float] = {}
        for each in client.ledger.entries():
            for day in range(4):
                start = begun + day * DAY
                spent = cost_between(each, start, start + DAY, instance.now())
                days[start] = days.get(start, 0.0) + spent
        assert all(spent <= 3 + 1e-9 for spent in days.values())


# --- whatever happens --------------------------------------------------------------------------

limited = st.fixed_dictionaries(
    {},
    optional={
        "nodes": st.integers(0, 6),
        "bursts": st.integers(0, 4),
        "node_hours": st.floats(0, 8),
        "cost_per_hour": st.floats(0, 8),
        "cost_per_day": st.floats(0, 10),
        "cost": st.floats(0, 10),
    },
)
steps = st.lists(
    st.one_of(
        st.tuples(
            st.just("submit"),
            st.integers(1, 3),
            st.integers(1, 3),
            st.sampled_from(["batch", "debug"]),
        ),
        st.tuples(st.just("advance"), st.floats(1, 5400)),
        st.tuples(st.just("unburst")),
        st.tuples(st.just("restart")),
    ),
    min_size=1,
    max_size=10,
)


def built(tables: Sequence[dict[str, Any]]) -> Limits:
    """Return limits of every scope, where what is for one is not more than for all."""

    def lower(table: dict[str, Any], most: dict[str, Any]) -> dict[str, Any]:
        table = {k: min(v, most.get(k, v)) for k, v in table.items()}
        if "cost" in table and "cost_per_day" in table:
            table["cost_per_day"] = min(table["cost_per_day"], table["cost"])
        return table

    instance, plugin, user, others, queue = tables
    instance = lower(instance, {})
    plugin, user, others, queue = (lower(t, instance) for t in (plugin, user, others, queue))
    return Limits(
        **instance,
        plugins={"one": Limit(**plugin)},
        users={"1": Limit(**user), "*": Limit(**others)},
        queues={"batch": Limit(**queue)},
    )


def used(entries: Sequence[Entry], what: str, now: float) -> float:
    """Return what bursts use of a limit, counted from the ledger by itself."""
    live = [e for e in entries if e.live]
    if what == "nodes":
        return sum(e.burst.nodes for e in live)
    if what == "bursts":
        return len(live)
    if what == "cost_per_hour":
        return sum(e.burst.nodes * e.burst.price for e in live)
    if what == "cost_per_day":
        days = [start_of_day(now) + n * DAY for n in range(-2, 3)]
        return max(sum(cost_between(e, d, d + DAY, now) for e in entries) for d in days)
    hours = sum(e.node_hours(e.billed_from, e.reserved_to(now)) for e in entries)
    return hours if what == "node_hours" else sum(e.projected(now) for e in entries)


def check_limits(limits: Limits, entries: Sequence[Entry], now: float) -> None:
    scopes: list[tuple[Limit, list[Entry]]] = [
        (limits, list(entries)),
        (limits.plugins["one"], [e for e in entries if e.burst.plugin == "one"]),
        (limits.queues["batch"], [e for e in entries if e.queue == "batch"]),
        *(
            (limits.users["1" if user == 1 else "*"], [e for e in entries if e.user == user])
            for user in (1, 2, 3)
        ),
    ]
    for limit, theirs in scopes:
        for what, value in limit.values():
            assert used(theirs, what, now) <= value + 1e-6, (what, value)


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(limited, min_size=5, max_size=5), steps)
def test_no_limit_is_ever_passed(
    tables: Sequence[dict[str, Any]], happens: Sequence[tuple[Any, ...]]
) -> None:
    limits = built(tables)
    lives = {"lease": HOUR, "teardown": 10 * MINUTE, "idle_timeout": 15 * MINUTE}
    policy = of(limits, **lives, grace=0.0, cancel_jobs=True)
    instance = EmbeddedInstance(Recording(()), queues={"batch": (), "debug": ()})
    clouds: dict[str, dict[str, Burst]] = {"one": {}, "two": {}}
    types = {
        "one": (NODE, NodeType("big", cores=32, price=3.0)),
        "two": (replace(NODE, price=1.5),),
    }

    def client() -> FluxBurst:
        plugins = [Joining(n, instance, *types[n], there=there) for n, there in clouds.items()]
        return client_on(instance, *plugins, policy=policy)

    def look_after(seconds: float) -> None:
        while seconds > 0:
            instance.advance(min(seconds, MINUTE * 2))
            seconds -= MINUTE * 2
            current.reconcile()

    current = client()
    try:
        for step, *values in happens:
            if step == "submit":
                nodes, user, queue = values
                work = spec(nodes, 8, burstable=1, queue=queue, duration=float(user * HOUR))
                instance.submit(work, userid=user)
            elif step == "advance":
                look_after(values[0])
            elif step == "unburst":
                current.run_unburst()
            else:
                current.close()
                current = client()
            current.run_burst()
            check_limits(limits, current.ledger.entries(), instance.now())
            alive = {e.burst.name for e in current.ledger.live()}
            assert alive == {name for there in clouds.values() for name in there}
    finally:
        current.close()
