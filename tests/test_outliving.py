"""Bursts that end: no job is placed where it outlives them, and none is lost there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from tests.support import Joining, client_on, spec

from fluxburst import Burst, BurstState, Duration, NodeType
from fluxburst.config.policy import Lifetimes, Limits, Policy, Timeouts
from fluxburst.ledger import Entry
from fluxburst.model.job import JobState
from fluxburst.model.plan import Plan
from fluxburst.simulation.embedded import COMPLETED, EmbeddedInstance
from fluxburst.simulation.recordings import Recording

MINUTE, HOUR = 60.0, 3600.0
NODE = NodeType("node", cores=8, price=1.0)


class Fixed(Joining):
    """A provider that ends nodes with their lease, which cannot be renewed."""

    not_renewable = "it does not extend leases"

    def create(self, burst: Burst) -> Burst:
        lease = burst.lease_until
        assert lease is not None
        self.instance.at(lease, lambda: self.end(burst.name))
        return super().create(burst)

    def end(self, name: str) -> None:
        gone = self.there.pop(name, None)
        if gone is not None:
            self.instance.remove_nodes(gone.hostnames)


class World:
    """A client of an embedded instance with one node of its own, looked after every minute."""

    def __init__(
        self,
        plugin: type[Joining] = Fixed,
        *,
        boot: float = 0.0,
        limits: Limits | None = None,
        queues: dict[str, tuple[str, ...]] | None = None,
        **lifetimes: float,
    ) -> None:
        self.instance = EmbeddedInstance(Recording(()), queues=queues or {})
        self.plugin = plugin("cloud", self.instance, NODE, boot=boot)
        values = {"idle_timeout": 10 * HOUR, "startup": 0.0, **lifetimes}
        policy = Policy(
            Lifetimes(**{name: Duration(value) for name, value in values.items()}),  # type: ignore[arg-type]
            Timeouts(),
            limits=limits or Limits(),
        )
        self.client = client_on(self.instance, self.plugin, policy=policy)
        self.start = self.instance.now()

    def __enter__(self) -> World:
        return self

    def __exit__(self, *_: object) -> None:
        self.client.close()

    def submit(
        self, limit: float, cores: int = 8, runs: float | None = None, **more: object
    ) -> int:
        """Submit a job that may run so long, and runs so long, or else all of that."""
        takes = {"test": {"run_duration": f"{limit if runs is None else runs}s"}}
        system: dict[str, object] = {"burstable": 1, "duration": limit, "exec": takes, **more}
        return self.instance.submit(spec(1, cores, exclusive=False, **system))

    def plan(self) -> Plan:
        return self.client.plan()

    def watch(self, seconds: float) -> None:
        until = self.instance.now() + seconds
        while self.instance.now() < until:
            self.instance.advance(min(MINUTE, until - self.instance.now()))
            self.client.run_burst()

    def watch_until(self, what: Callable[[], object], at_most: float = 24 * HOUR) -> None:
        while not what():
            assert self.instance.now() - self.start < at_most, "it never happened"
            self.watch(MINUTE)

    def entries(self) -> list[Entry]:
        return sorted(self.client.ledger.entries(), key=lambda entry: entry.id)

    def result(self, jobid: int) -> object:
        return self.instance.job(jobid).get("result")

    def is_pending(self, jobid: int) -> bool:
        return self.instance.job(jobid).state is JobState.SCHED


# --- planning ----------------------------------------------------------------------------------


@pytest.mark.parametrize("plugin", [Joining, Fixed])
def test_what_is_free_on_a_burst_near_its_end_is_for_jobs_that_end_before(
    plugin: type[Joining],
) -> None:
    with World(plugin, max_lifetime=3 * HOUR) as world:
        world.submit(2 * HOUR + 50 * MINUTE, runs=MINUTE)
        world.client.run_burst()
        world.watch(2 * HOUR + 37 * MINUTE)  # 13 minutes are left, and 10 more for the teardown
        world.submit(13 * MINUTE)
        long = world.submit(100 * MINUTE)
        (burst,) = world.plan().bursts
        assert burst.jobs == (long,)


def test_a_job_does_not_ride_on_a_burst_that_is_coming_and_ends_before_it() -> None:
    with World(Joining, boot=10 * MINUTE, max_lifetime=3 * HOUR) as world:
        world.submit(2 * HOUR, cores=4)
        world.client.run_burst()
        world.watch(9 * MINUTE)
        short, long = world.submit(2 * HOUR, cores=2), world.submit(170 * MINUTE, cores=2)
        plan = world.plan()
        assert set(plan.shares_burst) == {short}
        assert [burst.jobs for burst in plan.bursts] == [(long,)]


def test_a_lease_that_a_limit_does_not_let_be_longer_ends_a_burst() -> None:
    """Its first lease of an hour takes all the money that there is."""
    with World(Joining, limits=Limits(cost=1.0), lease=HOUR) as world:
        world.submit(5 * HOUR, cores=4)
        world.client.run_burst()
        world.watch(40 * MINUTE)  # it was tried to renew the lease: 10 minutes are left for jobs
        short, long = world.submit(10 * MINUTE, cores=4), world.submit(11 * MINUTE, cores=4)
        plan = world.plan()
        assert short in plan.assignments["cloud"]
        assert plan.unmatched == (long,)


def test_many_bursts_that_end_at_other_times_do_not_slow_a_plan_by_much() -> None:
    """However many ends there are, nodes are told apart by a few."""
    with World(Joining, max_lifetime=24 * HOUR) as world:
        for _ in range(40):
            world.submit(20 * HOUR)
            world.client.run_burst()
            world.instance.advance(MINUTE)
        jobs = [world.submit((1 + number) * 10 * MINUTE, cores=1) for number in range(120)]
        plan = world.plan()
        assert set(plan.assignments["cloud"]) == set(jobs)


# --- what Flux starts by itself ----------------------------------------------------------------


def test_jobs_that_are_longer_than_a_lease_that_cannot_be_renewed_all_complete() -> None:
    with World(boot=2 * MINUTE, startup=5 * MINUTE) as world:
        jobs = [world.submit(limit * HOUR) for limit in (3, 1, 7)]
        world.client.run_burst()
        world.watch_until(lambda: all(map(world.result, jobs)))
        assert [world.result(jobid) for jobid in jobs] == [COMPLETED] * 3


def test_a_burst_that_a_waiting_job_would_outlive_is_drained_before_that_starts() -> None:
    with World() as world:
        first = world.submit(2 * HOUR, runs=HOUR)
        world.client.run_burst()
        world.watch(MINUTE)
        long = world.submit(3 * HOUR, burstable=0)
        world.watch(MINUTE)
        (entry,) = world.entries()
        assert entry.burst.state is BurstState.DRAINING
        assert (
            "may run 3h, but it has 2h" in entry.reason
            or "may run 3h, but it has 1h" in entry.reason
        )
        world.watch_until(lambda: world.result(first))
        assert world.result(first) == COMPLETED
        assert world.is_pending(long)


def test_a_burst_stays_for_the_jobs_that_wait_for_it_and_end_before_it() -> None:
    with World() as world:
        jobs = [world.submit(2 * HOUR, cores=8, runs=HOUR)]
        world.client.run_burst()
        world.submit(3 * HOUR, burstable=0, queue="")
        world.client.reconcile()
        (entry,) = world.entries()
        assert entry.burst.state is not BurstState.DRAINING
        world.watch(2 * MINUTE)
        assert not world.is_pending(jobs[0])


def test_a_job_that_could_not_start_on_a_burst_lets_it_be() -> None:
    with World() as world:
        world.submit(2 * HOUR, runs=HOUR)
        world.client.run_burst()
        world.watch(MINUTE)
        elsewhere = {"properties": ["elsewhere"]}
        world.submit(3 * HOUR, burstable=0, constraints=elsewhere)
        world.submit(3 * HOUR, burstable=0, cores=9)
        world.watch(5 * MINUTE)
        (entry,) = world.entries()
        assert entry.burst.state is BurstState.READY


def test_a_job_that_is_larger_than_all_that_is_up_lets_a_burst_be() -> None:
    """Schedulers that accept jobs larger than the instance have one pend for ever."""
    with World() as world:
        first = world.submit(2 * HOUR, runs=HOUR)
        world.client.run_burst()
        world.watch(MINUTE)
        large = world.instance.submit(spec(9, 8, exclusive=False, duration=3 * HOUR))
        world.watch(5 * MINUTE)
        (entry,) = world.entries()
        assert entry.burst.state is BurstState.READY
        world.watch_until(lambda: world.result(first))
        assert world.is_pending(large)


def test_a_job_that_fits_once_all_that_is_up_is_free_drains_a_burst() -> None:
    with World() as world:
        for _ in range(2):
            world.submit(2 * HOUR, runs=HOUR)
        world.client.run_burst()
        world.watch(MINUTE)
        world.instance.submit(spec(2, 8, exclusive=False, duration=3 * HOUR))
        world.watch(MINUTE)
        assert {entry.burst.state for entry in world.entries()} == {BurstState.DRAINING}


def test_a_burst_by_hand_is_left_to_who_asked_for_it() -> None:
    with World(lease=HOUR) as world:
        world.client.request_bursts(1, None)
        world.watch(MINUTE)
        job = world.submit(0.0, burstable=0, runs=MINUTE)
        world.watch(5 * MINUTE)
        assert world.entries()[0].burst.state is BurstState.READY
        assert world.result(job) == COMPLETED


def test_a_job_that_is_held_lets_a_burst_be() -> None:
    with World() as world:
        world.submit(2 * HOUR, runs=HOUR)
        world.client.run_burst()
        world.watch(MINUTE)
        world.instance.submit(spec(1, 8, duration=5 * HOUR), urgency=0)
        world.watch(5 * MINUTE)
        assert world.entries()[0].burst.state is BurstState.READY


def test_a_burst_that_need_not_end_is_not_drained_for_a_job() -> None:
    with World(Joining, lease=HOUR) as world:
        world.submit(2 * HOUR)
        world.client.run_burst()
        world.watch(MINUTE)
        world.submit(0.0, burstable=0)
        world.watch(HOUR)
        assert world.entries()[0].burst.state is BurstState.READY


def test_a_job_that_waited_too_long_for_its_burst_gets_another_and_completes() -> None:
    """Another job is on the nodes that it was assigned to, and runs for longer than was thought."""
    with World() as world:
        first = world.submit(3 * HOUR, cores=4)
        world.client.run_burst()
        world.watch(MINUTE)
        intruder = world.submit(HOUR, cores=8, burstable=0)
        late = world.submit(2 * HOUR + 30 * MINUTE, cores=4)
        world.watch(HOUR)
        world.watch_until(lambda: all(map(world.result, (first, late))))
        assert [world.result(jobid) for jobid in (first, late)] == [COMPLETED] * 2
        assert world.result(intruder) in (None, COMPLETED)


def test_a_burst_that_comes_up_too_late_for_its_job_is_given_up_and_counted() -> None:
    with World(boot=14 * MINUTE, startup=5 * MINUTE, max_lifetime=10 * HOUR) as world:
        job = world.submit(2 * HOUR)
        world.client.run_burst()
        world.watch(6 * MINUTE)
        entry = world.entries()[0]
        assert "it is too late: job " in entry.burst.error
        assert "may run 2h, but it has 1h" in entry.burst.error
        assert not entry.live
        assert world.is_pending(job)
        assert world.client.ledger.breakers()["cloud", "node"].failures >= 1


def test_what_waits_for_a_burst_that_is_drained_is_free_at_once() -> None:
    with World(Joining, max_lifetime=2 * HOUR, assumed_duration=0.0) as world:
        world.submit(0.0, runs=20 * HOUR)
        world.client.run_burst()
        world.watch(HOUR)
        entry = world.entries()[0]
        waiting = world.submit(0.0)
        plugin = world.plugin
        world.client.run_burst()
        job = next(job for job in world.instance.pending_jobs() if job.id == waiting)
        assert job.mark is not None
        if job.mark.burst == entry.burst.name:
            world.watch(51 * MINUTE)
            assert next(j for j in plugin.jobs) != waiting


def test_a_burst_whose_lease_cannot_be_renewed_says_so_when_it_is_drained() -> None:
    with World() as world:
        world.submit(20 * MINUTE, runs=MINUTE)
        world.client.run_burst()
        world.watch_until(lambda: world.entries()[0].burst.state is not BurstState.READY)
        world.watch_until(lambda: world.entries()[0].reason)
        assert world.entries()[0].reason == "its lease ends: it does not extend leases"


def test_a_burst_in_its_providers_queue_keeps_a_lease_as_long_as_its_jobs_need() -> None:
    """The clock of a batch job runs from its start, however long it waited for that."""

    class Queueing(Joining):
        not_renewable = "only operators may raise time limits"
        starts = False

        def create(self, burst: Burst) -> Burst:
            return replace(super().create(burst), state=BurstState.REQUESTED)

        def refresh(self, burst: Burst) -> Burst:
            if not self.starts:
                return burst
            return replace(burst, state=BurstState.STARTING, since=self.instance.now())

    with World(Queueing, boot=100 * HOUR, startup=3 * MINUTE) as world:
        world.submit(4 * HOUR)
        world.client.run_burst()
        world.watch(10 * HOUR)
        (entry,) = world.entries()
        assert entry.burst.state is BurstState.REQUESTED
        lease = entry.burst.lease_until
        assert lease is not None
        assert 4 * HOUR <= lease - world.instance.now() <= 4 * HOUR + 13 * MINUTE
        assert isinstance(world.plugin, Queueing)
        world.plugin.starts = True
        world.watch(5 * MINUTE)
        assert world.entries()[0].burst.lease_until == lease
