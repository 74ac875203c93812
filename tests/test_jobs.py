from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fluxburst.errors import JobspecError
from fluxburst.model.job import ACTIVE, PENDING, Job, JobState, Mark, queue_order
from fluxburst.model.jobspec import Chunk

unhurried = settings(deadline=None)

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=6),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["user", "fluxburst", "plugin", "burst", "x"]), inner, max_size=3
        )
    ),
    max_leaves=8,
)


def guide_job(**changes: Any) -> Job:
    # The job that the user guide prints.
    return Job(
        {
            "id": 12420793761792,
            "userid": 1000,
            "urgency": 16,
            "priority": 16,
            "t_submit": 1687638917.9938345,
            "t_depend": 1687638918.005533,
            "state": 8,
            "name": "hostname",
            "ntasks": 4,
            "duration": 0.0,
            "nnodes": 4,
            "spec": {
                "resources": [
                    {
                        "type": "node",
                        "count": 4,
                        "exclusive": True,
                        "with": [
                            {
                                "type": "slot",
                                "count": 1,
                                "with": [{"type": "core", "count": 1}],
                                "label": "task",
                            }
                        ],
                    }
                ],
                "tasks": [{"command": ["hostname"], "slot": "task", "count": {"per_slot": 1}}],
                "attributes": {
                    "system": {
                        "duration": 0,
                        "cwd": "/tmp/workflow/gke",
                        "shell": {"options": {"rlimit": {"cpu": -1, "stack": 8388608}}},
                        "burstable": 1,
                    }
                },
                "version": 1,
            },
            **changes,
        }
    )


def with_attributes(system: Any) -> Job:
    job = guide_job()
    job["spec"] = {**job["spec"], "attributes": {"system": system}}
    return job


def test_the_job_of_the_user_guide_is_the_dict_it_was() -> None:
    job = guide_job()
    assert job["id"] == 12420793761792
    assert job["spec"]["attributes"]["system"]["burstable"] == 1
    assert "burstable" in job["spec"]["attributes"]["system"]
    assert isinstance(job, dict)
    assert job == dict(job)


def test_a_job_serialises_to_json_as_it_is() -> None:
    job = guide_job()
    assert job.exclusive
    assert job["info"]
    assert json.loads(json.dumps(job)) == dict(job)


@pytest.mark.parametrize("constraint", [{}, {"properties": ["gpu"]}, {"no such": "operator"}])
def test_the_constraint_is_that_of_the_jobspec(constraint: object) -> None:
    assert with_attributes({"constraints": constraint}).constraint == constraint


@pytest.mark.parametrize("system", [{}, {"constraints": None}])
def test_a_job_without_constraints_has_none(system: object) -> None:
    assert with_attributes(system).constraint is None


@pytest.mark.parametrize("constraint", [[], "", "gpu", 0, False, ["gpu"]])
def test_constraints_that_are_not_an_object_are_malformed(constraint: object) -> None:
    with pytest.raises(JobspecError, match=r"job 12420793761792: .*constraints is not an object"):
        _ = with_attributes({"constraints": constraint}).constraint


def test_info_is_the_copy_with_underscores() -> None:
    info = guide_job()["info"]
    assert info["_id"] == 12420793761792
    assert info["_t_depend"] == 1687638918.005533
    assert info["_nnodes"] == 4
    assert info["_state_id"] == 8
    assert set(info) == {f"_{key}" for key in guide_job() if key not in ("spec", "state")} | {
        "_state_id"
    }


def test_asking_for_info_does_not_change_the_job() -> None:
    job = guide_job()
    before = dict(job)
    assert job["info"]
    assert dict(job) == before
    assert "info" not in job


def test_a_key_that_is_not_there_is_a_key_error() -> None:
    with pytest.raises(KeyError, match="nothing"):
        guide_job()["nothing"]


def test_the_properties_of_the_job_of_the_user_guide() -> None:
    job = guide_job()
    assert (job.id, job.user, job.queue, job.bank) == (12420793761792, 1000, "", "")
    assert job.state is JobState.SCHED
    assert (job.nodes, job.tasks, job.cores, job.gpus, job.memory) == (4, 4, 4, 0, 0)
    assert job.duration == 0.0
    assert job.exclusive is True
    assert job.command == ["hostname"]
    assert job.attributes["cwd"] == "/tmp/workflow/gke"
    assert job.chunks == (Chunk(4, 1, node=True, exclusive=True),)
    assert job.burstable is True
    assert job.mark is None
    assert job.not_startable == ""


def test_properties_are_read_only() -> None:
    with pytest.raises(AttributeError):
        guide_job().cores = 5  # type: ignore[misc]


def test_queue_and_bank_are_what_the_instance_says_or_else_what_was_asked_for() -> None:
    job = with_attributes({"queue": "batch", "bank": "physics"})
    assert (job.queue, job.bank) == ("batch", "physics")
    job["queue"], job["bank"] = "debug", "chemistry"
    assert (job.queue, job.bank) == ("debug", "chemistry")
    job["queue"] = None
    assert job.queue == "batch"


