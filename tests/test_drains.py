"""Burst nodes that somebody has drained are named, with how they come back."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from tests.support import Joining, client_on, job, spec

from fluxburst import BurstState, NodeType, Outcome
from fluxburst.config.file import Config
from fluxburst.flux.resources import nodes_from_status, status_from_nodes
from fluxburst.model.burst import drain_reason
from fluxburst.model.node import Node
from fluxburst.plugin.base import Finding
from fluxburst.provider.drains import drained_by_others, lines
from fluxburst.reports.doctor import Doctor
from fluxburst.reports.status import of_client
from fluxburst.simulation.embedded import EmbeddedInstance
from fluxburst.simulation.recordings import Recording

START = 1767225600.0  # 2026-01-01 00:00:00Z
TWO = NodeType("node", cores=8, max_nodes=2)


class Declared(Joining):
    """A plugin whose nodes are declared beforehand, as in an elastic instance."""

    def lacking(self) -> Iterable[str]:
        return lines(drained_by_others(self.instance.nodes()))


def node(
    rank: int,
    reason: str = "bad disk",
    at: float | None = START,
    properties: frozenset[str] | None = None,
) -> Node:
    burst = frozenset({"burst"})
    made = Node(rank, f"burst{rank}", 8, drained=True, drain_reason=reason, drained_at=at)
    return replace(made, properties=burst if properties is None else properties)


def test_nodes_of_one_reason_and_time_are_told_together() -> None:
    drained = [node(1), node(3), node(2, "", START + 1)]
    assert lines(drained_by_others(drained)) == [
        "burst[1,3] are drained since 2026-01-01 00:00:00Z ('bad disk') and not used: "
        "undrain them with 'flux resource undrain burst[1,3]'",
        "burst2 is drained since 2026-01-01 00:00:01Z (no reason given) and not used: "
        "undrain it with 'flux resource undrain burst2'",
    ]


def test_what_is_taken_down_or_excluded_or_no_burst_node_is_not_meant() -> None:
    other = node(3, properties=frozenset())
    nodes = [node(1, drain_reason("local-1")), node(2, "", None), other]
    assert drained_by_others(nodes) == []
    assert drained_by_others(nodes, {"burst3"}) == [other]


def test_since_when_a_node_is_drained_is_read_from_flux_and_kept_in_recordings() -> None:
    drained = node(0)
    assert nodes_from_status(*status_from_nodes((drained,)).values())[0].drained_at == START


def test_a_drained_burst_node_is_named_in_plan_status_and_doctor() -> None:
    wide = job(1, spec(nodes=3, cores=8, burstable=1))
    instance = EmbeddedInstance(Recording((wide,), (node(1),)))
    client = client_on(instance, Declared("cloud", instance, TWO))
    (decision,) = client.plan().decisions
    since = "burst1 is drained since 2026-01-01 00:00:00Z ('bad disk') and not used"
    advice = "undrain it with 'flux resource undrain burst1'"
    assert decision.outcome is Outcome.UNMATCHED
    assert decision.reasons[0].endswith(f"; {since}: {advice}")
    assert of_client(client).problems == (f"{since}: {advice}",)
    found = Doctor(Config, instance).examine()
    assert [one.finding for one in found if one.check == "drained nodes"] == [
        Finding("warning", since, f"once repaired: {advice}")
    ]
    instance.undrain([1])
    assert "drained" not in client.plan().decisions[0].reasons[0]
    assert of_client(client).problems == ()


def test_a_node_of_a_living_burst_that_somebody_drains_is_named() -> None:
    instance = EmbeddedInstance(Recording((job(1, spec(nodes=2, cores=8, burstable=1)),)))
    client = client_on(instance, Declared("cloud", instance, TWO))
    client.run_burst()
    client.reconcile()
    (entry,) = client.ledger.live()
    assert entry.burst.state is BurstState.READY
    host = entry.burst.hostnames[0]
    (rank,) = [node.rank for node in instance.nodes() if node.hostname == host]
    instance.drain([rank], "health check failed")
    (line,) = of_client(client).problems
    assert line.startswith(f"{host} is drained since ")
    assert line.endswith(
        f" ('health check failed') and not used: undrain it with 'flux resource undrain {host}'"
    )


def test_a_plugin_that_cannot_tell_what_it_lacks_costs_no_plan() -> None:
    class Broken(Joining):
        def lacking(self) -> Iterable[str]:
            raise RuntimeError("no connection")

    instance = EmbeddedInstance(Recording((job(1, spec(nodes=3, cores=8, burstable=1)),)))
    (decision,) = client_on(instance, Broken("cloud", instance, TWO)).plan().decisions
    assert decision.outcome is Outcome.UNMATCHED
    assert decision.reasons == ("cloud: 3 more of 'node' needed, 2 left of 2",)
