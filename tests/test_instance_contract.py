"""What is true of every instance: the same tests run on the embedded one and on a live Flux."""

from __future__ import annotations

import json
import signal
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, Protocol

import pytest
from tests.live import TWO_QUEUES, Flux, running_flux, tidy
from tests.site_flux import needs_fluxion, running_fluxion
from tests.support import at_most, flux_available, spec

from fluxburst.errors import InstanceError
from fluxburst.flux.live import LiveInstance
from fluxburst.flux.protocol import Instance
from fluxburst.model.job import PENDING, Job, JobState, Mark
from fluxburst.model.node import NodeType
from fluxburst.model.queues import Queue, why_not_moved
from fluxburst.simulation.embedded import EmbeddedInstance

RESOURCE = """
[resource]
noverify = true

[[resource.config]]
hosts = "node0"
cores = "0-1"
"""
HELD, DEFAULT, HIGH = 0, 16, 24
UNKNOWN = 42


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
    def wait_until_moved(self, jobid: int) -> None: ...
    def stop(self, queue: str, reason: str) -> None: ...
    def start(self, queue: str) -> None: ...
    def disable(self, queue: str, reason: str) -> None: ...
    def exception_of(self, jobid: int) -> tuple[str, str]: ...


class EmbeddedWorld:
    def __init__(self, *, queues: bool = False) -> None:
        needs = {"batch": ["lead"], "burst": ["burst"]} if queues else {}
        self._instance = EmbeddedInstance(queues=needs)
        self._instance.add_nodes(["node0"], NodeType("node", cores=2), ["lead"])
        if queues:
            self._instance.add_nodes(["node1"], NodeType("node", cores=2), ["burst"])

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
        self._instance.set_memo(jobid, key, value)

    def wait_until_moved(self, jobid: int) -> None:
        """Nothing to wait for: it has been when it is told to."""

    def stop(self, queue: str, reason: str) -> None:
        self._instance.set_queue(queue, started=False, why_stopped=reason)

    def start(self, queue: str) -> None:
        self._instance.set_queue(queue, started=True, why_stopped="")

    def disable(self, queue: str, reason: str) -> None:
        self._instance.set_queue(queue, enabled=False, why_disabled=reason)

    def exception_of(self, jobid: int) -> tuple[str, str]:
        job = self._instance.job(jobid)
        return job["exception_type"], job["exception_note"]


class LiveWorld:
    def __init__(self, flux: Flux) -> None:
        import flux as bindings

        self._flux = flux
        self._handle = bindings.Flux(flux.uri)
        self._all_queues("start", False)

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
        self._all_queues("start", True)

    def cancel(self, jobid: int) -> None:
        import flux.job

        flux.job.cancel(self._handle, jobid)

    def drain(self) -> None:
        self._ask("resource.drain", {"targets": "0"})

    def memo(self, jobid: int, key: str, value: str) -> None:
        self._flux("job", "memo", str(jobid), f"{key}={value}")

    def wait_until_moved(self, jobid: int) -> None:
        self._flux("job", "wait-event", "--timeout=60", str(jobid), "jobspec-update")

    def stop(self, queue: str, reason: str) -> None:
        self._flux("queue", "stop", *([queue] if queue else ["--all"]), f"--message={reason}")

    def start(self, queue: str) -> None:
        self._flux("queue", "start", queue)

    def disable(self, queue: str, reason: str) -> None:
        self._flux("queue", "disable", *([queue] if queue else ["--all"]), f"--message={reason}")

    def exception_of(self, jobid: int) -> tuple[str, str]:
        template = "{exception.type}|{exception.note}"
        kind, _, note = self._flux("jobs", "-no", template, str(jobid)).partition("|")
        return kind, note

    def _all_queues(self, verb: str, value: bool) -> None:
        more = {"nocheckpoint": False} if verb == "start" else {}
        self._ask(f"job-manager.queue-{verb}", {verb: value, "all": True, **more})

    def _ask(self, topic: str, request: dict[str, Any]) -> dict[str, Any]:
        answer: dict[str, Any] = self._handle.rpc(topic, request, nodeid=0).get() or {}
        return answer


@pytest.fixture(scope="module")
def flux() -> Iterator[Flux]:
    config = {"resource.toml": RESOURCE}
    with running_flux(config) as running:
        yield running


