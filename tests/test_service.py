"""The service on an embedded instance, in virtual time: what it wakes for, and what it survives."""

from __future__ import annotations

import importlib
import itertools
import logging
import math
import random
import select
import signal
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.full_disks import full_ledger
from tests.support import Joining, client_on, job, spec

from fluxburst import Burst, BurstState, FluxBurst, Job, NodeType, hookimpl
from fluxburst.config.file import Config
from fluxburst.config.policy import Lifetimes, Limits, Policy, Timeouts, Watching
from fluxburst.errors import BurstError, ConfigError, HeldError, InstanceError, LedgerError
from fluxburst.flux.protocol import Changes
from fluxburst.formats.units import Duration
from fluxburst.model.job import JobState
from fluxburst.model.node import Node
from fluxburst.model.plan import Outcome
from fluxburst.service.loop import Report, Service
from fluxburst.simulation.embedded import COMPLETED, EmbeddedInstance
from fluxburst.simulation.recordings import Recording

MINUTE = 60.0
HOUR = 3600.0
MANY_PASSES = 20_000
"""More than any of these services runs: one that has not been stopped by then never would be."""

RARELY = Watching(poll=Duration(12 * HOUR))
"""So rare a poll that whatever happens in these tests happens for another cause."""


def work(seconds: float = 0.0, nodes: int = 1, cores: int = 8, **system: Any) -> dict[str, Any]:
    """Return the jobspec of a job that takes so long, by default for ever."""
    return spec(nodes, cores, burstable=1, duration=seconds or 1000 * HOUR, **system)


class Counted(Joining):
    """A plugin that counts how often it is asked what is there, and may fail to say."""

    def __init__(self, name: str, instance: EmbeddedInstance, *types: NodeType, **more: Any):
        super().__init__(name, instance, *types, **more)
        self.asked = 0
        self.mute = False

    def list_bursts(self) -> Collection[str]:
        self.asked += 1
        if self.mute:
            raise BurstError("the provider's API is down")
        return super().list_bursts()


class Watched:
    """A service on an embedded instance, which runs for so long in virtual time."""

    def __init__(
        self,
        *types: NodeType,
        policy: Policy | None = None,
        boot: float = 0.0,
        instance: EmbeddedInstance | None = None,
        state_dir: Path | None = None,
        read_config: Callable[[], Config] | None = None,
    ) -> None:
        self.instance = instance or EmbeddedInstance()
        self.plugin = Counted("cloud", self.instance, *types, boot=boot)
        policy = policy or Policy(watch=RARELY)
        self.client = client_on(self.instance, self.plugin, policy=policy, state_dir=state_dir)
        self.service = Service(self.client, read_config=read_config, tell=self._told)
        self.start = self.instance.now()
        self.passes: list[tuple[float, Report]] = []
        self._then: list[Callable[[], None]] = []

    def __enter__(self) -> Watched:
        return self

    def __exit__(self, *_: object) -> None:
        self.client.close()

    def _told(self, report: Report) -> None:
        self.passes.append((self.elapsed, report))

    @property
    def elapsed(self) -> float:
        return self.instance.now() - self.start

    @property
    def reports(self) -> list[Report]:
        return [report for _, report in self.passes]

    @property
    def placed(self) -> set[int]:
        return {assignment.job for assignment in self.client.ledger.assignments()}

    def nodes(self) -> int:
        return sum(entry.burst.nodes for entry in self.client.ledger.live())

    def at(self, elapsed: float, what: Callable[[], Any]) -> None:
        self.instance.at(self.start + elapsed, what)

    def submit_at(self, elapsed: float, jobspec: dict[str, Any]) -> None:
        self.at(elapsed, lambda: self.instance.submit(jobspec))

    def run(self, seconds: float) -> None:
        """Run the service until so long after the start."""
        self.at(seconds, self.service.stop)
        self.service.run(MANY_PASSES)
        assert self.elapsed >= seconds, "it was not stopped, but ran for ever"

    def states(self) -> list[tuple[float, str]]:
        """Return what became of bursts, with when."""
        told = self.client.ledger.transitions()
        return [(transition.at - self.start, transition.state.value) for transition in told]


# --- what it wakes for -------------------------------------------------------------------------


