from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import pytest
from tests.support import Elsewhere, assign, client_with, job, spec

from fluxburst import Burst, BurstPlugin, BurstState, FluxBurst, Job, NodeType, Outcome, hookimpl
from fluxburst.errors import InstanceError, OrderingError
from fluxburst.flux.protocol import Changes
from fluxburst.model.job import Mark
from fluxburst.model.node import Node
from fluxburst.model.plan import Decision, Plan
from fluxburst.plugin.orderings import by_price, fewest_jobs, round_robin
from fluxburst.simulation.embedded import EmbeddedInstance
from fluxburst.simulation.recordings import BUNDLED, load

NODE = Node(0, "lead", cores=8, free_cores=8)


def decision(plan: Plan, jobid: int) -> Decision:
    return next(d for d in plan.decisions if d.id == jobid)


def test_every_pending_job_gets_exactly_one_decision_with_a_reason() -> None:
    client = FluxBurst(EmbeddedInstance(load(BUNDLED)))
    plan = client.plan()
    assert sorted(d.id for d in plan.decisions) == sorted(client.list_jobs())
    assert all(d.reasons and all(d.reasons) for d in plan.decisions)


def test_on_the_recorded_queue_exactly_the_flagged_jobs_that_could_start_are_selected() -> None:
    recording = load(BUNDLED)
    flagged = {
        j["id"]
        for j in recording.jobs
        if "burstable" in j["spec"]["attributes"]["system"]
        and j["state"] == 8
        and j["priority"] > 0
    }
    plan = client_with(jobs=recording.jobs, nodes=recording.nodes).plan()
    assert set(plan.selected) == flagged
    assert len(flagged) == 99


def test_selected_jobs_are_either_assigned_or_unmatched() -> None:
    recording = load(BUNDLED)
    small = Elsewhere("small", NodeType("s", cores=8, max_nodes=20))
    plan = client_with(small, jobs=recording.jobs, nodes=recording.nodes).plan()
    assigned = {jobid for jobs in plan.assignments.values() for jobid in jobs}
    assert assigned
    assert assigned | set(plan.unmatched) == set(plan.selected)
    assert not assigned & set(plan.unmatched)


def test_a_second_plan_equals_the_first_and_plugins_are_unchanged() -> None:
    recording = load(BUNDLED)
    one, two = Elsewhere("one"), Elsewhere("two")
    client = client_with(one, two, jobs=recording.jobs, nodes=recording.nodes)
    client.set_ordering(round_robin)
    first = client.plan()
    assert first.assignments["one"]
    assert first.assignments["two"]
    assert client.plan() == first
    assert (one.jobs, two.jobs, one.created) == ({}, {}, [])


def test_a_plugin_that_collects_jobs_while_it_schedules_does_not_keep_them() -> None:
    class Collector(BurstPlugin):
        name = "collector"

        def schedule(self, job: Job) -> bool:
            self.jobs[job["id"]] = job
            return True

    collector = Collector(Collector._param_dataclass())
    client = client_with(collector, jobs=(job(1),))
    plan = client.plan()
    assert plan.assignments == {"collector": (1,)}
    assert plan.bursts == ()
    assert collector.jobs == {}


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        ({"urgency": 0, "priority": 0}, "is held (urgency 0)"),
        ({"state": 2, "dependencies": ["after-success=ƒ1"]}, "waits on after-success=ƒ1"),
        ({"state": 4}, "is in state PRIORITY, not SCHED"),
    ],
)
def test_a_job_that_waits_for_something_else_brings_up_no_nodes(
    record: dict[str, object], reason: str
) -> None:
    client = client_with(Elsewhere("cloud"), jobs=(job(1, **record),))
    client.set_selector(lambda job: True)
    plan = client.plan()
    assert plan.bursts == ()
    assert decision(plan, 1) == Decision(1, Outcome.NOT_STARTABLE, "", (reason,))


