"""A scenario whose process is killed, and started again; what must hold in the end.

``python killing.py`` kills at every point there is, one after the other. With ``--soak N``, it
kills N times at random points, as the seed says, several times in one scenario. With ``--isolated``
the clouds run the jobs in instances of their own.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import json
import math
import os
import random
import shutil
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from tests.killer import Killer
from tests.mock.world import RemoteInstance, RemotePlugin, World, connect, serve

from fluxburst import Burst, Duration, FluxBurst, NodeType
from fluxburst.config.file import Config
from fluxburst.config.policy import Lifetimes, Policy, Timeouts
from fluxburst.errors import BurstErrors
from fluxburst.ledger import Ledger
from fluxburst.model.job import JobState
from fluxburst.simulation.embedded import COMPLETED, EmbeddedInstance
from fluxburst_mock.failures import Failure, FailureKind
from fluxburst_mock.plugin import BurstParameters, MockBurst

STEPS = 10
SECONDS_A_STEP = 30.0
STEPS_AT_MOST = 60
POLICY = Policy(
    lifetimes=Lifetimes(
        lease=Duration(300.0), teardown=Duration(60.0), idle_timeout=Duration(50.0)
    ),
    timeouts=Timeouts(join=Duration(100.0)),
)
NODES_OF_STEP = {0: (1, 2, 4), 1: (1,), 3: (2, 3), 6: (1,)}
"""How many nodes the jobs ask for that are submitted at each step."""


def _failures(*kinds: FailureKind) -> list[Failure]:
    return [Failure(kind) for kind in kinds]


STOPPED_STEPS, REFUSING_STEPS = range(2, 4), range(1, 5)
"""In which steps the queue of the jobs is stopped, and no job is moved to another."""

QUEUE_OF = {"mute": "night"}
"""Clouds whose nodes are those of a queue."""

NODES_OF_ISOLATED = {0: (2, 3, 5), 1: (2,), 3: (3, 4), 6: (2,)}
"""The same where each job gets nodes of its own: half of them are some, too."""

RUN_SECONDS = 40.0
OTHERS = ("prod-db-1", "flaky-1", "mute-0a1b2c3d4e5f")
"""What is at each provider that is none of ours."""


class Runs(MockBurst):
    """A cloud that notes which job it ran in which isolated burst, from when to when."""

    def __init__(self, dataclass: BurstParameters) -> None:
        super().__init__(dataclass)
        self.others = set(OTHERS)
        self.runs: dict[str, tuple[int, float]] = {}
        self.ended: dict[str, float] = {}

    def create(self, burst: Burst) -> Burst:
        try:
            return super().create(burst)
        finally:
            machines = self.cloud.machines.get(burst.name)
            if burst.isolated and machines is not None:
                self.runs.setdefault(burst.name, (burst.jobs[0], machines.joining_at))

    def list_bursts(self) -> Collection[str]:
        """Return what is there, and what others have at the same provider."""
        return [*super().list_bursts(), *self.others]

    def adopt(self) -> Sequence[Burst]:
        theirs = [Burst(name, self.name, "b", 1) for name in self.others]
        return [*super().adopt(), *theirs]

    def delete(self, burst: Burst) -> None:
        self.others.discard(burst.name)
        super().delete(burst)
        self.ended.setdefault(burst.name, self.instance.now())

    def history(self) -> list[tuple[int, float, float]]:
        """Return each job that began, when it did, and when it ended or was ended."""
        found = []
        for name, (job, began) in self.runs.items():
            end = min(self.ended.get(name, math.inf), began + RUN_SECONDS)
            if end > began:
                found.append((job, began, end))
        return found


def make_world(*, isolated: bool = False) -> World:
    """Return a world of three clouds that fail in all the ways that clouds do."""
    instance = EmbeddedInstance(queues={"day": (), "night": ()})
    clouds = {
        "full": ([NodeType("a", 4, price=1.0, max_nodes=8)], [Failure(FailureKind.NO_CAPACITY, 2)]),
        "flaky": (
            [NodeType("b", 4, price=2.0, max_nodes=6)],
            _failures(FailureKind.PARTIAL, FailureKind.DELETE_FAILS, FailureKind.NEVER_JOINS),
        ),
        "mute": (
            [NodeType("c", 4, price=3.0, max_nodes=6)],
            _failures(FailureKind.UNLISTED, FailureKind.LIST_FAILS, FailureKind.SLOW),
        ),
    }
    plugins = {}
    for name, (types, failures) in clouds.items():
        parameters = BurstParameters(types, Duration(20.0), failures)
        parameters.isolated_burst = isolated
        parameters.isolated_run = Duration(RUN_SECONDS)
        plugin = Runs(parameters)
        plugin.name = name
        plugin.fluxburst_configure(SimpleNamespace(instance=instance))
        plugins[name] = plugin
    world = ScenarioWorld(instance, plugins)
    world.isolated = isolated
    return world


class ScenarioWorld(World):
    """The world of the scenario."""

    isolated = False

    def begin_step(self) -> int:
        """Submit what comes with the step that is under way, unless that was done; return it."""
        wanted = (NODES_OF_ISOLATED if self.isolated else NODES_OF_STEP).get(self.step, ())
        for nodes in wanted if self.step not in self.begun else ():
            slot = {"type": "slot", "count": 1, "label": "task"}
            slot["with"] = [{"type": "core", "count": 4}]
            self.submitted.append(
                self.instance.submit(
                    {
                        "version": 1,
                        "resources": [{"type": "node", "count": nodes, "with": [slot]}],
                        "tasks": [{"command": ["x"], "slot": "task", "count": {"per_slot": 1}}],
                        "attributes": {
                            "system": {"duration": 40.0, "burstable": True, "queue": "day"}
                        },
                    },
                    userid=os.getuid(),  # isolated bursts run no other user's jobs
                )
            )
        if self.step not in self.begun:
            self._write_memos()
            self.instance.set_queue("day", started=self.step not in STOPPED_STEPS)
        self.begun.add(self.step)
        return self.step

    def move_jobs(self, jobids: Collection[int], queue: str) -> Mapping[int, str]:
        """Move jobs, or refuse to."""
        if self.step in REFUSING_STEPS:
            return dict.fromkeys(jobids, "not now")
        return self.instance.move_jobs(jobids, queue)

    def _write_memos(self) -> None:
        """Have users write memos on their jobs: forged ones, and none where there was one."""
        there = self.machines() or ["nosuch"]
        for job in self.instance.pending_jobs():
            forged = {"plugin": "flaky", "burst": there[job.id % len(there)], "urgency": 31}
            self.instance.set_memo(job.id, "fluxburst", forged if self.step % 2 else None)

    def end_step(self, step: int) -> None:
        """Let the time of a step pass, unless that was done."""
        if step == self.step:
            self.step += 1
            self.instance.advance(SECONDS_A_STEP)

    def finished(self) -> bool:
        """Whether all has come and gone."""
        ended = all(self.instance.job(i).state is JobState.INACTIVE for i in self.submitted)
        return ended and self.step >= STEPS and not self.machines()

    def _well_ended(self, jobid: int) -> bool:
        job = self.instance.job(jobid)
        there = "with exit code 0" in job.get("exception_note", "")
        return there or job.get("result") == COMPLETED

    def _overlapping(self) -> list[int]:
        """Return the jobs that ran twice: at once, or again after they had ended."""
        runs = sorted(run for plugin in self.clouds.values() for run in plugin.history())  # type: ignore[attr-defined]
        return [
            job
            for (job, began, ended), (other, begins, _) in itertools.pairwise(runs)
            if job == other and (begins < ended or ended - began >= RUN_SECONDS)
        ]

    def others(self) -> list[str]:
        """Return what was deleted at the providers that was none of ours."""
        return [
            name
            for plugin in self.clouds.values()
            for name in OTHERS
            if name not in plugin.others  # type: ignore[attr-defined]
        ]

    def machines(self) -> list[str]:
        return [name for plugin in self.clouds.values() for name in plugin.cloud.machines]  # type: ignore[attr-defined]

    def story(self) -> dict[str, Any]:
        """Return what has to be judged in the end."""
        now = self.instance.now()
        made = [name for plugin in self.clouds.values() for name in plugin.cloud.made]  # type: ignore[attr-defined]
        return {
            "left": self.machines(),
            "made": made,
            "billed": sum(plugin.cloud.bill(now) for plugin in self.clouds.values()),  # type: ignore[attr-defined]
            "unfinished": [job for job in self.submitted if not self._well_ended(job)],
            "overlapping": self._overlapping(),
            "broken": self.broken,
            "others": self.others(),
            "drained": [node.hostname for node in self.instance.nodes() if node.drained],
            "steps": self.step,
        }


def act(address: str, state: Path, kill_at: int | None, *, isolated: bool = False) -> None:
    """Run the scenario from where it is to its end, in this process."""
    killer = Killer(kill_at)
    killer.watch_sqlite()
    call = connect(address, killer)
    with FluxBurst(RemoteInstance(call), config=Config(policy=POLICY), state_dir=state) as client:
        for name in ("full", "flaky", "mute"):
            client.plugins[name] = RemotePlugin(
                name,
                call,
                adopts=name == "flaky",
                isolated=isolated,
                queue="" if isolated else QUEUE_OF.get(name, ""),
            )
            client.hooks.register(client.plugins[name], name)
        while not call("world", "finished"):
            step = call("world", "begin_step")
            if step > STEPS_AT_MOST:
                raise AssertionError(f"there is no end to it: {call('world', 'story')}")
            with suppress(BurstErrors):
                client.run_burst()
            call("world", "end_step", step)
        with suppress(BurstErrors):
            client.reconcile()


def in_child(run: Callable[[], None]) -> int:
    """Run something in a child of this process; return its exit status, negative for a signal."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    try:
        run()
        os._exit(0)
    except BaseException:
        traceback.print_exc()
        os._exit(1)


