from __future__ import annotations

from collections.abc import Sequence

import pytest
from support import Elsewhere, client_with, job, spec

from fluxburst import BurstPlugin, FluxBurst, Job, NodeType, Outcome, hookimpl
from fluxburst.errors import InstanceError, OrderingError
from fluxburst.handles.embedded import EmbeddedInstance
from fluxburst.nodes import Node
from fluxburst.ordering import by_price, fewest_jobs, round_robin
from fluxburst.plan import Decision, Plan
from fluxburst.recordings import BUNDLED, load

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
        (Answers(select=1), "answered 1 (int), expected True, False or None"),
        (Answers(order="cloud"), "answered 'cloud' (str), expected a list of plugin names or None"),
        (Answers(order=[1]), "answered [1] (list), expected a list of plugin names or None"),
        (Answers(order=["clod"]), "named the plugin 'clod', which is not loaded; did you mean"),
        (Answers(schedule="no"), "answered 'no' (str), expected True, False or None"),
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
        def pending_jobs(self) -> Sequence[Job]:
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


def test_a_job_with_constraints_does_not_count_on_nodes_that_may_not_match() -> None:
    constrained = spec(1, 1, burstable=1, constraints={"properties": ["gpu"]})
    plan = client_with(Elsewhere("cloud"), jobs=(job(1, constrained), job(2)), nodes=(NODE,)).plan()
    assert [burst.jobs for burst in plan.bursts] == [(1,)]
    assert plan.assignments == {"cloud": (1, 2)}


@pytest.mark.parametrize(
    ("types", "reason"),
    [
        (["x"], "'x', which is not a NodeType"),
        ([NodeType("a", 4), NodeType("a", 64)], "two of the name 'a'"),
        ([NodeType("a", -4)], "a negative or endless number"),
        ([NodeType("a", 4, price=float("nan"))], "a negative or endless number"),
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