def test_a_job_that_names_a_plugin_is_offered_to_that_one_only() -> None:
    first, second = Elsewhere("first"), Elsewhere("second")
    client = client_with(first, second, jobs=(job(1, spec(burstable="second")),))
    assert client.plan().assignments == {"first": (), "second": (1,)}


def test_a_job_that_names_a_plugin_that_is_not_loaded_says_so() -> None:
    client = client_with(Elsewhere("cloud"), jobs=(job(1, spec(burstable="gke")),))
    found = decision(client.plan(), 1)
    assert found.outcome is Outcome.UNMATCHED
    assert found.reasons == ("asks for plugin 'gke', which is not loaded",)


@pytest.mark.parametrize(
    ("name", "nearest"), [("locl", "local"), ("LOCL", "local"), ("compute-engin", "compute_engine")]
)
def test_a_misspelled_plugin_is_said_with_the_nearest_that_is_loaded(
    name: str, nearest: str
) -> None:
    client = client_with(
        Elsewhere("local"), Elsewhere("compute_engine"), jobs=(job(1, spec(burstable=name)),)
    )
    found = decision(client.plan(), 1)
    assert found.outcome is Outcome.UNMATCHED
    asked = f"asks for plugin {name!r}, which is not loaded; did you mean {nearest!r}?"
    assert found.reasons == (asked,)


@pytest.mark.parametrize("flag", ["compute-engine", "Compute_Engine", "COMPUTE-ENGINE"])
def test_a_plugin_is_found_as_people_write_its_name(flag: str) -> None:
    client = client_with(
        Elsewhere("local"), Elsewhere("compute_engine"), jobs=(job(1, spec(burstable=flag)),)
    )
    assert client.plan().assignments == {"local": (), "compute_engine": (1,)}


def test_a_job_that_names_several_plugins_is_offered_to_these_in_its_order() -> None:
    def plan_for(flag: object, first: str, *others: str) -> Plan:
        small = Elsewhere(first, NodeType("s", cores=8, max_nodes=1))
        jobs = (job(1, spec(nodes=1, burstable=flag)), job(2, spec(nodes=4, burstable=flag)))
        return client_with(*map(Elsewhere, others), small, jobs=jobs).plan()

    plan = plan_for("far,near", "far", "other", "near")
    assert plan.assignments == {"other": (), "near": (2,), "far": (1,)}
    assert plan_for(["near", "far"], "far", "near").assignments == {"near": (1, 2), "far": ()}

    plan = plan_for("nosuch,far", "far", "near")
    assert plan.assignments == {"near": (), "far": (1,)}
    assert decision(plan, 1).reasons[0] == "asks for plugin 'nosuch', which is not loaded"


def test_a_job_that_asks_for_the_same_plugin_twice_is_offered_it_once() -> None:
    vain = Elsewhere("far", NodeType("s", cores=1))
    client = client_with(vain, jobs=(job(1, spec(cores=8, burstable="far,FAR")),))
    assert len(decision(client.plan(), 1).reasons) == 1


def test_what_one_plugin_has_no_room_for_goes_to_the_next() -> None:
    small = Elsewhere("small", NodeType("s", cores=8, max_nodes=1))
    big = Elsewhere("big", NodeType("b", cores=8))
    jobs = tuple(job(n, spec(1, 8, burstable=1)) for n in (1, 2, 3))
    plan = client_with(small, big, jobs=jobs).plan()
    assert plan.assignments == {"small": (1,), "big": (2, 3)}
    assert "small: 1 more of 's' needed, 0 left of 1" in decision(plan, 2).reasons


def test_nodes_that_are_free_already_are_used_first() -> None:
    jobs = tuple(job(n, spec(1, 8, burstable=1)) for n in (1, 2))
    plan = client_with(Elsewhere("cloud"), jobs=jobs, nodes=(NODE,)).plan()
    assert plan.assignments == {"cloud": (1, 2)}
    assert [(b.nodes, b.jobs) for b in plan.bursts] == [(1, (2,))]


