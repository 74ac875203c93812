"""Worst fit, against Flux's own pool; and plans, whose jobs start when that pool places them."""

from __future__ import annotations

import importlib
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from tests.support import Elsewhere, flux_available, job

from fluxburst import BurstPlugin, Job, NodeType, Outcome
from fluxburst.model.node import Node
from fluxburst.model.plan import Plan
from fluxburst.model.scheduler import SCHED_SIMPLE, as_read_by
from fluxburst.packing.pool import Candidates
from fluxburst.packing.worst_fit import WorstFit
from fluxburst.planning.planner import Planner
from fluxburst.simulation.embedded import EmbeddedInstance
from fluxburst.simulation.placing import place, take
from fluxburst.simulation.recordings import Recording

unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


def needs_flux(test: Any) -> Any:
    skip = pytest.mark.skipif(not flux_available(), reason="no live Flux")
    return pytest.mark.flux(skip(test))


QUEUES = 3000
TYPES = (
    NodeType("small", cores=4, price=1.0),
    NodeType("large", cores=8, price=1.9),
    NodeType("gpu", cores=8, gpus=2, price=6.0),
)


def vertex(kind: str, count: Any, *below: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"type": kind, "count": count, **more, **({"with": [*below]} if below else {})}


def random_request(draw: random.Random) -> dict[str, Any]:
    """Return a jobspec as ``flux submit`` makes them: slots, or nodes with slots."""
    contents = [vertex("core", draw.choice([1, 1, 2, 3, 4]))]
    if draw.random() < 0.2:
        contents.append(vertex("gpu", draw.choice([1, 2])))
    exclusive = {"exclusive": True} if draw.random() < 0.15 else {}
    shape = draw.random()
    slots = {"label": "task"}
    if shape < 0.5:
        resource = vertex("slot", draw.choice([1, 1, 2, 3, 6]), *contents, **slots, **exclusive)
    elif shape < 0.9:
        slot = vertex("slot", draw.choice([1, 1, 2]), *contents, **slots)
        resource = vertex("node", draw.choice([1, 2, 3, "1-2"]), slot, **exclusive)
    else:
        resource = vertex("slot", 2, vertex("node", 1, contents[0]), **slots)
    return {
        "version": 1,
        "resources": [resource],
        "tasks": [{"command": ["app"], "slot": "task", "count": {"per_slot": 1}}],
        "attributes": {"system": {"duration": 60.0}},
    }


def random_constraint(draw: random.Random) -> dict[str, Any] | None:
    return draw.choice(
        [
            None,
            None,
            None,
            {"properties": ["a"]},
            {"not": [{"properties": ["a"]}]},
            {"hostlist": ["n[0-2]"]},
            {"not": [{"ranks": ["0"]}]},
        ]
    )


@dataclass(frozen=True)
class Queue:
    """Nodes that are free, at least in part, and jobs that wait in the order of their ids."""

    nodes: tuple[Node, ...]
    jobs: tuple[Job, ...]


def random_queue(seed: int) -> Queue:
    draw = random.Random(seed)
    nodes = []
    for rank in range(draw.randint(0, 4)):
        kind = draw.choice(TYPES)
        properties = frozenset(["a"] if draw.random() < 0.5 else [])
        free = draw.randint(0, kind.cores) if draw.random() < 0.4 else kind.cores
        nodes.append(
            Node(
                rank,
                f"n{rank}",
                kind.cores,
                kind.gpus,
                free_cores=free,
                free_gpus=kind.gpus,
                properties=properties,
            )
        )
    jobs = []
    for number in range(1, draw.randint(2, 14)):
        request = random_request(draw)
        system = request["attributes"]["system"]
        constraint = random_constraint(draw)
        if constraint is not None:
            system["constraints"] = constraint
        if draw.random() < 0.85:
            system["burstable"] = True
        jobs.append(job(number, request))
    return Queue(tuple(nodes), tuple(jobs))


