"""What other processes brought up, what failed since, and jobs that wait for what is not there."""

from __future__ import annotations

import io
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace

import pytest
from rich.console import Console
from tests.support import Elsewhere, assign, job, named, spec

from fluxburst import Burst, BurstPlugin, BurstState, FluxBurst, Job, NodeType, hookimpl
from fluxburst.cli import main
from fluxburst.cli.output import burst_table
from fluxburst.errors import BurstError, BurstErrors, CapacityError, QuotaError
from fluxburst.model.job import JobState, Mark
from fluxburst.simulation.embedded import EmbeddedInstance
from fluxburst.simulation.recordings import Recording

MakePackage = Callable[..., str]
There = dict[str, Burst]
NODE = NodeType("node", cores=8)
OLD, LOST, FIRST, SECOND = (named("cloud", rest) for rest in ("01d", "105", 1, 2))


class Cloud(Elsewhere):
    """A plugin whose provider tells every process what is there, in the state that it is in."""

    def __init__(
        self, there: There, *types: NodeType, name: str = "cloud", queue: str = ""
    ) -> None:
        super().__init__(name, *(types or (NODE,)))
        self.there = there
        self.in_queue = queue
        self.stuck = False

    @property
    def queue(self) -> str:
        return self.in_queue

    def create(self, burst: Burst) -> Burst:
        up = super().create(burst)
        hosts = tuple(f"{burst.name}-{number}" for number in range(burst.nodes))
        self.there[burst.name] = replace(up, state=BurstState.STARTING, hostnames=hosts)
        return self.there[burst.name]

    def delete(self, burst: Burst) -> None:
        super().delete(burst)
        if self.stuck:
            raise BurstError("will not go")
        self.there.pop(burst.name, None)

    def list_bursts(self) -> Collection[str]:
        return list(self.there)

    def adopt(self) -> Sequence[Burst] | None:
        return [replace(burst, jobs=()) for burst in self.there.values()]

    def refresh(self, burst: Burst) -> Burst:
        now = self.there[burst.name]
        return replace(burst, state=now.state, error=now.error)


def instance_with(
    *jobs: Job, queues: Mapping[str, Collection[str]] | None = None
) -> EmbeddedInstance:
    return EmbeddedInstance(Recording(jobs, ()), queues=queues)


def process(instance: EmbeddedInstance, *plugins: BurstPlugin) -> FluxBurst:
    """Return the client of one process, which knows nothing of what others did."""
    client = FluxBurst(instance)
    for plugin in plugins:
        client.hooks.register(plugin, f"fluxburst-{plugin.name}")
        client.plugins[plugin.name] = plugin
    return client


def wide(jobid: int, **record: object) -> Job:
    """Return a job that needs a node for itself."""
    return job(jobid, spec(1, 8, burstable=1), **record)


def marks(instance: EmbeddedInstance) -> dict[int, Mark | None]:
    return {pending.id: pending.mark for pending in instance.pending_jobs()}


def queues(instance: EmbeddedInstance) -> dict[int, str]:
    return {pending.id: pending.queue for pending in instance.pending_jobs()}


def failed(name: str, error: str = "lost a node", **values: object) -> Burst:
    lost = Burst(name, "cloud", "node", 1, state=BurstState.FAILED, error=error)
    return replace(lost, **values)  # type: ignore[arg-type]


class Witness:
    """Notes what observers are told."""

    def __init__(self) -> None:
        self.changes: list[tuple[str, str | None, str]] = []
        self.failures: list[tuple[str, str]] = []

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


# --- bursts of other processes -----------------------------------------------------------------


def test_bursts_of_another_process_are_known_and_their_coming_nodes_are_counted() -> None:
    large = NodeType("node", cores=16)
    there: There = {}
    instance = instance_with(wide(1))
    first = Cloud(there, large)
    process(instance, first).run_burst()
    (name,) = first.created
    rides = instance.submit(spec(1, 8, burstable=1))
    second = Cloud(there, large)
    assert process(instance, second).run_burst() == []
    assert (second.created, list(second.bursts)) == ([], [name])
    assert marks(instance) == {1: Mark("cloud", name), rides: Mark("cloud", name)}
    needs_more = instance.submit(spec(1, 8, burstable=1))
    third = Cloud(there, large)
    process(instance, third).run_burst()
    (new,) = third.created
    assert (third.bursts[new].nodes, third.bursts[new].jobs) == (1, (needs_more,))
    assert len(there) == 2


