"""What jobs ask for beside cores, GPUs and memory, and what schedulers read in several ways."""

from __future__ import annotations

from typing import Any

import pytest
from tests.support import Elsewhere, client_on, job

from fluxburst import ByteSize, Job, NodeType
from fluxburst.config.policy import Placing, Policy
from fluxburst.model.node import check_node_types
from fluxburst.model.plan import Plan
from fluxburst.model.scheduler import FLUXION, SCHED_SIMPLE, Scheduler
from fluxburst.simulation.embedded import EMBEDDED, EmbeddedInstance
from fluxburst.simulation.recordings import Recording

TB = 10**12
PLAIN = NodeType("plain", cores=8, price=1.0)
STORING = NodeType(
    "storing", cores=8, price=2.0, resources={"ssd": 2, "storage": 2 * TB, "socket": 2}
)
CORES_2 = NodeType("two", cores=2)


def vertex(kind: str, count: Any, *below: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"type": kind, "count": count, **more, **({"with": [*below]} if below else {})}


def slot(count: int, *below: dict[str, Any], **more: Any) -> dict[str, Any]:
    return vertex("slot", count, *below, label="task", **more)


def core(count: int) -> dict[str, Any]:
    return vertex("core", count)


def asking(*resources: dict[str, Any], jobid: int = 1) -> Job:
    return job(
        jobid,
        {
            "version": 1,
            "resources": [*resources],
            "tasks": [{"command": ["app"], "slot": "task", "count": {"per_slot": 1}}],
            "attributes": {"system": {"duration": 60.0, "burstable": True}},
        },
    )


def planned(
    *jobs: Job,
    types: tuple[NodeType, ...] = (PLAIN,),
    scheduler: Scheduler = EMBEDDED,
    share_nodes: bool = True,
) -> Plan:
    instance = EmbeddedInstance(Recording(jobs), scheduler=scheduler)
    policy = Policy(placement=Placing(share_nodes))
    return client_on(instance, Elsewhere("cloud", *types), policy=policy).plan()


def nodes_for(*jobs: Job, **more: Any) -> dict[str, int]:
    return {burst.node_type: burst.nodes for burst in planned(*jobs, **more).bursts}


@pytest.mark.parametrize(
    ("resources", "kind"),
    [
        ([slot(1, core(2), vertex("fpga", 1))], "fpga"),
        ([vertex("node", 1, slot(1, core(2)), vertex("storage", 1562, unit="GB"))], "storage"),
        ([slot(100, vertex("pu", 4))], "pu"),
        ([slot(100, vertex("socket", 1))], "socket"),
        ([vertex("node", 1, vertex("socket", 2, slot(1, core(2))))], "socket"),
        ([vertex("rack", 2, vertex("node", 4, slot(1, core(1))))], "rack"),
        (
            [
                vertex(
                    "chassis",
                    4,
                    vertex("node", 8, slot(1, core(1)), exclusive=True),
                    vertex("ssd", 2752, exclusive=True),
                )
            ],
            "chassis",
        ),
        ([slot(1, core(1)), vertex("ssd", 1)], "ssd"),
        ([vertex("ssd", 1), slot(1, core(1))], "ssd"),
    ],
)
def test_a_resource_type_that_no_node_type_has_is_declined_by_name(
    resources: list[dict[str, Any]], kind: str
) -> None:
    plan = planned(asking(*resources))
    (decision,) = plan.decisions
    assert plan.bursts == ()
    assert f"asks for {kind!r}, which no node type has" in decision.reasons[-1]


def test_alternatives_are_declined_never_added_up() -> None:
    two = [slot(1, core(2)), slot(1, core(4))]
    plan = planned(asking(vertex("xor_slot", 1, *two)))
    assert plan.bursts == ()
    assert "asks for alternatives ('xor_slot')" in plan.decisions[0].reasons[-1]


def test_a_node_type_that_has_it_is_chosen_and_counted_by_it() -> None:
    jobs = [asking(slot(1, core(1), vertex("ssd", 1)), jobid=i) for i in range(1, 6)]
    assert nodes_for(*jobs, types=(PLAIN, STORING)) == {"storing": 3}


