from __future__ import annotations

import gc
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from tests.support import Elsewhere, assign, client_with, job, named, spec

from fluxburst import (
    Burst,
    BurstParameters,
    BurstPlugin,
    BurstRequest,
    BurstState,
    FluxBurst,
    Job,
    NodeType,
    hookimpl,
)
from fluxburst.config.file import Config
from fluxburst.errors import (
    BurstError,
    BurstErrors,
    CapacityError,
    ConfigError,
    HeldError,
    HookError,
    ParameterError,
    Problem,
    RequestError,
    UnknownPluginError,
)
from fluxburst.model.job import Mark
from fluxburst.plugin.base import only_looking
from fluxburst.simulation.embedded import EmbeddedInstance
from fluxburst.simulation.recordings import Recording


class Witness:
    """Observers that note what they are told."""

    def __init__(self) -> None:
        self.scheduled: list[tuple[int, str]] = []
        self.unmatched: list[int] = []
        self.changes: list[tuple[str, str | None, str]] = []
        self.failures: list[tuple[str, str]] = []

    @hookimpl
    def fluxburst_job_scheduled(self, job: Job, plugin: BurstPlugin) -> None:
        self.scheduled.append((job.id, plugin.name))

    @hookimpl
    def fluxburst_jobs_unmatched(self, jobs: Sequence[Job]) -> None:
        self.unmatched += [job.id for job in jobs]

    @hookimpl
    def fluxburst_burst_changed(self, burst: Burst, previous: Burst | None) -> None:
        before = previous.state.value if previous else None
        self.changes.append((burst.name, before, burst.state.value))

    @hookimpl
    def fluxburst_phase_failed(self, phase: str, error: Exception) -> None:
        self.failures.append((phase, str(error)))


def watched(client: FluxBurst) -> Witness:
    witness = Witness()
    client.hooks.register(witness, "witness")
    return witness


def marks(client: FluxBurst) -> dict[int, Mark | None]:
    return {j.id: j.mark for j in client.instance.pending_jobs()}


def test_run_burst_brings_up_what_is_planned_and_returns_the_unmatched_jobs() -> None:
    cloud = Elsewhere("cloud")
    client = client_with(cloud, jobs=(job(1), job(2, spec(1, 99, burstable=1))))
    witness = watched(client)
    plan = client.plan()
    assert [j.id for j in client.run_burst()] == [2]
    (burst,) = plan.bursts
    assert cloud.created == [burst.name]
    assert list(cloud.jobs) == [1]
    assert marks(client) == {1: Mark("cloud", burst.name), 2: None}
    assert witness.scheduled == [(1, "cloud")]
    assert witness.unmatched == [2]
    assert witness.changes == [(burst.name, None, "requested"), (burst.name, "requested", "ready")]


def test_a_job_is_marked_before_anything_is_brought_up_for_it() -> None:
    seen: list[Mark | None] = []

    class Checks(Elsewhere):
        def create(self, burst: Burst) -> Burst:
            seen.extend(marks(client).values())
            return super().create(burst)

    client = client_with(Checks("cloud"), jobs=(job(1),))
    client.run_burst()
    assert [mark.plugin for mark in seen if mark] == ["cloud"]


def test_a_second_run_gives_nothing_again() -> None:
    cloud = Elsewhere("cloud")
    client = client_with(cloud, jobs=(job(1), job(2)))
    client.run_burst()
    assert client.run_burst() == []
    assert len(cloud.created) == 1


def test_another_client_does_not_give_a_job_again() -> None:
    first, second = Elsewhere("cloud"), Elsewhere("cloud")
    client = client_with(first, jobs=(job(1),))
    client.run_burst()
    other = FluxBurst(client.instance)
    other.plugins["cloud"] = second
    assert other.select_jobs() == {}
    assert other.run_burst() == []
    assert second.created == []
    assert other.plan().decisions[0].reasons == (
        f"was assigned to cloud in burst {first.created[0]}",
    )


