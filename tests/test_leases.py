"""A lease that nothing arms is shown as such, and warned of once it is over."""

from __future__ import annotations

import logging
from dataclasses import replace

import pytest
from tests.support import Joining, client_on, spec

from fluxburst import Burst, FluxBurst, NodeType
from fluxburst.cli.status import shown_status
from fluxburst.config.policy import Lifetimes, Policy
from fluxburst.errors import BurstError
from fluxburst.formats.units import Duration
from fluxburst.reports import status
from fluxburst.reports.leases import check_armed
from fluxburst.service.loop import Service
from fluxburst.simulation.embedded import EmbeddedInstance

HOUR = 3600.0
POLICY = Policy(Lifetimes(lease=Duration(HOUR)))
PRICED = NodeType("node", cores=8, price=2.0)


class Armed(Joining):
    """A plugin whose nodes end with their lease."""

    def renew(self, burst: Burst) -> Burst:
        return burst


class Stubborn(Joining):
    """A plugin whose nodes cannot be taken down."""

    def delete(self, burst: Burst) -> None:
        raise BurstError("it does not let go")


def bursting(plugin: Joining) -> FluxBurst:
    plugin.instance.submit(spec(1, 8, burstable=1, duration=HOUR / 4))
    client = client_on(plugin.instance, plugin, policy=POLICY)
    client.run_burst()
    client.reconcile()
    return client


def shown(now: status.Status) -> str:
    from rich.console import Console

    console = Console(width=200)
    with console.capture() as captured:
        console.print(shown_status(now))
    return captured.get()


@pytest.mark.parametrize(("kind", "armed"), [(Armed, True), (Joining, False)])
def test_status_says_which_leases_are_not_armed(kind: type[Joining], armed: bool) -> None:
    instance = EmbeddedInstance()
    with bursting(kind("cloud", instance, PRICED)) as client:
        now = status.of_client(client)
        (entry,) = now.bursts
        assert now.to_dict()["unarmed"] == ([] if armed else [entry.burst.name])
        assert ("not armed" in shown(now)) is not armed


def test_what_lives_on_after_its_lease_is_warned_of_where_nothing_ends_it() -> None:
    instance = EmbeddedInstance()
    with bursting(Joining("cloud", instance, PRICED)) as client:
        instance.advance(2 * HOUR)  # while nobody looks after it
        now = status.of_client(client)
        (entry,) = now.bursts
        text = " ".join(shown(now).split())
        assert (
            f"burst {entry.burst.name}: its lease ended 1h ago, but nothing ends its nodes "
            f"automatically: they cost 2.00 an hour until 'fluxburst unburst {entry.burst.name}'"
        ) in text


def test_the_service_warns_of_it_once(caplog: pytest.LogCaptureFixture) -> None:
    instance = EmbeddedInstance()
    with bursting(Stubborn("cloud", instance, PRICED)) as client:
        service = Service(client)
        for _ in range(12):  # idle, drained, not gone, and still not
            instance.advance(HOUR / 6)
            service.run(2)
    warning = "nothing ends its nodes automatically"
    over = [r for r in caplog.records if warning in r.getMessage()]
    assert [record.levelno for record in over][-1:] == [logging.WARNING]
    assert len(over) == 1


def test_doctor_warns_of_nodes_that_cost_and_do_not_end_by_themselves() -> None:
    instance = EmbeddedInstance()
    (finding,) = check_armed(Joining("cloud", instance, PRICED))
    assert (finding.level, "node" in finding.what) == ("warning", True)
    assert list(check_armed(Armed("cloud", instance, PRICED))) == []
    assert list(check_armed(Joining("cloud", instance, replace(PRICED, price=0.0)))) == []