def test_a_submitted_job_is_given_in_the_pass_after_the_wait() -> None:
    with Watched() as watched:
        watched.submit_at(100.0, work())
        watched.run(200.0)
        (assignment,) = watched.client.ledger.assignments()
        assert assignment.at - watched.start == pytest.approx(100.0, abs=0.1)


def test_what_is_submitted_together_is_planned_together() -> None:
    with Watched(NodeType("node", cores=8)) as watched:
        for number in range(8):
            watched.submit_at(100.0 + number / 1000, work(cores=1))
        watched.run(101.0)
        (burst,) = [entry.burst for entry in watched.client.ledger.entries()]
        assert burst.nodes == 1
        assert len(watched.placed) == 8


def test_a_burst_whose_nodes_join_is_ready_without_its_provider_being_asked() -> None:
    asked: list[int] = []
    with Watched(boot=1.0) as watched:
        watched.submit_at(100.0, work())
        watched.at(100.9, lambda: asked.append(watched.plugin.asked))
        watched.at(101.1, lambda: asked.append(watched.plugin.asked))
        watched.run(101.2)
        before, after = asked
        assert before == after
        assert [state for _, state in watched.states()][-1] == "ready"
        assert watched.states()[-1][0] == pytest.approx(101.0, abs=0.1)


def test_providers_are_asked_often_while_a_burst_comes_and_rarely_once_it_is_there() -> None:
    with Watched(boot=30.0) as watched:
        watched.submit_at(1.0, work())
        watched.run(40.0)
        while_coming = watched.plugin.asked
        assert 10 < while_coming < 25
    with Watched(boot=30.0) as watched:
        watched.submit_at(1.0, work())
        watched.run(6 * HOUR)
        assert watched.plugin.asked == while_coming


def test_an_idle_burst_ends_by_its_timer_though_nothing_else_happens() -> None:
    policy = Policy(Lifetimes(idle_timeout=Duration(5 * MINUTE)), watch=RARELY)
    with Watched(policy=policy) as watched:
        watched.submit_at(0.0, work(10 * MINUTE))
        watched.run(20 * MINUTE)
        assert list(watched.plugin.there) == []
        ended = {state: at for at, state in watched.states()}["draining"]
        assert ended == pytest.approx(15 * MINUTE, abs=1.0)


def test_a_lease_is_renewed_for_as_long_as_the_service_runs() -> None:
    policy = Policy(Lifetimes(lease=Duration(HOUR)), watch=RARELY)
    with Watched(policy=policy) as watched:
        watched.submit_at(0.0, work(6 * HOUR))
        watched.run(5.9 * HOUR)
        (entry,) = watched.client.ledger.live()
        assert entry.burst.state is BurstState.READY
        assert entry.burst.lease_until is not None
        assert entry.burst.lease_until > watched.instance.now()


def test_a_job_that_needs_longer_than_one_lease_is_done_all_the_same() -> None:
    policy = Policy(Lifetimes(lease=Duration(HOUR)), watch=RARELY)
    with Watched(policy=policy) as watched:
        jobid = watched.instance.submit(work(6 * HOUR))
        watched.run(7 * HOUR)
        assert watched.instance.job(jobid)["result"] == COMPLETED


def test_the_service_rests_while_nothing_happens() -> None:
    with Watched() as watched:
        watched.run(10 * HOUR)
        # The service beats once a minute, for the watchdog.
        assert len(watched.passes) <= 10 * 60 + 2


# --- what a pass looks at ----------------------------------------------------------------------


class Votes:
    """Selects all jobs, and notes which it was asked about."""

    def __init__(self, client: FluxBurst) -> None:
        self.asked: list[int] = []
        client.set_selector(self._select)

    def _select(self, job: Job) -> bool:
        self.asked.append(job.id)
        return True

    def taken(self) -> list[int]:
        asked, self.asked = self.asked, []
        return asked


ONE = NodeType("node", cores=8, max_nodes=1)