def test_nodes_that_are_coming_are_counted_before_new_ones() -> None:
    cloud = Elsewhere("cloud")
    client = client_with(cloud, jobs=(job(1, spec(1, 8, burstable=1)),))
    coming = client.plan().bursts[0]
    cloud.bursts["by-hand"] = type(coming)("by-hand", "cloud", "node", 1)
    assert client.plan().bursts == ()


def test_a_plugin_whose_schedule_raises_for_one_job_costs_that_job_only() -> None:
    class Picky(Elsewhere):
        def schedule(self, job: Job) -> bool:
            if job.id == 2:
                raise RuntimeError("not this one")
            return True

    client = client_with(Picky("picky"), jobs=(job(1), job(2), job(3)))
    plan = client.plan()
    assert plan.assignments == {"picky": (1, 3)}
    failed = decision(plan, 2)
    assert failed.outcome is Outcome.FAILED
    assert "fluxburst_schedule_job for job 2, plugin picky: RuntimeError" in failed.reasons[0]
    assert plan.unmatched == (2,)


@pytest.mark.parametrize(
    "broken",
    [
        {},
        {"attributes": {"system": {"burstable": 1}}},
        {"resources": [], "attributes": {"system": {"burstable": 1}}},
        {"resources": [{"type": "core"}], "attributes": {"system": {"burstable": 1}}},
        {**spec(), "attributes": []},
        "text",
        None,
    ],
)
def test_a_malformed_jobspec_costs_that_job_only(broken: object) -> None:
    bad = job(1)
    bad["spec"] = broken
    client = client_with(Elsewhere("cloud"), jobs=(bad, job(2)))
    plan = client.plan()
    assert plan.assignments == {"cloud": (2,)}
    assert decision(plan, 1).outcome is Outcome.FAILED
    assert decision(plan, 1).reasons[0].startswith("job 1: jobspec: ")


class Answers:
    """Third-party hook implementations that answer what they are told to."""

    def __init__(
        self, select: object = None, order: object = None, schedule: object = None
    ) -> None:
        self.answers = {"select": select, "order": order, "schedule": schedule}

    @hookimpl
    def fluxburst_select_job(self, job: Job) -> object:
        return self.answers["select"]

    @hookimpl
    def fluxburst_order_plugins(self, plugins: object) -> object:
        return self.answers["order"]

    @hookimpl
    def fluxburst_schedule_job(self, job: Job, plugin: BurstPlugin) -> object:
        return self.answers["schedule"]


def planned_with(answers: Answers, *names: str, jobs: Sequence[Job] = ()) -> Plan:
    client = client_with(*(Elsewhere(name) for name in names), jobs=tuple(jobs) or (job(1),))
    client.hooks.register(answers, "fluxburst-third")
    return client.plan()


def test_a_package_can_select_a_job_that_is_not_flagged() -> None:
    plan = planned_with(Answers(select=True), "cloud", jobs=[job(1, spec())])
    assert plan.assignments == {"cloud": (1,)}


def test_a_package_can_refuse_a_job_that_is_flagged() -> None:
    plan = planned_with(Answers(select=False), "cloud")
    assert decision(plan, 1).outcome is Outcome.NOT_SELECTED
    assert decision(plan, 1).reasons == ("the selector said no",)


def test_a_package_without_an_opinion_leaves_the_built_in_answer() -> None:
    assert planned_with(Answers(), "cloud").assignments == {"cloud": (1,)}


def test_a_package_can_order_plugins_and_leave_some_out() -> None:
    plan = planned_with(Answers(order=["three", "two"]), "one", "two", "three")
    assert plan.assignments == {"one": (), "two": (), "three": (1,)}
    plan = planned_with(Answers(order=[]), "one")
    assert decision(plan, 1).reasons == ("no burst plugin is offered it",)


