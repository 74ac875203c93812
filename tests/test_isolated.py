"""Isolated bursts: a job is held here while an instance of its own runs it elsewhere."""

from __future__ import annotations

import json
import os
import stat
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from tests.support import Apart, Elsewhere, job, named, spec

from fluxburst import Burst, BurstState, FluxBurst, NodeType
from fluxburst.errors import BurstErrors, CapacityError, RequestError
from fluxburst.model.job import Job, JobState, Mark
from fluxburst.model.node import Node
from fluxburst.model.plan import Outcome
from fluxburst.provider.isolation import OUTPUT_LIMIT, end_note, kept_output, remote_jobspec
from fluxburst.simulation.embedded import EmbeddedInstance
from fluxburst.simulation.recordings import Recording

NODE = NodeType("node", cores=4, price=2.0)
URGENT = 20


def flagged(jobid: int, nodes: int = 2, **record: object) -> Job:
    return job(jobid, spec(nodes, burstable=1), urgency=URGENT, priority=URGENT, **record)


def process(instance: EmbeddedInstance, *plugins: Elsewhere) -> FluxBurst:
    client = FluxBurst(instance)
    for plugin in plugins:
        client.hooks.register(plugin, f"fluxburst-{plugin.name}")
        client.plugins[plugin.name] = plugin
    return client


@pytest.fixture
def instance() -> EmbeddedInstance:
    return EmbeddedInstance(Recording((flagged(1), flagged(2, nodes=3)), ()))


@pytest.fixture
def cloud() -> Apart:
    return Apart("apart", NODE)


@pytest.fixture
def client(instance: EmbeddedInstance, cloud: Apart) -> Iterator[FluxBurst]:
    made = process(instance, cloud)
    yield made
    made.close()


def burst_of(client: FluxBurst, jobid: int) -> Burst:
    (found,) = [e.burst for e in client.ledger.entries() if e.burst.jobs == (jobid,) and e.live]
    return found


def is_held(instance: EmbeddedInstance, jobid: int) -> bool:
    record = instance.job(jobid)
    return record.state is JobState.SCHED and (record.urgency, record["priority"]) == (0, 0)


def is_free(instance: EmbeddedInstance, jobid: int) -> bool:
    record = instance.job(jobid)
    given = (record.state, record.urgency, record["priority"], record.mark)
    return given == (JobState.SCHED, URGENT, URGENT, None)


def test_each_job_gets_a_burst_of_its_own_and_is_held_before_it_is_asked_for(
    instance: EmbeddedInstance, client: FluxBurst, cloud: Apart, monkeypatch: pytest.MonkeyPatch
) -> None:
    held_when_asked: list[bool] = []
    create = cloud.create

    def noted(burst: Burst) -> Burst:
        held_when_asked.extend(is_held(instance, jobid) for jobid in burst.jobs)
        return create(burst)

    monkeypatch.setattr(cloud, "create", noted)
    client.run_burst()
    first, second = burst_of(client, 1), burst_of(client, 2)
    assert (first.nodes, second.nodes) == (2, 3)
    assert first.isolated
    assert second.isolated
    assert held_when_asked == [True, True]
    assert instance.job(1).mark == Mark("apart", first.name, "", URGENT)
    assert cloud.ran == [1, 2]


def test_nodes_that_come_here_or_are_free_here_do_not_count_for_it(cloud: Apart) -> None:
    free = Node(0, "here", cores=64, free_cores=64)
    instance = EmbeddedInstance(Recording((flagged(1, nodes=1),), (free,)))
    client = process(instance, cloud)
    plan = client.plan()
    assert [(burst.nodes, burst.jobs) for burst in plan.bursts] == [(1, (1,))]


def test_a_held_job_leaves_what_is_free_here_to_others(cloud: Apart) -> None:
    here = Elsewhere("here", NODE)
    jobs = (flagged(1, nodes=1), job(2, spec(1, burstable="here")))
    instance = EmbeddedInstance(Recording(jobs, ()))
    client = process(instance, cloud, here)
    client.run_burst()
    instance.add_nodes(["free"], NODE)
    plan = client.plan()
    outcomes = {decision.id: decision.outcome for decision in plan.decisions}
    assert outcomes == {1: Outcome.ALREADY_ASSIGNED, 2: Outcome.ALREADY_ASSIGNED}
    instance.advance(0)
    assert is_held(instance, 1)
    assert instance.job(2).state is JobState.RUN


def test_it_stays_held_while_it_runs_there(
    instance: EmbeddedInstance, client: FluxBurst, cloud: Apart
) -> None:
    client.run_burst()
    name = burst_of(client, 1).name
    cloud.becomes(name, state=BurstState.READY)
    instance.add_nodes(["a", "b", "c"], NODE)
    instance.advance(60)
    client.run_burst()
    assert is_held(instance, 1)
    assert burst_of(client, 1).state is BurstState.READY
    assert cloud.created == [name, burst_of(client, 2).name]


