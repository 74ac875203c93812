"""A client of a live elastic instance that is killed, and started again.

``python killing_live.py DIRECTORY`` makes an elastic instance there, and kills at every point, or
at every so many with ``--stride``; with ``--isolated`` each job is in a burst of its own.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import flux
from tests.elastic_instance import wait_until
from tests.killer import Killer
from tests.local.growing import Growing, growing

from fluxburst import FluxBurst
from fluxburst.config.file import Config
from fluxburst.errors import BurstErrors
from fluxburst.flux.live import LiveInstance
from fluxburst.ledger import Ledger

JOBS_OF_NODES = (1, 2)
BURST_NODES = 3
SECONDS_AT_MOST = 60.0


class Pointed:
    """Something of the world, with a point before each call of it."""

    def __init__(self, target: Any, killer: Killer) -> None:
        self._target = target
        self._killer = killer

    def pending_jobs(self) -> Any:
        self._killer()
        return self._target.pending_jobs()

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._target, name)
        if not callable(found) or name in ("now", "wake"):
            return found

        def call(*arguments: Any, **options: Any) -> Any:
            self._killer()
            return found(*arguments, **options)

        return call


@dataclass(frozen=True)
class Scenario:
    """Where jobs are brought up for, and how.

    Attributes:
        instance: The instance.
        directory: Where the ledger is, and what jobs and their bursts wrote.
        isolated: Whether bursts are instances of their own.
    """

    instance: Growing
    directory: Path
    isolated: bool

    @property
    def state(self) -> Path:
        return self.directory / "state"

    @property
    def config(self) -> Config:
        table = {"config_dir": str(self.instance.directory)}
        more = {"isolated_burst": True, "output_dir": str(self.directory / "output")}
        return Config(plugins={"local": {**table, **more} if self.isolated else table})

    def submit(self, nodes: int) -> int:
        """Submit a job that writes a line when it has run; return its id."""
        runs = self.directory / f"runs-{nodes}"
        runs.unlink(missing_ok=True)
        command = 'sleep 0.1; [ "$FLUX_TASK_RANK" != 0 ] || echo ran >> "$0"'
        return self.instance.submit(
            f"-N{nodes}", f"-n{nodes}", "-t10m", "sh", "-c", command, str(runs)
        )

    def runs(self, nodes: int) -> int:
        """Return how often the job of so many nodes has run."""
        path = self.directory / f"runs-{nodes}"
        return len(path.read_text().splitlines()) if path.exists() else 0


def act(scenario: Scenario, jobs: Sequence[int], kill_at: int | None) -> None:
    """Burst until the jobs have ended, and take everything down, in this process."""
    killer = Killer(kill_at)
    killer.watch_sqlite()
    live = LiveInstance(flux.Flux(scenario.instance.flux.uri))
    pointed = Pointed(live, killer)
    with FluxBurst(pointed, config=scenario.config, state_dir=scenario.state) as client:
        plugin: Any = client.load("local")
        plugin.__dict__["launcher"] = Pointed(plugin.launcher, killer)
        until = time.monotonic() + SECONDS_AT_MOST
        while {*jobs} & {*live.job_ids()}:
            client.run_burst()
            time.sleep(0.02)
            if time.monotonic() > until:
                raise AssertionError(f"there is no end to it: {client.plan()}")
        client.run_unburst()
        client.reconcile()
    live.close()


def in_child(run: Callable[[], None]) -> int:
    """Run something in a child of this process; return its exit status, negative for a signal."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    try:
        run()
        os._exit(0)
    except BurstErrors as error:
        print(error.errors, file=sys.stderr)
        os._exit(1)
    except BaseException:
        traceback.print_exc()
        os._exit(1)


def kill_at(scenario: Scenario, point: int) -> tuple[list[str], bool]:
    """Run the scenario, killed at a point, and then to its end.

    Returns what is not as it must be, and whether the point was never reached.
    """
    jobs = [scenario.submit(nodes) for nodes in JOBS_OF_NODES]
    status = in_child(lambda: act(scenario, jobs, point))
    over = status == 0
    if status == -signal.SIGKILL:
        status = in_child(lambda: act(scenario, jobs, None))
    problems = [f"it failed with {status}"] if status else []
    return problems + judge(scenario, jobs), over


def judge(scenario: Scenario, jobs: Sequence[int]) -> list[str]:
    """Return what is not as it must be in the end."""
    instance = scenario.instance
    problems = instance.left_over()
    for job, nodes in zip(jobs, JOBS_OF_NODES, strict=True):
        ended = instance.flux("jobs", "-no", "{result} {exception.note}", str(job))
        if ended != "COMPLETED" and ", with exit code 0; its output: " not in ended:
            problems.append(f"job {job} ended: {ended}")
        if scenario.runs(nodes) != 1:
            problems.append(f"job {job} ran {scenario.runs(nodes)} times")
    ledger = Ledger(scenario.state / "ledger.sqlite", "", read_only=True)
    problems += [f"not over: {entry.burst}" for entry in ledger.entries() if entry.live]
    for job in jobs:
        times = ledger.assignments(job)
        if any(p.released is None for p in times[:-1]):
            problems.append(f"job {job} was given while it was given: {times}")
    ledger.close()
    return problems


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--first", type=int, default=1)
    parser.add_argument("--stride", type=int, default=1)
    parser.add_argument("--isolated", action="store_true")
    given = parser.parse_args()
    given.directory.mkdir(parents=True, exist_ok=True)
    wrong: list[dict[str, Any]] = []
    kills, over, point = 0, False, given.first
    with growing(given.directory / "instance", f"--burst-nodes={BURST_NODES}") as instance:
        scenario = Scenario(instance, given.directory, given.isolated)
        while not over:
            problems, over = kill_at(scenario, point)
            if problems:
                wrong.append({"point": point, "problems": problems})
                print(point, problems, file=sys.stderr, flush=True)
                instance.clear()
                wait_until(lambda: instance.left_over() == [], "nothing is left")
            kills += not over
            point += given.stride
    print(json.dumps({"kills": kills, "last": point - given.stride, "wrong": wrong}))
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
