"""Constraints that name hosts or ranks, and the hosts that new nodes come on."""

from __future__ import annotations

from typing import Any

import pytest
from tests.support import Elsewhere, client_on, job, spec

from fluxburst import Burst, Job, NodeType
from fluxburst.config.policy import Limit, Limits, Policy
from fluxburst.model.node import Node
from fluxburst.model.plan import Plan
from fluxburst.packing.pool import Candidates
from fluxburst.simulation.embedded import EmbeddedInstance
from fluxburst.simulation.recordings import Recording

NODE = NodeType("node", cores=2, max_nodes=4)
LEAD = Node(0, "lead", cores=1)
DECLARED = tuple(Node(rank, f"burst{rank - 1}", cores=2, up=False) for rank in range(1, 5))


class Declared(Elsewhere):
    """A plugin that knows on which declared hosts its nodes may come."""

    chosen = True

    def candidates(self, node_type: str) -> Candidates:
        live = {host for burst in self.bursts.values() for host in burst.hosts}
        return Candidates([n for n in DECLARED if n.hostname not in live], chosen=self.chosen)


class Slots(Declared):
    """One that chooses among them by itself."""

    chosen = False


def asking(jobid: int, constraint: Any, nodes: int = 1, **record: Any) -> Job:
    jobspec = spec(nodes, 2, burstable=True, constraints=constraint)
    return job(jobid, jobspec, **record)


def planned(plugin: Elsewhere, *jobs: Job, policy: Policy | None = None) -> Plan:
    instance = EmbeddedInstance(Recording(jobs, (LEAD, *DECLARED)))
    return client_on(instance, plugin, policy=policy).plan()


def without(**values: Any) -> dict[str, Any]:
    return {"not": [values]}


def burst_of(plan: Plan) -> Burst:
    (burst,) = plan.bursts
    return burst


@pytest.mark.parametrize(
    ("constraint", "host"),
    [
        (without(hostlist=["burst0"]), "burst1"),
        (without(ranks=["1"]), "burst1"),
        (without(hostlist=["burst[0-1]"]), "burst2"),
        ({"hostlist": ["burst3"]}, "burst3"),
        ({"ranks": ["3"]}, "burst2"),
    ],
)
def test_a_job_gets_the_hosts_that_its_constraints_ask_for(constraint: Any, host: str) -> None:
    burst = burst_of(planned(Declared("cloud", NODE), asking(1, constraint)))
    assert (burst.nodes, burst.hosts) == (1, (host,))


def test_where_any_host_will_do_none_is_chosen() -> None:
    assert burst_of(planned(Declared("cloud", NODE), asking(1, None))).hosts == ()
    any_but_the_lead = asking(1, without(hostlist=["lead"]))
    assert burst_of(planned(Declared("cloud", NODE), any_but_the_lead)).hosts == ()


def test_hosts_that_others_may_need_are_chosen_last() -> None:
    jobs = asking(1, None), asking(2, without(hostlist=["burst[1-3]"]))
    burst = burst_of(planned(Declared("cloud", NODE), *jobs))
    assert (burst.nodes, burst.hosts) == (2, ("burst0", "burst1"))


def test_a_job_may_need_hosts_of_several_kinds() -> None:
    jobs = asking(1, without(hostlist=["burst0"]), 2), asking(2, None, 2)
    burst = burst_of(planned(Declared("cloud", NODE), *jobs))
    assert sorted(burst.hosts) == ["burst0", "burst1", "burst2", "burst3"]


def test_no_node_is_paid_for_where_too_few_hosts_match() -> None:
    plan = planned(Declared("cloud", NODE), asking(1, without(hostlist=["burst[0-2]"]), 2))
    assert plan.bursts == ()
    (why,) = plan.decisions[0].reasons
    assert "1 of its hosts match its constraints and are left" in why


def test_no_node_is_paid_for_where_the_host_is_up_and_busy() -> None:
    plan = planned(Declared("cloud", NODE), asking(1, {"hostlist": ["lead"]}))
    assert plan.bursts == ()
    assert "no node type has what its constraints ask for" in plan.decisions[0].reasons[-1]


def test_two_owners_are_not_given_one_host() -> None:
    policy = Policy(limits=Limits(users={"*": Limit(bursts=2)}))
    jobs = [
        asking(1, without(hostlist=["burst0"]), userid=1),
        asking(2, without(hostlist=["burst0"]), userid=2),
    ]
    plan = planned(Declared("cloud", NODE), *jobs, policy=policy)
    assert sorted(burst.hosts for burst in plan.bursts) == [("burst1",), ("burst2",)]


# --- plugins that cannot choose, or do not know ---------------------------------------------


def test_a_plugin_that_chooses_itself_is_trusted_with_what_all_its_hosts_match() -> None:
    burst = burst_of(planned(Slots("cloud", NODE), asking(1, without(hostlist=["lead"]))))
    assert (burst.nodes, burst.hosts) == (1, ())


@pytest.mark.parametrize("plugin", [Slots("cloud", NODE), Elsewhere("cloud", NODE)])
@pytest.mark.parametrize(
    "constraint",
    [without(hostlist=["burst0"]), without(ranks=["1"]), {"hostlist": ["burst3"]}],
)
def test_it_is_said_where_the_hosts_of_new_nodes_are_not_known(
    plugin: Elsewhere, constraint: Any
) -> None:
    plan = planned(plugin, asking(1, constraint))
    assert plan.bursts == ()
    assert "those of new nodes are not known beforehand" in plan.decisions[0].reasons[-1]


def test_a_plugin_that_fails_to_tell_its_hosts_costs_only_its_own_jobs() -> None:
    class Failing(Declared):
        def candidates(self, node_type: str) -> Candidates:
            raise OSError("no answer")

    plan = planned(Failing("cloud", NODE), asking(1, without(hostlist=["burst0"])))
    assert plan.bursts == ()
    assert [str(error) for error in plan.errors]


# --- nodes that come already ----------------------------------------------------------------


def test_a_coming_node_is_known_by_the_host_that_it_comes_on() -> None:
    instance = EmbeddedInstance(
        Recording((asking(1, without(hostlist=["burst0"])),), (LEAD, *DECLARED))
    )
    plugin = Declared("cloud", NODE)
    client = client_on(instance, plugin)
    plugin.bursts["b"] = Burst("b", "cloud", "node", 1, hostnames=("burst0",))
    assert [burst.nodes for burst in client.plan().bursts] == [1]
    plugin.bursts["b"] = Burst("b", "cloud", "node", 1, hostnames=("burst1",))
    assert client.plan().bursts == ()