def test_passes_look_only_at_what_has_changed() -> None:
    with Watched(ONE) as watched:
        votes = Votes(watched.client)
        waiting = [watched.instance.submit(work()) for _ in range(50)]
        watched.service.run(3)
        assert sorted(set(votes.taken())) == waiting
        new = watched.instance.submit(work())
        watched.instance.set_urgencies({waiting[20]: 20})
        watched.service.run(1)
        assert votes.taken() == [waiting[20], new]
        watched.service.run(1)
        assert votes.taken() == []


def test_once_a_burst_is_gone_no_more_nodes_are_brought_up_than_are_missing() -> None:
    with Watched(replace(ONE, max_nodes=9), boot=HOUR) as watched:
        watched.instance.add_nodes(["own"], ONE)
        watched.instance.submit(work(nodes=3))
        watched.service.run(3)
        (burst,) = watched.plugin.there.values()
        assert burst.nodes == 2
        watched.client.run_unburst([burst.name])
        watched.service.run(3)
        (again,) = watched.plugin.there.values()
        assert again.name != burst.name
        assert again.nodes == 2


def test_where_capacity_is_counted_anew_what_was_given_keeps_its_part() -> None:
    with Watched(replace(ONE, max_nodes=9), boot=HOUR) as watched:
        watched.instance.add_nodes(["own"], ONE)
        watched.instance.submit(work(nodes=3))  # on the instance's own node and two more
        watched.service.run(3)
        later = watched.instance.submit(work(nodes=2))
        watched.service.run(3)
        (of_later,) = [b for b in watched.plugin.there.values() if b.jobs == (later,)]
        watched.client.run_unburst([of_later.name])
        watched.service.run(3)
        assert [burst.nodes for burst in watched.plugin.there.values()] == [2, 2]


def test_once_there_may_be_room_the_first_that_wait_are_looked_at() -> None:
    watching = replace(RARELY, depth=3)
    with Watched(ONE, policy=Policy(watch=watching)) as watched:
        votes = Votes(watched.client)
        first, *waiting = [watched.instance.submit(work(100.0)) for _ in range(20)]
        watched.service.run(3)
        votes.taken()
        (burst,) = watched.plugin.there
        watched.client.run_unburst([burst])
        votes.taken()
        watched.service.run(1)
        looked_at = [jobid for jobid in votes.taken() if jobid != first]
        assert looked_at[:3] == waiting[:3]
        assert not set(looked_at) & set(waiting[3:])


def test_a_job_that_waits_for_room_is_placed_once_there_is_some() -> None:
    policy = Policy(Lifetimes(idle_timeout=Duration(MINUTE)), watch=RARELY, limits=Limits(nodes=1))
    types = NodeType("small", cores=8), NodeType("large", cores=32)
    with Watched(*types, policy=policy) as watched:
        watched.submit_at(1.0, work(10 * MINUTE))
        watched.submit_at(10.0, work(cores=32))
        watched.run(9 * MINUTE)
        assert len(watched.placed) == 1
    with Watched(*types, policy=policy) as watched:
        watched.submit_at(1.0, work(10 * MINUTE))
        watched.submit_at(10.0, work(cores=32))
        watched.run(13 * MINUTE)
        assert len(watched.placed) == 2


def test_jobs_that_can_never_be_placed_do_not_stand_in_the_way_of_others() -> None:
    policy = Policy(
        Lifetimes(idle_timeout=Duration(MINUTE)),
        watch=replace(RARELY, depth=5),
        limits=Limits(nodes=1),
    )
    with Watched(NodeType("small", cores=8), NodeType("large", cores=32), policy=policy) as watched:
        watched.submit_at(1.0, work(10 * MINUTE))
        watched.run(2.0)
        malformed = work(cores=64)
        malformed["attributes"]["system"]["constraints"] = {"nonsense": [1]}
        for _ in range(20):
            watched.instance.submit(malformed)
        waiting = watched.instance.submit(work(cores=32))
        service = Service(watched.client, tell=watched._told)
        watched.at(13 * MINUTE, service.stop)
        service.run(MANY_PASSES)
        assert waiting in watched.placed


# --- looking at some jobs comes to the same as looking at all ----------------------------------


LIMIT = 24
"""How many nodes there may be, which is fewer than these jobs could use."""

LIMITED = Policy(
    watch=RARELY,
    limits=Limits(nodes=LIMIT),
    timeouts=Timeouts(start=Duration(math.inf)),  # some wait for nodes that others have reserved
)