@pytest.fixture(scope="module")
def flux_of_two() -> Iterator[Flux]:
    with running_flux({"two.toml": TWO_QUEUES}, size=2) as running:
        yield running


@pytest.fixture(scope="module")
def fluxion() -> Iterator[Flux]:
    with running_fluxion({"resource.toml": RESOURCE}) as running:
        yield running


@pytest.fixture(scope="module")
def fluxion_of_two() -> Iterator[Flux]:
    with running_fluxion({"two.toml": TWO_QUEUES}, size=2) as running:
        yield running


BOTH = [
    "embedded",
    pytest.param(
        "live",
        marks=[
            pytest.mark.flux,
            pytest.mark.skipif(not flux_available(), reason="no live Flux"),
        ],
    ),
    pytest.param("fluxion", marks=[pytest.mark.fluxion, needs_fluxion]),
]


def tidied(flux: Flux) -> Iterator[World]:
    """Yield a world on an instance, and leave the instance as it was found."""
    world = LiveWorld(flux)
    yield world
    tidy(flux)


@pytest.fixture(params=BOTH)
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    """An instance of one node, without queues."""
    if request.param == "embedded":
        yield EmbeddedWorld()
    else:
        live = {"live": "flux", "fluxion": "fluxion"}
        yield from tidied(request.getfixturevalue(live[request.param]))


@pytest.fixture(params=BOTH)
def pair(request: pytest.FixtureRequest) -> Iterator[World]:
    """An instance of two nodes, each with a queue of its own: batch and burst."""
    if request.param == "embedded":
        yield EmbeddedWorld(queues=True)
    else:
        live = {"live": "flux_of_two", "fluxion": "fluxion_of_two"}
        yield from tidied(request.getfixturevalue(live[request.param]))


@pytest.fixture(params=BOTH)
def own_pair(request: pytest.FixtureRequest) -> Iterator[World]:
    """Two such nodes for one test alone, that may break them."""
    if request.param == "embedded":
        yield EmbeddedWorld(queues=True)
        return
    start = running_fluxion if request.param == "fluxion" else running_flux
    with start({"two.toml": TWO_QUEUES}, size=2) as running:
        yield LiveWorld(running)


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


# --- what bursts need ------------------------------------------------------------------------


A_MINUTE: dict[str, Any] = {"exec": {"test": {"run_duration": "60s"}}}


def runs_for_a_minute(queue: str, **system: Any) -> dict[str, Any]:
    """Return a jobspec of one node of a queue."""
    return spec(1, 2, queue=queue, **A_MINUTE, **system)


def wait_for(instance: Instance, *jobids: int) -> None:
    """Wait until jobs run."""
    instance.wait_for_jobs(jobids, JobState.RUN)
    running = set(jobids) & set(instance.jobs_on([0, 1]))
    assert running == set(jobids)


def test_an_attribute_that_is_not_set_is_empty(world: World) -> None:
    assert world.instance().attribute("no-such") == ""


def test_jobs_on_nodes_are_those_that_have_something_of_them(pair: World) -> None:
    here, there = (pair.submit(runs_for_a_minute(queue)) for queue in ("batch", "burst"))
    instance = pair.instance()
    assert instance.jobs_on([0, 1]) == []
    pair.start_scheduling()
    wait_for(instance, here, there)
    waiting = pair.submit(runs_for_a_minute("batch"))
    assert instance.jobs_on([0]) == [here]
    assert instance.jobs_on([1]) == [there]
    assert sorted(instance.jobs_on([0, 1])) == sorted([here, there])
    assert instance.jobs_on([]) == instance.jobs_on([7]) == []
    instance.cancel_jobs([waiting, there], "testing")
    instance.wait_for_jobs([there], JobState.INACTIVE)
    assert instance.jobs_on([0, 1]) == [here]


def test_pending_and_running_jobs_are_canceled(pair: World) -> None:
    running, other = (pair.submit(runs_for_a_minute(queue)) for queue in ("batch", "burst"))
    pair.start_scheduling()
    instance = pair.instance()
    wait_for(instance, running, other)
    pending = pair.submit(runs_for_a_minute("batch"))
    held = pair.submit(runs_for_a_minute("burst"), urgency=HELD)
    instance.cancel_jobs([pending, running, held], "testing")
    instance.wait_for_jobs([pending, running, held], JobState.INACTIVE)
    assert instance.job_ids() == [other]
    assert instance.nodes()[0].idle


