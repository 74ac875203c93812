"""From job dicts to a Plan: 15 000 jobs on at most 3 000 nodes of three types, beside peers.

Says, too, what it costs that jobs start where the scheduler fits worst (Flux's own) rather than
tightly: with the limits of the node types, and without.

Prints seconds, nodes and their price an hour for fluxburst and for the planners of Ray and of
Toil on the same demands, and the ratios. fluxburst's time covers everything from the jobs as an
instance returns them to the Plan: counting the jobspecs, asking the hooks, packing. The peers'
times cover their planning call alone.
"""

from __future__ import annotations

import gc
import json
import random
import statistics
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from peers import run_peer

from fluxburst import ByteSize, FluxBurst, Job, NodeType
from fluxburst.model.scheduler import SCHED_SIMPLE, Scheduler
from fluxburst.simulation.embedded import EMBEDDED, EmbeddedInstance
from fluxburst.simulation.recordings import Recording
from fluxburst_mock.plugin import BurstParameters

JOBS = 15_000
RUNS = 5
SEED = 20
GIB = 2**30
NODE_TYPES = [
    NodeType("small", cores=16, memory=ByteSize(64 * GIB), price=0.80, max_nodes=1500),
    NodeType("large", cores=64, memory=ByteSize(256 * GIB), price=3.00, max_nodes=1000),
    NodeType("gpu", cores=32, gpus=4, memory=ByteSize(128 * GIB), price=12.0, max_nodes=500),
]


def demands() -> list[dict[str, int]]:
    """Return what the jobs ask for: one node each, 8 % of them with GPUs."""
    draw = random.Random(SEED)
    made = []
    for _ in range(JOBS):
        gpus = draw.choice([1, 2]) if draw.random() < 0.08 else 0
        cores = draw.choice([4, 8, 16]) if gpus else draw.choice([1, 2, 4, 8, 16])
        made.append({"cores": cores, "gpus": gpus, "memory": cores * draw.randint(1, 4) * GIB})
    return made


def job(jobid: int, demand: Mapping[str, int]) -> Job:
    """Return a pending burstable job that asks for this."""
    contents = [
        {"type": "core", "count": demand["cores"]},
        {"type": "memory", "count": demand["memory"] // GIB, "unit": "GiB"},
    ]
    if demand["gpus"]:
        contents.append({"type": "gpu", "count": demand["gpus"]})
    slot = {"type": "slot", "count": 1, "label": "task", "with": contents}
    spec = {
        "version": 1,
        "resources": [{"type": "node", "count": 1, "with": [slot]}],
        "tasks": [{"command": ["app"], "slot": "task", "count": {"per_slot": 1}}],
        "attributes": {"system": {"duration": 3600.0, "burstable": 1}},
    }
    return Job(id=jobid, state=8, priority=16, urgency=16, userid=1000, spec=spec)


def plan_with_fluxburst(
    wanted: list[dict[str, int]],
    scheduler: Scheduler = EMBEDDED,
    node_types: Sequence[NodeType] = NODE_TYPES,
) -> dict[str, Any]:
    """Plan several times, each with fresh jobs; return the median."""
    seconds = []
    for _ in range(RUNS):
        jobs = tuple(job(number, demand) for number, demand in enumerate(wanted, start=1))
        client = FluxBurst(EmbeddedInstance(Recording(jobs), scheduler=scheduler))
        client.load("mock", BurstParameters(node_types=[*node_types]))
        gc.collect()
        start = time.perf_counter()
        plan = client.plan()
        seconds.append(time.perf_counter() - start)
    return {
        "peer": "fluxburst",
        "seconds": statistics.median(seconds),
        "nodes": {burst.node_type: burst.nodes for burst in plan.bursts},
        "placed": len(plan.assignments["mock"]),
        "unplaced": len(plan.unmatched),
    }


def price_of(result: Mapping[str, Any]) -> float:
    """Return what the nodes of a result cost an hour."""
    prices = {t.name: t.price for t in NODE_TYPES}
    nodes: Mapping[str, int] = result["nodes"]
    return sum(prices[name] * count for name, count in nodes.items())


def compare_fits(wanted: list[dict[str, int]]) -> None:
    """Print what nodes cost where the scheduler fits worst, beside those of tight packing."""
    unlimited = [replace(node_type, max_nodes=None) for node_type in NODE_TYPES]
    print(f"\n{'':24}{'seconds':>9}{'placed':>8}{'price/h':>10}{'price ratio':>13}")
    for limits, types in (("at most 3000 nodes", NODE_TYPES), ("no limit", unlimited)):
        tight = plan_with_fluxburst(wanted, EMBEDDED, types)
        worst = plan_with_fluxburst(wanted, SCHED_SIMPLE, types)
        for fit, result in (("tight", tight), ("worst", worst)):
            print(
                f"{limits + ', ' + fit:24}{result['seconds']:9.3f}{result['placed']:8}"
                f"{price_of(result):10.2f}{price_of(result) / price_of(tight):13.3f}"
            )


def main() -> None:
    """Measure and print."""
    wanted = demands()
    shapes = len({tuple(demand.values()) for demand in wanted})
    ours = plan_with_fluxburst(wanted)
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory) / "demands.json"
        types = [
            {
                "name": t.name,
                "cores": t.cores,
                "gpus": t.gpus,
                "memory": t.memory,
                "price": t.price,
                "max_nodes": t.max_nodes,
            }
            for t in NODE_TYPES
        ]
        file.write_text(json.dumps({"node_types": types, "demands": wanted}))
        results = [ours, run_peer("ray", str(file)), run_peer("toil", str(file))]
    print(f"\nplanning {JOBS} jobs of {shapes} shapes on at most 3000 nodes of three types")
    print(f"{'':12}{'seconds':>9}{'ratio':>8}{'placed':>8}{'nodes':>7}{'price/h':>10}")
    for result in results:
        price = price_of(result)
        print(
            f"{result['peer']:12}{result['seconds']:9.3f}"
            f"{result['seconds'] / ours['seconds']:8.1f}{result['placed']:8}"
            f"{sum(result['nodes'].values()):7}{price:10.2f}"
        )
    compare_fits(wanted)


if __name__ == "__main__":
    main()
