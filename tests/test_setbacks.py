"""What came to nothing is not tried again at once: the service does not spin on what it did."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, NoReturn

import pytest
from tests.support import Elsewhere, Joining, client_on, spec

from fluxburst import BurstParameters, BurstPlugin, FluxBurst, NodeType
from fluxburst.config.policy import Breaking, Policy
from fluxburst.errors import BurstError, BurstErrors, InstanceError
from fluxburst.formats.units import Duration
from fluxburst.ledger import Assignment, SetbackKind
from fluxburst.model.job import Mark
from fluxburst.model.plan import Decision, Outcome
from fluxburst.planning.setbacks import setback_of
from fluxburst.service.loop import Service
from fluxburst.simulation.embedded import EmbeddedInstance

HOUR = 3600.0
MANY_PASSES = 20_000


class Echoing(EmbeddedInstance):
    """An instance that tells of what the client itself changes, as Flux does; it moves no job.

    Attributes:
        memos: How many memos were set or taken off.
        moves: How many moves were tried.
    """

    def __init__(self) -> None:
        super().__init__(queues={"batch": [], "burst": ["b"]})
        self.add_nodes(["lead"], NodeType("lead", cores=1))
        self.memos = self.moves = 0
        self.moves_jobs = False

    def set_marks(self, marks: Mapping[int, Mark | None]) -> Collection[int]:
        self.memos += len(marks)
        if marks:
            self.wake()
        return super().set_marks(marks)

    def move_jobs(self, jobids: Collection[int], queue: str) -> Mapping[int, str]:
        self.moves += len(jobids)
        self.wake()
        return super().move_jobs(jobids, queue) if self.moves_jobs else dict.fromkeys(jobids, "no!")


class InQueue(Joining):
    """A plugin whose nodes are those of a queue."""

    def __init__(self, instance: EmbeddedInstance) -> None:
        super().__init__("cloud", instance, NodeType("a", cores=4, properties=("b",)))

    @property
    def queue(self) -> str:
        return "burst"


class SizesItself(BurstPlugin):
    """A plugin as those of flux-burst are: it runs all its jobs itself, and here it cannot."""

    def __init__(self) -> None:
        super().__init__(BurstParameters())
        self.name = "own"

    def schedule(self, job: Any) -> bool:
        self.jobs[job.id] = job
        return True

    def run(self, *_: Any, **__: Any) -> NoReturn:
        raise BurstError("no credentials")


def watched_for(seconds: float, instance: Echoing, *plugins: BurstPlugin) -> tuple[FluxBurst, int]:
    """Run a service for so long; return its client, and how many passes it ran."""
    passes: list[object] = []
    client = client_on(instance, *plugins)
    service = Service(client, tell=passes.append)
    instance.at(instance.now() + seconds, service.stop)
    service.run(MANY_PASSES)
    return client, len(passes)


def rests(passes: int, seconds: float) -> bool:
    """Whether these are no more passes than a service runs that has nothing to do, and a few."""
    return passes <= seconds / 30.0 + 60


def decision(client: FluxBurst) -> Decision:
    (decided,) = client.plan().decisions
    return decided


def test_a_move_that_flux_refuses_is_tried_ever_more_rarely_and_writes_no_memo() -> None:
    instance = Echoing()
    instance.submit(spec(1, 4, burstable=True, queue="batch"))
    client, passes = watched_for(HOUR, instance, InQueue(instance))
    assert rests(passes, HOUR)
    assert instance.memos == 0
    assert 3 <= instance.moves <= 7  # after 1, 2, 4, 8, 16 and 32 minutes
    decided = decision(client)
    assert decided.outcome is Outcome.UNMATCHED
    assert "it is retried after" in decided.reasons[0] or "no job is moved" in decided.reasons[0]


class Faulty(Echoing):
    """An instance that fails when jobs are moved."""

    def move_jobs(self, jobids: Collection[int], queue: str) -> Mapping[int, str]:
        self.moves += queue == "burst"
        raise InstanceError("no answer")


def test_an_instance_that_fails_to_move_jobs_is_asked_ever_more_rarely() -> None:
    instance = Faulty()
    instance.submit(spec(1, 4, burstable=True, queue="batch"))
    client, passes = watched_for(HOUR, instance, InQueue(instance))
    assert rests(passes, HOUR)
    assert 3 <= instance.moves <= 7
    assert len(list(client.ledger.entries())) == instance.moves
    assert "no answer" in decision(client).reasons[0]


def test_many_moves_that_are_refused_are_one_failure_and_one_is_counted_per_pass() -> None:
    instance = Echoing()
    for _ in range(50):
        instance.submit(spec(1, 4, burstable=True, queue="batch"))
    client = client_on(instance, InQueue(instance))
    with pytest.raises(BurstErrors, match="and 45 more to queue 'burst': no!"):
        client.run_burst()
    (breaker,) = client.ledger.breakers().values()
    assert (breaker.node_type, breaker.failures) == ("queue:burst", 1)


def test_a_job_that_was_refused_once_is_moved_once_flux_lets_it() -> None:
    instance = Echoing()
    instance.submit(spec(1, 4, burstable=True, queue="batch"))
    cloud = InQueue(instance)
    client = client_on(instance, cloud)
    with pytest.raises(BurstErrors):
        client.run_burst()
    instance.moves_jobs = True
    client.run_burst()
    assert cloud.created == []
    instance.advance(61.0)
    client.run_burst()
    assert len(cloud.created) == 1
    assert client.ledger.breakers() == {}


def test_that_a_move_was_refused_outlasts_the_process(tmp_path: Path) -> None:
    instance = Echoing()
    instance.submit(spec(1, 4, burstable=True, queue="batch"))
    for moves in (1, 1):
        with client_on(instance, InQueue(instance), state_dir=tmp_path) as client:
            try:
                client.run_burst()
            except BurstErrors:
                assert moves == 1
        assert instance.moves == moves


def test_another_plugin_may_take_what_flux_does_not_move() -> None:
    instance = Echoing()
    instance.submit(spec(1, 4, burstable=True, queue="batch"))
    other = Elsewhere("other")
    client = client_on(instance, InQueue(instance), other)
    with pytest.raises(BurstErrors):
        client.run_burst()
    client.run_burst()
    assert len(other.created) == 1


@pytest.mark.parametrize(
    "make",
    [
        lambda _: SizesItself(),
        lambda _: Elsewhere("cloud", fails=BurstError("no such image")),
        lambda _: Elsewhere("cloud", fails=RuntimeError("a bug")),
        lambda instance: InQueue(instance),
    ],
    ids=["sizes itself", "cannot create", "is broken", "cannot move"],
)
def test_whatever_fails_the_service_does_not_spin(
    make: Callable[[EmbeddedInstance], BurstPlugin],
) -> None:
    instance = Echoing()
    jobid = instance.submit(spec(1, 4, burstable=True, queue="batch"))
    plugin = make(instance)
    client, passes = watched_for(HOUR, instance, plugin)
    assert rests(passes, HOUR)
    assert instance.memos <= 40
    assert 2 <= len(client.ledger.assignments(jobid)) <= 20


# --- how long a job waits ----------------------------------------------------------------------

POLICY = Breaking(backoff=Duration(60.0), max_backoff=Duration(200.0))


NOT_MOVED, NOT_STARTED = SetbackKind.NOT_MOVED, SetbackKind.NOT_STARTED


def released(at: float, setback: SetbackKind | None, burst: str = "b") -> Assignment:
    return Assignment(1, "cloud", burst, at - 10.0, at, "why", setback=setback)


def test_each_time_in_a_row_doubles_the_wait_up_to_a_most() -> None:
    assignments = [released(100.0, NOT_MOVED)]
    waits = []
    for at in (200.0, 300.0, 400.0, 500.0):
        setback = setback_of(assignments, POLICY)
        assert setback is not None
        waits.append(setback.until - setback.since)
        assignments.append(released(at, NOT_STARTED))
    assert waits == [60.0, 120.0, 200.0, 200.0]


def test_what_was_released_for_another_reason_does_not_wait() -> None:
    stuck = released(100.0, NOT_STARTED)
    assert setback_of([], POLICY) is None
    assert setback_of([stuck, released(200.0, None)], POLICY) is None
    assert setback_of([stuck, Assignment(1, "cloud", "b", 200.0)], POLICY) is None
    found = setback_of([released(50.0, None), stuck], POLICY)
    assert found is not None
    assert found.times == 1


def test_a_clock_that_was_set_back_has_nothing_wait() -> None:
    setback = setback_of([released(1e6, NOT_MOVED)], POLICY)
    assert setback is not None
    assert [setback.holds(now) for now in (1e6, 1e6 + 59.0, 1e6 + 60.0, 5e5)] == [
        True,
        True,
        False,
        False,
    ]


def test_only_what_did_not_start_on_free_nodes_is_not_left_to_them() -> None:
    on_free, on_burst = (
        setback_of([released(1.0, NOT_STARTED, burst)], Policy().breakers) for burst in ("", "b")
    )
    assert on_free is not None
    assert on_burst is not None
    assert (on_free.on_free_nodes, on_burst.on_free_nodes) == (True, False)