DECLARED = {
    node_type.name: tuple(
        Node(rank, f"new{rank}", node_type.cores, node_type.gpus, up=False)
        for rank in range(100 * position, 100 * position + 99)
    )
    for position, node_type in enumerate(TYPES, start=1)
}
"""The nodes that may come: it is known as which ones they do."""


class Declared(Elsewhere):
    def candidates(self, node_type: str) -> Candidates:
        return Candidates(DECLARED[node_type], chosen=True)


CLOUD = {"cloud": Declared("cloud", *TYPES)}


class Flagged:
    """The hooks of a client that has no packages."""

    def select_job(self, job: Job) -> bool:
        return bool(job.burstable)

    def order_plugins(self, plugins: Mapping[str, BurstPlugin], job: Job | None) -> Sequence[str]:
        return list(plugins)

    def schedule_job(self, job: Job, plugin: BurstPlugin) -> bool:
        return plugin.schedule(job)


def planned(queue: Queue) -> Plan:
    return Planner(Flagged(), CLOUD, queue.nodes, scheduler=SCHED_SIMPLE).plan(queue.jobs)


def new_nodes(plan: Plan) -> Iterator[Node]:
    """Return the nodes that a plan brings up, as they are once they are there."""
    for burst in plan.bursts:
        declared = DECLARED[burst.node_type]
        hosts = burst.hosts or [node.hostname for node in declared[: burst.nodes]]
        for node in declared:
            if node.hostname in hosts:
                yield replace(node, up=True, free_cores=node.cores, free_gpus=node.gpus)


def all_nodes(queue: Queue, plan: Plan) -> list[Node]:
    return [*queue.nodes, *sorted(new_nodes(plan), key=lambda node: node.rank)]


# --- Flux's own pool ------------------------------------------------------------------------


def pool_of(nodes: Sequence[Node]) -> Any:
    """Return Flux's pool of nodes, of which some cores are taken."""
    module = importlib.import_module("flux.resource.Rv1Pool")
    properties = {
        name: ",".join(str(node.rank) for node in nodes if name in node.properties)
        for name in sorted({name for node in nodes for name in node.properties})
    }
    children = [
        {"core": f"0-{node.cores - 1}", **({"gpu": f"0-{node.gpus - 1}"} if node.gpus else {})}
        for node in nodes
    ]
    pool = module.Rv1Pool(
        {
            "version": 1,
            "execution": {
                "R_lite": [
                    {"rank": str(node.rank), "children": each}
                    for node, each in zip(nodes, children, strict=True)
                ],
                "starttime": 0.0,
                "expiration": 0.0,
                "nodelist": [",".join(node.hostname for node in nodes)],
                "properties": properties,
            },
        },
        log=lambda *_: None,
    )
    for node in nodes:
        taken = node.cores - node.free_cores
        pool._ranks[node.rank]["allocated_cores"] = set(range(taken))
    return pool


def started_by_flux(nodes: Sequence[Node], jobs: Sequence[Job]) -> set[int]:
    """Return the jobs that Flux starts at once: it stops at the first that it cannot start."""
    resource = importlib.import_module("flux.resource")
    pool = pool_of(nodes)
    started = set()
    for waiting in jobs:
        request = pool.parse_resource_request(waiting.spec)
        try:
            pool.alloc(waiting.id, request)
        except resource.InsufficientResources:
            break
        except resource.InfeasibleRequest:
            # Not of what is up; more nodes are declared, so Flux keeps it in its queue.
            break
        started.add(waiting.id)
    return started


@needs_flux
def test_no_job_that_is_assigned_waits_for_another_where_flux_places_them() -> None:
    """Of random queues, on the nodes that are there and those that the plan brings up."""
    waiting, assigned = {}, 0
    for seed in range(QUEUES):
        queue = random_queue(seed)
        plan = planned(queue)
        wanted = {d.id for d in plan.decisions if d.outcome is Outcome.ASSIGNED}
        assigned += len(wanted)
        if wanted:
            late = wanted - started_by_flux(all_nodes(queue, plan), queue.jobs)
            if late:
                waiting[seed] = late
    assert waiting == {}
    assert assigned > QUEUES, "there is something to place"