def _submissions(seed: int, cores: Sequence[int]) -> list[tuple[float, dict[str, Any]]]:
    """Return jobs of so many cores a node, with when to submit them."""
    chance = random.Random(seed)
    jobs = [
        (chance.uniform(1.0, 1000.0), work(nodes=chance.randint(1, 4), cores=chance.choice(cores)))
        for _ in range(40)
    ]
    return sorted(jobs, key=lambda submission: submission[0])


def _looks_at_some(seed: int, cores: Sequence[int]) -> Watched:
    """Return a service to which these jobs were submitted, and which looked at what changed."""
    watched = Watched(policy=LIMITED, boot=45.0)
    for when, jobspec in _submissions(seed, cores):
        watched.submit_at(when, jobspec)
    watched.run(2000.0)
    return watched


def _looks_at_all(seed: int, cores: Sequence[int]) -> Watched:
    """Return the same, but in each pass all jobs were looked at."""
    watched = Watched(policy=LIMITED, boot=45.0)
    for when, jobspec in _submissions(seed, cores):
        watched.instance.advance(when - watched.elapsed)
        watched.instance.submit(jobspec)
        watched.client.run_burst()
    watched.instance.advance(2000.0 - watched.elapsed)
    return watched


@pytest.mark.parametrize("seed", range(5))
def test_looking_at_some_jobs_places_the_same_as_looking_at_all(seed: int) -> None:
    with _looks_at_some(seed, [8]) as some, _looks_at_all(seed, [8]) as all_jobs:
        assert some.placed == all_jobs.placed
        assert some.nodes() == all_jobs.nodes() <= LIMIT
        some.client.run_burst()
        assert some.placed == all_jobs.placed


@pytest.mark.parametrize("seed", range(5))
def test_of_jobs_that_share_nodes_none_is_left_that_one_look_at_all_would_not_place(
    seed: int,
) -> None:
    # Which of them share a node depends on the order in which they are looked at.
    cores = [1, 2, 4, 8]
    with _looks_at_some(seed, cores) as some:
        assert some.nodes() <= LIMIT
        some.client.run_burst()
        assert some.nodes() <= LIMIT
        assert not any(some.client.plan().assignments.values())


@pytest.mark.parametrize("seed", range(5))
def test_with_jobs_that_end_all_are_done_and_hardly_more_is_brought_up(seed: int) -> None:
    chance = random.Random(seed)
    policy = Policy(
        Lifetimes(idle_timeout=Duration(2 * MINUTE)), watch=RARELY, limits=Limits(nodes=16)
    )
    with Watched(policy=policy, boot=45.0) as watched:
        peak = 0

        def look() -> None:
            nonlocal peak
            peak = max(peak, sum(node.up for node in watched.instance.nodes()))

        for when, jobspec in _submissions(seed, [1, 2, 4, 8]):
            jobspec["attributes"]["system"]["duration"] = chance.uniform(1.0, 300.0)
            watched.submit_at(when, jobspec)
        for second in range(0, 4000, 10):
            watched.at(float(second), look)
        watched.run(6 * HOUR)
        assert watched.instance.job_ids() == []
        assert 0 < peak <= 16
        assert list(watched.plugin.there) == []
        assert watched.client.queue_counts() == (0, 0, 0)


def test_a_job_takes_the_nodes_that_another_has_left() -> None:
    with Watched() as watched:
        for number in range(5):
            watched.submit_at(1.0 + 100 * number, work(50.0))
        watched.run(600.0)
        assert len(watched.plugin.created) == 1


# --- what fails --------------------------------------------------------------------------------


def lines(caplog: pytest.LogCaptureFixture, level: int = logging.WARNING) -> list[str]:
    """Return what the service said, of this level or worse."""
    ours = [record for record in caplog.records if record.name == "fluxburst.service.loop"]
    return [record.getMessage() for record in ours if record.levelno >= level]