def test_a_burst_of_another_process_has_its_jobs_and_observers_are_not_told_again() -> None:
    there: There = {}
    instance = instance_with(wide(1), wide(2))
    process(instance, Cloud(there)).run_burst()
    cloud = Cloud(there)
    client = process(instance, cloud)
    witness = watched(client)
    client.adopt_bursts()
    (burst,) = cloud.bursts.values()
    assert (burst.jobs, burst.nodes, burst.state) == ((1, 2), 2, BurstState.STARTING)
    client.adopt_bursts()
    assert witness.changes == []


def test_a_burst_that_is_in_no_record_is_known_as_it_is() -> None:
    there = {LOST: replace(failed(LOST), state=BurstState.STARTING, error="")}
    instance = instance_with(job(1), job(2))
    cloud = Cloud(there)
    process(instance, cloud).adopt_bursts()
    assert cloud.bursts == there


def test_a_burst_that_is_in_no_record_is_taken_down_once_no_job_runs_on_it() -> None:
    there = {LOST: replace(failed(LOST), state=BurstState.READY, hostnames=(f"{LOST}-0",))}
    instance = instance_with()
    instance.add_nodes([f"{LOST}-0"], NODE)
    running = instance.submit(spec(1, 8, duration=100.0))
    instance.advance(0)
    cloud = Cloud(there)
    client = process(instance, cloud)
    client.reconcile()
    assert (cloud.bursts[LOST].state, cloud.deleted) == (BurstState.DRAINING, [])
    assert [node.drained for node in client.nodes()] == [True]
    instance.wait_for_jobs([running], JobState.INACTIVE)
    assert instance.job(running)["success"]
    client.reconcile()
    assert (cloud.deleted, there) == ([LOST], {})
    assert cloud.bursts[LOST].state in {BurstState.ENDED, BurstState.FAILED}


def test_adopting_changes_nothing() -> None:
    there = {OLD: failed(OLD)}
    instance = instance_with(job(1), job(2))
    before = {1: Mark("cloud", OLD), 2: Mark("cloud", "gone")}
    assign(FluxBurst(instance), before)
    cloud = Cloud(there)
    process(instance, cloud).adopt_bursts()
    assert (cloud.deleted, cloud.created, list(there)) == ([], [], [OLD])
    assert marks(instance) == before


def test_a_burst_that_another_process_took_down_has_ended_and_frees_its_jobs() -> None:
    there: There = {}
    instance = instance_with(job(1))
    cloud = Cloud(there)
    client = process(instance, cloud)
    client.run_burst()
    (name,) = cloud.created
    process(instance, Cloud(there)).run_unburst()
    client.reconcile()
    assert cloud.bursts[name].state is BurstState.ENDED
    assert (marks(instance), cloud.jobs, cloud.deleted) == ({1: None}, {}, [])
    client.run_burst()
    assert cloud.created == [name, f"{name}-2"]
    assert marks(instance) == {1: Mark("cloud", f"{name}-2")}


def test_a_burst_that_is_gone_behind_our_back_has_failed_and_frees_its_jobs() -> None:
    there: There = {}
    instance = instance_with(job(1))
    cloud = Cloud(there)
    client = process(instance, cloud)
    client.run_burst()
    (name,) = cloud.created
    there.clear()
    client.reconcile()
    assert cloud.bursts[name].state is BurstState.FAILED
    assert cloud.bursts[name].error.startswith("it no longer exists")
    assert (marks(instance), cloud.jobs) == ({1: None}, {})
    client.run_burst()
    assert cloud.created == [name, f"{name}-2"]
    assert marks(instance) == {1: Mark("cloud", f"{name}-2")}


def test_a_burst_by_hand_takes_no_name_of_another_process() -> None:
    there: There = {}
    instance = instance_with()
    (first,) = process(instance, Cloud(there)).request_burst("cloud", 1, None)
    (second,) = process(instance, Cloud(there)).request_burst("cloud", 1, None)
    assert (first.name, second.name) == (FIRST, SECOND)
    assert sorted(there) == [FIRST, SECOND]


