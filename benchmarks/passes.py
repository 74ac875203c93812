"""Passes of a service over a long queue of a live Flux: how long they take, and memory.

Usage, inside an instance: python passes.py STEP JOBS
"""

from __future__ import annotations

import json
import random
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from instances import jobspec, make_pending, submit

from fluxburst import FluxBurst, NodeType
from fluxburst.flux.event_stream import EventStream
from fluxburst.flux.rpc import Channel, Requests
from fluxburst.service.loop import PATIENCE
from fluxburst_mock.plugin import BurstParameters

ROUNDS = 9
SUBMISSIONS, CANCELS, URGENCIES = 50, 25, 25
PASSES, FIRST_PASSES = 10_000, 1_000
SETTLE_SECONDS = 0.5
SEED = 4


class Changer:
    """Changes the queue as its users do, over a connection of its own."""

    def __init__(self, seed: int = SEED) -> None:
        import flux

        self._draw = random.Random(seed)
        self._flux = flux.Flux()
        self._requests = Requests(Channel(flux.Flux()))
        self._specs = [jobspec(["hostname"], burstable=1), jobspec(["hostname"])]

    def change(self, pending: list[int], submissions: int, cancels: int, urgencies: int) -> None:
        """Submit, cancel and change jobs, and wait until the instance has taken all of it in."""
        submit(self._flux, [self._specs[number % 2] for number in range(submissions)])
        chosen = self._draw.sample(pending, cancels + urgencies)
        raised = [{"id": i, "severity": 0, "type": "cancel", "note": ""} for i in chosen[:cancels]]
        urgent = [{"id": i, "urgency": self._draw.randint(8, 24)} for i in chosen[cancels:]]
        list(self._requests.ask_all("job-manager.raise", raised))
        list(self._requests.ask_all("job-manager.urgency", urgent))


def resident() -> float:
    """Return the resident memory of this process, in MB."""
    status = Path("/proc/self/status").read_text().splitlines()
    return float(next(line.split()[1] for line in status if line.startswith("VmRSS"))) / 1024


def watching() -> FluxBurst:
    """Return a client as a service has it, after passes that found all there was to do."""
    client = FluxBurst()
    client.load("mock", BurstParameters(node_types=[NodeType("node", cores=64, price=1.0)]))
    client.run_pass(everything=True, patience=60.0)
    settle(client)
    return client


def settle(client: FluxBurst) -> None:
    """Run passes until the marks that were put on jobs have come back as events."""
    while client.run_pass(everything=False, patience=60.0).decisions:
        time.sleep(SETTLE_SECONDS)


def warm(_: int) -> dict[str, Any]:
    """Time passes after changes, and their raw requests."""
    client, changer = watching(), Changer()
    passes, memory = [], resident()
    for _ in range(ROUNDS):
        changer.change(client.list_jobs(), SUBMISSIONS, CANCELS, URGENCIES)
        time.sleep(SETTLE_SECONDS)
        start = time.perf_counter()
        client.run_pass(everything=False, patience=PATIENCE)
        passes.append(time.perf_counter() - start)
        settle(client)
    client.close()
    return {"seconds": statistics.median(passes), "raw": _raw(changer), "memory": memory}


def _raw(changer: Changer) -> float:
    """Time what a pass cannot do without: what changed, the nodes, and marks on what is new."""
    import flux

    feed, requests = EventStream(flux.Flux()), Requests(Channel(flux.Flux()))
    feed.catch_up()
    pending = [job.id for job in feed.changes().jobs]
    seconds = []
    for _ in range(ROUNDS):
        changer.change(pending[:1000], SUBMISSIONS, 0, URGENCIES)
        time.sleep(SETTLE_SECONDS)
        start = time.perf_counter()
        feed.catch_up()
        changes = feed.changes()
        for topic in ("resource.status", "resource.sched-status"):
            requests.ask(topic, {}, nodeid=0)
        new = [job.id for job in changes.jobs if job.burstable and job.mark is None]
        memo = {"fluxburst": {"plugin": "mock", "burst": "mock-0123456789ab"}}
        payloads = [{"id": jobid, "volatile": False, "memo": memo} for jobid in new[:25]]
        list(requests.ask_all("job-manager.memo", payloads))
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def flat(_: int) -> dict[str, Any]:
    """Compare memory after many passes, with changes now and then, with that after some."""
    client, changer = watching(), Changer()
    pending, after_some = client.list_jobs(), 0.0
    for number in range(1, PASSES + 1):
        if number % 20 == 0:
            changer.change(pending, 0, 0, 2)
        client.run_pass(everything=number % 500 == 0, patience=PATIENCE)
        if number == FIRST_PASSES:
            after_some = resident()
    client.close()
    return {"after_some": after_some, "after_all": resident()}


STEPS: dict[str, Callable[[int], dict[str, Any]]] = {"warm": warm, "flat": flat}


def main() -> None:
    """Run one step."""
    step, jobs = sys.argv[1], int(sys.argv[2])
    make_pending(jobs)
    print(json.dumps(STEPS[step](jobs)))


if __name__ == "__main__":
    main()