@contextmanager
def a_world(*, isolated: bool = False) -> Iterator[tuple[str, Path]]:
    """Serve a new world; yield its address, and a directory for the ledger."""
    directory = Path(tempfile.mkdtemp(prefix="fluxburst-", dir=_fast_directory()))
    server = serve(make_world(isolated=isolated), str(directory / "socket"))
    try:
        yield str(directory / "socket"), directory / "state"
    finally:
        server.shutdown()
        shutil.rmtree(directory)


def _fast_directory() -> str | None:
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


def judge(address: str, state: Path) -> list[str]:
    """Return what is not as it must be in the end."""
    story = connect(address, Killer(None))("world", "story")
    ledger = Ledger(state / "ledger.sqlite", "remote", read_only=True)
    entries = ledger.entries()
    assignments = ledger.assignments()
    ledger.close()
    judged = ("left", "unfinished", "overlapping", "broken", "drained", "others")
    problems = [f"{what}: {story[what]}" for what in judged]
    problems = [problem for problem in problems if not problem.endswith(": []")]
    twice = {name for name in story["made"] if story["made"].count(name) > 1}
    problems += [f"made twice: {name}" for name in sorted(twice)]
    known = {entry.burst.name for entry in entries}
    problems += [f"made without a record: {n}" for n in story["made"] if n not in known]
    problems += [f"not over: {e.burst}" for e in entries if e.live]
    cost = sum(entry.cost(0.0) for entry in entries)
    if abs(cost - story["billed"]) > 1e-6:
        problems.append(f"billed {story['billed']}, in the ledger {cost}")
    for job in {assignment.job for assignment in assignments}:
        times = [p for p in assignments if p.job == job]
        if any(p.released is None for p in times[:-1]):
            problems.append(f"job {job} was given while it was given: {times}")
    return problems