def test_the_named_bursts_of_another_process_are_taken_down_and_no_other() -> None:
    there: There = {}
    instance = instance_with()
    first = process(instance, Cloud(there))
    first.request_burst("cloud", 1, None)
    first.request_burst("cloud", 1, None)
    cloud = Cloud(there)
    assert process(instance, cloud).run_unburst([FIRST]) == [FIRST]
    assert (cloud.deleted, list(there)) == ([FIRST], [SECOND])


def test_a_burst_that_fails_takes_none_of_another_process_with_it() -> None:
    there: There = {}
    instance = instance_with()
    cloud = Cloud(there)
    client = process(instance, cloud)
    client.request_burst("cloud", 1, None)
    process(instance, Cloud(there)).request_burst("cloud", 1, None)
    there[FIRST] = failed(FIRST)
    client.refresh_bursts()
    assert (cloud.deleted, list(there)) == ([FIRST], [SECOND])


# --- mending -----------------------------------------------------------------------------------


def test_a_burst_that_failed_is_taken_down_and_its_jobs_are_planned_anew_at_once() -> None:
    there = {OLD: failed(OLD)}
    instance = instance_with(job(1), job(2))
    assign(FluxBurst(instance), {1: Mark("cloud", OLD)})
    cloud = Cloud(there)
    client = process(instance, cloud)
    assert client.run_burst() == []
    (new,) = cloud.created
    assert (cloud.deleted, list(there)) == ([OLD], [new])
    assert marks(instance) == {1: Mark("cloud", new), 2: Mark("cloud", new)}
    assert cloud.bursts[new].jobs == (1, 2)
    assert (cloud.bursts[OLD].state, cloud.bursts[OLD].error) == (
        BurstState.FAILED,
        "lost a node",
    )


def test_what_failed_comes_up_again_under_a_name_that_no_burst_had() -> None:
    there: There = {}
    instance = instance_with(job(1))
    process(instance, Cloud(there)).run_burst()
    (name,) = there
    there[name] = failed(name)
    cloud = Cloud(there)
    process(instance, cloud).run_burst()
    again = f"{name}-2"
    assert (cloud.deleted, cloud.created) == ([name], [again])
    assert cloud.bursts[name].state is BurstState.FAILED
    assert cloud.bursts[again].state is BurstState.STARTING
    assert marks(instance) == {1: Mark("cloud", again)}


def test_a_failed_burst_that_still_runs_jobs_is_left_until_they_have_ended() -> None:
    there = {OLD: failed(OLD, hostnames=(f"{OLD}-0",), nodes=2)}
    instance = instance_with()
    instance.add_nodes([f"{OLD}-0"], NODE)
    running = instance.submit(spec(1, 8, duration=100.0))
    instance.advance(0)
    assert instance.jobs_on([0]) == [running]
    waiting = instance.submit(spec(2, 8, burstable=1))
    assign(FluxBurst(instance), {waiting: Mark("cloud", OLD)})
    cloud = Cloud(there)
    process(instance, cloud).reconcile()
    assert (cloud.deleted, marks(instance)) == ([], {waiting: None})
    assert instance.jobs_on([0]) == [running]
    process(instance, cloud).run_burst()
    (new,) = cloud.created
    assert marks(instance) == {waiting: Mark("cloud", new)}
    assert (cloud.deleted, sorted(there)) == ([], sorted([OLD, new]))
    instance.wait_for_jobs([running], JobState.INACTIVE)
    process(instance, cloud).reconcile()
    assert cloud.deleted == [OLD]
    assert list(there) == [new]


def test_marks_on_bursts_that_are_not_there_are_taken_off_where_that_can_be_told() -> None:
    instance = instance_with(*map(job, range(1, 6)))
    sound = replace(failed("sound"), state=BurstState.READY, error="")
    given = {
        1: Mark("cloud", "gone"),
        2: Mark("cannot-tell", "gone"),
        3: Mark("cloud", ""),
        4: Mark("not-loaded", "gone"),
        5: Mark("cloud", "sound"),
    }
    assign(FluxBurst(instance), given)
    cloud, cannot_tell = Cloud({"sound": sound}), Elsewhere("cannot-tell")
    client = process(instance, cannot_tell, cloud)
    client.ledger.request(sound, 0.0, None, "")
    client.reconcile()
    assert marks(instance) == {**given, 1: None}
    assert (cloud.deleted, cannot_tell.deleted) == ([], [])


