"""Who is believed: the ledger, and never a memo alone, since users write memos."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from tests.support import Apart, Elsewhere, Joining, client_on, job, spec

from fluxburst import Burst, Duration, FluxBurst, NodeType
from fluxburst.config.policy import Lifetimes, Policy
from fluxburst.ledger import Assignment
from fluxburst.model.job import Job, JobState, Mark
from fluxburst.model.plan import Outcome
from fluxburst.simulation.embedded import EmbeddedInstance
from fluxburst.simulation.recordings import Recording

NODE = NodeType("node", cores=8, price=1.0)
OWNER, GUEST = 1000, 2000
SHORT = Policy(lifetimes=Lifetimes(idle_timeout=Duration(60.0), lease=Duration(1800.0)))


def forged(jobid: int, *, memo: Mapping[str, Any], jobspec: Any = None, **record: Any) -> Job:
    """Return a job of a guest who wrote a memo on it."""
    annotations = {"user": {"fluxburst": dict(memo)}}
    return job(jobid, jobspec, annotations=annotations, userid=GUEST, **record)


def instance_with(
    *jobs: Job, queues: Mapping[str, Collection[str]] | None = None
) -> EmbeddedInstance:
    return EmbeddedInstance(Recording(jobs, ()), queues=queues)


def write_memo(instance: EmbeddedInstance, jobid: int, memo: object) -> None:
    """Do as a user does with ``flux job memo``; None takes it off."""
    instance.set_memo(jobid, "fluxburst", memo)


def one_pass(client: FluxBurst, *, everything: bool = True) -> None:
    client.run_pass(everything=everything, patience=float("inf"))


class InQueue(Joining):
    """A plugin whose nodes have a queue of their own."""

    queue = "burst"


# --- forged memos --------------------------------------------------------------------------------


@pytest.mark.parametrize("burst", ["nosuch", ""])
def test_a_held_job_gets_no_urgency_from_its_memo(burst: str) -> None:
    memo = {"plugin": "cloud", "burst": burst, "urgency": 31}
    instance = instance_with(forged(1, memo=memo, urgency=0, priority=0))
    client = client_on(instance, Joining("cloud", instance, NODE))
    client.run_burst()
    one_pass(client)
    client.run_unburst()
    held = instance.job(1)
    assert (held.urgency, held["priority"]) == (0, 0)


def test_a_job_is_moved_to_no_queue_that_its_memo_names() -> None:
    memo = {"plugin": "cloud", "burst": "nosuch", "queue": "urgent"}
    waiting = forged(1, memo=memo, jobspec=spec(queue="batch"), queue="batch")
    queues = {"batch": (), "burst": (), "urgent": ()}
    instance = instance_with(waiting, queues=queues)
    client = client_on(instance, InQueue("cloud", instance, NODE))
    client.run_burst()
    one_pass(client)
    client.run_unburst()
    assert instance.job(1).queue == "batch"


def test_a_memo_with_the_name_of_a_living_burst_keeps_neither_it_nor_its_lease() -> None:
    instance = instance_with(job(1, spec(1, 8, burstable=1, duration=30.0)))
    cloud = Joining("cloud", instance, NODE)
    client = client_on(instance, cloud, policy=SHORT)
    client.run_burst()
    (name,) = cloud.there
    liar = instance.submit(spec(100, 8), userid=GUEST)
    write_memo(instance, liar, {"plugin": "cloud", "burst": name, "urgency": 16})
    for _ in range(6):
        instance.advance(60.0)
        one_pass(client)
    assert cloud.there == {}
    assert instance.job(1).state is JobState.INACTIVE


@pytest.mark.parametrize("how", ["held", "depends"])
def test_an_assigned_job_that_cannot_start_keeps_no_burst(how: str) -> None:
    instance = instance_with(job(1, spec(1, 8, burstable=1)))
    cloud = Joining("cloud", instance, NODE, boot=100.0)
    client = client_on(instance, cloud, policy=SHORT)
    client.run_burst()
    if how == "held":
        instance.set_urgencies({1: 0})
    else:
        instance._jobs.records[1].job.update(state=JobState.DEPEND, dependencies=["afterok:7"])
        instance._jobs.touched.add(1)
    for _ in range(6):
        instance.advance(60.0)
        one_pass(client)
    assert cloud.there == {}


def test_a_forged_memo_takes_no_capacity_and_the_job_is_planned_as_any_other() -> None:
    memo = {"plugin": "cloud", "burst": "nosuch"}
    instance = instance_with(forged(1, memo=memo, jobspec=spec(1, 8, burstable=1)), job(2))
    cloud = Joining("cloud", instance, NODE)
    client = client_on(instance, cloud)
    plan = client.plan()
    assert {d.id: d.outcome for d in plan.decisions} == {1: Outcome.ASSIGNED, 2: Outcome.ASSIGNED}
    client.run_burst()
    (burst,) = cloud.bursts.values()
    assert burst.jobs == (1, 2)
    assert instance.job(1).mark == Mark("cloud", burst.name)
    assert [assignment.burst for assignment in client.ledger.assignments(1)] == [burst.name]


def test_a_forged_memo_is_said_once_with_whose_it_is(caplog: pytest.LogCaptureFixture) -> None:
    evil = {"plugin": "cloud\n\x1b[2J", "burst": "x" * 10_000}
    instance = instance_with(forged(1, memo=evil, jobspec=spec(100)))
    client = client_on(instance, Elsewhere("cloud", NODE))
    client.run_burst()
    for _ in range(3):
        one_pass(client)
        one_pass(client, everything=False)
    (said,) = [r.getMessage() for r in caplog.records if "ignoring the memo" in r.getMessage()]
    assert "of user 2000" in said
    assert "\n" not in said
    assert "\x1b" not in said
    assert len(said) < 500


def test_many_forged_memos_are_one_warning(caplog: pytest.LogCaptureFixture) -> None:
    memo = {"plugin": "cloud", "burst": "nosuch"}
    jobs = [forged(n, memo=memo, jobspec=spec(100)) for n in range(1, 31)]
    one_pass(client_on(instance_with(*jobs), Elsewhere("cloud", NODE)))
    (said,) = [r.getMessage() for r in caplog.records if "ignoring the memo" in r.getMessage()]
    assert said.count("of user 2000") == 5
    assert "and 25 more" in said


def test_an_isolated_burst_is_not_kept_by_another_job_that_says_it_runs_there() -> None:
    instance = instance_with(job(1, spec(2, burstable=1)))
    cloud = Apart("apart", NODE)
    client = client_on(instance, cloud)
    client.run_burst()
    (name,) = cloud.there
    liar = instance.submit(spec(2), userid=GUEST)
    write_memo(instance, liar, {"plugin": "apart", "burst": name, "urgency": 16})
    instance.cancel_jobs([1], "not wanted")
    one_pass(client)
    assert cloud.there == {}
    assert instance.job(liar).urgency == 16


# --- the ledger is believed ----------------------------------------------------------------------


@pytest.mark.parametrize("memo", [None, {"plugin": "other", "burst": "b", "urgency": 31}, "x", 7])
def test_a_job_whose_memo_was_changed_stays_assigned_and_its_memo_is_written_anew(
    memo: object,
) -> None:
    instance = instance_with(job(1, spec(1, 8, burstable=1)))
    cloud = Joining("cloud", instance, NODE, boot=1e6)
    client = client_on(instance, cloud)
    client.run_burst()
    (name,) = cloud.there
    write_memo(instance, 1, memo)
    assert [d.outcome for d in client.plan().decisions] == [Outcome.ALREADY_ASSIGNED]
    for _ in range(2):
        one_pass(client)
    assert cloud.created == [name]
    assert instance.job(1).mark == Mark("cloud", name)


def test_a_user_cannot_have_memos_written_for_ever() -> None:
    instance = instance_with(job(1, spec(1, 8, burstable=1)))
    client = client_on(instance, Joining("cloud", instance, NODE, boot=1e6))
    client.run_burst()
    written: list[Mapping[int, Mark | None]] = []
    set_marks = instance.set_marks

    def noted(marks: Mapping[int, Mark | None]) -> Collection[int]:
        written.append(marks)
        return set_marks(marks)

    instance.set_marks = noted  # type: ignore[method-assign]
    for _ in range(40):
        write_memo(instance, 1, None)
        one_pass(client, everything=False)
    assert len(written) <= 3
    assert [d.outcome for d in client.plan().decisions] == [Outcome.ALREADY_ASSIGNED]


def test_a_job_gets_the_queue_back_that_is_recorded_whatever_its_memo_says() -> None:
    waiting = job(1, spec(1, 8, burstable=1, queue="batch"), queue="batch")
    instance = instance_with(waiting, queues={"batch": (), "burst": (), "urgent": ()})
    client = client_on(instance, InQueue("cloud", instance, NODE, boot=1e6))
    client.run_burst()
    assert instance.job(1).queue == "burst"
    write_memo(instance, 1, {"plugin": "cloud", "burst": "x", "queue": "urgent"})
    client.run_unburst()
    assert (instance.job(1).queue, instance.job(1).mark) == ("batch", None)


@pytest.mark.parametrize(("user", "urgency"), [(OWNER, 20), (GUEST, 16)])
def test_a_job_gets_the_urgency_back_that_is_recorded_and_a_guest_not_more_than_the_default(
    user: int, urgency: int
) -> None:
    waiting = job(1, spec(2, burstable=1), userid=user, urgency=20, priority=20)
    instance = instance_with(waiting)
    client = client_on(instance, Apart("apart", NODE))
    client.run_burst()
    assert instance.job(1).urgency == 0
    write_memo(instance, 1, {"plugin": "apart", "burst": "x", "urgency": 31})
    client.run_unburst()
    assert (instance.job(1).urgency, instance.job(1).mark) == (urgency, None)


def test_what_another_process_recorded_is_believed_by_one_that_only_looks(tmp_path: Path) -> None:
    instance = instance_with(job(1, spec(1, 8, burstable=1)))
    with closing(client_on(instance, Elsewhere("cloud", NODE), state_dir=tmp_path)) as service:
        service.run_burst()
        looking = client_on(instance, Elsewhere("cloud", NODE), state_dir=tmp_path)
        with closing(looking):
            assert [d.outcome for d in looking.plan().decisions] == [Outcome.ALREADY_ASSIGNED]
            write_memo(instance, 1, None)
            assert [d.outcome for d in looking.plan().decisions] == [Outcome.ALREADY_ASSIGNED]
            service.run_unburst()
            write_memo(instance, 1, {"plugin": "cloud", "burst": "nosuch"})
            assert [d.outcome for d in looking.plan().decisions] == [Outcome.ASSIGNED]


def test_two_ledgers_of_one_instance_believe_each_its_own(tmp_path: Path) -> None:
    instance = instance_with(job(1, spec(1, 8, burstable=1)))
    clients = [
        client_on(instance, Elsewhere("cloud", NODE), state_dir=tmp_path / name) for name in "ab"
    ]
    clients[0].run_burst()
    outcomes = [client.plan().decisions[0].outcome for client in clients * 2]
    assert outcomes == [Outcome.ALREADY_ASSIGNED, Outcome.ASSIGNED] * 2
    for client in clients:
        client.close()


def test_an_assignment_that_was_interrupted_before_the_job_was_moved_is_completed() -> None:
    waiting = job(1, spec(1, 8, burstable=1, queue="batch"), queue="batch")
    instance = instance_with(waiting, queues={"batch": (), "burst": ()})
    cloud = InQueue("cloud", instance, NODE)
    client = client_on(instance, cloud)
    client.request_burst("cloud", 1, None)
    (burst,) = cloud.bursts.values()
    client.ledger.assign([Assignment(1, "cloud", burst.name, instance.now(), queue="batch")])
    for _ in range(2):
        one_pass(client)
    assert (instance.job(1).queue, instance.job(1).mark) == (
        "burst",
        Mark("cloud", burst.name, "batch"),
    )


# --- a ledger that was lost ----------------------------------------------------------------------


@pytest.mark.parametrize("held", [True, False])
def test_of_an_isolated_burst_that_no_record_has_the_provider_is_believed_not_the_memo(
    held: bool,
) -> None:
    there: dict[str, Burst] = {}
    first = instance_with(job(1, spec(2, burstable=1)))
    client_on(first, Apart("apart", NODE, there=there)).run_burst()
    (name,) = there
    before = first.job(1) if held else job(1, spec(2, burstable=1))
    liar = forged(2, memo={"plugin": "apart", "burst": name}, urgency=0, priority=0)
    second = instance_with(before, liar)
    cloud = Apart("apart", NODE, there=there)
    client = client_on(second, cloud)
    client.run_burst()
    assert [p.job for p in client.ledger.assignments() if p.burst == name] == ([1] if held else [])
    assert (name in cloud.there) is held
    assert second.job(2).urgency == 0


# --- the cost of it ------------------------------------------------------------------------------


def test_the_ledger_is_asked_of_what_changed_and_not_of_every_job_in_every_pass() -> None:
    instance = instance_with(*(job(n, spec(100)) for n in range(1, 2001)))
    client = client_on(instance, Elsewhere("cloud", NODE))
    asked: list[int] = []
    assigned = client.ledger.assigned

    def noted(jobs: Collection[int]) -> Any:
        asked.append(len(jobs))
        return assigned(jobs)

    client.ledger.assigned = noted  # type: ignore[method-assign]
    one_pass(client)
    first, asked[:] = sum(asked), []
    for _ in range(5):
        one_pass(client, everything=False)
    assert (first, sum(asked)) == (2000, 0)
    instance.submit(spec(100))
    one_pass(client, everything=False)
    assert sum(asked) == 1