def test_duration_is_what_the_instance_says_or_else_what_was_asked_for() -> None:
    assert guide_job(duration=90.5).duration == 90.5
    job = with_attributes({"duration": 60})
    del job["duration"]
    assert job.duration == 60.0
    assert type(job.duration) is float


def test_a_job_without_user_or_state_still_has_both() -> None:
    job = Job(id=5)
    assert job.user == -1
    assert job.state is JobState.NEW


def test_resources_are_counted_once() -> None:
    job = guide_job()
    assert job.chunks is job.chunks


def test_a_copied_job_is_the_same_job() -> None:
    job = guide_job()
    assert job.cores == 4
    twin = copy.deepcopy(job)
    assert twin == job
    assert isinstance(twin, Job)
    assert twin.cores == 4


# --- burstable -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("flag", "burstable"),
    [(1, True), (True, True), (5, True), ("gke", "gke"), ({"a": 1}, True), ([1], True),
     ("1", True), ("yes", True), ("On", True), ("TRUE", True), ("y", True),
     ("local,gke", "local,gke"), (["local", "gke"], "local,gke"), (" gke ", "gke"),
     (0, False), (False, False), (None, False), ("", False), ({}, False), ([], False),
     ("0", False), ("no", False), ("N", False), ("off", False), ("False", False), (",", False)],
)  # fmt: skip
def test_burstable_is_a_plugin_or_whether_it_is_set(flag: object, burstable: bool | str) -> None:
    found = with_attributes({"burstable": flag}).burstable
    assert found == burstable
    assert type(found) is type(burstable)


@pytest.mark.parametrize(
    ("flag", "names"),
    [("gke", ("gke",)), ("local, gke,", ("local", "gke")), (["a", "b"], ("a", "b")),
     ("yes", ()), (1, ()), ("no", ()), (None, ()), ("", ())],
)  # fmt: skip
def test_a_flag_names_the_plugins_that_are_asked_for_in_order(
    flag: object, names: tuple[str, ...]
) -> None:
    assert with_attributes({"burstable": flag}).asks_for == names


def test_a_job_that_is_not_flagged_is_not_burstable() -> None:
    assert with_attributes({}).burstable is False


# --- marks ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("memo", "mark"),
    [
        ({"plugin": "gke", "burst": "gke-1"}, Mark("gke", "gke-1")),
        ({"plugin": "gke"}, Mark("gke")),
        ({"plugin": "gke", "burst": None}, Mark("gke")),
        ({"plugin": "gke", "burst": 7, "more": 1}, Mark("gke", "7")),
    ],
)
def test_a_mark_is_read_from_the_memo(memo: object, mark: Mark) -> None:
    job = guide_job(annotations={"user": {"fluxburst": memo, "other": 1}, "sched": {}})
    assert job.mark == mark


@pytest.mark.parametrize(
    "annotations",
    [None, 5, "x", [], {}, {"user": None}, {"user": "fluxburst"}, {"user": {}}, {"user": []},
     {"user": {"fluxburst": None}}, {"user": {"fluxburst": "gke"}}, {"user": {"fluxburst": {}}},
     {"user": {"fluxburst": ["plugin"]}}, {"user": {"fluxburst": {"plugin": 5}}},
     {"user": {"fluxburst": {"plugin": None, "burst": "b"}}}, {"sched": {"fluxburst": {}}}],
)  # fmt: skip
def test_annotations_that_are_not_ours_are_no_mark(annotations: object) -> None:
    assert guide_job(annotations=annotations).mark is None


@given(
    json_values
    | st.fixed_dictionaries({"user": json_values})
    | st.fixed_dictionaries({"user": st.fixed_dictionaries({"fluxburst": json_values})})
)
@unhurried
def test_no_annotations_make_reading_the_mark_fail(annotations: object) -> None:
    mark = guide_job(annotations=annotations).mark
    assert mark is None or (isinstance(mark.plugin, str) and isinstance(mark.burst, str))


# --- whether more nodes would let it start -------------------------------------------------


def test_a_job_that_waits_for_capacity_only_is_startable() -> None:
    assert guide_job(state=8, priority=1, urgency=16).not_startable == ""


@pytest.mark.parametrize("state", [s for s in JobState if s is not JobState.SCHED])
def test_a_job_in_any_other_state_is_not_startable_and_says_why(state: JobState) -> None:
    job = guide_job(state=int(state))
    expected = "waits on a dependency" if state is JobState.DEPEND else f"is in state {state.name}"
    assert job.not_startable.startswith(expected)


def test_a_job_that_waits_on_others_names_them() -> None:
    job = guide_job(state=2, dependencies=["after-ok=ƒ12", "begin-time=3"])
    assert job.not_startable == "waits on after-ok=ƒ12, begin-time=3"


@pytest.mark.parametrize("dependencies", [None, [], {}, "x", 5])
def test_a_job_that_waits_on_something_unknown_says_so(dependencies: object) -> None:
    assert guide_job(state=2, dependencies=dependencies).not_startable == "waits on a dependency"