def test_jobs_that_are_held_do_not_start_until_they_are_let_go(world: World) -> None:
    jobid = world.submit(spec())
    instance = world.instance()
    assert list(instance.set_urgencies({jobid: HELD})) == []
    world.start_scheduling()
    later = world.submit(spec())
    instance.wait_for_jobs([later], JobState.INACTIVE)
    assert job_of(world, jobid).not_startable == "is held (urgency 0)"
    assert list(instance.set_urgencies({jobid: DEFAULT})) == []
    instance.wait_for_jobs([jobid], JobState.INACTIVE)
    assert instance.job_ids() == []


def test_jobs_that_have_resources_or_have_ended_are_told_and_not_held(world: World) -> None:
    ended = world.submit(spec())
    world.start_scheduling()
    instance = world.instance()
    instance.wait_for_jobs([ended], JobState.INACTIVE)
    running = world.submit(spec(1, 2, **A_MINUTE))
    wait_for(instance, running)
    pending = world.submit(spec(1, 2, **A_MINUTE))
    refused = instance.set_urgencies(dict.fromkeys([ended, running, pending, UNKNOWN], HELD))
    assert sorted(refused) == sorted([ended, running, UNKNOWN])
    assert list(instance.set_urgencies({})) == []


def test_a_job_that_is_held_while_it_is_being_scheduled_is_held_or_told(world: World) -> None:
    instance = world.instance()
    world.start_scheduling()
    for _ in range(10):
        jobs = sorted(world.submit_many(spec(), 5))
        refused = instance.set_urgencies(dict.fromkeys(jobs, HELD))
        held = [jobid for jobid in jobs if jobid not in refused]
        instance.wait_for_jobs(list(refused), JobState.INACTIVE)
        later = world.submit(spec())
        instance.wait_for_jobs([later], JobState.INACTIVE)
        assert sorted(job.id for job in instance.pending_jobs()) == held
        instance.cancel_jobs(held, "testing")


def test_jobs_that_ran_elsewhere_end_with_the_note(world: World) -> None:
    first, second = (world.submit(spec(), urgency=HELD) for _ in range(2))
    instance = world.instance()
    instance.end_jobs({first: "it completed in burst b", UNKNOWN: "nothing"})
    instance.end_jobs({})
    instance.wait_for_jobs([first], JobState.INACTIVE)
    instance.end_jobs({first: "it did so before"})
    assert instance.job_ids() == [second]
    assert world.exception_of(first) == ("burst", "it completed in burst b")
    assert instance.exception_of(first) == "burst: it completed in burst b"


def test_what_ended_a_job_is_told_once_it_has_ended(world: World) -> None:
    canceled, held = (world.submit(spec(), urgency=HELD) for _ in range(2))
    well = world.submit(spec())
    world.start_scheduling()
    instance = world.instance()
    instance.cancel_jobs([canceled], "testing")
    instance.wait_for_jobs([canceled, well], JobState.INACTIVE)
    assert instance.exception_of(canceled) == "cancel: testing"
    assert [instance.exception_of(jobid) for jobid in (held, well, UNKNOWN)] == ["", "", ""]


def test_a_jobspec_has_the_environment(world: World) -> None:
    made = spec(environment={"COLOUR": "blue"}, cwd="/tmp")
    jobid = world.submit(made)
    found = world.instance().jobspec(jobid)
    assert found["attributes"]["system"]["environment"] == {"COLOUR": "blue"}
    assert found["resources"] == made["resources"]
    with pytest.raises(InstanceError, match="no job"):
        world.instance().jobspec(UNKNOWN)


def test_canceling_jobs_that_have_ended_or_are_not_known_is_nothing(pair: World) -> None:
    ended = pair.submit(spec(queue="batch"))
    pair.start_scheduling()
    instance = pair.instance()
    instance.wait_for_jobs([ended], JobState.INACTIVE)
    active = pair.submit(runs_for_a_minute("batch"))
    instance.cancel_jobs([], "testing")
    instance.cancel_jobs([UNKNOWN, ended], "testing")
    assert instance.job_ids() == [active]
    instance.cancel_jobs([UNKNOWN, active, ended], "testing")
    instance.wait_for_jobs([active], JobState.INACTIVE)
    assert instance.job_ids() == []