def test_a_job_that_fits_on_free_nodes_is_planned_anew_once_they_are_taken() -> None:
    cloud = Elsewhere("cloud")
    client = client_with(cloud, jobs=(job(1, spec(1, 8, burstable=1)),))
    client.instance.add_nodes(["lead"], NodeType("lead", cores=8))  # type: ignore[attr-defined]
    client.run_burst()
    assert (cloud.created, marks(client)) == ([], {1: Mark("cloud", "")})
    assert client.run_burst() == []
    assert cloud.created == []
    client.instance.drain([0], "testing")
    client.run_burst()
    assert len(cloud.created) == 1


def test_jobs_of_a_burst_that_failed_are_free_again_and_nothing_is_left_of_it() -> None:
    cloud = Elsewhere("cloud", fails=CapacityError("no machines now"))
    client = client_with(cloud, jobs=(job(1),))
    witness = watched(client)
    with pytest.raises(BurstErrors) as caught:
        client.run_burst()
    assert cloud.deleted == cloud.created
    assert cloud.jobs == {}
    assert marks(client) == {1: None}
    assert "plugin cloud, burst cloud-" in str(caught.value)
    assert "no machines now" in str(caught.value)
    assert witness.failures[0][0] == "run"
    assert [b.state for b in client.refresh_bursts()] == [BurstState.FAILED]


def test_what_a_plugins_parameters_do_not_allow_is_offered_on_and_said_all_the_same() -> None:
    wrong = ParameterError("first", [Problem("account", "config", "may not use the partition")])
    first, second = Elsewhere("first", fails=wrong), Elsewhere("second")
    client = client_with(first, second, jobs=(job(1),))
    with pytest.raises(BurstErrors, match=r"account \(from config\): may not use the partition"):
        client.run_burst()
    assert marks(client) == {1: Mark("second", second.created[0])}


def test_a_plugin_that_fails_does_not_keep_the_others_from_running() -> None:
    bad = Elsewhere("bad", NodeType("n", cores=8, max_nodes=1), fails=RuntimeError("API changed"))
    good = Elsewhere("good")
    jobs = tuple(job(n, spec(1, 8, burstable=1)) for n in (1, 2))
    client = client_with(bad, good, jobs=jobs)
    with pytest.raises(BurstErrors) as caught:
        client.run_burst()
    assert len(good.created) == 1
    assert list(good.jobs) == [2]
    assert [burst.plugin for burst in caught.value.bursts] == ["good"]
    (error,) = caught.value.errors
    assert "RuntimeError: API changed" in str(error)


def test_a_burst_that_failed_and_could_not_be_deleted_says_both() -> None:
    class Stuck(Elsewhere):
        def delete(self, burst: Burst) -> None:
            raise BurstError("will not go")

    stuck = Stuck("stuck", fails=CapacityError("half of it"))
    client = client_with(stuck, jobs=(job(1),))
    with pytest.raises(BurstErrors) as caught:
        client.run_burst()
    (burst,) = stuck.bursts.values()
    assert "half of it; and its remains could not be deleted" in burst.error
    assert "will not go" in str(caught.value)
    assert burst.state is BurstState.ENDING
    assert stuck.in_use() == {"node": 1}


def test_a_plugin_without_node_types_is_run_with_its_jobs() -> None:
    ran: list[tuple[bool, list[int]]] = []

    class Old(BurstPlugin):
        name = "old"

        def schedule(self, job: Job) -> bool:
            return True

        def run(  # type: ignore[override]
            self, request_burst: bool = False, nodes: object = None, tasks: object = None
        ) -> None:
            ran.append((request_burst, list(self.jobs)))

    client = client_with(Old(BurstParameters()), jobs=(job(1), job(2)))
    assert client.run_burst() == []
    assert ran == [(False, [1, 2])]
    (entry,) = client.ledger.live()
    assert marks(client) == dict.fromkeys((1, 2), Mark("old", entry.burst.name))
    client.run_burst()
    assert ran == [(False, [1, 2])]