@pytest.mark.parametrize("priority", [0, None])
def test_a_held_job_is_not_startable(priority: object) -> None:
    assert guide_job(priority=priority, urgency=0).not_startable == "is held (urgency 0)"


def test_a_job_of_priority_zero_is_not_startable() -> None:
    assert guide_job(priority=0, urgency=16).not_startable == "has priority 0"


@pytest.mark.parametrize("state", [12, 1024])
def test_a_state_that_is_not_one_known_is_not_startable(state: int) -> None:
    assert "not SCHED" in guide_job(state=state).not_startable


def test_the_sets_of_states_are_those_of_rfc_21() -> None:
    assert {s for s in JobState if s in PENDING} == {
        JobState.DEPEND,
        JobState.PRIORITY,
        JobState.SCHED,
    }
    assert {s for s in JobState if s not in ACTIVE} == {JobState.NEW, JobState.INACTIVE}
    assert [int(state) for state in JobState] == [1, 2, 4, 8, 16, 32, 64]


def test_job_states_have_the_numbers_that_flux_gives_them() -> None:
    constants = pytest.importorskip("flux.constants")
    for state in JobState:
        assert getattr(constants, f"FLUX_JOB_STATE_{state.name}") == int(state)


# --- the order of the queue ----------------------------------------------------------------


def test_the_queue_is_in_order_of_priority_and_then_of_age() -> None:
    jobs = [
        Job(id=3, priority=16),
        Job(id=1, priority=16),
        Job(id=9, priority=4294967295),
        Job(id=2, priority=None),
        Job(id=0),
        Job(id=5, priority=1),
    ]
    assert [job.id for job in sorted(jobs, key=queue_order)] == [9, 1, 3, 5, 0, 2]


# --- malformed jobs ------------------------------------------------------------------------


@pytest.mark.parametrize("spec", [None, 5, "x", []])
@pytest.mark.parametrize(
    "name", ["spec", "attributes", "chunks", "nodes", "tasks", "cores", "burstable", "command"]
)
def test_a_job_without_a_jobspec_says_which_job_it_is(name: str, spec: object) -> None:
    with pytest.raises(JobspecError, match="job 12420793761792: jobspec: is missing") as caught:
        getattr(guide_job(spec=spec), name)
    assert caught.value.job == 12420793761792


@pytest.mark.parametrize(
    ("spec", "problem"),
    [({"resources": []}, "lacks 'attributes'"), ({"attributes": None}, "lacks 'attributes'"),
     ({"attributes": []}, "lacks 'attributes'"),
     ({"attributes": {"system": 5}}, "system is not an object"),
     ({"attributes": {"system": None}}, "system is not an object")],
)  # fmt: skip
@pytest.mark.parametrize("name", ["attributes", "burstable", "queue", "bank"])
def test_a_job_without_attributes_says_which_job_it_is(
    name: str, spec: object, problem: str
) -> None:
    with pytest.raises(JobspecError, match=problem) as caught:
        getattr(guide_job(spec=spec), name)
    assert caught.value.job == 12420793761792


@pytest.mark.parametrize("name", ["chunks", "nodes", "tasks", "cores", "gpus", "memory"])
def test_resources_that_cannot_be_counted_are_refused_by_job(name: str) -> None:
    job = guide_job(spec={"attributes": {}, "resources": [{"type": "core"}]})
    with pytest.raises(JobspecError, match=r"job 12420793761792: jobspec: .*lacks a count"):
        getattr(job, name)


def test_resources_that_cannot_be_counted_do_not_hide_the_rest() -> None:
    job = with_attributes({"burstable": "gke"})
    job["spec"] = {**job["spec"], "resources": None}
    assert job.burstable == "gke"


@pytest.mark.parametrize("tasks", [None, [], [{}], [{"command": []}]])
def test_a_job_without_a_command_has_an_empty_one(tasks: Any) -> None:
    assert guide_job(spec={"tasks": tasks}).command == []


@pytest.mark.parametrize(
    "tasks", ["x", {"a": 1}, 5, [5], [None], [{"command": None}], [{"command": 5}]]
)
def test_a_malformed_command_is_a_jobspec_error(tasks: Any) -> None:
    with pytest.raises(JobspecError):
        guide_job(spec={"tasks": tasks}).command  # noqa: B018


@pytest.mark.parametrize("duration", ["1h", [1], {"a": 1}])
def test_a_malformed_duration_is_a_jobspec_error(duration: Any) -> None:
    with pytest.raises(JobspecError):
        with_attributes({"duration": duration}).duration  # noqa: B018


@given(json_values, json_values)
@unhurried
def test_no_jobspec_makes_the_flags_of_a_job_fail_otherwise(spec: Any, system: Any) -> None:
    for job in (guide_job(spec=spec), with_attributes(system)):
        for name in ("burstable", "queue", "bank", "chunks", "exclusive"):
            try:
                getattr(job, name)
            except JobspecError as error:
                assert error.job == job.id  # noqa: PT017