def test_a_pass_that_fails_is_logged_once_and_said_to_be_over(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    policy = Policy(watch=Watching(poll=Duration(30.0)))
    with Watched(policy=policy) as watched:
        watched.at(100.0, lambda: setattr(watched.plugin, "mute", True))
        for number in range(20):  # passes that ask nobody fail with nothing, and prove nothing
            watched.submit_at(100.0 + 7 * number, work(1.0))
        watched.at(400.0, lambda: setattr(watched.plugin, "mute", False))
        watched.run(500.0)
        assert [line for line in lines(caplog) if "API" in line] == [
            "plugin cloud: the provider's API is down"
        ]
        assert lines(caplog, logging.INFO).count("recovered: earlier failures have cleared") == 1
        assert watched.reports[-1].error is None


def test_a_burst_that_cannot_be_deleted_is_logged_once_and_said_to_be_over(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is tried again ever more rarely: that the passes between did not fail proves nothing."""
    caplog.set_level(logging.INFO)
    with Watched(policy=Policy(Lifetimes(idle_timeout=Duration(MINUTE)))) as watched:
        tried: list[float] = []

        def fails(burst: Burst) -> None:
            tried.append(watched.elapsed)
            raise BurstError("access denied")

        monkeypatch.setattr(watched.plugin, "delete", fails)
        watched.submit_at(1.0, work(MINUTE))
        watched.at(2 * HOUR, monkeypatch.undo)
        watched.run(3 * HOUR)
        assert len([line for line in lines(caplog) if "access denied" in line]) == 1
        assert lines(caplog, logging.INFO).count("recovered: earlier failures have cleared") == 1
        pauses = [after - before for before, after in itertools.pairwise(tried)]
        assert 25.0 < pauses[0] < 35.0
        assert 295.0 < pauses[-1] < 335.0
        assert watched.client.ledger.live() == []


def test_the_log_line_of_a_failure_carries_its_plugin(caplog: pytest.LogCaptureFixture) -> None:
    with Watched() as watched:
        watched.plugin.mute = True
        watched.run(10.0)
    (record,) = [record for record in caplog.records if record.name == "fluxburst.service.loop"]
    assert vars(record)["plugin"] == "cloud"


def test_a_service_does_not_start_where_another_holds_the_instance(tmp_path: Path) -> None:
    with Watched(state_dir=tmp_path) as one, Watched(state_dir=tmp_path) as other:
        one.client.hold()
        with pytest.raises(HeldError):
            other.service.run()
        assert other.passes == []


def test_with_a_full_disk_the_service_goes_on_and_spends_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    policy = Policy(watch=Watching(poll=Duration(0.01)))
    with Watched(policy=policy, state_dir=tmp_path) as watched:
        watched.service.run(1)
        make_room = full_ledger(watched.client)
        jobs = {watched.instance.submit(work()) for _ in range(500)}
        watched.service.run(3)
        assert [type(report.error) for report in watched.reports[1:]] == [LedgerError] * 3
        assert watched.plugin.created == []
        (line,) = lines(caplog)
        assert "the disk is full" in line
        make_room()
        watched.service.run(1)
        assert watched.placed == jobs
        assert {job for job in jobs if watched.client.ledger.decisions(job)} == jobs
        watched.service.run(1)
        assert lines(caplog, logging.INFO)[-1] == "recovered: earlier failures have cleared"


class Shaky(EmbeddedInstance):
    """An instance that goes away at some of the questions; ``broken`` names these."""

    broken: Collection[str] = ()

    def _ask(self, what: str) -> None:
        if what in self.broken:
            raise InstanceError(f"the instance does not answer {what}")

    def pending_changes(self) -> Changes:
        if "pending_changes" in self.broken:
            self.close()  # as with a live one, what is told next is complete
        self._ask("pending_changes")
        return super().pending_changes()

    def nodes(self) -> tuple[Node, ...]:
        self._ask("nodes")
        return super().nodes()

    def set_marks(self, marks: Any) -> Collection[int]:
        self._ask("set_marks")
        return super().set_marks(marks)

    def job_ids(self, *states: JobState) -> list[int]:
        self._ask("job_ids")
        return super().job_ids(*states)

    def jobs_on(self, ranks: Collection[int]) -> list[int]:
        self._ask("jobs_on")
        return super().jobs_on(ranks)

    def wait(self, seconds: float) -> None:
        self._ask("wait")
        super().wait(seconds)


@pytest.mark.parametrize(
    "broken", ["pending_changes", "nodes", "set_marks", "job_ids", "jobs_on", "wait"]
)
def test_an_instance_that_goes_away_for_a_while_costs_no_job(broken: str) -> None:
    instance = Shaky()
    policy = Policy(watch=Watching(poll=Duration(0.01)))
    with Watched(policy=policy, instance=instance) as watched:
        watched.plugin.boot = 0.001
        first = instance.submit(work())
        watched.service.run(3)
        gone = instance.submit(work(cores=4))
        watched.service.run(1)
        instance.broken = {broken}
        jobs = {first, gone, *(instance.submit(work()) for _ in range(5))}
        instance.cancel_jobs([gone], "")
        watched.service.run(2)
        instance.broken = ()
        watched.service.run(3)
        assert watched.reports[-1].error is None
        assert watched.placed == jobs
        pending, _, waiting = watched.client.queue_counts()
        assert pending == len(instance.pending_jobs())
        assert waiting == 0
        live = [entry.burst.name for entry in watched.client.ledger.live()]
        assert sorted(live) == sorted(watched.plugin.created)


def test_an_instance_that_cannot_be_reached_is_reported_as_such() -> None:
    instance = Shaky()
    with Watched(policy=Policy(watch=Watching(poll=Duration(0.01))), instance=instance) as watched:
        watched.service.run(1)
        instance.broken = {"pending_changes"}
        watched.service.run(1)
        assert [report.reachable for report in watched.reports] == [True, False]


# --- stopping ----------------------------------------------------------------------------------


class Blocking(EmbeddedInstance):
    """An instance of which nothing is heard, until whoever waits is woken."""

    def __init__(self) -> None:
        super().__init__()
        self.waiting = threading.Event()
        self._woken_by, self._waker = socket.socketpair()

    def wait(self, seconds: float) -> None:
        self.waiting.set()
        ready, _, _ = select.select([self._woken_by], [], [], 30.0)
        assert ready, "it was never woken"

    def wake(self) -> None:
        self._waker.send(b"!")

    def close(self) -> None:
        super().close()
        self._woken_by.close()
        self._waker.close()


def test_the_service_can_be_stopped_from_another_thread() -> None:
    instance = Blocking()
    with closing(instance), Watched(instance=instance) as watched:

        def stop() -> None:
            assert instance.waiting.wait(30.0)
            watched.service.stop()

        thread = threading.Thread(target=stop)
        thread.start()
        watched.service.run()
        thread.join()


def test_the_service_can_be_stopped_from_a_signal_handler() -> None:
    instance = Blocking()
    main, stopped = threading.get_ident(), threading.Event()
    with closing(instance), Watched(instance=instance) as watched:

        def kill() -> None:
            # One that comes just before the wait begins is only noticed once that is over.
            while not stopped.wait(0.05):
                signal.pthread_kill(main, signal.SIGUSR1)

        before = signal.signal(signal.SIGUSR1, lambda *_: watched.service.stop())
        thread = threading.Thread(target=kill)
        try:
            thread.start()
            watched.service.run()
        finally:
            stopped.set()
            thread.join()
            signal.signal(signal.SIGUSR1, before)


def test_a_service_that_was_stopped_before_it_ran_runs_no_pass() -> None:
    with Watched() as watched:
        watched.service.stop()
        watched.service.run()
        assert watched.passes == []


def test_draining_takes_all_bursts_down() -> None:
    with Watched() as watched:
        watched.submit_at(1.0, work(30.0))
        watched.run(10.0)
        assert list(watched.service.drain()) == watched.plugin.created
        assert watched.instance.now() < watched.start + 35.0
        assert list(watched.plugin.there) == []


def test_the_service_beats_at_least_as_often_as_it_is_to() -> None:
    beats: list[float] = []
    instance = EmbeddedInstance()
    with client_on(instance, policy=Policy(watch=RARELY)) as client:
        service = Service(client, beat=lambda: beats.append(instance.now()), beat_seconds=10.0)
        instance.at(instance.now() + 100.0, service.stop)
        service.run(MANY_PASSES)
    assert max(after - before for before, after in itertools.pairwise(beats)) <= 10.1


# --- reading the configuration again -----------------------------------------------------------


PACKAGE = """
from dataclasses import dataclass
from fluxburst import BurstParameters, NodeType, PluginType, hookimpl
from tests.full_disks import full_ledger
from tests.support import Joining

made, there, instances = [], {}, []
boot = 0.0

@dataclass
class Parameters(BurstParameters):
    cores: int = 8

@hookimpl
def fluxburst_configure(client):
    instances.append(client.instance)

@hookimpl
def fluxburst_register_plugins():
    return [PluginType("cloud", Parameters, make)]

def make(params):
    node = NodeType("node", params.cores)
    made.append(Joining("cloud", instances[-1], node, boot=boot, there=there))
    return made[-1]
"""


class Reread:
    """A service whose plugin comes from a package, and whose configuration may change."""

    def __init__(self, config: Config, boot: float = 0.0) -> None:
        self.config: Config | ConfigError = config
        self.instance = EmbeddedInstance()
        self.client = FluxBurst(self.instance, config=config)
        package: Any = importlib.import_module("fluxburst_cloud")
        self.cloud = package
        self.cloud.boot = boot
        self.client.load("cloud")
        self.service = Service(self.client, read_config=self._read)

    def __enter__(self) -> Reread:
        return self

    def __exit__(self, *_: object) -> None:
        self.client.close()

    def _read(self) -> Config:
        if isinstance(self.config, ConfigError):
            raise self.config
        return self.config

    def reread(self, config: Config | ConfigError) -> None:
        """Have the service read this before its next pass, and run that."""
        self.config = config
        self.service.reread()
        self.service.run(1)

    def nodes(self) -> int:
        return sum(entry.burst.nodes for entry in self.client.ledger.live())


@pytest.fixture
def cloud(make_package: Callable[..., str]) -> None:
    """Install a package that offers the plugin ``cloud``, with one parameter."""
    make_package("fluxburst_cloud", PACKAGE)


def limited(nodes: int | None, **more: Any) -> Config:
    return Config(policy=Policy(watch=RARELY, limits=Limits(nodes=nodes)), **more)


@pytest.mark.usefixtures("cloud")
def test_new_limits_hold_from_the_next_pass_on() -> None:
    with Reread(limited(1)) as service:
        for _ in range(4):
            service.instance.submit(work())
        service.service.run(2)
        assert service.nodes() == 1
        service.reread(limited(3))
        assert service.nodes() == 3
        service.reread(limited(2))
        service.instance.submit(work())
        service.service.run(1)
        assert service.nodes() == 3


@pytest.mark.usefixtures("cloud")
def test_another_selector_is_asked_about_jobs_that_were_not_selected_before() -> None:
    with Reread(limited(None)) as service:
        jobid = service.instance.submit(spec(1, 8))
        service.service.run(2)
        assert service.client.ledger.assignments(jobid) == []
        service.reread(limited(None, selector={"any": [{"user": [1000]}]}))
        assert len(service.client.ledger.assignments(jobid)) == 1


@pytest.mark.usefixtures("cloud")
def test_a_configuration_that_cannot_be_used_leaves_the_former_and_says_why(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with Reread(limited(1)) as service:
        service.instance.submit(work())
        service.service.run(2)
        service.reread(ConfigError("/etc/fluxburst.toml", "is not TOML"))
        assert service.client.policy.limits.nodes == 1
        (line,) = lines(caplog)
        assert "keeping the former one" in line
        assert "/etc/fluxburst.toml" in line
        assert service.nodes() == 1


@pytest.mark.usefixtures("cloud")
@pytest.mark.parametrize(
    "config",
    [
        limited(9, plugins={"cloud": {"coers": 4}}),
        limited(9, plugins={"cloud": {}, "nowhere": {}}),
        limited(9, selector={"no such": "selector"}),
        limited(9, ordering="by_luck"),
    ],
)
def test_what_only_a_plugin_or_a_selector_refuses_leaves_the_former_too(
    config: Config, caplog: pytest.LogCaptureFixture
) -> None:
    with Reread(limited(1)) as service:
        plugin = service.client.plugins["cloud"]
        service.reread(config)
        assert service.client.policy.limits.nodes == 1
        assert dict(service.client.plugins) == {"cloud": plugin}
        assert len(lines(caplog)) == 1
        service.instance.submit(work())
        service.service.run(1)
        assert service.nodes() == 1


@pytest.mark.usefixtures("cloud")
def test_parameters_of_plugins_are_taken_over() -> None:
    with Reread(limited(None)) as service:
        jobid = service.instance.submit(work(cores=32))
        service.service.run(2)
        assert service.client.ledger.assignments(jobid) == []
        service.reread(limited(None, plugins={"cloud": {"cores": 32}}))
        assert len(service.client.ledger.assignments(jobid)) == 1


@pytest.mark.usefixtures("cloud")
def test_bursts_stay_known_when_the_configuration_is_read_again() -> None:
    with Reread(limited(None)) as service:
        jobid = service.instance.submit(work(MINUTE))
        service.service.run(2)
        service.reread(limited(5))
        (burst,) = service.client.plugins["cloud"].bursts.values()
        assert burst.state is BurstState.READY
        assert burst.jobs == (jobid,)
        service.instance.at(service.instance.now() + HOUR, service.service.stop)
        service.service.run(MANY_PASSES)
        assert service.cloud.there == {}
        assert [entry.burst.state.value for entry in service.client.ledger.entries()] == ["ended"]


@pytest.mark.usefixtures("cloud")
def test_a_burst_that_is_coming_joins_after_the_configuration_is_read_again() -> None:
    with Reread(limited(None), boot=30.0) as service:
        service.instance.submit(work())
        service.service.run(2)
        service.reread(limited(5))
        service.instance.at(service.instance.now() + MINUTE, service.service.stop)
        service.service.run(MANY_PASSES)
        (entry,) = service.client.ledger.entries()
        assert entry.burst.state is BurstState.READY
        assert sum(len(plugin.created) for plugin in service.cloud.made) == 1


# --- the clock ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("step", "said"), [(HOUR, "forward by 1h"), (-HOUR, "back by 1h")])
def test_a_clock_that_is_set_is_said(
    step: float, said: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Watched() as watched:
        watched.service.run(1)
        real = time.time
        monkeypatch.setattr(time, "time", lambda: real() + step)
        asked = watched.plugin.asked
        watched.service.run(2)
        assert lines(caplog) == [f"the clock was set {said}"]
        assert watched.plugin.asked == asked + 1, "leases and timers go by the clock"


# --- many jobs that are wrong ------------------------------------------------------------------


class Observer:
    """Counts what it is told of failures."""

    def __init__(self) -> None:
        self.told: Counter[str] = Counter()

    @hookimpl
    def fluxburst_phase_failed(self, phase: str) -> None:
        self.told[phase] += 1


def test_ten_thousand_malformed_jobs_have_one_decision_each_and_are_told_once() -> None:
    many = 10_000
    malformed = work()
    malformed["attributes"]["system"]["constraints"] = {"nonsense": [1]}
    jobs = range(1, many + 1)
    recording = Recording(tuple(job(jobid, malformed) for jobid in jobs))
    with Watched(instance=EmbeddedInstance(recording)) as watched:
        observer = Observer()
        watched.client.hooks.register(observer, "observer")
        good = watched.instance.submit(work())
        watched.service.run(3)
        assert watched.placed == {good}
        assert observer.told == {"plan": many}
        decided = Counter(decision.id for _, decision in watched.client.ledger.decisions())
        assert [decided[jobid] for jobid in jobs] == [1] * many
        first = watched.reports[0].plan
        assert first is not None
        assert {d.outcome for d in first.decisions if d.id == 1} == {Outcome.FAILED}
        for _ in range(3):
            watched.instance.submit(work())
            watched.service.run(1)
        later = [len(report.plan.decisions) for report in watched.reports[-3:] if report.plan]
        assert max(later) < 100
        assert observer.told == {"plan": many}


def test_a_plugin_that_cannot_say_what_it_has_is_not_told_of_in_each_pass() -> None:
    with Watched() as watched:
        observer = Observer()
        watched.client.hooks.register(observer, "observer")
        watched.plugin.types = (NodeType("node", cores=8), NodeType("node", cores=9))
        for number in range(20):
            watched.submit_at(float(number), work())
        watched.run(30.0)
        assert observer.told["plan"] == 1