def test_reconciling_again_finds_nothing_to_do() -> None:
    there = {OLD: failed(OLD)}
    instance = instance_with(job(1))
    assign(FluxBurst(instance), {1: Mark("cloud", OLD)})
    cloud = Cloud(there)
    client = process(instance, cloud)
    client.reconcile()
    client.reconcile()
    assert (cloud.deleted, marks(instance)) == ([OLD], {1: None})


def test_a_failed_burst_that_cannot_be_taken_down_is_reported_and_tried_again() -> None:
    there = {OLD: failed(OLD)}
    instance = instance_with(job(1))
    assign(FluxBurst(instance), {1: Mark("cloud", OLD)})
    cloud = Cloud(there)
    cloud.stuck = True
    client = process(instance, cloud)
    with pytest.raises(BurstErrors, match=f"plugin cloud, burst {OLD}: will not go"):
        client.reconcile()
    left = cloud.bursts[OLD]
    assert left.state is BurstState.ENDING
    assert "lost a node; terminating it failed" in left.problem
    assert cloud.in_use() == {"node": 1}
    assert marks(instance) == {1: None}
    cloud.stuck = False
    client.reconcile()
    assert (there, cloud.in_use()) == ({}, {})


# --- plugins that cannot be asked --------------------------------------------------------------


class Mute(Cloud):
    """A plugin that does not say what is there."""

    raises: BaseException = BurstError("does not answer")

    def adopt(self) -> Sequence[Burst] | None:
        raise self.raises


@pytest.mark.parametrize(
    ("raises", "said"),
    [
        (BurstError("does not answer"), "plugin mute: does not answer"),
        (OSError("no route"), "plugin mute: OSError: no route"),
        (SystemExit(3), "plugin mute: SystemExit: 3"),
    ],
)
def test_a_plugin_that_cannot_be_asked_is_left_alone_and_the_rest_is_done(
    raises: BaseException, said: str
) -> None:
    there = {OLD: failed(OLD)}
    instance = instance_with(job(1), job(2), job(3))
    mute, cloud = Mute({}, name="mute"), Cloud(there)
    mute.raises = raises
    client = process(instance, mute, cloud)
    witness = watched(client)
    known = Burst("k", "mute", "node", 1, state=BurstState.READY)
    mute.bursts["k"] = known
    assign(
        FluxBurst(instance),
        {1: Mark("mute", "gone"), 2: Mark("cloud", "gone"), 3: Mark("cloud", OLD)},
    )
    with pytest.raises(BurstErrors) as caught:
        client.reconcile()
    assert [str(error) for error in caught.value.errors] == [said]
    assert (mute.bursts, mute.deleted) == ({"k": known}, [])
    assert marks(instance) == {1: Mark("mute", "gone"), 2: None, 3: None}
    assert (cloud.deleted, there) == ([OLD], {})
    assert witness.failures == [("adopt", said)]


def test_a_run_goes_on_where_a_plugin_cannot_be_asked_and_says_so_at_its_end() -> None:
    mute, cloud = Mute({}, name="mute"), Cloud({})
    instance = instance_with(job(1, spec(burstable="cloud")))
    with pytest.raises(BurstErrors, match="plugin mute: does not answer"):
        process(instance, mute, cloud).run_burst()
    assert len(cloud.created) == 1
    assert marks(instance) == {1: Mark("cloud", cloud.created[0])}


def test_what_fails_in_reconciling_and_in_running_is_all_reported() -> None:
    mute, cloud = Mute({}, name="mute"), Cloud({})
    cloud.fails = CapacityError("no machines now")
    instance = instance_with(job(1, spec(burstable="cloud")))
    with pytest.raises(BurstErrors) as caught:
        process(instance, mute, cloud).run_burst()
    first, second = map(str, caught.value.errors)
    assert first == "plugin mute: does not answer"
    assert second.endswith("no machines now")


def test_adopting_tells_of_the_plugins_that_can_also_where_one_cannot() -> None:
    there: There = {}
    instance = instance_with()
    process(instance, Cloud(there)).request_burst("cloud", 1, None)
    mute, cloud = Mute({}, name="mute"), Cloud(there)
    with pytest.raises(BurstErrors, match="plugin mute: does not answer"):
        process(instance, mute, cloud).adopt_bursts()
    assert list(cloud.bursts) == [FIRST]