def test_a_package_can_run_a_plugin_in_its_own_way() -> None:
    requests: list[BurstRequest] = []

    class Runs:
        @hookimpl
        def fluxburst_run_plugin(
            self, plugin: BurstPlugin, request: BurstRequest
        ) -> Sequence[Burst]:
            requests.append(request)
            return request.bursts

    cloud = Elsewhere("cloud")
    client = client_with(cloud, jobs=(job(1),))
    client.hooks.register(Runs(), "fluxburst-runs")
    client.run_burst()
    assert cloud.created == []
    assert list(requests[0].jobs) == [1]
    assert requests[0].bursts[0].jobs == (1,)


def test_a_run_hook_that_raises_or_answers_wrongly_frees_the_jobs_and_is_named() -> None:
    for answer in (OSError("boom"), "done"):

        class Runs:
            @hookimpl
            def fluxburst_run_plugin(self, answer: object = answer) -> object:
                if isinstance(answer, Exception):
                    raise answer
                return answer

        client = client_with(Elsewhere("cloud"), jobs=(job(1),))
        client.hooks.register(Runs(), "fluxburst-runs")
        with pytest.raises(BurstErrors) as caught:
            client.run_burst()
        (error,) = caught.value.errors
        assert isinstance(error, HookError)
        assert error.distribution == "fluxburst-runs"
        assert error.subject == "plugin cloud"
        assert marks(client) == {1: None}


def test_capacity_by_hand_needs_no_job() -> None:
    cloud = Elsewhere("cloud")
    client = client_with(cloud)
    assert client.run_burst(request_burst=True, nodes=3, tasks=6) == []
    (burst,) = cloud.bursts.values()
    assert (burst.name, burst.nodes, burst.jobs) == (named("cloud", 1), 3, ())
    (again,) = client.request_burst("cloud", 2, None)
    assert (again.name, again.nodes) == (named("cloud", 2), 2)


def test_capacity_by_hand_gives_no_job_away() -> None:
    client = client_with(Elsewhere("cloud"), jobs=(job(1),))
    client.run_burst(request_burst=True, nodes=1)
    assert marks(client) == {1: None}


def test_capacity_by_hand_is_sized_by_tasks_and_chooses_the_cheapest_type() -> None:
    types = (
        NodeType("small", cores=4, price=0.5),
        NodeType("large", cores=64, price=4.0),
    )
    cloud = Elsewhere("cloud", *types)
    client = client_with(cloud)
    (burst,) = client.request_burst("cloud", None, 10)
    assert (burst.node_type, burst.nodes) == ("small", 3)
    (burst,) = client.request_burst("cloud", 2, 20)
    assert (burst.node_type, burst.nodes) == ("large", 2)


@pytest.mark.parametrize(("nodes", "tasks"), [(None, None), (0, None), (None, 0), (-1, 5)])
def test_capacity_by_hand_needs_a_number(nodes: int | None, tasks: int | None) -> None:
    client = client_with(cloud := Elsewhere("cloud"))
    with pytest.raises((RequestError, BurstErrors), match="at least 1"):
        client.request_burst("cloud", nodes, tasks)
    assert cloud.created == []


def test_capacity_by_hand_of_a_plugin_that_is_not_loaded_is_refused() -> None:
    with pytest.raises(UnknownPluginError, match="'clout'"):
        client_with(Elsewhere("cloud")).request_burst("clout", 1, 1)


def test_run_unburst_takes_all_bursts_of_all_plugins_down() -> None:
    one, two = Elsewhere("one"), Elsewhere("two")
    client = client_with(one, two, jobs=(job(1),))
    client.run_burst()
    client.request_burst("two", 1, None)
    names = [*one.created, *two.created]
    witness = watched(client)
    assert sorted(client.run_unburst()) == sorted(names)
    assert [*one.deleted, *two.deleted] == names
    for name in names:
        steps = [change for change in witness.changes if change[0] == name]
        assert steps == [(name, "ready", "ending"), (name, "ending", "ended")]
    assert one.jobs == {}
    assert client.run_unburst() == []


def test_run_unburst_takes_down_what_only_the_provider_knows_of() -> None:
    class Remembers(Elsewhere):
        def list_bursts(self) -> Collection[str]:
            return [named("cloud", "f")]

    cloud = Remembers("cloud")
    assert client_with(cloud).run_unburst() == [named("cloud", "f")]
    assert cloud.deleted == [named("cloud", "f")]


