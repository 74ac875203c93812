"""Against Google's own messages and a real API server: what is made, found again, and deleted."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import pytest
from tests.doctoring import found_by_doctor, wrong_in
from tests.gke.sites import CLUSTER, LOCATION, Site
from tests.google.google_grpc import Refusal
from tests.kubernetes.apiserver import wait_until
from tests.kubernetes.sites import write_site
from tests.support import client_on, job, spec

from fluxburst import Burst, BurstState, FluxBurst
from fluxburst.config.file import Config
from fluxburst.config.parameters import build
from fluxburst.errors import BurstError, CapacityError, ParameterError, QuotaError
from fluxburst.model.burst import prefix_of
from fluxburst.provider.isolation import UNREAD
from fluxburst.simulation.embedded import EmbeddedInstance
from fluxburst.simulation.recordings import Recording
from fluxburst_gke import BurstParameters, GkeBurst

pytestmark = pytest.mark.kubernetes

SHAPES = """
[[shapes]]
name = "c2-standard-8"
hosts = "burst-c2-standard-8-0-[0-3],burst-c2-standard-8-1-[0-3]"
cores = 4
gpus = 0

[[shapes]]
name = "c2-standard-60"
hosts = "burst-c2-standard-60-0-[0-1]"
cores = 30
gpus = 0
"""
HOSTS = "burst-c2-standard-8-0-[0-3],burst-c2-standard-8-1-[0-3],burst-c2-standard-60-0-[0-1]"
SLOTS = "burst-c2-standard-8-[0-1],burst-c2-standard-60-0"


def write_gke_site(directory: Path) -> Path:
    """Write an elastic instance that declares hosts of two machine types."""
    write_site(directory)
    record = directory / "elastic.toml"
    lines = record.read_text().splitlines()
    lines = [f'burst_hosts = "{HOSTS}"' if one.startswith("burst_hosts") else one for one in lines]
    record.write_text("\n".join(lines) + "\n" + SHAPES)
    return directory


def gke_plugin(site: Site, directory: Path, **parameters: Any) -> GkeBurst:
    """Return the plugin, loaded by a client of an embedded instance."""
    written = {"config_dir": str(directory), "name": SLOTS, **site.parameters, **parameters}
    client = FluxBurst(mock=True, config=Config(plugins={"gke": written}))
    plugin = client.load("gke")
    assert isinstance(plugin, GkeBurst)
    return plugin


def burst(name: str = "gke-0123456789ab", nodes: int = 2, **fields: Any) -> Burst:
    """Return a burst as the plan has it."""
    return Burst(name, "gke", fields.pop("node_type", "c2-standard-8"), nodes, **fields)


@pytest.fixture
def site(tmp_path: Path) -> Path:
    return write_gke_site(tmp_path / "elastic")


def test_a_burst_is_a_node_pool_with_all_that_was_asked_for(
    gke: Site, site: Path, namespace: str
) -> None:
    given = {"max_run_duration": "2h", "compact_placement": True, "disk_size": 50}
    plugin = gke_plugin(gke, site, namespace=namespace, service_account="nodes@x", **given)
    until = time.time() + 600
    made = plugin.create(burst(price=0.4, jobs=(7,), lease_until=until))
    pool = gke.pool(made.name)
    assert pool is not None
    assert (pool.initial_node_count, list(pool.locations)) == (2, [LOCATION])
    config = pool.config
    assert (config.machine_type, config.spot, config.disk_size_gb) == ("c2-standard-8", False, 50)
    assert (config.service_account, config.max_run_duration.seconds) == ("nodes@x", 7200)
    assert pool.placement_policy.type_.name == "COMPACT"
    assert config.resource_labels["fluxburst-burst"] == made.name
    assert config.resource_labels["fluxburst-node-type"] == "c2-standard-8"
    assert config.metadata["fluxburst-hostnames"] == "burst-c2-standard-8-0-[0-1]"
    assert float(config.metadata["fluxburst-lease-until"]) == pytest.approx(until, abs=1)
    (found,) = gke_plugin(gke, site, namespace=namespace).adopt()
    assert (found.name, found.jobs, found.price) == (made.name, (7,), 0.4)
    assert found.since == pytest.approx(time.time(), abs=60)
    wait_until(lambda: plugin.refresh(made).state is BurstState.STARTING, "its pods come")
    plugin.delete(made)
    assert (gke.left(), gke.pool(made.name)) == ([], None)
    assert CLUSTER in " ".join(gke.clusters)


def test_spot_machines_are_asked_for_where_they_are_allowed(
    gke: Site, site: Path, namespace: str
) -> None:
    plugin = gke_plugin(gke, site, namespace=namespace, provisioning="spot, then on-demand")
    prices = {kind.name: kind.price for kind in plugin.node_types()}
    assert prices["c2-standard-8-spot"] < prices["c2-standard-8"]
    gke.none_of.add("spot")
    with pytest.raises(CapacityError, match="does not have enough resources"):
        plugin.create(burst(node_type="c2-standard-8-spot"))
    plugin.delete(burst())
    made = plugin.create(burst("gke-2"))
    pool = gke.pool("gke-2")
    assert pool is not None
    assert not pool.config.spot
    plugin.delete(made)
    assert gke.left() == []


@pytest.mark.parametrize("goes_on_trying", [False, True])
def test_zones_are_tried_in_turn_and_one_without_machines_is_left_alone(
    gke: Site, site: Path, namespace: str, goes_on_trying: bool
) -> None:
    gke.goes_on_trying, gke.none_in = goes_on_trying, {"us-central1-a"}
    zones = ["us-central1-a", "us-central1-b"]
    plugin = gke_plugin(gke, site, namespace=namespace, zones=zones)
    prefix = prefix_of("gke", plugin.instance_tag)
    made = plugin.create(burst(f"{prefix}1"))
    pool = gke.pool(made.name)
    assert pool is not None
    assert list(pool.locations) == ["us-central1-b"]
    gke.none_in.clear()
    asked = gke.asked.count("CreateNodePool")
    plugin.create(burst(f"{prefix}2"))
    assert gke.asked.count("CreateNodePool") == asked + 1
    second = gke.pool(f"{prefix}2")
    assert second is not None
    assert list(second.locations) == ["us-central1-b"]
    plugin.unburst()
    assert gke.left() == []


def test_no_machines_in_any_zone_is_no_capacity_and_leaves_nothing(
    gke: Site, site: Path, namespace: str
) -> None:
    gke.none_in = {"*"}
    plugin = gke_plugin(gke, site, namespace=namespace, zones=["us-central1-a", "us-central1-b"])
    with pytest.raises(CapacityError, match=r"us-central1-a: .*; us-central1-b: "):
        plugin.create(burst())
    plugin.delete(burst())
    assert (gke.left(), plugin.list_bursts()) == ([], [])


def test_a_quota_that_would_be_exceeded_is_a_quota_error(
    gke: Site, site: Path, namespace: str
) -> None:
    gke.quota = 1
    plugin = gke_plugin(gke, site, namespace=namespace)
    with pytest.raises(QuotaError, match="Insufficient regional quota"):
        plugin.create(burst())
    plugin.delete(burst())
    assert gke.left() == []


def test_a_change_waits_for_another_one_that_is_under_way(
    gke: Site, site: Path, namespace: str
) -> None:
    gke.polls = 4
    plugin = gke_plugin(gke, site, namespace=namespace)
    first = plugin.create(burst())
    gke.pool(first.name)
    second = plugin.create(burst("gke-2"))
    plugin.delete(first)
    plugin.delete(second)
    assert gke.left() == []


def test_a_pool_that_is_named_is_grown_and_is_as_it_was_afterwards(
    gke: Site, site: Path, namespace: str
) -> None:
    gke.add_pool("mine", 2, "c2-standard-8")
    named = {"namespace": namespace, "node_pool": "mine", "machine_type": "c2-standard-8"}
    plugin = gke_plugin(gke, site, **named)
    first, second = plugin.create(burst("gke-1")), plugin.create(burst("gke-2", 3))
    assert gke.nodes_of("mine") == 2 + 2 + 3
    assert sorted(gke_plugin(gke, site, **named).list_bursts()) == ["gke-1", "gke-2"]
    plugin.delete(first)
    assert gke.nodes_of("mine") == 7
    plugin.delete(second)
    pool = gke.pool("mine")
    assert pool is not None
    assert (gke.nodes_of("mine"), dict(pool.config.resource_labels)) == (2, {"team": "hpc"})
    assert (gke.left(), "DeleteNodePool" in gke.asked) == ([], False)


@pytest.mark.parametrize("keep", [True, False])
def test_a_cluster_is_made_when_asked_for_and_goes_unless_it_is_kept(
    gke: Site, site: Path, namespace: str, keep: bool
) -> None:
    gke.clusters.clear()
    with pytest.raises(ParameterError, match="there is no cluster"):
        gke_plugin(gke, site, namespace=namespace)
    made = {"namespace": namespace, "create_cluster": True, "keep_cluster": keep}
    plugin = gke_plugin(gke, site, **made)
    assert plugin.list_bursts() == []
    there = plugin.create(burst())
    (cluster,) = gke.clusters.values()
    assert [pool.config.machine_type for pool in cluster.node_pools] == ["e2-standard-2"]
    plugin.delete(there)
    assert len(gke.clusters) == keep
    if not keep:
        assert gke.left() == []


def test_a_lease_does_not_reach_beyond_the_end_of_its_nodes(
    gke: Site, site: Path, namespace: str
) -> None:
    plugin = gke_plugin(gke, site, namespace=namespace, max_run_duration="1h")
    made = plugin.create(burst(lease_until=time.time() + 600))
    assert made.since is not None
    renewed = plugin.renew(replace(made, lease_until=made.since + 7200))
    assert renewed.lease_until == made.since + 3600
    plugin.delete(made)


def test_a_zone_of_another_region_is_refused(gke: Site, site: Path) -> None:
    with pytest.raises(ParameterError, match=r"'us-east1-b' is not a zone of us-central1"):
        gke_plugin(gke, site, zones=["us-east1-b"])


# --- doctor --------------------------------------------------------------------------------------


def test_doctor_tells_the_identity_and_each_permission_that_is_missing(
    gke: Site, site: Path, namespace: str
) -> None:
    plugin = gke_plugin(gke, site, namespace=namespace, create_cluster=True)
    gke.permissions = {"container.clusters.get", "container.clusters.update"}
    said = {one.what: one.level for one in plugin.diagnose()}
    who = "burster@a-project.iam.gserviceaccount.com"
    assert said[f"project a-project, as service account {who}"] == "ok"
    (missing,) = [what for what in said if "missing permissions in the project" in what]
    assert said[missing] == "error"
    for name in ("container.clusters.create", "container.operations.get"):
        assert name in missing
    gke.permissions |= {"container.clusters.getCredentials", "container.operations.get"}
    gke.permissions |= {"container.clusters.create", "container.clusters.delete"}
    said = {one.what: one.level for one in plugin.diagnose()}
    assert said["all needed permissions are granted in the project a-project"] == "ok"
    assert any(what.startswith("API server v") for what in said)
    assert any(what.startswith("prices are of 20") for what in said)
    gke.clusters.clear()
    said = {one.what: one.level for one in plugin.diagnose()}
    assert said["there is no cluster flux-bursted-cluster: the first burst creates it"] == "ok"


# --- isolated bursts -----------------------------------------------------------------------------


def test_an_isolated_burst_is_a_pool_and_an_instance_on_it_without_declared_hosts(
    gke: Site, namespace: str, tmp_path: Path
) -> None:
    written = {**gke.parameters, "namespace": namespace, "isolated_burst": True}
    written["output_dir"] = str(tmp_path)
    plugin = GkeBurst(build("gke", BurstParameters, config=written))
    client_on(EmbeddedInstance(Recording((job(7),), ())), plugin)
    plugin.validate()
    kinds = {kind.name: kind for kind in plugin.node_types()}
    assert kinds["c2-standard-60"].cores == 30
    wanted = Burst("gke-ab12", "gke", "c2-standard-60", 2, (7,), isolated=True)
    made = plugin.create(wanted)
    pool = gke.pool("gke-ab12")
    assert pool is not None
    assert (pool.config.machine_type, made.hostnames) == ("c2-standard-60", ())
    wait_until(lambda: plugin.refresh(made).state is BurstState.READY, "its pods run")
    now = plugin.refresh(made)
    assert 'pod_name="gke-ab12-0-abcde"' in now.output
    (found,) = plugin.adopt()
    assert (found.isolated, found.jobs) == (True, (7,))
    missing = Refusal(grpc.StatusCode.NOT_FOUND, "Not found: projects/p/locations/l/clusters/c.")
    for method in ("GetNodePool", "GetCluster"):  # one answer, while its job runs
        gke.refuse(method, missing)
        with pytest.raises(BurstError, match="its node pool is listed"):
            plugin.refresh(now)
    assert plugin.refresh(now).state is BurstState.READY
    gke.operator.end_pod(namespace, "gke-ab12-0-abcde", "exit-code 0")
    says, gke.operator.says = gke.operator.says, None
    unread = plugin.refresh(made).output
    assert unread.startswith(UNREAD)
    assert unread.endswith(f" [it may be available from: {now.output}]")
    gke.operator.says = says
    assert Path(plugin.refresh(made).output).read_bytes() == b"it says so\n"
    plugin.delete(made)
    assert gke.left() == []


def test_doctor_asks_google_that_is_away_once(gke: Site, site: Path) -> None:
    gke.refuse("GetCluster", Refusal(grpc.StatusCode.UNAVAILABLE, "try later"), times=9999)
    gke.refuse("ListNodePools", Refusal(grpc.StatusCode.UNAVAILABLE, "try later"), times=9999)
    parameters = {**gke.parameters, "config_dir": str(site), "name": SLOTS}
    wrong = wrong_in(found_by_doctor("gke", parameters))
    assert len(gke.asked) == 1
    assert "check the connection to its provider" in "\n".join(wrong)


# --- lifetimes -----------------------------------------------------------------------------------


def test_a_job_that_may_outlive_its_nodes_is_declined_with_both_numbers(
    gke: Site, site: Path, namespace: str
) -> None:
    """With ``max_run_duration`` Google ends nodes; without, only the lease does, and is renewed."""
    plugin = gke_plugin(gke, site, namespace=namespace, max_run_duration="1h")
    assert {kind.max_lifetime for kind in plugin.node_types()} == {3600.0}
    assert plugin.not_renewable == ""
    jobs = (job(1, spec(1, 4, burstable=1, duration=14400.0)), job(2, spec(burstable=1)))
    with client_on(EmbeddedInstance(Recording(jobs)), plugin) as client:
        reasons = [decision.reasons[0] for decision in client.plan().decisions]
    assert "gke: it may run 4h, and a burst of gke lives 1h at most" in reasons[0]
    assert "gke: it has no time limit, and a burst of gke lives 1h at most" in reasons[1]
    plugin = gke_plugin(gke, site, namespace=namespace)
    with client_on(EmbeddedInstance(Recording(jobs)), plugin) as client:
        assert len(client.plan().assignments["gke"]) == 2
