"""What stands before a job in the queue, where the scheduler starts jobs in turn."""

from __future__ import annotations

from tests.support import Elsewhere, Joining, client_on, spec

from fluxburst import FluxBurst, NodeType, Outcome
from fluxburst.formats.fluid import format_f58
from fluxburst.model.job import JobState
from fluxburst.model.scheduler import SCHED_SIMPLE, Fit, Scheduler
from fluxburst.simulation.embedded import EmbeddedInstance

NODE = NodeType("node", cores=2, price=1.0)
BACKFILL = Scheduler("sched-backfill", Fit.WORST)


def instance_of(cores: int = 2, scheduler: Scheduler = SCHED_SIMPLE) -> EmbeddedInstance:
    instance = EmbeddedInstance(scheduler=scheduler)
    instance.add_nodes(["lead"], NodeType("lead", cores=cores))
    return instance


def reasons_of(client: FluxBurst, jobid: int) -> tuple[str, ...]:
    return next(d.reasons for d in client.plan().decisions if d.id == jobid)


def outcome_of(client: FluxBurst, jobid: int) -> Outcome:
    return next(d.outcome for d in client.plan().decisions if d.id == jobid)


def test_nothing_is_brought_up_behind_a_job_that_cannot_start() -> None:
    instance = instance_of()
    blocker = instance.submit(spec(8, 2))
    job = instance.submit(spec(1, 2, burstable=True))
    client = client_on(instance, Elsewhere("cloud", NODE))
    assert client.plan().bursts == ()
    why = f"cloud: job {format_f58(blocker)}, before it in the queue, cannot start"
    assert reasons_of(client, job)[-1].startswith(why)
    instance.cancel_jobs([blocker], "testing")
    assert outcome_of(client, job) is Outcome.ASSIGNED


def test_what_is_more_urgent_than_the_job_that_cannot_start_is_not_held_up() -> None:
    instance = instance_of()
    instance.submit(spec(8, 2))
    urgent = instance.submit(spec(2, 2, burstable=True), urgency=20)
    client = client_on(instance, Elsewhere("cloud", NODE))
    assert outcome_of(client, urgent) is Outcome.ASSIGNED


def test_a_scheduler_that_backfills_is_not_held_up() -> None:
    instance = instance_of(scheduler=BACKFILL)
    instance.submit(spec(8, 2))
    job = instance.submit(spec(2, 2, burstable=True))
    client = client_on(instance, Elsewhere("cloud", NODE))
    assert outcome_of(client, job) is Outcome.ASSIGNED


def test_jobs_before_it_that_are_not_assigned_take_room_too() -> None:
    """The first takes the new node, unless there is one more; a large one is not paid for."""
    instance = instance_of(cores=1)
    small = instance.submit(spec(1, 2))
    job = instance.submit(spec(1, 2, burstable=True))
    client = client_on(instance, Joining("cloud", instance, NODE))
    assert [burst.nodes for burst in client.plan().bursts] == [2]
    client.run_burst()
    instance.advance(0)
    assert [instance.job(i).state for i in (small, job)] == [JobState.RUN, JobState.RUN]

    instance = instance_of(cores=1)
    instance.submit(spec(3, 2))
    instance.submit(spec(1, 2, burstable=True))
    assert client_on(instance, Joining("cloud", instance, NODE)).plan().bursts == ()


def test_a_job_that_would_wait_for_its_siblings_is_not_assigned() -> None:
    instance = instance_of(cores=1)
    types = NodeType("node", cores=2, max_nodes=2, price=1.0)
    first = instance.submit(spec(2, 1, burstable=True))
    second = instance.submit(spec(1, 2, burstable=True))
    client = client_on(instance, Joining("cloud", instance, types))
    assert outcome_of(client, first) is Outcome.ASSIGNED
    assert outcome_of(client, second) is Outcome.UNMATCHED
    client.run_burst()
    instance.advance(61)
    states = [instance.job(i).state for i in (first, second)]
    assert states == [JobState.INACTIVE, JobState.RUN]


def test_a_pass_that_looks_at_new_jobs_only_knows_what_holds_them_up() -> None:
    instance = instance_of()
    client = client_on(instance, Joining("cloud", instance, NODE))
    blocker = instance.submit(spec(8, 2))
    client.run_pass(everything=True, patience=5.0)
    job = instance.submit(spec(1, 2, burstable=True))
    plan = client.run_pass(everything=False, patience=5.0)
    assert [(d.id, d.outcome) for d in plan.decisions] == [(job, Outcome.UNMATCHED)]
    assert format_f58(blocker) in plan.decisions[0].reasons[-1]


def test_a_pass_that_looks_at_new_jobs_only_knows_what_is_left_of_the_nodes() -> None:
    instance = instance_of(cores=8)
    client = client_on(instance, Joining("cloud", instance, NODE))
    client.run_pass(everything=True, patience=5.0)
    job = instance.submit(spec(1, 2, burstable=True))
    plan = client.run_pass(everything=False, patience=5.0)
    assert [(d.id, d.outcome) for d in plan.decisions] == [(job, Outcome.ASSIGNED)]
    assert plan.bursts == ()
