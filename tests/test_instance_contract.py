"""What is true of every instance: the same tests run on the embedded one and on a live Flux."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Protocol

import pytest
from live import Flux, running_flux
from support import flux_available, spec

from fluxburst.handles.embedded import EmbeddedInstance
from fluxburst.handles.live import LiveInstance
from fluxburst.handles.protocol import Instance
from fluxburst.jobs import Job, JobState, Mark
from fluxburst.nodes import NodeType

RESOURCE = """
[resource]
noverify = true

[[resource.config]]
hosts = "node0"
cores = "0-1"
"""
HELD, DEFAULT, HIGH = 0, 16, 24


class World(Protocol):
    """An instance, and what can happen to it."""

    def instance(self) -> Instance:
        """Return a new handle to the instance."""
        ...

    def submit(self, jobspec: dict[str, Any], urgency: int = DEFAULT) -> int: ...
    def submit_many(self, jobspec: dict[str, Any], count: int) -> set[int]: ...
    def start_scheduling(self) -> None: ...
    def cancel(self, jobid: int) -> None: ...
    def drain(self) -> None: ...
    def memo(self, jobid: int, key: str, value: str) -> None: ...


class EmbeddedWorld:
    def __init__(self) -> None:
        self._instance = EmbeddedInstance()
        self._instance.add_nodes(["node0"], NodeType("node", cores=2))

    def instance(self) -> Instance:
        return self._instance

    def submit(self, jobspec: dict[str, Any], urgency: int = DEFAULT) -> int:
        return self._instance.submit(jobspec, urgency=urgency)

    def submit_many(self, jobspec: dict[str, Any], count: int) -> set[int]:
        return {self._instance.submit(jobspec) for _ in range(count)}

    def start_scheduling(self) -> None:
        self._instance.advance(0)

    def cancel(self, jobid: int) -> None:
        self._instance.cancel_jobs([jobid], "testing")

    def drain(self) -> None:
        self._instance.drain([0], "testing")

    def memo(self, jobid: int, key: str, value: str) -> None:
        record = self._instance._records[jobid].job
        record["annotations"] = {"user": {key: value}}


class LiveWorld:
    def __init__(self, flux: Flux) -> None:
        import flux as bindings

        self._flux = flux
        self._handle = bindings.Flux(flux.uri)
        flux("queue", "stop", "--all")

    def instance(self) -> Instance:
        import flux as bindings

        return LiveInstance(bindings.Flux(self._flux.uri))

    def submit(self, jobspec: dict[str, Any], urgency: int = DEFAULT) -> int:
        import flux.job

        return int(flux.job.submit(self._handle, json.dumps(jobspec), urgency=urgency))

    def submit_many(self, jobspec: dict[str, Any], count: int) -> set[int]:
        import flux.job

        text = json.dumps(jobspec)
        sent = [flux.job.submit_async(self._handle, text) for _ in range(count)]
        return {int(flux.job.submit_get_id(future)) for future in sent}

    def start_scheduling(self) -> None:
        self._flux("queue", "start", "--all")

    def cancel(self, jobid: int) -> None:
        self._flux("cancel", str(jobid))

    def drain(self) -> None:
        self._flux("resource", "drain", "0")

    def memo(self, jobid: int, key: str, value: str) -> None:
        self._flux("job", "memo", str(jobid), f"{key}={value}")


@pytest.fixture(scope="module")
def flux() -> Iterator[Flux]:
    config = {"resource.toml": RESOURCE}
    with running_flux(config) as running:
        yield running


@pytest.fixture(
    params=[
        "embedded",
        pytest.param(
            "live",
            marks=[
                pytest.mark.flux,
                pytest.mark.skipif(not flux_available(), reason="no live Flux"),
            ],
        ),
    ]
)
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    if request.param == "embedded":
        yield EmbeddedWorld()
        return
    flux: Flux = request.getfixturevalue("flux")
    yield LiveWorld(flux)
    flux("queue", "start", "--all", "--quiet")
    flux("cancel", "--all", "--quiet")
    flux("queue", "drain")
    if flux("resource", "drain", "-no", "{ranks}"):
        flux("resource", "undrain", "0")


def job_of(world: World, jobid: int) -> Job:
    return next(job for job in world.instance().pending_jobs() if job.id == jobid)


def test_pending_jobs_come_with_their_jobspecs(world: World) -> None:
    jobid = world.submit(spec(1, 2, burstable="gke", duration=90.0))
    job = job_of(world, jobid)
    assert (job.nodes, job.cores, job.tasks, job.duration) == (1, 2, 1, 90.0)
    assert (job.state, job.burstable, job.command) == (JobState.SCHED, "gke", ["hostname"])
    assert job["spec"]["attributes"]["system"]["burstable"] == "gke"
    assert {"id", "userid", "urgency", "priority", "t_submit", "state", "ntasks"} <= set(job)


def test_jobs_serialise_to_json_as_they_are(world: World) -> None:
    world.submit(spec())
    (job,) = world.instance().pending_jobs()
    assert json.loads(json.dumps(job)) == job


def test_pending_jobs_are_in_queue_order(world: World) -> None:
    low = world.submit(spec(), urgency=DEFAULT)
    high = world.submit(spec(), urgency=HIGH)
    later = world.submit(spec(), urgency=DEFAULT)
    assert [job.id for job in world.instance().pending_jobs()] == [high, low, later]


def test_more_than_a_thousand_jobs_are_all_listed(world: World) -> None:
    submitted = world.submit_many(spec(), 1100)
    instance = world.instance()
    assert {job.id for job in instance.pending_jobs()} == submitted
    assert set(instance.job_ids()) == submitted


def test_a_job_submitted_later_is_seen_by_the_same_handle(world: World) -> None:
    instance = world.instance()
    first = world.submit(spec())
    assert [job.id for job in instance.pending_jobs()] == [first]
    second = world.submit(spec(cores=2))
    assert [(job.id, job.cores) for job in instance.pending_jobs()] == [(first, 1), (second, 2)]


def test_a_held_job_is_not_startable(world: World) -> None:
    job = job_of(world, world.submit(spec(), urgency=HELD))
    assert (job.state, job["priority"]) == (JobState.SCHED, 0)
    assert job.not_startable == "is held (urgency 0)"


def test_a_job_that_depends_on_another_is_not_startable_until_that_ends(world: World) -> None:
    first = world.submit(spec())
    dependency = {"scheme": "afterany", "value": str(first)}
    second = world.submit(spec(dependencies=[dependency]))
    assert job_of(world, second).state is JobState.DEPEND
    assert job_of(world, second).not_startable.startswith("waits on")
    world.cancel(first)
    world.instance().wait_for_jobs([second], JobState.SCHED)
    assert job_of(world, second).not_startable == ""


def test_marks_last_and_every_handle_sees_them(world: World) -> None:
    jobid = world.submit(spec())
    assert list(world.instance().set_marks({jobid: Mark("gke", "burst-1")})) == []
    assert job_of(world, jobid).mark == Mark("gke", "burst-1")
    assert job_of(world, jobid)["annotations"]["user"]["fluxburst"] == {
        "plugin": "gke",
        "burst": "burst-1",
    }


def test_marks_can_be_changed_and_taken_off(world: World) -> None:
    jobid = world.submit(spec())
    instance = world.instance()
    instance.set_marks({jobid: Mark("gke", "burst-1")})
    instance.set_marks({jobid: Mark("eks", "")})
    assert job_of(world, jobid).mark == Mark("eks", "")
    instance.set_marks({jobid: None})
    assert job_of(world, jobid).mark is None


def test_marks_leave_the_users_own_memo_alone(world: World) -> None:
    jobid = world.submit(spec())
    world.memo(jobid, "note", "mine")
    world.instance().set_marks({jobid: Mark("gke")})
    world.instance().set_marks({jobid: None})
    assert job_of(world, jobid)["annotations"]["user"] == {"note": "mine"}


def test_marking_jobs_that_are_not_active_says_which(world: World) -> None:
    ended, active = world.submit(spec()), world.submit(spec())
    world.cancel(ended)
    instance = world.instance()
    instance.wait_for_jobs([ended], JobState.INACTIVE)
    unknown = 42
    marked = instance.set_marks({ended: Mark("gke"), active: Mark("gke"), unknown: Mark("gke")})
    assert sorted(marked) == sorted([ended, unknown])
    assert job_of(world, active).mark == Mark("gke")


def test_jobs_run_and_end(world: World) -> None:
    jobid = world.submit(spec())
    world.start_scheduling()
    instance = world.instance()
    instance.wait_for_jobs([jobid], JobState.INACTIVE)
    assert instance.job_ids() == []
    assert instance.pending_jobs() == []


def test_waiting_for_unknown_and_for_canceled_jobs_returns(world: World) -> None:
    jobid = world.submit(spec())
    world.cancel(jobid)
    world.instance().wait_for_jobs([42, jobid], JobState.RUN)


def test_nodes_show_what_is_free(world: World) -> None:
    instance = world.instance()
    (node,) = instance.nodes()
    assert (node.rank, node.hostname, node.cores, node.gpus) == (0, "node0", 2, 0)
    assert (node.free_cores, node.usable, node.idle) == (2, True, True)
    jobid = world.submit(spec(None, 1, exec={"test": {"run_duration": "60s"}}))
    world.start_scheduling()
    instance.wait_for_jobs([jobid], JobState.RUN)
    (node,) = instance.nodes()
    assert (node.free_cores, node.idle) == (1, False)


def test_a_drained_node_is_not_usable(world: World) -> None:
    world.drain()
    (node,) = world.instance().nodes()
    assert (node.drained, node.usable) == (True, False)


def test_the_instance_has_the_same_name_for_every_handle(world: World) -> None:
    assert world.instance().name == world.instance().name != ""


def test_time_does_not_go_back(world: World) -> None:
    instance = world.instance()
    before = instance.now()
    instance.wait(0.01)
    assert instance.now() >= before > 1_000_000_000
