"""Bursts of instances: made, found, followed and deleted; in zones that have some, or none."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import pytest
from tests.compute_engine.fake_compute import REGION, Site
from tests.compute_engine.sites import LARGE, SECRET_KEY, SMALL, burst, client_of, plugin_of
from tests.support import spec

from fluxburst import BurstState, NodeType
from fluxburst.errors import BurstError, CapacityError, QuotaError
from fluxburst.model.burst import prefix_of
from fluxburst.simulation.embedded import EmbeddedInstance


def zone_of(site: Site) -> set[str]:
    return {zone.rpartition("-")[2] for zone, _ in site.machines}


def test_a_burst_is_made_of_declared_hosts_and_is_deleted_again(site: Site, elastic: Path) -> None:
    plugin = plugin_of(site, elastic)
    made = plugin.create(burst())
    assert made.state is BurstState.STARTING
    assert made.hostnames == (f"burst-{SMALL}-0", f"burst-{SMALL}-1")
    assert site.left() == sorted(made.hostnames)
    assert plugin.list_bursts() == [made.name]
    assert made.since is not None
    assert abs(made.since - time.time()) < 60
    plugin.delete(made)
    assert site.left() == []
    assert plugin.list_bursts() == []
    plugin.delete(made)  # which is not there any more: a success


def test_a_burst_that_joined_is_drained_also_by_a_plugin_whose_bursts_are_isolated_by_now(
    site: Site, elastic: Path
) -> None:
    made = plugin_of(site, elastic).create(burst(nodes=1))
    client = client_of(site, elastic, isolated_burst=True)
    instance = client.instance
    assert isinstance(instance, EmbeddedInstance)
    instance.add_nodes(made.hostnames, NodeType(SMALL, cores=1000))
    job = instance.submit(spec(nodes=1, cores=1000, duration=600.0))
    client.wait_for_jobs([job], ["RUN"])
    with pytest.raises(BurstError, match="still runs on its nodes; they are drained"):
        client.plugins["compute_engine"].delete(made)
    assert site.left() == sorted(made.hostnames)


def test_asked_for_again_a_burst_is_found(site: Site, elastic: Path) -> None:
    first = plugin_of(site, elastic).create(burst())
    again = plugin_of(site, elastic).create(burst())
    assert again == first
    assert len(site.left()) == 2


def test_several_bursts_have_hosts_of_their_own(site: Site, elastic: Path) -> None:
    plugin = plugin_of(site, elastic)
    one, two = plugin.create(burst("one")), plugin.create(burst("two"))
    assert set(one.hostnames).isdisjoint(two.hostnames)
    with pytest.raises(CapacityError, match=r"1 node requested; .* and free: 0"):
        plugin.create(burst("three", nodes=1))
    plugin.delete(one)
    assert plugin.list_bursts() == ["two"]


def test_node_types_are_the_declared_machine_types_with_their_prices(
    site: Site, elastic: Path
) -> None:
    kinds = plugin_of(site, elastic).node_types()
    assert [(k.name, k.cores, k.price, k.max_nodes) for k in kinds] == [
        (SMALL, 4, 0.417616, 4),
        (LARGE, 88, 4.9236, 2),
    ]
    assert all(kind.properties == ("burst", kind.name) for kind in kinds)
    only = plugin_of(site, elastic, machine_type=LARGE).node_types()
    assert [kind.name for kind in only] == [LARGE]


def test_spot_and_on_demand_share_the_hosts(site: Site, elastic: Path) -> None:
    plugin = plugin_of(site, elastic, provisioning="spot, then on-demand")
    assert [kind.name for kind in plugin.node_types()] == [
        f"{SMALL}-spot",
        SMALL,
        f"{LARGE}-spot",
        LARGE,
    ]
    plugin.bursts["one"] = plugin.create(burst("one", nodes=3, node_type=f"{SMALL}-spot"))
    assert {(k.name, k.max_nodes) for k in plugin.node_types()} >= {
        (f"{SMALL}-spot", 4),
        (SMALL, 1),
    }
    for machine in site.machines.values():
        scheduling = machine.instance.scheduling
        assert scheduling.provisioning_model == "SPOT"
        assert scheduling.on_host_maintenance == "TERMINATE"


def test_prices_can_be_overridden(site: Site, elastic: Path) -> None:
    override = {"name": SMALL, "price": 0.25}
    plugin = plugin_of(site, elastic, machine_types=[override])
    assert plugin.node_types()[0].price == 0.25


def test_zones_are_tried_in_turn_and_one_without_capacity_is_left_alone(
    site: Site, elastic: Path
) -> None:
    site.full = {f"{REGION}-a"}
    plugin = plugin_of(site, elastic)
    plugin.create(burst("one"))
    assert zone_of(site) == {"b"}
    site.full = set()
    before = len(site.requests)
    plugin.create(burst("two"))
    assert zone_of(site) == {"b"}
    assert site.requests[before:].count("instances.bulkInsert") == 1


def test_a_zone_is_full_for_one_node_type_only(site: Site, elastic: Path) -> None:
    site.full = {f"{REGION}-a/{LARGE}"}
    plugin = plugin_of(site, elastic)
    plugin.create(burst("one", node_type=LARGE))
    plugin.create(burst("two", node_type=SMALL))
    assert {(name[6:8], zone[-1]) for zone, name in site.machines} == {("h3", "b"), ("c2", "a")}


def test_no_capacity_anywhere_is_said_with_each_zone_and_leaves_nothing(
    site: Site, elastic: Path
) -> None:
    site.full = {"*"}
    plugin = plugin_of(site, elastic)
    with pytest.raises(CapacityError) as caught:
        plugin.create(burst())
    assert all(zone in str(caught.value) for zone in site.zones)
    assert site.left() == []
    with pytest.raises(CapacityError, match="all zones lacked c2-standard-8 less than 5m"):
        plugin.create(burst())


def test_a_burst_is_all_or_none(site: Site, elastic: Path) -> None:
    site.partly = {f"{REGION}-a": 2}
    made = plugin_of(site, elastic).create(burst(nodes=3))
    assert len(made.hostnames) == 3
    assert zone_of(site) == {"b"}


def test_fewer_nodes_will_do_where_that_is_configured(site: Site, elastic: Path) -> None:
    site.partly = {f"{REGION}-a": 2}
    made = plugin_of(site, elastic, min_count=1).create(burst(nodes=3))
    assert made.nodes == len(made.hostnames) == 2
    assert zone_of(site) == {"a"}
    (adopted,) = plugin_of(site, elastic, min_count=1).adopt()
    assert (adopted.state, adopted.nodes) == (BurstState.STARTING, 2)


def test_a_quota_is_not_asked_about_in_each_zone(site: Site, elastic: Path) -> None:
    site.quota = 1
    plugin = plugin_of(site, elastic)
    with pytest.raises(QuotaError, match="Quota 'CPUS' exceeded"):
        plugin.create(burst())
    assert site.requests.count("instances.bulkInsert") == 1
    assert site.left() == []


def test_a_name_that_somebody_else_has_is_left_to_them(site: Site, elastic: Path) -> None:
    other = plugin_of(site, elastic).create(burst("other", nodes=1))
    (machine,) = site.machines.values()
    machine.instance.labels = {}
    made = plugin_of(site, elastic).create(burst(nodes=2))
    assert made.hostnames == (f"burst-{SMALL}-1", f"burst-{SMALL}-2")
    assert not set(other.hostnames) & set(made.hostnames)
    with pytest.raises(CapacityError, match="names already in use"):
        plugin_of(site, elastic).create(burst("more", nodes=2))


def test_what_is_there_is_adopted_as_it_is(site: Site, elastic: Path) -> None:
    made = plugin_of(site, elastic).create(burst(jobs=(7, 9), price=0.4))
    (adopted,) = plugin_of(site, elastic).adopt()
    assert adopted == replace(made, jobs=(7, 9))
    assert adopted.price == 0.4


def test_an_instance_that_is_taken_back_is_lost(site: Site, elastic: Path) -> None:
    made = plugin_of(site, elastic).create(burst())
    site.lose(made.hostnames[0])
    (adopted,) = plugin_of(site, elastic).adopt()
    assert adopted.state is BurstState.FAILED
    assert adopted.hostnames == made.hostnames[1:]
    assert "preempted by Google" in adopted.error


def test_an_instance_that_has_stopped_is_lost(site: Site, elastic: Path) -> None:
    plugin = plugin_of(site, elastic)
    made = plugin.create(burst())
    next(iter(site.machines.values())).instance.status = "TERMINATED"
    assert "its machine is TERMINATED" in plugin.refresh(made).error


def test_one_that_does_not_join_says_what_its_serial_port_says(site: Site, elastic: Path) -> None:
    plugin = plugin_of(site, elastic, join_timeout=1.0)
    made = plugin.create(burst())
    for machine in site.machines.values():
        machine.instance.last_start_timestamp = "2026-01-01T00:00:00.000+00:00"
    failed = plugin.refresh(made)
    assert failed.state is BurstState.FAILED
    assert "did not join within 1s; " in failed.error
    assert "says: there is no flux in this image" in failed.error
    assert "gcloud compute instances get-serial-port-output" in failed.error


def test_a_lease_is_the_instances_maximum_run_duration(site: Site, elastic: Path) -> None:
    plugin = plugin_of(site, elastic)
    asked = time.time() + 3600
    made = plugin.create(burst(lease_until=asked))
    for machine in site.machines.values():
        scheduling = machine.instance.scheduling
        assert 3590 <= scheduling.max_run_duration.seconds <= 3600
        assert scheduling.instance_termination_action == "DELETE"
        assert int(machine.instance.labels["fluxburst-lease-until"]) >= asked
    assert made.lease_until is not None
    assert abs(made.lease_until - asked) < 5
    site.skew = 3700
    assert plugin.list_bursts() == []
    assert site.left() == []


def test_a_lease_cannot_be_longer_than_it_was(site: Site, elastic: Path) -> None:
    plugin = plugin_of(site, elastic)
    made = plugin.create(burst(lease_until=time.time() + 3600))
    assert made.lease_until is not None
    renewed = plugin.renew(replace(made, lease_until=made.lease_until + 3600))
    assert renewed.lease_until is not None
    assert abs(renewed.lease_until - made.lease_until) < 2
    plugin.delete(made)
    with pytest.raises(BurstError, match="it has no machines"):
        plugin.renew(made)


def test_a_lease_that_is_over_makes_nothing(site: Site, elastic: Path) -> None:
    with pytest.raises(BurstError, match="its lease has expired"):
        plugin_of(site, elastic).create(burst(lease_until=time.time() - 1))
    assert site.left() == []


def test_a_compact_burst_has_a_placement_policy_which_goes_with_it(
    site: Site, elastic: Path
) -> None:
    plugin = plugin_of(site, elastic, compact_placement=True)
    made = plugin.create(burst())
    (policy,) = site.policies.values()
    assert policy.group_placement_policy.collocation == "COLLOCATED"
    for machine in site.machines.values():
        (path,) = machine.instance.resource_policies
        assert path.endswith(policy.name)
    site.machines.clear()
    assert plugin.list_bursts() == [made.name]
    (adopted,) = plugin.adopt()
    assert adopted.state is BurstState.FAILED
    plugin.delete(made)
    assert site.left() == []


def test_lists_are_read_page_by_page(site: Site, elastic: Path) -> None:
    site.page = 1
    plugin = plugin_of(site, elastic)
    made = plugin.create(burst(nodes=4))
    assert len(made.hostnames) == 4
    plugin.delete(made)
    assert site.left() == []


def test_bursts_of_another_instance_are_not_touched(
    site: Site, elastic: Path, tmp_path: Path
) -> None:
    from tests.compute_engine.sites import write_elastic

    other = plugin_of(site, write_elastic(tmp_path / "other", key="two"))
    plugin_of(site, elastic).create(burst())
    assert other.list_bursts() == []
    assert other.adopt() == []
    other.delete(burst())
    assert len(site.left()) == 2


def test_the_certificate_travels_in_metadata_and_is_taken_out_once_all_have_joined(
    site: Site, elastic: Path, tmp_path: Path
) -> None:
    key = tmp_path / "munge.key"
    key.write_bytes(b"\x00\xffkey")
    plugin = plugin_of(site, elastic, munge_key=str(key))
    made = plugin.create(burst())
    for machine in site.machines.values():
        assert SECRET_KEY in machine.metadata["fluxburst-curve-cert"]
        assert machine.metadata["fluxburst-munge-key"] == "AP9rZXk="
        assert SECRET_KEY not in machine.metadata["startup-script"]
        assert 'curve_cert = "/etc/fluxburst/curve.cert"' in machine.metadata["fluxburst-config"]
    with plugin._connected() as compute:
        plugin.fleet.forget_secrets(compute, made.name)
    for machine in site.machines.values():
        assert "fluxburst-curve-cert" not in machine.metadata
        assert "fluxburst-munge-key" not in machine.metadata
        assert machine.metadata["fluxburst-burst"] == made.name


@pytest.mark.parametrize("name", ["compute_engine-1a2b3c4d", "Ünser.Burst", "x" * 80])
def test_bursts_of_any_name_are_found(site: Site, elastic: Path, name: str) -> None:
    plugin = plugin_of(site, elastic)
    plugin.create(burst(name))
    assert plugin.list_bursts() == [name]
    (adopted,) = plugin.adopt()
    plugin.delete(adopted)
    assert site.left() == []


# --- how often Google is asked for a list --------------------------------------------------------


def listings(site: Site) -> int:
    """Return how often instances were listed since this was last called."""
    number = site.requests.count("instances.aggregatedList")
    site.requests.clear()
    return number


def test_a_pass_lists_instances_once_and_for_each_burst_that_comes_up(
    site: Site, elastic: Path
) -> None:
    client = client_of(site, elastic)
    client.reconcile()
    assert listings(site) == 1
    plugin = client.plugins["compute_engine"]
    made = plugin.create(burst(f"{prefix_of(plugin.name, plugin.instance_tag)}1"))
    listings(site)
    assert [one.name for one in plugin.adopt() or ()] == [made.name]
    assert listings(site) == 1
    plugin.refresh(made)
    assert listings(site) == 1


def test_unburst_lists_instances_once_and_once_before_each_burst_is_deleted(
    site: Site, elastic: Path
) -> None:
    client = client_of(site, elastic)
    plugin = client.plugins["compute_engine"]
    made = plugin.create(burst(f"{prefix_of(plugin.name, plugin.instance_tag)}1"))
    listings(site)
    assert client.run_unburst() == [made.name]
    first_deletion = site.requests.index("instances.delete")
    before, after = site.requests[:first_deletion], site.requests[first_deletion:]
    assert before.count("instances.aggregatedList") == 2
    assert after.count("instances.aggregatedList") >= 1  # which proves that none is left
    assert (after.count("instances.delete"), site.left()) == (2, [])
