"""As whom isolated bursts run jobs: by default only as who submitted them."""

from __future__ import annotations

import os
from dataclasses import dataclass

import pytest
from support import Apart, Elsewhere, job, spec

from fluxburst import FluxBurst, NodeType
from fluxburst.handles.embedded import EmbeddedInstance
from fluxburst.joining import ElasticParameters
from fluxburst.plan import Decision
from fluxburst.recordings import Recording

ME, OTHER = os.getuid(), os.getuid() + 4242


class Stranger(Apart):
    """An isolated burst plugin of a third party, which has never heard of the policy."""

    run_as = "submitter"


@dataclass
class Params:
    run_as: str = "submitter"
    isolated_burst: bool = True


def decisions(*plugins: Elsewhere) -> list[Decision]:
    """Plan for one job of this user, and one of another; return what is decided on each."""
    jobs = tuple(job(n, spec(burstable=1), userid=user) for n, user in ((1, ME), (2, OTHER)))
    with FluxBurst(EmbeddedInstance(Recording(jobs))) as client:
        for plugin in plugins:
            client.hooks.register(plugin, f"fluxburst-{plugin.name}")
            client.plugins[plugin.name] = plugin
        by_id = {decision.id: decision for decision in client.plan().decisions}
    return [by_id[1], by_id[2]]


def test_another_users_job_is_declined_with_the_risk_and_the_policy_that_allows_it() -> None:
    mine, other = decisions(Stranger("apart", NodeType("node", cores=8)))
    assert mine.plugin == "apart"
    assert not other.plugin
    (reason,) = [one for one in other.reasons if one.startswith("apart")]
    assert f"it is user {OTHER}'s, and would run with the rights of user {ME}" in reason
    assert "run_as = 'owner' allows that" in reason


def test_it_is_offered_to_the_next_plugin_whose_nodes_join() -> None:
    joining = Elsewhere("joining", NodeType("node", cores=8))
    _, other = decisions(Stranger("apart", NodeType("node", cores=8)), joining)
    assert other.plugin == "joining"


def test_it_is_taken_where_the_policy_says_so() -> None:
    _, other = decisions(Apart("apart", NodeType("node", cores=8)))
    assert other.plugin == "apart"


@pytest.mark.parametrize(
    ("params", "policy"),
    [
        (Params(), "submitter"),
        (Params(run_as="owner"), "owner"),
        (Params(run_as="anyone"), "anyone"),
        (object(), "submitter"),
    ],
)
def test_the_policy_is_a_parameter_and_its_absence_the_careful_one(
    params: object, policy: str
) -> None:
    plugin = Elsewhere("apart", NodeType("node", cores=8))
    plugin.params = params
    assert plugin.run_as == policy


def test_what_is_neither_of_the_two_is_the_careful_one() -> None:
    plugin = Apart("apart", NodeType("node", cores=8))
    plugin.run_as = "anyone"
    _, other = decisions(plugin)
    assert not other.plugin


def test_plugins_of_elastic_instances_have_the_parameter_and_are_careful_by_default() -> None:
    assert ElasticParameters().run_as == "submitter"