def test_nodes_show_what_they_are_drained_for(pair: World) -> None:
    pair.instance().drain([1], "is taken down")
    nodes = pair.instance().nodes()
    assert [(node.drained, node.drain_reason) for node in nodes] == [
        (False, ""),
        (True, "is taken down"),
    ]


def test_draining_again_keeps_the_earlier_reason(pair: World) -> None:
    instance = pair.instance()
    instance.drain([1], "first")
    instance.drain([0, 1], "second")
    instance.drain([1], "third")
    instance.drain([], "nothing")
    assert [node.drain_reason for node in instance.nodes()] == ["second", "first"]
    assert not any(node.usable for node in instance.nodes())


def test_undraining_takes_back_what_is_drained_and_leaves_the_rest(pair: World) -> None:
    instance = pair.instance()
    instance.undrain([0, 1])
    instance.undrain([])
    instance.drain([0, 1], "testing")
    instance.undrain([1])
    assert [node.drained for node in instance.nodes()] == [True, False]
    instance.undrain([0, 1])
    assert [(node.usable, node.drain_reason) for node in instance.nodes()] == [(True, "")] * 2
    instance.drain([1], "another")
    assert instance.nodes()[1].drain_reason == "another"


def test_jobs_are_started_on_nodes_that_were_taken_back(pair: World) -> None:
    instance = pair.instance()
    instance.drain([1], "testing")
    jobid = pair.submit(runs_for_a_minute("burst"))
    pair.start_scheduling()
    assert job_of(pair, jobid).state is JobState.SCHED
    instance.undrain([1])
    pair.start_scheduling()
    wait_for(instance, jobid)


def test_a_pending_job_that_is_moved_runs_in_its_new_queue(pair: World) -> None:
    jobid = pair.submit(runs_for_a_minute("batch"))
    instance = pair.instance()
    assert job_of(pair, jobid).queue == "batch"
    assert dict(instance.move_jobs([jobid], "burst")) == {}
    assert job_of(pair, jobid).queue == "burst"
    assert job_of(pair, jobid)["spec"]["attributes"]["system"]["queue"] == "burst"
    pair.start_scheduling()
    wait_for(instance, jobid)
    assert instance.jobs_on([1]) == [jobid]


def test_jobs_that_are_held_or_wait_for_others_are_moved_and_moved_back(pair: World) -> None:
    first = pair.submit(runs_for_a_minute("batch"))
    held = pair.submit(runs_for_a_minute("batch"), urgency=HELD)
    dependency = {"scheme": "afterany", "value": str(first)}
    depends = pair.submit(runs_for_a_minute("batch", dependencies=[dependency]))
    instance = pair.instance()
    assert dict(instance.move_jobs([held, depends], "burst")) == {}
    assert [job_of(pair, jobid).queue for jobid in (held, depends)] == ["burst", "burst"]
    assert dict(instance.move_jobs([held, depends], "batch")) == {}
    assert [job_of(pair, jobid).queue for jobid in (held, depends)] == ["batch", "batch"]


def test_a_job_keeps_its_mark_when_it_is_moved(pair: World) -> None:
    jobid = pair.submit(runs_for_a_minute("batch"))
    instance = pair.instance()
    instance.set_marks({jobid: Mark("local", "burst-1", "batch")})
    instance.move_jobs([jobid], "burst")
    assert job_of(pair, jobid).mark == Mark("local", "burst-1", "batch")


def test_a_job_that_was_moved_is_the_same_for_every_handle(pair: World) -> None:
    jobid = pair.submit(runs_for_a_minute("batch"))
    instance = pair.instance()
    instance.pending_jobs()
    instance.move_jobs([jobid], "burst")
    pair.wait_until_moved(jobid)
    (seen,) = instance.pending_jobs()
    assert seen.constraint == job_of(pair, jobid).constraint
    assert seen["spec"] == job_of(pair, jobid)["spec"]


def test_jobs_that_cannot_be_moved_are_told_with_the_reason_and_stay(pair: World) -> None:
    ended = pair.submit(spec(queue="batch"))
    pair.start_scheduling()
    instance = pair.instance()
    instance.wait_for_jobs([ended], JobState.INACTIVE)
    running = pair.submit(runs_for_a_minute("batch"))
    pair.start_scheduling()
    wait_for(instance, running)
    pending = pair.submit(runs_for_a_minute("batch"))
    refused = instance.move_jobs([ended, running, pending, UNKNOWN], "burst")
    assert set(refused) == {ended, running, UNKNOWN}
    assert all(refused.values())
    assert running in instance.jobs_on([0])
    held = pair.submit(runs_for_a_minute("batch"), urgency=HELD)
    refused = instance.move_jobs([held], "no-such")
    assert set(refused) == {held}
    assert "no-such" in refused[held]
    assert job_of(pair, held).queue == "batch"


