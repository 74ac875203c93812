"""How soon something follows: ``create()`` after a submission, and a return after a job's end.

Usage, inside an instance: python reaction.py STEP
"""

from __future__ import annotations

import json
import random
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from instances import jobspec, make_pending, submit

from fluxburst import Burst, BurstParameters, BurstPlugin, BurstState, FluxBurst, NodeType
from fluxburst.flux.event_stream import EventStream
from fluxburst.flux.rpc import Channel
from fluxburst.model.job import JobState
from fluxburst.service.loop import Service

PENDING = 10_000
IDLE_SUBMISSIONS = 40
LOAD_SECONDS, LOAD_RATE, LOAD_BURSTABLE = 15, 100, 20
"""Under load, every 20th of 100 submissions a second is burstable."""

ENDS = 15
SEED = 4


class Noting(BurstPlugin):
    """Supplies a node for each job, in name only, and notes when it was asked to."""

    def __init__(self) -> None:
        super().__init__(BurstParameters())
        self.name = "noting"
        self.asked: dict[int, float] = {}

    def node_types(self) -> Sequence[NodeType]:
        """Return one that a job fills."""
        return (NodeType("node", cores=1),)

    def create(self, burst: Burst) -> Burst:
        """Note the time."""
        now = time.time()
        self.asked.update({jobid: self.asked.get(jobid, now) for jobid in burst.jobs})
        hosts = tuple(f"{burst.name}-{number}" for number in range(burst.nodes))
        return replace(burst, state=BurstState.STARTING, hostnames=hosts)

    def delete(self, burst: Burst) -> None:
        """Forget it."""


def submitting(how: str) -> dict[int, float]:
    """Submit jobs in a process of its own; return the time before each burstable one's."""
    command = [sys.executable, __file__, how]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return {int(jobid): when for jobid, when in json.loads(done.stdout).items()}


def submit_idle() -> dict[int, float]:
    """Submit a burstable job now and then."""
    import flux

    handle, spec, draw = flux.Flux(), jobspec(["hostname"], burstable=1), random.Random(SEED)
    times = {}
    for _ in range(IDLE_SUBMISSIONS):
        time.sleep(draw.uniform(0.2, 0.4))
        before = time.time()
        times[submit(handle, [spec])[0]] = before
    return times


def submit_much() -> dict[int, float]:
    """Submit jobs at a steady rate, of which few are burstable."""
    import flux
    import flux.job

    handle = flux.Flux()
    specs = [jobspec(["hostname"]), jobspec(["hostname"], burstable=1)]
    under_way, begun = [], time.time()
    for number in range(LOAD_SECONDS * LOAD_RATE):
        time.sleep(max(0.0, begun + number / LOAD_RATE - time.time()))
        burstable = number % LOAD_BURSTABLE == 0
        under_way.append((burstable, time.time(), flux.job.submit_async(handle, specs[burstable])))
    return {
        int(flux.job.submit_get_id(future)): before
        for burstable, before, future in under_way
        if burstable
    }


def created(how: str) -> dict[str, Any]:
    """Run the service while jobs are submitted."""
    client, plugin = FluxBurst(), Noting()
    client.hooks.register(plugin, "noting")
    client.plugins[plugin.name] = plugin
    client.run_pass(everything=True, patience=60.0)
    before, seconds = set(plugin.asked), []
    service = Service(client, tell=lambda report: seconds.append(report.seconds))
    times: dict[int, float] = {}

    def submit_and_stop() -> None:
        time.sleep(5)
        times.update(submitting(how))
        time.sleep(2)
        service.stop()

    thread = threading.Thread(target=submit_and_stop)
    thread.start()
    service.run()
    thread.join()
    client.close()
    after = {job: when for job, when in plugin.asked.items() if job not in before}
    return _spread([after[job] - times[job] for job in times], statistics.median(seconds))


def heard(how: str) -> dict[str, Any]:
    """Only read the events of the jobs while they are submitted, without acting on them."""
    import flux

    channel_flux = flux.Flux()
    feed = EventStream(channel_flux)
    feed.catch_up()
    feed.changes()
    known: dict[int, float] = {}
    times: dict[int, float] = {}
    thread = threading.Thread(target=lambda: times.update(submitting(how)))
    thread.start()
    listening = Channel(channel_flux)
    while thread.is_alive():
        listening.wait(0.5)
        feed.drain()
        for job in feed.changes().jobs:
            if job.state is JobState.SCHED:
                known.setdefault(job.id, time.time())
    thread.join()
    return _spread([known[job] - times[job] for job in times], 0.0)


def _spread(seconds: list[float], passes: float) -> dict[str, Any]:
    parts = statistics.quantiles(seconds, n=20)
    return {"p50": statistics.median(seconds), "p95": parts[-1], "n": len(seconds), "pass": passes}


def ends() -> dict[str, Any]:
    """Wait for the ends of jobs: with the client, and with flux-python, in turn."""
    import flux
    import flux.job

    handle, client = flux.Flux(), FluxBurst()
    spec = jobspec(["sleep", "0.3"])

    def with_client(jobids: list[int]) -> None:
        client.wait_for_jobs(jobids)

    def with_flux(jobids: list[int]) -> None:
        for jobid in jobids:
            flux.job.event_wait(handle, jobid, "clean")

    late: dict[Callable[[list[int]], None], list[float]] = {with_client: [], with_flux: []}
    for _ in range(ENDS):
        for wait, found in late.items():
            jobids = submit(handle, [spec] * 2)
            wait(jobids)
            now = time.time()
            last = [flux.job.event_wait(handle, jobid, "clean").timestamp for jobid in jobids]
            found.append(now - max(last))
    client.close()
    return {
        "seconds": statistics.median(late[with_client]),
        "raw": statistics.median(late[with_flux]),
    }


SUBMITTERS = {"idle": submit_idle, "load": submit_much}


def main() -> None:
    """Run one step, or submit for one."""
    step = sys.argv[1]
    if step in SUBMITTERS:
        print(json.dumps(SUBMITTERS[step]()))
    elif step == "ends":
        print(json.dumps(ends()))
    else:
        how = sys.argv[2]
        make_pending(PENDING)
        print(json.dumps({"created": created, "heard": heard}[step](how)))


if __name__ == "__main__":
    main()