def test_a_package_can_veto_and_can_force_what_a_plugin_schedules() -> None:
    assert planned_with(Answers(schedule=False), "cloud").unmatched == (1,)
    too_big = job(1, spec(1, 64, burstable=1))
    plan = planned_with(Answers(schedule=True), "cloud", jobs=[too_big])
    assert plan.unmatched == (1,)
    assert "no node type has room" in decision(plan, 1).reasons[0]


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        (Answers(select=1), "returned 1 (int), expected True, False or None"),
        (Answers(order="cloud"), "returned 'cloud' (str), expected a list of plugin names or None"),
        (Answers(order=[1]), "returned [1] (list), expected a list of plugin names or None"),
        (Answers(order=["clod"]), "named the plugin 'clod', which is not loaded; did you mean"),
        (Answers(schedule="no"), "returned 'no' (str), expected True, False or None"),
    ],
)
def test_a_wrong_answer_costs_the_job_and_names_the_package(
    answers: Answers, expected: str
) -> None:
    found = decision(planned_with(answers, "cloud"), 1)
    assert found.outcome is Outcome.FAILED
    assert expected in found.reasons[0]
    assert found.reasons[0].startswith("fluxburst-third: ")


def test_a_set_selector_answers_before_packages_and_can_be_reset() -> None:
    client = client_with(Elsewhere("cloud"), jobs=(job(1), job(2, spec())))
    client.hooks.register(Answers(select=False), "fluxburst-third")
    client.set_selector(lambda job: job["id"] == 2)
    assert list(client.select_jobs()) == [2]
    client.reset_selector()
    assert list(client.select_jobs()) == []


def test_the_user_guides_own_selector_works() -> None:
    def is_burstable(jobinfo):  # type: ignore[no-untyped-def]
        return "burstable" in jobinfo["spec"]["attributes"]["system"]

    client = client_with(jobs=(job(1), job(2, spec())))
    client.set_selector(is_burstable)
    assert list(client.select_jobs()) == [1]


def test_a_selector_that_raises_costs_the_job_and_is_named() -> None:
    def picky(job):  # type: ignore[no-untyped-def]
        return job["no such key"]

    client = client_with(Elsewhere("cloud"), jobs=(job(1),))
    client.set_selector(picky)
    assert (
        "picky: fluxburst_select_job for job 1: KeyError" in decision(client.plan(), 1).reasons[0]
    )


def test_an_ordering_that_names_an_unloaded_plugin_is_refused_with_the_nearest() -> None:
    cloud = Elsewhere("cloud")
    client = client_with(cloud, jobs=(job(1),))
    client.set_ordering(lambda plugins: [("clout", cloud)])
    with pytest.raises(OrderingError, match=r"'clout', which is not loaded; did you mean 'cloud'"):
        client.plan()
    with pytest.raises(OrderingError):
        client.run_burst()
    assert cloud.jobs == {}
    assert client.instance.pending_jobs()[0].mark is None


def test_an_ordering_that_yields_something_else_is_refused() -> None:
    client = client_with(Elsewhere("cloud"), jobs=(job(1),))
    client.set_ordering(lambda plugins: plugins)  # type: ignore[arg-type, return-value]
    with pytest.raises(OrderingError, match=r"must yield \(name, plugin\)"):
        client.plan()


def test_iter_plugins_follows_the_ordering() -> None:
    dear = Elsewhere("dear", NodeType("d", cores=8, price=2.0))
    cheap = Elsewhere("cheap", NodeType("c", cores=8, price=1.0))
    client = client_with(dear, cheap)
    assert list(client.iter_plugins()) == [("dear", dear), ("cheap", cheap)]
    client.set_ordering(by_price)
    assert list(client.iter_plugins()) == [("cheap", cheap), ("dear", dear)]