def test_queues_are_told_with_their_state_and_who_may_run_there(pair: World) -> None:
    pair.start_scheduling()
    pair.stop("burst", "maintenance")
    pair.disable("batch", "closed")
    batch, burst = queue("batch", requires=("lead",)), queue("burst", requires=("burst",))
    assert pair.instance().queues() == {
        "batch": replace(batch, enabled=False, why_disabled="closed"),
        "burst": replace(burst, started=False, why_stopped="maintenance"),
    }


def test_an_instance_without_named_queues_has_one(world: World) -> None:
    world.start_scheduling()
    assert world.instance().queues() == {"": queue("")}
    world.stop("", "maintenance")
    stopped = replace(queue(""), started=False, why_stopped="maintenance")
    assert world.instance().queues() == {"": stopped}


def queue(name: str, requires: tuple[str, ...] = ()) -> Queue:
    """Return a queue whose jobs may run as long as they ask for, or for ever."""
    return Queue(name, requires=requires, duration=0.0, longest=0.0)


def test_a_job_in_a_queue_that_is_stopped_waits_and_in_one_that_is_disabled_it_starts(
    pair: World,
) -> None:
    instance = pair.instance()
    pair.stop("batch", "maintenance")
    pair.stop("burst", "not yet")
    stopped, disabled = (pair.submit(runs_for_a_minute(queue)) for queue in ("batch", "burst"))
    pair.disable("burst", "closed")
    pair.start("burst")
    instance.wait_for_jobs([disabled], JobState.RUN)
    assert instance.job_ids(PENDING) == [stopped]


WITH_OWN = {"constraints": {"properties": ["lead"], "not": [{"properties": ["burst"]}]}}


@pytest.mark.parametrize("constraints", [{}, {"constraints": {"properties": ["lead"]}}, WITH_OWN])
def test_what_is_said_of_a_move_beforehand_is_what_happens(
    pair: World, constraints: dict[str, Any]
) -> None:
    jobid = pair.submit(spec(1, 1, queue="batch", **constraints), urgency=HELD)
    pair.start_scheduling()
    instance = pair.instance()
    foreseen = why_not_moved(job_of(pair, jobid), "burst", instance.queues())
    refused = instance.move_jobs([jobid], "burst")
    assert bool(foreseen) == bool(refused)
    assert bool(refused) == (constraints is WITH_OWN)


def test_no_job_is_moved_to_a_queue_that_is_disabled(pair: World) -> None:
    jobid = pair.submit(spec(queue="batch"), urgency=HELD)
    pair.start_scheduling()
    pair.disable("burst", "closed")
    instance = pair.instance()
    foreseen = why_not_moved(job_of(pair, jobid), "burst", instance.queues())
    assert foreseen == "its queue 'burst' is disabled (closed)"
    assert "disabled" in instance.move_jobs([jobid], "burst")[jobid]


def test_an_instance_without_queues_refuses_to_move_jobs(world: World) -> None:
    jobid = world.submit(spec())
    refused = world.instance().move_jobs([jobid], "burst")
    assert (set(refused), job_of(world, jobid).queue) == ({jobid}, "")
    assert "burst" in refused[jobid]


def test_waiting_until_a_job_runs_returns_while_it_runs(pair: World) -> None:
    pair.start_scheduling()
    jobid = pair.submit(runs_for_a_minute("batch"))
    instance = pair.instance()
    instance.wait_for_jobs([jobid], JobState.RUN)
    assert instance.jobs_on([0]) == [jobid]


