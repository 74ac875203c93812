"""As whom jobs run, and whose: guests' jobs only where the instance can, and as themselves."""

from __future__ import annotations

import os
from dataclasses import dataclass

import pytest
from tests.live import running_flux
from tests.support import Apart, Elsewhere, client_on, flux_available, job, spec

from fluxburst import FluxBurst, NodeType
from fluxburst.flux.live import LiveInstance
from fluxburst.formats.flux_configuration import NO_IMP
from fluxburst.model.identity import Users
from fluxburst.model.plan import Decision
from fluxburst.provider.elastic_plugin import ElasticParameters
from fluxburst.reports.doctor.users import findings
from fluxburst.simulation.embedded import EmbeddedInstance
from fluxburst.simulation.recordings import Recording

ME, OTHER = os.getuid(), os.getuid() + 4242
NO_GUESTS = Users(ME, allows_guests=True, runs_guests=False)
NODE = NodeType("node", cores=8)


class Stranger(Apart):
    """An isolated burst plugin of a third party, which has never heard of the policy."""

    run_as = "submitter"


@dataclass
class Params:
    run_as: str = "submitter"
    isolated_burst: bool = True


def decisions(*plugins: Elsewhere, users: Users | None = None) -> list[Decision]:
    """Plan for one job of this user, and one of another; return what is decided on each."""
    jobs = tuple(job(n, spec(burstable=1), userid=user) for n, user in ((1, ME), (2, OTHER)))
    with FluxBurst(EmbeddedInstance(Recording(jobs), users=users)) as client:
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
    assert f"it belongs to user {OTHER}, and would run with the rights of user {ME}" in reason
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


def test_root_who_looks_sees_what_the_owner_would() -> None:
    """With allow-root-owner he may plan; what runs is the owner's all the same."""
    mine, other = decisions(Stranger("apart", NODE), users=Users(OTHER))
    assert (mine.plugin, other.plugin) == ("", "apart")
    assert f"would run with the rights of user {OTHER}" in mine.reasons[0]


def test_no_nodes_are_brought_up_for_a_guests_job_where_the_instance_can_run_none() -> None:
    mine, other = decisions(Elsewhere("joining", NODE), users=NO_GUESTS)
    assert (mine.plugin, other.plugin) == ("joining", "")
    (reason,) = other.reasons
    assert reason.startswith(
        f"joining: it belongs to user {OTHER}, but the instance cannot run jobs of gue"
    )
    assert "[exec] imp is not set" in reason
    guests = Users(ME, allows_guests=True)
    assert [one.plugin for one in decisions(Elsewhere("joining", NODE), users=guests)] == [
        "joining",
        "joining",
    ]


def test_a_guests_job_runs_in_an_isolated_burst_without_an_imp_where_the_policy_says_so() -> None:
    _, other = decisions(Apart("apart", NODE), users=NO_GUESTS)
    assert other.plugin == "apart"


class Reconfigured(EmbeddedInstance):
    """An instance whose configuration is read again while it runs."""

    configured = NO_GUESTS

    def users(self) -> Users:
        return self.configured


def test_an_imp_that_is_set_meanwhile_is_noticed() -> None:
    instance = Reconfigured(Recording((job(1, spec(burstable=1), userid=OTHER),)))
    plugin = Elsewhere("joining", NODE)
    with client_on(instance, plugin) as client:
        client.run_pass(everything=False, patience=10.0)
        client.run_pass(everything=False, patience=10.0)
        assert plugin.created == []
        instance.configured = Users(ME, allows_guests=True)
        client.run_pass(everything=False, patience=10.0)
        assert len(plugin.created) == 1


# --- what doctor says of it ----------------------------------------------------------------------


def said(users: Users, *plugins: Elsewhere) -> list[tuple[str, str]]:
    return [(one.level, one.what) for one in findings(users, plugins)]


def test_doctor_warns_of_the_owners_rights_for_guests() -> None:
    apart, careful = Apart("apart", NODE), Stranger("careful", NODE)
    joining = Elsewhere("joining", NODE)
    joining.params = Params(run_as="owner", isolated_burst=False)
    everyone = Users(ME, allows_guests=True)
    (fine, warned) = said(everyone, apart, careful, joining)
    assert fine == ("ok", "it accepts and runs guests' jobs")
    assert warned[0] == "warning"
    assert "run_as = 'owner': anyone who may submit a job can read and change" in warned[1]
    assert warned[1].startswith("guests are allowed, and apart has ")
    assert said(Users(ME), apart)[0][0] == "ok"
    assert len(said(Users(ME), apart)) == 1


def test_doctor_warns_where_guests_are_let_in_and_none_of_their_jobs_runs() -> None:
    (found,) = findings(NO_GUESTS, [])
    assert (found.level, found.what) == ("warning", NO_IMP)
    assert found.advice == "set imp in the table [exec]"


@pytest.mark.flux
@pytest.mark.skipif(not flux_available(), reason="no live Flux")
@pytest.mark.parametrize(
    ("config", "users"),
    [
        ("", Users(ME, runs_guests=False)),
        ("[access]\nallow-guest-user = true\n", NO_GUESTS),
        (
            '[access]\nallow-guest-user = true\n[exec]\nimp = "/bin/true"\n',
            Users(ME, allows_guests=True),
        ),
    ],
)
def test_a_live_instance_says_whose_jobs_it_is_configured_for(config: str, users: Users) -> None:
    import flux as bindings

    with running_flux({"access.toml": config}) as running:
        assert LiveInstance(bindings.Flux(running.uri)).users() == users