@pytest.mark.parametrize("code", [0, 3])
@pytest.mark.parametrize("lists", [True, False])
def test_it_ends_here_when_it_ended_there_and_its_burst_goes(
    instance: EmbeddedInstance, client: FluxBurst, cloud: Apart, code: int, lists: bool
) -> None:
    cloud.lists = lists
    client.run_burst()
    name = burst_of(client, 1).name
    for there in list(cloud.there):
        cloud.becomes(there, state=BurstState.READY)
    client.run_burst()
    instance.advance(3600)
    cloud.becomes(name, exit_code=code, output="kubectl logs x")
    client.run_burst()
    ended = instance.job(1)
    assert ended.state is JobState.INACTIVE
    said = "completed" if code == 0 else "failed"
    note = f"it {said} in burst {name}, with exit code {code}; its output: kubectl logs x"
    assert (ended["exception_type"], ended["exception_note"]) == ("burst", note)
    assert cloud.deleted == [name]
    entry = client.ledger.entry(name)
    assert entry is not None
    assert (entry.burst.state, entry.burst.exit_code, entry.reason) == (
        BurstState.ENDED,
        code,
        note,
    )
    (usage,) = client.ledger.usages()
    assert (usage.job, usage.nodes, usage.user) == (1, 2, 1000)
    assert usage.ended == usage.started + 3600 == instance.now()
    assert is_held(instance, 2)


def test_what_ended_between_two_looks_has_ended(
    instance: EmbeddedInstance, client: FluxBurst, cloud: Apart
) -> None:
    client.run_burst()
    name = burst_of(client, 1).name
    cloud.becomes(name, state=BurstState.FAILED, exit_code=0)  # its machines are gone by now
    client.run_burst()
    assert "completed" in instance.job(1)["exception_note"]
    assert cloud.ran.count(1) == 1


def test_a_burst_that_fails_gives_its_job_back_once_nothing_of_it_is_left(
    instance: EmbeddedInstance, client: FluxBurst, cloud: Apart, monkeypatch: pytest.MonkeyPatch
) -> None:
    client.run_burst()
    name = burst_of(client, 1).name
    free_when_deleted: list[bool] = []
    delete = cloud.delete

    def noted(burst: Burst) -> None:
        free_when_deleted.append(is_held(instance, 1))
        delete(burst)

    monkeypatch.setattr(cloud, "delete", noted)
    cloud.becomes(name, state=BurstState.FAILED, error="its machine caught fire")
    client.reconcile()
    assert free_when_deleted == [True]
    assert is_free(instance, 1)
    client.run_burst()
    assert burst_of(client, 1).name == f"{name}-2"


def test_a_burst_that_will_not_go_keeps_its_job_held(
    instance: EmbeddedInstance, client: FluxBurst, cloud: Apart, monkeypatch: pytest.MonkeyPatch
) -> None:
    client.run_burst()
    name = burst_of(client, 1).name
    delete = cloud.delete

    def refuses(burst: Burst) -> None:
        if burst.name == name:
            raise RuntimeError("will not go")
        delete(burst)

    monkeypatch.setattr(cloud, "delete", refuses)
    cloud.becomes(burst_of(client, 2).name, state=BurstState.READY)
    cloud.becomes(name, state=BurstState.FAILED)
    for _ in range(2):
        with pytest.raises(BurstErrors, match="will not go"):
            client.run_burst()
    assert is_held(instance, 1)
    monkeypatch.undo()
    instance.advance(3600)
    client.run_burst()
    assert cloud.ran == [1, 2, 1]


def test_what_has_no_capacity_is_offered_on_within_the_pass(
    instance: EmbeddedInstance, cloud: Apart
) -> None:
    full = Apart("full", NODE)
    full.fails = CapacityError("none left")
    client = process(instance, full, cloud)
    client.run_burst()
    assert (full.ran, cloud.ran) == ([], [1, 2])
    assert is_held(instance, 1)
    assert instance.job(1).mark == Mark("apart", burst_of(client, 1).name, "", URGENT)


def test_where_all_are_full_the_job_is_as_it_was(
    instance: EmbeddedInstance, client: FluxBurst, cloud: Apart
) -> None:
    cloud.fails = CapacityError("none left")
    with pytest.raises(BurstErrors):
        client.run_burst()
    assert is_free(instance, 1)
    assert is_free(instance, 2)


def test_a_job_that_is_cancelled_here_ends_there(
    instance: EmbeddedInstance, client: FluxBurst, cloud: Apart
) -> None:
    client.run_burst()
    name = burst_of(client, 1).name
    cloud.becomes(name, state=BurstState.READY)
    client.run_burst()
    instance.cancel_jobs([1], "changed my mind")
    client.run_burst()
    assert cloud.deleted == [name]
    entry = client.ledger.entry(name)
    assert entry is not None
    assert "cancelled" in entry.reason