def test_an_error_in_one_plugin_does_not_keep_the_others_from_being_taken_down() -> None:
    class Stuck(Elsewhere):
        def delete(self, burst: Burst) -> None:
            raise OSError("will not go")

    stuck, cloud = Stuck("stuck"), Elsewhere("cloud")
    client = client_with(stuck, cloud)
    client.run_burst(request_burst=True, nodes=1)
    with pytest.raises(BurstErrors, match="will not go") as caught:
        client.run_unburst()
    assert cloud.deleted == [named("cloud", 1)]
    assert [burst.name for burst in caught.value.bursts] == [named("cloud", 1)]
    left = stuck.bursts[named("stuck", 1)]
    assert left.state is BurstState.ENDING
    assert "terminating it failed, so it may still cost money" in left.problem
    assert "will not go" in left.leftover


def test_a_plugin_that_cannot_be_asked_is_an_error_and_its_known_bursts_still_go() -> None:
    class Mute(Elsewhere):
        def list_bursts(self) -> Collection[str]:
            raise BurstError("does not answer")

    mute = Mute("mute")
    client = client_with(mute)
    mute.bursts[named("mute", 1)] = Burst(
        named("mute", 1), "mute", "node", 1, state=BurstState.READY
    )
    with pytest.raises(BurstErrors, match="does not answer"):
        client.run_unburst()
    assert mute.deleted == [named("mute", 1)]


@pytest.mark.parametrize(
    "run",
    [
        lambda client: client.run_burst(),
        lambda client: client.run_pass(everything=True, patience=10.0),
        lambda client: client.run_cycle().raise_errors(),
    ],
    ids=["run_burst", "run_pass", "run_cycle"],
)
def test_what_failed_in_a_cycle_is_told_with_the_bursts_that_came(
    run: Callable[[FluxBurst], object],
) -> None:
    class Mute(Elsewhere):
        def list_bursts(self) -> Collection[str]:
            raise BurstError("does not answer")

    cloud = Elsewhere("cloud", NodeType("node", cores=8))
    client = client_with(cloud, Mute("mute"), jobs=(job(1, spec(1, 8, burstable=True)),))
    with pytest.raises(BurstErrors, match="does not answer") as caught:
        run(client)
    assert list(caught.value.bursts) == list(cloud.bursts.values())
    assert len(cloud.created) == 1


def test_named_bursts_only_are_taken_down() -> None:
    cloud = Elsewhere("cloud")
    client = client_with(cloud)
    client.request_burst("cloud", 1, None)
    client.request_burst("cloud", 1, None)
    assert client.run_unburst([named("cloud", 2)]) == [named("cloud", 2)]
    assert cloud.bursts[named("cloud", 1)].state is BurstState.READY
    with pytest.raises(RequestError, match="there is no burst 'cloud-9'"):
        client.run_unburst([named("cloud", 1), "cloud-9"])
    assert cloud.bursts[named("cloud", 1)].state is BurstState.READY


def test_a_package_can_take_bursts_down_in_its_own_way() -> None:
    class Spares:
        @hookimpl
        def fluxburst_unburst_plugin(self, bursts: Sequence[Burst]) -> Sequence[str]:
            return []

    cloud = Elsewhere("cloud")
    client = client_with(cloud)
    client.hooks.register(Spares(), "fluxburst-spares")
    client.request_burst("cloud", 1, None)
    assert client.run_unburst() == []
    assert cloud.deleted == []


def test_a_plugin_forgets_jobs_that_have_ended() -> None:
    cloud = Elsewhere("cloud")
    client = client_with(cloud, jobs=(job(1),))
    client.run_burst()
    client.instance.cancel_jobs([1], "testing")
    client.run_burst()
    assert cloud.jobs == {}


def test_a_plan_for_a_plugin_that_is_not_loaded_is_refused_and_nothing_is_done() -> None:
    cloud = Elsewhere("cloud")
    client = client_with(cloud, jobs=(job(1),))
    plan = client.plan()
    del client.plugins["cloud"]
    with pytest.raises(UnknownPluginError):
        client.apply(plan)
    assert marks(client) == {1: None}


