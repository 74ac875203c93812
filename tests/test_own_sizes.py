"""Jobs of plugins that size their bursts themselves are released like others'."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from tests.support import Stubborn, Told, client_on, named, spec

from fluxburst import Burst, BurstParameters, BurstPlugin, BurstState, FluxBurst, Job, NodeType
from fluxburst.config.policy import Lifetimes, Policy
from fluxburst.formats.units import Duration
from fluxburst.model.plan import Decision, Outcome

IDLE = 120.0
POLICY = Policy(lifetimes=Lifetimes(idle_timeout=Duration(IDLE)))
START, JOIN = 300.0, 900.0
READY, STARTING = BurstState.READY, BurstState.STARTING
Answer = Callable[[str, Sequence[int]], Sequence[Burst] | None]


class Own(BurstPlugin):
    """A plugin of flux-burst's kind, which answers what it is told to."""

    def __init__(self, instance: Stubborn, answer: Answer, *, cores: int, joins: bool) -> None:
        super().__init__(BurstParameters())
        self.name = "own"
        self.instance = instance
        self.answer = answer
        self.cores = cores
        self.joins = joins
        self.runs: list[list[int]] = []
        self.ended: list[str | None] = []

    def schedule(self, job: Job) -> bool:
        self.jobs[job.id] = job
        return True

    def run(self, request_burst: bool = False, nodes: int | None = None, tasks: int | None = None):  # type: ignore[no-untyped-def]
        self.runs.append(list(self.jobs))
        host = f"host{len(self.runs)}"
        if self.joins:
            self.instance.add_nodes([host], NodeType("", self.cores))
        return self.answer(host, self.runs[-1])

    def unburst(self):  # type: ignore[no-untyped-def]
        self.ended.append(None)

    def cleanup(self, name: str | None = None):  # type: ignore[no-untyped-def]
        self.ended.append(name)
        return [name]


def a_burst(host: str, state: BurstState = READY, *, hosts: bool = True) -> Burst:
    name = named("own", host.removeprefix("host"))
    return Burst(name, "own", "", 1, state=state, hostnames=(host,) if hosts else ())


