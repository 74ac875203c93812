"""A job that is larger than the instance is told so, rather than how many nodes it lacks."""

from __future__ import annotations

import pytest
from tests.support import Joining, client_on, job, spec

from fluxburst import NodeType
from fluxburst.model.node import Node
from fluxburst.simulation.embedded import EmbeddedInstance
from fluxburst.simulation.recordings import Recording

DECLARED = [Node(rank, f"n{rank}", cores=2, free_cores=2, up=not rank) for rank in range(4)]


@pytest.mark.parametrize(
    ("nodes", "cores", "most", "reason"),
    [
        (9, 2, 3, "needs 9 nodes, but the instance has 4 in all (declared)"),
        (0, 9, 3, "needs 9 cores, but the instance has 8 in all (declared)"),
        (4, 2, 2, "left of 2"),
    ],
)
def test_the_reason_names_what_the_instance_has_in_all(
    nodes: int, cores: int, most: int, reason: str
) -> None:
    asked = spec(nodes or None, cores if nodes else 1, burstable=1)
    if not nodes:
        asked["resources"][0]["count"] = cores
    instance = EmbeddedInstance(Recording((job(1, asked),), nodes=tuple(DECLARED)))
    with client_on(
        instance, Joining("cloud", instance, NodeType("n", cores=2, max_nodes=most))
    ) as client:
        (decision,) = client.plan().decisions
        assert reason in decision.reasons[0]
        assert ("more of" in decision.reasons[0]) == (reason == "left of 2")