def test_failures_of_planning_are_told_when_the_plan_is_applied() -> None:
    client = client_with(Elsewhere("cloud"), jobs=(job(1, {"attributes": {}}),))
    client.set_selector(lambda job: True)
    witness = watched(client)
    client.plan()
    assert witness.failures == []
    client.run_burst()
    assert witness.failures == [("plan", "job 1: jobspec: lacks 'resources'")]


def test_waiting_for_a_state_that_is_none_is_refused() -> None:
    with pytest.raises(RequestError, match="'DONE' is not a job state"):
        client_with().wait_for_jobs(states=["DONE"])


def test_jobs_that_wait_for_a_burst_that_is_taken_down_are_free_again() -> None:
    cloud = Elsewhere("cloud")
    client = client_with(cloud, jobs=(job(1),))
    client.run_burst()
    client.run_unburst()
    assert marks(client) == {1: None}
    client.run_burst()
    first, second = cloud.created
    assert second == f"{first}-2"
    assert marks(client) == {1: Mark("cloud", second)}


def test_bursts_that_a_package_brought_up_itself_are_known_and_can_be_taken_down() -> None:
    class Runs:
        @hookimpl
        def fluxburst_run_plugin(self, request: BurstRequest) -> Sequence[Burst]:
            return [replace(burst, state=BurstState.READY) for burst in request.bursts]

    cloud = Elsewhere("cloud")
    client = client_with(cloud, jobs=(job(1),))
    client.hooks.register(Runs(), "fluxburst-runs")
    (burst,) = client.apply(client.plan())
    assert client.refresh_bursts() == [burst]
    assert client.run_unburst() == [burst.name]
    assert cloud.deleted == [burst.name]


@pytest.mark.parametrize("method", ["node_types", "list_bursts", "refresh"])
def test_a_plugin_that_raises_where_it_is_asked_costs_itself_only(method: str) -> None:
    def fails(*_: object) -> None:
        raise OSError("no route")

    bad, good = Elsewhere("bad"), Elsewhere("good")
    client = client_with(bad, good, jobs=(job(1),))
    if method == "node_types":
        setattr(bad, method, fails)
        plan = client.plan()
        assert plan.assignments == {"bad": (), "good": (1,)}
        assert "bad cannot be asked: plugin bad: OSError: no route" in plan.decisions[0].reasons
        assert [str(error) for error in plan.failures] == ["plugin bad: OSError: no route"]
        return
    first, other = named("bad", "b"), named("good", "9")
    bad.bursts[first] = Burst(first, "bad", "node", 1, state=BurstState.STARTING)
    good.bursts[other] = Burst(other, "good", "node", 1, state=BurstState.READY)
    setattr(bad, method, fails)
    if method == "refresh":
        bursts = {burst.name: burst for burst in client.refresh_bursts()}
        assert bursts[first].state is BurstState.STARTING
        assert "OSError: no route" in bursts[first].error
    else:
        with pytest.raises(BurstErrors, match="plugin bad: OSError: no route"):
            client.run_unburst()
        assert (bad.deleted, good.deleted) == ([first], [other])


def test_a_client_reads_the_usual_configuration_and_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "fluxburst.toml").write_text('ordering = "by_price"\nblock = ["one"]\n')
    monkeypatch.setenv("FLUXBURST_CONFIG", str(tmp_path / "fluxburst.toml"))
    assert FluxBurst(mock=True).config.ordering == "by_price"
    monkeypatch.setenv("FLUXBURST_CONFIG", str(tmp_path / "nothing.toml"))
    with pytest.raises(ConfigError, match="cannot be read"):
        FluxBurst(mock=True)
    assert FluxBurst(mock=True, config=Config()).config.ordering is None


def test_all_marks_of_a_plugin_that_has_nothing_left_are_taken_off() -> None:
    cloud = Elsewhere("cloud")
    client = client_with(cloud, jobs=(job(1), job(2), job(3)))
    assign(client, {1: Mark("cloud", "never-begun"), 2: Mark("cloud"), 3: Mark("gke")})
    client.run_unburst()
    assert marks(client) == {1: None, 2: None, 3: Mark("gke")}