@pytest.mark.parametrize("ordering", [fewest_jobs, round_robin])
def test_orderings_that_share_spread_jobs_evenly(ordering: object) -> None:
    client = client_with(
        Elsewhere("one"), Elsewhere("two"), Elsewhere("three"), jobs=tuple(map(job, range(1, 10)))
    )
    client.set_ordering(ordering)  # type: ignore[arg-type]
    assert [len(jobs) for jobs in client.plan().assignments.values()] == [3, 3, 3]


def test_an_instance_that_goes_away_while_a_plan_is_made_is_one_clear_error() -> None:
    class Gone(EmbeddedInstance):
        def pending_changes(self) -> Changes:
            raise InstanceError("the broker is gone")

    with pytest.raises(InstanceError, match="the broker is gone"):
        FluxBurst(Gone()).plan()


def test_an_instance_that_goes_away_under_a_selector_stops_the_plan() -> None:
    client = client_with(jobs=(job(1),))

    def asks(job: Job) -> bool:
        raise InstanceError("the broker is gone")

    client.set_selector(asks)
    with pytest.raises(InstanceError, match="the broker is gone"):
        client.plan()


def test_a_malformed_job_does_not_keep_the_others_from_being_selected() -> None:
    client = client_with(jobs=(job(1, {"resources": []}), job(2)))
    assert list(client.select_jobs()) == [2]


def test_a_package_that_exits_costs_the_job_only() -> None:
    class Exits:
        @hookimpl
        def fluxburst_select_job(self, job: Job) -> bool:
            raise SystemExit(3)

    client = client_with(jobs=(job(1),))
    client.hooks.register(Exits(), "fluxburst-exits")
    assert "fluxburst-exits" in decision(client.plan(), 1).reasons[0]


# --- constraints ---------------------------------------------------------------------------

FAST = NodeType("fast", cores=8, price=2.0, properties=("fast",))
FAST_NODE = replace(NODE, rank=1, hostname="racer", properties=frozenset({"fast"}))


def constrained(jobid: int, constraint: Any, cores: int = 8, **record: Any) -> Job:
    return job(jobid, spec(1, cores, burstable=1, constraints=constraint), **record)


def fast(jobid: int, cores: int = 8, **record: Any) -> Job:
    return constrained(jobid, {"properties": ["fast"]}, cores, **record)


def test_a_job_with_constraints_counts_only_on_nodes_that_match() -> None:
    client = client_with(Elsewhere("cloud", FAST), jobs=(fast(1),), nodes=(NODE,))
    assert [burst.jobs for burst in client.plan().bursts] == [(1,)]
    client = client_with(Elsewhere("cloud", FAST), jobs=(fast(1),), nodes=(NODE, FAST_NODE))
    plan = client.plan()
    assert plan.bursts == ()
    assert plan.assignments == {"cloud": (1,)}


def test_nodes_are_counted_once_for_jobs_with_constraints_and_without() -> None:
    cloud = Elsewhere("cloud", NodeType("slow", cores=8, price=1.0), FAST)
    jobs = (job(1, spec(1, 8, burstable=1)), fast(2), fast(3), job(4, spec(1, 8, burstable=1)))
    plan = client_with(cloud, jobs=jobs, nodes=(NODE, FAST_NODE)).plan()
    assert [(b.node_type, b.nodes) for b in plan.bursts] == [("fast", 1), ("slow", 1)]


@pytest.mark.parametrize("field", ["hostname", "rank"])
def test_hosts_and_ranks_are_those_of_existing_nodes_and_of_no_new_ones(field: str) -> None:
    there = {"hostname": {"hostlist": ["racer"]}, "rank": {"ranks": ["1"]}}[field]
    jobs = (constrained(1, there), constrained(2, {"not": [there]}), constrained(3, there))
    cloud = Takes("cloud")
    plan = client_with(cloud, jobs=jobs, nodes=(NODE, FAST_NODE)).plan()
    assert plan.assignments == {"cloud": (1, 2)}
    assert plan.bursts == ()
    why = "its constraints name hosts or ranks, and those of new nodes are not known beforehand"
    assert decision(plan, 3).reasons == (f"cloud: {why}",)