def test_a_job_that_is_let_go_here_is_held_again(
    instance: EmbeddedInstance,
    client: FluxBurst,
    cloud: Apart,
    caplog: pytest.LogCaptureFixture,
) -> None:
    client.run_burst()
    instance.set_urgencies({1: 16})
    client.run_burst()
    assert is_held(instance, 1)
    assert f"fluxburst unburst {burst_of(client, 1).name}" in caplog.text


def test_a_job_that_starts_here_meanwhile_ends_there(
    instance: EmbeddedInstance, client: FluxBurst, cloud: Apart
) -> None:
    client.run_burst()
    name = burst_of(client, 1).name
    instance.set_urgencies({1: 16})
    instance.add_nodes(["a", "b"], NODE)
    instance.advance(0)
    assert instance.job(1).state is JobState.RUN
    client.run_burst()
    assert cloud.deleted == [name]


def test_a_job_that_started_before_it_could_be_held_is_not_asked_for(cloud: Apart) -> None:
    class Quick(EmbeddedInstance):
        def set_marks(self, marks):  # type: ignore[no-untyped-def]
            inactive = super().set_marks(marks)
            self.add_nodes(["a", "b"], NODE)
            self.advance(0)
            return inactive

    instance = Quick(Recording((flagged(1),), ()))
    client = process(instance, cloud)
    client.run_burst()
    assert instance.job(1).state is JobState.RUN
    assert (cloud.created, instance.job(1).mark) == ([], None)
    assert [entry.live for entry in client.ledger.entries()] == [False]


def test_unburst_brings_it_back(
    instance: EmbeddedInstance, client: FluxBurst, cloud: Apart
) -> None:
    client.run_burst()
    name = burst_of(client, 1).name
    assert client.run_unburst([name]) == [name]
    assert is_free(instance, 1)
    assert is_held(instance, 2)


def test_the_next_process_goes_on(instance: EmbeddedInstance, cloud: Apart) -> None:
    first = process(instance, cloud)
    first.run_burst()
    name = burst_of(first, 1).name
    first.close()
    second = process(instance, Apart("apart", NODE, there=cloud.there))
    cloud.becomes(name, state=BurstState.READY)
    second.run_burst()
    assert burst_of(second, 1).state is BurstState.READY
    cloud.becomes(name, exit_code=7)
    second.run_burst()
    assert "exit code 7" in instance.job(1)["exception_note"]
    assert cloud.ran == [1, 2]


class Stop(BaseException):
    """A process is killed here."""


@pytest.mark.parametrize("point", range(8))
def test_killed_at_any_request_to_the_instance_it_runs_once_and_ends_once(point: int) -> None:
    left = [point]

    class Killing(EmbeddedInstance):
        def _count(self) -> None:
            left[0] -= 1
            if left[0] == -1:
                raise Stop

        def set_marks(self, marks):  # type: ignore[no-untyped-def]
            self._count()
            answer = super().set_marks(marks)
            self._count()
            return answer

        def set_urgencies(self, urgencies):  # type: ignore[no-untyped-def]
            self._count()
            answer = super().set_urgencies(urgencies)
            self._count()
            return answer

        def end_jobs(self, notes):  # type: ignore[no-untyped-def]
            self._count()
            super().end_jobs(notes)
            self._count()

    instance = Killing(Recording((flagged(1),), ()))
    cloud = Apart("apart", NODE)
    for turn in range(6):
        client = process(instance, cloud)
        cloud.jobs.clear()
        cloud.bursts.clear()
        try:
            client.run_burst()
            if turn > 2:
                for name in list(cloud.there):
                    cloud.becomes(name, state=BurstState.READY, exit_code=0)
        except Stop:
            pass
        finally:
            client.close()
    ended = instance.job(1)
    assert ended.state is JobState.INACTIVE
    assert "exit code 0" in ended["exception_note"]
    assert cloud.ran == [1]
    assert cloud.there == {}


def test_a_ledger_that_was_lost_is_made_again_from_what_is_there(
    instance: EmbeddedInstance, cloud: Apart, tmp_path: object
) -> None:
    client = process(instance, cloud)
    client.run_burst()
    name = burst_of(client, 1).name
    cloud.becomes(name, state=BurstState.READY)
    client.close()
    anew = process(EmbeddedInstance(Recording((), ())), cloud)
    anew.close()
    there = {found.name: found for found in cloud.there.values()}
    copy = EmbeddedInstance(Recording(tuple(instance.job(i) for i in (1, 2)), ()))
    again = Apart("apart", NODE, there=there)
    second = process(copy, again)
    second.run_burst()
    assert again.deleted == []
    assert is_held(copy, 1)
    again.becomes(name, exit_code=0)
    second.run_burst()
    assert "completed" in copy.job(1)["exception_note"]
    assert again.ran == []