@pytest.mark.parametrize("answer", ["cloud-1", ["cloud-1"], [None], 7], ids=repr)
def test_a_plugin_that_answers_wrongly_what_is_there_is_left_alone_and_named(
    answer: object,
) -> None:
    class Wrong(Cloud):
        def adopt(self) -> Sequence[Burst] | None:
            return answer  # type: ignore[return-value]

    wrong, cloud = Wrong({}, name="wrong"), Cloud({})
    instance = instance_with(job(1), job(2))
    assign(FluxBurst(instance), {1: Mark("wrong", "gone"), 2: Mark("cloud", "gone")})
    with pytest.raises(BurstErrors, match="plugin wrong"):
        process(instance, wrong, cloud).reconcile()
    assert marks(instance) == {1: Mark("wrong", "gone"), 2: None}


@pytest.mark.parametrize("answer", [None, "ready"], ids=repr)
def test_a_plugin_that_answers_wrongly_how_a_burst_is_leaves_a_note_on_it(answer: object) -> None:
    class Wrong(Cloud):
        def refresh(self, burst: Burst) -> Burst:
            return answer  # type: ignore[return-value]

    wrong = Wrong({})
    client = process(instance_with(job(1)), wrong)
    client.run_burst()
    (burst,) = client.refresh_bursts()
    assert burst.state is BurstState.STARTING
    assert burst.error.startswith("plugin cloud")


# --- failing while it comes up -----------------------------------------------------------------


def test_a_burst_that_fails_while_it_comes_up_is_taken_down_and_its_jobs_are_free() -> None:
    there: There = {}
    instance = instance_with(job(1))
    cloud = Cloud(there)
    client = process(instance, cloud)
    client.run_burst()
    (name,) = cloud.created
    witness = watched(client)
    there[name] = failed(name, "no such image")
    (burst,) = client.refresh_bursts()
    assert (burst.state, burst.error) == (BurstState.FAILED, "no such image")
    assert (cloud.deleted, there, cloud.jobs) == ([name], {}, {})
    assert marks(instance) == {1: None}
    assert witness.changes == [(name, "starting", "ending"), (name, "ending", "failed")]
    client.refresh_bursts()
    assert cloud.deleted == [name]
    client.run_burst()
    assert cloud.created == [name, f"{name}-2"]


class Refusing(Cloud):
    """A cloud that accepts what it is asked for, and will not supply it after all."""

    kind: type[BurstError] = CapacityError

    def refresh(self, burst: Burst) -> Burst:
        error = self.kind("it will never start")
        error.final = True
        raise error


@pytest.mark.parametrize("kind", [CapacityError, QuotaError, BurstError])
def test_what_a_provider_will_not_supply_after_all_goes_and_its_jobs_are_offered_to_the_next(
    kind: type[BurstError],
) -> None:
    there: There = {}
    instance = instance_with(job(1))
    refusing, other = Refusing(there), Cloud({}, name="other")
    refusing.kind = kind
    client = process(instance, refusing, other)
    client.run_burst()
    (name,) = refusing.created
    witness = watched(client)
    with pytest.raises(BurstErrors) as caught:
        client.run_burst()
    (error,) = caught.value.errors
    assert isinstance(error, kind)
    assert str(error) == f"plugin cloud, burst {name}: it will never start"
    assert witness.failures == [("run", str(error))]
    assert (refusing.deleted, there) == ([name], {})
    entry = client.ledger.entry(name)
    assert entry is not None
    assert (entry.burst.state, entry.burst.error) == (BurstState.FAILED, str(error))
    assert len(other.created) == 1
    assert marks(instance) == {1: Mark("other", other.created[0])}


def test_what_a_provider_would_not_supply_is_not_asked_for_again_at_once_and_that_is_said() -> None:
    instance = instance_with(job(1))
    cloud = Refusing({})
    client = process(instance, cloud)
    client.run_burst()
    with pytest.raises(BurstErrors):
        client.run_burst()
    assert [job.id for job in client.run_burst()] == [1]
    (reason,) = client.plan().decisions[0].reasons
    assert "it failed 1 time in a row, last with: plugin cloud" in reason
    assert "it will never start" in reason
    assert len(cloud.created) == 1
    instance.advance(3600.0)
    client.run_burst()
    assert len(cloud.created) == 2