def test_nodes_that_are_disconnected_are_down_and_their_jobs_have_failed(own_pair: World) -> None:
    sleeps = [spec(queue=queue) for queue in ("batch", "burst")]
    for jobspec in sleeps:
        jobspec["tasks"][0]["command"] = ["sleep", "600"]
    here, there = map(own_pair.submit, sleeps)
    own_pair.start_scheduling()
    instance = own_pair.instance()
    wait_for(instance, here, there)
    instance.disconnect([])
    instance.disconnect([1])
    instance.wait_for_jobs([there], JobState.INACTIVE)
    assert instance.job_ids() == [here]
    with at_most(60):
        while instance.nodes()[1].up:
            instance.wait(0.05)
    assert [(node.up, node.usable) for node in instance.nodes()] == [(True, True), (False, False)]
    instance.disconnect([1])
    instance.drain([1], "gone")
    assert instance.nodes()[1].drain_reason == "gone"
    instance.undrain([1])
    assert not instance.nodes()[1].drained
    assert instance.jobs_on([0, 1]) == [here]


# --- what happens, as it happens -------------------------------------------------------------


class Mirror:
    """The pending jobs, as they are known from changes alone."""

    def __init__(self, instance: Instance) -> None:
        self.instance = instance
        self.jobs: dict[int, Job] = {}

    def update(self) -> set[int]:
        """Take in what changed, and return which jobs did."""
        changes = self.instance.pending_changes()
        if changes.complete:
            self.jobs.clear()
        self.jobs.update({job.id: job for job in changes.jobs})
        for jobid in changes.gone:
            del self.jobs[jobid]
        return {job.id for job in changes.jobs} | set(changes.gone)

    def until(self, condition: Callable[[], bool]) -> None:
        with at_most(60):
            self.update()
            while not condition():
                self.instance.wait(1)
                self.update()


def without_environment(job: Job) -> dict[str, Any]:
    plain: dict[str, Any] = json.loads(json.dumps(job))
    plain["spec"]["attributes"]["system"].pop("environment", None)
    return plain


def records(jobs: Any) -> dict[int, dict[str, Any]]:
    return {job.id: without_environment(job) for job in jobs}


def test_the_first_changes_are_all_pending_jobs(world: World) -> None:
    submitted = world.submit_many(spec(), 3)
    changes = world.instance().pending_changes()
    assert ({job.id for job in changes.jobs}, changes.complete) == (submitted, True)
    assert not changes.gone


def test_without_a_change_there_are_none(world: World) -> None:
    world.submit(spec())
    mirror = Mirror(world.instance())
    mirror.until(lambda: [job.state for job in mirror.jobs.values()] == [JobState.SCHED])
    changes = mirror.instance.pending_changes()
    assert (list(changes.jobs), set(changes.gone), changes.complete) == ([], set(), False)


def test_changes_give_the_records_of_pending_jobs(pair: World) -> None:
    mirror = Mirror(pair.instance())
    mirror.update()
    first = pair.submit(runs_for_a_minute("batch"))
    held = pair.submit(runs_for_a_minute("burst"), urgency=HELD)
    dependency = {"scheme": "afterany", "value": str(first)}
    second = pair.submit(runs_for_a_minute("batch", dependencies=[dependency], burstable="gke"))
    cores = pair.submit(spec(None, 1, queue="batch", duration=60.0, job={"name": "named"}))
    mirror.instance.set_marks({first: Mark("gke"), held: Mark("gke"), cores: Mark("gke", "b")})
    mirror.instance.move_jobs([held, cores], "burst")
    mirror.instance.set_marks({held: None})
    pair.memo(first, "note", "mine")
    jobids = {first, held, second, cores}
    mirror.until(
        lambda: (
            records(mirror.jobs.values()) == records(pair.instance().pending_jobs())
            and mirror.jobs.keys() == jobids
        )
    )
    pair.cancel(first)
    mirror.until(lambda: mirror.jobs.keys() == {held, second, cores})
    mirror.until(lambda: mirror.jobs[second].state is JobState.SCHED)
    mirror.until(lambda: records(mirror.jobs.values()) == records(pair.instance().pending_jobs()))


def test_only_jobs_that_changed_are_told(world: World) -> None:
    jobs = sorted(world.submit_many(spec(), 5))
    mirror = Mirror(world.instance())
    mirror.until(lambda: [j.state for j in mirror.jobs.values()] == [JobState.SCHED] * 5)
    mirror.instance.set_marks({jobs[2]: Mark("gke", "b1")})
    assert mirror.update() == {jobs[2]}
    assert mirror.jobs[jobs[2]].mark == Mark("gke", "b1")
    mirror.instance.cancel_jobs([jobs[3]], "testing")
    assert mirror.update() == {jobs[3]}
    assert mirror.jobs.keys() == set(jobs) - {jobs[3]}


