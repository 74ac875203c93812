"""No job is placed where it may outlive its node, and leases are as long as their jobs need."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support import Elsewhere, client_on, job, spec

from fluxburst import Burst, BurstState, Duration, FluxBurst, NodeType, Outcome
from fluxburst.config.policy import Lifetimes, Limits, Policy
from fluxburst.model.constraints import MOST_LEVELS, Ends
from fluxburst.model.job import Job
from fluxburst.model.plan import Decision
from fluxburst.simulation.embedded import EmbeddedInstance
from fluxburst.simulation.recordings import Recording

MINUTE, HOUR, DAY = 60.0, 3600.0, 86400.0
STARTUP = TEARDOWN = 10 * MINUTE
NODE = NodeType("node", cores=8, price=1.0)


class Fixed(Elsewhere):
    """A burst plugin whose leases cannot be renewed."""

    not_renewable = "the provider does not extend them"

    def __init__(self, name: str, *types: NodeType) -> None:
        super().__init__(name, *types)
        self.leases: list[float | None] = []

    def create(self, burst: Burst) -> Burst:
        self.leases.append(burst.lease_until)
        return super().create(burst)


def whole(jobid: int, seconds: float) -> Job:
    """Return a job that takes a node for itself, and may run so long; 0 for ever."""
    return job(jobid, spec(1, 8, burstable=1, duration=seconds))


def client_of(
    plugin: Elsewhere, *jobs: Job, limits: Limits | None = None, **lifetimes: float
) -> FluxBurst:
    values = {name: Duration(value) for name, value in lifetimes.items()}
    policy = Policy(Lifetimes(**values), limits=limits or Limits())  # type: ignore[arg-type]
    return client_on(EmbeddedInstance(Recording(jobs)), plugin, policy=policy)


def decided(client: FluxBurst) -> Sequence[Decision]:
    return client.plan().decisions


# --- leases that cannot be renewed -------------------------------------------------------------


def test_a_lease_that_cannot_be_renewed_is_sized_by_the_longest_job_of_its_burst() -> None:
    cloud = Fixed("cloud", NODE)
    with client_of(cloud, whole(1, 4 * HOUR), whole(2, HOUR)) as client:
        start = client.instance.now()
        assert client.run_burst() == []
        assert cloud.leases == [start + STARTUP + 4 * HOUR + TEARDOWN]


def test_a_lease_that_cannot_be_renewed_is_not_shorter_than_the_configuration_says() -> None:
    cloud = Fixed("cloud", NODE)
    with client_of(cloud, whole(1, MINUTE)) as client:
        start = client.instance.now()
        client.run_burst()
        assert cloud.leases == [start + HOUR]


def test_a_lease_that_can_be_renewed_is_as_the_configuration_says() -> None:
    class Renewable(Fixed):
        not_renewable = ""

    cloud = Renewable("cloud", NODE)
    with client_of(cloud, whole(1, 4 * HOUR), whole(2, 0.0)) as client:
        start = client.instance.now()
        assert client.run_burst() == []
        assert cloud.leases == [start + HOUR]


def test_a_job_that_no_lease_is_long_enough_for_is_declined_with_both_numbers() -> None:
    with client_of(Fixed("cloud", NODE), whole(1, 4 * HOUR), max_lifetime=HOUR) as client:
        (decision,) = decided(client)
        assert decision.outcome is Outcome.UNMATCHED
        assert decision.reasons == (
            "cloud: it may run 4h, and a burst of cloud lives 1h at most (the provider does not "
            "extend them), 10m of it for startup and 10m for teardown",
        )


def test_the_time_to_come_up_and_to_be_taken_down_is_not_for_jobs() -> None:
    jobs = whole(1, 40 * MINUTE), whole(2, 41 * MINUTE)
    with client_of(Elsewhere("cloud", NODE), *jobs, max_lifetime=HOUR) as client:
        outcomes = [decision.outcome for decision in decided(client)]
        assert outcomes == [Outcome.ASSIGNED, Outcome.UNMATCHED]


def test_a_job_of_one_part_longer_than_its_type_lives_goes_to_one_that_lives_longer() -> None:
    short = NodeType("short", cores=8, price=1.0, max_lifetime=Duration(HOUR))
    long = NodeType("long", cores=8, price=2.0)
    jobs = whole(1, MINUTE), whole(2, 2 * HOUR)
    with client_of(Elsewhere("cloud", short, long), *jobs) as client:
        bursts = {burst.node_type: burst.jobs for burst in client.plan().bursts}
        assert bursts == {"short": (1,), "long": (2,)}


def test_a_job_that_outlives_all_types_that_have_room_for_it_is_declined_for_that() -> None:
    short = NodeType("short", cores=8, max_lifetime=Duration(HOUR))
    small = NodeType("small", cores=1)
    with client_of(Elsewhere("cloud", short, small), whole(1, 2 * HOUR)) as client:
        (reason,) = decided(client)[0].reasons
        assert "may run 2h, and a burst of cloud lives 1h at most" in reason


def test_a_type_that_ends_its_nodes_sooner_than_a_lease_would_bounds_the_lease() -> None:
    cloud = Fixed("cloud", replace(NODE, max_lifetime=Duration(45 * MINUTE)))
    with client_of(cloud, whole(1, MINUTE)) as client:
        start = client.instance.now()
        client.run_burst()
        assert cloud.leases == [start + 45 * MINUTE]


@pytest.mark.parametrize("life", [0.0, -1.0, float("nan")])
def test_a_type_that_lives_for_no_time_is_refused(life: float) -> None:
    with client_of(
        Elsewhere("cloud", replace(NODE, max_lifetime=Duration(life))), whole(1, 1.0)
    ) as c:
        (reason,) = decided(c)[0].reasons
        assert "node type 'node' has a max_lifetime of" in reason


# --- jobs without a time limit -----------------------------------------------------------------


def test_a_job_without_a_limit_is_only_placed_where_nodes_have_no_end() -> None:
    with client_of(Fixed("cloud", NODE), whole(1, 0.0)) as client:
        (decision,) = decided(client)
        assert decision.reasons == (
            "cloud: it has no time limit, and a lease of cloud cannot be renewed (the provider "
            "does not extend them); set one, or set assumed_duration in [lifetimes]",
        )
    with client_of(Elsewhere("cloud", NODE), whole(1, 0.0)) as client:
        assert decided(client)[0].outcome is Outcome.ASSIGNED


def test_a_job_without_a_limit_is_taken_to_run_as_long_as_is_assumed() -> None:
    cloud = Fixed("cloud", NODE)
    with client_of(cloud, whole(1, 0.0), assumed_duration=2 * HOUR) as client:
        start = client.instance.now()
        assert client.run_burst() == []
        assert cloud.leases == [start + STARTUP + 2 * HOUR + TEARDOWN]


def test_a_job_without_a_limit_may_be_placed_anywhere_if_that_is_wished() -> None:
    cloud = Fixed("cloud", NODE)
    with client_of(cloud, whole(1, 0.0), assumed_duration=0.0, max_lifetime=HOUR) as client:
        assert client.run_burst() == []
        assert len(cloud.leases) == 1


def test_a_lease_without_an_end_is_long_enough_for_all() -> None:
    cloud = Fixed("cloud", NODE)
    with client_of(cloud, whole(1, 0.0), lease=float("inf")) as client:
        assert client.run_burst() == []
        assert cloud.leases == [None]


@pytest.mark.parametrize("answer", [None, True, 3])
def test_a_plugin_that_cannot_tell_is_one_whose_leases_cannot_be_renewed(answer: object) -> None:
    class Odd(Fixed):
        not_renewable = answer  # type: ignore[assignment]

    with client_of(Odd("cloud", NODE), whole(1, 0.0)) as client:
        assert (
            f"not_renewable returned {answer!r}, which is not text" in decided(client)[0].reasons[0]
        )


# --- money -------------------------------------------------------------------------------------


def test_the_money_for_a_sized_lease_is_set_aside_for_as_long_as_it_is() -> None:
    """Each node costs 5 until its lease ends, as its job may run 4 hours and 40 minutes."""
    jobs = [whole(number, 4 * HOUR + 40 * MINUTE) for number in range(1, 5)]
    cloud = Fixed("cloud", NODE)
    with client_of(cloud, *jobs, limits=Limits(cost=10.0)) as client:
        assert [left.id for left in client.run_burst()] == [3, 4]
        (entry,) = client.ledger.live()
        assert entry.burst.nodes == 2
        assert entry.projected(client.instance.now()) == 10.0
        assert "the limit cost of the instance is 10" in decided(client)[-1].reasons[0]


# --- how ends are told apart -------------------------------------------------------------------

times = st.one_of(st.floats(1.0, 1e9), st.integers(1, 20).map(float), st.just(float("inf")))


@given(st.lists(times, max_size=60), st.lists(times, max_size=3), st.lists(times, max_size=60))
def test_no_node_is_ever_taken_for_longer_lived_than_it_is(
    ends: list[float], new: list[float], wanted: list[float]
) -> None:
    told = Ends(coming=ends, new=new, wanted=wanted)
    assert told.judge(wanted, new)
    kinds = [(end, told.kind(end)) for end in ends]
    for until in wanted:
        bit = told.required_bits(until)
        for end, kind in kinds:
            assert end >= until or not (bit == 0 or kind & bit)
            if end == float("inf"):
                assert bit == 0 or kind & bit
    assert len({kind for _, kind in kinds}) <= MOST_LEVELS + 4


def test_which_jobs_new_nodes_outlive_is_told_exactly_however_many_ends_there_are() -> None:
    wanted = [*map(float, range(1, 60)), 99.0, 100.0, 101.0]
    told = Ends(coming=[*map(float, range(1, 60))], new=[100.0], wanted=wanted)
    assert told.judge(wanted, [100.0])


@given(st.lists(times, max_size=8), st.lists(times, max_size=60))
def test_few_ends_are_told_apart_exactly(ends: list[float], wanted: list[float]) -> None:
    told = Ends(coming=ends, wanted=wanted)
    assert told.judge(wanted, ends)


def test_a_burst_that_is_created_keeps_the_lease_that_was_set_aside() -> None:
    class Longer(Fixed):
        def create(self, burst: Burst) -> Burst:
            made = super().create(burst)
            assert made.lease_until is not None
            return replace(made, state=BurstState.STARTING, lease_until=made.lease_until + DAY)

    cloud = Longer("cloud", NODE)
    with client_of(cloud, whole(1, HOUR)) as client:
        client.run_burst()
        assert [entry.burst.lease_until for entry in client.ledger.live()] == cloud.leases