def test_only_the_jobs_of_the_burst_that_failed_are_free() -> None:
    there: There = {}
    instance = instance_with(wide(1))
    cloud = Cloud(there)
    client = process(instance, cloud)
    client.run_burst()
    (lost,) = cloud.created
    other = instance.submit(spec(1, 8, burstable=1))
    client.run_burst()
    (_, sound) = cloud.created
    there[lost] = failed(lost)
    client.refresh_bursts()
    assert marks(instance) == {1: None, other: Mark("cloud", sound)}
    assert (cloud.deleted, list(there)) == ([lost], [sound])


def stuck_while_coming_up() -> tuple[EmbeddedInstance, Cloud, Burst]:
    """Return a burst that failed while it came up, and could not be taken down."""
    there: There = {}
    instance = instance_with(job(1))
    cloud = Cloud(there)
    client = process(instance, cloud)
    client.run_burst()
    (name,) = cloud.created
    there[name] = failed(name, "no such image")
    cloud.stuck = True
    (burst,) = client.refresh_bursts()
    return instance, cloud, burst


def test_a_burst_that_failed_and_cannot_be_taken_down_is_ending_and_is_counted() -> None:
    instance, cloud, burst = stuck_while_coming_up()
    assert burst.state is BurstState.ENDING
    assert "no such image; terminating it failed" in burst.problem
    assert cloud.in_use() == {"node": 1}
    assert marks(instance) == {1: None}
    cloud.stuck = False
    assert process(instance, cloud).run_unburst() == [burst.name]
    assert cloud.there == {}


def test_a_burst_that_failed_and_cannot_be_taken_down_says_why_it_cannot() -> None:
    _, _, burst = stuck_while_coming_up()
    assert "will not go" in burst.leftover


# --- a queue of the plugin's own ---------------------------------------------------------------

TWO_QUEUES = {"batch": ["lead"], "burst": ["burst"]}
WITH_GPU = (NODE, NodeType("gpu", cores=8, gpus=1, price=9.0))


def in_queue(jobid: int, queue: str = "batch", *, gpu: bool = False) -> Job:
    jobspec = spec(1, 8, burstable=1, queue=queue)
    if gpu:
        jobspec["resources"][0]["with"][0]["with"].append({"type": "gpu", "count": 1})
    return job(jobid, jobspec, queue=queue)


def test_jobs_are_moved_to_the_plugins_queue_and_their_marks_remember_where_from() -> None:
    instance = instance_with(in_queue(1), in_queue(2, "burst"), queues=TWO_QUEUES)
    cloud = Cloud({}, queue="burst")
    process(instance, cloud).run_burst()
    (name,) = cloud.created
    assert queues(instance) == {1: "burst", 2: "burst"}
    assert marks(instance) == {1: Mark("cloud", name, "batch"), 2: Mark("cloud", name, "")}


def test_jobs_are_moved_before_they_are_marked_and_marked_before_anything_is_brought_up() -> None:
    seen: list[tuple[str, dict[int, str], bool]] = []

    class Notes(EmbeddedInstance):
        def move_jobs(self, jobids: Collection[int], queue: str) -> Mapping[int, str]:
            seen.append(("move", queues(self), all(marks(self).values())))
            return super().move_jobs(jobids, queue)

    class Checks(Cloud):
        def create(self, burst: Burst) -> Burst:
            seen.append(("create", queues(instance), all(marks(instance).values())))
            return super().create(burst)

    instance = Notes(Recording((in_queue(1),), ()), queues=TWO_QUEUES)
    process(instance, Checks({}, queue="burst")).run_burst()
    assert seen == [("move", {1: "batch"}, False), ("create", {1: "burst"}, True)]


def test_a_plugin_without_a_queue_moves_nothing() -> None:
    instance = instance_with(in_queue(1), queues=TWO_QUEUES)
    cloud = Cloud({})
    process(instance, cloud).run_burst()
    assert (queues(instance), marks(instance)) == (
        {1: "batch"},
        {1: Mark("cloud", cloud.created[0])},
    )