def test_capacity_by_hand_is_refused(client: FluxBurst) -> None:
    with pytest.raises((RequestError, BurstErrors), match="isolated_burst"):
        client.run_burst(request_burst=True, nodes=1)


def test_one_that_is_found_without_its_job_is_taken_down(client: FluxBurst, cloud: Apart) -> None:
    stray = Burst(named("apart", "57a1"), "apart", "node", 1, (99,), BurstState.READY)
    cloud.there[stray.name] = replace(stray, isolated=True)
    client.run_burst()
    client.run_burst()
    assert stray.name in cloud.deleted


def test_the_jobspec_for_elsewhere_has_nothing_of_here() -> None:
    made = spec(
        2,
        queue="batch",
        bank="physics",
        burstable="apart",
        constraints={"properties": ["here"]},
        dependencies=[{"scheme": "after", "value": "f1"}],
        cwd="/work",
        environment={"OMP_NUM_THREADS": "4", "PATH": "/bin", "OMP_PLACES": "cores"},
        shell={"options": {"output": {"stdout": {"path": "x"}}, "mpi": "none", "input": {}}},
        files={"script": {"data": "#!/bin/sh"}},
    )
    instance = EmbeddedInstance(Recording((job(1, made),), ()))
    sent = json.loads(remote_jobspec(instance, 1, ["OMP_*"]))
    assert sent["resources"] == made["resources"]
    assert sent["tasks"] == made["tasks"]
    assert sent["attributes"]["system"] == {
        "duration": 0.0,
        "cwd": "/work",
        "environment": {"OMP_NUM_THREADS": "4", "OMP_PLACES": "cores"},
        "shell": {"options": {"mpi": "none"}},
        "files": {"script": {"data": "#!/bin/sh"}},
    }
    assert json.loads(remote_jobspec(instance, 1))["attributes"]["system"]["environment"] == {}


def test_the_note_says_where_its_output_is() -> None:
    burst = Burst("b", "p", "t", 1, exit_code=1, output="kubectl logs b")
    assert end_note(burst) == "it failed in burst b, with exit code 1; its output: kubectl logs b"
    assert end_note(replace(burst, exit_code=0, output="")) == (
        "it completed in burst b, with exit code 0"
    )


# --- its output ----------------------------------------------------------------------------------


def test_output_is_kept_once_and_whole_and_for_its_owner_alone(tmp_path: Path) -> None:
    burst = Burst("b-1", "elsewhere", "node", 1, since=time.time())
    directory = tmp_path / "new" / "output"
    where = kept_output(burst, directory, lambda: b"one\n")
    assert where == str(directory / "b-1.log")
    assert kept_output(burst, directory, lambda: b"two\n") == where
    assert Path(where).read_bytes() == b"one\n"
    assert stat.S_IMODE(Path(where).stat().st_mode) == 0o600
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert list(directory.iterdir()) == [Path(where)]


def test_output_of_an_earlier_burst_of_that_name_is_not_taken_for_its_own(tmp_path: Path) -> None:
    burst = Burst("b-1", "elsewhere", "node", 1, since=time.time())
    where = Path(kept_output(burst, tmp_path, lambda: b"earlier\n"))
    os.utime(where, (time.time() - 3600, time.time() - 3600))
    assert kept_output(burst, tmp_path, lambda: b"its own\n") == str(where)
    assert where.read_bytes() == b"its own\n"


@pytest.mark.parametrize("more", [0, 1, 5])
def test_output_is_cut_at_its_limit_and_says_so(tmp_path: Path, more: int) -> None:
    burst = Burst("b-1", "elsewhere", "node", 1)
    where = Path(kept_output(burst, tmp_path, lambda: b"x" * (OUTPUT_LIMIT + more)))
    kept = where.read_bytes()
    assert kept[:OUTPUT_LIMIT] == b"x" * OUTPUT_LIMIT
    assert (b"cut here" in kept[OUTPUT_LIMIT:]) is (more > 0)


def test_output_that_cannot_be_read_or_written_is_elsewhere_and_that_is_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    burst = Burst("b-1", "elsewhere", "node", 1)

    def refused() -> bytes:
        raise RequestError("the server is not asked")

    assert kept_output(burst, tmp_path, refused, "see there") == "see there"
    assert "b-1: cannot keep the output of its job: the server is not asked" in caplog.text
    (tmp_path / "file").touch()
    assert kept_output(burst, tmp_path / "file", lambda: b"", "see there") == "see there"
    assert list(tmp_path.iterdir()) == [tmp_path / "file"]