class World:
    """A client whose two jobs wait for what such a plugin brings up, and do not start."""

    def __init__(
        self, answer: Answer, *, cores: int = 4, joins: bool = False, state_dir: Path | None = None
    ) -> None:
        self.instance = Stubborn()
        self.instance.add_nodes(["lead"], NodeType("lead", cores=1))
        self.own = Own(self.instance, answer, cores=cores, joins=joins)
        self.jobs = [self.instance.submit(spec(1, 4, burstable="own")) for _ in range(2)]
        self.state_dir = state_dir
        self.told = Told()
        self.client = self.new_client()

    def new_client(self) -> FluxBurst:
        client = client_on(self.instance, self.own, policy=POLICY, state_dir=self.state_dir)
        client.hooks.register(self.told, "told")
        return client

    def pass_for(self, seconds: float) -> None:
        """Let time pass, with a pass every 20 seconds."""
        for _ in range(int(seconds // 20.0)):
            self.instance.advance(20.0)
            self.client.run_pass(everything=True, patience=10.0)

    def decisions(self) -> Sequence[Decision]:
        return self.client.plan().decisions

    def reasons(self) -> set[str]:
        """Return why the jobs were released first."""
        return {self.client.ledger.assignments(job)[0].reason for job in self.jobs}


SAID: dict[str, tuple[Answer, bool, int, float, str]] = {
    "ready, free": (
        lambda host, jobs: [a_burst(host)],
        True,
        4,
        START,
        "nodes that it fits on are free",
    ),
    "ready, too small": (
        lambda host, jobs: [a_burst(host)],
        True,
        2,
        START,
        "nothing runs on the nodes of its burst: it does not fit: it needs 1 node of 4 cores, "
        "but its burst has 1 node of 2 cores",
    ),
    "ready, without hosts": (
        lambda host, jobs: [a_burst(host, hosts=False)],
        False,
        4,
        START,
        "its burst is said to be ready: no node of that is seen to be up, or used",
    ),
    "ready, for its jobs": (
        lambda host, jobs: [replace(a_burst(host, hosts=False), jobs=tuple(jobs))],
        False,
        4,
        START,
        "its burst is said to be ready: no node of that is seen to be up, or used",
    ),
    "nothing said, nothing there": (
        lambda host, jobs: None,
        False,
        4,
        START + JOIN,
        "its plugin has answered, which does not say what it brought up",
    ),
    "nothing said, free": (
        lambda host, jobs: (),
        True,
        4,
        START,
        "nodes that it fits on are free",
    ),
}


@pytest.mark.parametrize("case", SAID.values(), ids=SAID)
def test_jobs_that_do_not_start_are_released_and_what_was_brought_up_for_them_ends(
    case: tuple[Answer, bool, int, float, str], caplog: pytest.LogCaptureFixture
) -> None:
    answer, joins, cores, within, why = case
    world = World(answer, joins=joins, cores=cores)
    with caplog.at_level(logging.WARNING):
        world.pass_for(within - 20.0)
        assert world.told.events == []
        assert {d.outcome for d in world.decisions()} == {Outcome.ALREADY_ASSIGNED}
        world.pass_for(60.0)
    (event,) = world.told.events
    assert sorted(event[0]) == world.jobs
    (reason,) = world.reasons()
    assert f"although {why}" in reason
    assert sum("did not start" in record.getMessage() for record in caplog.records) == 1
    assert {d.outcome for d in world.decisions()} == {Outcome.UNMATCHED}
    world.instance.cancel_jobs(world.jobs, "not wanted")
    world.pass_for(IDLE + 60.0)
    assert len(world.own.ended) == 1
    assert world.client.ledger.live() == []


COMING: dict[str, Answer] = {
    "one": lambda host, jobs: [a_burst(host, STARTING)],
    "for its jobs": lambda host, jobs: [replace(a_burst(host, STARTING), jobs=tuple(jobs))],
    "without hosts": lambda host, jobs: [a_burst(host, STARTING, hosts=False)],
    "several": lambda host, jobs: [a_burst(f"{host}{n}", STARTING) for n in "ab"],
    "one for each job": lambda host, jobs: [
        replace(a_burst(f"{host}{n}", STARTING), jobs=(job,)) for n, job in enumerate(jobs)
    ],
}


@pytest.mark.parametrize("answer", COMING.values(), ids=COMING)
def test_jobs_are_free_again_once_what_was_to_come_for_them_does_not(answer: Answer) -> None:
    world = World(answer)
    world.pass_for(JOIN - 20.0)
    assert world.reasons() == {""}
    world.pass_for(80.0)
    assert world.reasons() <= {
        "it did not join within 15m",
        "nothing exists of what its plugin provisioned for it",
    }
    assert len(world.own.runs) == 2


def test_jobs_wait_for_the_burst_that_their_plugin_says_is_for_them() -> None:
    world = World(COMING["one for each job"])
    world.pass_for(20.0)
    names = [named("own", f"1{n}") for n in range(2)]
    assert [d.reasons for d in world.decisions()] == [
        (f"was assigned to own in burst {name}",) for name in names
    ]
    marks = {job.id: job.mark for job in world.instance.pending_jobs()}
    assert [mark.burst for mark in marks.values() if mark] == names


def test_jobs_that_start_in_time_are_left_alone() -> None:
    world = World(SAID["ready, free"][0], joins=True)
    world.pass_for(START - 40.0)
    world.instance.starts = True
    world.pass_for(2 * START)
    assert world.told.events == []
    assert len(world.own.runs) == 1


def test_what_is_used_by_one_job_is_not_taken_from_the_other() -> None:
    world = World(lambda host, jobs: None, joins=True)
    world.instance.starts = True
    world.pass_for(START + JOIN + 60.0)
    assert world.told.events == []
    assert len(world.own.runs) == 1


def test_a_later_process_goes_on_counting(tmp_path: Path) -> None:
    world = World(lambda host, jobs: None, state_dir=tmp_path)
    world.pass_for(20.0)
    for seconds in (START, JOIN):
        world.client.close()
        world.instance.advance(seconds)
        world.client = world.new_client()
        world.client.run_pass(everything=True, patience=10.0)
    assert len(world.told.events) == 1
    world.client.close()


def test_what_was_given_to_no_burst_by_an_older_version_is_released_too() -> None:
    world = World(lambda host, jobs: None)
    world.client.run_burst()
    world.client.ledger.name_bursts(dict.fromkeys(world.jobs, ""))
    (entry,) = world.client.ledger.live()
    ended = replace(entry.burst, state=BurstState.ENDED)
    world.client.ledger.record(ended, world.client.now())
    world.pass_for(40.0)
    assert world.reasons() == {"nothing exists of what its plugin provisioned for it"}