def test_a_plugin_that_could_not_be_emptied_keeps_its_marks() -> None:
    class Stuck(Elsewhere):
        def delete(self, burst: Burst) -> None:
            raise OSError("will not go")

    client = client_with(Stuck("stuck"), jobs=(job(1),))
    client.run_burst()
    before = marks(client)
    with pytest.raises(BurstErrors):
        client.run_unburst()
    assert marks(client) == before


def test_after_an_interrupt_the_next_run_clears_up_and_brings_the_jobs_up_anew() -> None:
    class Interrupted(Elsewhere):
        def create(self, burst: Burst) -> Burst:
            if not self.created:
                self.created.append(burst.name)
                raise KeyboardInterrupt
            return super().create(burst)

    types = (NodeType("small", cores=8), NodeType("gpu", cores=8, gpus=1, price=9.0))
    gpu = {"type": "gpu", "count": 1}
    wants_gpu = spec(1, 8, burstable=1)
    wants_gpu["resources"][0]["with"][0]["with"].append(gpu)
    jobs = (job(1, spec(1, 8, burstable=1)), job(2, wants_gpu))
    cloud = Interrupted("cloud", *types)
    client = client_with(cloud, jobs=jobs)
    names = {burst.jobs: burst.name for burst in client.plan().bursts}
    with pytest.raises(KeyboardInterrupt):
        client.run_burst()
    # It cannot be told what came of it: nobody else may be given the jobs.
    assert marks(client) == {jobs[0]: Mark("cloud", name) for jobs, name in names.items()}
    assert client.run_burst() == []
    assert sorted(cloud.deleted) == sorted(names.values())
    assert {cloud.bursts[name].state for name in names.values()} == {BurstState.FAILED}
    anew = {jobs[0]: Mark("cloud", f"{name}-2") for jobs, name in names.items()}
    assert marks(client) == anew
    assert sorted(cloud.created[1:]) == sorted(mark.burst for mark in anew.values())


def test_a_job_that_fits_on_a_coming_burst_is_marked_with_it() -> None:
    class Slow(Elsewhere):
        def create(self, burst: Burst) -> Burst:
            self.created.append(burst.name)
            return replace(burst, state=BurstState.STARTING)

    slow = Slow("slow", NodeType("node", cores=16))
    client = client_with(slow, jobs=(job(1, spec(1, 8, burstable=1)),))
    client.run_burst()
    second = client.instance.submit(spec(1, 8, burstable=1))  # type: ignore[attr-defined]
    client.run_burst()
    assert len(slow.created) == 1
    assert marks(client)[second] == Mark("slow", slow.created[0])


def test_a_plan_that_is_applied_late_leaves_out_what_was_given_or_started_since() -> None:
    one, two = Elsewhere("cloud"), Elsewhere("cloud")
    first = client_with(one, jobs=(job(1), job(2), job(3)))
    second = FluxBurst(first.instance)
    second.plugins["cloud"] = two
    late = second.plan()
    assign(first, {1: Mark("cloud", "another")})
    first.instance.cancel_jobs([2], "testing")
    second.apply(late)
    assert list(two.jobs) == [3]
    assert marks(first)[1] == Mark("cloud", "another")
    assign(first, {3: Mark("cloud", "another")})
    late = replace(late, assignments={"cloud": (1, 2, 3)})
    two.created.clear()
    second.apply(late)
    assert two.created == []


@pytest.mark.parametrize("answer", [None, "done", Burst("another", "cloud", "node", 1)])
def test_a_create_that_answers_wrongly_is_an_error_and_what_it_made_is_deleted(
    answer: object,
) -> None:
    class Wrong(Elsewhere):
        def create(self, burst: Burst) -> Burst:
            return answer  # type: ignore[return-value]

    wrong = Wrong("cloud")
    client = client_with(wrong, jobs=(job(1),))
    with pytest.raises(BurstErrors, match=r"which is not a burst|returned burst 'another'"):
        client.run_burst()
    assert len(wrong.deleted) == 1
    assert marks(client) == {1: None}
    assert client.plan().bursts