# --- without Flux ---------------------------------------------------------------------------


def started_by_embedded(nodes: Sequence[Node], jobs: Sequence[Job]) -> set[int]:
    """Return the jobs that an embedded instance starts at once, by the same rules."""
    instance = EmbeddedInstance(Recording(tuple(jobs), tuple(nodes)), scheduler=SCHED_SIMPLE)
    instance.advance(0)
    return {waiting.id for waiting in jobs if "t_run" in instance.job(waiting.id)}


def free_nodes(queue: Queue) -> WorstFit:
    nodes = WorstFit()
    for node in queue.nodes:
        idle = node.free_cores == node.cores
        nodes.add(1, node.free_cores, node.free_gpus, bits=0, idle=idle)
    return nodes


def without_constraints(queue: Queue) -> Queue:
    jobs = []
    for waiting in queue.jobs:
        system = {k: v for k, v in waiting.attributes.items() if k != "constraints"}
        jobs.append(waiting.but(spec={**waiting.spec, "attributes": {"system": system}}))
    return Queue(queue.nodes, tuple(jobs))


@given(seed=st.integers(0, 2**32))
@unhurried
def test_counted_nodes_are_taken_as_the_embedded_instance_takes_them_one_by_one(seed: int) -> None:
    queue = without_constraints(random_queue(seed))
    nodes, started = free_nodes(queue), set()
    for waiting in queue.jobs:
        if nodes.place(as_read_by(waiting.chunks, SCHED_SIMPLE), 0) is None:
            break
        started.add(waiting.id)
    assert started == started_by_embedded(queue.nodes, queue.jobs)


@given(seed=st.integers(0, 2**32))
@unhurried
def test_no_job_that_is_assigned_waits_where_the_embedded_instance_places_them(seed: int) -> None:
    queue = random_queue(seed)
    plan = planned(queue)
    wanted = {d.id for d in plan.decisions if d.outcome is Outcome.ASSIGNED}
    assert wanted <= started_by_embedded(all_nodes(queue, plan), queue.jobs)


@given(seed=st.integers(0, 2**32))
@example(seed=382)
@unhurried
def test_a_plan_is_whole(seed: int) -> None:
    """Each burst has nodes and is for jobs that are assigned, and each job has a reason."""
    plan = planned(random_queue(seed))
    assigned = {d.id for d in plan.decisions if d.outcome is Outcome.ASSIGNED}
    assert all(burst.nodes > 0 and burst.jobs for burst in plan.bursts)
    assert {jobid for burst in plan.bursts for jobid in burst.jobs} <= assigned
    assert all(d.reasons for d in plan.decisions)
    if not assigned:
        assert plan.bursts == ()


@needs_flux
def test_a_job_is_placed_on_the_very_nodes_that_flux_takes() -> None:
    for seed in range(300):
        queue = without_constraints(random_queue(seed))
        if not queue.nodes:
            continue
        pool = pool_of(queue.nodes)
        nodes = {node.rank: node for node in queue.nodes}
        for waiting in queue.jobs:
            (resource,) = waiting.spec["resources"]
            if waiting.exclusive and resource["with"][0]["count"] == 2:
                continue  # of exclusive nodes Flux does not look at the slots, and the shell fails
            ours = place(waiting, nodes.values(), SCHED_SIMPLE)
            theirs = taken_by_flux(pool, waiting)
            assert {r: (s.cores, s.gpus) for r, s in (ours or {}).items()} == theirs, seed
            if ours is not None:
                take(nodes, ours)


def taken_by_flux(pool: Any, waiting: Job) -> dict[int, tuple[int, int]]:
    resource = importlib.import_module("flux.resource")
    try:
        got = pool.alloc(waiting.id, pool.parse_resource_request(waiting.spec))
    except (resource.InsufficientResources, resource.InfeasibleRequest):
        return {}
    return {rank: (len(i["cores"]), len(i["gpus"])) for rank, i in got._ranks.items()}