def test_changes_are_in_queue_order(world: World) -> None:
    instance = world.instance()
    instance.pending_changes()
    low, high = world.submit(spec()), world.submit(spec(), urgency=HIGH)
    instance.wait_for_jobs([low, high], JobState.SCHED)
    assert [job.id for job in instance.pending_changes().jobs] == [high, low]


def test_a_job_that_starts_is_gone(world: World) -> None:
    jobid = world.submit(spec(1, 2, exec={"test": {"run_duration": "60s"}}))
    mirror = Mirror(world.instance())
    mirror.until(lambda: jobid in mirror.jobs)
    world.start_scheduling()
    mirror.until(lambda: not mirror.jobs)


def test_a_job_that_came_and_went_unseen_is_not_told(world: World) -> None:
    instance = world.instance()
    instance.pending_changes()
    jobid = world.submit(spec())
    world.cancel(jobid)
    instance.wait_for_jobs([jobid], JobState.INACTIVE)
    changes = instance.pending_changes()
    assert (list(changes.jobs), set(changes.gone)) == ([], set())


def test_after_close_the_changes_are_complete_again(world: World) -> None:
    jobid = world.submit(spec())
    instance = world.instance()
    instance.pending_changes()
    instance.close()
    instance.close()
    changes = instance.pending_changes()
    assert ([job.id for job in changes.jobs], changes.complete) == ([jobid], True)
    assert [job.id for job in instance.pending_jobs()] == [jobid]
    instance.close()


def test_a_woken_wait_returns(world: World) -> None:
    instance = world.instance()
    with at_most(30):
        instance.wake()
        instance.wait(3600)
        timer = threading.Timer(0.1, instance.wake)
        timer.start()
        instance.wait(3600)
        timer.join()


def test_a_wait_is_ended_from_a_signal_handler(world: World) -> None:
    instance = world.instance()
    heard: list[int] = []

    def handler(number: int, _: object) -> None:
        heard.append(number)
        instance.wake()

    before = signal.signal(signal.SIGUSR1, handler)
    try:
        with at_most(30):
            signal.raise_signal(signal.SIGUSR1)
            instance.wait(3600)
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert heard == [signal.SIGUSR1]


def test_waking_lets_no_time_pass_and_counts_once(world: World) -> None:
    instance = world.instance()
    instance.wake()
    instance.wake()
    before = instance.now()
    with at_most(30):
        instance.wait(3600)
    assert instance.now() < before + 3600
    instance.wait(0.01)


def test_runs_tell_since_when_and_where_jobs_run(pair: World) -> None:
    waiting = pair.submit(runs_for_a_minute("batch"), urgency=HELD)
    ends = pair.submit(spec(1, 2, queue="batch"))
    runs = pair.submit(runs_for_a_minute("burst"))
    instance = pair.instance()
    submitted = instance.now()
    pair.start_scheduling()
    wait_for(instance, runs)
    instance.cancel_jobs([ends], "testing")
    instance.wait_for_jobs([ends], JobState.INACTIVE)
    first, second = instance.runs([ends, UNKNOWN, waiting, runs])
    assert (first.job, first.cores, len(first.hostnames)) == (ends, 2, 1)
    assert first.ended is not None
    assert submitted <= first.started <= first.ended
    assert (second.job, second.user, second.cores, second.ended) == (runs, first.user, 2, None)
    assert (first.hostnames, second.hostnames) == host_pair(instance)
    assert instance.runs([]) == []


def host_pair(instance: Instance) -> tuple[tuple[str, ...], ...]:
    return tuple((node.hostname,) for node in instance.nodes())


def test_every_method_can_be_called_from_any_thread(world: World) -> None:
    jobs = sorted(world.submit_many(spec(), 4))
    instance = world.instance()
    problems: list[BaseException] = []

    def hammer(jobid: int) -> None:
        try:
            for number in range(25):
                assert len(instance.nodes()) == 1
                assert list(instance.set_marks({jobid: Mark("gke", f"b{number}")})) == []
                assert instance.jobs_on([0]) == []
                instance.pending_changes()
            marks = {job.id: job.mark for job in instance.pending_jobs()}
            assert marks[jobid] == Mark("gke", "b24")
        except BaseException as problem:  # noqa: BLE001 - for the main thread to show
            problems.append(problem)

    threads = [threading.Thread(target=hammer, args=(jobid,)) for jobid in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert problems == []