def test_a_burst_counts_as_gone_only_if_the_plugin_says_so() -> None:
    class Forgetful(Elsewhere):
        def list_bursts(self) -> Collection[str]:
            return [named("cloud", 1)]

        def unburst(self) -> Sequence[str]:
            return []

    client = client_with(Forgetful("cloud"))
    assert client.run_unburst() == []


def test_an_unknown_name_is_not_denied_while_a_plugin_cannot_be_asked() -> None:
    class Mute(Elsewhere):
        def list_bursts(self) -> Collection[str]:
            raise BurstError("does not answer")

    with pytest.raises(BurstErrors, match="does not answer"):
        client_with(Mute("mute")).run_unburst([named("cloud", 1)])


def test_one_name_may_be_given_as_text() -> None:
    cloud = Elsewhere("cloud")
    client = client_with(cloud)
    client.request_burst("cloud", 1, None)
    assert client.run_unburst(named("cloud", 1)) == [named("cloud", 1)]
    client.wait_for_jobs(states="inactive")


@pytest.mark.parametrize("setter", ["set_selector", "set_ordering"])
def test_what_is_no_function_is_refused(setter: str) -> None:
    with pytest.raises(RequestError, match="must be a function, not 'burstable'"):
        getattr(client_with(), setter)("burstable")


def test_bursts_that_a_package_brought_up_before_it_failed_are_known_and_can_be_taken_down() -> (
    None
):
    name = named("cloud", "0a")

    class Half:
        @hookimpl
        def fluxburst_run_plugin(self, plugin: BurstPlugin) -> Sequence[Burst]:
            up = Burst(name, plugin.name, "node", 1, state=BurstState.READY)
            raise BurstErrors([CapacityError("no more machines")], [up])

    cloud = Elsewhere("cloud")
    client = client_with(cloud, jobs=(job(1),))
    client.hooks.register(Half(), "fluxburst-half")
    with pytest.raises(BurstErrors, match="no more machines"):
        client.run_burst()
    assert marks(client) == {1: None}
    assert client.run_unburst() == [name]
    assert cloud.deleted == [name]


def test_answers_that_were_waited_for_wake_nobody_and_time_passes() -> None:
    client = client_with(Elsewhere("cloud"), jobs=(job(1),))
    client.run_burst()
    client.refresh_bursts()
    before = client.now()
    client.instance.wait(10.0)
    assert client.now() == before + 10.0


def test_a_client_that_is_let_go_lets_another_act(tmp_path: Path) -> None:
    instance = EmbeddedInstance(Recording((), ()))

    def client() -> FluxBurst:
        made = FluxBurst(instance, state_dir=tmp_path)
        cloud = made.plugins["cloud"] = Elsewhere("cloud")
        made.hooks.register(cloud, "fluxburst-cloud")
        return made

    first = client()
    first.request_burst("cloud", 1, None)
    second = client()
    with pytest.raises(HeldError):
        second.request_burst("cloud", 1, None)
    del first
    gc.collect()
    assert [burst.name for burst in second.request_burst("cloud", 1, None)] == [named("cloud", 2)]
    second.close()


def test_what_failed_before_anything_was_asked_for_costs_nothing_and_is_not_deleted() -> None:
    class Unreachable(Elsewhere):
        def create(self, burst: Burst) -> Burst:
            with only_looking():
                raise ConnectionError("nothing answers")

        def delete(self, burst: Burst) -> None:
            raise BurstError("nothing answers")

    cloud = Unreachable("cloud")
    client = client_with(cloud, jobs=(job(1),))
    with pytest.raises(BurstErrors, match="nothing answers") as caught:
        client.run_burst()
    assert "may cost money" not in str(caught.value)
    (entry,) = client.ledger.entries()
    assert (entry.burst.state, entry.cost(client.now() + 3600)) == (BurstState.FAILED, 0.0)
    assert client.remaining() == []
    assert client.instance.pending_jobs()[0].mark is None