def test_jobs_that_cannot_be_moved_are_free_and_reported_and_nothing_comes_up_for_them() -> None:
    instance = Refuses(Recording((in_queue(1), in_queue(2)), ()), queues=TWO_QUEUES)
    instance.closed = "burst"
    cloud = Cloud({}, queue="burst")
    with pytest.raises(BurstErrors) as caught:
        process(instance, cloud).run_burst()
    (error,) = caught.value.errors
    assert "cannot move job ƒ2, ƒ3 to queue 'burst': says who?" in str(error)
    assert (cloud.created, cloud.jobs) == ([], {})
    assert marks(instance) == {1: None, 2: None}
    assert queues(instance) == {1: "batch", 2: "batch"}


class Refuses(EmbeddedInstance):
    """An instance that does not move some jobs, or into some queue."""

    refused: Collection[int] = ()
    closed: str = ""

    def move_jobs(self, jobids: Collection[int], queue: str) -> Mapping[int, str]:
        wanted = [jobid for jobid in jobids if queue != self.closed and jobid not in self.refused]
        done = super().move_jobs(wanted, queue)
        return {**done, **{jobid: "says who?" for jobid in jobids if jobid not in wanted}}


def test_a_burst_is_not_brought_up_if_none_of_its_jobs_could_be_moved() -> None:
    instance = Refuses(Recording((in_queue(1), in_queue(2, gpu=True)), ()), queues=TWO_QUEUES)
    instance.refused = [2]
    cloud = Cloud({}, *WITH_GPU, queue="burst")
    client = process(instance, cloud)
    assert [burst.node_type for burst in client.plan().bursts] == ["node", "gpu"]
    with pytest.raises(BurstErrors, match="says who"):
        client.run_burst()
    assert [burst.node_type for burst in cloud.there.values()] == ["node"]
    assert (queues(instance)[1], queues(instance)[2]) == ("burst", "batch")
    assert marks(instance)[2] is None


def test_jobs_are_moved_back_if_their_burst_does_not_come_up() -> None:
    instance = instance_with(in_queue(1), in_queue(2, "burst"), queues=TWO_QUEUES)
    cloud = Cloud({}, queue="burst")
    cloud.fails = CapacityError("no machines now")
    with pytest.raises(BurstErrors, match="no machines now"):
        process(instance, cloud).run_burst()
    assert queues(instance) == {1: "batch", 2: "burst"}
    assert marks(instance) == {1: None, 2: None}


def given_away(there: There) -> tuple[EmbeddedInstance, str]:
    """Return an instance with a job that one process gave away, and moved, and for which burst."""
    instance = instance_with(in_queue(1), queues=TWO_QUEUES)
    process(instance, Cloud(there, queue="burst")).run_burst()
    assert queues(instance) == {1: "burst"}
    (name,) = there
    return instance, name


def test_jobs_are_moved_back_if_their_burst_fails_while_it_comes_up() -> None:
    there: There = {}
    instance, name = given_away(there)
    client = process(instance, Cloud(there, queue="burst"))
    client.adopt_bursts()
    there[name] = failed(name)
    client.refresh_bursts()
    assert (queues(instance), marks(instance)) == ({1: "batch"}, {1: None})


def test_jobs_are_moved_back_if_their_burst_is_taken_down_by_whomever() -> None:
    there: There = {}
    for names in (None, ["the one"]):
        instance, name = given_away(there)
        chosen = names and [name]
        process(instance, Cloud(there, queue="burst")).run_unburst(chosen)
        assert (queues(instance), marks(instance)) == ({1: "batch"}, {1: None})


def test_jobs_are_moved_back_if_their_burst_is_not_there() -> None:
    there: There = {}
    instance, _ = given_away(there)
    there.clear()
    process(instance, Cloud(there, queue="burst")).reconcile()
    assert (queues(instance), marks(instance)) == ({1: "batch"}, {1: None})


