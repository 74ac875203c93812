"""What nodes are billed beside the work that ran on them, on a virtual clock.

Three queues burst with the mock plugin: independent jobs with lognormal run times, many short jobs
beside a long one, and the queue of ``fluxburst demo``. The raw cost is the node time of the jobs.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from typing import Any

from figures import Figure, print_figures

from fluxburst import FluxBurst, NodeType
from fluxburst.config.file import Config
from fluxburst.config.policy import Policy, Timeouts
from fluxburst.formats.units import Duration
from fluxburst.model.job import JobState
from fluxburst.reports.costs import slices, total
from fluxburst.simulation import recordings
from fluxburst.simulation.embedded import EmbeddedInstance
from fluxburst_mock.plugin import BurstParameters

SEED = 15
JOBS = 200
MEAN_LOG_SECONDS, SIGMA_LOG_SECONDS = math.log(1800.0), 1.5
LONGEST_HOURS = 24
STEP_SECONDS = 30.0
DAYS = 40
NODE = NodeType("node", cores=8, price=1.0)


def jobspec(seconds: float, limit: float) -> dict[str, Any]:
    """Return a job that has a node for some seconds, of those that its user asked for."""
    slot = {"type": "slot", "count": 1, "label": "task", "with": [{"type": "core", "count": 8}]}
    test = {"exec": {"test": {"run_duration": f"{seconds}s"}}}
    return {
        "version": 1,
        "resources": [{"type": "node", "count": 1, "with": [slot]}],
        "tasks": [{"command": ["app"], "slot": "task", "count": {"per_slot": 1}}],
        "attributes": {"system": {"duration": limit, "burstable": True, **test}},
    }


def lognormal() -> list[dict[str, Any]]:
    """Return independent jobs of a node each, whose limits are up to twice their run times."""
    draw = random.Random(SEED)
    runs = (draw.lognormvariate(MEAN_LOG_SECONDS, SIGMA_LOG_SECONDS) for _ in range(JOBS))
    seconds = [min(run, LONGEST_HOURS * 3600.0) for run in runs]
    return [jobspec(run, run * draw.uniform(1.0, 2.0)) for run in seconds]


def one_long() -> list[dict[str, Any]]:
    """Return 29 jobs of a minute and one of ten hours."""
    return [*(jobspec(60.0, 60.0) for _ in range(29)), jobspec(36_000.0, 36_000.0)]


def run(instance: EmbeddedInstance, node_types: Sequence[NodeType] | None) -> tuple[float, float]:
    """Burst until no job is left that was assigned; return node-hours billed, and worked."""
    policy = Policy(timeouts=Timeouts(start=Duration(math.inf)))
    with FluxBurst(instance, config=Config(policy=policy)) as client:
        client.load("mock", BurstParameters(node_types=list(node_types)) if node_types else None)
        plan = client.plan()
        assigned = [job for jobs in plan.assignments.values() for job in jobs]
        client.apply(plan)
        until = instance.now() + DAYS * 86400
        while any(instance.job(job).state is not JobState.INACTIVE for job in assigned):
            assert instance.now() < until, "the jobs do not end"
            instance.advance(STEP_SECONDS)
            client.reconcile()
        client.run_unburst()
        ledger = client.ledger
        billed = total(slices(ledger.entries(), ledger.usages(), instance.now()))
        return billed.node_hours, billed.node_hours - billed.idle_node_hours


def queue_of(specs: Sequence[Mapping[str, Any]]) -> EmbeddedInstance:
    """Return an instance without nodes, with jobs that wait for them."""
    instance = EmbeddedInstance()
    for spec in specs:
        instance.submit(spec)
    return instance


def main() -> None:
    """Print what was billed, beside the work."""
    demo = EmbeddedInstance(recordings.load(recordings.BUNDLED))
    queues = [
        ("200 jobs with lognormal run times", queue_of(lognormal()), [NODE], 1.15),
        ("29 jobs of a minute and one of 10 hours", queue_of(one_long()), [NODE], 1.3),
        ("the queue of the demo", demo, None, 1 / 0.9),
    ]
    figures = []
    for what, instance, node_types, goal in queues:
        billed, worked = run(instance, node_types)
        figures.append(Figure(what, billed, "h", goal * worked, worked, "the jobs' node-hours"))
    print_figures("Node-hours billed", figures)


if __name__ == "__main__":
    main()