class Takes(Elsewhere):
    """Takes every job, whether it fits or not."""

    def schedule(self, job: Job) -> bool:
        return True


def test_a_job_that_no_node_type_matches_is_declined_and_says_so() -> None:
    types = (NodeType("slow", cores=8), replace(FAST, cores=4))
    jobs = (constrained(1, {"properties": ["gpu"]}), fast(2), fast(3, 9), fast(4, 4))
    plan = client_with(Elsewhere("cloud", *types), jobs=jobs).plan()
    assert plan.assignments == {"cloud": (4,)}
    assert [decision(plan, n).reasons for n in (1, 2, 3)] == [
        ("cloud declined: no node type has what its constraints ask for",),
        ("cloud declined: no node type with what its constraints ask for has room for it",),
        ("cloud declined: no node type has room for it",),
    ]


def test_what_one_plugin_does_not_match_goes_to_the_next() -> None:
    plan = client_with(Takes("slow"), Elsewhere("racing", FAST), jobs=(fast(1),)).plan()
    assert plan.assignments == {"slow": (), "racing": (1,)}
    assert decision(plan, 1).reasons[0] == "slow: no node type has what its constraints ask for"


@pytest.mark.parametrize(
    ("constraint", "problem"),
    [
        ([], "attributes.system.constraints is not an object"),
        ({"property": ["a"]}, "constraints: 'property' is not an operator; did you mean"),
        ({"ranks": [0]}, "constraints: 'ranks' lists 0, which is not a text"),
    ],
)
def test_malformed_constraints_cost_that_job_only(constraint: Any, problem: str) -> None:
    jobs = (constrained(1, constraint), job(2), job(3, spec(constraints=constraint)))
    plan = client_with(Elsewhere("cloud"), jobs=jobs).plan()
    assert plan.assignments == {"cloud": (2,)}
    assert decision(plan, 1).outcome is Outcome.FAILED
    assert decision(plan, 1).reasons[0].startswith(f"job 1: jobspec: {problem}")
    assert decision(plan, 3).outcome is Outcome.NOT_SELECTED


def plan_with(
    plugin: Elsewhere,
    jobs: tuple[Job, ...],
    given: Mapping[int, str],
    nodes: tuple[Node, ...] = (),
) -> Plan:
    """Return the plan where some jobs were assigned to the cloud before, each with its burst."""
    client = client_with(plugin, jobs=jobs, nodes=nodes)
    assign(client, {jobid: Mark("cloud", burst) for jobid, burst in given.items()})
    return client.plan()


def test_a_job_given_earlier_keeps_only_nodes_free_that_it_matches() -> None:
    plain = job(2, spec(1, 8, burstable=1))
    for properties, free in (["fast"], NODE), (["^fast"], FAST_NODE):
        jobs = (constrained(1, {"properties": properties}), plain)
        plan = plan_with(Elsewhere("cloud", FAST), jobs, {1: ""}, (NODE, FAST_NODE))
        assert decision(plan, 1).outcome is Outcome.ALREADY_ASSIGNED
        assert plan.bursts == ()
        plan = plan_with(Elsewhere("cloud", FAST), jobs, {1: ""}, (free,))
        assert decision(plan, 1).outcome is not Outcome.ALREADY_ASSIGNED, (
            "what it was to use is gone"
        )


def test_a_job_given_earlier_whose_nodes_are_gone_is_planned_in_its_turn() -> None:
    jobs = (job(1, spec(1, 8, burstable=1)), fast(2), fast(3))
    plan = plan_with(Elsewhere("cloud", replace(FAST, max_nodes=2)), jobs, {2: ""})
    assert plan.assignments == {"cloud": (1, 2)}
    assert plan.selected == (1, 2, 3)