def test_what_has_a_unit_is_counted_in_bytes() -> None:
    half = vertex("node", 1, slot(1, core(1)), vertex("storage", 900, unit="GB"))
    jobs = [asking(half, jobid=i) for i in range(1, 5)]
    assert nodes_for(*jobs, types=(PLAIN, STORING)) == {"storing": 2}


def test_cores_in_sockets_are_counted_within_their_sockets() -> None:
    two_sockets = vertex("node", 1, vertex("socket", 2, slot(1, core(2))))
    jobs = [asking(two_sockets, jobid=i) for i in range(1, 3)]
    assert nodes_for(*jobs, types=(STORING,)) == {"storing": 2}


@pytest.mark.parametrize(
    "resources",
    [{"core": 1}, {"memory": 1}, {"": 1}, {"ssd": -1}, {"ssd": 1.5}, {1: 1}, [("ssd", 1)]],
)
def test_resources_that_are_no_counts_of_other_types_are_refused(resources: Any) -> None:
    with pytest.raises(ValueError, match="resources that are not counts"):
        check_node_types([NodeType("odd", 1, resources=resources)])


def test_node_types_with_resources_can_be_keys() -> None:
    assert {STORING: 1}[NodeType("storing", 8, price=2.0, resources=dict(STORING.resources))] == 1


# --- what schedulers read in several ways ---------------------------------------------------


def test_an_exclusive_slot_is_a_node_for_flux_own_scheduler() -> None:
    three = asking(slot(3, core(1), exclusive=True))
    assert nodes_for(three, types=(CORES_2,), scheduler=SCHED_SIMPLE) == {"two": 3}
    assert nodes_for(three, types=(CORES_2,), scheduler=Scheduler(FLUXION)) == {"two": 2}


def test_a_slot_above_a_node_counts_twice_for_flux_own_scheduler() -> None:
    above = asking(slot(2, vertex("node", 1, core(2))))
    fours = (NodeType("four", cores=4),)
    assert nodes_for(above, types=fours, scheduler=SCHED_SIMPLE) == {"four": 2}
    assert nodes_for(above, types=(CORES_2,), scheduler=Scheduler(FLUXION)) == {"two": 2}
    why = planned(above, types=(CORES_2,), scheduler=SCHED_SIMPLE).decisions[0].reasons[-1]
    assert "no node type has room for 4 cores on one node" in why


def test_slots_that_an_exclusive_node_has_no_room_for_are_declined() -> None:
    crowded = asking(vertex("node", 2, slot(4, core(1)), exclusive=True))
    assert planned(crowded, types=(CORES_2,), scheduler=SCHED_SIMPLE).bursts == ()


def test_memory_without_a_unit_is_gb_for_fluxion_and_nothing_for_flux_own_scheduler() -> None:
    types = (NodeType("node", cores=8, memory=ByteSize(16 * 10**9)),)
    jobs = [asking(slot(1, core(1), vertex("memory", 8)), jobid=i) for i in range(1, 5)]
    assert nodes_for(*jobs, types=types, scheduler=Scheduler(FLUXION)) == {"node": 2}
    assert nodes_for(*jobs, types=types, scheduler=SCHED_SIMPLE) == {"node": 1}


def test_where_jobs_have_nodes_alone_no_two_share_one() -> None:
    jobs = [asking(slot(1, core(1)), jobid=i) for i in range(1, 4)]
    jobs.append(asking(slot(3, core(1)), jobid=4))
    exclusive = Scheduler(FLUXION, whole_nodes=True)
    assert nodes_for(*jobs, types=(CORES_2,), scheduler=Scheduler(FLUXION)) == {"two": 3}
    assert nodes_for(*jobs, types=(CORES_2,), scheduler=exclusive) == {"two": 5}
    assert nodes_for(*jobs, types=(CORES_2,), share_nodes=False) == {"two": 5}