def test_a_job_that_is_given_away_again_is_moved_back_to_where_it_came_from() -> None:
    instance = instance_with(in_queue(1), queues=TWO_QUEUES)
    instance.add_nodes(["b0"], NODE, ["burst"])
    there: There = {}
    cloud = Cloud(there, queue="burst")
    process(instance, cloud).run_burst()
    assert (cloud.created, marks(instance)) == ([], {1: Mark("cloud", "", "batch")})
    instance.drain([0], "testing")
    process(instance, cloud).run_burst()
    (name,) = cloud.created
    assert marks(instance) == {1: Mark("cloud", name, "batch")}
    process(instance, cloud).run_unburst()
    assert (queues(instance), marks(instance)) == ({1: "batch"}, {1: None})


def test_a_job_that_cannot_be_moved_back_is_free_all_the_same(
    caplog: pytest.LogCaptureFixture,
) -> None:
    instance = Refuses(Recording((in_queue(1),), ()), queues=TWO_QUEUES)
    cloud = Cloud({}, queue="burst")
    client = process(instance, cloud)
    client.run_burst()
    instance.closed = "batch"
    assert client.run_unburst() == cloud.created
    assert (queues(instance), marks(instance)) == ({1: "burst"}, {1: None})
    assert "stays in its queue: says who?" in caplog.text


# --- what people are shown ---------------------------------------------------------------------


def shown(bursts: Sequence[Burst]) -> str:
    out = io.StringIO()
    Console(file=out, width=160).print(burst_table(bursts))
    return out.getvalue()


def test_while_nodes_join_it_is_shown_how_many_have() -> None:
    instance = instance_with()
    cloud = Cloud({})
    client = process(instance, cloud)
    (burst,) = client.request_burst("cloud", 3, None)
    for joined, told in enumerate(["starting", "joining 1/3", "joining 2/3", "ready"]):
        instance.add_nodes(burst.hostnames[:joined], NODE)
        (now,) = client.refresh_bursts()
        assert f" {told} " in shown([now])
    assert "joining" not in shown([now])


CLOUD = """
from dataclasses import replace
from fluxburst import Burst, BurstParameters, BurstPlugin, BurstState, NodeType, PluginType
from fluxburst import hookimpl
from fluxburst.errors import BurstError

class Cloud(BurstPlugin):
    def node_types(self):
        return [NodeType("node", cores=128, gpus=8)]

    def create(self, burst):
        return replace(burst, state=BurstState.STARTING)

    def delete(self, burst):
        pass

    def refresh(self, burst):
        return burst

@hookimpl
def fluxburst_register_plugins():
    return [PluginType("cloud", BurstParameters, Cloud)]
"""
FAILS = CLOUD.replace(
    "return burst\n", "return replace(burst, state=BurstState.FAILED, error='no such image')\n"
)
STUCK = FAILS.replace("pass\n", "raise BurstError('will not go')\n")
REFUSED = CLOUD.replace(
    "return replace(burst, state=BurstState.STARTING)", "raise BurstError('no such image')"
)
ADOPTED = (
    CLOUD.replace("STARTING", "READY")
    + """
    def adopt(self):
        return [Burst(OLD, "cloud", "node", 1, state=BurstState.FAILED, error="no such image")]

Cloud.adopt = adopt
""".replace("\n    ", "\n").replace("OLD", repr(named("cloud", "01d", "embedded")))
)


@pytest.mark.parametrize(
    "source",
    [FAILS, STUCK, REFUSED, ADOPTED],
    ids=["fails", "fails and stays", "is refused", "had failed"],
)
@pytest.mark.parametrize("options", [[], ["--json"]])
def test_run_says_once_why_a_burst_failed_and_exits_with_1(
    make_package: MakePackage,
    capsys: pytest.CaptureFixture[str],
    source: str,
    options: list[str],
) -> None:
    make_package("fluxburst_cloud", source)
    with pytest.raises(SystemExit) as exited:
        main(["run", "--mock", "--plugin", "cloud", *options])
    out, err = capsys.readouterr()
    assert (exited.value.code, err.count("no such image")) == (1, 1), err
    assert all(line.startswith("fluxburst: ") for line in err.splitlines())
    assert "cloud" in out


def test_run_exits_with_0_where_all_bursts_came_up(
    make_package: MakePackage, capsys: pytest.CaptureFixture[str]
) -> None:
    make_package("fluxburst_cloud", CLOUD.replace("STARTING", "READY"))
    with pytest.raises(SystemExit) as exited:
        main(["run", "--mock", "--plugin", "cloud"])
    assert (exited.value.code, capsys.readouterr().err) == (0, "")