def test_a_job_given_earlier_with_malformed_constraints_stays_given_with_its_burst() -> None:
    jobs = (constrained(1, {"x": []}), constrained(2, {"x": []}), job(3))
    plan = plan_with(Elsewhere("cloud"), jobs, {1: "cloud-1", 2: ""})
    outcomes = [found.outcome for found in plan.decisions]
    assert outcomes == [Outcome.ALREADY_ASSIGNED, Outcome.FAILED, Outcome.ASSIGNED]


def test_a_job_rides_on_a_burst_that_is_coming_if_what_is_free_does_not_match() -> None:
    cloud = Elsewhere("cloud", FAST)
    jobs = (fast(1), constrained(2, {"properties": ["^fast"]}), fast(3))
    client = client_with(cloud, jobs=jobs, nodes=(NODE,))
    cloud.bursts["cloud-1"] = Burst("cloud-1", "cloud", "fast", 1, state=BurstState.STARTING)
    client.hooks.register(Answers(schedule=True), "fluxburst-third")
    plan = client.plan()
    assert plan.assignments == {"cloud": (1, 2, 3)}
    assert plan.shares_burst == {1: "cloud-1"}
    assert [burst.jobs for burst in plan.bursts] == [(3,)]


class MovesToQueue(Elsewhere):
    """Moves its jobs to a queue whose nodes have a property; counts how often it is asked."""

    requires: Any = MappingProxyType({"properties": ["fast"]})

    def constraint_of(self, job: Job) -> Mapping[str, Any] | None:
        if isinstance(self.requires, BaseException) and job.id == 2:
            raise self.requires
        return {} if isinstance(self.requires, BaseException) else self.requires


def test_what_a_plugin_makes_of_constraints_decides_where_its_jobs_fit() -> None:
    jobs = (constrained(1, {"properties": ["batch"]}), job(2, spec(1, 8, burstable=1)))
    cloud = MovesToQueue("cloud", FAST)
    plan = client_with(cloud, jobs=jobs, nodes=(NODE, FAST_NODE)).plan()
    assert plan.assignments == {"cloud": (1, 2)}
    assert [burst.nodes for burst in plan.bursts] == [1]
    slow = MovesToQueue("slow")
    plan = client_with(slow, jobs=jobs, nodes=(NODE, FAST_NODE)).plan()
    assert plan.unmatched == (1, 2)


def test_two_plugins_may_make_different_things_of_constraints() -> None:
    jobs = tuple(job(n, spec(1, 8, burstable=1)) for n in (1, 2, 3))
    limited = MovesToQueue("limited", replace(FAST, max_nodes=0))
    nodes = (replace(NODE, properties=frozenset({"fast"})), replace(NODE, rank=1, hostname="b"))
    plan = client_with(limited, Elsewhere("open"), jobs=jobs, nodes=nodes).plan()
    assert plan.assignments == {"limited": (1,), "open": (2, 3)}
    assert [(burst.plugin, burst.nodes) for burst in plan.bursts] == [("open", 1)]


class MovesEverything(MovesToQueue, Takes):
    """Takes every job, and moves it to its queue."""


@pytest.mark.parametrize("kind", [MovesToQueue, MovesEverything])
def test_a_plugin_whose_constraint_of_raises_for_one_job_costs_that_job_only(
    kind: type[MovesToQueue],
) -> None:
    for error in (RuntimeError("no such queue"), SystemExit("no such queue")):
        cloud = kind("cloud", FAST)
        cloud.requires = error
        plan = client_with(cloud, jobs=(job(1), job(2), job(3))).plan()
        assert plan.assignments == {"cloud": (1, 3)}
        assert decision(plan, 2).outcome is Outcome.FAILED
        assert "cloud" in decision(plan, 2).reasons[0]
        assert str(error) in decision(plan, 2).reasons[0]


def test_a_plugin_that_declines_a_job_may_not_know_its_constraint() -> None:
    class Declines(MovesToQueue):
        requires = RuntimeError("no such queue")

        def schedule(self, job: Job) -> bool:
            return False

    plan = client_with(Declines("cloud", FAST), jobs=(job(2),)).plan()
    assert decision(plan, 2).reasons == ("cloud declined",)


