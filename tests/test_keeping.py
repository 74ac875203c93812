"""Bursts live as long as they are wanted: leases, idleness, lifetimes, draining, and their use."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
from tests.support import Joining, client_on, job, spec

from fluxburst import Burst, BurstPlugin, BurstState, FluxBurst, Job, NodeType
from fluxburst.config.policy import Lifetimes, Policy, Timeouts
from fluxburst.errors import BurstError, BurstErrors
from fluxburst.formats.units import Duration
from fluxburst.ledger import Entry, Usage
from fluxburst.model.burst import drain_reason
from fluxburst.model.job import JobState
from fluxburst.simulation.embedded import CANCELED, COMPLETED, EmbeddedInstance
from fluxburst.simulation.recordings import Recording

MINUTE = 60.0
HOUR = 3600.0
PRICED = NodeType("node", cores=8, price=1.0)


def lifetimes(**seconds: object) -> Policy:
    values = {k: v if isinstance(v, str) else Duration(float(v)) for k, v in seconds.items()}  # type: ignore[arg-type]
    return Policy(Lifetimes(**values))  # type: ignore[arg-type]


def work(seconds: float, cores: int = 8, nodes: int = 1) -> dict[str, object]:
    """Return the jobspec of a job that takes so long, and may take so long."""
    return spec(nodes, cores, burstable=1, duration=seconds)


class World:
    """A client of an embedded instance, looked after every minute of its virtual time."""

    def __init__(self, policy: Policy, *, boot: float = 0.0, plugin: type[Joining] = Joining):
        self.instance = EmbeddedInstance(Recording(()))
        self.plugin = plugin("cloud", self.instance, PRICED, boot=boot)
        self.client = client_on(self.instance, self.plugin, policy=policy)
        self.start = self.instance.now()

    def __enter__(self) -> World:
        return self

    def __exit__(self, *_: object) -> None:
        self.client.close()

    @property
    def elapsed(self) -> float:
        return self.instance.now() - self.start

    @property
    def entry(self) -> Entry:
        (entry,) = self.client.ledger.entries()
        return entry

    def is_in(self, state: BurstState) -> bool:
        return self.entry.burst.state is state

    def submit(self, seconds: float, cores: int = 8, nodes: int = 1) -> int:
        return self.instance.submit(work(seconds, cores, nodes))

    def watch(self, seconds: float, step: float = MINUTE) -> None:
        until = self.instance.now() + seconds
        while self.instance.now() < until:
            self.instance.advance(min(step, until - self.instance.now()))
            self.client.reconcile()

    def watch_until(self, what: Callable[[], object], at_most: float = 12 * HOUR) -> float:
        while not what():
            assert self.elapsed < at_most, "it never happened"
            self.watch(MINUTE)
        return self.elapsed


def steps(client: FluxBurst) -> list[str]:
    return [transition.state.value for transition in client.ledger.transitions()]


# --- idleness ----------------------------------------------------------------------------------


def test_a_burst_is_ended_once_it_was_idle_for_long_enough() -> None:
    with World(lifetimes(idle_timeout=5 * MINUTE)) as world:
        done = world.submit(10 * MINUTE)
        world.client.run_burst()
        world.watch(14 * MINUTE)
        assert world.is_in(BurstState.READY)
        assert world.plugin.deleted == []
        assert world.entry.idle == world.start + 10 * MINUTE
        world.watch(2 * MINUTE)
        assert world.is_in(BurstState.ENDED)
        assert list(world.plugin.there) == []
        assert world.plugin.deleted == world.plugin.created
        assert world.instance.job(done)["result"] == COMPLETED


def test_the_ledger_tells_that_it_was_ended_for_idleness() -> None:
    with World(lifetimes(idle_timeout=5 * MINUTE)) as world:
        world.submit(MINUTE)
        world.client.run_burst()
        world.watch_until(lambda: world.entry.ended)
        assert "no job has been on it, or waited for it, for 5m" in world.entry.reason
        assert steps(world.client) == [
            "requested",
            "starting",
            "ready",
            "draining",
            "ending",
            "ended",
        ]


def test_a_job_that_comes_back_to_a_burst_ends_its_idleness() -> None:
    with World(lifetimes(idle_timeout=5 * MINUTE)) as world:
        world.submit(MINUTE)
        world.client.run_burst()
        world.watch(4 * MINUTE)
        world.submit(30 * MINUTE)
        world.watch(25 * MINUTE)
        assert world.is_in(BurstState.READY)
        assert world.entry.idle is None


def test_a_burst_that_jobs_wait_for_is_not_idle() -> None:
    with World(lifetimes(idle_timeout=5 * MINUTE), boot=10 * MINUTE) as world:
        waiting = world.submit(30 * MINUTE)
        world.client.run_burst()
        world.watch(9 * MINUTE)
        assert world.is_in(BurstState.STARTING)
        assert world.entry.idle is None
        world.watch(5 * MINUTE)
        assert world.instance.job(waiting).state is JobState.RUN


def test_a_coming_burst_that_nobody_waits_for_any_more_is_ended() -> None:
    with World(lifetimes(idle_timeout=5 * MINUTE), boot=HOUR) as world:
        waiting = world.submit(MINUTE)
        world.client.run_burst()
        world.watch(MINUTE)
        world.instance.cancel_jobs([waiting], "not needed")
        world.watch(10 * MINUTE)
        assert world.is_in(BurstState.ENDED)
        assert world.plugin.there == {}


def test_a_burst_on_demand_is_idle_only_from_when_it_is_up() -> None:
    with World(lifetimes(idle_timeout=5 * MINUTE), boot=10 * MINUTE) as world:
        world.client.request_burst("cloud", 1, None)
        world.watch(9 * MINUTE)
        assert (world.is_in(BurstState.STARTING), world.entry.idle) == (True, None)
        world.watch(5 * MINUTE)
        assert world.is_in(BurstState.READY)
        assert world.entry.idle == world.entry.ready == world.start + 10 * MINUTE
        world.watch(2 * MINUTE)
        assert world.is_in(BurstState.ENDED)


def test_no_burst_is_ended_for_idleness_before_its_min_lifetime() -> None:
    with World(lifetimes(idle_timeout=MINUTE, min_lifetime=30 * MINUTE)) as world:
        world.submit(MINUTE)
        world.client.run_burst()
        ended = world.watch_until(lambda: world.entry.ended)
        assert 30 * MINUTE <= ended <= 32 * MINUTE


def test_a_burst_with_a_node_on_the_keep_list_is_not_ended_for_idleness() -> None:
    with World(lifetimes(idle_timeout=MINUTE)) as world:
        world.submit(MINUTE, nodes=2)
        world.client.run_burst()
        (kept, other) = world.plugin.there[world.plugin.created[0]].hostnames
        world.client.close()
        world.client = client_on(
            world.instance, world.plugin, policy=lifetimes(idle_timeout=MINUTE, keep=kept)
        )
        world.watch(5 * HOUR)
        assert world.is_in(BurstState.READY)
        assert world.plugin.deleted == []
        assert other


def test_after_an_idle_burst_its_node_type_cools_down() -> None:
    policy = lifetimes(idle_timeout=MINUTE, cool_down=HOUR)
    with World(policy) as world:
        world.submit(MINUTE)
        world.client.run_burst()
        world.watch_until(lambda: world.entry.ended)
        again = world.submit(MINUTE)
        (left,) = world.client.run_burst()
        assert left.id == again
        (decision,) = world.client.plan().decisions
        assert "'node' is not asked for: it cools down for another 1h" in decision.reasons[0]
        world.instance.advance(HOUR + 1)
        assert world.client.run_burst() == []
        assert len(world.plugin.created) == 2


def test_after_a_burst_that_was_taken_down_by_hand_nothing_cools_down() -> None:
    with World(lifetimes(cool_down=HOUR)) as world:
        world.submit(MINUTE)
        world.client.run_burst()
        world.client.run_unburst()
        world.submit(MINUTE)
        assert world.client.run_burst() == []
        assert len(world.plugin.created) == 2


# --- leases ------------------------------------------------------------------------------------


class Leased(Joining):
    """A provider that ends nodes whose lease has run out."""

    def __init__(self, *arguments: object, **options: object) -> None:
        super().__init__(*arguments, **options)  # type: ignore[arg-type]
        self.armed: list[float | None] = []
        self.refuses = False

    def create(self, burst: Burst) -> Burst:
        self._arm(burst)
        return super().create(burst)

    def renew(self, burst: Burst) -> Burst:
        if self.refuses:
            raise BurstError("the job cannot be longer")
        self._arm(burst)
        return burst

    def _arm(self, burst: Burst) -> None:
        lease = burst.lease_until
        self.armed.append(lease)
        assert lease is not None
        self.instance.at(lease, lambda: self._end(burst, lease))

    def _end(self, burst: Burst, lease: float) -> None:
        if self.armed[-1] == lease and burst.name in self.there:
            self.instance.remove_nodes(self.there.pop(burst.name).hostnames)


def test_a_burst_is_leased_from_its_creation_on() -> None:
    with World(lifetimes(lease=HOUR), plugin=Leased) as world:
        world.submit(MINUTE)
        world.client.run_burst()
        assert isinstance(world.plugin, Leased)
        assert world.plugin.armed == [world.start + HOUR]
        assert world.entry.burst.lease_until == world.start + HOUR


def test_a_burst_in_use_is_renewed_while_somebody_watches_and_ends_when_nobody_does() -> None:
    with World(lifetimes(lease=HOUR), plugin=Leased) as world:
        long = world.submit(100 * HOUR)
        world.client.run_burst()
        world.watch(6 * HOUR)
        assert isinstance(world.plugin, Leased)
        assert world.is_in(BurstState.READY)
        assert all(later - 5 * HOUR > 0 for later in world.plugin.armed if later)
        assert len(world.plugin.armed) <= 14  # at half of each lease
        assert (world.entry.burst.lease_until or 0.0) > world.instance.now()
        world.instance.advance(HOUR)
        assert world.plugin.there == {}
        assert world.instance.job(long).state is JobState.INACTIVE
        world.client.reconcile()
        assert world.is_in(BurstState.FAILED)


def test_a_burst_whose_plugin_refuses_to_renew_is_drained_and_ended_before_its_lease_is() -> None:
    with World(lifetimes(lease=HOUR, teardown=10 * MINUTE), plugin=Leased) as world:
        assert isinstance(world.plugin, Leased)
        world.plugin.refuses = True
        long = world.submit(100 * HOUR)
        world.client.run_burst()
        errors: list[str] = []

        def watched() -> bool:
            world.instance.advance(MINUTE)
            try:
                world.client.reconcile()
            except BurstErrors as error:
                errors.append(str(error))
            return not world.entry.live

        while world.elapsed < 50 * MINUTE:
            assert not watched()
        assert world.is_in(BurstState.DRAINING)
        assert world.instance.job(long).state is JobState.RUN
        while not watched():
            assert world.elapsed < HOUR
        assert world.plugin.deleted == world.plugin.created
        assert world.instance.job(long)["result"] == CANCELED
        assert "the job cannot be longer" in errors[0]
        assert "its lease ends" in world.entry.reason
        assert "the job cannot be longer" in world.entry.reason


def test_a_provider_that_grants_less_than_was_asked_for_is_believed() -> None:
    class Stingy(Joining):
        def renew(self, burst: Burst) -> Burst:
            return replace(burst, lease_until=latest)

    with World(lifetimes(lease=HOUR, teardown=10 * MINUTE), plugin=Stingy) as world:
        latest = world.start + 1.5 * HOUR
        world.submit(100 * HOUR)
        world.client.run_burst()
        ended = world.watch_until(lambda: not world.entry.live)
        assert ended < 1.5 * HOUR


def test_a_burst_that_a_plugin_answers_without_its_lease_keeps_it() -> None:
    class Forgets(Joining):
        def create(self, burst: Burst) -> Burst:
            up = super().create(burst)
            return Burst(up.name, up.plugin, up.node_type, up.nodes, hostnames=up.hostnames)

    with World(lifetimes(lease=HOUR), plugin=Forgets) as world:
        world.submit(MINUTE)
        world.client.run_burst()
        burst = world.entry.burst
        assert (burst.lease_until, burst.price, burst.jobs) == (
            world.start + HOUR,
            PRICED.price,
            tuple(job.id for job in world.plugin.jobs.values()),
        )


def test_without_a_lease_that_ends_nothing_is_renewed() -> None:
    with World(lifetimes(lease=math.inf), plugin=Joining) as world:
        world.submit(10 * HOUR)
        world.client.run_burst()
        world.watch(5 * HOUR)
        assert world.is_in(BurstState.READY)
        assert world.entry.burst.lease_until is None


# --- the end of a life -------------------------------------------------------------------------


def test_at_the_end_of_its_life_a_burst_is_drained_and_then_ended_whatever_runs() -> None:
    policy = lifetimes(max_lifetime=3 * HOUR, teardown=20 * MINUTE, assumed_duration=0)
    with World(policy, plugin=Leased) as world:
        for_ever = {"test": {"run_duration": "100h"}}
        long = world.instance.submit(spec(1, 8, burstable=1, exec=for_ever))
        world.client.run_burst()
        world.watch(3 * HOUR - 21 * MINUTE)
        assert world.is_in(BurstState.READY)
        world.watch(2 * MINUTE)
        assert world.is_in(BurstState.DRAINING)
        assert world.instance.job(long).state is JobState.RUN
        (node,) = world.instance.nodes()
        assert (node.drained, node.drain_reason) == (True, drain_reason(world.entry.burst.name))
        ended = world.watch_until(lambda: not world.entry.live)
        assert ended < 3 * HOUR
        assert world.instance.job(long)["result"] == CANCELED
        assert "it may live 3h at most" in world.entry.reason
        assert isinstance(world.plugin, Leased)
        assert all((lease or 0.0) <= world.start + 3 * HOUR for lease in world.plugin.armed)


def test_a_job_that_would_outlive_every_burst_is_given_to_none() -> None:
    with World(lifetimes(max_lifetime=HOUR)) as world:
        world.submit(2 * HOUR)
        (left,) = world.client.run_burst()
        (decision,) = world.client.plan().decisions
        assert decision.id == left.id
        assert "it may run 2h, and a burst of cloud lives 1h at most" in decision.reasons[0]


def test_on_nodes_being_drained_what_runs_finishes_and_nothing_starts() -> None:
    policy = lifetimes(max_lifetime=HOUR, teardown=30 * MINUTE, assumed_duration=0)
    with World(policy) as world:
        takes = {"test": {"run_duration": "40m"}}
        first = world.instance.submit(spec(1, 4, burstable=1, exec=takes))
        world.client.run_burst()
        world.watch(32 * MINUTE)
        assert world.is_in(BurstState.DRAINING)
        late = world.submit(MINUTE, cores=4)
        world.watch(7 * MINUTE)
        assert world.instance.job(late).state is JobState.SCHED
        assert world.plugin.deleted == []
        world.watch(2 * MINUTE)
        assert world.instance.job(first)["result"] == COMPLETED
        assert world.plugin.deleted == world.plugin.created
        assert world.entry.ended is not None


def test_the_nodes_of_a_burst_that_is_gone_are_drained_no_longer() -> None:
    with World(lifetimes(idle_timeout=MINUTE)) as world:
        world.instance.add_nodes(["lead"], NodeType("lead", cores=1))
        world.instance.drain([0], "by the administrator")
        world.submit(MINUTE)
        world.client.run_burst()
        world.watch_until(lambda: world.entry.ended)
        lead, node = world.instance.nodes()
        assert (node.up, node.drained) == (False, False)
        assert (lead.drained, lead.drain_reason) == (True, "by the administrator")


def test_a_drained_burst_that_is_still_in_use_is_leased_until_its_job_has_ended() -> None:
    """One that lost a node is drained for that, and not because its time is up."""

    class Tells(Leased):
        broken = False

        def refresh(self, burst: Burst) -> Burst:
            return burst

        def adopt(self) -> list[Burst]:
            state = BurstState.FAILED if self.broken else BurstState.READY
            return [
                replace(b, state=state, error="lost a node" if self.broken else "")
                for b in self.there.values()
            ]

    with World(lifetimes(lease=HOUR), plugin=Tells) as world:
        long = world.submit(5 * HOUR)
        world.client.run_burst()
        world.watch(MINUTE)
        assert isinstance(world.plugin, Tells)
        world.plugin.broken = True
        world.watch(4 * HOUR)
        assert world.is_in(BurstState.DRAINING)
        assert world.instance.job(long).state is JobState.RUN
        world.watch_until(lambda: not world.entry.live)
        assert world.instance.job(long)["result"] == COMPLETED


def test_a_burst_that_does_not_join_in_time_is_taken_down() -> None:
    policy = Policy(timeouts=Timeouts(join=Duration(10 * MINUTE)))
    with World(policy, boot=HOUR) as world:
        waiting = world.submit(MINUTE)
        world.client.run_burst()
        world.watch(9 * MINUTE)
        assert world.is_in(BurstState.STARTING)
        world.watch(3 * MINUTE)
        assert world.is_in(BurstState.FAILED)
        assert world.plugin.there == {}
        assert "did not join within 10m" in world.entry.burst.error
        assert world.instance.job(waiting)["state"] == JobState.SCHED
        assert Job(world.instance.job(waiting)).mark is None


def test_what_is_due_next_is_told() -> None:
    with World(lifetimes(lease=HOUR, idle_timeout=5 * MINUTE, max_lifetime=10 * HOUR)) as world:
        assert world.client.next_due() == math.inf
        world.submit(10 * MINUTE)
        world.client.run_burst()
        assert world.client.next_due() == world.start + HOUR / 2
        world.watch(10 * MINUTE)
        assert world.client.next_due() == world.start + 15 * MINUTE
        world.watch_until(lambda: world.entry.ended)
        assert world.client.next_due() == math.inf


# --- a burst without a plugin, and a plugin without bursts of its own -------------------------


def test_bursts_of_a_plugin_that_is_not_loaded_stay_as_they_are() -> None:
    with World(lifetimes(idle_timeout=MINUTE, lease=HOUR)) as world:
        world.submit(MINUTE)
        world.client.run_burst()
        world.client.close()
        with client_on(world.instance, policy=lifetimes(idle_timeout=MINUTE)) as without:
            world.instance.advance(30 * MINUTE)
            without.run_burst()
            (entry,) = without.ledger.live()
            assert entry.burst.state in (BurstState.STARTING, BurstState.READY)
        assert list(world.plugin.there) == world.plugin.created


class Own(BurstPlugin):
    """A plugin that sizes its bursts itself, and does not name them."""

    name = "own"

    def __init__(self) -> None:
        from fluxburst import BurstParameters

        super().__init__(BurstParameters())
        self.runs: list[list[int]] = []
        self.unbursts = 0

    def schedule(self, job: Job) -> bool:
        self.jobs[job.id] = job
        return True

    def run(self, request_burst: bool = False, nodes: int | None = None, tasks: int | None = None):  # type: ignore[no-untyped-def]
        self.runs.append(list(self.jobs))
        return ()

    def unburst(self):  # type: ignore[no-untyped-def]
        self.unbursts += 1
        return ()


def test_what_a_plugin_brought_up_that_does_not_say_what_is_not_ended_while_its_jobs_last() -> None:
    own = Own()
    instance = EmbeddedInstance(Recording((job(1), job(2))))
    with client_on(instance, own, policy=lifetimes(idle_timeout=MINUTE)) as client:
        client.run_burst()
        for _ in range(10):
            instance.advance(MINUTE)
            client.reconcile()
        assert (own.runs, own.unbursts) == ([[1, 2]], 0)


# --- who used what -----------------------------------------------------------------------------


def test_what_a_job_used_of_a_burst_is_recorded() -> None:
    with World(lifetimes(idle_timeout=5 * MINUTE)) as world:
        whole = world.submit(10 * MINUTE, nodes=2)
        world.client.run_burst()
        world.watch(MINUTE)
        (usage,) = world.client.ledger.usages(running=True)
        assert usage == Usage(world.entry.id, whole, 1000, 2.0, world.start)
        world.watch(10 * MINUTE)
        half = world.submit(2 * MINUTE, cores=4)
        world.watch(5 * MINUTE)
        first, second = world.client.ledger.usages()
        assert first == replace(usage, ended=world.start + 10 * MINUTE)
        assert (second.job, second.nodes) == (half, 0.5)
        assert (second.ended or 0.0) - second.started == 2 * MINUTE


def test_the_use_of_a_burst_whose_jobs_unburst_cancels_is_over() -> None:
    with World(lifetimes(grace=0, cancel_jobs=1)) as world:
        world.submit(10 * HOUR)
        world.client.run_burst()
        world.watch(10 * MINUTE)
        world.client.run_unburst()
        world.watch(MINUTE)
        (usage,) = world.client.ledger.usages()
        assert usage.ended == world.start + 10 * MINUTE


def test_the_use_of_a_burst_goes_on_being_recorded_after_a_restart() -> None:
    with World(lifetimes()) as world:
        long = world.submit(10 * MINUTE)
        world.client.run_burst()
        world.watch(2 * MINUTE)
        world.client.close()
        again = Joining("cloud", world.instance, PRICED, there=world.plugin.there)
        world.client = client_on(world.instance, again, policy=lifetimes())
        world.watch(10 * MINUTE)
        (usage,) = world.client.ledger.usages()
        assert (usage.job, usage.started) == (long, world.start)
        assert usage.ended == world.start + 10 * MINUTE


@pytest.mark.parametrize("boot", [0.0, 10 * MINUTE])
def test_a_burst_costs_from_its_request_to_its_end(boot: float) -> None:
    with World(lifetimes(idle_timeout=5 * MINUTE), boot=boot) as world:
        world.submit(30 * MINUTE, nodes=2)
        world.client.run_burst()
        ended = world.watch_until(lambda: world.entry.ended)
        cost = world.entry.cost(world.instance.now())
        assert cost == pytest.approx(2 * PRICED.price * ended / HOUR)
        ((_, _, _, hours, total),) = world.client.ledger.ended_sums()
        assert [hours, total] == pytest.approx([2 * ended / HOUR, cost])