def kill_at(points: list[int], *, isolated: bool) -> tuple[list[str], bool]:
    """Run the scenario, killed at these points one after the other, and then to its end.

    Returns what was not as it must be, and whether the last point was never reached.
    """
    with a_world(isolated=isolated) as (address, state):
        run = functools.partial(act, address, state, isolated=isolated)
        for point in points:
            status = in_child(functools.partial(run, point))
            if status == 0:
                return judge(address, state), True
            if status != -signal.SIGKILL:
                return [f"it failed with {status}"], False
        status = in_child(functools.partial(run, None))
        return (judge(address, state) if status == 0 else [f"it failed with {status}"]), False


def every_point(
    first: int, stride: int, *, isolated: bool
) -> Iterator[tuple[list[int], list[str]]]:
    """Kill at each point; yield the point, and what was not as it must be."""
    point = first
    while True:
        problems, over = kill_at([point], isolated=isolated)
        yield [point], problems
        if over:
            return
        point += stride


def soak(kills: int, seed: int, *, isolated: bool) -> Iterator[tuple[list[int], list[str]]]:
    """Kill so many times in all, up to six times in one scenario."""
    chance = random.Random(seed)
    while kills > 0:
        points = [chance.randint(1, 600) for _ in range(min(kills, chance.randint(1, 6)))]
        problems, _ = kill_at(points, isolated=isolated)
        yield points, problems
        kills -= len(points)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--soak", type=int, default=0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--first", type=int, default=1)
    parser.add_argument("--stride", type=int, default=1)
    parser.add_argument("--isolated", action="store_true")
    given = parser.parse_args()
    isolated: bool = given.isolated
    with a_world(isolated=isolated) as (address, state):
        act(
            address, state, None, isolated=isolated
        )  # what is imported on the way need not be in each child
    runs = (
        soak(given.soak, given.seed, isolated=isolated)
        if given.soak
        else every_point(given.first, given.stride, isolated=isolated)
    )
    count, wrong = 0, []
    for points, problems in runs:
        count += len(points)
        if problems:
            wrong.append({"points": points, "problems": problems})
            print(points, problems, file=sys.stderr, flush=True)
    print(json.dumps({"kills": count, "wrong": wrong}))
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