@pytest.mark.parametrize("answer", [{"x": []}, "fast", ["fast"]])
def test_a_plugin_that_makes_nonsense_of_constraints_is_named(answer: Any) -> None:
    class Nonsense(MovesEverything):
        requires = answer

    plan = client_with(Nonsense("cloud", FAST), jobs=(job(1),)).plan()
    reason = decision(plan, 1).reasons[0]
    assert reason.startswith("plugin cloud: constraint_of() for job 1: JobspecError: ")


@pytest.mark.parametrize("kind", [MovesToQueue, MovesEverything])
def test_an_instance_that_goes_away_under_constraint_of_stops_the_plan(
    kind: type[MovesToQueue],
) -> None:
    cloud = kind("cloud", FAST)
    cloud.requires = InstanceError("the broker is gone")
    with pytest.raises(InstanceError, match="the broker is gone"):
        client_with(cloud, jobs=(job(2),)).plan()


def test_a_plugin_that_sizes_its_bursts_itself_sees_to_constraints_itself() -> None:
    class Sizes(MovesEverything):
        requires = RuntimeError("not to be asked")

        def node_types(self) -> tuple[NodeType, ...]:
            return ()

    plan = client_with(Sizes("cloud"), jobs=(fast(1), job(2))).plan()
    assert plan.assignments == {"cloud": (1, 2)}


# --- plugins and packages that go wrong ----------------------------------------------------


@pytest.mark.parametrize(
    ("types", "reason"),
    [
        (["x"], "'x', which is not a NodeType"),
        ([NodeType("a", 4), NodeType("a", 64)], "two with the name 'a'"),
        ([NodeType("a", -4)], "a negative or infinite number"),
        ([NodeType("a", 4, price=float("nan"))], "a negative or infinite number"),
        ([NodeType("a", 4, properties="gpu")], "properties that RFC 20 does not allow: 'gpu'"),  # type: ignore[arg-type]
        ([NodeType("a", 4, properties=("b", "^c"))], "does not allow: ('b', '^c')"),
        ([NodeType("a", 4, properties=("",))], "does not allow: ('',)"),
        ([NodeType("a", 4, properties=(1,))], "does not allow: (1,)"),  # type: ignore[arg-type]
        ([NodeType("a", 4, properties=None)], "does not allow: None"),  # type: ignore[arg-type]
        (None, "TypeError"),
    ],
)
def test_a_plugin_that_supplies_nonsense_is_not_offered_jobs(types: object, reason: str) -> None:
    bad, good = Elsewhere("bad"), Elsewhere("good")
    bad.types = types  # type: ignore[assignment]
    client = client_with(bad, good, jobs=(job(1),))
    for ordering in (None, by_price):
        if ordering:
            client.set_ordering(ordering)
        plan = client.plan()
        assert plan.assignments == {"bad": (), "good": (1,)}
        assert reason in str(plan.failures[0])


def test_a_plugin_that_fails_to_schedule_is_blamed_by_its_distribution() -> None:
    class Fails(Elsewhere):
        def schedule(self, job: Job) -> bool:
            raise RuntimeError("boom")

    plan = client_with(Fails("cloud"), jobs=(job(1),)).plan()
    assert (
        plan.decisions[0].reasons[0].startswith("fluxburst-cloud: fluxburst_schedule_job for job 1")
    )


def test_a_wrapper_that_does_not_yield_once_is_a_hook_error() -> None:
    class Wrapper:
        @hookimpl(wrapper=True)
        def fluxburst_select_job(self, job):  # type: ignore[no-untyped-def]
            yield
            yield

    client = client_with(jobs=(job(1),))
    client.hooks.register(Wrapper(), "fluxburst-wrapper")
    assert decision(client.plan(), 1).outcome is Outcome.FAILED
